//! Changing a program's code: what the rewriting of system-call sites needs (`syscall::site`).
use super::area::{Area, Backing, checked_range};
use super::{Access, Gone, Space};
use crate::errno::{Errno, Result};
use crate::mm::frame::{Frame, memory};
use kasoku_abi::layout::PAGE;

/// Reach of a 32-bit relative jump, with room to spare.
const REACH: u64 = (2 << 30) - (1 << 20);
/// Bytes of one island.
pub const ISLAND_LEN: u64 = 32;

/// A page of islands: small pieces of code near a program's own.
pub(super) struct IslandPage {
    address: u64,
    used: u64,
}

impl Space {
    /// The bytes at an address of a program's code that may be rewritten: a private, read-only, executable mapping of a
    /// file. `None` elsewhere, and when the bytes lie on two pages.
    pub fn code(&self, address: u64, len: usize) -> Option<[u8; 16]> {
        let page = address / PAGE * PAGE;
        if len > 16 || (address + len as u64 - 1) / PAGE * PAGE != page {
            return None;
        }
        let areas = self.areas.lock();
        let (_, area) = areas.find(address)?;
        let fits =
            area.access.execute && !area.access.write && !area.shared && matches!(area.backing, Backing::File { .. });
        let entry = self.table.find(page).filter(|_| fits)?;
        let mut bytes = [0; 16];
        // SAFETY: inside one mapped page.
        unsafe {
            let from = memory().pointer(entry.gpa()).add((address % PAGE) as usize);
            core::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), len);
        }
        Some(bytes)
    }

    /// Overwrites bytes of one page of code; the page becomes the program's own first. No other vCPU executes the program
    /// meanwhile.
    pub fn write_code(&self, address: u64, bytes: &[u8]) -> Result<()> {
        let page = address / PAGE * PAGE;
        let areas = self.areas.lock();
        let (_, area) = areas.find(address).ok_or(Errno::EFAULT)?;
        let entry = self.table.find(page).ok_or(Errno::EFAULT)?;
        self.expel_others();
        let mut gone = Gone::default();
        let gpa = if memory().is_ram(entry.gpa()) && !entry.is_shared() {
            entry.gpa()
        } else {
            let copy = Frame::unspecified()?;
            // SAFETY: whole pages; the copy is not mapped yet.
            unsafe { core::ptr::copy_nonoverlapping(memory().pointer(entry.gpa()), copy.pointer(), PAGE as usize) };
            copy.gpa_leaked(|gpa| self.table.map(page, gpa, area.access, false, &mut gone))?
        };
        // SAFETY: the program's own page; the caller keeps the bytes inside it. Nobody executes them: this vCPU is here, the
        // others have been expelled.
        unsafe {
            let to = memory().pointer(gpa).add((address % PAGE) as usize);
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        drop(areas);
        self.flush(gone);
        Ok(())
    }

    /// Room for one island within reach of `near`, filled with `code`; where it is.
    pub fn place_island(&self, near: u64, code: impl FnOnce(u64) -> [u8; ISLAND_LEN as usize]) -> Result<u64> {
        let mut islands = self.islands.lock();
        let reaches = |page: &IslandPage| page.used < PAGE && page.address.abs_diff(near) < REACH;
        let index = match islands.iter().position(reaches) {
            Some(index) => index,
            None => {
                islands.push(IslandPage { address: self.new_island_page(near)?, used: 0 });
                islands.len() - 1
            }
        };
        let page = &mut islands[index];
        let address = page.address + page.used;
        let entry = self.table.find(page.address).ok_or(Errno::EFAULT)?;
        let bytes = code(address);
        // SAFETY: inside the island page, at a place that nothing jumps to yet.
        unsafe {
            let to = memory().pointer(entry.gpa()).add(page.used as usize);
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        page.used += ISLAND_LEN;
        Ok(address)
    }

    fn new_island_page(&self, near: u64) -> Result<u64> {
        let mut areas = self.areas.lock();
        let free = areas.find_free_near(PAGE, near).filter(|at| at.abs_diff(near) < REACH).ok_or(Errno::ENOMEM)?;
        let (start, end) = checked_range(free, PAGE)?;
        let access = Access { read: true, write: false, execute: true };
        let frame = Frame::zeroed()?;
        frame.gpa_leaked(|gpa| self.table.map(start, gpa, access, false, &mut Gone::default()))?;
        areas.insert(start, Area { end, access, shared: false, backing: Backing::Anonymous, label: "[kasoku]" });
        Ok(start)
    }
}
