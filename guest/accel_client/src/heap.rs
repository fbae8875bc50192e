//! The library's own heap, apart from the program's: talc over anonymous mappings. Memory is never given back to the
//! kernel; what the library holds is small (object records), data lives in the arena.
use core::alloc::Layout;

use talc::base::{Talc, binning::Binning};
use talc::source::Source;

use crate::{lock::RawMutex, sys};

/// Least bytes asked of the kernel at a time.
const STEP: usize = 1 << 20;

/// Maps more memory whenever the heap is full.
#[derive(Debug)]
pub struct Pages;

// SAFETY: the only allocator touched is the one passed in, and only by `claim` on memory that is fresh from the kernel.
unsafe impl Source for Pages {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        // Room for the chunk's and the heap's own words, for alignment, and (the first time) for the bin table.
        let wanted = layout.size().checked_add(layout.align()).and_then(|n| n.checked_add(64 << 10)).ok_or(())?;
        let len = wanted.max(STEP).next_multiple_of(4096);
        let flags = sys::MAP_PRIVATE | sys::MAP_ANONYMOUS;
        let base = sys::map(len, sys::PROT_READ | sys::PROT_WRITE, flags, -1).map_err(|_| ())?;
        // SAFETY: nobody else knows the fresh mapping and it is never unmapped.
        unsafe { talc.claim(base, len) }.map(|_| ()).ok_or(())
    }
}

/// What a library declares as its `#[global_allocator]`.
pub type Heap = talc::TalcLock<RawMutex, Pages>;

/// An empty heap.
pub const fn new() -> Heap {
    talc::TalcLock::new(Pages)
}

#[cfg(test)]
mod tests {
    use core::alloc::GlobalAlloc;

    #[test]
    fn grows_beyond_one_step_and_reuses() {
        let heap = super::new();
        let layout = Layout::from_size_align(3 << 20, 64).unwrap();
        // SAFETY: every pointer is freed once, with its layout.
        unsafe {
            let first = heap.alloc(layout);
            assert!(!first.is_null() && first.addr().is_multiple_of(64));
            first.write_bytes(7, layout.size());
            heap.dealloc(first, layout);
            assert_eq!(heap.alloc(layout), first);
        }
    }
    use core::alloc::Layout;
}
