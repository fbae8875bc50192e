//! A thread: its stack in the library OS, its registers while it does not run, its signal state.
use super::run;
use super::wait::Wake;
use crate::arch::{cpu, fpu, regs::Regs, switch};
use crate::mm::space::Space;
use crate::process::{Process, tracing::Tracing};
use crate::signal::ThreadSignals;
use crate::sync::Mutex;
use alloc::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use alloc::sync::Arc;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Bytes of a thread's stack in the library OS.
pub const STACK_LEN: usize = 32 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    Running,
    Ready,
    Blocked,
    Ended,
}

/// The last exception that became a signal, as handlers see it (`uc_mcontext.trapno`, `err`).
#[derive(Default)]
pub struct Exception {
    pub vector: AtomicU64,
    pub error: AtomicU64,
}

pub struct Thread {
    pub tid: u32,
    pub process: Arc<Process>,
    stack: *mut u8,
    /// Stack pointer while the thread does not run.
    pub(super) saved_stack: AtomicU64,
    pub(super) fs_base: AtomicU64,
    fpu: UnsafeCell<fpu::State>,
    state: AtomicU8,
    /// Set by every wake-up; `block` returns at once when it is.
    pub(super) woken: AtomicBool,
    /// There is something to do before the thread returns to its program: a signal, its own end.
    attention: AtomicBool,
    /// The thread is to end because its program executes another.
    pub doomed: AtomicBool,
    pub signals: Mutex<ThreadSignals>,
    /// The address space it runs in (its program's, except for the moment of an exec).
    space: Mutex<Arc<Space>>,
    /// Word that is zeroed, and a futex that is woken, when the thread ends (CLONE_CHILD_CLEARTID).
    pub clear_tid: AtomicU64,
    /// Head of the list of robust futexes.
    pub robust_list: AtomicU64,
    /// Name, as `prctl(PR_SET_NAME)` sets it.
    pub name: Mutex<[u8; 16]>,
    pub nice: AtomicI32,
    /// As `ioprio_set` gives it.
    pub io_priority: AtomicU32,
    pub exception: Exception,
    pub tracing: Tracing,
    /// The vCPU that runs it or did last, how often it has got one, and the mask of those that may run it.
    cpu: AtomicU64,
    switches: AtomicU64,
    affinity: AtomicU64,
    /// Nanoseconds of processor time up to the last time it left the processor, and when it last got it.
    ran_ns: AtomicU64,
    running_since_ns: AtomicU64,
}

// SAFETY: the stack belongs to the thread; the FPU state is touched only by the vCPU that runs (or switches) the thread.
unsafe impl Send for Thread {}
// SAFETY: as above.
unsafe impl Sync for Thread {}

fn stack_layout() -> Layout {
    Layout::from_size_align(STACK_LEN, 64).expect("constants")
}

/// What a new thread starts with.
pub struct Start {
    pub tid: u32,
    pub process: Arc<Process>,
    pub space: Arc<Space>,
    pub regs: Regs,
    pub fs_base: u64,
    pub fpu: fpu::State,
    pub signals: ThreadSignals,
    pub name: [u8; 16],
    pub nice: i32,
    pub io_priority: u32,
    pub affinity: u64,
}

impl Thread {
    /// Makes a thread that will return to its program with the given registers once it is made runnable.
    pub fn new(start: Start) -> Arc<Thread> {
        // SAFETY: the layout's size is not zero.
        let stack = unsafe { alloc(stack_layout()) };
        if stack.is_null() {
            handle_alloc_error(stack_layout());
        }
        let regs_at = stack as u64 + STACK_LEN as u64 - size_of::<Regs>() as u64;
        // SAFETY: inside the new stack; the frame goes below the registers.
        let saved = unsafe {
            (regs_at as *mut Regs).write(start.regs);
            switch::first_frame(regs_at)
        };
        Arc::new(Thread {
            tid: start.tid,
            process: start.process,
            stack,
            saved_stack: AtomicU64::new(saved),
            fs_base: AtomicU64::new(start.fs_base),
            fpu: UnsafeCell::new(start.fpu),
            state: AtomicU8::new(State::Ready as u8),
            woken: AtomicBool::new(false),
            attention: AtomicBool::new(false),
            doomed: AtomicBool::new(false),
            signals: Mutex::new(start.signals),
            space: Mutex::new(start.space),
            clear_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            name: Mutex::new(start.name),
            nice: AtomicI32::new(start.nice),
            io_priority: AtomicU32::new(start.io_priority),
            exception: Exception::default(),
            tracing: Tracing::default(),
            cpu: AtomicU64::new(cpu::number()),
            switches: AtomicU64::new(0),
            affinity: AtomicU64::new(start.affinity),
            ran_ns: AtomicU64::new(0),
            running_since_ns: AtomicU64::new(0),
        })
    }

    pub fn stack_top(&self) -> u64 {
        self.stack as u64 + STACK_LEN as u64
    }

    /// The extended state as of the last time the thread left the processor.
    pub fn fpu(&self) -> &fpu::State {
        // SAFETY: only the vCPU that runs or switches the thread comes here.
        unsafe { &*self.fpu.get() }
    }

    /// Replaces the extended state (signal return, exec) and loads it.
    pub fn replace_fpu(&self, change: impl FnOnce(&mut fpu::State)) {
        // SAFETY: called by the thread itself, which is the only user of its state while it runs.
        unsafe { change(&mut *self.fpu.get()) };
        self.fpu().load();
    }

    /// Replaces the extended state of a thread that waits (ptrace(2)).
    pub fn set_saved_fpu(&self, bytes: &[u8]) {
        debug_assert!(self.state() != State::Running);
        // SAFETY: the thread waits, so no vCPU has its state; under the library OS's lock nobody else comes here.
        unsafe { (*self.fpu.get()).set_bytes(bytes) };
    }

    /// The fs base of a thread that waits.
    pub fn saved_fs_base(&self) -> u64 {
        self.fs_base.load(Ordering::Relaxed)
    }

    /// Replaces the fs base of a thread that waits; it is an address of programs.
    pub fn set_saved_fs_base(&self, base: u64) {
        self.fs_base.store(base, Ordering::Relaxed);
    }

    pub fn space(&self) -> Arc<Space> {
        self.space.lock().clone()
    }

    /// Moves the running thread into another address space (exec); the old one goes with its last user.
    pub fn enter_space(&self, space: Arc<Space>) {
        space.activate();
        let old = core::mem::replace(&mut *self.space.lock(), space);
        drop(old);
    }

    pub fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Running,
            1 => State::Ready,
            2 => State::Blocked,
            _ => State::Ended,
        }
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Processor time used, ns.
    pub fn cpu_time_ns(&self) -> u64 {
        let since = self.running_since_ns.load(Ordering::Relaxed);
        let now = if since == 0 { 0 } else { crate::time::monotonic_ns().saturating_sub(since) };
        self.ran_ns.load(Ordering::Relaxed) + now
    }

    /// The vCPU that runs it, or did last.
    pub fn cpu(&self) -> u64 {
        self.cpu.load(Ordering::Relaxed)
    }

    /// How often it has got a processor.
    pub(super) fn switches(&self) -> u64 {
        self.switches.load(Ordering::Relaxed)
    }

    /// Mask of the vCPUs that may run it; never empty.
    pub fn affinity(&self) -> u64 {
        self.affinity.load(Ordering::Relaxed)
    }

    /// Changes the mask and moves the thread if it must. The mask has a vCPU that exists.
    pub fn set_affinity(&self, mask: u64) {
        self.affinity.store(mask, Ordering::Relaxed);
        if mask >> self.cpu() & 1 == 1 {
            return;
        }
        match self.state() {
            State::Running if core::ptr::eq(self, cpu::current_thread()) => run::yield_now(),
            // It comes to the library OS, yields, and is put elsewhere.
            State::Running => run::interrupt(self),
            State::Ready => super::cpu::move_queued(self),
            State::Blocked | State::Ended => {}
        }
    }

    /// Begins to run on a vCPU: starts to count processor time.
    pub(super) fn got_processor(&self, number: u64) {
        self.cpu.store(number, Ordering::Relaxed);
        self.switches.fetch_add(1, Ordering::Relaxed);
        self.running_since_ns.store(crate::time::monotonic_ns(), Ordering::Relaxed);
    }

    /// Stops counting.
    pub(super) fn stop_clock(&self) {
        let since = self.running_since_ns.swap(0, Ordering::Relaxed);
        if since != 0 {
            self.ran_ns.fetch_add(crate::time::monotonic_ns().saturating_sub(since), Ordering::Relaxed);
        }
    }

    /// Leaves the processor until somebody wakes the thread.
    pub(super) fn block(&self) {
        if self.woken.swap(false, Ordering::AcqRel) {
            return;
        }
        self.set_state(State::Blocked);
        run::schedule();
    }

    /// Tells the thread that a signal, or its end, waits for it.
    pub fn call_attention(self: &Arc<Self>) {
        self.attention.store(true, Ordering::Release);
        self.wake();
        run::interrupt(self);
    }

    /// Whether something may be due before the thread returns to its program; the caller deals with all of it.
    pub fn take_attention(&self) -> bool {
        self.attention.load(Ordering::Acquire) && self.attention.swap(false, Ordering::AcqRel)
    }

    /// Looks at it again on the next return, because not all could be dealt with now.
    pub fn keep_attention(&self) {
        self.attention.store(true, Ordering::Release);
    }

    /// Whether a wait must end, because a signal is to be handled or the thread is to end.
    pub fn must_return(&self) -> bool {
        self.attention.load(Ordering::Acquire)
            && (self.is_to_end() || crate::signal::has_deliverable(self) || self.has_trap())
    }

    /// Whether the thread must not return to its program any more.
    pub fn is_to_end(&self) -> bool {
        self.process.is_ending() || self.doomed.load(Ordering::Acquire)
    }

    /// Ends the calling thread.
    pub fn end(me: Arc<Thread>) -> ! {
        run::leave_for_good(me)
    }
}

impl Wake for Thread {
    fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        if self.state() == State::Blocked {
            self.set_state(State::Ready);
            // SAFETY: threads live in an Arc from their creation; `self` came from one.
            let me = unsafe {
                Arc::increment_strong_count(self);
                Arc::from_raw(self)
            };
            super::make_runnable(me);
        }
    }

    fn is_waiting(&self) -> bool {
        !self.woken.load(Ordering::Acquire)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; nobody stands on it: an ended thread is dropped by another one.
        unsafe { dealloc(self.stack, stack_layout()) };
    }
}

/// A thread's first moment: finishes the switch and returns to the program with the registers at the top of its stack.
pub extern "C" fn first_run(regs: &mut Regs) {
    run::reap();
    run::deadlines_changed();
    crate::syscall::before_return(regs, None);
}
