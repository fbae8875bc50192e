//! What ring 3 cannot do itself: the stubs in the vCPU's supervisor page do it, reached by `int3`.
//!
//! One instruction is the only one of the library OS that asks; the stub ends the guest when it hears from another.
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

unsafe extern "C" {
    fn kasoku_ask_ring0();
    fn kasoku_asked_ring0();
}

core::arch::global_asm!(
    ".global kasoku_ask_ring0, kasoku_asked_ring0",
    "kasoku_ask_ring0:",
    "int3",
    "kasoku_asked_ring0:",
    "ret",
);

/// Where the stub returns to: behind the instruction that asks.
pub(super) fn asked() -> u64 {
    kasoku_asked_ring0 as *const () as u64
}

/// Asks ring 0 for an operation.
///
/// # Safety
/// With [`OP_LOAD_ROOT`], `operand` is the root of page tables that map the library OS as every root does.
unsafe fn ask(operation: u32, operand: u64) {
    // SAFETY: the stub changes cr3 or forgets a translation, and no register; the rest is the caller's.
    unsafe { asm!("call {}", sym kasoku_ask_ring0, in("eax") operation, in("rdi") operand) };
}

/// Switches to other page tables (or to the same ones, which forgets every cached translation).
///
/// # Safety
/// `root` maps the library OS as every root does.
pub unsafe fn load_root(root: Gpa) {
    // SAFETY: the stub loads cr3 from rdi and returns; the mapping of this code does not change, by contract.
    unsafe { ask(OP_LOAD_ROOT, root.0) };
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
    stats::timed(Kind::Flush, || unsafe { ask(OP_INVALIDATE, address) });
}
