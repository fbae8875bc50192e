//! Address spaces: what a program has mapped (areas), and its page tables.
//!
//! `area` holds the list of areas and its arithmetic, `fault` brings pages in, `change` maps, unmaps, protects and moves.
//! Pages come in on first touch, a window at a time: a fault costs 12 us on software KVM, an entry 0.02 us.
mod area;
mod change;
mod debugger;
mod fault;
mod heap;
mod pack;
mod revoke;
#[cfg(test)]
mod tests;
mod text;

pub use area::{Area, Backing};
pub use change::{Fixed, MapRequest};
pub use fault::{Denied, Touch};
pub use pack::hot_chunks;
pub use text::ISLAND_LEN;

use super::table::{Access, Gone, PageTable};
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use alloc::sync::Arc;
use area::Areas;
use core::sync::atomic::{AtomicU32, Ordering};
use kasoku_abi::Gpa;
use kasoku_abi::layout::PAGE;

/// Read and write.
pub const READ_WRITE: Access = Access { read: true, write: true, execute: false };

/// One program's memory.
pub struct Space {
    table: Arc<PageTable>,
    areas: Mutex<Areas>,
    heap: Mutex<heap::Heap>,
    islands: Mutex<alloc::vec::Vec<text::IslandPage>>,
}

impl Space {
    /// An empty address space; `boot_root` maps the library OS.
    pub fn new(boot_root: Gpa) -> Result<Space> {
        Ok(Space {
            table: Arc::new(PageTable::new(boot_root)?),
            areas: Mutex::new(Areas::default()),
            heap: Mutex::new(heap::Heap::default()),
            islands: Mutex::new(alloc::vec::Vec::new()),
        })
    }

    /// Root of its page tables.
    pub fn root(&self) -> Gpa {
        self.table.root()
    }

    /// The physical address behind a mapped address.
    pub fn physical(&self, address: u64) -> Option<u64> {
        self.table.find(address / PAGE * PAGE).map(|entry| entry.gpa().0 + address % PAGE)
    }

    /// Writes bytes to memory that the program may write, whether or not its page tables are loaded.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let at = address + done as u64;
            let here = (bytes.len() - done).min((PAGE - at % PAGE) as usize);
            if !self.table.find(at / PAGE * PAGE).is_some_and(|entry| entry.is_writable()) {
                self.fault(at, Touch::Write).map_err(|_| Errno::EFAULT)?;
            }
            let gpa = self.physical(at).ok_or(Errno::EFAULT)?;
            // SAFETY: a writable page of the program; the piece stays inside it.
            unsafe {
                let to = super::frame::memory().pointer(Gpa(gpa));
                core::ptr::copy_nonoverlapping(bytes[done..].as_ptr(), to, here);
            }
            done += here;
        }
        Ok(())
    }

    /// Changes a word that the program may write, in one step for all vCPUs: `change` says to what, `None` leaves it. What it
    /// was before; EFAULT where the program may not write.
    pub fn update_word(&self, address: u64, mut change: impl FnMut(u32) -> Option<u32>) -> Result<u32> {
        let page = address / PAGE * PAGE;
        if !self.table.find(page).is_some_and(|entry| entry.is_writable()) {
            self.fault(address, Touch::Write).map_err(|_| Errno::EFAULT)?;
        }
        let entry = self.table.find(page).filter(|entry| entry.is_writable()).ok_or(Errno::EFAULT)?;
        let offset = (address % PAGE) as usize;
        if !offset.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        // SAFETY: an aligned word of a writable page of the program, which the entry keeps while the library OS's lock is held;
        // the program's own accesses are those of other processors.
        let word = unsafe { &*super::frame::memory().pointer(entry.gpa()).add(offset).cast::<AtomicU32>() };
        Ok(word.fetch_update(Ordering::AcqRel, Ordering::Acquire, &mut change).unwrap_or_else(|same| same))
    }

    /// Calls `visit` with every area, lowest first (`/proc/self/maps`).
    pub fn for_each_area(&self, mut visit: impl FnMut(u64, &Area)) {
        for (start, area) in self.areas.lock().iter() {
            visit(start, area);
        }
    }

    /// Bytes mapped, and bytes of it that are in memory.
    pub fn sizes(&self) -> (u64, u64) {
        let areas = self.areas.lock();
        let mapped = areas.iter().map(|(start, area)| area.end - start).sum();
        (mapped, areas.resident * PAGE)
    }

    /// Uses its page tables on this vCPU from now on.
    #[cfg(target_os = "none")]
    pub fn activate(&self) {
        super::active::load(&self.table);
    }

    /// Makes cached translations of what has changed disappear from all vCPUs, then frees the pages that went.
    fn flush(&self, gone: Gone) {
        match gone.len() {
            0 => {}
            1 => self.flush_page(gone.first()),
            _ => self.flush_all(),
        }
        drop(gone);
    }
}

/// What reaches the vCPUs. Host tests have none.
#[cfg(target_os = "none")]
impl Space {
    fn flush_page(&self, address: u64) {
        super::active::flush(&self.table, Some(address));
    }

    /// Forgets a translation less permissive than the table, with which this vCPU has just faulted.
    fn forget_page(&self, address: u64) {
        crate::arch::privileged::flush_page(address);
    }

    fn flush_all(&self) {
        super::active::flush(&self.table, None);
    }

    /// Keeps other vCPUs from executing the program's code until the caller gives the library OS's lock back.
    fn expel_others(&self) {
        super::active::expel_others(&self.table);
    }
}

#[cfg(not(target_os = "none"))]
impl Space {
    fn flush_page(&self, _address: u64) {}

    fn forget_page(&self, _address: u64) {}

    fn flush_all(&self) {}

    fn expel_others(&self) {}
}

impl Drop for Space {
    fn drop(&mut self) {
        let mut gone = Gone::default();
        for (start, area) in self.areas.lock().iter() {
            // Unmapping allocates only to split a large page at the end of a range, which an area's own end never needs
            // twice; what cannot be unmapped for want of memory stays allocated.
            let _ = self.table.unmap(start, area.end, &mut gone);
        }
    }
}
