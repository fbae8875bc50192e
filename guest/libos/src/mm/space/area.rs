//! The list of areas of an address space.
use crate::errno::{Errno, Result};
use crate::mm::source::MapSource;
use crate::mm::table::Access;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use kasoku_abi::layout::{LARGE_PAGE, LIBOS_BASE, LIBOS_END, PAGE, USER_END};

/// Lowest address that may be mapped, as `vm.mmap_min_addr`: a null pointer always faults.
pub const LOWEST: u64 = 0x1_0000;
/// Mappings without a wish go below this.
pub const MMAP_TOP: u64 = 0x7fff_f000_0000;

/// What an area's pages hold when they are first touched.
#[derive(Clone)]
pub enum Backing {
    /// Zeroes.
    Anonymous,
    /// A file (or shared memory), from `offset` bytes at the area's start.
    File { source: Arc<dyn MapSource>, offset: u64, path: Option<Arc<[u8]>> },
}

/// A range of pages with the same rights and backing; the key in the list is its start.
#[derive(Clone)]
pub struct Area {
    pub end: u64,
    pub access: Access,
    /// Writes reach the file, and a fork shares the pages.
    pub shared: bool,
    pub backing: Backing,
    /// `[heap]`, `[stack]` or "".
    pub label: &'static str,
}

impl Area {
    fn shifted(&self, by: u64) -> Area {
        let mut other = self.clone();
        if let Backing::File { offset, .. } = &mut other.backing {
            *offset += by;
        }
        other
    }

    /// A shared mapping of a file that was not open for writing: it never may be written to.
    pub fn is_for_reading(&self) -> bool {
        self.shared && matches!(&self.backing, Backing::File { source, .. } if !source.takes_writes())
    }

    fn continues(&self, start: u64, next: &Area) -> bool {
        self.access == next.access
            && self.shared == next.shared
            && self.label == next.label
            && match (&self.backing, &next.backing) {
                (Backing::Anonymous, Backing::Anonymous) => true,
                (Backing::File { source: a, offset: x, .. }, Backing::File { source: b, offset: y, .. }) => {
                    Arc::ptr_eq(a, b) && *y == x + (self.end - start)
                }
                _ => false,
            }
    }
}

/// All areas, by start.
#[derive(Default)]
pub struct Areas {
    map: BTreeMap<u64, Area>,
    /// Pages in memory, roughly (large pages count as 512).
    pub resident: u64,
}

impl Areas {
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Area)> {
        self.map.iter().map(|(start, area)| (*start, area))
    }

    /// The area that the address lies in.
    pub fn find(&self, address: u64) -> Option<(u64, &Area)> {
        let (start, area) = self.map.range(..=address).next_back()?;
        (address < area.end).then_some((*start, area))
    }

    /// Areas that overlap `[start, end)`.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, &Area)> {
        let from = self.find(start).map_or(start, |(first, _)| first);
        self.map.range(from..end).map(|(start, area)| (*start, area))
    }

    /// Whether areas cover `[start, end)` without a hole.
    pub fn covers(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        for (first, area) in self.overlapping(start, end) {
            if first > at {
                return false;
            }
            at = area.end;
        }
        at >= end
    }

    fn split_at(&mut self, address: u64) {
        let Some((start, area)) = self.find(address) else { return };
        if start == address {
            return;
        }
        let tail = area.shifted(address - start);
        self.map.insert(address, tail);
        if let Some(head) = self.map.get_mut(&start) {
            head.end = address;
        }
    }

    /// Takes everything in `[start, end)` out of the list.
    pub fn remove(&mut self, start: u64, end: u64) -> alloc::vec::Vec<(u64, Area)> {
        self.split_at(start);
        self.split_at(end);
        let mut rest = self.map.split_off(&start);
        let mut after = rest.split_off(&end);
        self.map.append(&mut after);
        rest.into_iter().collect()
    }

    /// Adds an area where nothing is, joined with its neighbours when they continue each other.
    pub fn insert(&mut self, mut start: u64, mut area: Area) {
        if let Some((before, previous)) = self.map.range(..start).next_back()
            && previous.end == start
            && previous.continues(*before, &area)
        {
            let before = *before;
            if let Some(mut previous) = self.map.remove(&before) {
                previous.end = area.end;
                (start, area) = (before, previous);
            }
        }
        if let Some(next) = self.map.get(&area.end)
            && area.continues(start, next)
            && let Some(next) = self.map.remove(&area.end)
        {
            area.end = next.end;
        }
        self.map.insert(start, area);
    }

    /// Changes each area in `[start, end)` (which they cover) and joins what has become alike.
    pub fn update(&mut self, start: u64, end: u64, mut change: impl FnMut(&mut Area)) {
        for (start, mut area) in self.remove(start, end) {
            change(&mut area);
            self.insert(start, area);
        }
    }

    /// A free range of `len` bytes whose start is `phase` modulo `align`: the highest one below [`MMAP_TOP`].
    pub fn find_free(&self, len: u64, align: u64, phase: u64) -> Result<u64> {
        let fit = |low: u64, high: u64| -> Option<u64> {
            let start = high.checked_sub(len)?;
            let start = start - (start.wrapping_sub(phase) & (align - 1));
            (start >= low && start < high).then_some(start)
        };
        let mut high = MMAP_TOP;
        for (start, area) in self.map.range(..MMAP_TOP).rev() {
            if high < LIBOS_END {
                break;
            }
            if let Some(found) = fit(area.end.max(LIBOS_END), high) {
                return Ok(found);
            }
            high = high.min(*start);
        }
        if let Some(found) = fit(LIBOS_END, high) {
            return Ok(found);
        }
        // Above the library OS there is no room left: below it.
        let mut high = LIBOS_BASE;
        for (start, area) in self.map.range(..LIBOS_BASE).rev() {
            if let Some(found) = fit(area.end.max(LARGE_PAGE), high) {
                return Ok(found);
            }
            high = *start;
        }
        fit(LARGE_PAGE, high).ok_or(Errno::ENOMEM)
    }

    /// A free range of `len` bytes as near as can be to an address: in the gap below the areas around it, or above them.
    pub fn find_free_near(&self, len: u64, near: u64) -> Option<u64> {
        let mut low = near;
        for (start, area) in self.map.range(..=near).rev() {
            if area.end + len <= low && area.end < low && low != near {
                break;
            }
            low = *start;
        }
        let below = low.checked_sub(len).filter(|at| *at >= LOWEST && self.is_free(*at, *at + len));
        let mut high = near;
        for (start, area) in self.map.range(near..) {
            if *start >= high + len && high != near {
                break;
            }
            high = area.end;
        }
        let above = Some(high).filter(|at| *at != near && *at + len <= USER_END && self.is_free(*at, *at + len));
        let ours = |at: &u64| *at + len <= LIBOS_BASE || *at >= LIBOS_END;
        [below, above].into_iter().flatten().filter(ours).min_by_key(|at| at.abs_diff(near))
    }

    /// Whether nothing is mapped in the range.
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).next().is_none()
    }
}

/// Checks a range that a program names: page aligned, not empty after rounding, in its part of the address space.
pub fn checked_range(start: u64, len: u64) -> Result<(u64, u64)> {
    if !start.is_multiple_of(PAGE) || len == 0 {
        return Err(Errno::EINVAL);
    }
    let end = len.checked_next_multiple_of(PAGE).and_then(|len| start.checked_add(len)).ok_or(Errno::ENOMEM)?;
    if end > USER_END || (start < LIBOS_END && end > LIBOS_BASE) {
        return Err(Errno::ENOMEM);
    }
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(end: u64) -> Area {
        let access = Access { read: true, write: true, execute: false };
        Area { end, access, shared: false, backing: Backing::Anonymous, label: "" }
    }

    #[test]
    fn neighbours_join_and_holes_split() {
        let mut areas = Areas::default();
        areas.insert(0x10000, area(0x20000));
        areas.insert(0x20000, area(0x30000));
        assert_eq!(areas.iter().count(), 1);
        let removed = areas.remove(0x18000, 0x19000);
        assert_eq!((removed.len(), removed[0].0, removed[0].1.end), (1, 0x18000, 0x19000));
        assert_eq!(areas.iter().map(|(s, a)| (s, a.end)).collect::<Vec<_>>(), [(0x10000, 0x18000), (0x19000, 0x30000)]);
        assert!(!areas.covers(0x10000, 0x30000));
        assert!(areas.covers(0x19000, 0x30000));
    }

    #[test]
    fn free_ranges_are_aligned_and_do_not_overlap() {
        let mut areas = Areas::default();
        for _ in 0..100 {
            let start = areas.find_free(3 * PAGE, PAGE, 0).unwrap();
            assert!(areas.is_free(start, start + 3 * PAGE));
            areas.insert(start, area(start + 3 * PAGE));
        }
        let large = areas.find_free(5 * LARGE_PAGE, LARGE_PAGE, 0x3000).unwrap();
        assert_eq!(large % LARGE_PAGE, 0x3000);
        assert!(areas.is_free(large, large + 5 * LARGE_PAGE));
    }

    #[test]
    fn ranges_of_the_library_os_are_refused() {
        assert!(checked_range(LIBOS_BASE, PAGE).is_err());
        assert!(checked_range(LIBOS_BASE - PAGE, 2 * PAGE).is_err());
        assert!(checked_range(USER_END, PAGE).is_err());
        assert!(checked_range(0x1000, u64::MAX - 0x1000).is_err());
        assert!(checked_range(0x1000, PAGE).is_ok());
    }
}
