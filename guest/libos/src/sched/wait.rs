//! Waiting for something to happen.
//!
//! Whatever can become ready (a pipe, a socket, a timer, a futex) has a [`WaitQueue`] and wakes it after each change of
//! state. Whoever waits registers a [`Wake`] and looks at the state again after each wake-up: a wake-up promises nothing.
//! Files never block: they answer EAGAIN, and the system call waits on the file's queue (`sched::block_on`) and tries again.
use crate::sync::Mutex;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Somebody to tell that a state has changed: a thread that waits, or an epoll entry.
pub trait Wake: Send + Sync {
    /// Called with the waker's queue unlocked; must not block.
    fn wake(&self);

    /// As [`Self::wake`], when it is known which readiness may have changed (`poll` events).
    fn wake_for(&self, events: u32) {
        let _ = events;
        self.wake();
    }

    /// Whether of several like this one it is enough to tell one (EPOLLEXCLUSIVE).
    fn is_exclusive(&self) -> bool {
        false
    }

    /// Whether it has not been told of anything since it began to wait.
    fn is_waiting(&self) -> bool {
        true
    }

    /// As [`Self::wake_for`], of an exclusive waiter: whether somebody will look at what has happened.
    fn wake_exclusive(&self, events: u32) -> bool {
        self.wake_for(events);
        true
    }
}

/// Those who wait for one thing.
#[derive(Default)]
pub struct WaitQueue {
    waiters: Mutex<Vec<Arc<dyn Wake>>>,
}

impl WaitQueue {
    pub const fn new() -> WaitQueue {
        WaitQueue { waiters: Mutex::new(Vec::new()) }
    }

    /// Adds a waiter; the same one may be added to several queues.
    pub fn add(&self, waiter: Arc<dyn Wake>) {
        self.waiters.lock().push(waiter);
    }

    /// Removes one registration of the waiter.
    pub fn remove(&self, waiter: &Arc<dyn Wake>) {
        let mut waiters = self.waiters.lock();
        if let Some(at) = waiters.iter().position(|w| Arc::ptr_eq(w, waiter)) {
            waiters.remove(at);
        }
    }

    /// Whether anybody waits.
    pub fn is_empty(&self) -> bool {
        self.waiters.lock().is_empty()
    }

    /// Whether somebody waits who has not been told of anything yet.
    pub fn has_waiting(&self) -> bool {
        self.waiters.lock().iter().any(|waiter| waiter.is_waiting())
    }

    /// Tells everybody, of those who are exclusive the first that listens, in the order in which they came.
    pub fn wake_all(&self) {
        self.wake_for(!0);
    }

    /// As [`Self::wake_all`], and says which readiness may have changed: an edge-triggered epoll entry for something else
    /// stays quiet.
    pub fn wake_for(&self, events: u32) {
        // On a copy: a waker may add to or remove from this queue. One waiter is the usual case and costs no allocation.
        let waiters = {
            let waiters = self.waiters.lock();
            match waiters.as_slice() {
                [] => return,
                [one] => {
                    let one = one.clone();
                    drop(waiters);
                    return one.wake_for(events);
                }
                _ => waiters.clone(),
            }
        };
        let mut taken = false;
        for waiter in waiters {
            if !waiter.is_exclusive() {
                waiter.wake_for(events);
            } else if !taken {
                taken = waiter.wake_exclusive(events);
            }
        }
    }
}
