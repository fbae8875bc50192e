//! One descriptor's registration in an epoll.
use super::Epoll;
use crate::fs::file::{File, OpenFile, PollEvents};
use crate::sched::wait::{WaitQueue, Wake};
use crate::sync::Mutex;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};
use linux_raw_sys::general::{EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT, EPOLLWAKEUP};

/// Bits of an interest that say how to report, not what.
pub(super) const MODE_BITS: u32 = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;

/// What names a registration: the descriptor's number together with the description it led to (the number may lead
/// elsewhere by now; a duplicate has another number).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub descriptor: i32,
    /// Address of the description; the entry's weak reference keeps it from being used again.
    pub open: usize,
}

impl Key {
    pub fn new(descriptor: i32, open: &Arc<OpenFile>) -> Key {
        Key { descriptor, open: Arc::as_ptr(open) as usize }
    }
}

/// What the program wants to hear, and the word it gets back with it.
#[derive(Clone, Copy)]
pub struct Interest {
    /// `EPOLL*` events and mode bits.
    pub events: u32,
    pub data: u64,
}

impl Interest {
    /// Errors and hang-ups are always reported.
    pub(super) fn normalised(mut self) -> Interest {
        self.events |= (PollEvents::ERR | PollEvents::HUP).bits();
        self
    }
}

pub(super) struct Entry {
    pub key: Key,
    this: Weak<Entry>,
    owner: Weak<Epoll>,
    open: Weak<OpenFile>,
    file: Weak<dyn File>,
    pub interest: Mutex<Interest>,
    /// Whether it is in the owner's ready list.
    pub queued: AtomicBool,
    /// Cleared when it is taken out of the epoll.
    pub live: AtomicBool,
}

impl Entry {
    pub fn new(owner: Weak<Epoll>, key: Key, open: &Arc<OpenFile>, interest: Interest) -> Arc<Entry> {
        Arc::new_cyclic(|this| Entry {
            this: this.clone(),
            key,
            owner,
            open: Arc::downgrade(open),
            file: Arc::downgrade(open.file()),
            interest: Mutex::new(interest.normalised()),
            queued: AtomicBool::new(false),
            live: AtomicBool::new(true),
        })
    }

    /// The file, unless the description has gone.
    pub fn file(&self) -> Option<Arc<dyn File>> {
        if self.open.strong_count() == 0 { None } else { self.file.upgrade() }
    }

    /// What is ready now of what is wanted.
    pub fn ready_events(&self) -> u32 {
        let wanted = self.interest.lock().events & !MODE_BITS;
        match self.file() {
            Some(file) if wanted != 0 && self.live.load(Ordering::Acquire) => file.poll().bits() & wanted,
            _ => 0,
        }
    }

    /// Begins to hear of changes.
    pub fn attach(self: &Arc<Self>, open: &OpenFile) {
        for queue in queues(&**open.file()) {
            queue.add(self.clone());
        }
        open.released().add(self.clone());
    }

    /// Hears no more of changes.
    pub fn detach(self: &Arc<Self>) {
        self.live.store(false, Ordering::Release);
        let waiter: Arc<dyn Wake> = self.clone();
        if let Some(file) = self.file.upgrade() {
            for queue in queues(&*file) {
                queue.remove(&waiter);
            }
        }
        if let Some(open) = self.open.upgrade() {
            open.released().remove(&waiter);
        }
    }
}

/// The queue or the two queues that tell of a file's readiness.
pub fn queues(file: &dyn File) -> impl Iterator<Item = &WaitQueue> {
    let first = file.queue();
    let second = file.write_queue().filter(|second| !first.is_some_and(|first| core::ptr::eq(first, *second)));
    first.into_iter().chain(second)
}

impl Wake for Entry {
    fn wake(&self) {
        self.wake_for(!0);
    }

    fn wake_for(&self, events: u32) {
        let Some(owner) = self.owner.upgrade() else { return };
        if self.open.strong_count() == 0 {
            return owner.forget(self.key);
        }
        // A one-shot entry that has fired wants nothing until it is modified.
        let wanted = self.interest.lock().events & !MODE_BITS;
        if let Some(this) = self.this.upgrade().filter(|_| wanted & events != 0) {
            owner.enqueue(&this);
        }
    }

    fn is_exclusive(&self) -> bool {
        self.interest.lock().events & EPOLLEXCLUSIVE != 0
    }

    fn wake_exclusive(&self, events: u32) -> bool {
        let wants = self.interest.lock().events & !MODE_BITS & events != 0;
        let listens = wants && self.owner.upgrade().is_some_and(|owner| owner.queue.has_waiting());
        self.wake_for(events);
        listens
    }
}
