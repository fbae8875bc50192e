//! Host mappings aligned to the guest's large pages.
use kasoku_abi::layout::{LARGE_PAGE, PAGE};
use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags, madvise, mmap, mmap_anonymous, mremap_fixed, munmap};
use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd};
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

    /// The first `len` bytes of `file`, not writable from here either: the second of a layer's (or a blob's) two
    /// protections.
    pub fn read_only_file(file: BorrowedFd<'_>, len: u64) -> Result<Self, MappingError> {
        Self::file("a read-only file", file, 0, len, ProtFlags::READ, MapFlags::PRIVATE)
    }

    /// The first `len` bytes of a memory file that another process maps too.
    pub fn shared_file(file: BorrowedFd<'_>, len: u64) -> Result<Self, MappingError> {
        Self::file("a shared region", file, 0, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)
    }

    /// `len` bytes of a file that nobody changes any more, from `offset` on: what is written stays in this mapping.
    pub fn copy_on_write(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<Self, MappingError> {
        Self::file("a snapshot", file, offset, len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    }

    /// Replaces the large page at `at` of a copy-on-write mapping of `file` from `offset` on by a copy of its own: one
    /// fault and one read instead of hundreds of faults. The fault is saved where `spare` has a page left.
    pub fn copy_large_page(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        at: u64,
        spare: &mut SparePages,
    ) -> Result<(), MappingError> {
        let failed = |source| MappingError { what: "a snapshot's large page", len: LARGE_PAGE, source };
        assert!(at.is_multiple_of(LARGE_PAGE) && at + LARGE_PAGE <= self.len(), "no large page at {at:#x}");
        let page = self.base.as_ptr().wrapping_add(at as usize).cast();
        // SAFETY: the range lies inside this mapping, to which nobody holds a reference while it is borrowed mutably.
        unsafe { spare.put(page) }.map_err(|e| failed(e.into()))?;
        let mut done = 0;
        while done < LARGE_PAGE {
            let place = (offset + at + done) as libc::off_t;
            // SAFETY: the kernel writes at most as many bytes as are left of the page.
            let n = unsafe {
                libc::pread(
                    file.as_raw_fd(),
                    page.wrapping_byte_add(done as usize),
                    (LARGE_PAGE - done) as usize,
                    place,
                )
            };
            match u64::try_from(n) {
                Ok(0) => return Err(failed(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(n) => done += n,
                Err(_) => return Err(failed(std::io::Error::last_os_error())),
            }
        }
        Ok(())
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

    /// Gives all memory of a shared mapping's file back: whoever maps it reads zeroes.
    pub fn wipe(&self) -> Result<(), MappingError> {
        // SAFETY: the range is this mapping's; there are no references to what is shared, only copies and atomics.
        let result = unsafe { madvise(self.base.as_ptr().cast(), self.len, Advice::LinuxRemove) };
        result.map_err(|errno| MappingError { what: "a shared region anew", len: self.len(), source: errno.into() })
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

/// Large pages that were taken from the host ahead of their use: the host zeroes one for a tenth of a millisecond, and where it
/// has given free memory back, for several.
#[derive(Debug, Default)]
pub struct SparePages {
    pages: Option<Mapping>,
    used: u64,
}

impl SparePages {
    pub fn new(count: usize) -> Result<Self, MappingError> {
        let pages = Mapping::anonymous(count as u64 * LARGE_PAGE)?;
        // SAFETY: fills a range that this mapping owns with the zeroes that it would read anyway. A kernel before 5.14
        // cannot, and takes each page when it is used.
        let _ = unsafe { madvise(pages.base.as_ptr().cast(), pages.len, Advice::LinuxPopulateWrite) };
        Ok(Self { pages: Some(pages), used: 0 })
    }

    /// Maps a large page of zeroes at `target` in place of what is there: a spare one, or a new one.
    ///
    /// # Safety
    /// The large page at `target` is the caller's, and nobody has references to it.
    unsafe fn put(&mut self, target: *mut c_void) -> Result<(), rustix::io::Errno> {
        let large = LARGE_PAGE as usize;
        if let Some(pages) = self.pages.as_ref().filter(|pages| self.used < pages.len()) {
            let spare = pages.base.as_ptr().wrapping_add(self.used as usize).cast();
            self.used += LARGE_PAGE;
            // What moves leaves its place mapped: it stays this object's to unmap.
            let flags = MremapFlags::MAYMOVE | MremapFlags::DONTUNMAP;
            // SAFETY: the spare page is ours, unused; the target is the caller's to replace.
            if unsafe { mremap_fixed(spare, large, large, flags, target) }.is_ok() {
                return Ok(());
            }
        }
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::FIXED);
        // SAFETY: the target is the caller's to replace.
        unsafe { mmap_anonymous(target, large, protection, flags) }?;
        // SAFETY: advice about the range just mapped; contents are not affected.
        let _ = unsafe { madvise(target, large, Advice::LinuxHugepage) };
        Ok(())
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
    fn large_pages_are_copied_with_spare_ones_and_without() {
        let fd = rustix::fs::memfd_create("snapshot", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut file = std::fs::File::from(fd);
        for value in 0..4 {
            file.write_all(&vec![value; LARGE_PAGE as usize]).unwrap();
        }
        let mut mapping = Mapping::copy_on_write(file.as_fd(), LARGE_PAGE, 3 * LARGE_PAGE).unwrap();
        let mut spare = SparePages::new(1).unwrap();
        for page in [2, 0] {
            mapping.copy_large_page(file.as_fd(), LARGE_PAGE, page * LARGE_PAGE, &mut spare).unwrap();
        }
        drop(spare);
        file.set_len(LARGE_PAGE).unwrap();
        // SAFETY: inside the mapping; these pages are the mapping's own, the file is not asked for them any more.
        let read = |at: u64| unsafe { mapping.base().as_ptr().add(at as usize).read_volatile() };
        assert_eq!([0, LARGE_PAGE - 1, 2 * LARGE_PAGE, 3 * LARGE_PAGE - 1].map(read), [1, 1, 3, 3]);
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
