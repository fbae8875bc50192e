//! Where traced threads stop.
use super::{
    EVENT_CLONE, EVENT_EXEC, EVENT_EXIT, EVENT_FORK, EVENT_VFORK, EVENT_VFORK_DONE, Kind, Mode, RESUMED, Stop, Tracee,
    begin, find,
};
use crate::arch::regs::{NO_CALL, Regs};
use crate::errno::Errno;
use crate::sched::{self, thread::Thread};
use crate::signal::{self, SigInfo};
use alloc::sync::Arc;
use linux_raw_sys::general::*;

/// In rflags: one instruction, then an exception.
pub const TRAP_FLAG: u64 = 1 << 8;

/// How a thread goes on after a stop.
struct Going {
    mode: Mode,
    /// The signal that its tracer gives it.
    signal: Option<SigInfo>,
}

/// The calling thread stops, tells its tracer, and waits for what that says. `None`: nobody traces it, or it is killed.
fn stop(regs: &mut Regs, kind: Kind) -> Option<Going> {
    let thread = sched::current();
    let (tracer, status) = {
        let mut place = thread.tracee();
        let tracee = place.as_mut()?;
        if core::mem::take(&mut tracee.stepping) {
            regs.rflags &= !TRAP_FLAG;
        }
        tracee.stop = Some(Stop { kind, regs: &raw mut *regs, told: false });
        (tracee.tracer, tracee.status(kind))
    };
    *thread.tracing.resumed.lock() = None;
    if let Some(tracer) = find(tracer) {
        let quiet = tracer.actions.lock().get(SIGCHLD).has(SA_NOCLDSTOP);
        if !quiet {
            let uid = thread.process.credentials.lock().uid;
            signal::send_to_process(&tracer, SigInfo::child(thread.tid, uid, CLD_TRAPPED, status & 0x7f));
        }
        tracer.child_changed.wake_all();
    }
    sched::block_whatever(&RESUMED, || thread.tracing.resumed.lock().is_some() || signal::is_killed(thread));
    let resumed = thread.tracing.resumed.lock().take();
    if let Some(tracee) = thread.tracee().as_mut() {
        tracee.stop = None;
    }
    let resumed = resumed?;
    let signal =
        (resumed.signal != 0).then(|| resumed.info.unwrap_or_else(|| SigInfo::user(resumed.signal, tracer, 0)));
    Some(Going { mode: resumed.mode, signal })
}

/// As [`stop`], where a signal that the tracer gives is one that comes from outside.
fn stop_and_send(regs: &mut Regs, kind: Kind) {
    if let Some(info) = stop(regs, kind).and_then(|going| going.signal) {
        signal::send_to_thread(&sched::current_arc(), info);
    }
}

/// Before a system call: the tracer may change it. Its number and arguments are what the registers say afterwards; a number of
/// -1 is no call at all.
pub fn at_call(regs: &mut Regs) {
    regs.rax = Errno::ENOSYS.to_rax();
    stop_and_send(regs, Kind::Entry);
    if signal::is_killed(sched::current()) {
        regs.origin = NO_CALL;
    }
}

/// After a system call.
pub fn at_return(regs: &mut Regs) {
    stop_and_send(regs, Kind::Exit);
}

/// A signal is to be delivered: it, another one, or none.
pub fn at_signal(regs: &mut Regs, info: SigInfo) -> Option<SigInfo> {
    if info.signal() == SIGKILL || !sched::current().is_traced() {
        return Some(info);
    }
    stop(regs, Kind::Signal(info)).and_then(|going| going.signal)
}

/// The program of a traced thread is stopped: whether the thread goes on all the same.
pub fn group_stop(regs: &mut Regs, signal: u32) -> bool {
    match stop(regs, Kind::Group(signal)) {
        Some(going) if going.mode == Mode::Listen => {
            let thread = sched::current();
            let process = &thread.process;
            process.job.wait(|| !process.is_stopped() || thread.has_trap() || !thread.is_traced());
            if let Some(tracee) = thread.tracee().as_mut() {
                tracee.trap_wanted = true;
            }
            false
        }
        Some(_) => true,
        None => false,
    }
}

/// A stop that the tracer has asked for.
pub fn trap_if_wanted(regs: &mut Regs) {
    let wanted = sched::current().tracee().as_mut().is_some_and(|tracee| core::mem::take(&mut tracee.trap_wanted));
    if wanted {
        stop_and_send(regs, Kind::Trap);
    }
}

/// A thread came into the library OS with its trap flag set: a tracer's step ends with the system call, and who steps through
/// himself goes on with the next instruction.
pub fn stepped(regs: &mut Regs) {
    let thread = sched::current();
    if thread.tracee().as_ref().is_some_and(|tracee| tracee.stepping) {
        signal::send_to_thread(&sched::current_arc(), SigInfo::fault(SIGTRAP, TRAP_TRACE, regs.rip));
    } else {
        regs.rflags |= TRAP_FLAG;
    }
}

/// The thread has executed another program.
pub fn at_exec(regs: &mut Regs) {
    let thread = sched::current();
    let (told, seized) = match thread.tracee().as_mut() {
        None => return,
        Some(tracee) => {
            tracee.message = thread.tid.into();
            (tracee.options & super::O_EXEC != 0, tracee.seized)
        }
    };
    if told {
        stop_and_send(regs, Kind::Event(EVENT_EXEC));
    } else if !seized {
        signal::send_to_thread(&sched::current_arc(), SigInfo::user(SIGTRAP, thread.process.pid, 0));
    }
}

/// The thread is about to end; `status` as a wait gives it. The registers are looked at only.
pub fn at_end(regs: &Regs, status: u32) {
    let told = sched::current().tracee().as_mut().is_some_and(|tracee| {
        tracee.message = status.into();
        tracee.options & super::O_EXIT != 0
    });
    if told {
        stop(&mut regs.clone(), Kind::Event(EVENT_EXIT));
    }
}

/// What a tracer wants to be told of a new thread or program.
pub struct Birth {
    event: u32,
    tid: u32,
    /// The end of vfork's wait is told, too.
    done: bool,
}

/// A thread makes another: that is traced like it if the tracer has asked for such ones, and the event is due.
pub fn at_clone(parent: &Thread, child: &Arc<Thread>, vfork: bool, exit_signal: u32) -> Option<Birth> {
    let event = match exit_signal {
        _ if vfork => EVENT_VFORK,
        SIGCHLD => EVENT_FORK,
        _ => EVENT_CLONE,
    };
    let (tracer, seized, options) = {
        let place = parent.tracee();
        let tracee = place.as_ref()?;
        (find(tracee.tracer)?, tracee.seized, tracee.options)
    };
    let done = vfork && options & super::O_VFORK_DONE != 0;
    if options & 1 << event == 0 {
        return done.then_some(Birth { event: 0, tid: child.tid, done });
    }
    let tracee = Tracee { trap_wanted: seized, ..Tracee::new(tracer.pid, seized, options) };
    begin(child, &tracer, tracee).ok()?;
    if seized {
        child.keep_attention();
    } else {
        signal::send_to_thread(child, SigInfo::user(SIGSTOP, tracer.pid, 0));
    }
    Some(Birth { event, tid: child.tid, done })
}

impl Birth {
    /// The new thread is there.
    pub fn tell(&self, regs: &Regs) {
        if self.event != 0 {
            self.stop(regs, self.event);
        }
    }

    /// The new program has let go its parent's memory.
    pub fn tell_done(&self, regs: &Regs) {
        if self.done {
            self.stop(regs, EVENT_VFORK_DONE);
        }
    }

    /// The registers are looked at only: the call has its result still to come.
    fn stop(&self, regs: &Regs, event: u32) {
        if let Some(tracee) = sched::current().tracee().as_mut() {
            tracee.message = self.tid.into();
        }
        stop_and_send(&mut regs.clone(), Kind::Event(event));
    }
}
