//! Tracing (ptrace(2)): threads that stop where another program wants to look at them, and go on when it says so.
//!
//! A traced thread stops on its own stack in the library OS, before or after a system call or where it would return to its
//! program; its tracer reads and changes the registers that lie there. What keeps them in place is that nobody but the tracer
//! and SIGKILL make the thread go on.
mod stops;

pub use stops::{
    TRAP_FLAG, at_call, at_clone, at_end, at_exec, at_return, at_signal, group_stop, stepped, trap_if_wanted,
};

use super::{Process, all, find};
use crate::arch::regs::Regs;
use crate::errno::{Errno, Result};
use crate::sched::thread::Thread;
use crate::sched::wait::WaitQueue;
use crate::signal::{self, SigInfo};
use crate::sync::{Mutex, MutexGuard};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use linux_raw_sys::general::*;

/// `PTRACE_O_*`.
pub const O_SYSGOOD: u32 = 1;
pub const O_FORK: u32 = 1 << EVENT_FORK;
pub const O_VFORK: u32 = 1 << EVENT_VFORK;
pub const O_CLONE: u32 = 1 << EVENT_CLONE;
pub const O_EXEC: u32 = 1 << EVENT_EXEC;
pub const O_VFORK_DONE: u32 = 1 << EVENT_VFORK_DONE;
pub const O_EXIT: u32 = 1 << EVENT_EXIT;
pub const O_EXITKILL: u32 = 1 << 20;
/// Those that exist here: there is no seccomp.
pub const OPTIONS: u32 = O_SYSGOOD | O_FORK | O_VFORK | O_CLONE | O_EXEC | O_VFORK_DONE | O_EXIT | O_EXITKILL;

/// `PTRACE_EVENT_*`.
pub const EVENT_FORK: u32 = 1;
pub const EVENT_VFORK: u32 = 2;
pub const EVENT_CLONE: u32 = 3;
pub const EVENT_EXEC: u32 = 4;
pub const EVENT_VFORK_DONE: u32 = 5;
pub const EVENT_EXIT: u32 = 6;
pub const EVENT_STOP: u32 = 128;

/// Stopped threads wait here until their tracers say how they go on.
static RESUMED: WaitQueue = WaitQueue::new();

/// A thread's part of tracing.
#[derive(Default)]
pub struct Tracing {
    by: Mutex<Option<Tracee>>,
    /// How the tracer has let it go on after its last stop.
    resumed: Mutex<Option<Resumption>>,
    /// It stops at system calls.
    pub calls: AtomicBool,
}

struct Resumption {
    mode: Mode,
    /// The signal that it goes on with; 0: none.
    signal: u32,
    /// What is known of that signal, if it is the one that it had stopped for.
    info: Option<SigInfo>,
}

/// That a thread is traced.
pub struct Tracee {
    /// The tracing program.
    pub tracer: u32,
    /// By PTRACE_SEIZE.
    pub seized: bool,
    pub options: u32,
    /// Number that belongs to the last event.
    pub message: u64,
    stop: Option<Stop>,
    /// It is to stop as soon as it can (PTRACE_INTERRUPT).
    trap_wanted: bool,
    /// The trap flag that is set is the tracer's.
    stepping: bool,
}

/// How a thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Continue,
    /// Until it enters or leaves a system call.
    Call,
    /// For one instruction.
    Step,
    /// Not yet: it stays in its group's stop, and tells when that ends.
    Listen,
}

/// Why a thread has stopped.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Signal(SigInfo),
    Group(u32),
    Entry,
    Exit,
    Event(u32),
    Trap,
}

struct Stop {
    kind: Kind,
    /// The registers with which the thread goes on, on its stack.
    regs: *mut Regs,
    /// A wait has told of it.
    told: bool,
}

// SAFETY: the registers belong to a thread that waits for as long as the stop lasts.
unsafe impl Send for Stop {}

impl Tracee {
    fn new(tracer: u32, seized: bool, options: u32) -> Tracee {
        Tracee { tracer, seized, options, message: 0, stop: None, trap_wanted: false, stepping: false }
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.is_some()
    }

    /// Why it has stopped.
    pub fn kind(&self) -> Result<Kind> {
        self.stop.as_ref().map(|stop| stop.kind).ok_or(Errno::ESRCH)
    }

    /// The registers of a stopped thread.
    pub fn regs(&mut self) -> Result<&mut Regs> {
        let stop = self.stop.as_ref().ok_or(Errno::ESRCH)?;
        // SAFETY: on the stack of a thread that waits in `stops::stop` until `stop` is taken away, which needs this lock.
        Ok(unsafe { &mut *stop.regs })
    }

    /// What a wait tells of the stop: the signal, and an event above it.
    fn status(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Signal(info) => info.signal(),
            Kind::Group(signal) if self.seized => signal | EVENT_STOP << 8,
            Kind::Group(signal) => signal,
            Kind::Entry | Kind::Exit if self.options & O_SYSGOOD != 0 => SIGTRAP | 0x80,
            Kind::Entry | Kind::Exit => SIGTRAP,
            Kind::Event(event) => SIGTRAP | event << 8,
            Kind::Trap => SIGTRAP | EVENT_STOP << 8,
        }
    }

    /// What a wait tells of the stop; of a signal what is known of it. EINVAL where Linux has nothing, either.
    pub fn info(&self) -> Result<SigInfo> {
        let kind = self.kind()?;
        let status = self.status(kind);
        match kind {
            Kind::Signal(info) => Ok(info),
            Kind::Group(_) if !self.seized => Err(Errno::EINVAL),
            Kind::Group(signal) => Ok(SigInfo::fault(signal, status, 0)),
            _ => Ok(SigInfo::fault(SIGTRAP, status, 0)),
        }
    }

    /// The signal that stopped it is another one from now on.
    pub fn set_info(&mut self, info: SigInfo) -> Result<()> {
        match self.stop.as_mut().map(|stop| &mut stop.kind) {
            Some(Kind::Signal(old)) => {
                *old = info;
                Ok(())
            }
            Some(_) => Err(Errno::EINVAL),
            None => Err(Errno::ESRCH),
        }
    }
}

impl Thread {
    /// Who traces it, and how.
    pub fn tracee(&self) -> MutexGuard<'_, Option<Tracee>> {
        self.tracing.by.lock()
    }

    /// Whether somebody traces it.
    pub fn is_traced(&self) -> bool {
        self.tracee().is_some()
    }

    /// Whether it has stopped for its tracer.
    pub fn is_in_tracer_stop(&self) -> bool {
        self.tracee().as_ref().is_some_and(Tracee::is_stopped)
    }

    /// Whether a wait must end because its tracer wants it to stop.
    pub fn has_trap(&self) -> bool {
        self.tracee().as_ref().is_some_and(|tracee| tracee.trap_wanted)
    }
}

/// Threads that the program traces.
fn tracees_of(tracer: &Process) -> Vec<Arc<Thread>> {
    if tracer.tracees.load(Ordering::Relaxed) == 0 {
        return Vec::new();
    }
    let traces = |thread: &&Arc<Thread>| thread.tracee().as_ref().is_some_and(|of| of.tracer == tracer.pid);
    all()
        .iter()
        .flat_map(|process| process.threads.lock().values().filter(traces).cloned().collect::<Vec<_>>())
        .collect()
}

/// A thread is traced by the program from now on.
fn begin(thread: &Thread, tracer: &Process, tracee: Tracee) -> Result<()> {
    let mut place = thread.tracee();
    if place.is_some() {
        return Err(Errno::EPERM);
    }
    *place = Some(tracee);
    tracer.tracees.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// PTRACE_TRACEME: the caller's parent traces it.
pub fn trace_me(thread: &Thread) -> Result<()> {
    let parent = find(thread.process.parent_pid()).ok_or(Errno::EPERM)?;
    begin(thread, &parent, Tracee::new(parent.pid, false, 0))
}

/// PTRACE_ATTACH, PTRACE_SEIZE.
pub fn attach(tracer: &Process, thread: &Arc<Thread>, seized: bool, options: u32) -> Result<()> {
    if thread.process.pid == tracer.pid || thread.is_to_end() || !may_trace(tracer, &thread.process) {
        return Err(Errno::EPERM);
    }
    begin(thread, tracer, Tracee::new(tracer.pid, seized, options))?;
    if !seized {
        signal::send_to_thread(thread, SigInfo::user(SIGSTOP, tracer.pid, tracer.credentials.lock().uid));
    }
    // One that rests in its group's stop stops for its tracer instead.
    thread.process.job.look_again();
    Ok(())
}

/// Root may trace everybody, others their own programs, unless those have run with another's rights.
pub fn may_trace(tracer: &Process, target: &Process) -> bool {
    let ours = tracer.credentials.lock().euid;
    let theirs = target.credentials.lock();
    ours == 0
        || target.dumpable.load(Ordering::Relaxed)
            && [theirs.uid, theirs.euid, theirs.suid].iter().all(|id| *id == ours)
}

/// PTRACE_INTERRUPT: the thread stops as soon as it can.
pub fn interrupt(thread: &Arc<Thread>, tracee: &mut Tracee) {
    tracee.trap_wanted = true;
    thread.call_attention();
    thread.process.job.look_again();
}

/// The stopped thread goes on, with a signal unless that is 0.
pub fn resume(thread: &Thread, tracee: &mut Tracee, mode: Mode, signal: u32) -> Result<()> {
    let kind = tracee.kind()?;
    if mode == Mode::Listen && !(tracee.seized && matches!(kind, Kind::Group(_) | Kind::Trap)) {
        return Err(Errno::EIO);
    }
    if mode == Mode::Step {
        tracee.regs()?.rflags |= stops::TRAP_FLAG;
        tracee.stepping = true;
    }
    tracee.stop = None;
    let info = match kind {
        Kind::Signal(info) if info.signal() == signal => Some(info),
        _ => None,
    };
    *thread.tracing.resumed.lock() = Some(Resumption { mode, signal, info });
    thread.tracing.calls.store(mode == Mode::Call, Ordering::Relaxed);
    RESUMED.wake_all();
    Ok(())
}

/// PTRACE_DETACH, and the end of a tracer.
pub fn detach(thread: &Arc<Thread>, signal: u32) {
    let mut place = thread.tracee();
    let Some(mut tracee) = place.take() else { return };
    if let Some(tracer) = find(tracee.tracer) {
        tracer.tracees.fetch_sub(1, Ordering::Relaxed);
    }
    thread.tracing.calls.store(false, Ordering::Relaxed);
    // One that is not stopped just goes on.
    let _ = resume(thread, &mut tracee, Mode::Continue, signal);
    drop(place);
    thread.call_attention();
}

/// A program ends: those that it traced are free, or end with it.
pub fn end_tracer(tracer: &Process) {
    for thread in tracees_of(tracer) {
        let kills = thread.tracee().as_ref().is_some_and(|tracee| tracee.options & O_EXITKILL != 0);
        detach(&thread, 0);
        if kills {
            signal::send_to_process(&thread.process, SigInfo::kernel(SIGKILL));
        }
    }
}

/// A thread has ended; of a program's first the program's end tells, unless it has another parent than tracer.
pub fn end_tracee(thread: &Thread, status: u32) {
    let Some(tracee) = thread.tracee().take() else { return };
    let Some(tracer) = find(tracee.tracer) else { return };
    tracer.tracees.fetch_sub(1, Ordering::Relaxed);
    if thread.tid != thread.process.pid || thread.process.parent_pid() != tracer.pid {
        let uid = thread.process.credentials.lock().uid;
        tracer.departed.lock().push((thread.tid, uid, status));
        signal::send_to_process(&tracer, SigInfo::child(thread.tid, uid, CLD_EXITED, status >> 8));
        tracer.child_changed.wake_all();
    }
}

/// Whether the program traces a thread that fits.
pub fn traces(tracer: &Process, fits: impl Fn(&Thread) -> bool) -> bool {
    tracees_of(tracer).iter().any(|thread| fits(thread))
}

/// A stop of a traced thread that fits and that no wait has told of: thread, user, status. `keep` leaves it to be told again.
pub fn untold(tracer: &Process, fits: impl Fn(&Thread) -> bool, keep: bool) -> Option<(u32, u32, u32)> {
    tracees_of(tracer).into_iter().filter(|thread| fits(thread)).find_map(|thread| {
        let uid = thread.process.credentials.lock().uid;
        let mut place = thread.tracee();
        let tracee = place.as_mut()?;
        let kind = tracee.stop.as_ref().filter(|stop| !stop.told)?.kind;
        if let Some(stop) = tracee.stop.as_mut() {
            stop.told = !keep;
        }
        Some((thread.tid, uid, tracee.status(kind)))
    })
}
