//! Host mappings aligned to the guest's large pages.
use kasoku_abi::layout::{LARGE_PAGE, PAGE};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

#[derive(Debug, thiserror::Error)]
#[error("cannot map {len} bytes of {what}: {source}")]
pub struct MappingError {
    what: &'static str,
    len: u64,
    source: std::io::Error,
}

/// Host memory that backs a slot. Both its address and its length are multiples of [`LARGE_PAGE`]: only then can host and
/// guest use 2 MiB pages for it.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    reservation: NonNull<c_void>,
    reserved: usize,
}

// SAFETY: a `Mapping` owns its address range; nothing in it is bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: shared access happens by atomics (`CpuPage`) or by copies of plain bytes (`GuestSlice`).
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Private zeroed memory, taken from the host only where it is touched.
    pub fn anonymous(len: u64) -> Result<Self, MappingError> {
        let mapping = Self::reserve("memory", len, ProtFlags::READ | ProtFlags::WRITE)?;
        mapping.advise_large_pages();
        Ok(mapping)
    }

    /// The first `len` bytes of `file`, not writable from here either: the second of a layer's two protections.
    pub fn read_only_file(file: BorrowedFd<'_>, len: u64) -> Result<Self, MappingError> {
        Self::file("a read-only layer", file, 0, len, ProtFlags::READ, MapFlags::PRIVATE)
    }

    /// The first `len` bytes of a memory file that another process maps too.
    pub fn shared_file(file: BorrowedFd<'_>, len: u64) -> Result<Self, MappingError> {
        Self::file("a shared region", file, 0, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)
    }

    /// `len` bytes of a file that nobody changes any more, from `offset` on: what is written stays in this mapping.
    pub fn copy_on_write(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<Self, MappingError> {
        Self::file("a snapshot", file, offset, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    }

    fn file(
        what: &'static str,
        file: BorrowedFd<'_>,
        offset: u64,
        len: u64,
        protection: ProtFlags,
        flags: MapFlags,
    ) -> Result<Self, MappingError> {
        // What lies between the end of the file and that of the large page stays zero memory of our own: a guest that
        // looks there reads zeros, where pages past the end of a file would be an error that stops it.
        let mapping = Self::reserve(what, len, protection)?;
        let file_len = len.next_multiple_of(PAGE) as usize;
        // SAFETY: the range lies inside the reservation that `mapping` owns and that nobody has a reference to yet.
        let mapped =
            unsafe { mmap(mapping.base.as_ptr().cast(), file_len, protection, flags | MapFlags::FIXED, file, offset) };
        mapped.map_err(|errno| MappingError { what, len, source: errno.into() })?;
        mapping.advise_large_pages();
        Ok(mapping)
    }

    fn reserve(what: &'static str, len: u64, protection: ProtFlags) -> Result<Self, MappingError> {
        let failed = |source| MappingError { what, len, source };
        let large = LARGE_PAGE as usize;
        let rounded = usize::try_from(len)
            .ok()
            .and_then(|len| len.checked_next_multiple_of(large))
            .filter(|&len| len > 0 && len <= isize::MAX as usize - large)
            .ok_or_else(|| failed(std::io::ErrorKind::InvalidInput.into()))?;
        let reserved = rounded + large;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let reservation = unsafe {
            mmap_anonymous(ptr::null_mut(), reserved, ProtFlags::empty(), MapFlags::PRIVATE | MapFlags::NORESERVE)
        };
        let reservation = reservation.map_err(|errno| failed(errno.into()))?;
        let base = reservation.cast::<u8>().wrapping_add(reservation.cast::<u8>().align_offset(large));
        let mapping = Self {
            base: NonNull::new(base).ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))?,
            len: rounded,
            reservation: NonNull::new(reservation).ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))?,
            reserved,
        };
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        // SAFETY: the range lies inside the reservation made above, which nobody else knows.
        unsafe { mmap_anonymous(base.cast(), rounded, protection, flags) }.map_err(|errno| failed(errno.into()))?;
        Ok(mapping)
    }

    /// Asks for large pages. A kernel without them still gives a correct mapping, only a slower one.
    fn advise_large_pages(&self) {
        // SAFETY: advice about a range that this mapping owns; contents are not affected.
        let _ = unsafe { madvise(self.base.as_ptr().cast(), self.len, Advice::LinuxHugepage) };
    }

    /// Gives large pages up for the first `len` bytes, of which little will be used.
    pub fn advise_small_pages(&self, len: u64) {
        assert!(len <= self.len(), "{len} bytes are more than there are");
        // SAFETY: advice about a part of the range that this mapping owns; contents are not affected.
        let _ = unsafe { madvise(self.base.as_ptr().cast(), len as usize, Advice::LinuxNoHugepage) };
    }

    /// Drops what was written to a part of a copy-on-write mapping: it reads as its file again.
    pub fn forget_changes(&self, offset: u64, len: u64) -> Result<(), MappingError> {
        assert!(offset + len <= self.len(), "{len} bytes at {offset:#x} are more than there are");
        // SAFETY: a part of the range that this mapping owns; there are no references to guest memory, only copies of it.
        let result =
            unsafe { madvise(self.base.add(offset as usize).as_ptr().cast(), len as usize, Advice::LinuxDontNeed) };
        result.map_err(|errno| MappingError { what: "a snapshot again", len, source: errno.into() })
    }

    /// Copies a part of another mapping of the same length to the same place of this one.
    pub fn copy_from(&self, other: &Self, offset: u64, len: u64) {
        assert!(
            self.len == other.len && offset + len <= self.len(),
            "{len} bytes at {offset:#x} are more than there are"
        );
        let (from, to) =
            (other.base.as_ptr().wrapping_add(offset as usize), self.base.as_ptr().wrapping_add(offset as usize));
        // SAFETY: both ranges lie inside their mappings, which do not overlap; there are no references to either, and what a
        // guest changes meanwhile is bytes.
        unsafe { from.copy_to_nonoverlapping(to, len as usize) };
    }

    /// Start of the mapping, as KVM wants it for a slot.
    pub fn host_address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Stores a word at `offset`, in one piece, into memory that others may access at the same time. The mapping is
    /// writable, the offset a multiple of 4 inside it: both are the caller's constants, never a guest's choice.
    pub fn store_word(&self, offset: u64, value: u32) {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.len(), "no word at {offset:#x}");
        // SAFETY: in bounds and aligned by the line above; other processes access the word by atomics too.
        unsafe { AtomicU32::from_ptr(self.base.add(offset as usize).cast().as_ptr()) }.store(value, SeqCst);
    }

    /// Bytes, a multiple of [`LARGE_PAGE`].
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this object owns the whole reservation; slices of it borrow the object and are gone.
        let _ = unsafe { munmap(self.reservation.as_ptr(), self.reserved) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn is_aligned_and_rounded_to_large_pages() {
        let mapping = Mapping::anonymous(LARGE_PAGE + 1).unwrap();
        assert_eq!(mapping.host_address() % LARGE_PAGE, 0);
        assert_eq!(mapping.len(), 2 * LARGE_PAGE);
    }

    #[test]
    fn refuses_lengths_that_no_address_space_holds() {
        assert!(Mapping::anonymous(0).is_err());
        assert!(Mapping::anonymous(u64::MAX).is_err());
        assert!(Mapping::anonymous(1 << 62).is_err());
    }

    #[test]
    fn reads_zero_past_the_end_of_a_file() {
        let fd = rustix::fs::memfd_create("layer", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut file = std::fs::File::from(fd);
        file.write_all(&[7; 5000]).unwrap();
        let mapping = Mapping::read_only_file(file.as_fd(), 5000).unwrap();
        // SAFETY: both offsets lie inside the mapping, which is readable.
        let (inside, outside) = unsafe { (*mapping.base().as_ptr().add(4999), *mapping.base().as_ptr().add(8192)) };
        assert_eq!((inside, outside), (7, 0));
    }
}
