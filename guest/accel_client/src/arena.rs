//! Which parts of the session's arena are in use. Offsets only: the memory itself is not touched.
//!
//! Best fit over free ranges kept by offset (to join neighbours) and by length (to find). Everything is a multiple of
//! [`GRAIN`], so that two users never share a cache line.
use alloc::collections::{BTreeMap, BTreeSet};

/// Unit of allocation and least alignment, bytes.
pub const GRAIN: u64 = 64;

/// Free ranges of one arena.
#[derive(Debug)]
pub struct Arena {
    by_offset: BTreeMap<u64, u64>,
    by_length: BTreeSet<(u64, u64)>,
    free: u64,
}

impl Arena {
    /// An arena whose free space is `[start, start + len)`.
    pub fn new(start: u64, len: u64) -> Self {
        let mut arena = Self { by_offset: BTreeMap::new(), by_length: BTreeSet::new(), free: 0 };
        let aligned = start.next_multiple_of(GRAIN);
        let usable = len.saturating_sub(aligned - start) / GRAIN * GRAIN;
        if usable > 0 {
            arena.insert(aligned, usable);
        }
        arena
    }

    /// Bytes that a request for `len` takes.
    pub fn rounded(len: u64) -> Option<u64> {
        len.max(1).checked_next_multiple_of(GRAIN)
    }

    /// Takes `len` bytes at a multiple of `align` (a power of two); the offset, or nothing when no range fits.
    pub fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        debug_assert!(align.is_power_of_two());
        let len = Self::rounded(len)?;
        let align = align.max(GRAIN);
        let (&(range_len, start), at) = self.by_length.range((len, 0)..).find_map(|range @ &(range_len, start)| {
            let at = start.checked_next_multiple_of(align)?;
            (at - start + len <= range_len).then_some((range, at))
        })?;
        self.remove(start, range_len);
        if at > start {
            self.insert(start, at - start);
        }
        let end = start + range_len;
        if at + len < end {
            self.insert(at + len, end - at - len);
        }
        Some(at)
    }

    /// Gives back what [`Arena::take`] returned for `len`.
    pub fn give(&mut self, offset: u64, len: u64) {
        let Some(mut len) = Self::rounded(len) else { return };
        let mut start = offset;
        if let Some((&before, &before_len)) = self.by_offset.range(..offset).next_back() {
            debug_assert!(before + before_len <= offset, "freed twice");
            if before + before_len == offset {
                self.remove(before, before_len);
                start = before;
                len += before_len;
            }
        }
        if let Some(&after_len) = self.by_offset.get(&(start + len)) {
            let after = start + len;
            self.remove(after, after_len);
            len += after_len;
        }
        self.insert(start, len);
    }

    /// Bytes free, in all ranges together.
    pub fn free_bytes(&self) -> u64 {
        self.free
    }

    fn insert(&mut self, start: u64, len: u64) {
        self.by_offset.insert(start, len);
        self.by_length.insert((len, start));
        self.free += len;
    }

    fn remove(&mut self, start: u64, len: u64) {
        self.by_offset.remove(&start);
        self.by_length.remove(&(len, start));
        self.free -= len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_again_after_any_order_of_freeing() {
        let mut arena = Arena::new(100, 1 << 20);
        let whole = arena.free_bytes();
        let mut seed = 12345u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            seed >> 33
        };
        let mut held: Vec<(u64, u64)> = Vec::new();
        for _ in 0..5_000 {
            if random() % 2 == 0 {
                let (len, align) = (random() % 5000, 1 << (random() % 13));
                if let Some(at) = arena.take(len, align) {
                    let end = at + Arena::rounded(len).unwrap();
                    assert!(at % align == 0 && at >= 100 && end <= 100 + (1 << 20));
                    assert!(held.iter().all(|&(other, n)| end <= other || other + Arena::rounded(n).unwrap() <= at));
                    held.push((at, len));
                }
            } else if !held.is_empty() {
                let (at, len) = held.swap_remove(random() as usize % held.len());
                arena.give(at, len);
            }
        }
        for (at, len) in held {
            arena.give(at, len);
        }
        assert_eq!((arena.free_bytes(), arena.by_length.len()), (whole, 1));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut arena = Arena::new(0, 4096);
        assert_eq!(arena.take(4097, 1), None);
        assert_eq!(arena.take(u64::MAX, 1), None);
        assert_eq!(arena.take(4096, 4096), Some(0));
        assert_eq!(arena.take(1, 1), None);
    }
}
