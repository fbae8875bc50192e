//! Pipes and named pipes.
//!
//! One [`Pipe`] joins all its ends; each open file description holds one [`End`], whose life is counted in the pipe's state
//! as a reader, a writer, or both (a fifo opened O_RDWR). One queue serves both directions: a pipe is never empty and full
//! at once, so whoever waits there waits for the same kind of change.
mod fifo;
mod ring;

pub use fifo::open as open_fifo;

use crate::errno::{Errno, Result};
use crate::fs::entry::Entry;
use crate::fs::file::{File, OpenFile, PollEvents};
use crate::fs::stat::{Kind, Stat};
use crate::ipc::identity::Identity;
use crate::ipc::{READABLE, WRITABLE};
use crate::sched::wait::WaitQueue;
use crate::sync::Mutex;
use crate::user::{self, Reader, Writer};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kasoku_abi::layout::PAGE;
use linux_raw_sys::general::{F_GETPIPE_SZ, F_SETPIPE_SZ, O_ACCMODE, O_DIRECT, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY};
use linux_raw_sys::ioctl::FIONREAD;
use ring::Ring;

/// Buffers of a new pipe (64 KiB).
const DEFAULT_SLOTS: usize = 16;
/// Largest size F_SETPIPE_SZ accepts at all, bytes.
const MAX_SIZE: u64 = 1 << 31;

/// What the ends of a pipe share.
pub struct Pipe {
    state: Mutex<State>,
    queue: WaitQueue,
    identity: Identity,
}

struct State {
    ring: Ring,
    readers: usize,
    writers: usize,
    /// How often a reader or a writer was opened: a fifo's `open` waits for a change.
    readers_opened: u64,
    writers_opened: u64,
}

impl Pipe {
    /// A pipe without ends (an unopened fifo).
    pub fn new() -> Arc<Pipe> {
        let state =
            State { ring: Ring::new(DEFAULT_SLOTS), readers: 0, writers: 0, readers_opened: 0, writers_opened: 0 };
        Arc::new(Pipe { state: Mutex::new(state), queue: WaitQueue::new(), identity: Identity::new(Kind::Fifo, 0o600) })
    }
}

/// `pipe2`: both ends of a new pipe. `flags`: O_NONBLOCK, O_DIRECT.
pub fn pair(flags: u32) -> (Arc<OpenFile>, Arc<OpenFile>) {
    let pipe = Pipe::new();
    let flags = flags & (O_NONBLOCK | O_DIRECT);
    let reader = OpenFile::new(Arc::new(End::new(&pipe, true, false, None)), flags | O_RDONLY);
    let writer = OpenFile::new(Arc::new(End::new(&pipe, false, true, None)), flags | O_WRONLY);
    (reader, writer)
}

/// One open end of a pipe.
pub struct End {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// `State::writers_opened` when this end was opened while nobody wrote: until that changes there is no hang-up.
    quiet_until: Mutex<Option<u64>>,
    /// A fifo's name in the tree.
    name: Option<Arc<Entry>>,
}

impl End {
    fn new(pipe: &Arc<Pipe>, reads: bool, writes: bool, name: Option<Arc<Entry>>) -> End {
        let mut state = pipe.state.lock();
        state.readers += usize::from(reads);
        state.writers += usize::from(writes);
        state.readers_opened += u64::from(reads);
        state.writers_opened += u64::from(writes);
        drop(state);
        End { pipe: pipe.clone(), reads, writes, quiet_until: Mutex::new(None), name }
    }
}

/// Copies up to `len` bytes from one pipe to another and leaves them where they are: EAGAIN where there are none, or no
/// room. EINVAL for one pipe with itself.
pub fn tee(from: &End, to: &End, len: usize) -> Result<usize> {
    if Arc::ptr_eq(&from.pipe, &to.pipe) {
        return Err(Errno::EINVAL);
    }
    // In the order of their addresses, so that two that copy in opposite directions do not wait for each other.
    let from_first = Arc::as_ptr(&from.pipe) < Arc::as_ptr(&to.pipe);
    let first = if from_first { &from.pipe } else { &to.pipe }.state.lock();
    let second = if from_first { &to.pipe } else { &from.pipe }.state.lock();
    let (source, mut target) = if from_first { (first, second) } else { (second, first) };
    if source.ring.is_empty() {
        return if source.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
    }
    if target.readers == 0 {
        drop((source, target));
        return Err(super::broken_pipe());
    }
    if target.ring.is_full() {
        return Err(Errno::EAGAIN);
    }
    let done = source.ring.copy_to(&mut target.ring, len)?;
    drop((source, target));
    to.pipe.queue.wake_for(READABLE);
    Ok(done)
}

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.pipe.state.lock();
        state.readers -= usize::from(self.reads);
        state.writers -= usize::from(self.writes);
        if state.readers == 0 && state.writers == 0 {
            // A fifo's bytes do not outlive its last end.
            state.ring = Ring::new(DEFAULT_SLOTS);
        }
        drop(state);
        self.pipe.queue.wake_all();
    }
}

impl File for End {
    fn read(&self, _open: &OpenFile, _offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let mut state = self.pipe.state.lock();
        if state.ring.is_empty() {
            return if state.writers == 0 { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        let was_full = state.ring.is_full();
        let done = state.ring.drain(to)?;
        let woken = was_full && !state.ring.is_full();
        drop(state);
        if woken {
            self.pipe.queue.wake_for(WRITABLE);
        }
        Ok(done)
    }

    fn write(&self, open: &OpenFile, _offset: u64, from: &mut Reader<'_>) -> Result<usize> {
        if from.remaining() == 0 {
            return Ok(0);
        }
        let mut state = self.pipe.state.lock();
        if state.readers == 0 {
            drop(state);
            return Err(super::broken_pipe());
        }
        let filled = state.ring.fill(from, open.flags() & O_DIRECT != 0);
        drop(state);
        if filled.bytes > 0 {
            self.pipe.queue.wake_for(READABLE);
            return Ok(filled.bytes);
        }
        Err(filled.error.unwrap_or(Errno::EAGAIN))
    }

    fn poll(&self) -> PollEvents {
        let state = self.pipe.state.lock();
        let mut events = PollEvents::empty();
        if self.reads {
            if !state.ring.is_empty() {
                events |= PollEvents::IN | PollEvents::RDNORM;
            }
            if state.writers == 0 && *self.quiet_until.lock() != Some(state.writers_opened) {
                events |= PollEvents::HUP;
            }
        }
        if self.writes {
            if !state.ring.is_full() {
                events |= PollEvents::OUT | PollEvents::WRNORM;
            }
            if state.readers == 0 {
                events |= PollEvents::ERR;
            }
        }
        events
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.pipe.queue)
    }

    fn stat(&self) -> Result<Stat> {
        match &self.name {
            Some(entry) => entry.node.stat(),
            None => Ok(self.pipe.identity.stat()),
        }
    }

    fn set_mode(&self, mode: u32) -> Result<()> {
        self.pipe.identity.set_mode(mode)
    }

    fn ioctl(&self, _open: &OpenFile, request: u32, argument: u64) -> Result<usize> {
        match request {
            FIONREAD => {
                let bytes = self.pipe.state.lock().ring.bytes() as i32;
                user::write(argument, &bytes)?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn fcntl(&self, _open: &OpenFile, command: u32, argument: u64) -> Result<usize> {
        let mut state = self.pipe.state.lock();
        match command {
            F_GETPIPE_SZ => Ok(state.ring.capacity()),
            F_SETPIPE_SZ => {
                let bytes = u64::from(argument as u32);
                if bytes > MAX_SIZE {
                    return Err(Errno::EINVAL);
                }
                let slots = bytes.max(1).div_ceil(PAGE).next_power_of_two() as usize;
                let grows = slots > state.ring.capacity() / PAGE as usize;
                state.ring.resize(slots)?;
                drop(state);
                if grows {
                    self.pipe.queue.wake_for(WRITABLE);
                }
                Ok(slots * PAGE as usize)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// `/proc/self/fd/N`, `/dev/stdin`: one more end of the same pipe. A fifo is opened by its name.
    fn reopen(&self, flags: u32) -> Result<Arc<OpenFile>> {
        let (reads, writes) = match flags & O_ACCMODE {
            O_RDONLY => (true, false),
            O_WRONLY => (false, true),
            O_RDWR => (true, true),
            _ => return Err(Errno::EINVAL),
        };
        Ok(OpenFile::new(Arc::new(End::new(&self.pipe, reads, writes, self.name.clone())), flags))
    }

    fn path(&self) -> Vec<u8> {
        match &self.name {
            Some(entry) => entry.display_path(),
            None => format!("pipe:[{}]", self.pipe.identity.inode).into_bytes(),
        }
    }
}
