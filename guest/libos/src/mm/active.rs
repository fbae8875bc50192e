//! Which page tables each vCPU uses, and how a change of them reaches all of those vCPUs.
//!
//! A vCPU keeps what it has once translated until it flushes, and no instruction flushes for another. Whoever takes something
//! away from a table (under the library OS's lock) therefore marks every other vCPU that has it loaded as stale, and
//! interrupts those that are in program code. A stale vCPU flushes before it touches a program's memory again: when it has
//! got the lock, and on its way back to its program, where it says "in program" before it looks at the mark. Interrupted ones
//! need not have flushed for the change to go on: they have left the program and cannot go back without the lock.
use super::table::PageTable;
use crate::arch::{cpu, hypercall, privileged};
use crate::boot::cpu_count;
use crate::sync::Mutex;
use crate::time::monotonic_ns;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use kasoku_abi::hypercall::KICK_CPU;
use kasoku_abi::layout::MAX_CPUS;

/// A vCPU that was interrupted in the few instructions between its last look and its program is interrupted again after this.
const PATIENCE_NS: u64 = 100_000;

#[repr(align(64))]
struct Loaded {
    /// Keeps the tables for as long as they are loaded. `None`: the first ones, which are nobody's.
    table: Mutex<Option<Arc<PageTable>>>,
    stale: AtomicBool,
    in_program: AtomicBool,
}

static LOADED: [Loaded; MAX_CPUS as usize] =
    [const { Loaded { table: Mutex::new(None), stale: AtomicBool::new(false), in_program: AtomicBool::new(false) } };
        MAX_CPUS as usize];

fn here() -> &'static Loaded {
    &LOADED[cpu::number() as usize]
}

/// Uses these page tables on this vCPU from now on.
pub fn load(table: &Arc<PageTable>) {
    if table.root() == privileged::root() {
        return;
    }
    // SAFETY: every program's tables map the library OS.
    unsafe { privileged::load_root(table.root()) };
    here().stale.store(false, Ordering::Relaxed);
    let old = here().table.lock().replace(table.clone());
    drop(old);
}

/// This vCPU has left its program.
pub fn left_program() {
    here().in_program.store(false, Ordering::Release);
}

/// This vCPU is about to go back to its program; followed by a full barrier and a look at [`is_stale`].
pub fn enters_program() {
    here().in_program.store(true, Ordering::Release);
}

/// Whether a vCPU is in program code (or on its last steps there).
pub fn is_in_program(number: u64) -> bool {
    LOADED[number as usize].in_program.load(Ordering::SeqCst)
}

/// Whether this vCPU has to flush before it may touch a program's memory.
pub fn is_stale() -> bool {
    here().stale.load(Ordering::SeqCst)
}

/// Flushes if it has to; by a holder of the lock.
pub fn catch_up() {
    if here().stale.load(Ordering::Relaxed) {
        here().stale.store(false, Ordering::Relaxed);
        privileged::flush_all();
    }
}

/// Makes every vCPU forget a page of the table, or all of them.
pub fn flush(table: &PageTable, page: Option<u64>) {
    // Tables that are not loaded have nothing cached: loading them flushes.
    if table.root() == privileged::root() {
        match page {
            Some(address) => privileged::flush_page(address),
            None => privileged::flush_all(),
        }
    }
    expel_others(table);
}

/// Makes the other vCPUs leave the programs that use this table. They come back, flushed, once the lock is free.
pub fn expel_others(table: &PageTable) {
    let users = others().filter(|number| cpu::root_of(*number) == table.root().0).fold(0, |set, number| {
        LOADED[number as usize].stale.store(true, Ordering::SeqCst);
        set | 1 << number
    });
    expel(users);
}

/// Makes all other vCPUs leave their programs (membarrier(2)).
pub fn expel_all() {
    expel(others().fold(0, |set, number| set | 1 << number));
}

/// The vCPUs besides this one.
fn others() -> impl Iterator<Item = u64> {
    let me = cpu::number();
    (0..u64::from(cpu_count())).filter(move |number| *number != me)
}

/// Waits until none of the set is in program code. None comes back there without the lock.
fn expel(set: u64) {
    let still =
        |set: u64| others().filter(|n| set >> n & 1 == 1 && is_in_program(*n)).fold(0, |set, n| set | 1u64 << n);
    let mut inside = still(set);
    while inside != 0 {
        others().filter(|number| inside >> number & 1 == 1).for_each(interrupt);
        let begin = monotonic_ns();
        while inside != 0 && monotonic_ns() - begin < PATIENCE_NS {
            core::hint::spin_loop();
            inside = still(inside);
        }
    }
}

/// Makes a vCPU that is in program code come to the library OS, and one that waits look around.
pub fn interrupt(number: u64) {
    // Fails only for vCPUs that do not exist.
    let _ = hypercall::call(KICK_CPU, &[number]);
}
