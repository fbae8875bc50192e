//! What has happened in a session since it was last saved, kept where it outlives the process that serves the device.
//!
//! One anonymous file that the supervisor makes and the serving process maps:
//! ```text
//! 0      Header    descriptors taken, callers that wait, bytes of entries
//! 4096   entries   one per command that changes state: Entry, and its payload as it was when the command was taken
//! ```
//! A successor rebuilds the last save and carries the entries out again. It leaves out those that nobody knows to have
//! completed: one of them may have killed its predecessor. So a command is *settled* once the guest was told of its end, by
//! itself or by whatever it waited for.
//!
//! The process that wrote a journal had run a guest's kernels: whoever reads one checks it like a guest's words.
use kasoku_abi::accel::command::Descriptor;
use kasoku_abi::accel::session::REPLY_SLOTS;
use kasoku_abi::accel::{Id, NO_ID, Range};
use kasoku_backend::HostBytes;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Where the entries begin.
const ENTRIES: u64 = 4096;
/// Time between tries to save.
const PAUSE: Duration = Duration::from_secs(10);
/// Most that a command waits for a save.
const PATIENCE: Duration = Duration::from_secs(3);
/// Set in a word of `Header.pending` that holds a sequence.
const WAITS: u64 = 1 << 32;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    /// Times that entries were forgotten after a save: whoever has that save knows whether entries go with it.
    generation: u64,
    /// Descriptors taken; the last one may not have been carried out.
    head: u64,
    /// Bytes of entries.
    len: u64,
    /// 1: there was no room for an entry, so the journal is worth nothing until the next save.
    overflowed: u32,
    reserved: u32,
    /// By reply slot: `WAITS` and the sequence of a call that has not been answered.
    pending: [u64; REPLY_SLOTS as usize],
}

const _: () = assert!(size_of::<Header>() as u64 <= ENTRIES);

/// `Entry.state`: begun, and never ended: whoever wrote it may have died of it.
const BEGUN: u32 = 0;
/// Enqueued; it may still be running.
const DONE: u32 = 1;
/// Carried out, and known to have ended.
const SETTLED: u32 = 2;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Entry {
    /// Bytes of the whole entry.
    len: u64,
    state: u32,
    /// Parts that follow: a range of the arena each, and what it held, padded to 8.
    parts: u32,
    descriptor: [u8; size_of::<Descriptor>()],
}

/// Offset of `Entry.state`.
const STATE: u64 = core::mem::offset_of!(Entry, state) as u64;

/// A journal that is being written.
pub struct Journal {
    start: *mut u8,
    len: u64,
    open: Mutex<Open>,
    /// The save that was asked for has been made, or cannot be.
    relieved: Condvar,
}

// SAFETY: an address and a length; words are accessed atomically, entries are written under the lock.
unsafe impl Send for Journal {}
// SAFETY: as above.
unsafe impl Sync for Journal {}

#[derive(Default)]
struct Open {
    used: u64,
    /// A save has been asked for.
    asked: bool,
    /// When the next one may be.
    not_before: Option<Instant>,
    /// Enqueued commands that are not settled, in their order.
    unsettled: Vec<Unsettled>,
}

struct Unsettled {
    at: u64,
    queue: Queue,
    event: Id,
    waits: Vec<Id>,
}

/// The queue of an enqueued command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    pub id: Id,
    pub in_order: bool,
}

/// An entry that was begun.
#[derive(Clone, Copy, Debug)]
pub struct Ticket(u64);

/// A place between entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

/// What is known to have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All that was enqueued on a queue before that mark.
    Queue(Id, Mark),
    Events(Vec<Id>),
    /// The command itself, and what its queue had before it.
    Command,
}

/// Makes the file of a journal with `bytes` of entries.
pub fn create(bytes: u64) -> std::io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create(c"kasoku-journal", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&file, ENTRIES + bytes)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(file)
}

/// How often the entries of a file have been forgotten.
pub fn generation(file: impl AsFd) -> rustix::io::Result<u64> {
    let mut word = [0u8; 8];
    rustix::io::pread(file, &mut word, core::mem::offset_of!(Header, generation) as u64)?;
    Ok(u64::from_le_bytes(word))
}

/// Forgets everything in a file that nobody writes.
pub fn clear(file: impl AsFd) -> rustix::io::Result<()> {
    rustix::io::pwrite(file, Header::new_zeroed().as_bytes(), 0).map(|_| ())
}

impl Journal {
    /// Maps a journal's file, which can neither shrink nor grow, until the process ends.
    pub fn map(file: impl AsFd) -> rustix::io::Result<Self> {
        let len = rustix::fs::fstat(&file)?.st_size as u64;
        if len < ENTRIES {
            return Err(rustix::io::Errno::INVAL);
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice; nothing else in this process knows it.
        let start = unsafe {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            rustix::mm::mmap(core::ptr::null_mut(), len as usize, access, MapFlags::SHARED, &file, 0)?
        };
        Ok(Self { start: start.cast(), len, open: Mutex::default(), relieved: Condvar::new() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn word64(&self, at: u64) -> &AtomicU64 {
        // SAFETY: an aligned word of the header, inside the mapping.
        unsafe { AtomicU64::from_ptr(self.start.wrapping_add(at as usize).cast()) }
    }

    fn word32(&self, at: u64) -> &AtomicU32 {
        // SAFETY: an aligned word of the header or of an entry that was written, inside the mapping.
        unsafe { AtomicU32::from_ptr(self.start.wrapping_add(at as usize).cast()) }
    }

    fn bytes(&self, at: u64, len: u64) -> Option<HostBytes> {
        let end = at.checked_add(len)?;
        // SAFETY: inside the mapping, which stays until the process ends; no Rust reference to it is made but to its words.
        (end <= self.len).then(|| unsafe { HostBytes::new(self.start.wrapping_add(at as usize), len as usize) })
    }

    /// `head` descriptors have been taken before this one; who waits for its answer.
    pub fn taken(&self, head: u64, waits: Option<(u32, u32)>) {
        if let Some((slot, sequence)) = waits {
            self.pending(slot).store(WAITS | u64::from(sequence), Ordering::Relaxed);
        }
        self.word64(core::mem::offset_of!(Header, head) as u64).store(head + 1, Ordering::Release);
    }

    fn pending(&self, slot: u32) -> &AtomicU64 {
        self.word64(core::mem::offset_of!(Header, pending) as u64 + 8 * u64::from(slot))
    }

    /// The call in this slot has its answer.
    pub fn answered(&self, slot: u32) {
        self.pending(slot).store(0, Ordering::Relaxed);
    }

    /// Writes a command down before it is carried out; `None` when there is no room for it.
    pub fn begin(&self, descriptor: &Descriptor, payload: &[(Range, HostBytes)]) -> Option<Ticket> {
        let mut open = self.open();
        let at = ENTRIES + open.used;
        let room = |bytes: &HostBytes| (size_of::<Range>() + bytes.len().next_multiple_of(8)) as u64;
        let len = size_of::<Entry>() as u64 + payload.iter().map(|(_, bytes)| room(bytes)).sum::<u64>();
        let Some(whole) = self.bytes(at, len).filter(|_| !self.has_overflowed()) else {
            self.word32(core::mem::offset_of!(Header, overflowed) as u64).store(1, Ordering::Release);
            return None;
        };
        let descriptor = *descriptor.as_bytes().first_chunk().expect("a descriptor has its own size");
        let entry = Entry { len, state: BEGUN, parts: payload.len() as u32, descriptor };
        whole.fill_from(entry.as_bytes());
        let mut rest = size_of::<Entry>();
        for (range, bytes) in payload {
            let head = whole.part(rest, size_of::<Range>())?;
            head.fill_from(range.as_bytes());
            rest += size_of::<Range>();
            bytes.copy_to(&whole.part(rest, bytes.len())?);
            rest += bytes.len().next_multiple_of(8);
        }
        open.used += len;
        self.word64(core::mem::offset_of!(Header, len) as u64).store(open.used, Ordering::Release);
        Some(Ticket(at))
    }

    fn has_overflowed(&self) -> bool {
        self.word32(core::mem::offset_of!(Header, overflowed) as u64).load(Ordering::Relaxed) != 0
    }

    /// A command has been carried out; `enqueued`: its end is still to come.
    pub fn done(&self, Ticket(at): Ticket, enqueued: Option<(Queue, Id, Vec<Id>)>) {
        let state = if enqueued.is_some() { DONE } else { SETTLED };
        self.word32(at + STATE).store(state, Ordering::Release);
        if let Some((queue, event, waits)) = enqueued {
            self.open().unsettled.push(Unsettled { at, queue, event, waits });
        }
    }

    /// Commands have ended. `ticket`: of the command that said so, if it has one.
    pub fn settle(&self, ticket: Option<Ticket>, ended: &Ended) {
        let mut open = self.open();
        let mut wanted: Vec<usize> = match ended {
            Ended::Queue(queue, Mark(end)) => open.positions(|command| command.queue.id == *queue && command.at < *end),
            Ended::Events(events) => open.positions(|command| events.contains(&command.event)),
            Ended::Command => open.positions(|command| ticket.is_some_and(|Ticket(at)| at == command.at)),
        };
        let mut settled = vec![false; open.unsettled.len()];
        while let Some(position) = wanted.pop() {
            if core::mem::replace(&mut settled[position], true) {
                continue;
            }
            let Unsettled { queue, waits, .. } = &open.unsettled[position];
            let before = |(earlier, command): (usize, &Unsettled)| {
                let same_queue = queue.in_order && earlier < position && command.queue == *queue;
                (same_queue || (command.event != NO_ID && waits.contains(&command.event))).then_some(earlier)
            };
            wanted.extend(open.unsettled.iter().enumerate().filter_map(before));
        }
        let mut position = 0;
        open.unsettled.retain(|command| {
            position += 1;
            if settled[position - 1] {
                self.word32(command.at + STATE).store(SETTLED, Ordering::Release);
            }
            !settled[position - 1]
        });
    }

    /// The place behind the last entry.
    pub fn mark(&self) -> Mark {
        Mark(ENTRIES + self.open().used)
    }

    /// Whether a save should be asked for now, to make room; said once.
    pub fn wants_save(&self) -> bool {
        let mut open = self.open();
        let full = self.has_overflowed() || open.used >= (self.len - ENTRIES) / 2;
        let wants = full && !open.asked && open.not_before.is_none_or(|then| Instant::now() >= then);
        open.asked |= wants;
        wants
    }

    /// The save that was asked for could not be made. While one is tried nothing is served: not too often.
    pub fn ask_later(&self) {
        let mut open = self.open();
        (open.asked, open.not_before) = (false, Some(Instant::now() + PAUSE));
        self.relieved.notify_all();
    }

    /// Whether commands should wait for the save that was asked for: there is little room left.
    pub fn is_tight(&self) -> bool {
        self.open().is_tight(self.len)
    }

    /// Waits for that save, for a while.
    pub fn wait_for_save(&self) {
        let tight = |open: &mut Open| open.is_tight(self.len);
        let _ = self.relieved.wait_timeout_while(self.open(), PATIENCE, tight);
    }

    /// The session has just been saved, nothing runs: entries are worth nothing any more.
    pub fn forget(&self) {
        let mut open = self.open();
        *open = Open::default();
        self.word64(core::mem::offset_of!(Header, len) as u64).store(0, Ordering::Release);
        self.word32(core::mem::offset_of!(Header, overflowed) as u64).store(0, Ordering::Release);
        self.word64(core::mem::offset_of!(Header, generation) as u64).fetch_add(1, Ordering::Release);
        self.relieved.notify_all();
    }

    /// Reads what a predecessor wrote, and goes on behind it.
    pub fn replay(&self) -> Result<Replay, ReplayError> {
        let header = self.bytes(0, size_of::<Header>() as u64).ok_or(ReplayError::Damaged)?.to_vec();
        let header = Header::read_from_bytes(&header).map_err(|_| ReplayError::Damaged)?;
        if header.overflowed != 0 {
            return Err(ReplayError::Overflowed);
        }
        let (mut at, end) = (0, header.len);
        let mut commands = Vec::new();
        while at < end {
            let start = ENTRIES.checked_add(at).ok_or(ReplayError::Damaged)?;
            let fixed = self.bytes(start, size_of::<Entry>() as u64).ok_or(ReplayError::Damaged)?.to_vec();
            let entry = Entry::read_from_bytes(&fixed).map_err(|_| ReplayError::Damaged)?;
            let whole = self.bytes(start, entry.len).ok_or(ReplayError::Damaged)?;
            let payload = parts(&whole, entry.parts).ok_or(ReplayError::Damaged)?;
            let state = match entry.state {
                BEGUN => State::Begun,
                DONE => State::Done,
                SETTLED => State::Settled,
                _ => return Err(ReplayError::Damaged),
            };
            commands.push(Written { descriptor: zerocopy::transmute!(entry.descriptor), state, payload });
            // No entry is shorter than its fixed part: so this ends.
            let sound = entry.len.is_multiple_of(8) && entry.len >= size_of::<Entry>() as u64;
            at = at.checked_add(entry.len).filter(|_| sound).ok_or(ReplayError::Damaged)?;
        }
        if at != end {
            return Err(ReplayError::Damaged);
        }
        self.open().used = end;
        let pending = header.pending.iter().enumerate();
        let waiting = pending.filter(|(_, word)| **word & WAITS != 0).map(|(slot, word)| (slot as u32, *word as u32));
        Ok(Replay { head: header.head, commands, waiting: waiting.collect() })
    }
}

impl Open {
    fn is_tight(&self, len: u64) -> bool {
        self.asked && self.used >= (len - ENTRIES) / 4 * 3
    }

    fn positions(&self, wanted: impl Fn(&Unsettled) -> bool) -> Vec<usize> {
        self.unsettled.iter().enumerate().filter(|(_, command)| wanted(command)).map(|(position, _)| position).collect()
    }
}

/// The parts of an entry: ranges of the arena and what they held.
fn parts(whole: &HostBytes, count: u32) -> Option<Vec<(Range, HostBytes)>> {
    let mut at = size_of::<Entry>();
    let mut parts = Vec::new();
    for _ in 0..count {
        let range = Range::read_from_bytes(&whole.part(at, size_of::<Range>())?.to_vec()).ok()?;
        at += size_of::<Range>();
        parts.push((range, whole.part(at, usize::try_from(range.len).ok()?)?));
        at = at.checked_add(usize::try_from(range.len).ok()?.checked_next_multiple_of(8)?)?;
    }
    Some(parts)
}

/// How far a command had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Begun,
    Done,
    Settled,
}

/// A command of a journal.
pub struct Written {
    pub descriptor: Descriptor,
    pub state: State,
    pub payload: Vec<(Range, HostBytes)>,
}

/// A journal's contents.
pub struct Replay {
    /// Descriptors taken.
    pub head: u64,
    pub commands: Vec<Written>,
    /// Slot and sequence of calls that were not answered.
    pub waiting: Vec<(u32, u32)>,
}

/// Why a session cannot go on from a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error("more had happened since the last save than the journal has room for")]
    Overflowed,
    #[error("the journal is damaged")]
    Damaged,
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Queue = Queue { id: 1, in_order: true };
    const B: Queue = Queue { id: 2, in_order: true };
    const LOOSE: Queue = Queue { id: 3, in_order: false };

    fn journal(bytes: u64) -> Journal {
        Journal::map(create(bytes).unwrap()).unwrap()
    }

    fn descriptor(target: Id) -> Descriptor {
        Descriptor { target, ..Descriptor::new_zeroed() }
    }

    fn leaked(bytes: &[u8]) -> HostBytes {
        let memory = Box::leak(bytes.to_vec().into_boxed_slice());
        // SAFETY: leaked, and the reference ends here.
        unsafe { HostBytes::new(memory.as_mut_ptr(), memory.len()) }
    }

    fn states(journal: &Journal) -> Vec<State> {
        journal.replay().unwrap().commands.iter().map(|command| command.state).collect()
    }

    #[test]
    fn what_was_written_comes_back() {
        let journal = journal(1 << 16);
        let range = Range { offset: 77, len: 5 };
        let ticket = journal.begin(&descriptor(9), &[(range, leaked(b"hello")), (range, leaked(b"again"))]).unwrap();
        journal.done(ticket, None);
        journal.begin(&descriptor(10), &[]).unwrap();
        journal.taken(41, Some((3, 7)));
        journal.taken(42, Some((4, 0)));
        journal.answered(3);
        let replay = journal.replay().unwrap();
        assert_eq!((replay.head, replay.waiting), (43, vec![(4, 0)]));
        let [first, second] = &replay.commands[..] else { panic!("two entries") };
        assert_eq!((first.descriptor.target, first.state), (9, State::Settled));
        let payload: Vec<_> = first.payload.iter().map(|(range, bytes)| (*range, bytes.to_vec())).collect();
        assert_eq!(payload, [(range, b"hello".to_vec()), (range, b"again".to_vec())]);
        assert_eq!((second.descriptor.target, second.state, second.payload.len()), (10, State::Begun, 0));
        journal.forget();
        assert!(journal.replay().unwrap().commands.is_empty());
    }

    #[test]
    fn what_ended_is_known_with_all_that_it_waited_for() {
        let journal = journal(1 << 16);
        for (queue, event, waits) in [
            (A, 10, vec![]),
            (A, 11, vec![]),
            (B, 12, vec![11]),
            (LOOSE, 13, vec![]),
            (LOOSE, 14, vec![]),
            (B, 15, vec![]),
        ] {
            let ticket = journal.begin(&descriptor(queue.id), &[]).unwrap();
            journal.done(ticket, Some((queue, event, waits)));
        }
        let (done, settled) = (State::Done, State::Settled);
        journal.settle(None, &Ended::Events(vec![14]));
        assert_eq!(states(&journal), [done, done, done, done, settled, done], "others may pass it");
        journal.settle(None, &Ended::Events(vec![12]));
        assert_eq!(states(&journal), [settled, settled, settled, done, settled, done], "by wait list and by order");
        journal.settle(None, &Ended::Queue(LOOSE.id, journal.mark()));
        journal.settle(None, &Ended::Queue(B.id, Mark(ENTRIES)));
        assert_eq!(states(&journal), [settled, settled, settled, settled, settled, done], "it came later");
        journal.settle(None, &Ended::Queue(B.id, journal.mark()));
        assert_eq!(states(&journal), [settled; 6]);
    }

    #[test]
    fn a_full_journal_says_so_until_the_next_save() {
        let journal = journal(1024);
        assert!(!journal.wants_save());
        journal.begin(&descriptor(1), &[]).unwrap();
        journal.begin(&descriptor(2), &[]).unwrap();
        assert!(journal.wants_save() && !journal.wants_save() && journal.replay().is_ok());
        journal.ask_later();
        assert!(!journal.wants_save() && !journal.is_tight(), "later");
        assert!(journal.begin(&descriptor(3), &[(Range { offset: 0, len: 4096 }, leaked(&[1; 4096]))]).is_none());
        assert!(journal.begin(&descriptor(4), &[]).is_none(), "one that is missing spoils what follows");
        assert_eq!(journal.replay().err(), Some(ReplayError::Overflowed));
        journal.forget();
        assert!(journal.begin(&descriptor(5), &[]).is_some() && journal.replay().is_ok());
    }

    #[test]
    fn nonsense_is_refused() {
        let journal = journal(4096);
        journal.begin(&descriptor(1), &[(Range { offset: 0, len: 8 }, leaked(&[1; 8]))]).unwrap();
        let whole = journal.bytes(0, ENTRIES + 600).unwrap();
        let sound = whole.to_vec();
        let len = core::mem::offset_of!(Header, len);
        let entry = ENTRIES as usize;
        for (at, value) in [
            (len, u64::MAX),
            (len, 8),
            (len, 4000),
            (entry, 0),
            (entry, 7),
            (entry, u64::MAX),
            (entry + 8, 99),
            (entry + 8, u64::MAX),
            (entry + size_of::<Entry>() + 8, u64::MAX),
        ] {
            let mut wrong = sound.clone();
            wrong[at..at + 8].copy_from_slice(&value.to_le_bytes());
            whole.fill_from(&wrong);
            assert_eq!(journal.replay().err(), Some(ReplayError::Damaged), "{at} {value}");
        }
        whole.fill_from(&sound);
        assert!(journal.replay().is_ok());
    }
}
