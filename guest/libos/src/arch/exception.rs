//! Exceptions and preemption: what each means for the program that ran into it.
use super::regs::{NO_CALL, Regs};
use super::{cpu, entry};
use crate::mm::space::{Denied, Touch};
use crate::sched;
use crate::signal::{self, SigInfo};
use crate::stats::{self, Kind};
use core::sync::atomic::Ordering;
use linux_raw_sys::general::*;

unsafe extern "C" {
    fn kasoku_copy_fault();
}

// Bits of a page fault's error code.
const FAULT_PRESENT: u64 = 1 << 0;
const FAULT_WRITE: u64 = 1 << 1;
const FAULT_EXECUTE: u64 = 1 << 4;

/// From the entry code, with the registers on the thread's stack.
pub extern "C" fn enter(regs: &mut Regs, vector: u64) {
    if vector == entry::VECTOR_PREEMPT {
        sched::lock::enter();
        regs.origin = NO_CALL;
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
            Ok(()) => {
                regs.origin = NO_CALL;
                return crate::syscall::before_return(regs, None);
            }
            Err(denied) => {
                remember(vector, shown_error(regs.origin, address));
                regs.origin = NO_CALL;
                signal::force(regs, fault_signal(denied, address));
            }
        }
    } else {
        let (vector, error) = software_interrupt(vector, regs).unwrap_or((vector, regs.origin));
        remember(vector, error);
        regs.origin = NO_CALL;
        signal::force(regs, exception_signal(vector, regs));
    }
    crate::syscall::before_return(regs, None);
}

fn remember(vector: u64, error: u64) {
    let exception = &sched::current().exception;
    exception.vector.store(vector, Ordering::Relaxed);
    exception.error.store(error, Ordering::Relaxed);
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

/// The error code as Linux shows it: outside the program's part, whether anything is mapped stays hidden.
fn shown_error(error: u64, address: u64) -> u64 {
    if crate::user::is_user_range(address, 1) { error } else { error | FAULT_PRESENT }
}

/// `int n` is a general-protection fault whose error code names the gate; software KVM makes it an invalid instruction.
fn software_interrupt(vector: u64, regs: &Regs) -> Option<(u64, u64)> {
    const INT_IMM8: u8 = 0xcd;
    match (vector, crate::user::read::<[u8; 2]>(regs.rip)) {
        (6, Ok([INT_IMM8, gate])) => Some((13, u64::from(gate) << 3 | 2)),
        _ => None,
    }
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
        12 => SigInfo::kernel(SIGBUS),
        16 => SigInfo::fault(SIGFPE, x87_code(), regs.rip),
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
    float_code(mxcsr & !(mxcsr >> 7))
}

/// Which of the x87 status word's flags caused its exception.
fn x87_code() -> u32 {
    let (mut control, mut status) = (0u16, 0u16);
    // SAFETY: both store a register to a local, and neither waits for pending exceptions.
    unsafe {
        core::arch::asm!("fnstcw [{}]", "fnstsw [{}]", in(reg) &raw mut control, in(reg) &raw mut status, options(nostack));
    }
    float_code(u32::from(status & !control))
}

/// The first reason among unmasked exceptions, in Linux's order.
fn float_code(raised: u32) -> u32 {
    const ORDER: [(u32, u32); 4] = [(0x04, FPE_FLTDIV), (0x08, FPE_FLTOVF), (0x12, FPE_FLTUND), (0x20, FPE_FLTRES)];
    let found = ORDER.iter().find(|(flags, _)| raised & flags != 0);
    found.filter(|_| raised & 1 == 0).map_or(FPE_FLTINV, |&(_, code)| code)
}
