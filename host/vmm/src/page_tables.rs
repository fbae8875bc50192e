//! The guest's initial page tables, and a walk of whatever the guest made of them since.
use crate::memory::{BadAddress, GuestMemory};
use kasoku_abi::Gpa;
use kasoku_abi::layout::{LARGE_PAGE, PAGE};

pub const PRESENT: u64 = 1 << 0;
pub const WRITABLE: u64 = 1 << 1;
pub const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
pub const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const LEVELS: u32 = 4;
const ENTRIES: u64 = 512;

/// Not enough RAM for what the guest needs before its first instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{ram} bytes of RAM do not hold the library OS, its configuration and its page tables: give the guest more memory"
)]
pub struct OutOfRam {
    pub ram: u64,
}

/// Hands out RAM from an address upwards.
#[derive(Debug)]
pub struct Allocator {
    next: u64,
    end: u64,
}

impl Allocator {
    pub fn new(start: u64, end: u64) -> Self {
        Self { next: start.next_multiple_of(PAGE), end }
    }

    /// `len` bytes, page aligned.
    pub fn take(&mut self, len: u64) -> Result<Gpa, OutOfRam> {
        let start = self.next;
        let end = len
            .checked_next_multiple_of(PAGE)
            .and_then(|len| start.checked_add(len))
            .filter(|&end| end <= self.end)
            .ok_or(OutOfRam { ram: self.end })?;
        self.next = end;
        Ok(Gpa(start))
    }

    pub fn next(&self) -> u64 {
        self.next
    }
}

/// A page-table root under construction in guest RAM, which is zero there.
pub struct PageTables<'a> {
    memory: &'a GuestMemory,
    /// Where tables go, and where they go when that is full.
    allocators: [&'a mut Allocator; 2],
    root: Gpa,
}

impl<'a> PageTables<'a> {
    pub fn new(memory: &'a GuestMemory, allocators: [&'a mut Allocator; 2]) -> Result<Self, OutOfRam> {
        let mut tables = Self { memory, allocators, root: Gpa(0) };
        tables.root = tables.new_table()?;
        Ok(tables)
    }

    fn new_table(&mut self) -> Result<Gpa, OutOfRam> {
        let [first, rest] = &mut self.allocators;
        first.take(PAGE).or_else(|_| rest.take(PAGE))
    }

    pub fn root(&self) -> Gpa {
        self.root
    }

    /// Maps [va, va + len) to [gpa, gpa + len) in pages of 2 MiB. All three are multiples of that.
    pub fn map_large(&mut self, va: u64, gpa: u64, len: u64, flags: u64) -> Result<(), OutOfRam> {
        for offset in (0..len).step_by(LARGE_PAGE as usize) {
            let entry = self.entry(va + offset, 2)?;
            self.store(entry, (gpa + offset) | flags | LARGE | ACCESSED | DIRTY);
        }
        Ok(())
    }

    /// The same in pages of 4 KiB.
    pub fn map_small(&mut self, va: u64, gpa: u64, len: u64, flags: u64) -> Result<(), OutOfRam> {
        for offset in (0..len).step_by(PAGE as usize) {
            let entry = self.entry(va + offset, 1)?;
            self.store(entry, (gpa + offset) | flags | ACCESSED | DIRTY);
        }
        Ok(())
    }

    /// Address of the entry for `va` at `level` (1 = 4 KiB pages), with the tables above it made where missing.
    fn entry(&mut self, va: u64, level: u32) -> Result<Gpa, OutOfRam> {
        let mut table = self.root;
        for above in (level + 1..=LEVELS).rev() {
            let at = slot(table, va, above);
            let mut entry = self.memory.read::<u64>(at).expect("tables are in RAM");
            if entry & PRESENT == 0 {
                // Rights are decided by the last level alone.
                entry = self.new_table()?.0 | PRESENT | WRITABLE | USER | ACCESSED;
                self.store(at, entry);
            }
            table = Gpa(entry & ADDRESS);
        }
        Ok(slot(table, va, level))
    }

    fn store(&self, at: Gpa, entry: u64) {
        self.memory.write(at, &entry).expect("tables are in RAM");
    }
}

fn slot(table: Gpa, va: u64, level: u32) -> Gpa {
    Gpa(table.0 + (va >> (12 + 9 * (level - 1))) % ENTRIES * 8)
}

/// What the guest's tables say about `va`: the guest-physical address and the last entry. They are the guest's own by
/// now, so every step is checked and nothing is believed.
pub fn translate(memory: &GuestMemory, root: u64, va: u64) -> Result<Option<(u64, u64)>, BadAddress> {
    let mut table = Gpa(root & ADDRESS);
    for level in (1..=LEVELS).rev() {
        let entry = memory.read::<u64>(slot(table, va, level))?;
        if entry & PRESENT == 0 {
            return Ok(None);
        }
        if level == 1 || (level == 2 && entry & LARGE != 0) {
            let size = if level == 1 { PAGE } else { LARGE_PAGE };
            return Ok(Some(((entry & ADDRESS & !(size - 1)) + va % size, entry)));
        }
        table = Gpa(entry & ADDRESS);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables<R>(test: impl FnOnce(&GuestMemory, PageTables<'_>) -> R) -> R {
        let memory = GuestMemory::new(4 * LARGE_PAGE).unwrap();
        let (mut few, mut rest) = (Allocator::new(0x9_0000, 0x9_2000), Allocator::new(0x10_0000, memory.ram().len()));
        let tables = PageTables::new(&memory, [&mut few, &mut rest]).unwrap();
        test(&memory, tables)
    }

    #[test]
    fn maps_small_and_large_pages_with_accessed_and_dirty_preset() {
        tables(|memory, mut tables| {
            let root = tables.root().0;
            tables.map_large(0x4000_0000_0000, 0x20_0000, 2 * LARGE_PAGE, PRESENT | USER | NO_EXECUTE).unwrap();
            tables.map_small(0x4000_4000_0000, 0x1_0000, 3 * PAGE, PRESENT | WRITABLE).unwrap();
            let (gpa, entry) = translate(memory, root, 0x4000_0020_1234).unwrap().unwrap();
            assert_eq!((gpa, entry & 0xfff, entry & NO_EXECUTE), (0x40_1234, 0xe5, NO_EXECUTE));
            let (gpa, entry) = translate(memory, root, 0x4000_4000_2008).unwrap().unwrap();
            assert_eq!((gpa, entry & 0xfff, entry & NO_EXECUTE), (0x1_2008, 0x63, 0));
            assert_eq!(translate(memory, root, 0x4000_4000_3000), Ok(None));
            assert_eq!(translate(memory, root, 0), Ok(None));
        });
    }

    #[test]
    fn a_walk_survives_any_table() {
        tables(|memory, tables| {
            let root = tables.root();
            for hostile in [0x7fff_ffff_f007, ADDRESS | 7, u64::MAX, 7, root.0 | 7] {
                memory.write(root, &hostile).unwrap();
                let _ = translate(memory, root.0, 0);
            }
            assert!(translate(memory, u64::MAX, 0).is_err());
        });
    }

    #[test]
    fn runs_out_of_ram_with_an_error() {
        let memory = GuestMemory::new(LARGE_PAGE).unwrap();
        let (mut few, mut rest) =
            (Allocator::new(PAGE, 2 * PAGE), Allocator::new(memory.ram().len() - PAGE, memory.ram().len()));
        let mut tables = PageTables::new(&memory, [&mut few, &mut rest]).unwrap();
        assert_eq!(tables.map_small(0, 0, PAGE, PRESENT), Err(OutOfRam { ram: LARGE_PAGE }));
        assert!(Allocator::new(0, 100).take(u64::MAX).is_err());
    }
}
