//! One guest as its host threads share it: memory, channels, regions, clock, and how to reach its processors.
use crate::channels::Channels;
use crate::clock::GuestClock;
use crate::memory::{CpuPage, GuestMemory};
use crate::outcome::Outcome;
use crate::regions::Regions;
use crate::reset::{Halt, Origin};
use crate::snapshot::{Cpus, Parking, SnapshotError};
use crate::tender::Kick;
use kasoku_abi::boot::LibosHeader;
use kasoku_abi::cpu::{PENDING_KICK, PENDING_SIGNALS, PENDING_SNAPSHOT};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};

/// Whoever watches the guest. Called from the processors' threads. Text is the guest's: whoever shows it escapes it.
pub trait Watcher: Send + Sync {
    fn console(&self, text: &str);
    /// The library OS has come up.
    fn started(&self);
    /// The guest has ended.
    fn ended(&self, outcome: Outcome);
}

/// How to reach one processor from other threads.
pub struct CpuHandle {
    /// Wakes the processor's thread where it waits.
    event: OwnedFd,
    kicker: Arc<dyn Kick>,
    running: AtomicBool,
    /// Stack top of a processor that `start` has set going.
    start: Mutex<Option<u64>>,
    started: Condvar,
}

pub struct Guest {
    pub memory: GuestMemory,
    pub header: LibosHeader,
    pub channels: Channels,
    pub regions: Regions,
    pub clock: GuestClock,
    pub watcher: Box<dyn Watcher>,
    pub cpus: Vec<CpuHandle>,
    pub(crate) ticker: crate::ticker::Parking,
    /// Where processors wait while the guest is saved.
    pub parking: Parking,
    /// Where they wait while it is put back to its snapshot.
    pub halt: Halt,
    /// What it can be put back to.
    pub origin: Option<Origin>,
    started: AtomicBool,
    stop: AtomicBool,
    tells_where: AtomicBool,
}

impl CpuHandle {
    pub fn new(kicker: Arc<dyn Kick>) -> Result<Self, Errno> {
        Ok(Self {
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            kicker,
            running: AtomicBool::new(false),
            start: Mutex::new(None),
            started: Condvar::new(),
        })
    }

    pub fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    pub fn is_running(&self) -> bool {
        self.running.load(SeqCst)
    }

    pub fn set_running(&self, running: bool) {
        self.running.store(running, SeqCst);
    }

    /// Makes the processor's thread look around, whether it runs guest code or waits.
    fn wake(&self) {
        self.kicker.kick();
        // A full counter already wakes.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    pub fn is_started(&self) -> bool {
        self.start.lock().expect("no panic holds this lock").is_some()
    }

    /// The processor waits to be started, as if it never had been.
    pub fn unstart(&self) {
        *self.start.lock().expect("no panic holds this lock") = None;
    }

    /// Starts a further processor; false when it has been started before.
    pub fn start(&self, stack: u64) -> bool {
        let mut start = self.start.lock().expect("no panic holds this lock");
        let first = start.is_none();
        if first {
            *start = Some(stack);
            self.started.notify_all();
        }
        first
    }
}

impl Guest {
    pub fn new(
        memory: GuestMemory,
        header: LibosHeader,
        channels: Channels,
        regions: Regions,
        clock: GuestClock,
        watcher: Box<dyn Watcher>,
        cpus: Vec<CpuHandle>,
    ) -> Self {
        Self {
            memory,
            header,
            channels,
            regions,
            clock,
            watcher,
            cpus,
            ticker: crate::ticker::Parking::default(),
            parking: Parking::default(),
            halt: Halt::default(),
            origin: None,
            started: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            tells_where: AtomicBool::new(false),
        }
    }

    pub fn page(&self, cpu: usize) -> CpuPage<'_> {
        self.memory.cpu_page(cpu)
    }

    /// Sets `PENDING_*` bits of a processor and makes it look at them.
    pub fn notify(&self, cpu: usize, pending: u64) {
        self.page(cpu).add_pending(pending);
        self.cpus[cpu].wake();
    }

    /// A signal from outside for the guest's first program. Numbers that Linux does not have are dropped.
    pub fn signal(&self, number: i32) {
        let place = number.checked_sub(1).and_then(|place| u32::try_from(place).ok());
        if let Some(bit) = place.and_then(|place| 1u64.checked_shl(place)) {
            self.page(0).add_signals(bit);
            self.notify(0, PENDING_SIGNALS);
        }
    }

    /// As [`Self::stop`], and every processor that runs says on the console where it was.
    pub fn stop_and_tell(&self) {
        self.tells_where.store(true, SeqCst);
        self.stop();
    }

    pub fn tells_where(&self) -> bool {
        self.tells_where.load(SeqCst)
    }

    /// Makes every processor's loop return.
    pub fn stop(&self) {
        self.stop.store(true, SeqCst);
        for (index, cpu) in self.cpus.iter().enumerate() {
            let _started = cpu.start.lock().expect("no panic holds this lock");
            cpu.started.notify_all();
            drop(_started);
            self.notify(index, PENDING_KICK);
        }
        self.ticker.unpark();
        self.parking.end();
        self.halt.end();
    }

    /// Makes a processor leave whatever it does.
    pub fn kick(&self, cpu: usize) {
        self.notify(cpu, PENDING_KICK);
    }

    pub fn is_stopping(&self) -> bool {
        self.stop.load(SeqCst)
    }

    /// Brings all processors to rest behind a hypercall and hands their state to `save`; then they go on.
    /// A guest that has opened an accelerator is refused unless `accelerator` says that its session is seen to.
    pub fn at_rest<T>(&self, accelerator: bool, save: impl FnOnce(&Cpus) -> T) -> Result<T, SnapshotError> {
        let started = || self.cpus.iter().enumerate().filter(|(_, cpu)| cpu.is_started()).map(|(index, _)| index);
        let ask = || started().for_each(|index| self.notify(index, PENDING_SNAPSHOT));
        let rest = self.parking.gather(ask, || started().count())?;
        if rest.accelerator && !accelerator {
            self.parking.release();
            return Err(SnapshotError::Accelerator);
        }
        let result = save(&rest.cpus);
        self.parking.release();
        Ok(result)
    }

    /// Waits until the guest starts processor `cpu`; its stack top, or none when the guest ends first.
    pub fn wait_for_start(&self, cpu: usize) -> Option<u64> {
        let handle = &self.cpus[cpu];
        let mut start = handle.start.lock().expect("no panic holds this lock");
        loop {
            if self.is_stopping() {
                return None;
            }
            if let Some(stack) = *start {
                return Some(stack);
            }
            start = handle.started.wait(start).expect("no panic holds this lock");
        }
    }

    /// The library OS has set its system-call entry: it is up.
    pub fn mark_started(&self) {
        if !self.started.swap(true, SeqCst) {
            self.watcher.started();
        }
    }
}
