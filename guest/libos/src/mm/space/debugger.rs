//! A program's memory as others see it: debuggers, which no rights of a mapping stop (ptrace(2)), and programs that copy from
//! and to each other (process_vm_readv(2)).
use super::{Space, Touch};
use crate::errno::{Errno, Result};
use crate::mm::frame::memory;
use kasoku_abi::Gpa;
use kasoku_abi::layout::PAGE;

impl Space {
    /// Bytes of the program's memory; how many there are, up to the first page that is not there. With `forced`, pages that the
    /// program itself may not read are read.
    pub fn peek(&self, address: u64, to: &mut [u8], forced: bool) -> usize {
        self.pieces(address, to.len(), Touch::Read, forced, |at, from, len| {
            // SAFETY: `len` bytes of a page that is mapped, and that stays while the library OS's lock is held.
            unsafe { core::ptr::copy_nonoverlapping(from, to[at..at + len].as_mut_ptr(), len) };
        })
    }

    /// Changes the program's memory; how many bytes, up to the first page that cannot be had. With `forced`, private pages that
    /// the program itself may not write to are changed (breakpoints).
    pub fn poke(&self, address: u64, from: &[u8], forced: bool) -> usize {
        self.pieces(address, from.len(), Touch::Write, forced, |at, to, len| {
            // SAFETY: as in `peek`; the page is the program's own, or one of a shared mapping that may be written to.
            unsafe { core::ptr::copy_nonoverlapping(from[at..at + len].as_ptr(), to, len) };
        })
    }

    fn pieces(
        &self,
        address: u64,
        len: usize,
        touch: Touch,
        forced: bool,
        mut copy: impl FnMut(usize, *mut u8, usize),
    ) -> usize {
        let mut done = 0;
        while done < len {
            let Some(at) = address.checked_add(done as u64) else { break };
            let here = (len - done).min((PAGE - at % PAGE) as usize);
            let Ok(gpa) = self.page_for(at, touch, forced) else { break };
            copy(done, memory().pointer(Gpa(gpa.0 + at % PAGE)), here);
            done += here;
        }
        done
    }

    fn page_for(&self, address: u64, touch: Touch, forced: bool) -> Result<Gpa> {
        if !crate::user::is_user_range(address, 1) {
            return Err(Errno::EFAULT);
        }
        let page = address / PAGE * PAGE;
        let there = |entry: &super::super::table::Entry| match touch {
            Touch::Write if forced => !entry.is_shared(),
            Touch::Write => entry.is_writable(),
            _ => forced || !entry.is_hidden(),
        };
        if let Some(entry) = self.table.find(page).filter(there) {
            // What a file of a layer shows is nobody's to write to.
            if touch != Touch::Write || entry.is_writable() || memory().is_ram(entry.gpa()) {
                return Ok(entry.gpa());
            }
        }
        match forced {
            true => self.bring_for_debugger(address, touch),
            false => self.fault(address, touch),
        }
        .map_err(|_| Errno::EFAULT)?;
        self.table.find(page).filter(there).map(|entry| entry.gpa()).ok_or(Errno::EFAULT)
    }
}
