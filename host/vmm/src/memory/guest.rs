//! The guest's RAM, behind checked accesses.
use super::{CpuPage, Mapping, MappingError, SparePages};
use kasoku_abi::Gpa;
use kasoku_abi::layout::{CPU_AREA, CPU_AREA_STRIDE, CPU_PAGE, LIBOS_IMAGE, MAX_CPUS, PAGE};
use rustix::io::Errno;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A guest named memory that it does not have: -EFAULT to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("guest-physical range {start:#x}+{len:#x} is not in RAM")]
pub struct BadAddress {
    pub start: u64,
    pub len: u64,
}

/// RAM, from guest-physical 0.
#[derive(Debug)]
pub struct GuestMemory {
    ram: Arc<Mapping>,
}

/// A checked range of guest RAM. The guest may write it at any moment, so there is no way to a reference: bytes are
/// copied out, once, and the copy is what gets looked at.
#[derive(Clone, Copy, Debug)]
pub struct GuestSlice<'a> {
    base: NonNull<u8>,
    len: usize,
    memory: PhantomData<&'a GuestMemory>,
}

impl GuestMemory {
    /// RAM of `len` bytes, rounded up to whole large pages.
    pub fn new(len: u64) -> Result<Self, MappingError> {
        let ram = Mapping::anonymous(len)?;
        // Descriptors and page tables: a few pages, and KVM maps a range in small pages that has page tables in it.
        ram.advise_small_pages(LIBOS_IMAGE.min(ram.len()));
        Ok(Self { ram: Arc::new(ram) })
    }

    /// The RAM of a saved guest: `len` bytes of the file from `offset` on. Whatever this guest writes stays its own. The
    /// large pages `hot`, which lie in it, are copied now, into large pages of the host.
    pub fn copy_on_write(
        file: BorrowedFd<'_>,
        offset: u64,
        len: u64,
        hot: impl Iterator<Item = u64>,
        spare: &mut SparePages,
    ) -> Result<Self, MappingError> {
        let mut ram = Mapping::copy_on_write(file, offset, len)?;
        for at in hot {
            ram.copy_large_page(file, offset, at, spare)?;
        }
        Ok(Self { ram: Arc::new(ram) })
    }

    pub fn ram(&self) -> &Arc<Mapping> {
        &self.ram
    }

    /// The only way from a guest-physical range to host memory.
    pub fn slice(&self, start: Gpa, len: u64) -> Result<GuestSlice<'_>, BadAddress> {
        let bad = BadAddress { start: start.0, len };
        let end = start.0.checked_add(len).ok_or(bad)?;
        // Page 0 is never in use: an address in it is a mistake of the guest.
        if start.0 < PAGE || end > self.ram.len() {
            return Err(bad);
        }
        // SAFETY: start <= end <= ram.len(), so the pointer stays inside the mapping (or at its end, for an empty range).
        let base = unsafe { self.ram.base().add(start.0 as usize) };
        Ok(GuestSlice { base, len: len as usize, memory: PhantomData })
    }

    /// A copy of the structure at `start`.
    pub fn read<T: FromBytes + IntoBytes>(&self, start: Gpa) -> Result<T, BadAddress> {
        let mut value = T::new_zeroed();
        self.slice(start, size_of::<T>() as u64)?.copy_to(value.as_mut_bytes());
        Ok(value)
    }

    pub fn write<T: IntoBytes + Immutable + ?Sized>(&self, start: Gpa, value: &T) -> Result<(), BadAddress> {
        let bytes = value.as_bytes();
        self.slice(start, bytes.len() as u64)?.copy_from(bytes);
        Ok(())
    }

    /// The page that vCPU `cpu` shares with the VMM. The number comes from the VMM, never from the guest.
    pub fn cpu_page(&self, cpu: usize) -> CpuPage<'_> {
        assert!((cpu as u64) < MAX_CPUS, "vCPU {cpu} does not exist");
        let area = Gpa(CPU_AREA + cpu as u64 * CPU_AREA_STRIDE + CPU_PAGE);
        let slice = self.slice(area, PAGE).expect("guest RAM is never smaller than one large page");
        CpuPage::new(slice.base, PhantomData)
    }
}

impl<'a> GuestSlice<'a> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first `len` bytes.
    pub fn truncate(self, len: usize) -> Self {
        Self { len: len.min(self.len), ..self }
    }

    /// Copies as many bytes as both sides have.
    pub fn copy_to(&self, target: &mut [u8]) {
        let len = self.len.min(target.len());
        // SAFETY: the source is inside guest RAM, which lives as long as 'a; the target is ours. The guest may change the
        // source meanwhile: any mixture of bytes is acceptable, because the copy is validated and not the source.
        unsafe { self.base.as_ptr().copy_to_nonoverlapping(target.as_mut_ptr(), len) };
    }

    /// Copies as many bytes as both sides have.
    pub fn copy_from(&self, source: &[u8]) {
        let len = self.len.min(source.len());
        // SAFETY: the target is inside guest RAM, which lives as long as 'a and to which the VMM holds no references.
        unsafe { self.base.as_ptr().copy_from_nonoverlapping(source.as_ptr(), len) };
    }

    /// Whether all bytes are zero.
    pub fn is_zero(&self) -> bool {
        // SAFETY: as in `copy_to`; nothing but the answer is made of the bytes, and any answer is acceptable if they change.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }.iter().all(|byte| *byte == 0)
    }

    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.copy_to(&mut bytes);
        bytes
    }

    /// `read(fd)` straight into guest memory: one copy, made by the kernel.
    pub fn read_from(&self, fd: BorrowedFd<'_>) -> Result<usize, Errno> {
        // SAFETY: the kernel writes at most `len` bytes into guest RAM, which lives as long as 'a.
        check(unsafe { libc::read(fd.as_raw_fd(), self.base.as_ptr().cast(), self.len) })
    }

    /// `pread(fd)` straight into guest memory.
    pub fn read_at(&self, fd: BorrowedFd<'_>, offset: u64) -> Result<usize, Errno> {
        // SAFETY: as in `read_from`.
        check(unsafe { libc::pread(fd.as_raw_fd(), self.base.as_ptr().cast(), self.len, offset as libc::off_t) })
    }

    /// `write(fd)` straight from guest memory.
    pub fn write_to(&self, fd: BorrowedFd<'_>) -> Result<usize, Errno> {
        // SAFETY: the kernel reads at most `len` bytes of guest RAM, which lives as long as 'a.
        check(unsafe { libc::write(fd.as_raw_fd(), self.base.as_ptr().cast(), self.len) })
    }

    /// `pwrite(fd)` straight from guest memory.
    pub fn write_at(&self, fd: BorrowedFd<'_>, offset: u64) -> Result<usize, Errno> {
        // SAFETY: as in `write_to`.
        check(unsafe { libc::pwrite(fd.as_raw_fd(), self.base.as_ptr().cast(), self.len, offset as libc::off_t) })
    }

    /// `recv(fd)` that never blocks.
    pub fn receive_from(&self, fd: BorrowedFd<'_>) -> Result<usize, Errno> {
        // SAFETY: as in `read_from`.
        check(unsafe { libc::recv(fd.as_raw_fd(), self.base.as_ptr().cast(), self.len, libc::MSG_DONTWAIT) })
    }

    /// `send(fd)` that never blocks and raises no signal.
    pub fn send_to(&self, fd: BorrowedFd<'_>) -> Result<usize, Errno> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: as in `write_to`.
        check(unsafe { libc::send(fd.as_raw_fd(), self.base.as_ptr().cast(), self.len, flags) })
    }
}

fn check(result: libc::ssize_t) -> Result<usize, Errno> {
    usize::try_from(result)
        .map_err(|_| Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kasoku_abi::layout::LARGE_PAGE;

    #[test]
    fn accepts_exactly_what_lies_in_ram() {
        let memory = GuestMemory::new(LARGE_PAGE).unwrap();
        assert_eq!(memory.slice(Gpa(PAGE), LARGE_PAGE - PAGE).unwrap().len() as u64, LARGE_PAGE - PAGE);
        assert!(memory.slice(Gpa(LARGE_PAGE - 1), 1).is_ok());
        assert!(memory.slice(Gpa(LARGE_PAGE), 0).is_ok());
        for (start, len) in [
            (0, 1),
            (PAGE - 1, 1),
            (LARGE_PAGE, 1),
            (LARGE_PAGE - 1, 2),
            (u64::MAX, 1),
            (u64::MAX, 0),
            (PAGE, u64::MAX),
            (1 << 63, 1 << 63),
            (kasoku_abi::layout::LAYERS, 8),
            (kasoku_abi::layout::REGIONS, 8),
        ] {
            assert_eq!(memory.slice(Gpa(start), len).unwrap_err(), BadAddress { start, len });
        }
    }

    #[test]
    fn copies_structures() {
        let memory = GuestMemory::new(LARGE_PAGE).unwrap();
        memory.write(Gpa(0x2000), &[1u64, 2, 3]).unwrap();
        assert_eq!(memory.read::<[u64; 2]>(Gpa(0x2008)).unwrap(), [2, 3]);
        assert!(memory.read::<[u64; 2]>(Gpa(LARGE_PAGE - 8)).is_err());
        assert!(memory.write(Gpa(LARGE_PAGE - 8), &[0u64; 2]).is_err());
    }
}
