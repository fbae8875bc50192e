//! The file that `inotify_init` gives: watches by number, and the events that wait to be read.
use crate::errno::{Errno, Result};
use crate::fs::entry::Entry;
use crate::fs::file::{File, OpenFile, PollEvents};
use crate::fs::node::Node;
use crate::fs::stat::{Kind, Stat};
use crate::sched::wait::WaitQueue;
use crate::sync::Mutex;
use crate::user::{self, Writer};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use linux_raw_sys::general::{
    IN_ALL_EVENTS, IN_EXCL_UNLINK, IN_IGNORED, IN_MASK_ADD, IN_MASK_CREATE, IN_ONESHOT, IN_Q_OVERFLOW,
};
use linux_raw_sys::ioctl::FIONREAD;

/// Events that may wait (fs.inotify.max_queued_events), and watches of an instance (max_user_watches).
pub const QUEUE_MAX: usize = 16384;
pub const WATCHES_MAX: usize = 65536;
/// Bytes of `struct inotify_event` before the name, and what names are padded to.
const HEADER: usize = 16;

pub struct Inotify {
    /// Watches on nodes refer to it.
    this: Weak<Inotify>,
    state: Mutex<State>,
    queue: WaitQueue,
}

#[derive(Default)]
struct State {
    watches: BTreeMap<i32, (Arc<Node>, u32)>,
    last_number: i32,
    events: VecDeque<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    watch: i32,
    events: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl Event {
    /// Bytes of the name with its NULs; none where there is no name.
    fn name_len(&self) -> usize {
        if self.name.is_empty() { 0 } else { (self.name.len() + 1).next_multiple_of(HEADER) }
    }

    fn len(&self) -> usize {
        HEADER + self.name_len()
    }

    fn bytes(&self) -> Vec<u8> {
        let words = [self.watch as u32, self.events, self.cookie, self.name_len() as u32];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend_from_slice(&self.name);
        bytes.resize(self.len(), 0);
        bytes
    }
}

impl Inotify {
    pub fn new() -> Arc<Inotify> {
        Arc::new_cyclic(|this| Inotify { this: this.clone(), state: Mutex::default(), queue: WaitQueue::new() })
    }

    /// `inotify_add_watch`: the watch's number.
    pub fn watch(&self, entry: &Entry, wanted: u32) -> Result<i32> {
        let kept = IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK;
        let mut mask = wanted & kept;
        let node = &entry.node;
        let mut state = self.state.lock();
        let existing = state.watches.iter().find(|(_, (watched, _))| Arc::ptr_eq(watched, node));
        let number = match existing.map(|(number, (_, old))| (*number, *old)) {
            Some(_) if wanted & IN_MASK_CREATE != 0 => return Err(Errno::EEXIST),
            Some((number, old)) => {
                if wanted & IN_MASK_ADD != 0 {
                    mask |= old;
                }
                number
            }
            None if state.watches.len() >= WATCHES_MAX => return Err(Errno::ENOSPC),
            None => state.last_number.checked_add(1).ok_or(Errno::ENOSPC)?,
        };
        state.last_number = state.last_number.max(number);
        state.watches.insert(number, (node.clone(), mask));
        drop(state);
        if let Some(this) = self.this.upgrade() {
            node.watches().set(&this, number, mask);
        }
        Ok(number)
    }

    /// `inotify_rm_watch`, and the end of a watch on something that is gone.
    pub fn end(&self, number: i32) -> bool {
        let Some((node, _)) = self.state.lock().watches.remove(&number) else { return false };
        node.watches().remove(self);
        self.put(Event { watch: number, events: IN_IGNORED, cookie: 0, name: Vec::new() });
        true
    }

    /// Something happened that the watch is for.
    pub(super) fn happened(&self, number: i32, events: u32, cookie: u32, name: &[u8]) {
        let Some(mask) = self.state.lock().watches.get(&number).map(|(_, mask)| *mask) else { return };
        self.put(Event { watch: number, events, cookie, name: name.to_vec() });
        if mask & IN_ONESHOT != 0 {
            self.end(number);
        }
    }

    fn put(&self, event: Event) {
        let mut state = self.state.lock();
        // Two that are alike, one after the other, are told as one.
        if state.events.back() == Some(&event) {
            return;
        }
        match state.events.len() {
            len if len < QUEUE_MAX => state.events.push_back(event),
            QUEUE_MAX => {
                state.events.push_back(Event { watch: -1, events: IN_Q_OVERFLOW, cookie: 0, name: Vec::new() });
            }
            _ => return,
        }
        drop(state);
        self.queue.wake_for(crate::ipc::READABLE);
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        for (node, _) in core::mem::take(&mut self.state.lock().watches).into_values() {
            node.watches().remove(self);
        }
    }
}

/// An instance as the file behind a descriptor.
pub struct InotifyFile(pub Arc<Inotify>);

impl File for InotifyFile {
    fn ignores_seek(&self) -> bool {
        true
    }

    fn read(&self, _open: &OpenFile, _offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        let mut done = 0;
        loop {
            let event = {
                let mut state = self.0.state.lock();
                match state.events.front() {
                    None if done == 0 => return Err(Errno::EAGAIN),
                    Some(first) if first.len() > to.remaining() && done == 0 => return Err(Errno::EINVAL),
                    Some(first) if first.len() <= to.remaining() => state.events.pop_front(),
                    _ => None,
                }
            };
            let Some(event) = event else { return Ok(done) };
            done += to.write(&event.bytes())?;
        }
    }

    fn poll(&self) -> PollEvents {
        let empty = self.0.state.lock().events.is_empty();
        if empty { PollEvents::empty() } else { PollEvents::IN | PollEvents::RDNORM }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.queue)
    }

    fn stat(&self) -> Result<Stat> {
        Ok(Stat::new(Kind::Anonymous, 0o600, crate::ipc::ANONYMOUS_INODE))
    }

    fn ioctl(&self, _open: &OpenFile, request: u32, argument: u64) -> Result<usize> {
        if request != FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let waiting: usize = self.0.state.lock().events.iter().map(Event::len).sum();
        user::write(argument, &(waiting as i32)).map(|()| 0)
    }

    fn path(&self) -> Vec<u8> {
        b"anon_inode:inotify".to_vec()
    }
}
