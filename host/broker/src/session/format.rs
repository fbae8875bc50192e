//! The records of a session file.
use kasoku_abi::accel::image::{CreateImage, CreateSampler};
use kasoku_abi::accel::kernel::SetArgument;
use kasoku_abi::accel::memory::{CreateBuffer, CreateSubBuffer};
use kasoku_abi::accel::object::CreateQueue;
use kasoku_abi::accel::program::CreateProgram;
use kasoku_abi::accel::{Id, Range};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Where the records begin: behind the page with the header.
pub const RECORDS: u64 = 4096;
/// Contents begin at multiples of this.
pub const BULK_ALIGN: u64 = 4096;

// What a record is about. The order of kinds is the order of records: everything comes after what it needs.
pub const SESSION: u32 = 1;
/// A part of the session's memory.
pub const MEMORY: u32 = 2;
pub const CONTEXT: u32 = 3;
pub const QUEUE: u32 = 4;
pub const BUFFER: u32 = 5;
pub const SUB_BUFFER: u32 = 6;
pub const IMAGE: u32 = 7;
pub const SAMPLER: u32 = 8;
pub const PROGRAM: u32 = 9;
pub const KERNEL: u32 = 10;
pub const EVENT: u32 = 11;
/// An object whose creation failed.
pub const FAILED: u32 = 12;
/// A caller that waits for events.
pub const WAIT: u32 = 13;

/// The guest has released the object; others still need it.
pub const RELEASED: u32 = 1 << 0;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Record {
    pub kind: u32,
    /// `RELEASED`, or nothing.
    pub flags: u32,
    pub id: Id,
    /// Bytes that follow, without the padding to 8.
    pub len: u64,
}

/// `SESSION`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SessionBody {
    /// Descriptors taken.
    pub head: u64,
    /// Bytes of the session's memory.
    pub memory_len: u64,
}

/// `MEMORY`: `len` bytes at `offset` of the session's memory lie at `at` of the file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryBody {
    pub offset: u64,
    pub len: u64,
    pub at: u64,
}

/// `CONTEXT`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ContextBody {
    pub devices: u64,
}

/// `QUEUE`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct QueueBody {
    pub create: CreateQueue,
    /// Failure that the next `FINISH` reports.
    pub failure: i32,
    pub reserved: u32,
}

/// `BUFFER`; then mapped ranges.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BufferBody {
    pub create: CreateBuffer,
    /// 1 + where its bytes lie in the contents; 0 = they are its storage.
    pub contents: u64,
    pub maps: u64,
}

/// `SUB_BUFFER`; then mapped ranges.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SubBufferBody {
    pub create: CreateSubBuffer,
    pub maps: u64,
}

/// A mapped range: offset and length in the buffer.
pub type MapBody = Range;

/// `IMAGE`. Images that show others come behind those.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ImageBody {
    /// `initial` is not looked at.
    pub create: CreateImage,
    /// 1 + where its elements lie in the contents, packed; 0 = they are its parent's.
    pub contents: u64,
}

/// `SAMPLER`.
pub type SamplerBody = CreateSampler;

/// `PROGRAM`; then the text, and builds with log and binary, each part padded to 8.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ProgramBody {
    /// `text.offset` is not looked at.
    pub create: CreateProgram,
    /// Whether kernels can be made of it.
    pub loaded: u64,
    pub builds: u64,
}

/// One device's build of a program.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BuildBody {
    pub device: u32,
    /// `PHASE_*`.
    pub phase: u32,
    pub log_len: u64,
    /// Binary with its tag; 0 = there is none.
    pub binary_len: u64,
}

pub const PHASE_NONE: u32 = 0;
pub const PHASE_FAILED: u32 = 1;
pub const PHASE_DONE: u32 = 2;

/// `KERNEL`; then the name, and its arguments as they were set, each followed by a value that is not inline.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct KernelBody {
    pub program: Id,
    pub name_len: u64,
    pub arguments: u64,
    /// Arguments whose last setting failed, each a [`FailedArgumentBody`] at the end.
    pub failed: u64,
}

pub type ArgumentBody = SetArgument;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FailedArgumentBody {
    pub index: u32,
    pub status: i32,
}

/// `EVENT`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EventBody {
    /// 0 = complete, negative = failed; 1 = the guest will say.
    pub status: i32,
    /// 1 = `times` hold.
    pub has_times: u32,
    pub times: [u64; 5],
    /// Context of an event that the guest will complete.
    pub context: Id,
}

/// `FAILED`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FailedBody {
    pub status: i32,
    pub reserved: u32,
}

/// `WAIT`; then the events.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WaitBody {
    pub slot: u32,
    pub sequence: u32,
    pub events: u64,
}

/// Records under construction.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Adds a record of `parts`, each padded to 8 bytes.
    pub fn put(&mut self, kind: u32, flags: u32, id: Id, parts: &[&[u8]]) {
        let len = parts.iter().map(|part| part.len().next_multiple_of(8) as u64).sum();
        self.bytes.extend_from_slice(Record { kind, flags, id, len }.as_bytes());
        for part in parts {
            self.bytes.extend_from_slice(part);
            self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// What is left of some bytes; every read says when there is too little.
#[derive(Clone, Copy)]
pub struct Reader<'b>(&'b [u8]);

/// The bytes end in the middle of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short;

impl<'b> Reader<'b> {
    pub const fn new(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next structure.
    pub fn take<T: FromBytes + KnownLayout + Immutable>(&mut self) -> Result<T, Short> {
        const { assert!(size_of::<T>().is_multiple_of(8), "parts are padded to 8 bytes") };
        let (value, rest) = T::read_from_prefix(self.0).map_err(|_| Short)?;
        self.0 = rest;
        Ok(value)
    }

    /// The next `len` bytes and their padding.
    pub fn bytes(&mut self, len: u64) -> Result<&'b [u8], Short> {
        let len = usize::try_from(len).map_err(|_| Short)?;
        let padded = len.checked_next_multiple_of(8).ok_or(Short)?;
        let (part, rest) = self.0.split_at_checked(padded).ok_or(Short)?;
        self.0 = rest;
        Ok(&part[..len])
    }

    /// The next record and its parts.
    pub fn record(&mut self) -> Result<(Record, Self), Short> {
        let record: Record = self.take()?;
        Ok((record, Self(self.bytes(record.len)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in_and_every_truncation_shows() {
        let mut writer = Writer::default();
        writer.put(CONTEXT, 0, 7, &[ContextBody { devices: 1 }.as_bytes()]);
        writer.put(PROGRAM, RELEASED, 9, &[b"text", b"log of some length"]);
        let bytes = writer.into_bytes();
        let mut reader = Reader::new(&bytes);
        let (record, mut parts) = reader.record().unwrap();
        assert_eq!((record.kind, record.flags, record.id), (CONTEXT, 0, 7));
        assert_eq!(parts.take::<ContextBody>().unwrap().devices, 1);
        assert!(parts.is_empty() && parts.take::<ContextBody>().is_err());
        let (record, mut parts) = reader.record().unwrap();
        assert_eq!((record.kind, record.flags, record.id), (PROGRAM, RELEASED, 9));
        assert_eq!((parts.bytes(4), parts.bytes(18)), (Ok(&b"text"[..]), Ok(&b"log of some length"[..])));
        assert!(reader.is_empty());
        for len in 0..bytes.len() {
            let mut reader = Reader::new(&bytes[..len]);
            assert!(reader.record().and_then(|_| reader.record()).is_err(), "{len}");
        }
        assert_eq!(Reader::new(&bytes).bytes(u64::MAX), Err(Short));
    }
}
