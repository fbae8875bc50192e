//! What the scheduler keeps of each vCPU: its run queue, and what it does when it has nothing to run.
//!
//! A thread that becomes runnable goes to the vCPU that it ran on last, or to one that rests; a vCPU that runs out of threads
//! takes one from the longest queue. A vCPU that rests looks around for a moment before it lets the VMM stop it: to be called
//! while it looks costs nothing, an interruption by the VMM costs both sides 25 us and more.
use super::lock;
use super::thread::Thread;
use crate::arch::{cpu, hypercall};
use crate::boot::cpu_count;
use crate::mm::active;
use crate::sync::Mutex;
use crate::time;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use kasoku_abi::hypercall::WAIT;
use kasoku_abi::layout::MAX_CPUS;

/// How long a vCPU looks around before it stops.
const LOOK_NS: u64 = 50_000;

/// It runs a thread or is about to look for one.
const BUSY: u8 = 0;
/// It looks around, and sees `called`.
const LOOKING: u8 = 1;
/// The VMM has stopped it.
const STOPPED: u8 = 2;

#[repr(align(64))]
pub(super) struct Cpu {
    queue: Mutex<VecDeque<Arc<Thread>>>,
    /// Threads that ended here; freed by whoever runs next, because a thread cannot free the stack it stands on.
    pub(super) ended: Mutex<Vec<Arc<Thread>>>,
    /// Stack pointer of its resting place while it runs a thread.
    pub(super) resting_place: AtomicU64,
    rest: AtomicU8,
    called: AtomicBool,
}

static CPUS: [Cpu; MAX_CPUS as usize] = [const {
    Cpu {
        queue: Mutex::new(VecDeque::new()),
        ended: Mutex::new(Vec::new()),
        resting_place: AtomicU64::new(0),
        rest: AtomicU8::new(BUSY),
        called: AtomicBool::new(false),
    }
}; MAX_CPUS as usize];

fn of(number: u64) -> &'static Cpu {
    &CPUS[number as usize]
}

/// The one that executes this.
pub(super) fn here() -> &'static Cpu {
    of(cpu::number())
}

fn all() -> impl Iterator<Item = u64> {
    0..u64::from(cpu_count())
}

/// Mask of the vCPUs that there are.
pub fn online() -> u64 {
    (1 << cpu_count()) - 1
}

/// Where a thread that has become runnable should run.
fn place(thread: &Thread) -> u64 {
    let me = cpu::number();
    if !lock::several() {
        return me;
    }
    let allowed = |number: &u64| thread.affinity() >> number & 1 == 1;
    let is_free = |number: &u64| match *number == me {
        true => cpu::current_thread().is_null() && of(me).queue.lock().is_empty(),
        false => of(*number).rest.load(Ordering::Relaxed) != BUSY,
    };
    let last = thread.cpu();
    let preferred = [last, me].into_iter().find(|number| allowed(number) && is_free(number));
    preferred.or_else(|| all().find(|number| allowed(number) && is_free(number))).unwrap_or_else(|| {
        // The last one wins a tie: what the thread has in its caches may still be there.
        let length = |number: &u64| (of(*number).queue.lock().len(), *number != last);
        all().filter(allowed).min_by_key(length).unwrap_or(me)
    })
}

/// Puts a thread at the end of a run queue, and sees to it that it is run.
pub fn make_runnable(thread: Arc<Thread>) {
    let number = place(&thread);
    of(number).queue.lock().push_back(thread);
    if number == cpu::number() {
        return super::deadlines_changed();
    }
    match of(number).rest.swap(BUSY, Ordering::Relaxed) {
        LOOKING => of(number).called.store(true, Ordering::Release),
        STOPPED => active::interrupt(number),
        // It runs a program, perhaps without a tick so far.
        _ => cpu::set_preempt_at(number, 1),
    }
}

/// Puts the thread that runs at the end of this vCPU's queue, if it may run here at all.
pub(super) fn run_again(thread: Arc<Thread>) {
    let me = cpu::number();
    if thread.affinity() >> me & 1 == 1 {
        of(me).queue.lock().push_back(thread);
    } else {
        make_runnable(thread);
    }
}

/// Finds another place for a thread that waits in a queue, after its affinity has changed.
pub fn move_queued(thread: &Thread) {
    for number in all() {
        let found = {
            let mut queue = of(number).queue.lock();
            let at = queue.iter().position(|other| core::ptr::eq(Arc::as_ptr(other), thread));
            at.and_then(|at| queue.remove(at))
        };
        if let Some(found) = found {
            return make_runnable(found);
        }
    }
}

/// Takes the thread to run next: the first of the own queue, else one of the longest queue.
pub(super) fn next_thread() -> Option<Arc<Thread>> {
    let me = cpu::number();
    let own = of(me).queue.lock().pop_front();
    if own.is_some() || !lock::several() {
        return own;
    }
    let mut others: Vec<u64> = all().filter(|number| *number != me).collect();
    others.sort_by_key(|number| core::cmp::Reverse(of(*number).queue.lock().len()));
    others.into_iter().find_map(|number| {
        let mut queue = of(number).queue.lock();
        let at = queue.iter().position(|thread| thread.affinity() >> me & 1 == 1)?;
        queue.remove(at)
    })
}

/// Whether threads wait for this vCPU.
pub(super) fn has_queue() -> bool {
    !here().queue.lock().is_empty()
}

/// Rests until there may be something to do. The vCPU has no thread.
pub(super) fn rest() {
    let before = time::monotonic_ns();
    let me = here();
    let deadline = time::next_deadline_ns().unwrap_or(u64::MAX);
    if lock::several() && all().any(|number| of(number).rest.load(Ordering::Relaxed) == BUSY && number != cpu::number())
    {
        me.called.store(false, Ordering::Relaxed);
        me.rest.store(LOOKING, Ordering::Relaxed);
        lock::release();
        let end = deadline.min(before + LOOK_NS);
        while !me.called.load(Ordering::Acquire) && !cpu::has_pending() && time::monotonic_ns() < end {
            spin_loop();
        }
        lock::acquire();
        me.rest.store(BUSY, Ordering::Relaxed);
        if me.called.load(Ordering::Relaxed) || cpu::has_pending() || deadline <= time::monotonic_ns() {
            return cpu::add_idle(time::monotonic_ns() - before);
        }
    }
    me.rest.store(STOPPED, Ordering::Relaxed);
    lock::release();
    // An error would be an invalid deadline; there is none.
    let _ = hypercall::call(WAIT, &[time::next_deadline_ns().unwrap_or(u64::MAX)]);
    lock::acquire();
    me.rest.store(BUSY, Ordering::Relaxed);
    cpu::add_idle(time::monotonic_ns() - before);
}
