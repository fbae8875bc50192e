//! The program's heap as brk(2) sees it.

/// Most bytes of heap: enough for any guest, and far from the next mapping.
pub const MAX: u64 = 1 << 40;

/// From `start` (aligned to a large page) to `end` (the break).
#[derive(Clone, Default)]
pub struct Heap {
    pub start: u64,
    pub end: u64,
}
