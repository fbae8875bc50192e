//! The switch from thread to thread, waiting, and what happens when nobody can run.
use super::cpu::{has_queue, here, next_thread, rest, run_again};
use super::lock;
use super::thread::{State, Thread};
use super::wait::{WaitQueue, Wake};
use crate::arch::{cpu, switch};
use crate::errno::{Errno, Result};
use crate::time;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use kasoku_abi::cpu::{PENDING_CHANNEL, PENDING_REGION, PENDING_SIGNALS, PENDING_SNAPSHOT};

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

/// Tells the VMM when this vCPU wants to be preempted: at the next tick if others could run, else at the next timer.
pub fn deadlines_changed() {
    let tick = has_queue() || crate::timer::counts_processor_time();
    let at = if tick { 1 } else { time::next_deadline_ns().unwrap_or(0) };
    cpu::set_preempt_at(cpu::number(), at);
}

/// Runs another thread. Returns when this one runs again, perhaps on another vCPU; at once when nobody else can and this one
/// still may.
pub fn schedule() {
    match next_thread() {
        Some(next) if core::ptr::eq(Arc::as_ptr(&next), cpu::current_thread()) => next.set_state(State::Running),
        Some(next) => switch_to(next),
        None => switch_to_rest(),
    }
    deadlines_changed();
    reap();
}

/// Lets the others run first.
pub fn yield_now() {
    let me = current_arc();
    me.set_state(State::Ready);
    let switches = me.switches();
    run_again(me.clone());
    schedule();
    if me.switches() == switches {
        lock::breathe();
    }
}

/// Saves what the processor has of the running thread; where its stack pointer goes. From the resting place, that one's.
fn put_away() -> *mut u64 {
    let previous = cpu::current_thread();
    if previous.is_null() {
        return here().resting_place.as_ptr();
    }
    // SAFETY: the current thread is alive (see `current`).
    let previous = unsafe { &*previous };
    if previous.state() != State::Ended {
        previous.fpu().save();
    }
    previous.fs_base.store(cpu::fs_base(), Ordering::Relaxed);
    previous.stop_clock();
    previous.saved_stack.as_ptr()
}

fn switch_to(counted: Arc<Thread>) {
    // SAFETY: the thread table keeps it alive until it ends itself (see `current`).
    let next = unsafe { &*Arc::as_ptr(&counted) };
    // This stack may rest for long, or for ever: whoever runs next must be freed all the same when it ends.
    drop(counted);
    let save = put_away();
    next.set_state(State::Running);
    next.got_processor(cpu::number());
    next.space().activate();
    // SAFETY: the stack pointer was stored by a switch or at creation, and nobody stands on that stack; the words belong to
    // this vCPU; fs bases are checked when programs set them.
    unsafe {
        (*cpu::local()).current = next;
        (*cpu::local()).stack_top = next.stack_top();
        next.fpu().load();
        cpu::set_fs_base(next.fs_base.load(Ordering::Relaxed));
        switch::switch_stacks(save, next.saved_stack.load(Ordering::Relaxed));
    }
}

/// Leaves the thread's stack, which another vCPU may soon run, for this vCPU's own.
fn switch_to_rest() {
    let save = put_away();
    // SAFETY: this vCPU's words; `resting_place` was stored by the switch that left `rest_for_ever`.
    unsafe {
        (*cpu::local()).current = core::ptr::null();
        switch::switch_stacks(save, here().resting_place.load(Ordering::Relaxed));
    }
}

/// What a vCPU does whenever it has no thread, on a stack of its own: it is where its life begins, and never ends.
pub fn rest_for_ever() -> ! {
    loop {
        reap();
        time::run_expired();
        handle_events();
        match next_thread() {
            Some(next) => switch_to(next),
            None => rest(),
        }
    }
}

/// Frees threads that have ended on this vCPU.
pub fn reap() {
    if !here().ended.lock().is_empty() {
        let ended = core::mem::take(&mut *here().ended.lock());
        drop(ended);
    }
}

/// Ends the current thread: it must be out of every table already.
pub(super) fn leave_for_good(me: Arc<Thread>) -> ! {
    me.set_state(State::Ended);
    here().ended.lock().push(me);
    match next_thread() {
        Some(next) => switch_to(next),
        None => switch_to_rest(),
    }
    unreachable!("an ended thread is never run again")
}

/// Makes a thread that runs in its program on another vCPU come to the library OS.
pub(super) fn interrupt(thread: &Thread) {
    let number = thread.cpu();
    if lock::several()
        && thread.state() == State::Running
        && number != cpu::number()
        && crate::mm::active::is_in_program(number)
    {
        crate::mm::active::interrupt(number);
    }
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
