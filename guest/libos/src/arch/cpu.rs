//! What belongs to one vCPU. The gs register always points at its area: first the page that it shares with the VMM
//! (`kasoku_abi::cpu::CpuPage`), in whose second half the library OS keeps the few words that entry code needs before it
//! has a register to spare. Programs have no gs of their own: `arch_prctl(ARCH_SET_GS)` is refused.
use crate::sched::thread::Thread;
use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};
use kasoku_abi::cpu::CpuPage;
use kasoku_abi::layout;

/// Offset of [`Local`] in the vCPU's page.
pub const LOCAL: usize = 0x800;

/// The library OS's own words of a vCPU.
#[repr(C)]
pub struct Local {
    /// Top of the current thread's stack in the library OS.
    pub stack_top: u64,
    /// Scratch of the entry code: the program's rsp.
    pub scratch: u64,
    /// Scratch of the entry code: exception vector.
    pub vector: u64,
    /// Faulting address of the last page fault.
    pub fault_address: u64,
    /// The thread that runs.
    pub current: *const Thread,
    /// Number of this vCPU.
    pub number: u64,
    /// Root of the page tables in use.
    pub root: u64,
    /// A program came in with the trap flag set.
    pub stepped: u64,
}

pub const STACK_TOP: usize = LOCAL + offset_of!(Local, stack_top);
pub const SCRATCH: usize = LOCAL + offset_of!(Local, scratch);
pub const VECTOR: usize = LOCAL + offset_of!(Local, vector);
pub const FAULT_ADDRESS: usize = LOCAL + offset_of!(Local, fault_address);
pub const STEPPED: usize = LOCAL + offset_of!(Local, stepped);
const CURRENT: usize = LOCAL + offset_of!(Local, current);
pub const NUMBER: usize = LOCAL + offset_of!(Local, number);

/// Guest-virtual address of a vCPU's area.
pub fn area(number: u64) -> u64 {
    layout::CPU_AREA_VA + number * layout::CPU_AREA_STRIDE
}

/// The number of the vCPU that executes this.
pub fn number() -> u64 {
    let value: u64;
    // SAFETY: gs always points at the vCPU's area; a plain load.
    unsafe { asm!("mov {}, gs:[{}]", out(reg) value, const NUMBER, options(nostack, preserves_flags, readonly)) };
    value
}

/// Whether the program that has just come in had the trap flag set; once for each time.
pub fn take_stepped() -> bool {
    let value: u64;
    // SAFETY: as in `number`.
    unsafe { asm!("mov {}, gs:[{}]", out(reg) value, const STEPPED, options(nostack, preserves_flags, readonly)) };
    if value != 0 {
        // SAFETY: this vCPU's own word.
        unsafe { (*local()).stepped = 0 };
    }
    value != 0
}

/// The page shared with the VMM. Its fields are accessed through the functions below or by raw pointers: the VMM writes too.
pub fn page() -> *mut CpuPage {
    area(number()) as *mut CpuPage
}

/// The library OS's words of this vCPU.
pub fn local() -> *mut Local {
    (area(number()) as usize + LOCAL) as *mut Local
}

/// The running thread; null before the first.
pub fn current_thread() -> *const Thread {
    let value: *const Thread;
    // SAFETY: as in `number`.
    unsafe { asm!("mov {}, gs:[{}]", out(reg) value, const CURRENT, options(nostack, preserves_flags, readonly)) };
    value
}

fn atomic(offset: usize) -> &'static AtomicU64 {
    atomic_of(number(), offset)
}

fn atomic_of(number: u64, offset: usize) -> &'static AtomicU64 {
    // SAFETY: the area is mapped for as long as the vCPU exists; every use of the word is atomic on both sides.
    unsafe { &*((area(number) as usize + offset) as *const AtomicU64) }
}

/// Prepares the words of a vCPU on which no thread has run yet.
pub fn initialise(number: u64, root: u64) {
    let local = (area(number) as usize + LOCAL) as *mut Local;
    // SAFETY: nothing else uses the words yet.
    unsafe {
        (*local).number = number;
        (*local).root = root;
        (*local).current = core::ptr::null();
    }
}

/// Root of the page tables that a vCPU has loaded; it changes only under the library OS's lock.
pub fn root_of(number: u64) -> u64 {
    atomic_of(number, LOCAL + offset_of!(Local, root)).load(Ordering::Relaxed)
}

/// Whether the VMM has set events that nobody has taken.
pub fn has_pending() -> bool {
    atomic(offset_of!(CpuPage, pending)).load(Ordering::Relaxed) != 0
}

/// Takes the events that the VMM has set (`kasoku_abi::cpu::PENDING_*`).
pub fn take_pending() -> u64 {
    let pending = atomic(offset_of!(CpuPage, pending));
    if pending.load(Ordering::Relaxed) == 0 { 0 } else { pending.swap(0, Ordering::AcqRel) }
}

/// Takes the signals that came from outside, bit n-1 for signal n.
pub fn take_signals() -> u64 {
    atomic(offset_of!(CpuPage, signals)).swap(0, Ordering::AcqRel)
}

/// Tells the VMM when to preempt a vCPU: 0 never, 1 at each tick, else a time.
pub fn set_preempt_at(number: u64, ns: u64) {
    atomic_of(number, offset_of!(CpuPage, preempt_at_ns)).store(ns, Ordering::Relaxed);
}

/// Tells the VMM which channels are waited on to read, to write, and which regions: whichever vCPU runs or waits.
pub fn set_watches(read: u64, write: u64, region: u64) {
    for number in 0..u64::from(crate::boot::cpu_count()) {
        atomic_of(number, offset_of!(CpuPage, watch_read)).store(read, Ordering::Relaxed);
        atomic_of(number, offset_of!(CpuPage, watch_write)).store(write, Ordering::Relaxed);
        atomic_of(number, offset_of!(CpuPage, watch_region)).store(region, Ordering::Relaxed);
    }
}

/// Counts time spent idle.
pub fn add_idle(ns: u64) {
    atomic(offset_of!(CpuPage, idle_ns)).fetch_add(ns, Ordering::Relaxed);
}

/// Time that all vCPUs together spent idle so far.
pub fn idle_ns() -> u64 {
    let of = |number| atomic_of(number, offset_of!(CpuPage, idle_ns)).load(Ordering::Relaxed);
    (0..u64::from(crate::boot::cpu_count())).map(of).sum()
}

/// The fs base: the running thread's thread-local storage.
pub fn fs_base() -> u64 {
    let value;
    // SAFETY: FSGSBASE is enabled (layout::CR4).
    unsafe { asm!("rdfsbase {}", out(reg) value, options(nostack, nomem, preserves_flags)) };
    value
}

/// Sets the fs base.
///
/// # Safety
/// The address is canonical.
pub unsafe fn set_fs_base(value: u64) {
    // SAFETY: as above; canonical by contract. The library OS itself uses no thread-local storage.
    unsafe { asm!("wrfsbase {}", in(reg) value, options(nostack, nomem, preserves_flags)) };
}

/// Time stamp counter, ticks.
pub fn tsc() -> u64 {
    // SAFETY: `rdtsc` is not restricted (CR4.TSD is clear).
    unsafe { core::arch::x86_64::_rdtsc() }
}
