//! epoll: the files among many that are ready, without looking at the others.
//!
//! Each registration is a waiter in its file's queue; a wake-up puts it into the ready list, and `epoll_wait` looks only
//! there. What it finds no longer ready leaves the list; level-triggered entries stay in it as long as they are ready.
//! An entry says that it is not queued *before* its file is looked at, so a change at that moment queues it again.
mod entry;

pub use entry::Interest;
pub use entry::queues;

use crate::errno::{Errno, Result};
use crate::fs::file::{File, OpenFile, PollEvents};
use crate::fs::stat::{Kind, Stat};
use crate::ipc::READABLE;
use crate::sched::wait::WaitQueue;
use crate::sync::Mutex;
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use entry::{Entry, Key, MODE_BITS};
use hashbrown::HashMap;
use linux_raw_sys::general::{EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT, EPOLLWAKEUP};

/// Longest chain of epolls that watch each other.
const MAX_NESTING: usize = 4;
/// What may be asked for together with EPOLLEXCLUSIVE.
const EXCLUSIVE_ALLOWED: u32 =
    PollEvents::IN.union(PollEvents::OUT).union(PollEvents::ERR).union(PollEvents::HUP).bits()
        | EPOLLWAKEUP
        | EPOLLET
        | EPOLLEXCLUSIVE;

pub struct Epoll {
    this: Weak<Epoll>,
    entries: Mutex<HashMap<Key, Arc<Entry>>>,
    ready: Mutex<VecDeque<Arc<Entry>>>,
    queue: WaitQueue,
}

impl Epoll {
    pub fn new() -> Arc<Epoll> {
        Arc::new_cyclic(|this| Epoll {
            this: this.clone(),
            entries: Mutex::new(HashMap::new()),
            ready: Mutex::new(VecDeque::new()),
            queue: WaitQueue::new(),
        })
    }

    /// EPOLL_CTL_ADD.
    pub fn add(&self, descriptor: i32, open: &Arc<OpenFile>, interest: Interest) -> Result<()> {
        let inner = open.file().downcast::<Epoll>();
        if interest.events & EPOLLEXCLUSIVE != 0 && (inner.is_some() || interest.events & !EXCLUSIVE_ALLOWED != 0) {
            return Err(Errno::EINVAL);
        }
        if inner.is_some_and(|inner| !inner.may_be_watched_by(self, MAX_NESTING)) {
            return Err(Errno::ELOOP);
        }
        let key = Key::new(descriptor, open);
        let entry = Entry::new(self.this.clone(), key, open, interest);
        match self.entries.lock().entry(key) {
            hashbrown::hash_map::Entry::Occupied(_) => return Err(Errno::EEXIST),
            hashbrown::hash_map::Entry::Vacant(slot) => slot.insert(entry.clone()),
        };
        entry.attach(open);
        self.enqueue_if_ready(&entry);
        Ok(())
    }

    /// EPOLL_CTL_MOD. Also arms a one-shot entry again.
    pub fn modify(&self, descriptor: i32, open: &Arc<OpenFile>, interest: Interest) -> Result<()> {
        if interest.events & EPOLLEXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        let entry = self.entries.lock().get(&Key::new(descriptor, open)).cloned().ok_or(Errno::ENOENT)?;
        {
            let mut held = entry.interest.lock();
            if held.events & EPOLLEXCLUSIVE != 0 {
                return Err(Errno::EINVAL);
            }
            *held = interest.normalised();
        }
        self.enqueue_if_ready(&entry);
        Ok(())
    }

    /// EPOLL_CTL_DEL.
    pub fn remove(&self, descriptor: i32, open: &Arc<OpenFile>) -> Result<()> {
        if self.take(Key::new(descriptor, open)) { Ok(()) } else { Err(Errno::ENOENT) }
    }

    /// The description has gone.
    fn forget(&self, key: Key) {
        self.take(key);
    }

    fn take(&self, key: Key) -> bool {
        let Some(entry) = self.entries.lock().remove(&key) else { return false };
        entry.detach();
        if entry.queued.load(Ordering::Acquire) {
            self.ready.lock().retain(|other| !Arc::ptr_eq(other, &entry));
        }
        true
    }

    fn enqueue(&self, entry: &Arc<Entry>) {
        if !entry.queued.swap(true, Ordering::AcqRel) {
            self.ready.lock().push_back(entry.clone());
            self.queue.wake_for(READABLE);
        }
    }

    fn enqueue_if_ready(&self, entry: &Arc<Entry>) {
        if entry.ready_events() != 0 {
            self.enqueue(entry);
        }
    }

    fn next_candidate(&self) -> Option<Arc<Entry>> {
        let entry = self.ready.lock().pop_front()?;
        entry.queued.store(false, Ordering::Release);
        Some(entry)
    }

    /// Puts an entry back without telling anybody.
    fn put_back(&self, entry: Arc<Entry>, first: bool) {
        if !entry.queued.swap(true, Ordering::AcqRel) {
            let mut ready = self.ready.lock();
            if first {
                ready.push_front(entry);
            } else {
                ready.push_back(entry);
            }
        }
    }

    /// Hands at most `max` ready entries, as (events, data), to `emit`; when it fails, that entry stays ready and the
    /// collection ends (with its error if it was the first). Gives how many were handed out.
    pub fn collect(&self, max: usize, mut emit: impl FnMut(u32, u64) -> Result<()>) -> Result<usize> {
        let mut done = 0;
        let candidates = self.ready.lock().len();
        for _ in 0..candidates {
            if done == max {
                break;
            }
            let Some(entry) = self.next_candidate() else { break };
            let events = entry.ready_events();
            if events == 0 {
                continue;
            }
            let interest = *entry.interest.lock();
            if let Err(errno) = emit(events, interest.data) {
                self.put_back(entry, true);
                return if done == 0 { Err(errno) } else { Ok(done) };
            }
            done += 1;
            if interest.events & EPOLLONESHOT != 0 {
                entry.interest.lock().events &= MODE_BITS;
            } else if interest.events & EPOLLET == 0 {
                self.put_back(entry, false);
            }
        }
        Ok(done)
    }

    /// Whether adding this epoll to `outer` keeps the graph free of loops and no deeper than allowed.
    fn may_be_watched_by(&self, outer: &Epoll, depth: usize) -> bool {
        if core::ptr::eq(self, outer) || depth == 0 {
            return false;
        }
        let inner: Vec<Arc<dyn File>> = self.entries.lock().values().filter_map(|entry| entry.file()).collect();
        inner.iter().filter_map(|file| file.downcast::<Epoll>()).all(|epoll| epoll.may_be_watched_by(outer, depth - 1))
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        for entry in self.entries.get_mut().values() {
            entry.detach();
        }
    }
}

impl File for Epoll {
    fn ignores_seek(&self) -> bool {
        true
    }

    fn poll(&self) -> PollEvents {
        while let Some(entry) = self.next_candidate() {
            if entry.ready_events() != 0 {
                self.put_back(entry, true);
                return PollEvents::IN | PollEvents::RDNORM;
            }
        }
        PollEvents::empty()
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue)
    }

    fn stat(&self) -> Result<Stat> {
        Ok(Stat::new(Kind::Anonymous, 0o600, super::ANONYMOUS_INODE))
    }

    fn path(&self) -> Vec<u8> {
        b"anon_inode:[eventpoll]".to_vec()
    }
}

#[cfg(test)]
mod tests;
