//! Bringing pages in.
use super::area::{Area, Areas, Backing};
use super::{Access, Gone, Space};
use crate::errno::Result;
use crate::mm::copy_of;
use crate::mm::frame::{Frame, memory, take_large_zeroed};
use crate::mm::source::Page;
use kasoku_abi::Gpa;
use kasoku_abi::layout::{LARGE_PAGE, PAGE};

/// What a program wants of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    Read,
    Write,
    Execute,
}

/// Why it cannot have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Nothing is mapped there (SIGSEGV, SEGV_MAPERR).
    NotMapped,
    /// The mapping does not allow it (SIGSEGV, SEGV_ACCERR).
    Access,
    /// Beyond the end of the file (SIGBUS, BUS_ADRERR).
    BeyondEnd,
    /// No memory is left.
    NoMemory,
}

/// Pages of anonymous memory that one fault brings in, at most.
const ANONYMOUS_WINDOW: u64 = 64;
/// Pages of scattered file memory (tmpfs, host files), at most.
const FILE_WINDOW: u64 = 32;
/// Pages that are copied around a first write to a private file mapping.
const COPY_WINDOW: u64 = 16;

fn allows(access: Access, touch: Touch) -> bool {
    match touch {
        Touch::Read => access.read || access.write || access.execute,
        Touch::Write => access.write,
        Touch::Execute => access.execute,
    }
}

/// The part of the area that lies in the aligned window of `pages` around the address.
fn window(start: u64, area: &Area, address: u64, pages: u64) -> (u64, u64) {
    let len = pages * PAGE;
    let from = address / len * len;
    (from.max(start), (from + len).min(area.end))
}

impl Space {
    /// Makes the address usable as asked, if its area allows it.
    pub fn fault(&self, address: u64, touch: Touch) -> core::result::Result<(), Denied> {
        let mut areas = self.areas.lock();
        let (start, area) = areas.find(address).ok_or(Denied::NotMapped)?;
        if !allows(area.access, touch) {
            return Err(Denied::Access);
        }
        let area = area.clone();
        let brought = self.bring(&areas, start, &area, address / PAGE * PAGE, touch)?;
        areas.resident += brought;
        drop(areas);
        if let (Backing::File { source, .. }, true, Touch::Write) = (&area.backing, area.shared, touch) {
            source.follow();
        }
        Ok(())
    }

    fn bring(
        &self,
        areas: &Areas,
        start: u64,
        area: &Area,
        page: u64,
        touch: Touch,
    ) -> core::result::Result<u64, Denied> {
        match &area.backing {
            Backing::Anonymous => self.anonymous(start, area, page, touch),
            Backing::File { .. } if area.shared => self.shared_file(start, area, page),
            Backing::File { .. } => match self.large_file(areas, page, touch)? {
                Some(brought) => Ok(brought),
                None => self.private_file(start, area, page, touch),
            },
        }
    }

    /// Brings a page in for whoever debugs the program, whatever the rights of its mapping are; to be written to, where it is
    /// private, as a copy of the program's own. What may be done with the page by the program stays the same.
    pub(super) fn bring_for_debugger(&self, address: u64, touch: Touch) -> core::result::Result<(), Denied> {
        let mut areas = self.areas.lock();
        let (start, area) = areas.find(address).ok_or(Denied::NotMapped)?;
        if touch == Touch::Write && area.shared && !area.access.write {
            return Err(Denied::Access);
        }
        let area = area.clone();
        let brought = self.bring(&areas, start, &area, address / PAGE * PAGE, touch)?;
        areas.resident += brought;
        Ok(())
    }

    /// Brings in all of a range that is mapped, for the given use; what cannot be had is left for a later fault.
    pub(super) fn populate(&self, areas: &mut Areas, start: u64, end: u64, touch: Touch) {
        let parts: alloc::vec::Vec<_> = areas.overlapping(start, end).map(|(s, a)| (s, a.clone())).collect();
        for (first, area) in parts {
            let mut at = start.max(first);
            while at < end.min(area.end) {
                let entry = self.table.find(at);
                if entry.is_none_or(|entry| touch == Touch::Write && !entry.is_writable()) {
                    let brought = match &area.backing {
                        Backing::Anonymous => self.anonymous(first, &area, at, touch),
                        Backing::File { .. } if area.shared => self.shared_file(first, &area, at),
                        Backing::File { .. } => self.private_file(first, &area, at, touch),
                    };
                    match brought {
                        Ok(pages) => areas.resident += pages,
                        Err(_) => return,
                    }
                }
                at += PAGE;
            }
        }
    }

    fn no_memory<T>(result: Result<T>) -> core::result::Result<T, Denied> {
        result.map_err(|_| Denied::NoMemory)
    }

    /// Maps a page where nothing is mapped: nothing to flush.
    fn map_new(&self, at: u64, gpa: Gpa, access: Access, shared: bool) -> Result<()> {
        let mut gone = Gone::default();
        self.table.map(at, gpa, access, shared, &mut gone)?;
        debug_assert!(gone.is_empty());
        Ok(())
    }

    /// A page that is there but may not be written: copied, or only unlocked when nobody else has it.
    fn write_to_present(&self, area: &Area, page: u64, gpa: Gpa, shared: bool) -> core::result::Result<u64, Denied> {
        if !shared || (memory().is_ram(gpa) && memory().is_exclusive(gpa)) {
            Self::no_memory(self.table.unshare(page, area.access))?;
            return Ok(0);
        }
        let copy = Self::no_memory(copy_of(gpa))?;
        let mut gone = Gone::default();
        Self::no_memory(self.table.map(page, copy.into_gpa(), area.access, false, &mut gone))?;
        self.flush(gone);
        Ok(0)
    }

    fn anonymous(&self, start: u64, area: &Area, page: u64, touch: Touch) -> core::result::Result<u64, Denied> {
        if let Some(entry) = self.table.find(page) {
            if touch == Touch::Write && !entry.is_writable() {
                return self.write_to_present(area, page, entry.gpa(), entry.is_shared());
            }
            // Another vCPU was faster, or a stale translation faulted: forget it.
            self.forget_page(page);
            return Ok(0);
        }
        let large = page / LARGE_PAGE * LARGE_PAGE;
        if large >= start
            && large + LARGE_PAGE <= area.end
            && !begins_small(start, area, large)
            && self.table.is_large_free(page)
        {
            let memory = memory();
            if memory.free_frames() > memory.total_frames() / 8
                && let Ok(gpa) = take_large_zeroed()
            {
                Self::no_memory(self.table.map_large(large, gpa, area.access, false))?;
                return Ok(512);
            }
        }
        let (from, to) = window(start, area, page, ANONYMOUS_WINDOW);
        let mut brought = 0;
        // The page asked for comes first: when memory runs out, the rest of the window does without.
        for at in core::iter::once(page).chain((from..to).step_by(PAGE as usize)) {
            if self.table.find(at).is_some() {
                continue;
            }
            match Frame::zeroed() {
                Ok(frame) => Self::no_memory(self.map_new(at, frame.into_gpa(), area.access, false))?,
                Err(_) if brought > 0 => break,
                Err(_) => return Err(Denied::NoMemory),
            };
            brought += 1;
        }
        Ok(brought)
    }

    fn file_page(area: &Area, start: u64, page: u64, write: bool) -> core::result::Result<Page, Denied> {
        let Backing::File { source, offset, .. } = &area.backing else { return Err(Denied::NotMapped) };
        source.page((offset + (page - start)) / PAGE, write).map_err(|_| Denied::BeyondEnd)
    }

    /// Maps the pages of a layer or region around the address, as many as one page table holds, or a large page.
    fn map_run(
        &self,
        start: u64,
        area: &Area,
        page: u64,
        access: Access,
        shared: bool,
    ) -> core::result::Result<Option<u64>, Denied> {
        let Backing::File { source, offset, .. } = &area.backing else { return Ok(None) };
        let (from, to) = window(start, area, page, LARGE_PAGE / PAGE);
        let Some((gpa, pages)) = source.run((offset + (from - start)) / PAGE, access.write) else { return Ok(None) };
        if page >= from + pages * PAGE {
            return Ok(None);
        }
        let whole = to - from == LARGE_PAGE && pages >= LARGE_PAGE / PAGE && gpa.0.is_multiple_of(LARGE_PAGE);
        if whole && self.table.is_large_free(from) {
            Self::no_memory(self.table.map_large(from, gpa, access, shared))?;
            return Ok(Some(512));
        }
        let count = pages.min((to - from) / PAGE);
        Self::no_memory(self.table.map_run(from, gpa, count, access, shared)).map(Some)
    }

    /// Maps a large page of a layer where private mappings of one file fill it, however many they are: a library's
    /// segments differ in their rights, but until somebody writes they are the file's own bytes in the file's own order.
    /// The large page is read-only, and executable when any of the mappings is: of the rights that programs can tell apart
    /// only "may be read, may not be executed" is lost, for constants that lie beside code, where linkers put them too.
    fn large_file(&self, areas: &Areas, page: u64, touch: Touch) -> core::result::Result<Option<u64>, Denied> {
        if touch == Touch::Write || !self.table.is_large_free(page) {
            return Ok(None);
        }
        let block = page / LARGE_PAGE * LARGE_PAGE;
        let Some((gpa, execute)) = whole_block(areas, block) else { return Ok(None) };
        let access = Access { read: true, write: false, execute };
        Self::no_memory(self.table.map_large(block, gpa, access, true))?;
        Ok(Some(LARGE_PAGE / PAGE))
    }

    fn shared_file(&self, start: u64, area: &Area, page: u64) -> core::result::Result<u64, Denied> {
        if self.table.find(page).is_some() {
            let writable = Self::file_page(area, start, page, true)?;
            self.map_page(area, page, writable)?;
            return Ok(0);
        }
        if let Some(brought) = self.map_run(start, area, page, area.access, false)? {
            return Ok(brought);
        }
        let (from, to) = window(start, area, page, FILE_WINDOW);
        let wanted = Self::file_page(area, start, page, area.access.write)?;
        self.map_page(area, page, wanted)?;
        let mut brought = 1;
        for at in (from..to).step_by(PAGE as usize).filter(|at| *at != page) {
            if self.table.find(at).is_none() {
                // Sparse writable files are filled by real faults only.
                let Ok(next) = Self::file_page(area, start, at, false) else { break };
                let access = Access { write: false, ..area.access };
                let gpa = page_reference(next);
                Self::no_memory(self.map_new(at, gpa, access, true))?;
                brought += 1;
            }
        }
        Ok(brought)
    }

    fn map_page(&self, area: &Area, at: u64, page: Page) -> core::result::Result<(), Denied> {
        let mut gone = Gone::default();
        Self::no_memory(self.table.map(at, page_reference(page), area.access, false, &mut gone))?;
        self.flush(gone);
        Ok(())
    }

    fn private_file(&self, start: u64, area: &Area, page: u64, touch: Touch) -> core::result::Result<u64, Denied> {
        let read_only = Access { write: false, ..area.access };
        if touch != Touch::Write {
            if self.table.find(page).is_some() {
                self.forget_page(page);
                return Ok(0);
            }
            if let Some(brought) = self.map_run(start, area, page, read_only, true)? {
                return Ok(brought);
            }
            let (from, to) = window(start, area, page, FILE_WINDOW);
            let wanted = Self::file_page(area, start, page, false)?;
            Self::no_memory(self.map_new(page, page_reference(wanted), read_only, true))?;
            let mut brought = 1;
            for at in (from..to).step_by(PAGE as usize).filter(|at| *at != page) {
                if self.table.find(at).is_none() {
                    let Ok(next) = Self::file_page(area, start, at, false) else { break };
                    Self::no_memory(self.map_new(at, page_reference(next), read_only, true))?;
                    brought += 1;
                }
            }
            return Ok(brought);
        }
        let mut brought = 0;
        let mut gone = Gone::default();
        let (from, to) = window(start, area, page, COPY_WINDOW);
        for at in core::iter::once(page).chain((from..to).step_by(PAGE as usize)) {
            let copy = match self.table.find(at) {
                Some(entry) if entry.is_writable() => continue,
                // Alone with the frame: only the right to write is missing (after a fork whose child is gone).
                Some(entry) if at != page && entry.is_shared() && memory().is_ram(entry.gpa()) => continue,
                Some(entry) if !entry.is_shared() || (memory().is_ram(entry.gpa()) && at == page) => {
                    brought += self.write_to_present(area, at, entry.gpa(), entry.is_shared())?;
                    continue;
                }
                Some(entry) => copy_of(entry.gpa()),
                None => match Self::file_page(area, start, at, false) {
                    Ok(source) => copy_of(source.gpa()),
                    Err(denied) if at == page => return Err(denied),
                    Err(_) => break,
                },
            };
            match copy {
                Ok(copy) => Self::no_memory(self.table.map(at, copy.into_gpa(), area.access, false, &mut gone))?,
                Err(_) if at == page => return Err(Denied::NoMemory),
                Err(_) => break,
            }
            brought += 1;
        }
        self.flush(gone);
        Ok(brought)
    }
}

/// Whether most programs use little of a block: a host takes longer to zero 2 MiB than to bring in a few small pages. So
/// it is with stacks, and with the first block of the heap.
fn begins_small(start: u64, area: &Area, block: u64) -> bool {
    area.label == "[stack]" || area.label == "[heap]" && block == start
}

/// Where the bytes of a block of a large page lie, if private mappings of a layer's file fill it from end to end in the
/// file's order, and whether any of them is executable.
fn whole_block(areas: &Areas, block: u64) -> Option<(Gpa, bool)> {
    let end = block + LARGE_PAGE;
    let (mut at, mut first, mut execute) = (block, None, false);
    for (start, area) in areas.overlapping(block, end) {
        let Backing::File { source, offset, .. } = &area.backing else { return None };
        if start > at || area.shared || !allows(area.access, Touch::Read) {
            return None;
        }
        let (gpa, pages) = source.run((offset + (at - start)) / PAGE, false)?;
        let base = gpa.0.checked_sub(at - block).filter(|base| base.is_multiple_of(LARGE_PAGE))?;
        let until = area.end.min(end);
        if first.is_some_and(|first| first != base) || at + pages * PAGE < until {
            return None;
        }
        (at, first, execute) = (until, Some(base), execute || area.access.execute);
    }
    (at == end).then_some(())?;
    first.map(|base| (Gpa(base), execute))
}

/// Whether a part of a file, mapped at `address`, lies so that [`whole_block`] may find the block around the address once
/// the file's other segments are mapped too.
pub(super) fn may_become_whole(area_start: u64, area: &Area, address: u64) -> bool {
    let Backing::File { source, offset, .. } = &area.backing else { return false };
    let block = address / LARGE_PAGE * LARGE_PAGE;
    let Some(from) = (offset + block).checked_sub(area_start) else { return false };
    let whole = |(gpa, pages): (Gpa, u64)| gpa.0.is_multiple_of(LARGE_PAGE) && pages >= LARGE_PAGE / PAGE;
    source.run(from / PAGE, false).is_some_and(whole)
}

/// The page for a page-table entry, which takes over the reference of a frame.
fn page_reference(page: Page) -> Gpa {
    match page {
        Page::Frame(frame) => frame.into_gpa(),
        Page::Fixed(gpa) => gpa,
    }
}
