//! The memory shared with the guest. Requests are copied out of it once; replies are copied in.
use crate::Error;
use kasoku_abi::fs::{DATA, DATA_LEN, REPLY, Reply, Request, WINDOW_LEN};
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use zerocopy::IntoBytes;

pub struct Window {
    base: NonNull<u8>,
}

impl Window {
    /// Maps the parent's memory file, which nobody may shrink any more: a page cut off would kill this process.
    pub fn map(memory: BorrowedFd<'_>) -> Result<Self, Error> {
        let bad = |reason: &dyn std::fmt::Display| Error::Window(reason.to_string());
        let seals = fcntl_get_seals(memory).map_err(|e| bad(&e))?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(bad(&"it is not sealed against shrinking"));
        }
        if fstat(memory).map_err(|e| bad(&e))?.st_size < WINDOW_LEN as i64 {
            return Err(bad(&"it is too small"));
        }
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { mmap(ptr::null_mut(), WINDOW_LEN as usize, protection, MapFlags::SHARED, memory, 0) };
        let base = base.map_err(|e| bad(&e))?;
        Ok(Self { base: NonNull::new(base.cast()).ok_or_else(|| bad(&"it was mapped nowhere"))? })
    }

    pub fn request(&self) -> Request {
        let mut request = Request::default();
        self.copy_out(0, request.as_mut_bytes());
        request
    }

    /// The first `len` bytes of the data area; `len` is at most [`DATA_LEN`].
    pub fn data(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.copy_out(DATA, &mut bytes);
        bytes
    }

    pub fn set_data(&self, bytes: &[u8]) {
        assert!(bytes.len() as u64 <= DATA_LEN, "a reply is longer than the data area");
        self.copy_in(DATA, bytes);
    }

    pub fn set_reply(&self, reply: &Reply) {
        self.copy_in(REPLY, reply.as_bytes());
    }

    /// `pread` into the data area, without a copy of our own.
    pub fn read_file(&self, file: BorrowedFd<'_>, len: usize, offset: i64) -> Result<usize, Errno> {
        assert!(len as u64 <= DATA_LEN, "a read is longer than the data area");
        // SAFETY: the data area is DATA_LEN bytes long and lies inside the mapping; to the kernel it is plain memory.
        let result =
            unsafe { libc::pread(file.as_raw_fd(), self.base.as_ptr().add(DATA as usize).cast(), len, offset) };
        usize::try_from(result)
            .map_err(|_| Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)))
    }

    fn copy_out(&self, offset: u64, target: &mut [u8]) {
        assert!(offset + target.len() as u64 <= WINDOW_LEN, "outside the window");
        // SAFETY: in bounds by the line above. The guest may write meanwhile; the copy is what gets looked at.
        unsafe { self.base.as_ptr().add(offset as usize).copy_to_nonoverlapping(target.as_mut_ptr(), target.len()) };
    }

    fn copy_in(&self, offset: u64, source: &[u8]) {
        assert!(offset + source.len() as u64 <= WINDOW_LEN, "outside the window");
        // SAFETY: in bounds by the line above, and no reference into the window exists.
        unsafe { self.base.as_ptr().add(offset as usize).copy_from_nonoverlapping(source.as_ptr(), source.len()) };
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: this object owns the mapping.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), WINDOW_LEN as usize) };
    }
}
