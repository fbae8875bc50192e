//! The session's shared memory, as the broker sees it: words that the guest changes at will.
//!
//! Invariant: nothing here trusts a value in the memory. Offsets come from the ABI's constants or through [`Memory::arena`],
//! which checks them; descriptors are copied once.
use kasoku_abi::accel::Range;
use kasoku_abi::accel::command::{DESCRIPTOR_LEN, Descriptor};
use kasoku_abi::accel::reply::{REPLY_LEN, Reply};
use kasoku_abi::accel::session::{self, Header};
use kasoku_abi::layout::{LARGE_PAGE, PAGE};
use kasoku_backend::HostBytes;
use rustix::fs::{SealFlags, SeekFrom};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use zerocopy::FromZeros;

/// Why a descriptor cannot be a session's memory.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("the session memory cannot be examined: {0}")]
    Examine(rustix::io::Errno),
    #[error("the session memory has {0} bytes: it needs a multiple of 2 MiB from 4 MiB to 64 GiB")]
    Size(u64),
    #[error(
        "the session memory is not sealed against shrinking and growing (memfd with F_SEAL_SHRINK and F_SEAL_GROW)"
    )]
    Unsealed,
    #[error("the session memory cannot be mapped: {0}")]
    Map(rustix::io::Errno),
}

/// A mapped session. It stays mapped until the process ends.
pub struct Memory {
    start: *mut u8,
    arena_len: u64,
    file: OwnedFd,
    /// Where the memory is mapped once more, so that addresses in it are the guest's.
    shared: OnceLock<u64>,
}

// SAFETY: an address and a length; all access is atomic or by raw copies that race only with the guest.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Checks and maps `memory`.
    pub fn map(memory: impl AsFd) -> Result<Self, MemoryError> {
        let len = rustix::fs::fstat(&memory).map_err(MemoryError::Examine)?.st_size as u64;
        if !(session::MEMORY_MIN..=session::MEMORY_MAX).contains(&len) || !len.is_multiple_of(LARGE_PAGE) {
            return Err(MemoryError::Size(len));
        }
        // Without the seals a guest's monitor could cut the file short and kill this process with SIGBUS.
        let wanted = SealFlags::SHRINK | SealFlags::GROW;
        let seals = rustix::fs::fcntl_get_seals(&memory).map_err(|_| MemoryError::Unsealed)?;
        if !seals.contains(wanted) {
            return Err(MemoryError::Unsealed);
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice; nothing else knows it.
        let start = unsafe {
            rustix::mm::mmap(
                core::ptr::null_mut(),
                len as usize,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &memory,
                0,
            )
        };
        let start = start.map_err(MemoryError::Map)?.cast::<u8>();
        let file = rustix::io::fcntl_dupfd_cloexec(&memory, 0).map_err(MemoryError::Map)?;
        Ok(Self { start, arena_len: len - session::ARENA, file, shared: OnceLock::new() })
    }

    /// The checked bytes of an arena range; `None` when it is not inside.
    pub fn arena(&self, range: Range) -> Option<HostBytes> {
        let end = range.offset.checked_add(range.len)?;
        if end > self.arena_len {
            return None;
        }
        // SAFETY: inside the mapping, which stays until the process ends; no Rust reference to the arena is ever made.
        Some(unsafe { HostBytes::new(self.at(session::ARENA + range.offset), range.len as usize) })
    }

    /// Maps the memory once more where the guest has it, which is the same place for ever: whether it lies at `start` now. A
    /// guest that names a place outside those for sessions, or a second one, gets nothing.
    pub fn share_addresses(&self, start: u64) -> bool {
        if let Some(known) = self.shared.get() {
            return *known == start;
        }
        let inside = start.checked_add(self.len()).is_some_and(|end| end <= session::SHARED_END)
            && start >= session::SHARED_START
            && start.is_multiple_of(LARGE_PAGE);
        if !inside {
            return false;
        }
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::FIXED_NOREPLACE);
        let wanted = start as *mut core::ffi::c_void;
        // SAFETY: a mapping that replaces nothing; the memory is one that no Rust reference points to.
        let mapped = unsafe { rustix::mm::mmap(wanted, self.len() as usize, protection, flags, &self.file, 0) };
        match mapped {
            Ok(place) if place == wanted => self.shared.set(start).is_ok(),
            // A kernel that takes the place for a hint.
            Ok(place) => {
                // SAFETY: the mapping that was just made, which nobody knows.
                let _ = unsafe { rustix::mm::munmap(place, self.len() as usize) };
                false
            }
            Err(_) => false,
        }
    }

    /// Bytes of the whole session.
    pub const fn len(&self) -> u64 {
        self.arena_len + session::ARENA
    }

    /// The bytes at a place of the session, header and ring included; `None` when it is not inside.
    pub fn bytes(&self, range: Range) -> Option<HostBytes> {
        let end = range.offset.checked_add(range.len)?;
        // SAFETY: inside the mapping, as in `arena`.
        (end <= self.len()).then(|| unsafe { HostBytes::new(self.at(range.offset), range.len as usize) })
    }

    /// Takes memory for a place of the session that is going to be written, if it is inside: a fault for each page would take
    /// longer than the writing. A kernel before 5.14 cannot, and takes each page when it is touched.
    pub fn populate(&self, place: Range) {
        let skip = place.offset % PAGE;
        let end = place.offset.checked_add(place.len).filter(|end| *end <= self.len());
        if let Some(end) = end {
            let start = self.at(place.offset - skip).cast();
            // SAFETY: whole pages inside the mapping; it is populated with what it would read anyway.
            let _ =
                unsafe { rustix::mm::madvise(start, (end - place.offset + skip) as usize, Advice::LinuxPopulateWrite) };
        }
    }

    /// The parts of the session that were ever written: all others read as zeros.
    pub fn used(&self) -> rustix::io::Result<Vec<Range>> {
        let mut ranges = Vec::new();
        let mut at = 0;
        while at < self.len() {
            let start = match rustix::fs::seek(&self.file, SeekFrom::Data(at)) {
                Ok(start) => start,
                Err(rustix::io::Errno::NXIO) => break,
                Err(error) => return Err(error),
            };
            at = rustix::fs::seek(&self.file, SeekFrom::Hole(start))?.min(self.len());
            ranges.push(Range { offset: start, len: at.saturating_sub(start) });
        }
        Ok(ranges)
    }

    /// Writes a new session's header; for the process that starts the session, before anybody else looks.
    pub fn write_header(&self, epoch: u64) {
        let header = Header {
            magic: session::MAGIC,
            version: session::VERSION,
            broker_state: session::STATE_STARTING,
            epoch,
            arena_len: self.arena_len,
            // All threads of the server begin asleep.
            broker_parked: 1,
            ..Header::new_zeroed()
        };
        // SAFETY: the first page of the mapping, aligned to it.
        unsafe { self.at(0).cast::<Header>().write_volatile(header) };
    }

    /// Whether a broker has served this memory before.
    pub fn has_header(&self) -> bool {
        self.word64(core::mem::offset_of!(Header, magic) as u64).load(Ordering::Relaxed) == session::MAGIC
    }

    pub fn set_epoch(&self, epoch: u64) {
        self.word64(core::mem::offset_of!(Header, epoch) as u64).store(epoch, Ordering::Release);
    }

    pub fn set_device_count(&self, count: u32) {
        self.word32(core::mem::offset_of!(Header, device_count) as u64).store(count, Ordering::Release);
    }

    pub fn set_death_signal(&self, signal: i32) {
        self.word32(core::mem::offset_of!(Header, death_signal) as u64).store(signal as u32, Ordering::Release);
    }

    pub fn broker_state(&self) -> &AtomicU32 {
        self.word32(session::OFFSET_BROKER_STATE)
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

    pub fn tail(&self) -> &AtomicU64 {
        self.word64(session::OFFSET_TAIL)
    }

    pub fn head(&self) -> &AtomicU64 {
        self.word64(session::OFFSET_HEAD)
    }

    /// One copy of the descriptor at a position of the ring.
    pub fn descriptor(&self, position: u64) -> Descriptor {
        let offset = session::RING + position % session::RING_SLOTS * DESCRIPTOR_LEN;
        let mut words = [0u64; DESCRIPTOR_LEN as usize / 8];
        let source = self.at(offset).cast::<u64>();
        for (index, word) in words.iter_mut().enumerate() {
            // SAFETY: an aligned word of a slot inside the mapping. Volatile: it is read once and never again.
            *word = unsafe { source.add(index).read_volatile() };
        }
        // The copy must be complete before the slot is given back.
        std::sync::atomic::fence(Ordering::Acquire);
        zerocopy::transmute!(words)
    }

    /// Publishes an answer; `slot` is below `REPLY_SLOTS`.
    pub fn reply(&self, slot: u32, reply: &Reply) {
        debug_assert!(slot < session::REPLY_SLOTS);
        let offset = session::REPLIES + u64::from(slot) * REPLY_LEN;
        let status = core::mem::offset_of!(Reply, status) as u64;
        self.word_i32(offset + status).store(reply.status, Ordering::Relaxed);
        for (field, value) in
            [(core::mem::offset_of!(Reply, len), reply.len), (core::mem::offset_of!(Reply, written), reply.written)]
        {
            self.word64(offset + field as u64).store(value, Ordering::Relaxed);
        }
        let values = offset + core::mem::offset_of!(Reply, values) as u64;
        for (index, value) in reply.values.iter().enumerate() {
            self.word64(values + 8 * index as u64).store(*value, Ordering::Relaxed);
        }
        let sequence = offset + core::mem::offset_of!(Reply, sequence) as u64;
        self.word32(sequence).store(reply.sequence, Ordering::Release);
    }

    fn at(&self, offset: u64) -> *mut u8 {
        self.start.wrapping_add(offset as usize)
    }

    fn word32(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: an aligned word of the header or a reply slot, inside the mapping for as long as `self` lives.
        unsafe { AtomicU32::from_ptr(self.at(offset).cast()) }
    }

    fn word_i32(&self, offset: u64) -> &AtomicI32 {
        // SAFETY: as above.
        unsafe { AtomicI32::from_ptr(self.at(offset).cast()) }
    }

    fn word64(&self, offset: u64) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.at(offset).cast()) }
    }
}
