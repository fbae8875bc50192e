//! Exceptions and preemption: what each means for the program that ran into it.
use super::regs::Regs;
use super::{cpu, entry};
use crate::mm::space::{Denied, Touch};
use crate::sched;
use crate::signal::{self, SigInfo};
use crate::stats::{self, Kind};
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general::*;

unsafe extern "C" {
    fn kasoku_copy_fault();
}

// Bits of a page fault's error code.
const FAULT_WRITE: u64 = 1 << 1;
const FAULT_EXECUTE: u64 = 1 << 4;

static LAST_VECTOR: AtomicU64 = AtomicU64::new(0);
static LAST_ERROR: AtomicU64 = AtomicU64::new(0);

/// Vector of the exception whose signal is being delivered (`uc_mcontext.trapno`).
pub fn last_vector() -> u64 {
    LAST_VECTOR.load(Ordering::Relaxed)
}

/// Its error code.
pub fn last_error() -> u64 {
    LAST_ERROR.load(Ordering::Relaxed)
}

/// From the entry code, with the registers on the thread's stack.
pub extern "C" fn enter(regs: &mut Regs, vector: u64) {
    if vector == entry::VECTOR_PREEMPT {
        sched::lock::enter();
        // What the VMM announced is seen there, the tick included.
        crate::syscall::before_return(regs, None);
        return;
    }
    if regs.in_libos() {
        if vector == 14 && stats::timed(Kind::CopyFault, || copy_fault(regs)) {
            return;
        }
        crate::dump::library_os(regs, vector);
    }
    sched::lock::enter();
    // SAFETY: this vCPU's own word.
    let address = unsafe { (*cpu::local()).fault_address };
    if vector == 14 {
        match stats::timed(Kind::Fault, || page_fault(address, regs.origin)) {
            Ok(()) => return crate::syscall::before_return(regs, None),
            Err(denied) => {
                remember(vector, regs.origin);
                signal::force(regs, fault_signal(denied, address));
            }
        }
    } else {
        remember(vector, regs.origin);
        signal::force(regs, exception_signal(vector, regs));
    }
    crate::syscall::before_return(regs, None);
}

fn remember(vector: u64, error: u64) {
    LAST_VECTOR.store(vector, Ordering::Relaxed);
    LAST_ERROR.store(error, Ordering::Relaxed);
}

fn page_fault(address: u64, error: u64) -> Result<(), Denied> {
    if !crate::user::is_user_range(address, 1) {
        return Err(Denied::NotMapped);
    }
    let touch = match error {
        e if e & FAULT_EXECUTE != 0 => Touch::Execute,
        e if e & FAULT_WRITE != 0 => Touch::Write,
        _ => Touch::Read,
    };
    sched::current().space().fault(address, touch)
}

/// A fault of the library OS on a program's memory: brought in, or the copy ends early.
fn copy_fault(regs: &mut Regs) -> bool {
    let fixup = kasoku_copy_fault as *const () as u64;
    // The copy is one instruction, two bytes before its exit.
    if regs.rip != fixup - 2 || cpu::current_thread().is_null() {
        return false;
    }
    // SAFETY: this vCPU's own word.
    let address = unsafe { (*cpu::local()).fault_address };
    if page_fault(address, regs.origin).is_err() {
        regs.rip = fixup;
    }
    true
}

fn fault_signal(denied: Denied, address: u64) -> SigInfo {
    match denied {
        Denied::NotMapped => SigInfo::fault(SIGSEGV, SEGV_MAPERR, address),
        Denied::Access => SigInfo::fault(SIGSEGV, SEGV_ACCERR, address),
        Denied::BeyondEnd => SigInfo::fault(SIGBUS, BUS_ADRERR, address),
        Denied::NoMemory => {
            crate::console!(
                "kasoku: out of memory: the guest's {} MiB are used up",
                crate::mm::frame::memory().total_frames() / 256
            );
            SigInfo::fault(SIGKILL, 0, address)
        }
    }
}

fn exception_signal(vector: u64, regs: &Regs) -> SigInfo {
    match vector {
        0 => SigInfo::fault(SIGFPE, FPE_INTDIV, regs.rip),
        1 => SigInfo::fault(SIGTRAP, TRAP_TRACE, regs.rip),
        3 => SigInfo::kernel(SIGTRAP),
        4 => SigInfo::kernel(SIGSEGV),
        6 => SigInfo::fault(SIGILL, ILL_ILLOPN, regs.rip),
        16 => SigInfo::fault(SIGFPE, FPE_FLTINV, regs.rip),
        17 => SigInfo::fault(SIGBUS, BUS_ADRALN, regs.rip),
        19 => SigInfo::fault(SIGFPE, simd_code(), regs.rip),
        _ => SigInfo::kernel(SIGSEGV),
    }
}

/// Which of MXCSR's flags caused a SIMD exception.
fn simd_code() -> u32 {
    let mut mxcsr = 0u32;
    // SAFETY: stores the control register to a local.
    unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack)) };
    let raised = mxcsr & !(mxcsr >> 7) & 0x3f;
    match raised.trailing_zeros() {
        2 => FPE_FLTDIV,
        3 => FPE_FLTOVF,
        4 => FPE_FLTUND,
        5 => FPE_FLTRES,
        _ => FPE_FLTINV,
    }
}
