//! clone(2), fork(2), vfork(2): new threads and new programs.
use super::{Process, Start, limits, max_tasks, new_id, task_count, tracing};
use crate::arch::{cpu, regs::Regs};
use crate::errno::{Errno, Result};
use crate::sched::{self, thread, thread::Thread};
use crate::signal::{AltStack, ThreadSignals};
use crate::sync::Mutex;
use crate::user;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::*;

/// What clone and clone3 ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneRequest {
    pub flags: u64,
    /// New stack pointer, or 0 to keep the caller's.
    pub stack: u64,
    pub parent_tid: u64,
    pub child_tid: u64,
    pub tls: u64,
    pub exit_signal: u32,
    pub pidfd: u64,
}

fn has(request: &CloneRequest, flag: u32) -> bool {
    request.flags & u64::from(flag) != 0
}

const NAMESPACES: u64 =
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET) as u64;

/// Makes a thread or a program; its number. The child returns 0 from the same call.
pub fn clone(request: &CloneRequest, regs: &Regs) -> Result<usize> {
    if request.flags & NAMESPACES != 0 {
        return Err(Errno::EPERM);
    }
    let is_thread = has(request, CLONE_THREAD);
    if is_thread && !(has(request, CLONE_SIGHAND) && has(request, CLONE_VM))
        || has(request, CLONE_SIGHAND) && !has(request, CLONE_VM)
    {
        return Err(Errno::EINVAL);
    }
    if has(request, CLONE_SETTLS) && request.tls >= 1 << 47 {
        return Err(Errno::EPERM);
    }
    if task_count() >= max_tasks() {
        return Err(Errno::EAGAIN);
    }
    limits::check_tasks()?;
    let parent = sched::current();
    let tid = new_id();
    let process = if is_thread { parent.process.clone() } else { new_process(request, parent, tid)? };
    let thread = new_thread(request, regs, parent, tid, process.clone());
    if has(request, CLONE_PARENT_SETTID) {
        user::write(request.parent_tid, &tid)?;
    }
    if has(request, CLONE_PIDFD) {
        let descriptor = crate::ipc::pidfd::open(&parent.process, &process)?;
        user::write(request.pidfd, &descriptor)?;
    }
    if has(request, CLONE_CHILD_SETTID) {
        // Into the child's memory, which for a program is a copy that is not in use yet.
        let _ = thread.space().write(request.child_tid, &tid.to_le_bytes());
    }
    process.threads.lock().insert(tid, thread.clone());
    if !is_thread {
        parent.process.children.lock().push(process.clone());
    }
    let birth = if has(request, CLONE_UNTRACED) {
        None
    } else {
        tracing::at_clone(parent, &thread, has(request, CLONE_VFORK), if is_thread { 0 } else { request.exit_signal })
    };
    sched::make_runnable(thread);
    if let Some(birth) = &birth {
        birth.tell(regs);
    }
    if has(request, CLONE_VFORK) {
        // Not to be interrupted: the child stands on this thread's stack.
        while !process.has_released.load(Ordering::Acquire) {
            let _ = sched::block_on(&[&process.released], None, || {
                process.has_released.load(Ordering::Acquire).then_some(())
            });
            if parent.process.is_ending() {
                break;
            }
            sched::yield_now();
        }
        if let Some(birth) = &birth {
            birth.tell_done(regs);
        }
    }
    Ok(tid as usize)
}

fn new_process(request: &CloneRequest, parent: &Thread, pid: u32) -> Result<Arc<Process>> {
    let mother = &parent.process;
    let alone = mother.threads.lock().len() == 1;
    let space = if has(request, CLONE_VM) {
        parent.space()
    } else {
        Arc::new(parent.space().fork(crate::boot::root(), alone)?)
    };
    let files = mother.files.lock().clone();
    let fs = mother.fs.lock().clone();
    let process = Process::new(Start {
        pid,
        parent: if has(request, CLONE_PARENT) { mother.parent_pid() } else { mother.pid },
        group: mother.group.load(Ordering::Relaxed),
        session: mother.session.load(Ordering::Relaxed),
        space,
        files: if has(request, CLONE_FILES) { files } else { Arc::new(files.fork()) },
        fs: if has(request, CLONE_FS) { fs } else { Arc::new(Mutex::new(fs.lock().clone())) },
        actions: mother.actions.lock().clone(),
        credentials: mother.credentials.lock().clone(),
        limits: mother.limits.lock().clone(),
        image: mother.image.lock().clone(),
        exit_signal: request.exit_signal,
    });
    process.oom_score_adj.store(mother.oom_score_adj.load(Ordering::Relaxed), Ordering::Relaxed);
    process.personality.store(mother.personality.load(Ordering::Relaxed), Ordering::Relaxed);
    process.timers.limit_cpu(process.limits.lock().cpu_ns().0);
    if has(request, CLONE_CLEAR_SIGHAND_LOW) {
        process.actions.lock().reset_handlers();
    }
    Ok(process)
}

/// CLONE_CLEAR_SIGHAND lies above 32 bits; clone3 moves it here.
pub const CLONE_CLEAR_SIGHAND_LOW: u32 = CLONE_DETACHED;

fn new_thread(request: &CloneRequest, regs: &Regs, parent: &Thread, tid: u32, process: Arc<Process>) -> Arc<Thread> {
    let mut child = *regs;
    child.rax = 0;
    if request.stack != 0 {
        child.rsp = request.stack;
    }
    parent.fpu().save();
    let mut signals = ThreadSignals::new(parent.signals.lock().mask);
    // vfork's child and a forked program keep the alternate stack; a thread has none.
    if !has(request, CLONE_VM) || has(request, CLONE_VFORK) {
        signals.alt_stack = parent.signals.lock().alt_stack;
    } else {
        signals.alt_stack = AltStack::NONE;
    }
    let space = if Arc::ptr_eq(&process, &parent.process) { parent.space() } else { process.space() };
    let thread = Thread::new(thread::Start {
        tid,
        process,
        space,
        regs: child,
        fs_base: if has(request, CLONE_SETTLS) { request.tls } else { cpu::fs_base() },
        fpu: parent.fpu().clone(),
        signals,
        name: *parent.name.lock(),
        nice: parent.nice.load(Ordering::Relaxed),
        io_priority: parent.io_priority.load(Ordering::Relaxed),
        affinity: parent.affinity(),
    });
    if has(request, CLONE_CHILD_CLEARTID) {
        thread.clear_tid.store(request.child_tid, Ordering::Relaxed);
    }
    thread
}
