//! mmap, munmap, mprotect, mremap, madvise, and the copy of an address space for fork.
use super::area::{Area, Areas, Backing, LOWEST, checked_range};
use super::fault::may_become_whole;
use super::{Access, Gone, Space, Touch};
use crate::errno::{Errno, Result};
use crate::mm::source::MapSource;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use kasoku_abi::layout::{LARGE_PAGE, PAGE};

/// What an address in a request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixed {
    /// A wish.
    No,
    /// An order; what is there goes (MAP_FIXED).
    Replace,
    /// An order; EEXIST when something is there (MAP_FIXED_NOREPLACE).
    NoReplace,
}

/// A mapping that a program asks for.
pub struct MapRequest {
    pub address: u64,
    pub len: u64,
    pub access: Access,
    pub shared: bool,
    pub fixed: Fixed,
    pub backing: Backing,
    /// Bring all pages in at once (MAP_POPULATE).
    pub populate: bool,
    pub label: &'static str,
}

/// Private file mappings at a fixed address up to this size are brought in at once: they are the segments of a library,
/// which its loader touches next.
const SEGMENT_MAX: u64 = 2 << 20;
/// MADV_DONTNEED of less than this zeroes in place: cheaper than a flush and new faults.
const ZERO_IN_PLACE_MAX: u64 = 128 << 10;

/// Most pages that a fork copies at once: copying one takes 0.15 us, a fault on a shared one 30 us.
const COPIED_BY_FORK: usize = 1024;

impl Space {
    /// Maps (mmap(2)); returns where.
    pub fn map(&self, request: MapRequest) -> Result<u64> {
        if request.len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = request.len.checked_next_multiple_of(PAGE).ok_or(Errno::ENOMEM)?;
        let mut areas = self.areas.lock();
        let start = match request.fixed {
            Fixed::No => {
                let wish = request.address / PAGE * PAGE;
                let fits =
                    wish >= LOWEST && checked_range(wish, len).is_ok_and(|(start, end)| areas.is_free(start, end));
                if fits {
                    wish
                } else {
                    let (align, phase) = alignment(&request, len);
                    areas.find_free(len, align, phase)?
                }
            }
            Fixed::Replace | Fixed::NoReplace => {
                let (start, end) = checked_range(request.address, len)?;
                if start < LOWEST {
                    return Err(Errno::EPERM);
                }
                if request.fixed == Fixed::NoReplace && !areas.is_free(start, end) {
                    return Err(Errno::EEXIST);
                }
                start
            }
        };
        let end = start + len;
        let mut gone = Gone::default();
        let mut removed = Vec::new();
        if !areas.is_free(start, end) {
            self.table.unmap(start, end, &mut gone)?;
            removed = areas.remove(start, end);
        }
        let is_file = matches!(request.backing, Backing::File { .. });
        let segment = is_file && request.fixed == Fixed::Replace && !request.shared && len <= SEGMENT_MAX;
        let touch = if request.access.write { Touch::Write } else { Touch::Read };
        let readable = request.access.read || request.access.write || request.access.execute;
        areas.insert(
            start,
            Area {
                end,
                access: request.access,
                shared: request.shared,
                backing: request.backing,
                label: request.label,
            },
        );
        self.flush(gone);
        // From here on nobody writes to what was there: its file may be told what it holds.
        drop(removed);
        if readable && request.populate {
            self.populate(&mut areas, start, end, touch);
        } else if readable && segment {
            self.populate_segment(&mut areas, start, end, touch);
        }
        Ok(start)
    }

    /// Brings in a segment of a library, but for the large pages that its other segments may still complete.
    fn populate_segment(&self, areas: &mut Areas, start: u64, end: u64, touch: Touch) {
        let mut at = start;
        while at < end {
            let next = (at / LARGE_PAGE + 1) * LARGE_PAGE;
            let waits = areas.find(at).is_some_and(|(first, area)| may_become_whole(first, area, at));
            if !waits {
                self.populate(areas, at, next.min(end), touch);
            }
            at = next;
        }
    }

    /// Unmaps (munmap(2)).
    pub fn unmap(&self, start: u64, len: u64) -> Result<()> {
        let (start, end) = checked_range(start, len).map_err(|_| Errno::EINVAL)?;
        let mut areas = self.areas.lock();
        let mut gone = Gone::default();
        self.table.unmap(start, end, &mut gone)?;
        let removed = areas.remove(start, end);
        drop(areas);
        self.flush(gone);
        for (source, pages) in removed.iter().filter_map(|(start, area)| shared_pages(*start, area, 0, u64::MAX)) {
            // As on Linux, munmap does not say that a file could not be written; msync does.
            let _ = source.write_back(pages);
        }
        Ok(())
    }

    /// What was written through shared mappings of the range reaches their files, and what others wrote there is seen
    /// (msync(2)).
    pub fn write_back(&self, start: u64, len: u64) -> Result<()> {
        let (start, end) = checked_range(start, len)?;
        let parts: Vec<_> = {
            let areas = self.areas.lock();
            if !areas.covers(start, end) {
                return Err(Errno::ENOMEM);
            }
            areas.overlapping(start, end).filter_map(|(first, area)| shared_pages(first, area, start, end)).collect()
        };
        for (source, pages) in parts {
            source.write_back(pages)?;
            source.renew()?;
        }
        Ok(())
    }

    /// Changes rights (mprotect(2)).
    pub fn protect(&self, start: u64, len: u64, access: Access) -> Result<()> {
        if len == 0 && start.is_multiple_of(PAGE) {
            return Ok(());
        }
        let (start, end) = checked_range(start, len)?;
        let mut areas = self.areas.lock();
        if !areas.covers(start, end) {
            return Err(Errno::ENOMEM);
        }
        if access.write && areas.overlapping(start, end).any(|(_, area)| area.is_for_reading()) {
            return Err(Errno::EACCES);
        }
        let parts: Vec<_> =
            areas.overlapping(start, end).map(|(s, a)| (s.max(start), a.end.min(end), a.shared)).collect();
        let mut flush = false;
        for (from, to, shared) in parts {
            // Pages of a shared mapping that are mapped read-only for want of a write keep so until one comes.
            let page_access = if shared { Access { write: false, ..access } } else { access };
            flush |= self.table.protect(from, to, page_access, !shared)?;
        }
        areas.update(start, end, |area| area.access = access);
        drop(areas);
        if flush {
            if end - start == PAGE { self.flush_page(start) } else { self.flush_all() }
        }
        Ok(())
    }

    /// Forgets the contents of a range (MADV_DONTNEED): zeroes, or the file again, at the next touch.
    pub fn forget(&self, start: u64, len: u64) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        let (start, end) = checked_range(start, len)?;
        let areas = self.areas.lock();
        if !areas.covers(start, end) {
            return Err(Errno::ENOMEM);
        }
        let anonymous = areas.overlapping(start, end).all(|(_, a)| matches!(a.backing, Backing::Anonymous));
        if anonymous && end - start <= ZERO_IN_PLACE_MAX && self.zero_in_place(start, end) {
            return Ok(());
        }
        let mut gone = Gone::default();
        self.table.unmap(start, end, &mut gone)?;
        drop(areas);
        self.flush(gone);
        Ok(())
    }

    /// Zeroes what is mapped in the range; false, with nothing done, when a page is shared with somebody.
    fn zero_in_place(&self, start: u64, end: u64) -> bool {
        let pages = || (start..end).step_by(PAGE as usize).filter_map(|at| self.table.find(at));
        if pages().any(|entry| entry.is_shared()) {
            return false;
        }
        for entry in pages() {
            // SAFETY: an unshared page of anonymous memory is a frame of this program alone.
            unsafe { core::ptr::write_bytes(crate::mm::frame::memory().pointer(entry.gpa()), 0, PAGE as usize) };
        }
        true
    }

    /// Grows, shrinks or moves a mapping (mremap(2)); returns where it is now.
    pub fn remap(&self, start: u64, old_len: u64, new_len: u64, may_move: bool, to: Option<u64>) -> Result<u64> {
        if !start.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        let end = match old_len {
            0 => start,
            _ => checked_range(start, old_len).map_err(|_| Errno::EFAULT)?.1,
        };
        let new_len = new_len.checked_next_multiple_of(PAGE).filter(|len| *len > 0).ok_or(Errno::EINVAL)?;
        let old_len = end - start;
        if let Some(to) = to {
            let (to, to_end) = checked_range(to, new_len).map_err(|_| Errno::EINVAL)?;
            if to < end && start < to_end {
                return Err(Errno::EINVAL);
            }
        }
        if to.is_none() && new_len <= old_len {
            self.areas.lock().find(start).ok_or(Errno::EFAULT)?;
            if new_len < old_len {
                self.unmap(start + new_len, old_len - new_len)?;
            }
            return Ok(start);
        }
        let (old_len, end) = if old_len > new_len {
            self.areas.lock().find(start).ok_or(Errno::EFAULT)?;
            self.unmap(start + new_len, old_len - new_len)?;
            (new_len, start + new_len)
        } else {
            (old_len, end)
        };
        let mut areas = self.areas.lock();
        let (first, area) = areas.find(start).ok_or(Errno::EFAULT)?;
        if area.end < end {
            return Err(Errno::EFAULT);
        }
        // Nothing of a shared mapping means one more view of it.
        let another_view = old_len == 0;
        if another_view && !area.shared {
            return Err(Errno::EINVAL);
        }
        let mut moved = area.clone();
        if let Backing::File { offset, .. } = &mut moved.backing {
            *offset += start - first;
        }
        if to.is_none()
            && area.end == end
            && checked_range(start, new_len).is_ok()
            && areas.is_free(end, start + new_len)
        {
            if let Backing::File { offset, .. } = &mut moved.backing {
                *offset += old_len;
            }
            moved.end = start + new_len;
            areas.insert(end, moved);
            return Ok(start);
        }
        let target = match to {
            Some(to) => {
                let mut gone = Gone::default();
                self.table.unmap(to, to + new_len, &mut gone)?;
                let removed = areas.remove(to, to + new_len);
                self.flush(gone);
                drop(removed);
                to
            }
            None if may_move => {
                let (align, phase) = if new_len >= LARGE_PAGE { (LARGE_PAGE, start % LARGE_PAGE) } else { (PAGE, 0) };
                areas.find_free(new_len, align, phase)?
            }
            None => return Err(Errno::ENOMEM),
        };
        let kept = old_len.min(new_len);
        let mut gone = Gone::default();
        if !another_view {
            self.table.relocate(start, kept, target)?;
            self.table.unmap(start + kept, end, &mut gone)?;
            areas.remove(start, end);
        }
        moved.end = target + new_len;
        areas.insert(target, moved);
        drop(areas);
        self.flush_all();
        drop(gone);
        Ok(target)
    }

    /// Whether all of the range is mapped (msync, mincore).
    pub fn is_mapped(&self, start: u64, len: u64) -> bool {
        checked_range(start, len).is_ok_and(|(start, end)| self.areas.lock().covers(start, end))
    }

    /// Brings a range in (MADV_POPULATE_*, MADV_WILLNEED, mlock).
    pub fn bring_in(&self, start: u64, len: u64, touch: Touch) -> Result<()> {
        let (start, end) = checked_range(start, len)?;
        let mut areas = self.areas.lock();
        if !areas.covers(start, end) {
            return Err(Errno::ENOMEM);
        }
        self.populate(&mut areas, start, end, touch);
        Ok(())
    }

    /// A copy whose private pages are shared until somebody writes (fork(2)). What a small program has of its own is copied
    /// at once where only its calling thread runs (`alone`): that takes less time than a few faults.
    pub fn fork(&self, boot_root: kasoku_abi::Gpa, alone: bool) -> Result<Space> {
        let child = Space::new(boot_root)?;
        let areas = self.areas.lock();
        let mut own = 0;
        for (start, area) in areas.iter().filter(|(_, area)| !area.shared) {
            own += self.table.count_own(start, area.end)?;
        }
        let memory = crate::mm::frame::memory();
        // While memory is plenty: many small programs at a time must not use it up before they are too many.
        let plenty = memory.free_frames() > memory.total_frames() / 2;
        let copy = alone && plenty && own <= COPIED_BY_FORK.min(memory.free_frames() / 4);
        let mut flush = false;
        {
            let mut theirs = child.areas.lock();
            for (start, area) in areas.iter() {
                theirs.insert(start, area.clone());
                flush |= self.table.copy_to(&child.table, start, area.end, !area.shared, copy)?;
            }
            theirs.resident = areas.resident;
        }
        *child.heap.lock() = self.heap.lock().clone();
        drop(areas);
        if flush {
            self.flush_all();
        }
        Ok(child)
    }

    /// Changes the heap's break (brk(2)): 0 asks only. Returns where it is.
    pub fn set_break(&self, to: u64) -> u64 {
        let mut heap = self.heap.lock();
        if to < heap.start || to > heap.start + super::heap::MAX {
            return heap.end;
        }
        // The area ends on a large page, so that the heap consists of large pages.
        let (old, new) = (heap.end.next_multiple_of(LARGE_PAGE), to.next_multiple_of(LARGE_PAGE));
        if new > old {
            let mut areas = self.areas.lock();
            if !areas.is_free(old, new) {
                return heap.end;
            }
            let access = super::READ_WRITE;
            areas.insert(old, Area { end: new, access, shared: false, backing: Backing::Anonymous, label: "[heap]" });
        } else if to < heap.end {
            let whole = to.next_multiple_of(PAGE);
            // What is given back reads as zero when it is taken again.
            if self.forget(whole, old - whole).and_then(|()| self.zero(to, whole)).is_err() {
                return heap.end;
            }
            if new < old && self.unmap(new, old - new).is_err() {
                return heap.end;
            }
        }
        heap.end = to;
        to
    }

    /// Zeroes bytes of one mapped page.
    fn zero(&self, from: u64, to: u64) -> Result<()> {
        if let Some(entry) = self.table.find(from / PAGE * PAGE).filter(|_| to > from) {
            let offset = (from % PAGE) as usize;
            if entry.is_shared() {
                self.fault(from, Touch::Write).map_err(|_| Errno::ENOMEM)?;
            }
            let gpa = self.table.find(from / PAGE * PAGE).ok_or(Errno::ENOMEM)?.gpa();
            // SAFETY: the page is this program's own; the range stays inside it.
            unsafe {
                core::ptr::write_bytes(crate::mm::frame::memory().pointer(gpa).add(offset), 0, (to - from) as usize);
            }
        }
        Ok(())
    }

    /// Where the heap begins (set once by exec).
    pub fn place_heap(&self, start: u64) {
        *self.heap.lock() = super::heap::Heap { start, end: start };
    }
}

/// The pages of a file that a shared mapping shows between two addresses.
fn shared_pages(first: u64, area: &Area, start: u64, end: u64) -> Option<(Arc<dyn MapSource>, Range<u64>)> {
    let Backing::File { source, offset, .. } = &area.backing else { return None };
    let page = |address: u64| (offset + (address - first)) / PAGE;
    area.shared.then(|| (source.clone(), page(first.max(start))..page(area.end.min(end))))
}

/// Where a new mapping should begin, modulo what: so that it can use large pages.
fn alignment(request: &MapRequest, len: u64) -> (u64, u64) {
    if len < LARGE_PAGE {
        return (PAGE, 0);
    }
    match &request.backing {
        Backing::Anonymous => (LARGE_PAGE, 0),
        Backing::File { source, offset, .. } => match source.run(offset / PAGE, request.shared && request.access.write)
        {
            Some((gpa, pages)) if pages >= LARGE_PAGE / PAGE => (LARGE_PAGE, gpa.0 % LARGE_PAGE),
            _ => (PAGE, 0),
        },
    }
}
