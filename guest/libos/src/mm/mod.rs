//! Memory: physical frames, the library OS's own heap, page tables, address spaces, and what file mappings take pages from.
#[cfg(target_os = "none")]
pub mod active;
pub mod frame;
pub mod heap;
pub mod shared;
pub mod source;
pub mod space;
pub mod table;

use crate::errno::Result;
use frame::{Frame, memory};
use kasoku_abi::Gpa;
use kasoku_abi::layout::PAGE;

/// A frame with the bytes of a page (of RAM, a layer or a region).
pub fn copy_of(page: Gpa) -> Result<Frame> {
    let copy = Frame::unspecified()?;
    // SAFETY: both are whole pages; the copy is not mapped anywhere yet.
    unsafe { core::ptr::copy_nonoverlapping(memory().pointer(page), copy.pointer(), PAGE as usize) };
    Ok(copy)
}
