//! Page tables: four levels, edited through the direct map.
//!
//! An edit that makes an entry present, or more permissive, needs no flush; every other one is seen only after the caller
//! has flushed (`arch::privileged`). A mapped RAM frame's entry owns one reference to it. Accessed and dirty are preset in
//! 4 KiB entries: software KVM's shadow pages prefetch only entries that carry them.
use super::frame::{CHUNK_FRAMES, Frame, memory};
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use alloc::vec::Vec;
use kasoku_abi::Gpa;
use kasoku_abi::layout::{DIRECT_MAP, LARGE_PAGE, LIBOS_BASE, PAGE, REGIONS};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const ACCESSED_DIRTY: u64 = ACCESSED | 1 << 6;
const LARGE: u64 = 1 << 7;
/// Software bit: the page is there but PROT_NONE hides it (not present, address kept).
const HIDDEN: u64 = 1 << 9;
/// Software bit: the frame is shared with a file or another program, so a private write copies it.
const SHARED: u64 = 1 << 10;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What an entry allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
}

fn bits(access: Access) -> u64 {
    let mut bits = USER | ACCESSED_DIRTY;
    if access.read || access.write || access.execute {
        bits |= PRESENT;
    } else {
        bits |= HIDDEN;
    }
    if access.write {
        bits |= WRITABLE;
    }
    if !access.execute {
        bits |= NO_EXECUTE;
    }
    bits
}

/// A present (or hidden) entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry(u64);

impl Entry {
    /// Where it leads: the 4 KiB page of the address asked for, also inside a large page.
    pub fn gpa(self) -> Gpa {
        Gpa(self.0 & ADDRESS)
    }
    pub fn is_writable(self) -> bool {
        self.0 & (PRESENT | WRITABLE) == PRESENT | WRITABLE
    }
    pub fn is_shared(self) -> bool {
        self.0 & SHARED != 0
    }
    pub fn is_hidden(self) -> bool {
        self.0 & PRESENT == 0
    }
    pub fn is_executable(self) -> bool {
        self.0 & NO_EXECUTE == 0
    }
}

/// The page tables of one program.
pub struct PageTable {
    root: Gpa,
}

fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level)) as usize & 511
}

fn slot(table: Gpa, index: usize) -> *mut u64 {
    // SAFETY: a table is a page of RAM in the direct map, index < 512.
    unsafe { memory().pointer(table).cast::<u64>().add(index) }
}

fn load(slot: *mut u64) -> u64 {
    // SAFETY: slots come from `slot` above.
    unsafe { slot.read_volatile() }
}

fn store(slot: *mut u64, value: u64) {
    // SAFETY: slots come from `slot` above; the library OS owns all tables.
    unsafe { slot.write_volatile(value) };
}

fn is_mapped(entry: u64) -> bool {
    entry & (PRESENT | HIDDEN) != 0
}

/// Whether the entry leads to RAM that only this program has.
fn is_own(entry: u64) -> bool {
    entry & SHARED == 0 && memory().is_ram(Gpa(entry & ADDRESS))
}

fn drop_page(entry: u64) {
    let gpa = Gpa(entry & ADDRESS);
    if memory().is_ram(gpa) {
        memory().release(gpa);
    }
}

impl PageTable {
    /// Empty tables that map the library OS as `boot_root` does.
    pub fn new(boot_root: Gpa) -> Result<PageTable> {
        let kept = EMPTY_ROOTS.lock().pop();
        let root = match kept {
            Some(root) => root,
            None => Frame::zeroed_for_tables()?.into_gpa(),
        };
        for address in [LIBOS_BASE, DIRECT_MAP] {
            let (at, wanted) = (slot(root, index(address, 3)), load(slot(boot_root, index(address, 3))));
            if load(at) != wanted {
                store(at, wanted);
            }
        }
        Ok(PageTable { root })
    }

    pub fn root(&self) -> Gpa {
        self.root
    }

    /// The slot of the page directory entry for the address; tables above it are made when `make` says so.
    fn directory_slot(&self, address: u64, make: bool) -> Result<Option<*mut u64>> {
        let mut table = self.root;
        for level in [3, 2] {
            let at = slot(table, index(address, level));
            let entry = load(at);
            table = if entry & PRESENT != 0 {
                Gpa(entry & ADDRESS)
            } else if make {
                let new = Frame::zeroed_for_tables()?.into_gpa();
                store(at, new.0 | PRESENT | WRITABLE | USER | ACCESSED_DIRTY);
                new
            } else {
                return Ok(None);
            };
        }
        Ok(Some(slot(table, index(address, 1))))
    }

    fn entry_slot(&self, address: u64, make: bool) -> Result<Option<*mut u64>> {
        let Some(directory) = self.directory_slot(address, make)? else { return Ok(None) };
        let entry = load(directory);
        let table = if entry & LARGE != 0 && is_mapped(entry) {
            self.split(directory)?
        } else if entry & PRESENT != 0 {
            Gpa(entry & ADDRESS)
        } else if make {
            let new = Frame::zeroed_for_tables()?.into_gpa();
            store(directory, new.0 | PRESENT | WRITABLE | USER | ACCESSED_DIRTY);
            new
        } else {
            return Ok(None);
        };
        Ok(Some(slot(table, index(address, 0))))
    }

    /// Breaks a large page into 512 small ones with the same rights. (The translation stays the same, so nothing is stale
    /// but the large entry, which translates alike until the caller changes one of the small ones and flushes.)
    fn split(&self, directory: *mut u64) -> Result<Gpa> {
        let large = load(directory);
        let table = Frame::zeroed_for_tables()?.into_gpa();
        for i in 0..CHUNK_FRAMES {
            store(slot(table, i), (large & !LARGE) + i as u64 * PAGE);
        }
        store(directory, table.0 | PRESENT | WRITABLE | USER | ACCESSED_DIRTY);
        Ok(table)
    }

    /// The entry for the address, if any.
    pub fn find(&self, address: u64) -> Option<Entry> {
        let directory = self.directory_slot(address, false).ok()??;
        let entry = load(directory);
        if entry & LARGE != 0 && is_mapped(entry) {
            return Some(Entry((entry & !LARGE) + (address & (LARGE_PAGE - 1) & ADDRESS)));
        }
        if entry & PRESENT == 0 {
            return None;
        }
        let entry = load(slot(Gpa(entry & ADDRESS), index(address, 0)));
        is_mapped(entry).then_some(Entry(entry))
    }

    /// Whether nothing at all is mapped in the large page around the address, so that a large page fits.
    pub fn is_large_free(&self, address: u64) -> bool {
        match self.directory_slot(address, false) {
            Ok(Some(directory)) => !is_mapped(load(directory)),
            _ => true,
        }
    }

    /// Maps a page; the entry takes over the reference to a RAM frame. `shared` marks a frame that a private write must
    /// copy. Whatever was mapped there goes to `gone`, which the caller lets go after it has flushed.
    pub fn map(&self, address: u64, gpa: Gpa, access: Access, shared: bool, gone: &mut Gone) -> Result<()> {
        let at = self.entry_slot(address, true)?.ok_or(Errno::ENOMEM)?;
        let old = load(at);
        store(at, gpa.0 | bits(access) | if shared { SHARED } else { 0 });
        if is_mapped(old) {
            gone.entries.push((address, old, false));
        }
        Ok(())
    }

    /// Maps `count` pages of memory that is not counted (a layer, a region) where nothing is mapped yet, stopping at the
    /// end of the page table: returns how many were mapped.
    pub fn map_run(&self, address: u64, gpa: Gpa, count: u64, access: Access, shared: bool) -> Result<u64> {
        let at = self.entry_slot(address, true)?.ok_or(Errno::ENOMEM)?;
        let count = count.min(512 - index(address, 0) as u64);
        let flags = bits(access) | if shared { SHARED } else { 0 };
        for i in 0..count {
            // SAFETY: stays inside the table by the limit on `count`.
            let at = unsafe { at.add(i as usize) };
            if !is_mapped(load(at)) {
                store(at, (gpa.0 + i * PAGE) | flags);
            }
        }
        Ok(count)
    }

    /// Maps a large page where [`Self::is_large_free`].
    pub fn map_large(&self, address: u64, gpa: Gpa, access: Access, shared: bool) -> Result<()> {
        let at = self.directory_slot(address, true)?.ok_or(Errno::ENOMEM)?;
        store(at, gpa.0 | bits(access) | LARGE | if shared { SHARED } else { 0 });
        Ok(())
    }

    /// Calls `visit` with the slots of the mapped entries in the range: whole large pages as one, parts of large pages
    /// after splitting them. Stops at an error.
    fn visit(&self, start: u64, end: u64, mut visit: impl FnMut(u64, *mut u64, bool) -> Result<()>) -> Result<()> {
        let mut address = start;
        while address < end {
            let next = ((address / LARGE_PAGE) + 1) * LARGE_PAGE;
            let Some(directory) = self.directory_slot(address, false)? else {
                // Nothing in this gigabyte (or more): skip to the next one.
                address = ((address >> 30) + 1) << 30;
                continue;
            };
            let entry = load(directory);
            if is_mapped(entry) {
                if entry & LARGE != 0 && address.is_multiple_of(LARGE_PAGE) && next <= end {
                    visit(address, directory, true)?;
                } else {
                    let first = self.entry_slot(address, false)?.ok_or(Errno::EFAULT)?;
                    let count = (next.min(end) - address) / PAGE;
                    for i in 0..count {
                        // SAFETY: stays inside the table: `next` is its end.
                        let at = unsafe { first.add(i as usize) };
                        if is_mapped(load(at)) {
                            visit(address + i * PAGE, at, false)?;
                        }
                    }
                }
            }
            address = next;
        }
        Ok(())
    }

    /// Removes all pages of the range into `gone`, whose frames the caller lets go after it has flushed. Empty page tables
    /// stay; they are freed with the program.
    pub fn unmap(&self, start: u64, end: u64, gone: &mut Gone) -> Result<()> {
        self.visit(start, end, |address, at, large| {
            gone.entries.push((address, load(at), large));
            store(at, 0);
            Ok(())
        })
    }

    /// Changes the rights of all pages of the range; pages that are shared copy-on-write stay read-only. Says whether
    /// anything got less permissive, so that the caller must flush.
    pub fn protect(&self, start: u64, end: u64, access: Access, private: bool) -> Result<bool> {
        let mut flush = false;
        self.visit(start, end, |_, at, _| {
            let old = load(at);
            let mut new = (old & (ADDRESS | LARGE | SHARED)) | bits(access);
            if private && old & SHARED != 0 {
                new &= !WRITABLE;
            }
            flush |= old & PRESENT != 0
                && (new & PRESENT == 0 || (old & !new) & WRITABLE != 0 || (new & !old) & NO_EXECUTE != 0);
            store(at, new);
            Ok(())
        })?;
        Ok(flush)
    }

    /// Small pages of RAM in the range that nobody shares.
    pub fn count_own(&self, start: u64, end: u64) -> Result<usize> {
        let mut count = 0;
        self.visit(start, end, |_, at, large| {
            count += usize::from(!large && is_own(load(at)));
            Ok(())
        })?;
        Ok(count)
    }

    /// Gives `other` the same pages in the range (fork): RAM frames get one more reference. Private pages become read-only
    /// and shared in both, so that whoever writes first copies; but with `copy`, small pages that nobody shared before are
    /// copied at once, and stay as they are here. Says whether anything got less permissive here, so that the caller must
    /// flush.
    pub fn copy_to(&self, other: &PageTable, start: u64, end: u64, private: bool, copy: bool) -> Result<bool> {
        let mut flush = false;
        self.visit(start, end, |address, at, large| {
            let mut entry = load(at);
            if private && copy && !large && is_own(entry) {
                let page = super::copy_of(Gpa(entry & ADDRESS))?;
                let to = other.entry_slot(address, true)?.ok_or(Errno::ENOMEM)?;
                store(to, entry & !ADDRESS | page.into_gpa().0);
                return Ok(());
            }
            if private {
                flush |= entry & WRITABLE != 0;
                entry = (entry | SHARED) & !WRITABLE;
                store(at, entry);
            }
            let gpa = entry & ADDRESS;
            if memory().is_ram(Gpa(gpa)) {
                for i in 0..if large { CHUNK_FRAMES as u64 } else { 1 } {
                    memory().retain(Gpa(gpa + i * PAGE));
                }
            }
            let to = if large { other.directory_slot(address, true)? } else { other.entry_slot(address, true)? };
            store(to.ok_or(Errno::ENOMEM)?, entry);
            Ok(())
        })?;
        Ok(flush)
    }

    /// Moves the pages of `[from, from + len)` to `to` (where nothing is mapped); the caller flushes.
    pub fn relocate(&self, from: u64, len: u64, to: u64) -> Result<()> {
        let large_moves = (from ^ to).is_multiple_of(LARGE_PAGE);
        self.visit(from, from + len, |address, at, large| {
            let entry = load(at);
            let target = to + (address - from);
            if large && large_moves {
                store(self.directory_slot(target, true)?.ok_or(Errno::ENOMEM)?, entry);
            } else {
                for i in 0..if large { CHUNK_FRAMES as u64 } else { 1 } {
                    let slot = self.entry_slot(target + i * PAGE, true)?.ok_or(Errno::ENOMEM)?;
                    store(slot, (if large { entry & !LARGE } else { entry }) + i * PAGE);
                }
            }
            store(at, 0);
            Ok(())
        })
    }

    /// Forgets which pages of the range (whole large pages) were touched; from the caller's flush on, touches are noted
    /// again, page by page: large pages of RAM become small ones.
    pub fn forget_touches(&self, start: u64, end: u64) -> Result<()> {
        self.visit(start, end, |_, at, large| {
            let entry = load(at);
            if large && is_own(entry) {
                let table = self.split(at)?;
                for index in 0..CHUNK_FRAMES {
                    let small = slot(table, index);
                    store(small, load(small) & !ACCESSED);
                }
            } else if !large {
                store(at, entry & !ACCESSED);
            }
            Ok(())
        })
    }

    /// Calls `visit` with each group of small pages of the range (whole large pages) that software KVM looks at together, and
    /// which of its pages were touched and may move, a bit for each.
    pub fn visit_touched(&self, start: u64, end: u64, mut visit: impl FnMut(&[Slot], u8) -> Result<()>) -> Result<()> {
        let mut group = Group::default();
        self.visit(start, end, |address, at, large| {
            if !large {
                if group.number() != Some(address / GROUP) {
                    group.finish(&mut visit)?;
                }
                group.slots.push(Slot { address, at });
            }
            Ok(())
        })?;
        group.finish(&mut visit)
    }

    /// Marks a page as no longer shared and gives it the access (copy-on-write by the last owner).
    pub fn unshare(&self, address: u64, access: Access) -> Result<()> {
        let at = self.entry_slot(address, false)?.ok_or(Errno::EFAULT)?;
        store(at, load(at) & ADDRESS | bits(access));
        Ok(())
    }
}

impl Drop for PageTable {
    fn drop(&mut self) {
        // All pages were unmapped by the address space; what is left are the tables.
        for top in (0..512).filter(|i| *i != index(LIBOS_BASE, 3) && *i != index(DIRECT_MAP, 3)) {
            let at = slot(self.root, top);
            let entry = load(at);
            if entry != 0 {
                free_tables(entry, 2);
                store(at, 0);
            }
        }
        let mut roots = EMPTY_ROOTS.lock();
        if roots.len() < KEPT_ROOTS {
            roots.push(self.root);
        } else {
            memory().release(self.root);
        }
    }
}

/// Roots of programs that have ended, which map the library OS and nothing else. KVM goes on guarding the last ones that it
/// used: each of the 512 words of one that was zeroed as a fresh frame would be a write that it emulates, a millisecond
/// together. Emptied like this a root takes a few.
static EMPTY_ROOTS: Mutex<Vec<Gpa>> = Mutex::new(Vec::new());
const KEPT_ROOTS: usize = 16;

fn free_tables(entry: u64, level: u32) {
    if entry & PRESENT == 0 || entry & LARGE != 0 {
        return;
    }
    let table = Gpa(entry & ADDRESS);
    if level > 0 {
        for i in 0..512 {
            free_tables(load(slot(table, i)), level - 1);
        }
    }
    memory().release(table);
}

/// Bytes of the pages that software KVM prefetches together, up to the first that it cannot have.
pub const GROUP: u64 = 8 * PAGE;

/// A small page's entry while its table is visited.
pub struct Slot {
    address: u64,
    at: *mut u64,
}

impl Slot {
    /// Which page of its group it is.
    pub fn place(&self) -> u32 {
        (self.address % GROUP / PAGE) as u32
    }

    pub fn gpa(&self) -> Gpa {
        Gpa(load(self.at) & ADDRESS)
    }

    fn is_touched(&self) -> bool {
        load(self.at) & (PRESENT | ACCESSED) == PRESENT | ACCESSED
    }

    /// Whether its bytes may lie elsewhere: nobody else has them, or nobody changes them.
    pub fn may_move(&self) -> bool {
        let entry = load(self.at);
        let gpa = self.gpa();
        let is_layer = !memory().is_ram(gpa) && gpa.0 < REGIONS;
        entry & PRESENT != 0 && (is_layer || is_own(entry) && memory().is_exclusive(gpa))
    }

    /// Leads to the copy from now on; the caller flushes, then lets go what is `gone`.
    pub fn move_to(&self, copy: Frame, gone: &mut Gone) {
        let entry = load(self.at);
        store(self.at, entry & !(ADDRESS | SHARED) | ACCESSED | copy.into_gpa().0);
        gone.entries.push((self.address, entry, false));
    }

    /// Counts as touched, which prefetching wants.
    pub fn touch(&self) {
        store(self.at, load(self.at) | ACCESSED);
    }
}

#[derive(Default)]
struct Group {
    slots: Vec<Slot>,
}

impl Group {
    fn number(&self) -> Option<u64> {
        self.slots.first().map(|slot| slot.address / GROUP)
    }

    fn finish(&mut self, visit: &mut impl FnMut(&[Slot], u8) -> Result<()>) -> Result<()> {
        if !self.slots.is_empty() {
            let touched = self.slots.iter().filter(|slot| slot.is_touched() && slot.may_move());
            let touched = touched.fold(0, |set, slot| set | 1 << slot.place());
            visit(&self.slots, touched)?;
        }
        self.slots.clear();
        Ok(())
    }
}

/// Pages that were unmapped and wait for the flush.
#[derive(Default)]
pub struct Gone {
    /// Address, entry, whether it was a large page.
    entries: Vec<(u64, u64, bool)>,
}

impl Gone {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many went, a large one counted once.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Address of the first, which must be there.
    pub fn first(&self) -> u64 {
        self.entries[0].0
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        for (_, entry, large) in self.entries.drain(..) {
            if large && memory().is_ram(Gpa(entry & ADDRESS)) {
                for i in 0..CHUNK_FRAMES as u64 {
                    drop_page(entry + i * PAGE);
                }
            } else {
                drop_page(entry);
            }
        }
    }
}
