//! What the guest's threads tell the control thread, in order, with a descriptor that it can poll.
use crate::outcome::Outcome;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Condvar, Mutex};

/// A guest that talks faster than anybody reads is slowed down, not given memory.
const MAX_QUEUED: usize = 256;

#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Console(String),
    Started,
    Ended(Outcome),
}

pub struct Events {
    queue: Mutex<VecDeque<Event>>,
    drained: Condvar,
    ready: OwnedFd,
}

impl Events {
    pub fn new() -> io::Result<Self> {
        let ready = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { queue: Mutex::default(), drained: Condvar::new(), ready })
    }

    /// Appends an event; waits while the queue is full, but never with the last one.
    pub fn push(&self, event: Event) {
        let mut queue = self.queue.lock().expect("no panic holds this lock");
        while queue.len() >= MAX_QUEUED && !matches!(event, Event::Ended(_)) {
            queue = self.drained.wait(queue).expect("no panic holds this lock");
        }
        queue.push_back(event);
        drop(queue);
        // A full counter is readable, which is all that matters.
        let _ = rustix::io::write(&self.ready, &1u64.to_ne_bytes());
    }

    /// Takes everything that has arrived.
    pub fn take(&self) -> Vec<Event> {
        crate::regions::take(self.ready.as_fd());
        let events = std::mem::take(&mut *self.queue.lock().expect("no panic holds this lock"));
        self.drained.notify_all();
        events.into()
    }

    /// Readable while events may wait.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn keeps_order_and_bounds_the_queue() {
        let events = Arc::new(Events::new().unwrap());
        let writer = {
            let events = events.clone();
            std::thread::spawn(move || {
                for i in 0..2 * MAX_QUEUED {
                    events.push(Event::Console(i.to_string()));
                }
                events.push(Event::Ended(Outcome::Stopped));
            })
        };
        let mut seen = Vec::new();
        while seen.last() != Some(&Event::Ended(Outcome::Stopped)) {
            let taken = events.take();
            assert!(taken.len() <= MAX_QUEUED + 1);
            seen.extend(taken);
        }
        writer.join().unwrap();
        assert_eq!(seen.len(), 2 * MAX_QUEUED + 1);
        assert_eq!(seen[7], Event::Console("7".into()));
    }
}
