//! Large pages of a library whose segments differ in their rights.
use super::{Access, Backing, Denied, Fixed, MapRequest, Space, Touch};
use crate::errno::{Errno, Result};
use crate::mm::frame::tests::{TEST_LAYER, test_memory};
use crate::mm::frame::{Frame, memory};
use crate::mm::source::{MapSource, Page};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kasoku_abi::Gpa;
use kasoku_abi::layout::{LARGE_PAGE, PAGE};

const READ: Access = Access { read: true, write: false, execute: false };
const READ_EXECUTE: Access = Access { read: true, write: false, execute: true };
const READ_WRITE: Access = super::READ_WRITE;
const NOTHING: Access = Access { read: false, write: false, execute: false };
/// Where the library begins, and the file's length: a large page and a half.
const BASE: u64 = 0x7000_0000_0000;
const FILE_LEN: u64 = LARGE_PAGE / 2 * 3;

/// A file of a layer.
struct Library;

impl MapSource for Library {
    fn page(&self, index: u64, _write: bool) -> Result<Page> {
        (index < FILE_LEN / PAGE).then_some(Page::Fixed(Gpa(TEST_LAYER.0 + index * PAGE))).ok_or(Errno::EFAULT)
    }

    fn run(&self, index: u64, write: bool) -> Option<(Gpa, u64)> {
        (!write && index < FILE_LEN / PAGE).then(|| (Gpa(TEST_LAYER.0 + index * PAGE), FILE_LEN / PAGE - index))
    }
}

fn map(space: &Space, address: u64, len: u64, access: Access, backing: Backing) {
    let request =
        MapRequest { address, len, access, shared: false, fixed: Fixed::Replace, backing, populate: false, label: "" };
    assert_eq!(space.map(request), Ok(address));
}

fn file(offset: u64) -> Backing {
    // A source of its own for each mapping, as files give them.
    Backing::File { source: Arc::new(Library), offset, path: None }
}

fn space() -> Space {
    test_memory();
    let boot_root = Frame::zeroed_for_tables().unwrap().into_gpa();
    Space::new(boot_root).unwrap()
}

/// As a loader maps a library: all of it, then the segments over it.
fn loaded() -> Space {
    let space = space();
    map(&space, BASE, FILE_LEN, READ, file(0));
    map(&space, BASE + 100 * PAGE, 300 * PAGE, READ_EXECUTE, file(100 * PAGE));
    map(&space, BASE + 400 * PAGE, FILE_LEN - 400 * PAGE, READ, file(400 * PAGE));
    space
}

fn entry(space: &Space, page: u64) -> Option<(u64, bool, bool)> {
    let found = space.table.find(BASE + page * PAGE)?;
    (!found.is_hidden()).then(|| (found.gpa().0, found.is_writable(), found.is_executable()))
}

fn layer_page(page: u64) -> u64 {
    TEST_LAYER.0 + page * PAGE
}

#[test]
fn segments_of_one_file_share_a_large_page() {
    let space = loaded();
    assert!(space.table.is_large_free(BASE), "nothing comes in while the loader is at work");
    space.fault(BASE + 7 * PAGE, Touch::Read).unwrap();
    for page in [0, 7, 100, 399, 400, 511] {
        assert_eq!(entry(&space, page), Some((layer_page(page), false, true)));
    }
    // The rest of the file does not fill a large page.
    space.fault(BASE + 600 * PAGE, Touch::Read).unwrap();
    assert_eq!(entry(&space, 600), Some((layer_page(600), false, false)));
    assert_eq!(space.fault(BASE + FILE_LEN, Touch::Read), Err(Denied::NotMapped));
    assert_eq!(space.fault(BASE + 7 * PAGE, Touch::Write), Err(Denied::Access));
}

#[test]
fn a_hole_a_guard_or_another_order_forbid_it() {
    let other_backings: [(u64, &dyn Fn(&Space)); 4] = [
        (200, &|space| space.unmap(BASE + 200 * PAGE, PAGE).unwrap()),
        (201, &|space| space.protect(BASE + 201 * PAGE, PAGE, NOTHING).unwrap()),
        (202, &|space| map(space, BASE + 202 * PAGE, PAGE, READ, Backing::Anonymous)),
        (203, &|space| map(space, BASE + 203 * PAGE, PAGE, READ, file(0))),
    ];
    for (page, change) in other_backings {
        let space = loaded();
        change(&space);
        space.fault(BASE + 150 * PAGE, Touch::Execute).unwrap();
        assert_eq!(entry(&space, 150), Some((layer_page(150), false, true)));
        assert_eq!(entry(&space, 0), None, "page {page} is not the file's");
        let at = space.fault(BASE + page * PAGE, Touch::Read);
        let expected = match page {
            200 => Err(Denied::NotMapped),
            201 => Err(Denied::Access),
            _ => Ok(()),
        };
        assert_eq!(at, expected);
    }
}

#[test]
fn changes_in_the_middle_of_a_large_page_leave_the_rest() {
    let space = loaded();
    space.fault(BASE, Touch::Read).unwrap();
    space.unmap(BASE + 20 * PAGE, PAGE).unwrap();
    space.protect(BASE + 30 * PAGE, PAGE, NOTHING).unwrap();
    space.protect(BASE + 40 * PAGE, PAGE, READ_WRITE).unwrap();
    assert_eq!(space.fault(BASE + 20 * PAGE, Touch::Read), Err(Denied::NotMapped));
    assert_eq!(space.fault(BASE + 30 * PAGE, Touch::Read), Err(Denied::Access));
    assert_eq!((entry(&space, 20), entry(&space, 30)), (None, None));
    assert_eq!(entry(&space, 40), Some((layer_page(40), false, false)), "a private page is written after it is copied");
    assert_eq!(entry(&space, 21), Some((layer_page(21), false, true)));
    space.fault(BASE + 40 * PAGE, Touch::Write).unwrap();
    let (own, writable, _) = entry(&space, 40).unwrap();
    assert!(writable && memory().is_ram(Gpa(own)));
    assert_eq!(entry(&space, 41), Some((layer_page(41), false, true)));
}

#[test]
fn a_write_to_a_private_page_of_a_large_page_copies_it() {
    let space = space();
    map(&space, BASE, FILE_LEN, READ, file(0));
    map(&space, BASE + 500 * PAGE, 12 * PAGE, READ_WRITE, file(500 * PAGE));
    space.fault(BASE, Touch::Read).unwrap();
    assert_eq!(entry(&space, 505), Some((layer_page(505), false, false)));
    space.fault(BASE + 505 * PAGE, Touch::Write).unwrap();
    let (own, writable, executable) = entry(&space, 505).unwrap();
    assert!(writable && !executable && memory().is_ram(Gpa(own)));
    assert_eq!(entry(&space, 0), Some((layer_page(0), false, false)));
    // A fork shares what was copied and what was not.
    let child = space.fork(space.root(), false).unwrap();
    assert_eq!(child.table.find(BASE).unwrap().gpa(), TEST_LAYER);
    child.fault(BASE + 505 * PAGE, Touch::Write).unwrap();
    assert_ne!(child.table.find(BASE + 505 * PAGE).unwrap().gpa().0, own);
}

#[test]
fn a_fork_copies_at_once_what_a_small_program_has_of_its_own() {
    for alone in [true, false] {
        let space = space();
        map(&space, BASE, 4 * PAGE, READ_WRITE, Backing::Anonymous);
        space.write(BASE, b"parent").unwrap();
        let before = space.physical(BASE);
        let child = space.fork(space.root(), alone).unwrap();
        assert_eq!(entry(&space, 0).unwrap().1, alone, "the parent goes on writing");
        assert_eq!(entry(&child, 0).unwrap().1, alone);
        child.write(BASE, b"child!").unwrap();
        assert_ne!(space.physical(BASE), child.physical(BASE));
        assert_eq!(space.physical(BASE), before);
        let read = |space: &Space| {
            let mut bytes = [0; 6];
            let at = memory().pointer(Gpa(space.physical(BASE).unwrap()));
            // SAFETY: a mapped page of the test's memory.
            unsafe { core::ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), 6) };
            bytes
        };
        assert_eq!((&read(&space), &read(&child)), (b"parent", b"child!"));
        // A second fork shares what the first one did not copy.
        let other = child.fork(child.root(), alone).unwrap();
        assert_eq!(&read(&other), b"child!");
    }
}

/// Maps zeroed memory of so many pages at BASE and writes each page's number into it.
fn numbered(space: &Space, pages: u64) {
    map(space, BASE, pages * PAGE, READ_WRITE, Backing::Anonymous);
    for page in 0..pages {
        space.write(BASE + page * PAGE, &page.to_le_bytes()).unwrap();
    }
}

fn number_at(space: &Space, page: u64) -> u64 {
    let at = memory().pointer(Gpa(space.physical(BASE + page * PAGE).unwrap()));
    // SAFETY: a page of test RAM.
    unsafe { at.cast::<u64>().read() }
}

#[test]
fn what_was_touched_is_packed_and_nothing_else_moves() {
    let space = space();
    numbered(&space, 600);
    let before: Vec<u64> = (0..600).map(|page| entry(&space, page).unwrap().0).collect();
    space.forget_touches().unwrap();
    let touched = [3, 64, 65, 66, 70, 300, 599];
    for page in touched {
        // What the processor does.
        space.table.unshare(BASE + page * PAGE, READ_WRITE).unwrap();
    }
    let pinned = Gpa(before[300]);
    // Six that were touched and may move; 67 to 69, so that the group of 64 is complete up to its last.
    assert_eq!(space.pack(|gpa| gpa == pinned), Ok(9));
    let chunk = entry(&space, 3).unwrap().0 / LARGE_PAGE;
    for page in 0..600 {
        assert_eq!(number_at(&space, page), page);
        let (gpa, writable, executable) = entry(&space, page).unwrap();
        assert!(writable && !executable);
        let moved = matches!(page, 3 | 64..=70 | 599);
        assert_eq!(gpa / LARGE_PAGE == chunk, moved, "page {page}");
        assert_eq!(gpa == before[page as usize], !moved);
    }
}

#[test]
fn packing_copies_pages_of_layers_and_leaves_large_ones_and_forks() {
    let space = loaded();
    space.fault(BASE, Touch::Read).unwrap();
    space.fault(BASE + 600 * PAGE, Touch::Read).unwrap();
    let child = space.fork(space.root(), false).unwrap();
    space.forget_touches().unwrap();
    space.table.unshare(BASE + 600 * PAGE, READ).unwrap();
    assert_eq!(space.pack(|_| false), Ok(1));
    assert_eq!(entry(&space, 7), Some((layer_page(7), false, true)), "one large page still");
    let (own, writable, _) = entry(&space, 600).unwrap();
    assert!(memory().is_ram(Gpa(own)) && !writable);
    assert_eq!(child.table.find(BASE + 600 * PAGE).unwrap().gpa().0, layer_page(600));
    assert!(!space.table.is_large_free(BASE));
}
