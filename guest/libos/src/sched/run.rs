//! The run queue, the switch from thread to thread, and what happens when nobody can run.
use super::thread::{State, Thread};
use super::wait::{WaitQueue, Wake};
use crate::arch::{cpu, hypercall, privileged, switch};
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use crate::time;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use kasoku_abi::cpu::{PENDING_CHANNEL, PENDING_REGION, PENDING_SIGNALS, PENDING_SNAPSHOT};
use kasoku_abi::hypercall::WAIT;

static READY: Mutex<VecDeque<Arc<Thread>>> = Mutex::new(VecDeque::new());
/// Threads that have ended; freed by whoever runs next, because a thread cannot free the stack it stands on.
static ENDED: Mutex<Vec<Arc<Thread>>> = Mutex::new(Vec::new());

/// The thread that executes this. It lives at least until it has left the processor.
pub fn current() -> &'static Thread {
    // SAFETY: set before the first thread runs; the thread table (and then `ENDED`) keeps it alive while it is current.
    unsafe { &*cpu::current_thread() }
}

/// The same, as a counted reference.
pub fn current_arc() -> Arc<Thread> {
    // SAFETY: the pointer came from an Arc that is alive (see `current`).
    unsafe {
        Arc::increment_strong_count(cpu::current_thread());
        Arc::from_raw(cpu::current_thread())
    }
}

/// Puts a thread at the end of the run queue.
pub fn make_runnable(thread: Arc<Thread>) {
    READY.lock().push_back(thread);
    deadlines_changed();
}

/// Tells the VMM when this vCPU wants to be preempted: at the next tick if others could run, else at the next timer.
pub fn deadlines_changed() {
    let tick = !READY.lock().is_empty() || crate::timer::counts_processor_time();
    let at = if tick { 1 } else { time::next_deadline_ns().unwrap_or(0) };
    cpu::set_preempt_at(at);
}

/// Runs another thread. Returns when this one runs again; at once when nobody else can and this one still may.
pub fn schedule() {
    loop {
        let next = READY.lock().pop_front();
        match next {
            Some(next) if core::ptr::eq(Arc::as_ptr(&next), cpu::current_thread()) => {
                next.set_state(State::Running);
                // It may have waited in `idle`, which counts as nobody's time.
                next.stop_clock();
                next.start_clock();
                break;
            }
            Some(next) => {
                switch_to(next);
                break;
            }
            None => idle(),
        }
    }
    deadlines_changed();
    reap();
}

/// Lets the others run first.
pub fn yield_now() {
    let me = current_arc();
    me.set_state(State::Ready);
    make_runnable(me);
    schedule();
}

fn switch_to(counted: Arc<Thread>) {
    // SAFETY: the thread table keeps it alive until it ends itself (see `current`).
    let next = unsafe { &*Arc::as_ptr(&counted) };
    // This stack may rest for long, or for ever: whoever runs next must be freed all the same when it ends.
    drop(counted);
    let mut boot_stack = 0;
    let previous = cpu::current_thread();
    let save = if previous.is_null() {
        &raw mut boot_stack
    } else {
        // SAFETY: the current thread is alive (see `current`).
        let previous = unsafe { &*previous };
        if previous.state() != State::Ended {
            previous.fpu().save();
        }
        previous.fs_base.store(cpu::fs_base(), Ordering::Relaxed);
        previous.stop_clock();
        previous.saved_stack.as_ptr()
    };
    next.set_state(State::Running);
    next.start_clock();
    let root = next.space().root();
    // SAFETY: every address space maps the library OS; the stack pointer was stored by a switch or at creation; the words
    // belong to this vCPU; fs bases are checked when programs set them.
    unsafe {
        if root != privileged::root() {
            privileged::load_root(root);
        }
        (*cpu::local()).current = next;
        (*cpu::local()).stack_top = next.stack_top();
        next.fpu().load();
        cpu::set_fs_base(next.fs_base.load(Ordering::Relaxed));
        switch::switch_stacks(save, next.saved_stack.load(Ordering::Relaxed));
    }
}

/// Frees threads that have ended.
pub fn reap() {
    if !ENDED.lock().is_empty() {
        let ended = core::mem::take(&mut *ENDED.lock());
        drop(ended);
    }
}

/// Ends the current thread: it must be out of every table already.
pub(super) fn leave_for_good(me: Arc<Thread>) -> ! {
    me.set_state(State::Ended);
    ENDED.lock().push(me);
    loop {
        let next = READY.lock().pop_front();
        match next {
            Some(next) => switch_to(next),
            None => idle(),
        }
    }
}

/// Nobody can run: waits for the host.
fn idle() {
    time::run_expired();
    handle_events();
    if !READY.lock().is_empty() {
        return;
    }
    // The thread that waits here is still the current one, but its time is not.
    if !cpu::current_thread().is_null() {
        current().stop_clock();
    }
    let before = time::monotonic_ns();
    // An error would be an invalid deadline; there is none.
    let _ = hypercall::call(WAIT, &[time::next_deadline_ns().unwrap_or(u64::MAX)]);
    cpu::add_idle(time::monotonic_ns() - before);
    handle_events();
    time::run_expired();
}

/// Deals with what the VMM has announced; says what it was (`kasoku_abi::cpu::PENDING_*`).
pub fn handle_events() -> u64 {
    let pending = cpu::take_pending();
    if pending == 0 {
        return 0;
    }
    if pending & PENDING_SNAPSHOT != 0 {
        crate::snapshot::rest();
    }
    if pending & PENDING_SIGNALS != 0 {
        crate::signal::from_outside(cpu::take_signals());
    }
    if pending & PENDING_CHANNEL != 0 {
        crate::ipc::channel::woken();
    }
    let regions = pending >> PENDING_REGION;
    if regions != 0 {
        crate::ipc::region::woken(regions);
    }
    pending
}

/// Waits until `ready` has something, looking again whenever one of the queues is woken. RESTART when a signal is to be
/// handled first, ETIMEDOUT at the deadline (on the monotonic clock).
pub fn block_on<T>(queues: &[&WaitQueue], deadline_ns: Option<u64>, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
    if let Some(value) = ready() {
        return Ok(value);
    }
    let me = current_arc();
    let waiter: Arc<dyn Wake> = me.clone();
    for queue in queues {
        queue.add(waiter.clone());
    }
    let timer = deadline_ns.map(|at| time::wake_at(at, waiter.clone()));
    let result = loop {
        me.woken.store(false, Ordering::Relaxed);
        if let Some(value) = ready() {
            break Ok(value);
        }
        if me.must_return() {
            break Err(Errno::RESTART);
        }
        if deadline_ns.is_some_and(|at| time::monotonic_ns() >= at) {
            break Err(Errno::ETIMEDOUT);
        }
        me.block();
    };
    for queue in queues {
        queue.remove(&waiter);
    }
    if let Some(timer) = timer {
        time::cancel(timer);
    }
    result
}

/// Waits until `ready`, whatever signals come; ends early only when the thread is to end.
pub fn block_whatever(queue: &WaitQueue, mut ready: impl FnMut() -> bool) {
    let me = current_arc();
    let waiter: Arc<dyn Wake> = me.clone();
    queue.add(waiter.clone());
    loop {
        me.woken.store(false, Ordering::Relaxed);
        if ready() || me.is_to_end() {
            break;
        }
        me.block();
    }
    queue.remove(&waiter);
}
