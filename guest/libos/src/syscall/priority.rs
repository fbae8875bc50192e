//! Priorities (getpriority(2), ioprio_set(2)): kept and told. Threads take turns whatever theirs are.
use super::Context;
use crate::capabilities::Capability;
use crate::errno::{Errno, Result};
use crate::process::{self, Process};
use crate::sched::thread::Thread;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::{PRIO_PGRP, PRIO_PROCESS, PRIO_USER};

const NICEST: i32 = 19;
const LEAST_NICE: i32 = -20;
/// What `getpriority` adds, so that its result is never negative: it gives 40 to 1 for -20 to 19.
const KERNEL_OFFSET: i32 = 20;

/// `ioprio_set` counts what is named as `setpriority` does, from 1.
const IOPRIO_WHO_PROCESS: u64 = 1;
/// Classes: none, real time, best effort, idle; the level is in the low bits.
const IOPRIO_CLASS_SHIFT: u32 = 13;
const IOPRIO_CLASS_REAL_TIME: u64 = 1;
const IOPRIO_CLASS_IDLE: u64 = 3;
const IOPRIO_LEVELS: u64 = 8;

/// The threads that `which` and `who` name; ESRCH when there are none.
fn named(ctx: &Context<'_>, which: u64, who: u64) -> Result<Vec<Arc<Thread>>> {
    let who = who as u32;
    let of_all = |fits: &dyn Fn(&Process) -> bool| -> Vec<Arc<Thread>> {
        let processes = process::all();
        let fitting = processes.iter().filter(|process| fits(process));
        fitting.flat_map(|process| process.threads.lock().values().cloned().collect::<Vec<_>>()).collect()
    };
    let threads: Vec<_> = match which as u32 {
        PRIO_PROCESS if who == 0 => process::find_thread(ctx.thread.tid).into_iter().collect(),
        PRIO_PROCESS => process::find_thread(who).into_iter().collect(),
        PRIO_PGRP => {
            let group = if who == 0 { ctx.process.group.load(Ordering::Relaxed) } else { who };
            of_all(&|process| process.group.load(Ordering::Relaxed) == group)
        }
        PRIO_USER => {
            let uid = if who == 0 { ctx.process.credentials.lock().uid } else { who };
            of_all(&|process| process.credentials.lock().uid == uid)
        }
        _ => return Err(Errno::EINVAL),
    };
    if threads.is_empty() { Err(Errno::ESRCH) } else { Ok(threads) }
}

/// EPERM unless the caller may change another's priority.
fn must_own(ctx: &Context<'_>, target: &Process) -> Result<()> {
    let own = ctx.process.credentials.lock().clone();
    let theirs = target.credentials.lock().clone();
    let same = own.euid == theirs.uid || own.euid == theirs.euid;
    if same || own.can(Capability::SysNice) { Ok(()) } else { Err(Errno::EPERM) }
}

pub fn getpriority(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let threads = named(ctx, args[0], args[1])?;
    let least = threads.iter().map(|thread| thread.nice.load(Ordering::Relaxed)).min();
    Ok((KERNEL_OFFSET - least.ok_or(Errno::ESRCH)?) as usize)
}

pub fn setpriority(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let nice = (args[2] as i32).clamp(LEAST_NICE, NICEST);
    let mut result = Ok(0);
    for thread in named(ctx, args[0], args[1])? {
        let less_nice = nice < thread.nice.load(Ordering::Relaxed);
        let allowed = !less_nice || ctx.process.credentials.lock().can(Capability::SysNice);
        match must_own(ctx, &thread.process) {
            Ok(()) if allowed => thread.nice.store(nice, Ordering::Relaxed),
            Ok(()) => result = Err(Errno::EACCES),
            Err(errno) => result = Err(errno),
        }
    }
    result
}

pub fn ioprio_get(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let which = args[0].checked_sub(IOPRIO_WHO_PROCESS).ok_or(Errno::EINVAL)?;
    let threads = named(ctx, which, args[1])?;
    // The best of them; none counts as the middle of best effort, which has no smaller number than a real class.
    let best = threads.iter().map(|thread| thread.io_priority.load(Ordering::Relaxed)).min();
    Ok(best.ok_or(Errno::ESRCH)? as usize)
}

pub fn ioprio_set(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let which = args[0].checked_sub(IOPRIO_WHO_PROCESS).ok_or(Errno::EINVAL)?;
    let (class, level) = (args[2] >> IOPRIO_CLASS_SHIFT, args[2] & ((1 << IOPRIO_CLASS_SHIFT) - 1));
    if class > IOPRIO_CLASS_IDLE || level >= IOPRIO_LEVELS || class == 0 && level != 0 {
        return Err(Errno::EINVAL);
    }
    if class == IOPRIO_CLASS_REAL_TIME && !ctx.process.credentials.lock().can(Capability::SysNice) {
        return Err(Errno::EPERM);
    }
    for thread in named(ctx, which, args[1])? {
        must_own(ctx, &thread.process)?;
        thread.io_priority.store(args[2] as u32, Ordering::Relaxed);
    }
    Ok(0)
}
