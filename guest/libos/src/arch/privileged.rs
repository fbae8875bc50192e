//! What ring 3 cannot do itself: the stubs in the vCPU's supervisor page do it, reached by `int3`.
//!
//! Each costs about 7 us on software KVM (an instruction at ring 0 is emulated there): edits of page tables are batched
//! and flushed once.
use super::cpu;
use crate::stats::{self, Kind};
use core::arch::asm;
use kasoku_abi::Gpa;

/// Operations of the `int3` stub, in eax.
pub(super) const OP_LOAD_ROOT: u32 = 0;
pub(super) const OP_INVALIDATE: u32 = 1;

/// Switches to other page tables (or to the same ones, which forgets every cached translation).
///
/// # Safety
/// `root` maps the library OS as every root does.
pub unsafe fn load_root(root: Gpa) {
    // SAFETY: the stub loads cr3 from rdi and returns; the mapping of this code does not change, by contract.
    unsafe { asm!("int3", in("eax") OP_LOAD_ROOT, in("rdi") root.0, options(nostack)) };
    // SAFETY: this vCPU's own word.
    unsafe { (*cpu::local()).root = root.0 };
}

/// The page tables in use.
pub fn root() -> Gpa {
    // SAFETY: this vCPU's own word.
    Gpa(unsafe { (*cpu::local()).root })
}

/// Forgets all cached translations of this vCPU.
pub fn flush_all() {
    // SAFETY: the same root again.
    stats::timed(Kind::Flush, || unsafe { load_root(root()) });
}

/// Forgets the cached translation of one page.
pub fn flush_page(address: u64) {
    // SAFETY: `invlpg` has no effect on memory.
    stats::timed(Kind::Flush, || unsafe { asm!("int3", in("eax") OP_INVALIDATE, in("rdi") address, options(nostack)) });
}
