//! Where the processors of a guest wait while it is saved.
use super::{REST_TIMEOUT, SnapshotError};
use kasoku_abi::hypercall::SNAPSHOT_ACCELERATOR;
use kasoku_abi::snapshot::{MAX_HOT, SavedCpu};
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

/// The state of each processor that had been started.
pub type Cpus = BTreeMap<usize, SavedCpu>;

/// A guest at rest.
pub struct Rest {
    pub cpus: Cpus,
    /// It has opened an accelerator.
    pub accelerator: bool,
}

#[derive(Default)]
struct State {
    wanted: bool,
    arrived: Cpus,
    flags: u64,
    /// As the guest said them.
    hot: [u64; MAX_HOT],
    /// The guest runs no more, or is about to be stopped.
    over: bool,
}

#[derive(Default)]
pub struct Parking {
    state: Mutex<State>,
    changed: Condvar,
}

impl Parking {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds this lock")
    }

    /// Whether processors shall come to rest.
    pub fn is_wanted(&self) -> bool {
        self.state().wanted
    }

    /// Brings a processor to rest until [`Parking::release`]; `hot` are the large pages that its guest's clones will need.
    /// Called by its thread.
    pub fn rest(&self, cpu: usize, flags: u64, hot: [u64; MAX_HOT], saved: SavedCpu) {
        let mut state = self.state();
        if !state.wanted {
            return;
        }
        state.arrived.insert(cpu, saved);
        state.flags |= flags;
        state.hot = hot;
        self.changed.notify_all();
        while state.wanted && !state.over {
            state = self.changed.wait(state).expect("no panic holds this lock");
        }
    }

    /// What the guest at rest says of its clones, unchecked.
    pub fn hot(&self) -> [u64; MAX_HOT] {
        self.state().hot
    }

    /// The guest has ended or will be stopped: nobody waits any more.
    pub fn end(&self) {
        self.state().over = true;
        self.changed.notify_all();
    }

    /// Asks for rest (`ask` tells the processors) and waits until all that `started` counts have come to it. On success
    /// they wait for [`Parking::release`].
    pub fn gather(&self, ask: impl FnOnce(), started: impl Fn() -> usize) -> Result<Rest, SnapshotError> {
        self.state().wanted = true;
        ask();
        let deadline = Instant::now() + REST_TIMEOUT;
        let mut state = self.state();
        let result = loop {
            // A processor that starts another does so before it rests, so the count is final when all have arrived.
            if state.over {
                break Err(SnapshotError::Ended);
            }
            if state.arrived.len() == started() {
                let cpus = std::mem::take(&mut state.arrived);
                break Ok(Rest { cpus, accelerator: state.flags & SNAPSHOT_ACCELERATOR != 0 });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Err(SnapshotError::Restless);
            }
            state = self.changed.wait_timeout(state, left).expect("no panic holds this lock").0;
        };
        drop(state);
        if result.is_err() {
            self.release();
        }
        result
    }

    /// Lets the processors go on.
    pub fn release(&self) {
        let mut state = self.state();
        state.wanted = false;
        state.arrived.clear();
        state.flags = 0;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use zerocopy::FromZeros;

    fn cpu(rip: u64) -> SavedCpu {
        SavedCpu { rip, ..SavedCpu::new_zeroed() }
    }

    #[test]
    fn processors_wait_until_they_are_released() {
        let parking = Arc::new(Parking::default());
        let threads: Vec<_> = (0..3)
            .map(|index| {
                let parking = parking.clone();
                std::thread::spawn(move || {
                    while !parking.is_wanted() {
                        std::thread::yield_now();
                    }
                    parking.rest(index, 0, [0; MAX_HOT], cpu(index as u64));
                })
            })
            .collect();
        let rest = parking.gather(|| {}, || 3).unwrap();
        assert_eq!(rest.cpus.values().map(|cpu| cpu.rip).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(threads.iter().all(|thread| !thread.is_finished()));
        parking.release();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn an_open_accelerator_is_told_and_an_end_is_a_reason() {
        let parking = Arc::new(Parking::default());
        let resting = |flags| {
            let parking = parking.clone();
            std::thread::spawn(move || {
                while !parking.is_wanted() {
                    std::thread::yield_now();
                }
                parking.rest(0, flags, [0; MAX_HOT], cpu(0));
            })
        };
        let thread = resting(SNAPSHOT_ACCELERATOR);
        assert!(parking.gather(|| {}, || 1).unwrap().accelerator);
        parking.release();
        thread.join().unwrap();
        parking.end();
        assert!(matches!(parking.gather(|| {}, || 1), Err(SnapshotError::Ended)));
    }
}
