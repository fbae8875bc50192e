//! The lock of the library OS: one vCPU at a time is inside it, the others run programs, wait for it, or rest.
//!
//! A vCPU takes it where it comes from a program and gives it back where it returns to one or rests; a switch from thread to
//! thread hands it on. So the library OS's code is written as for one vCPU. With one vCPU there is nothing to take: one load.
//!
//! It is not fair by itself, because the next in a fair order may be a vCPU that the host does not run at the moment. But
//! whoever comes back at once lets those go first who wait already.
use crate::arch::{cpu, hypercall};
use crate::mm::active;
use crate::time::monotonic_ns;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use kasoku_abi::hypercall::WAIT;

/// More than one vCPU runs.
static SEVERAL: AtomicBool = AtomicBool::new(false);
static HELD: AtomicBool = AtomicBool::new(false);
static WAITING: AtomicU32 = AtomicU32::new(0);
/// Who had it last.
static LAST: AtomicU32 = AtomicU32::new(0);

/// Longest time to spin, and then to sleep: the holder may be a vCPU that the host does not run.
const SPIN_NS: u64 = 50_000;
const NAP_NS: u64 = 50_000;
/// Turns that the last holder leaves to others.
const COURTESY: u32 = 64;

/// Whether there is more than one vCPU.
pub fn several() -> bool {
    SEVERAL.load(Ordering::Relaxed)
}

/// Before the first vCPU starts others: it holds the lock from now on.
pub fn begin() {
    HELD.store(true, Ordering::Relaxed);
    SEVERAL.store(true, Ordering::SeqCst);
}

fn try_acquire() -> bool {
    !HELD.load(Ordering::Relaxed) && !HELD.swap(true, Ordering::Acquire)
}

/// Takes the lock; then nothing that this vCPU has translated is stale.
pub fn acquire() {
    if !several() {
        return;
    }
    if WAITING.load(Ordering::Relaxed) != 0 || !try_acquire() {
        wait();
    }
    LAST.store(cpu::number() as u32, Ordering::Relaxed);
    active::catch_up();
}

#[cold]
fn wait() {
    let courtesy = if LAST.load(Ordering::Relaxed) == cpu::number() as u32 { COURTESY } else { 0 };
    for _ in 0..courtesy {
        if WAITING.load(Ordering::Relaxed) == 0 {
            break;
        }
        spin_loop();
    }
    WAITING.fetch_add(1, Ordering::Relaxed);
    let mut begin = monotonic_ns();
    while !try_acquire() {
        spin_loop();
        if monotonic_ns() - begin > SPIN_NS {
            // An error would be an invalid deadline; there is none. It ends early when the VMM has something to say.
            let _ = hypercall::call(WAIT, &[monotonic_ns() + NAP_NS]);
            begin = monotonic_ns();
        }
    }
    WAITING.fetch_sub(1, Ordering::Relaxed);
}

/// Gives it back. A full barrier: what was written before is seen by whoever does not see this vCPU's later loads.
pub fn release() {
    if several() {
        HELD.swap(false, Ordering::SeqCst);
    }
}

/// From a program: before anything else.
pub fn enter() {
    if several() {
        active::left_program();
        acquire();
    }
}

/// To the program: the last thing. False when something has come up meanwhile; then the vCPU is inside again.
pub fn leave() -> bool {
    if !several() {
        return true;
    }
    active::enters_program();
    release();
    if !active::is_stale() && !cpu::has_pending() {
        return true;
    }
    enter();
    false
}

/// Lets another vCPU in, if one wants to.
pub fn breathe() {
    if several() {
        release();
        spin_loop();
        acquire();
    }
}
