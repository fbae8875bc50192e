//! The library OS's own heap: begins beside its image and grows by whole chunks of physical memory, seen through the direct map.
use super::frame::memory;
use core::alloc::Layout;
use kasoku_abi::layout::{LARGE_PAGE, PAGE};
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;

/// Gives the heap 2 MiB at a time.
#[derive(Debug)]
pub struct Chunks;

// SAFETY: `acquire` reaches the heap only through the reference it is given and allocates nothing itself.
unsafe impl Source for Chunks {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        // Objects of more than one chunk do not occur: large data lives in frames.
        if layout.size() > LARGE_PAGE as usize - 4096 {
            return Err(());
        }
        let first = memory().take_heap().filter(|(_, len)| layout.size() as u64 + PAGE <= *len);
        let (gpa, len) = match first {
            Some(first) => first,
            None => (memory().take_large(0).map_err(|_| ())?, LARGE_PAGE),
        };
        // SAFETY: the memory was just taken and stays the heap's for good.
        unsafe { talc.claim(memory().pointer(gpa), len as usize) }.map(|_| ()).ok_or(())
    }
}
