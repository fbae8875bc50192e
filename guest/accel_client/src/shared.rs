//! The session's memory, seen from the guest: typed access to what the protocol shares.
//!
//! The broker is not trusted with the guest's memory safety: every value is read once, bounded, and copied.
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use kasoku_abi::accel::command::Descriptor;
use kasoku_abi::accel::{Range, reply, session};

use crate::transport::{OpenError, Transport};

/// Base address and arena length of a checked session.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    base: *mut u8,
    arena_len: u64,
}

// SAFETY: a pointer to memory that two processes share anyway; all access is atomic or governed by the protocol.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// A reply, copied out of its slot.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub status: i32,
    /// Bytes that the whole answer has.
    pub len: u64,
    /// Bytes written to the range that was given.
    pub written: u64,
    pub values: [u64; 5],
}

impl Shared {
    /// Checks the header of `transport`'s memory.
    pub fn new(transport: &dyn Transport) -> Result<Self, OpenError> {
        let (base, len) = transport.memory();
        if (len as u64) < session::MEMORY_MIN {
            return Err(OpenError::Unusable);
        }
        // SAFETY: the mapping is at least MEMORY_MIN long and page aligned; the header is a structure of integers.
        let header = unsafe { base.cast::<session::Header>().read_volatile() };
        let arena_len = header.arena_len;
        if header.magic != session::MAGIC
            || header.version != session::VERSION
            || arena_len > len as u64 - session::ARENA
        {
            return Err(OpenError::Unusable);
        }
        Ok(Self { base, arena_len })
    }

    /// Whether the memory lies where a device may have it at the same addresses.
    pub fn is_at_shared_addresses(&self) -> bool {
        let start = self.base as u64;
        (session::SHARED_START..session::SHARED_END - session::ARENA - self.arena_len).contains(&start)
    }

    pub fn arena_len(&self) -> u64 {
        self.arena_len
    }

    fn word32(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: callers pass offsets of aligned words inside the header or the reply slots, all below MEMORY_MIN.
        unsafe { AtomicU32::from_ptr(self.base.add(offset as usize).cast()) }
    }

    fn word64(&self, offset: u64) -> &AtomicU64 {
        // SAFETY: as in `word32`.
        unsafe { AtomicU64::from_ptr(self.base.add(offset as usize).cast()) }
    }

    pub fn broker_state(&self) -> u32 {
        self.word32(session::OFFSET_BROKER_STATE).load(Ordering::SeqCst)
    }

    pub fn head(&self) -> u64 {
        self.word64(session::OFFSET_HEAD).load(Ordering::SeqCst)
    }

    /// Number of descriptors that an earlier user of the session published.
    pub fn tail(&self) -> u64 {
        self.word64(session::OFFSET_TAIL).load(Ordering::Relaxed)
    }

    pub fn broker_parked(&self) -> &AtomicU32 {
        self.word32(session::OFFSET_BROKER_PARKED)
    }

    pub fn guest_parked(&self) -> &AtomicU32 {
        self.word32(session::OFFSET_GUEST_PARKED)
    }

    pub fn space_wanted(&self) -> &AtomicU32 {
        self.word32(session::OFFSET_SPACE_WANTED)
    }

    /// Writes descriptor number `tail` and publishes it. The caller holds the ring and knows that there is room.
    pub fn publish(&self, tail: u64, descriptor: &Descriptor) {
        let slot = session::RING + (tail % session::RING_SLOTS) * size_of::<Descriptor>() as u64;
        // SAFETY: the slot lies in the ring; the broker does not read it before `tail` moves.
        unsafe { self.base.add(slot as usize).cast::<Descriptor>().write(*descriptor) };
        self.word64(session::OFFSET_TAIL).store(tail + 1, Ordering::Release);
    }

    /// Present sequence of reply slot `slot`.
    pub fn reply_sequence(&self, slot: u32) -> u32 {
        self.word32(session::REPLIES + u64::from(slot) * reply::REPLY_LEN).load(Ordering::SeqCst)
    }

    /// The answer in `slot`, whose sequence the caller has seen.
    pub fn answer(&self, slot: u32) -> Answer {
        let offset = session::REPLIES + u64::from(slot) * reply::REPLY_LEN;
        // SAFETY: the slot lies before the ring and is a structure of integers.
        let reply = unsafe { self.base.add(offset as usize).cast::<reply::Reply>().read_volatile() };
        Answer { status: reply.status, len: reply.len, written: reply.written, values: reply.values }
    }

    /// Address of `range`.
    ///
    /// # Panics
    /// When the range does not lie in the arena: ranges come from the arena's own allocator.
    pub fn arena(&self, range: Range) -> *mut u8 {
        let end = range.offset.checked_add(range.len);
        assert!(end.is_some_and(|end| end <= self.arena_len), "a range outside the arena");
        // SAFETY: inside the mapping, as just checked and as `new` checked the arena.
        unsafe { self.base.add((session::ARENA + range.offset) as usize) }
    }

    /// The arena range of `len` bytes at `address`, if it lies in the arena.
    pub fn range_of(&self, address: *const u8, len: u64) -> Option<Range> {
        let arena = self.base as u64 + session::ARENA;
        let offset = (address as u64).checked_sub(arena)?;
        (offset.checked_add(len)? <= self.arena_len).then_some(Range { offset, len })
    }
}
