//! Message queues (msgget(2), msgop(2)).
use super::{Caller, Object, Permissions, Table, now};
use crate::capabilities::Capability;
use crate::errno::{Errno, Result};
use crate::sched::wait::WaitQueue;
use crate::sync::Mutex;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Longest message (MSGMAX), and most bytes in a queue unless root wants more (MSGMNB).
pub const MESSAGE_MAX: u64 = 8192;
const QUEUE_BYTES: u64 = 16384;

pub const MSG_NOERROR: u32 = 0o10000;
pub const MSG_EXCEPT: u32 = 0o20000;
pub const MSG_COPY: u32 = 0o40000;

/// `struct msqid64_ds`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Description {
    pub permissions: Permissions,
    sent: u64,
    received: u64,
    changed: u64,
    bytes: u64,
    messages: u64,
    pub bytes_max: u64,
    last_sender: u32,
    last_receiver: u32,
    unused: [u64; 2],
}

const _: () = assert!(size_of::<Description>() == 120);

/// A message: its kind (above 0) and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: i64,
    pub text: Vec<u8>,
}

pub struct Queue {
    state: Mutex<State>,
    /// Woken when a message comes or goes, and when the queue is removed.
    pub queue: WaitQueue,
    removed: AtomicBool,
}

struct State {
    description: Description,
    messages: VecDeque<Message>,
}

impl Object for Queue {
    fn permissions(&self) -> Permissions {
        self.state.lock().description.permissions
    }
}

static QUEUES: Table<Queue> = Table::new();

/// `msgget`.
pub fn get(caller: &Caller, key: i32, flags: u32) -> Result<u32> {
    QUEUES.get(
        caller,
        key,
        flags,
        |_| Ok(()),
        |permissions| {
            let description = Description {
                permissions,
                sent: 0,
                received: 0,
                changed: now(),
                bytes: 0,
                messages: 0,
                bytes_max: QUEUE_BYTES,
                last_sender: 0,
                last_receiver: 0,
                unused: [0; 2],
            };
            let state = State { description, messages: VecDeque::new() };
            Ok(Queue { state: Mutex::new(state), queue: WaitQueue::new(), removed: AtomicBool::new(false) })
        },
    )
}

/// The queue, when the caller may use it so.
pub fn find(caller: &Caller, id: u32, wanted: u32) -> Result<Arc<Queue>> {
    let queue = QUEUES.find(id)?;
    queue.permissions().check(caller, wanted)?;
    Ok(queue)
}

/// Which message a receiver wants (msgrcv(2), `msgtyp`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub kind: i64,
    pub except: bool,
}

impl Queue {
    /// Appends the message; `None` when there is no room yet.
    pub fn try_send(&self, pid: u32, message: &Message) -> Option<Result<()>> {
        if self.removed.load(Ordering::Relaxed) {
            return Some(Err(Errno::EIDRM));
        }
        let mut state = self.state.lock();
        let len = message.text.len() as u64;
        let description = &mut state.description;
        if description.bytes + len > description.bytes_max || description.messages >= description.bytes_max {
            return None;
        }
        description.bytes += len;
        description.messages += 1;
        description.sent = now();
        description.last_sender = pid;
        state.messages.push_back(message.clone());
        drop(state);
        self.queue.wake_all();
        Some(Ok(()))
    }

    /// Takes the first message that is wanted and not longer than `room` (E2BIG, unless it may be cut); `None` when there
    /// is none.
    pub fn try_receive(&self, pid: u32, choice: Choice, room: u64, cut: bool) -> Option<Result<Message>> {
        if self.removed.load(Ordering::Relaxed) {
            return Some(Err(Errno::EIDRM));
        }
        let mut state = self.state.lock();
        let at = state.find(choice)?;
        if state.messages[at].text.len() as u64 > room && !cut {
            return Some(Err(Errno::E2BIG));
        }
        let mut message = state.messages.remove(at)?;
        let description = &mut state.description;
        description.bytes -= message.text.len() as u64;
        description.messages -= 1;
        description.received = now();
        description.last_receiver = pid;
        drop(state);
        message.text.truncate(room as usize);
        self.queue.wake_all();
        Some(Ok(message))
    }

    /// MSG_COPY: the message at a place, which stays.
    pub fn copy(&self, at: usize, room: u64, cut: bool) -> Result<Message> {
        let mut message = self.state.lock().messages.get(at).cloned().ok_or(Errno::ENOMSG)?;
        if message.text.len() as u64 > room && !cut {
            return Err(Errno::E2BIG);
        }
        message.text.truncate(room as usize);
        Ok(message)
    }

    pub fn describe(&self) -> Description {
        self.state.lock().description
    }
}

impl State {
    fn find(&self, choice: Choice) -> Option<usize> {
        let mut kinds = self.messages.iter().map(|message| message.kind);
        match choice.kind {
            0 => kinds.next().map(|_| 0),
            kind if kind > 0 => kinds.position(|other| (other == kind) != choice.except),
            // The lowest kind up to the absolute value, and of that the first.
            kind => {
                let lowest = kinds.clone().filter(|other| *other <= kind.saturating_neg()).min()?;
                kinds.position(|other| other == lowest)
            }
        }
    }
}

/// IPC_RMID: whoever waits gets EIDRM.
pub fn remove(caller: &Caller, id: u32) -> Result<()> {
    QUEUES.find(id)?.permissions().must_own(caller)?;
    let queue = QUEUES.remove(id)?;
    queue.removed.store(true, Ordering::Relaxed);
    queue.queue.wake_all();
    Ok(())
}

/// IPC_SET: permissions and size.
pub fn set(caller: &Caller, id: u32, wanted: &Description) -> Result<()> {
    let queue = QUEUES.find(id)?;
    let mut state = queue.state.lock();
    state.description.permissions.must_own(caller)?;
    if wanted.bytes_max > QUEUE_BYTES && !caller.capabilities.can(Capability::SysResource) {
        return Err(Errno::EPERM);
    }
    state.description.permissions.set(&wanted.permissions);
    state.description.bytes_max = wanted.bytes_max;
    state.description.changed = now();
    drop(state);
    queue.queue.wake_all();
    Ok(())
}

/// MSG_STAT and MSG_STAT_ANY.
pub fn describe_at(caller: &Caller, index: u32, any: bool) -> Result<(u32, Description)> {
    let (id, queue) = QUEUES.at(index)?;
    if !any {
        queue.permissions().check(caller, super::READ)?;
    }
    Ok((id, queue.describe()))
}

/// Queues in use.
pub fn count() -> usize {
    QUEUES.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_chosen_by_kind() {
        let caller = Caller { pid: 7, ..Caller::default() };
        let id = get(&caller, super::super::IPC_PRIVATE, 0o600).unwrap();
        let queue = find(&caller, id, super::super::READ).unwrap();
        for (kind, text) in [(5, &b"five"[..]), (2, b"two"), (9, b"nine"), (2, b"again")] {
            assert_eq!(queue.try_send(7, &Message { kind, text: text.to_vec() }), Some(Ok(())));
        }
        let take = |kind, except| {
            queue.try_receive(7, Choice { kind, except }, 10, false).map(|result| result.map(|message| message.text))
        };
        assert_eq!(take(-6, false), Some(Ok(b"two".to_vec())));
        assert_eq!(take(5, true), Some(Ok(b"nine".to_vec())));
        assert_eq!(queue.try_receive(7, Choice { kind: 2, except: false }, 3, false), Some(Err(Errno::E2BIG)));
        assert_eq!(take(0, false), Some(Ok(b"five".to_vec())));
        assert_eq!(take(7, false), None);
        assert_eq!(queue.copy(0, 2, true).unwrap().text, b"ag");
        remove(&caller, id).unwrap();
        assert_eq!(take(0, false), Some(Err(Errno::EIDRM)));
    }

    #[test]
    fn a_full_queue_makes_wait() {
        let caller = Caller::default();
        let id = get(&caller, super::super::IPC_PRIVATE, 0o600).unwrap();
        let queue = find(&caller, id, super::super::WRITE).unwrap();
        let message = Message { kind: 1, text: vec![0; MESSAGE_MAX as usize] };
        assert_eq!(queue.try_send(1, &message), Some(Ok(())));
        assert_eq!(queue.try_send(1, &message), Some(Ok(())));
        assert_eq!(queue.try_send(1, &message), None);
        remove(&caller, id).unwrap();
    }
}
