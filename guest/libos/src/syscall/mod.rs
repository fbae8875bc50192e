//! The Linux interface: from a program's registers to a handler and back.
//!
//! `table` says which system calls there are, how far each is supported and who handles it; `dispatch` finds the handler,
//! `site` makes a jump of a call's site, `trace` tells; the other files hold the handlers, one area each.
#[cfg(target_os = "none")]
mod attributes;
#[cfg(target_os = "none")]
mod between;
#[cfg(target_os = "none")]
mod control;
#[cfg(target_os = "none")]
mod descriptor;
#[cfg(target_os = "none")]
mod directory;
#[cfg(target_os = "none")]
mod dispatch;
#[cfg(test)]
mod document;
#[cfg(target_os = "none")]
mod epoll;
#[cfg(target_os = "none")]
mod event;
#[cfg(target_os = "none")]
mod identity;
#[cfg(target_os = "none")]
mod inotify;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod message;
#[cfg(target_os = "none")]
mod names;
#[cfg(target_os = "none")]
mod open;
#[cfg(target_os = "none")]
mod paths;
#[cfg(target_os = "none")]
mod pipe;
#[cfg(target_os = "none")]
mod poll;
#[cfg(target_os = "none")]
mod prctl;
#[cfg(target_os = "none")]
mod priority;
#[cfg(target_os = "none")]
mod process;
#[cfg(target_os = "none")]
mod ptrace;
#[cfg(target_os = "none")]
mod signal;
#[cfg(target_os = "none")]
mod site;
#[cfg(target_os = "none")]
mod socket;
#[cfg(target_os = "none")]
mod stat;
#[cfg(target_os = "none")]
mod system;
#[cfg(target_os = "none")]
mod sysv;
pub mod table;
#[cfg(target_os = "none")]
mod thread;
#[cfg(target_os = "none")]
mod time;
#[cfg(target_os = "none")]
mod timer;
#[cfg(target_os = "none")]
pub mod trace;
#[cfg(target_os = "none")]
mod transfer;
#[cfg(target_os = "none")]
mod wait;
#[cfg(target_os = "none")]
mod xattr;

#[cfg(target_os = "none")]
#[cfg(target_os = "none")]
pub use system::{RELEASE, VERSION};

#[cfg(target_os = "none")]
pub use entry::{Context, Handler, before_return, enter, name};

#[cfg(target_os = "none")]
mod entry {
    use super::{dispatch, trace};
    use crate::arch::cpu;
    use crate::arch::regs::{NO_CALL, Regs};
    use crate::errno::{Errno, Result};
    use crate::fs::{FileTable, FsContext};
    use crate::process::{Process, exit, tracing};
    use crate::sched::{self, thread::Thread};
    use crate::signal;
    use crate::stats::{self, Kind};
    use crate::sync::Mutex;
    use alloc::sync::Arc;
    use core::cell::Cell;
    use core::sync::atomic::Ordering;
    use kasoku_abi::cpu::PENDING_KICK;

    /// What a handler is given besides its arguments.
    pub struct Context<'a> {
        pub thread: &'a Thread,
        pub process: &'a Arc<Process>,
        regs: &'a Cell<Regs>,
        /// The registers were replaced as a whole: all of them go back, rcx and r11 too.
        replaced: Cell<bool>,
    }

    /// Handles one system call.
    pub type Handler = fn(&Context<'_>, &[u64; 6]) -> Result<usize>;

    impl Context<'_> {
        /// The descriptor table.
        pub fn files(&self) -> Arc<FileTable> {
            self.process.files.lock().clone()
        }

        /// Working directory, root and umask.
        pub fn fs(&self) -> Arc<Mutex<FsContext>> {
            self.process.fs.lock().clone()
        }

        /// The program's registers at the call.
        pub fn regs(&self) -> Regs {
            self.regs.get()
        }

        /// Replaces all registers (exec, sigreturn); the handler's result is not used then.
        pub fn replace_regs(&self, regs: Regs) {
            self.regs.set(regs);
            self.replaced.set(true);
        }
    }

    /// From the entry code. 0: registers go back as after `syscall` (rcx and r11 are lost); 1: all of them.
    /// `trapped`: by a `syscall` instruction, not by the jump that one has become.
    pub extern "C" fn enter(regs: &mut Regs, trapped: u32) -> u32 {
        sched::lock::enter();
        let thread = sched::current();
        let stepped = cpu::take_stepped();
        if thread.tracing.calls.load(Ordering::Relaxed) {
            tracing::at_call(regs);
        }
        let number = regs.origin;
        if trapped != 0 {
            super::site::trapped(&thread.space(), regs.rip, number);
        }
        let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
        let cell = Cell::from_mut(regs);
        let context = Context { thread, process: &thread.process, regs: cell, replaced: Cell::new(false) };
        let call = trace::begin(number, &args);
        let kind = if trapped != 0 { Kind::Trap } else { Kind::Call };
        let result = stats::timed_call(kind, number, || match dispatch::find(number) {
            Some(handler) => handler(&context, &args),
            None if number == NO_CALL => Ok(context.regs().rax as usize),
            None => dispatch::absent(number),
        });
        trace::end(call, &result);
        let mut interrupted = None;
        let replaced = context.replaced.get();
        if !replaced {
            match result {
                Ok(value) => regs.rax = value as u64,
                Err(errno @ (Errno::RESTART | Errno::RESTART_ALWAYS | Errno::RESTART_NO_HANDLER)) => {
                    interrupted = Some((number, errno))
                }
                Err(errno) => regs.rax = errno.to_rax(),
            }
        }
        if thread.tracing.calls.load(Ordering::Relaxed) {
            if let Some((_, errno)) = interrupted {
                regs.rax = errno.to_rax();
            }
            tracing::at_return(regs);
        }
        if stepped {
            tracing::stepped(regs);
        }
        before_return(regs, interrupted);
        u32::from(replaced || regs.rflags & tracing::TRAP_FLAG != 0)
    }

    /// What a number is called.
    pub fn name(number: u64) -> &'static str {
        dispatch::entry(number).map_or("unknown", |entry| entry.name)
    }

    /// What is due before a thread goes back to its program: events of the host, its own end, signals. The last thing that is
    /// done in the library OS: it gives the lock back.
    pub fn before_return(regs: &mut Regs, interrupted: Option<(u64, Errno)>) {
        let thread = sched::current();
        let mut interrupted = interrupted;
        loop {
            if sched::handle_events() & PENDING_KICK != 0 {
                crate::time::run_expired();
                thread.process.timers.check_cpu(&thread.process);
                sched::yield_now();
            }
            if thread.is_to_end() {
                exit::exit_thread();
            }
            if !thread.take_attention() && interrupted.is_none() {
                if sched::lock::leave() {
                    return;
                }
                continue;
            }
            signal::deliver(regs, interrupted.take());
        }
    }
}
