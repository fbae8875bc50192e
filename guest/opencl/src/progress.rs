//! How far a queue has come, as far as this side knows without asking.
//!
//! Every command that goes to the broker for a queue gets the queue's next number. When a command is known to have
//! completed, an in-order queue has completed all before it. From this the library knows that a buffer is not in use and
//! serves transfers itself, without a command.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use kasoku_abi::accel::command::{FINISH, MARKER, RELEASE, WAIT_EVENTS};
use kasoku_abi::accel::{Id, NO_ID};
use kasoku_accel_client::Command;
use kasoku_accel_client::lock::Mutex;

use crate::driver::Driver;
use crate::error::{Result, full, gone, status};

/// Progress of one queue; outlives the queue where something still waits for its commands.
pub struct Progress {
    driver: &'static Driver,
    queue: Id,
    pub in_order: bool,
    /// Held while a command gets its number and enters the ring, so that numbers follow the ring's order.
    order: Mutex<()>,
    posted: AtomicU64,
    /// All commands up to this number have completed.
    completed: AtomicU64,
    /// As `completed`, and their failures have been reported by a `FINISH`.
    finished: AtomicU64,
    /// Event of the queue's last command, once the queue itself is gone.
    last_event: AtomicU64,
}

impl Progress {
    pub fn new(driver: &'static Driver, queue: Id, in_order: bool) -> Self {
        Self {
            driver,
            queue,
            in_order,
            order: Mutex::new(()),
            posted: AtomicU64::new(0),
            completed: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            last_event: AtomicU64::new(NO_ID),
        }
    }

    /// Gives `submit` the next number and the ring.
    pub fn submit<T>(&self, submit: impl FnOnce(u64) -> Result<T>) -> Result<T> {
        let _order = self.order.lock();
        let number = self.posted.load(Ordering::Relaxed) + 1;
        let result = submit(number)?;
        self.posted.store(number, Ordering::Release);
        Ok(result)
    }

    /// Command `number` has completed; in an in-order queue that tells of all before it, whose data arrives now.
    pub fn complete(self: &Arc<Self>, number: u64) {
        if self.in_order && self.completed.fetch_max(number, Ordering::AcqRel) < number {
            self.driver.backlog.settle(self.driver, self);
        }
    }

    /// Whether everything up to `number` has completed.
    pub fn has_completed(&self, number: u64) -> bool {
        self.completed.load(Ordering::Acquire) >= number
    }

    /// Whether everything that was posted has completed.
    pub fn is_idle(&self) -> bool {
        self.has_completed(self.posted.load(Ordering::Acquire))
    }

    /// Waits until everything that was posted has completed; reports the first failure since the last time.
    pub fn finish(self: &Arc<Self>) -> Result<()> {
        let (number, call) = {
            let _order = self.order.lock();
            let number = self.posted.load(Ordering::Relaxed);
            if self.finished.load(Ordering::Acquire) >= number {
                return self.driver.session.check().map_err(gone);
            }
            let command = match self.last_event.load(Ordering::Acquire) {
                NO_ID => self.driver.command(FINISH, self.queue),
                event => self.driver.command(WAIT_EVENTS, NO_ID).waits(&[event]).map_err(full)?,
            };
            (number, command.blocking().start().map_err(gone)?)
        };
        let answer = call.wait().map_err(gone)?;
        self.completed.fetch_max(number, Ordering::AcqRel);
        self.finished.fetch_max(number, Ordering::AcqRel);
        self.driver.backlog.settle(self.driver, self);
        status(answer.status)
    }

    /// Waits like [`Progress::finish`] unless everything has completed anyway.
    pub fn drain(self: &Arc<Self>) -> Result<()> {
        if self.is_idle() { self.driver.session.check().map_err(gone) } else { self.finish() }
    }

    /// Ends the queue in the broker. Its commands run on; an event after the last one tells when they have.
    pub fn close(&self) {
        let _order = self.order.lock();
        if !self.is_idle() {
            let event = self.driver.session.new_id();
            if self.driver.command(MARKER, self.queue).event(event).post().is_ok() {
                self.last_event.store(event, Ordering::Release);
            }
        }
        // A broker that has ended holds nothing.
        let _ = Command::new(&self.driver.session, RELEASE, self.queue).post();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let event = self.last_event.load(Ordering::Relaxed);
        if event != NO_ID {
            self.driver.release(event);
        }
    }
}

/// The last command of each queue that uses a buffer.
#[derive(Default)]
pub struct Uses(Mutex<Vec<(Arc<Progress>, u64)>>);

impl Uses {
    /// Command `number` of `progress` uses the buffer.
    pub fn touch(&self, progress: &Arc<Progress>, number: u64) {
        let mut uses = self.0.lock();
        match uses.iter_mut().find(|(other, _)| Arc::ptr_eq(other, progress)) {
            Some(entry) => entry.1 = number,
            None => {
                uses.retain(|(other, number)| !other.has_completed(*number));
                uses.push((Arc::clone(progress), number));
            }
        }
    }

    /// Whether no command that uses the buffer is queued.
    pub fn is_idle(&self) -> bool {
        self.0.lock().iter().all(|(progress, number)| progress.has_completed(*number))
    }

    /// Waits until no command that uses the buffer is queued.
    pub fn wait(&self) -> Result<()> {
        let busy: Vec<_> = self.0.lock().iter().filter(|(p, number)| !p.has_completed(*number)).cloned().collect();
        busy.iter().try_for_each(|(progress, _)| progress.finish())
    }
}
