//! Building descriptors.
use alloc::vec::Vec;

use kasoku_abi::accel::command::{BODY_LEN, Descriptor, FLAG_BLOCKING, FLAG_REPLY, INLINE_WAITS};
use kasoku_abi::accel::{Id, Range};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use crate::session::{Full, Session};

/// A command under construction, with the arena ranges that live until the broker has taken it.
#[derive(Debug)]
pub struct Command<'s> {
    session: &'s Session,
    pub(crate) descriptor: Descriptor,
    pub(crate) payload: Vec<Range>,
}

impl<'s> Command<'s> {
    pub fn new(session: &'s Session, operation: u32, target: Id) -> Self {
        let mut descriptor = Descriptor::new_zeroed();
        descriptor.operation = operation;
        descriptor.target = target;
        Self { session, descriptor, payload: Vec::new() }
    }

    /// Sets the operation's body.
    pub fn body<T: IntoBytes + Immutable>(mut self, body: &T) -> Self {
        const { assert!(size_of::<T>() <= BODY_LEN, "a body must fit into its descriptor") };
        self.descriptor.body[..size_of::<T>()].copy_from_slice(body.as_bytes());
        self
    }

    /// Asks for an event of that number.
    pub fn event(mut self, event: Id) -> Self {
        self.descriptor.event = event;
        self
    }

    /// Sets the events to wait for.
    pub fn waits(mut self, events: &[Id]) -> Result<Self, Full> {
        self.descriptor.wait_count = u32::try_from(events.len()).map_err(|_| Full)?;
        if events.len() <= INLINE_WAITS {
            self.descriptor.waits[..events.len()].copy_from_slice(events);
        } else {
            self.descriptor.waits[0] = self.attach(events.as_bytes())?.offset;
        }
        Ok(self)
    }

    /// Copies `bytes` into the arena, where they stay until the broker has taken the command.
    pub fn attach(&mut self, bytes: &[u8]) -> Result<Range, Full> {
        let range = self.reserve(bytes.len() as u64)?;
        // SAFETY: the range was just allocated for this length and nobody else writes it.
        unsafe { crate::mem::copy_data(self.session.address(range), bytes.as_ptr(), bytes.len()) };
        Ok(range)
    }

    /// As [`Command::attach`], for the caller to fill.
    pub fn reserve(&mut self, len: u64) -> Result<Range, Full> {
        if len == 0 {
            return Ok(Range::NONE);
        }
        let range = self.session.take(len, 8)?;
        self.payload.push(range);
        Ok(range)
    }

    /// Posts the command: no answer.
    pub fn post(self) -> Result<(), crate::Gone> {
        let session = self.session;
        session.submit(self).map(|_| ())
    }

    /// Submits the command, which will be answered.
    pub fn start(self) -> Result<crate::Call<'s>, crate::Gone> {
        let session = self.session;
        session.start(self)
    }

    /// Submits the command and waits for its answer.
    pub fn call(self) -> Result<crate::Answer, crate::Gone> {
        self.start()?.wait()
    }

    /// Asks for the answer of an enqueued command only when the device has completed it.
    pub fn blocking(mut self) -> Self {
        self.descriptor.flags |= FLAG_BLOCKING | FLAG_REPLY;
        self
    }
}

impl Drop for Command<'_> {
    fn drop(&mut self) {
        for range in self.payload.drain(..) {
            self.session.give(range);
        }
    }
}
