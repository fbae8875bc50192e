//! Putting a restored guest back to its snapshot, in the same machine, before it serves somebody else.
//!
//! What has changed is what the *host* sees: RAM is a private mapping of the snapshot's file, so every page that was
//! written since is memory of this process's own. The guest's dirty bits are not asked; it could clear them. Processors
//! are stopped wherever they are, and what they were in the middle of is forgotten with everything else.
use crate::blobs::Blobs;
use crate::error::Error;
use crate::guest::Guest;
use crate::machine::{self, Machine};
use crate::memory::{Mapping, MappingError};
use crate::snapshot::{REST_TIMEOUT, Saved, SnapshotError};
use crate::sys::PrivatePages;
use crate::tender::{Cpu, CpuStart, Tender, TenderError};
use kasoku_abi::hypercall::{RESUMED_FOLLOWER, RESUMED_LEADER};
use kasoku_abi::snapshot::{RAM, SavedCpu};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

/// Written pages whose contents are copied back, bytes: those a guest writes every time then stay, and cost no fault the
/// next time. What goes beyond is given back to the host.
const KEPT: u64 = 4 << 20;

/// How a processor begins again.
#[derive(Clone)]
pub enum Again {
    /// It goes on where it was saved.
    Saved(Arc<SavedCpu>),
    /// It had not been started.
    Waiting(CpuStart),
}

/// What a guest is put back to.
pub struct Origin {
    cpus: Vec<Again>,
    /// RAM as it was saved.
    ram: Mapping,
    written: PrivatePages,
    monotonic_ns: u64,
}

/// What a reset was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Pages whose contents were copied back.
    pub copied: u64,
    /// Pages that were given back.
    pub dropped: u64,
}

impl Origin {
    pub fn new(saved: &Saved, cpus: Vec<Again>) -> Result<Self, Error> {
        let ram = Mapping::copy_on_write(saved.file(), RAM, saved.ram_len())?;
        let written = PrivatePages::open().map_err(SnapshotError::Read)?;
        Ok(Self { cpus, ram, written, monotonic_ns: saved.monotonic_ns() })
    }

    /// How processor `index` begins again.
    pub fn again(&self, index: usize) -> Again {
        self.cpus[index].clone()
    }

    fn put_memory_back(&self, guest: &Guest) -> Result<Done, MappingError> {
        let ram = guest.memory.ram();
        let mut done = Done::default();
        let mut spare = KEPT;
        let known = self.written.each(ram, |offset, len| {
            if len <= spare {
                spare -= len;
                done.copied += len / kasoku_abi::layout::PAGE;
                ram.copy_from(&self.ram, offset, len);
                return Ok(());
            }
            done.dropped += len / kasoku_abi::layout::PAGE;
            ram.forget_changes(offset, len)
        })?;
        if !known {
            // A kernel that does not tell which pages are ours: all of them go.
            ram.forget_changes(0, ram.len())?;
        }
        Ok(done)
    }
}

#[derive(Default)]
struct State {
    wanted: bool,
    /// How often the guest was put back.
    resets: u64,
    /// Processors that wait to be put back, a bit for each.
    arrived: u64,
    /// Processors whose threads wait for the world outside: none of them touches the guest's memory before it has asked here.
    outside: u64,
    over: bool,
}

/// Where processors wait while their guest is put back.
#[derive(Default)]
pub struct Halt {
    state: Mutex<State>,
    changed: Condvar,
}

impl Halt {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds this lock")
    }

    /// How often the guest was put back.
    pub fn resets(&self) -> u64 {
        self.state().resets
    }

    /// Whether a processor that began after so many `resets` shall come here.
    pub fn is_due(&self, resets: u64) -> bool {
        let state = self.state();
        state.wanted || state.resets != resets
    }

    /// Waits until the guest has been put back once more than `resets` times; false when it has ended instead. Called by the
    /// thread of processor `cpu`.
    pub fn arrive(&self, cpu: usize, resets: u64) -> bool {
        let mut state = self.state();
        if state.resets == resets {
            state.arrived |= 1 << cpu;
            self.changed.notify_all();
        }
        while state.resets == resets && !state.over {
            state = self.changed.wait(state).expect("no panic holds this lock");
        }
        !state.over
    }

    /// Lets the thread of processor `cpu` wait by `wait`, which does not touch the guest's memory: the guest may be put back
    /// meanwhile, and need not wait for the thread to wake up. Nothing when that has happened or is about to: the guest that
    /// waited is no more.
    pub fn outside<T>(&self, cpu: usize, wait: impl FnOnce() -> T) -> Option<T> {
        let mut state = self.state();
        if state.wanted {
            return None;
        }
        let resets = state.resets;
        state.outside |= 1 << cpu;
        drop(state);
        let result = wait();
        state = self.state();
        state.outside &= !(1 << cpu);
        (!state.wanted && state.resets == resets).then_some(result)
    }

    /// The guest has ended or will be stopped.
    pub fn end(&self) {
        self.state().over = true;
        self.changed.notify_all();
    }

    /// Asks all `started` processors (a bit for each) to come and waits until none of them touches the guest's memory any more,
    /// which stays so until [`Halt::release`].
    fn gather(&self, ask: impl FnOnce(), started: impl Fn() -> u64) -> Result<(), SnapshotError> {
        self.state().wanted = true;
        ask();
        let deadline = Instant::now() + REST_TIMEOUT;
        let mut state = self.state();
        while !state.over && started() & !(state.arrived | state.outside) != 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SnapshotError::Restless);
            }
            state = self.changed.wait_timeout(state, left).expect("no panic holds this lock").0;
        }
        if state.over { Err(SnapshotError::Ended) } else { Ok(()) }
    }

    fn release(&self) {
        let mut state = self.state();
        state.wanted = false;
        state.resets += 1;
        state.arrived = 0;
        self.changed.notify_all();
    }
}

impl Machine {
    /// Puts the guest back to its snapshot. `socket` takes the place of that channel: what is left in the old one is not the
    /// next invocation's. With `alive` its accelerator sessions are new, too: that one hangs up when their companion dies.
    /// After an error the guest must not run again.
    pub fn reset(
        &self,
        tender: &mut dyn Tender,
        blobs: &mut Blobs,
        channel: usize,
        socket: &OwnedFd,
        alive: Option<&OwnedFd>,
    ) -> Result<Done, Error> {
        let guest = self.guest();
        let Some(origin) = &guest.origin else {
            return Err(Error::Request("this guest was not restored to be put back".to_owned()));
        };
        let started = || (0..).zip(&guest.cpus).filter(|(_, cpu)| cpu.is_started()).fold(0, |set, (i, _)| set | 1 << i);
        let ask = || (0..).zip(&guest.cpus).filter(|(_, cpu)| cpu.is_started()).for_each(|(i, _)| guest.kick(i));
        guest.halt.gather(ask, started)?;
        guest.channels.replace(channel, socket).map_err(Error::Channels)?;
        if let Some(alive) = alive {
            guest.regions.renew_sessions(alive).map_err(Error::Channels)?;
        }
        let done = origin.put_memory_back(guest)?;
        blobs.take_back(tender)?;
        // The tender may have derived things from page tables of the guest that are no more.
        tender.forget()?;
        guest.clock.go_back(origin.monotonic_ns);
        machine::tell_restored(&guest.memory, &guest.clock)?;
        let mut result = RESUMED_LEADER;
        for (index, cpu) in origin.cpus.iter().enumerate() {
            match cpu {
                Again::Saved(_) => {
                    guest.page(index).set_result(result as i64);
                    result = RESUMED_FOLLOWER;
                }
                Again::Waiting(_) => guest.cpus[index].unstart(),
            }
        }
        guest.halt.release();
        Ok(done)
    }
}

/// Gives a processor the state that it begins again with. Called by its thread, when [`Halt::arrive`] has returned.
pub fn restore(cpu: &mut dyn Cpu, again: &Again, stack: Option<u64>) -> Result<(), TenderError> {
    cpu.abandon()?;
    match again {
        Again::Saved(saved) => cpu.restore(saved),
        Again::Waiting(start) => cpu.set_start(&CpuStart { stack: stack.unwrap_or(start.stack), ..*start }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_that_waits_outside_holds_up_nobody_and_is_told_of_each_reset() {
        let halt = Halt::default();
        let put_back = || {
            halt.gather(|| {}, || 1).unwrap();
            halt.release();
        };
        for times in [1, 2] {
            let before = halt.resets();
            assert_eq!(halt.outside(0, || (0..times).for_each(|_| put_back())), None);
            assert!(halt.is_due(before) && halt.arrive(0, before), "it goes on as the next guest");
        }
        assert_eq!((halt.resets(), halt.is_due(3)), (3, false));
        assert_eq!(halt.outside(0, || 7), Some(7));
    }

    #[test]
    fn a_processor_that_is_inside_is_waited_for() {
        let halt = Halt::default();
        std::thread::scope(|scope| {
            let processor = scope.spawn(|| {
                while !halt.is_due(0) {
                    std::thread::yield_now();
                }
                assert_eq!(halt.outside(1, || ()), None, "nobody begins to wait for a guest that is to go");
                halt.arrive(1, 0)
            });
            halt.gather(|| {}, || 0b10).unwrap();
            assert!(!processor.is_finished());
            halt.release();
            assert!(processor.join().unwrap());
        });
        halt.end();
        assert!(matches!(halt.gather(|| {}, || 1), Err(SnapshotError::Ended)));
        assert!(!halt.arrive(0, 1));
    }
}
