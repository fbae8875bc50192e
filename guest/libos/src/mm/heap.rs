//! The library OS's own heap: grows by whole chunks of physical memory, seen through the direct map.
use super::frame::{CHUNK_FRAMES, memory};
use core::alloc::Layout;
use kasoku_abi::layout::LARGE_PAGE;
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
        let gpa = memory().take_large(0).map_err(|_| ())?;
        // SAFETY: the chunk was just taken and stays the heap's for good.
        unsafe { talc.claim(memory().pointer(gpa), CHUNK_FRAMES * 4096) }.map(|_| ()).ok_or(())
    }
}
