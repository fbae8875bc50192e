//! Arena ranges that outlive the call that took them: data on its way, and storage of buffers that are released while
//! commands still use them.
use alloc::sync::Arc;
use alloc::vec::Vec;

use kasoku_abi::accel::Range;
use kasoku_accel_client::lock::Mutex;

use crate::driver::Driver;
use crate::error::Result;
use crate::progress::{Progress, Uses};
use crate::rect::Rect;

/// What is left to do when a command has completed.
pub enum Action {
    /// Give the range back.
    Free(Range),
    /// Copy the range to the program's memory, then give it back.
    CopyOut { staging: Range, target: Rect },
}

/// An action that waits for a command.
pub struct Deferred {
    progress: Arc<Progress>,
    number: u64,
    action: Mutex<Option<Action>>,
}

impl Deferred {
    /// Performs the action, once; without the copy if the command failed.
    pub fn perform(&self, driver: &Driver, succeeded: bool) {
        // The lock is held meanwhile: whoever waits for the same command must not return before the data is there.
        let mut action = self.action.lock();
        match action.take() {
            Some(Action::Free(range)) => driver.session.give(range),
            Some(Action::CopyOut { staging, target }) => {
                if succeeded {
                    // SAFETY: the broker has filled the range; the program's memory is writable until the command has
                    // completed for the program, which it has not before this returns.
                    unsafe { target.scatter(driver.session.address(staging)) };
                }
                driver.session.give(staging);
            }
            None => {}
        }
    }

    /// Whether performing it will write to the program's memory between the addresses.
    fn writes(&self, start: usize, end: usize) -> bool {
        match &*self.action.lock() {
            Some(Action::CopyOut { target, .. }) => target.overlaps(start, end),
            _ => false,
        }
    }
}

#[derive(Default)]
struct Lists {
    deferred: Vec<Arc<Deferred>>,
    /// Storage of released buffers, with the commands that still use it.
    retired: Vec<(Range, Arc<Uses>)>,
}

/// Everything deferred in one session.
pub struct Backlog(Mutex<Lists>);

impl core::fmt::Debug for Backlog {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Backlog")
    }
}

impl Backlog {
    pub const fn new() -> Self {
        Self(Mutex::new(Lists { deferred: Vec::new(), retired: Vec::new() }))
    }

    /// Performs `action` when command `number` of `progress` has completed.
    pub fn defer(&self, progress: &Arc<Progress>, number: u64, action: Action) -> Arc<Deferred> {
        let deferred = Deferred { progress: Arc::clone(progress), number, action: Mutex::new(Some(action)) };
        let deferred = Arc::new(deferred);
        self.0.lock().deferred.push(Arc::clone(&deferred));
        deferred
    }

    /// Gives `range` back when `uses` have ended.
    pub fn retire(&self, driver: &Driver, range: Range, uses: Arc<Uses>) {
        if uses.is_idle() {
            driver.session.give(range);
        } else {
            self.0.lock().retired.push((range, uses));
        }
    }

    /// Forgets one that was performed.
    pub fn forget(&self, done: &Arc<Deferred>) {
        self.0.lock().deferred.retain(|deferred| !Arc::ptr_eq(deferred, done));
    }

    /// Performs what waits for commands of `progress` that have completed.
    pub fn settle(&self, driver: &Driver, progress: &Arc<Progress>) {
        let mut done = Vec::new();
        let mut lists = self.0.lock();
        if lists.deferred.is_empty() && lists.retired.is_empty() {
            return;
        }
        lists.deferred.retain(|deferred| {
            let ready = Arc::ptr_eq(&deferred.progress, progress) && progress.has_completed(deferred.number);
            if ready {
                done.push(Arc::clone(deferred));
            }
            !ready
        });
        lists.retired.retain(|(range, uses)| {
            let idle = uses.is_idle();
            if idle {
                driver.session.give(*range);
            }
            !idle
        });
        drop(lists);
        done.iter().for_each(|deferred| deferred.perform(driver, true));
    }

    /// Waits for the oldest command that holds arena memory; false when none does.
    pub fn relieve(&self, driver: &Driver) -> Result<bool> {
        let lists = self.0.lock();
        let oldest = lists.deferred.first().map(|deferred| Arc::clone(&deferred.progress));
        let (held, retired) = (lists.deferred.len(), lists.retired.len());
        drop(lists);
        if let Some(progress) = oldest {
            // Failures belong to the program's own finish; here only the memory matters, and it comes back either way.
            let _ = progress.finish();
        } else if retired > 0 {
            let entry = self.0.lock().retired.pop();
            if let Some((range, uses)) = entry {
                uses.wait()?;
                driver.session.give(range);
            }
            return Ok(true);
        }
        driver.session.check().map_err(crate::error::gone)?;
        Ok(self.0.lock().deferred.len() < held)
    }

    /// Lets data arrive that is on its way to the program's memory `[start, start + len)`, before that is read.
    pub fn arrive(&self, start: usize, len: usize) -> Result<()> {
        let lists = self.0.lock();
        if lists.deferred.is_empty() {
            return Ok(());
        }
        let writers = lists.deferred.iter().filter(|deferred| deferred.writes(start, start.saturating_add(len)));
        let writers: Vec<_> = writers.map(|deferred| Arc::clone(&deferred.progress)).collect();
        drop(lists);
        writers.iter().try_for_each(|progress| progress.finish())
    }
}
