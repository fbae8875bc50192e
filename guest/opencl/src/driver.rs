//! One accelerator session as an OpenCL implementation: the session and everything that is constant about it.
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicPtr, Ordering};

use kasoku_abi::accel::command::DESCRIBE;
use kasoku_abi::accel::{Id, NO_ID, Range, info};
use kasoku_accel_client::transport::{OpenError, Transport};
use kasoku_accel_client::{Command, Session};
use zerocopy::FromBytes;

use crate::backlog::Backlog;
use crate::error::{Result, full, gone, status};
use crate::handle::Raw;
use crate::svm::Blocks;

/// Room for a description at the first try.
const DESCRIPTION_LEN: u64 = 64 << 10;
/// A description longer than this is nonsense.
const DESCRIPTION_MAX: u64 = 16 << 20;

/// Parameters of an object and its parts, by kind (`info`), index and parameter.
#[derive(Debug, Default)]
pub struct Records(BTreeMap<(u32, u32, u32), Vec<u8>>);

impl Records {
    /// Parses a description; stops at the first record that does not fit.
    pub fn parse(mut bytes: &[u8]) -> Self {
        let mut records = BTreeMap::new();
        while let Ok((record, rest)) = info::Record::read_from_prefix(bytes) {
            let len = record.len as usize;
            let Some(value) = rest.get(..len) else { break };
            records.insert((record.kind, record.index, record.parameter), Vec::from(value));
            bytes = rest.get(len.next_multiple_of(8)..).unwrap_or(&[]);
        }
        Self(records)
    }

    /// The value of a parameter.
    pub fn bytes(&self, kind: u32, index: u32, parameter: u32) -> Option<&[u8]> {
        self.0.get(&(kind, index, parameter)).map(Vec::as_slice)
    }

    /// The value of a parameter that is one integer or structure.
    pub fn value<T: FromBytes>(&self, kind: u32, index: u32, parameter: u32) -> Option<T> {
        self.bytes(kind, index, parameter).and_then(|bytes| T::read_from_bytes(bytes).ok())
    }

    /// The value of a text parameter, without its terminating zero.
    pub fn text(&self, kind: u32, index: u32, parameter: u32) -> Option<&[u8]> {
        self.bytes(kind, index, parameter).map(|bytes| bytes.strip_suffix(b"\0").unwrap_or(bytes))
    }

    /// Number of devices described.
    pub fn devices(&self) -> u32 {
        let last = self.0.range((info::DEVICE, 0, 0)..=(info::DEVICE, u32::MAX, u32::MAX)).next_back();
        last.map_or(0, |(&(_, index, _), _)| index + 1)
    }
}

/// The session behind a platform.
#[derive(Debug)]
pub struct Driver {
    pub session: Session,
    pub records: Records,
    /// Buffers with storage are their storage (`info::DEVICE_DIRECT_BUFFERS`), on every device.
    pub direct: bool,
    /// Kernels can use this process's addresses of the arena (`info::DEVICE_SHARED_ADDRESSES`), on every device.
    pub shares_addresses: bool,
    pub backlog: Backlog,
    /// Shared virtual memory.
    pub blocks: Blocks,
    platform: AtomicPtr<core::ffi::c_void>,
}

impl Driver {
    /// Takes the session over `transport` into use. The driver is never dropped: objects of any thread may refer to it.
    pub fn start(transport: Box<dyn Transport>) -> core::result::Result<&'static Self, OpenError> {
        let session = Session::new(transport)?;
        let records = describe(&session, NO_ID).map_err(|_| OpenError::Gone)?;
        let each = |parameter| (0..records.devices()).map(move |index| (index, parameter));
        let value = |(index, parameter)| records.value::<u32>(info::DEVICE, index, parameter).unwrap_or(0);
        let direct = each(info::DEVICE_DIRECT_BUFFERS).all(|key| value(key) == 1);
        let shared = each(info::DEVICE_SHARED_ADDRESSES).all(|key| value(key) == 1);
        let shares_addresses = direct && shared && session.is_at_shared_addresses();
        if let Some(poll_ns) = each(info::DEVICE_POLL_NS).map(value).min() {
            session.set_poll_ns(poll_ns);
        }
        if records.devices() == 0 {
            return Err(OpenError::Unusable);
        }
        Ok(Box::leak(Box::new(Self {
            session,
            records,
            direct,
            shares_addresses,
            backlog: Backlog::new(),
            blocks: Blocks::new(),
            platform: AtomicPtr::default(),
        })))
    }

    /// Handle of the driver's platform.
    pub fn platform(&self) -> Raw {
        self.platform.load(Ordering::Relaxed)
    }

    pub fn set_platform(&self, raw: Raw) {
        self.platform.store(raw, Ordering::Relaxed);
    }

    /// A command of this session.
    pub fn command(&self, operation: u32, target: Id) -> Command<'_> {
        Command::new(&self.session, operation, target)
    }

    /// Everything constant about `target`.
    pub fn describe(&self, target: Id) -> Result<Records> {
        describe(&self.session, target)
    }

    /// Takes `len` bytes of the arena; where it is full, waits for earlier commands that hold parts of it.
    pub fn take(&self, len: u64, align: u64) -> Result<Range> {
        loop {
            match self.session.take(len, align) {
                Ok(range) => return Ok(range),
                Err(error) if !self.backlog.relieve(self)? => return Err(full(error)),
                Err(_) => {}
            }
        }
    }

    /// Takes storage for a buffer; nothing when that would leave too little for data on its way.
    pub fn take_storage(&self, len: u64, align: u64) -> Option<Range> {
        let room = |session: &Session| session.arena_free() >= len.saturating_add(session.arena_len() / 8);
        // Released buffers may only be waiting for somebody to look whether their last commands have ended.
        while !room(&self.session) {
            if !matches!(self.backlog.relieve(self), Ok(true)) {
                return None;
            }
        }
        self.take(len, align).ok()
    }

    /// Tells the broker that the guest holds `id` no longer.
    pub fn release(&self, id: Id) {
        // A broker that has ended holds nothing either.
        let _ = self.command(kasoku_abi::accel::command::RELEASE, id).post();
    }
}

/// A command that answers into an arena range: asks again with more room where the first did not suffice.
pub fn ask<'s>(session: &'s Session, first_len: u64, build: impl Fn(Range) -> Result<Command<'s>>) -> Result<Vec<u8>> {
    let mut len = first_len;
    loop {
        let range = session.take(len, 8).map_err(full)?;
        let answer = build(range).and_then(|command| command.call().map_err(gone));
        let bytes = answer.and_then(|answer| {
            status(answer.status)?;
            let written = answer.written.min(range.len) as usize;
            // SAFETY: the range is ours and the broker has finished with it; the copy is what is looked at.
            let bytes = unsafe { core::slice::from_raw_parts(session.address(range), written) }.to_vec();
            Ok((bytes, answer.len))
        });
        session.give(range);
        let (bytes, whole) = bytes?;
        if whole <= len || whole > DESCRIPTION_MAX.max(kasoku_abi::accel::program::TEXT_MAX) {
            return Ok(bytes);
        }
        len = whole;
    }
}

fn describe(session: &Session, target: Id) -> Result<Records> {
    let build = |out| Ok(Command::new(session, DESCRIBE, target).body(&info::Describe { out }));
    Ok(Records::parse(&ask(session, DESCRIPTION_LEN, build)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn record(kind: u32, index: u32, parameter: u32, len: u32) -> Vec<u8> {
        info::Record { kind, index, parameter, len }.as_bytes().to_vec()
    }

    #[test]
    fn records_are_found_and_a_broken_tail_is_left_out() {
        let mut bytes = record(info::DEVICE, 1, 7, 4);
        bytes.extend(9u32.to_ne_bytes().iter().chain(&[0; 4]));
        bytes.extend(record(info::PLATFORM, 0, 8, 3));
        bytes.extend(b"ab\0\0\0\0\0\0");
        bytes.extend(record(info::DEVICE, 2, 7, 1000));
        let records = Records::parse(&bytes);
        assert_eq!(records.value::<u32>(info::DEVICE, 1, 7), Some(9));
        assert_eq!(records.text(info::PLATFORM, 0, 8), Some(&b"ab"[..]));
        assert_eq!(records.devices(), 2);
    }
}
