//! The form of every `clGet*Info` answer, and of lists that a program passes.
use alloc::vec::Vec;

use core::ffi::{c_char, c_void};

use zerocopy::{Immutable, IntoBytes};

use crate::cl::CL_INVALID_VALUE;
use crate::error::{Result, ensure, store};
use crate::handle::Raw;

/// Where a program wants the answer of an info query.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
}

impl Query {
    /// Takes the last three arguments of a `clGet*Info`.
    ///
    /// # Safety
    /// `value` is null or has `size` writable bytes; `size_ret` is null or writable; both for as long as the query is used.
    pub unsafe fn new(size: usize, value: *mut c_void, size_ret: *mut usize) -> Self {
        Self { size, value, size_ret }
    }

    /// Answers with `bytes`.
    pub fn bytes(self, bytes: &[u8]) -> Result<()> {
        if !self.value.is_null() {
            ensure(self.size >= bytes.len(), CL_INVALID_VALUE)?;
            // SAFETY: the program gave at least that many bytes (`new`).
            unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.value.cast(), bytes.len()) };
        }
        // SAFETY: `new`.
        unsafe { store(self.size_ret, bytes.len()) };
        Ok(())
    }

    /// Answers with one integer or a structure of them.
    pub fn value<T: IntoBytes + Immutable>(self, value: T) -> Result<()> {
        self.bytes(value.as_bytes())
    }

    /// Answers with `text` and a terminating zero.
    pub fn text(self, text: &[u8]) -> Result<()> {
        let mut terminated = Vec::with_capacity(text.len() + 1);
        terminated.extend_from_slice(text);
        terminated.push(0);
        self.bytes(&terminated)
    }

    /// Answers with a handle.
    pub fn handle(self, raw: Raw) -> Result<()> {
        self.value(raw as usize)
    }

    /// Answers with an array of handles.
    pub fn handles(self, raws: impl Iterator<Item = Raw>) -> Result<()> {
        self.bytes(raws.map(|raw| raw as usize).collect::<Vec<_>>().as_bytes())
    }

    /// Answers with an array of 64-bit words.
    pub fn words(self, words: &[u64]) -> Result<()> {
        self.bytes(words.as_bytes())
    }

    /// Answers with an array of pointers' worth: the program's own buffers, one per element (`CL_PROGRAM_BINARIES`).
    /// Returns the pointers, of which each is null or writable as the program promised.
    pub fn pointers(self, count: usize) -> Result<Vec<*mut u8>> {
        let len = count * size_of::<*mut u8>();
        let mut pointers = Vec::new();
        if !self.value.is_null() {
            ensure(self.size >= len, CL_INVALID_VALUE)?;
            // SAFETY: the program gave at least `len` bytes (`new`), which hold pointers for this parameter.
            pointers.extend((0..count).map(|i| unsafe { self.value.cast::<*mut u8>().add(i).read_unaligned() }));
        }
        // SAFETY: `new`.
        unsafe { store(self.size_ret, len) };
        Ok(pointers)
    }
}

/// The elements of an array that a program passes; empty for null.
///
/// # Safety
/// `list` is null or has `count` readable elements.
pub unsafe fn list<T: Copy>(count: usize, list: *const T) -> Vec<T> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the caller's promise; programs in other languages may pass unaligned arrays.
    (0..count).map(|i| unsafe { list.add(i).read_unaligned() }).collect()
}

/// The bytes of a C string, without its zero; empty for null.
///
/// # Safety
/// `text` is null or terminated by a zero.
pub unsafe fn c_text<'a>(text: *const c_char) -> &'a [u8] {
    if text.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { core::ffi::CStr::from_ptr(text) }.to_bytes()
}

/// A list of properties as creation calls take them: pairs, ended by 0. Returns the pairs; the raw words, its 0 included,
/// are what queries give back.
///
/// # Safety
/// `properties` is null or such a list.
pub unsafe fn properties(properties: *const u64) -> (Vec<(u64, u64)>, Vec<u64>) {
    let (mut pairs, mut words) = (Vec::new(), Vec::new());
    if properties.is_null() {
        return (pairs, words);
    }
    let mut at = properties;
    loop {
        // SAFETY: the caller's promise: a key, and unless it is 0 its value and a further key.
        let key = unsafe { at.read_unaligned() };
        words.push(key);
        if key == 0 {
            return (pairs, words);
        }
        // SAFETY: as above.
        let value = unsafe { at.add(1).read_unaligned() };
        words.push(value);
        pairs.push((key, value));
        // SAFETY: as above.
        at = unsafe { at.add(2) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::null_mut;

    #[test]
    fn a_short_buffer_is_an_invalid_value_and_stays_untouched() {
        let (mut value, mut size) = ([0xffu8; 4], 77usize);
        // SAFETY: as long as said.
        let query = |n: usize, value: *mut u8, size: *mut usize| unsafe { Query::new(n, value.cast(), size) };
        assert_eq!(query(3, value.as_mut_ptr(), &mut size).value(1u32), Err(CL_INVALID_VALUE));
        assert_eq!((value, size), ([0xff; 4], 77));
        assert_eq!(query(0, null_mut(), &mut size).text(b"abc"), Ok(()));
        assert_eq!(size, 4);
        assert_eq!(query(4, value.as_mut_ptr(), null_mut()).text(b"abc"), Ok(()));
        assert_eq!(&value, b"abc\0");
    }

    #[test]
    fn property_lists_keep_their_end() {
        // SAFETY: ended by 0.
        let (pairs, words) = unsafe { properties([5u64, 6, 7, 8, 0, 9].as_ptr()) };
        assert_eq!((pairs, words), (vec![(5, 6), (7, 8)], vec![5, 6, 7, 8, 0]));
    }
}
