//! Memory that a device may read and write: a checked piece of a session's arena.

/// Bytes that the guest can change at any time, valid for as long as the process maps the session's memory (that is, until it
/// ends). Never turned into a Rust slice: only devices and copies look at it.
#[derive(Clone, Copy, Debug)]
pub struct HostBytes {
    start: *mut u8,
    len: usize,
}

// SAFETY: it is an address and a length; all access goes through raw copies that race only with the guest.
unsafe impl Send for HostBytes {}
// SAFETY: as above.
unsafe impl Sync for HostBytes {}

impl HostBytes {
    /// # Safety
    /// `start` to `start + len` must stay mapped, readable and writable until the process ends, and no Rust reference to
    /// it may exist.
    pub const unsafe fn new(start: *mut u8, len: usize) -> Self {
        Self { start, len }
    }

    pub const fn as_ptr(&self) -> *mut u8 {
        self.start
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `len` bytes from `offset`, or `None` when they are not inside.
    pub fn part(&self, offset: usize, len: usize) -> Option<Self> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        Some(Self { start: self.start.wrapping_add(offset), len })
    }

    /// A private copy: what is checked must not change afterwards.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut copy = vec![0u8; self.len];
        // SAFETY: `new` promises that the source is mapped; the copy is as long and cannot overlap it.
        unsafe { core::ptr::copy_nonoverlapping(self.start, copy.as_mut_ptr(), self.len) };
        copy
    }

    /// Copies to `target` as much as both have.
    pub fn copy_to(&self, target: &Self) {
        let count = self.len.min(target.len);
        // SAFETY: `new` promises that both are mapped; `count` is within both. They may overlap.
        unsafe { core::ptr::copy(self.start, target.start, count) };
    }

    /// Writes as much of `bytes` as there is room for; how many.
    pub fn fill_from(&self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.len);
        // SAFETY: `new` promises that the destination is mapped; `count` is within both.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start, count) };
        count
    }
}
