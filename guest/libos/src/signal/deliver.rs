//! Delivery: on the way back to the program.
use super::{Action, COUNT, SigInfo, UNSTOPPABLE, bit, frame};
use crate::arch::regs::{NO_CALL, Regs};
use crate::errno::Errno;
use crate::process::{job, tracing};
use crate::sched;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::*;

/// What a signal does when the program has not asked for anything.
enum Default {
    Ignore,
    Stop,
    End,
}

fn default_of(signal: u32) -> Default {
    match signal {
        SIGCHLD | SIGURG | SIGWINCH | SIGCONT => Default::Ignore,
        SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU => Default::Stop,
        _ => Default::End,
    }
}

/// Delivers what is pending and not blocked. `interrupted` is the number of the system call that is returning with
/// one of the RESTART errnos, if one is: it is made again, or ends with EINTR.
pub fn deliver(regs: &mut Regs, interrupted: Option<(u64, Errno)>) {
    let thread = sched::current();
    let mut interrupted = interrupted;
    loop {
        job::rest(regs);
        if thread.is_to_end() {
            return;
        }
        tracing::trap_if_wanted(regs);
        let (info, saved) = {
            let mut signals = thread.signals.lock();
            let wanted = !signals.mask | UNSTOPPABLE;
            let own = signals.pending.take(wanted);
            let info = own.or_else(|| thread.process.pending.lock().take(wanted));
            (info, signals.saved_mask)
        };
        let Some(info) = info else { break };
        if let Some((_, errno)) = interrupted {
            regs.rax = errno.to_rax();
        }
        let Some(info) = tracing::at_signal(regs, info) else { continue };
        if regs.origin == NO_CALL {
            // Its tracer has sent it elsewhere.
            interrupted = None;
        }
        let signal = info.signal();
        let action = {
            let mut actions = thread.process.actions.lock();
            let action = actions.get(signal);
            if action.has(SA_RESETHAND) && action.handler > Action::IGNORE {
                actions.0[signal as usize - 1].handler = Action::DEFAULT;
            }
            action
        };
        match action.handler {
            Action::IGNORE => continue,
            Action::DEFAULT => match default_of(signal) {
                Default::Ignore => continue,
                Default::Stop => {
                    stop(signal);
                    continue;
                }
                Default::End => end_by(regs, &info),
            },
            _ => {}
        }
        if let Some((number, how)) = interrupted.take() {
            if how == Errno::RESTART_ALWAYS || (how == Errno::RESTART && action.has(SA_RESTART)) {
                restart(regs, number);
            } else {
                regs.rax = Errno::EINTR.to_rax();
            }
        }
        let mask = {
            let mut signals = thread.signals.lock();
            let old = saved.unwrap_or(signals.mask);
            signals.saved_mask = None;
            signals.mask |= action.mask;
            if !action.has(SA_NODEFER) {
                signals.mask |= bit(signal);
            }
            signals.mask &= !UNSTOPPABLE;
            old
        };
        if frame::push(regs, &info, &action, mask).is_err() {
            // The stack is gone: nothing can be told to the program any more.
            end_by(regs, &SigInfo::kernel(SIGSEGV));
        }
    }
    // No handler ran: the call is made again, and a mask that was only for its duration goes back.
    if let Some((number, _)) = interrupted {
        restart(regs, number);
    }
    let mut signals = thread.signals.lock();
    if let Some(mask) = signals.saved_mask.take() {
        signals.mask = mask;
        drop(signals);
        thread.keep_attention();
    }
}

/// Stops the program, unless its terminal asks for it and nobody is there who could continue it.
fn stop(signal: u32) {
    let process = &sched::current().process;
    if signal == SIGSTOP || !job::is_orphaned(process.group.load(Ordering::Relaxed)) {
        process.stop(signal);
    }
}

/// Sends the program back to its `syscall` instruction (a rewritten site keeps it in place).
fn restart(regs: &mut Regs, number: u64) {
    regs.rax = number;
    regs.rip -= 2;
}

/// A fault's signal: delivered now, whatever the mask says; a program that blocks or ignores it is ended.
pub fn force(regs: &mut Regs, info: SigInfo) {
    let thread = sched::current();
    let signal = info.signal();
    debug_assert!(signal <= COUNT);
    let blocked = thread.signals.lock().mask & bit(signal) != 0;
    let handler = thread.process.actions.lock().get(signal).handler;
    if blocked || handler <= Action::IGNORE {
        if !thread.is_traced() {
            end_by(regs, &info);
        }
        // Its tracer sees it first; what comes then is the end, unless that takes it away.
        thread.signals.lock().mask &= !bit(signal);
        thread.process.actions.lock().0[signal as usize - 1].handler = Action::DEFAULT;
    }
    super::send_to_thread(&sched::current_arc(), info);
}

fn end_by(regs: &Regs, info: &SigInfo) -> ! {
    let signal = info.signal();
    // The end of the first program is the end of the VM, and its watcher wants to know why. A child's parent knows.
    let is_first = sched::current().process.pid == 1;
    if is_first && matches!(signal, SIGSEGV | SIGBUS | SIGILL | SIGFPE | SIGTRAP | SIGABRT | SIGSYS) {
        crate::dump::program(regs, info);
    }
    tracing::at_end(regs, signal);
    crate::process::exit::exit_group(signal)
}
