//! Memory of programs, as the library OS reaches it.
//!
//! Program and library OS share the address space, so a copy is a copy: an address that is not mapped (or not writable)
//! faults inside the copy routine, the fault handler either brings the page in or sends the routine to its exit, and the
//! caller gets EFAULT. Only addresses of the library OS's own part are refused by a check beforehand.
use crate::errno::{Errno, Result};
use kasoku_abi::layout::{LIBOS_BASE, LIBOS_END, USER_END};

/// Whether the range belongs to the program's part of the address space (whether it is mapped shows when it is used).
pub fn is_user_range(address: u64, len: usize) -> bool {
    let Some(end) = address.checked_add(len as u64) else { return false };
    end <= USER_END && (end <= LIBOS_BASE || address >= LIBOS_END)
}

/// Copies from a program's memory; EFAULT when part of it is not readable (a part may have been copied).
pub fn copy_in(to: &mut [u8], address: u64) -> Result<()> {
    if to.is_empty() {
        return Ok(());
    }
    if !is_user_range(address, to.len()) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the destination is ours; a fault on the source ends the copy early, by the fault handler.
    let left = unsafe { crate::arch::copy::copy_catching(to.as_mut_ptr(), address as *const u8, to.len()) };
    if left == 0 { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Copies to a program's memory; EFAULT when part of it is not writable.
pub fn copy_out(address: u64, from: &[u8]) -> Result<()> {
    if from.is_empty() {
        return Ok(());
    }
    if !is_user_range(address, from.len()) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the destination is the program's, never ours (checked); a fault ends the copy early.
    let left = unsafe { crate::arch::copy::copy_catching(address as *mut u8, from.as_ptr(), from.len()) };
    if left == 0 { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Copies out from raw memory of ours that programs may be writing to at the same time (a mapped page).
///
/// # Safety
/// `from` is valid for reads of `len` bytes.
pub unsafe fn copy_out_raw(address: u64, from: *const u8, len: usize) -> Result<()> {
    if len == 0 {
        return Ok(());
    }
    if !is_user_range(address, len) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: source by contract; destination as in `copy_out`.
    let left = unsafe { crate::arch::copy::copy_catching(address as *mut u8, from, len) };
    if left == 0 { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Copies in to raw memory of ours that programs may see at the same time (a mapped page).
///
/// # Safety
/// `to` is valid for writes of `len` bytes.
pub unsafe fn copy_in_raw(to: *mut u8, address: u64, len: usize) -> Result<()> {
    if len == 0 {
        return Ok(());
    }
    if !is_user_range(address, len) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: destination by contract; source as in `copy_in`.
    let left = unsafe { crate::arch::copy::copy_catching(to, address as *const u8, len) };
    if left == 0 { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Reads one value of plain data.
pub fn read<T: zerocopy::FromBytes + zerocopy::IntoBytes>(address: u64) -> Result<T> {
    let mut value = T::new_zeroed();
    copy_in(value.as_mut_bytes(), address)?;
    Ok(value)
}

/// Writes one value of plain data.
pub fn write<T: zerocopy::IntoBytes + zerocopy::Immutable>(address: u64, value: &T) -> Result<()> {
    copy_out(address, value.as_bytes())
}

/// Reads a string that ends with NUL, at most `max` bytes without it: ENAMETOOLONG when it is longer.
pub fn read_c_string(address: u64, max: usize) -> Result<alloc::vec::Vec<u8>> {
    let mut bytes = alloc::vec::Vec::new();
    let mut at = address;
    loop {
        // Up to the end of the page: the string may end there and the next page may not exist.
        let mut part = [0u8; 256];
        let len = ((4096 - at % 4096) as usize).min(part.len());
        copy_in(&mut part[..len], at)?;
        if let Some(end) = part[..len].iter().position(|b| *b == 0) {
            bytes.extend_from_slice(&part[..end]);
            return if bytes.len() > max { Err(Errno::ENAMETOOLONG) } else { Ok(bytes) };
        }
        bytes.extend_from_slice(&part[..len]);
        if bytes.len() > max {
            return Err(Errno::ENAMETOOLONG);
        }
        at += len as u64;
    }
}

/// A part of a program's memory in an `iovec` list.
#[derive(Clone, Copy, Debug, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct IoVec {
    pub base: u64,
    pub len: u64,
}

/// Where `read` puts bytes: the program's buffers, one after the other. Keeps count.
#[derive(Clone)]
pub struct Writer<'a> {
    parts: &'a [IoVec],
    /// Bytes already used of the first part.
    used: u64,
    left: usize,
    /// The parts are memory of the library OS (`with_kernel_writer`).
    ours: bool,
}

/// Where `write` takes bytes from.
#[derive(Clone)]
pub struct Reader<'a> {
    parts: &'a [IoVec],
    used: u64,
    left: usize,
    ours: bool,
}

/// Gives `then` a [`Writer`] that fills memory of the library OS instead of a program's.
pub fn with_kernel_writer<T>(to: &mut [u8], then: impl FnOnce(&mut Writer<'_>) -> T) -> T {
    let parts = [IoVec { base: to.as_mut_ptr() as u64, len: to.len() as u64 }];
    then(&mut Writer { ours: true, ..Writer::new(&parts) })
}

/// Gives `then` a [`Reader`] that takes its bytes from memory of the library OS instead of a program's.
pub fn with_kernel_reader<T>(from: &[u8], then: impl FnOnce(&mut Reader<'_>) -> T) -> T {
    let parts = [IoVec { base: from.as_ptr() as u64, len: from.len() as u64 }];
    then(&mut Reader { ours: true, ..Reader::new(&parts) })
}

fn total(parts: &[IoVec]) -> usize {
    parts.iter().fold(0usize, |sum, part| sum.saturating_add(part.len as usize))
}

macro_rules! cursor {
    ($type:ident) => {
        impl<'a> $type<'a> {
            pub fn new(parts: &'a [IoVec]) -> Self {
                Self { parts, used: 0, left: total(parts), ours: false }
            }

            /// Bytes that still fit (or are still there).
            pub fn remaining(&self) -> usize {
                self.left
            }

            /// Cuts it to at most `len` more bytes.
            pub fn limit(&mut self, len: usize) {
                self.left = self.left.min(len);
            }

            /// The next contiguous piece of at most `max` bytes.
            fn piece(&mut self, max: usize) -> Option<(u64, usize)> {
                while let Some(part) = self.parts.first() {
                    let here = (part.len - self.used).min(max.min(self.left) as u64);
                    if part.len > self.used {
                        return (here > 0).then_some((part.base + self.used, here as usize));
                    }
                    self.parts = &self.parts[1..];
                    self.used = 0;
                }
                None
            }

            /// Passes over bytes without touching them.
            pub fn skip(&mut self, mut len: usize) {
                while let Some((_, here)) = self.piece(len) {
                    self.advance(here);
                    len -= here;
                }
            }

            fn advance(&mut self, len: usize) {
                self.used += len as u64;
                self.left -= len;
            }
        }
    };
}
cursor!(Writer);
cursor!(Reader);

impl Writer<'_> {
    /// Hands as many of `bytes` to the program as fit; EFAULT only when not even the first piece could be copied.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        // SAFETY: a slice is valid for reads.
        unsafe { self.write_raw(bytes.as_ptr(), bytes.len()) }
    }

    /// As [`Self::write`], from memory that programs may be writing to.
    ///
    /// # Safety
    /// `from` is valid for reads of `len` bytes.
    pub unsafe fn write_raw(&mut self, from: *const u8, len: usize) -> Result<usize> {
        let mut done = 0;
        while let Some((address, here)) = self.piece(len - done) {
            if self.ours {
                // SAFETY: the part is a slice that `with_kernel_writer` borrows mutably; the source is valid by contract.
                unsafe { core::ptr::copy(from.add(done), address as *mut u8, here) };
                self.advance(here);
                done += here;
                continue;
            }
            // SAFETY: within `len`, by contract.
            match unsafe { copy_out_raw(address, from.add(done), here) } {
                Ok(()) => self.advance(here),
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
            done += here;
        }
        Ok(done)
    }

    /// Zero bytes, as many of `len` as fit.
    pub fn write_zeroes(&mut self, len: usize) -> Result<usize> {
        static ZEROES: [u8; 4096] = [0; 4096];
        let mut done = 0;
        while done < len && self.left > 0 {
            match self.write(&ZEROES[..(len - done).min(ZEROES.len())]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }
}

impl Reader<'_> {
    /// Takes up to `bytes.len()` bytes from the program.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        // SAFETY: a slice is valid for writes.
        unsafe { self.read_raw(bytes.as_mut_ptr(), bytes.len()) }
    }

    /// As [`Self::read`], to memory that programs may see at the same time.
    ///
    /// # Safety
    /// `to` is valid for writes of `len` bytes.
    pub unsafe fn read_raw(&mut self, to: *mut u8, len: usize) -> Result<usize> {
        let mut done = 0;
        while let Some((address, here)) = self.piece(len - done) {
            if self.ours {
                // SAFETY: the part is a slice that `with_kernel_reader` borrows; the destination is valid by contract.
                unsafe { core::ptr::copy(address as *const u8, to.add(done), here) };
                self.advance(here);
                done += here;
                continue;
            }
            // SAFETY: within `len`, by contract.
            match unsafe { copy_in_raw(to.add(done), address, here) } {
                Ok(()) => self.advance(here),
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
            done += here;
        }
        Ok(done)
    }
}
