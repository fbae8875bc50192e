//! Signals: actions, masks, sending, waiting.
use super::Context;
use super::thread::read_timespec;
use crate::capabilities::Capability;
use crate::errno::{Errno, Result};
use crate::process::{self, Process};
use crate::sched;
use crate::signal::{self, Action, AltStack, COUNT, SENT, SigInfo, UNSTOPPABLE, bit};
use crate::{time, user};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::*;

const SET_LEN: u64 = 8;

fn checked(signal: u64) -> Result<u32> {
    let signal = signal as u32;
    if (1..=COUNT).contains(&signal) { Ok(signal) } else { Err(Errno::EINVAL) }
}

pub fn rt_sigaction(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [signal, new_at, old_at, set_len, ..] = *args;
    let signal = checked(signal)?;
    if set_len != SET_LEN || (new_at != 0 && bit(signal) & UNSTOPPABLE != 0) {
        return Err(Errno::EINVAL);
    }
    let new: Option<Action> = if new_at == 0 { None } else { Some(user::read(new_at)?) };
    let old = {
        let mut actions = ctx.process.actions.lock();
        let old = actions.get(signal);
        if let Some(new) = new {
            actions.0[signal as usize - 1] = Action { mask: new.mask & !UNSTOPPABLE, ..new };
        }
        old
    };
    if new.is_some() && ctx.process.actions.lock().ignores(signal) {
        ctx.process.pending.lock().discard(bit(signal));
        for thread in ctx.process.threads.lock().values() {
            thread.signals.lock().pending.discard(bit(signal));
        }
    }
    if old_at != 0 {
        user::write(old_at, &old)?;
    }
    Ok(0)
}

pub fn rt_sigprocmask(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [how, new_at, old_at, set_len, ..] = *args;
    if set_len != SET_LEN {
        return Err(Errno::EINVAL);
    }
    let new: Option<u64> = if new_at == 0 { None } else { Some(user::read(new_at)?) };
    let old = {
        let mut signals = ctx.thread.signals.lock();
        let old = signals.mask;
        if let Some(set) = new {
            signals.mask = match how as u32 {
                SIG_BLOCK => old | set,
                SIG_UNBLOCK => old & !set,
                SIG_SETMASK => set,
                _ => return Err(Errno::EINVAL),
            } & !UNSTOPPABLE;
        }
        old
    };
    if new.is_some() {
        ctx.thread.keep_attention();
    }
    if old_at != 0 {
        user::write(old_at, &old)?;
    }
    Ok(0)
}

pub fn rt_sigpending(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let set = signal::pending_set(ctx.thread) & ctx.thread.signals.lock().mask;
    user::write(args[0], &set).map(|()| 0)
}

pub fn rt_sigsuspend(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    if args[1] != SET_LEN {
        return Err(Errno::EINVAL);
    }
    let mask: u64 = user::read(args[0])?;
    signal::with_mask(Some(mask), || match sched::block_on::<()>(&[], None, || None) {
        Ok(()) | Err(_) => Err(Errno::RESTART_NO_HANDLER),
    })
}

pub fn pause(_ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    match sched::block_on::<()>(&[], None, || None) {
        Ok(()) | Err(_) => Err(Errno::RESTART_NO_HANDLER),
    }
}

pub fn rt_sigtimedwait(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [set_at, info_at, timeout, set_len, ..] = *args;
    if set_len != SET_LEN {
        return Err(Errno::EINVAL);
    }
    let wanted: u64 = user::read::<u64>(set_at)? & !UNSTOPPABLE;
    let deadline = match timeout {
        0 => None,
        at => Some(time::monotonic_ns().saturating_add(read_timespec(at)?)),
    };
    let info = match sched::block_on(&[&SENT], deadline, || signal::take(ctx.thread, wanted)) {
        Err(Errno::ETIMEDOUT) => return Err(Errno::EAGAIN),
        Err(_) => return Err(Errno::EINTR),
        Ok(info) => info,
    };
    if info_at != 0 {
        user::write(info_at, &info)?;
    }
    Ok(info.signal() as usize)
}

pub fn rt_sigreturn(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    let mut regs = ctx.regs();
    if signal::restore(&mut regs).is_err() {
        signal::force(&mut regs, SigInfo::kernel(SIGSEGV));
    }
    ctx.replace_regs(regs);
    Ok(0)
}

pub fn sigaltstack(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [new_at, old_at, ..] = *args;
    let rsp = ctx.regs().rsp;
    let old = ctx.thread.signals.lock().alt_stack;
    let on_it = old.contains(rsp);
    if new_at != 0 {
        let new: AltStack = user::read(new_at)?;
        if on_it {
            return Err(Errno::EPERM);
        }
        let disable = new.flags & SS_DISABLE != 0;
        if new.flags & !(SS_DISABLE | SS_ONSTACK | SS_AUTODISARM) != 0 {
            return Err(Errno::EINVAL);
        }
        if !disable && new.size < u64::from(MINSIGSTKSZ) {
            return Err(Errno::ENOMEM);
        }
        let flags = new.flags & SS_AUTODISARM;
        ctx.thread.signals.lock().alt_stack = if disable { AltStack::NONE } else { AltStack { flags, ..new } };
    }
    if old_at != 0 {
        user::write(old_at, &AltStack { flags: old.flags | u32::from(on_it), padding: 0, ..old })?;
    }
    Ok(0)
}

fn sender(ctx: &Context<'_>) -> (u32, u32) {
    (ctx.process.pid, ctx.process.credentials.lock().uid)
}

/// Whether the caller may send the signal there: root, or the same user.
fn may_send(ctx: &Context<'_>, target: &Process) -> bool {
    let mine = ctx.process.credentials.lock().clone();
    let theirs = target.credentials.lock().clone();
    mine.can(Capability::Kill) || [mine.uid, mine.euid].iter().any(|id| [theirs.uid, theirs.suid].contains(id))
}

pub fn kill(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let signal = args[1] as u32;
    let targets: alloc::vec::Vec<Arc<Process>> = match args[0] as i32 {
        -1 => process::all().into_iter().filter(|p| p.pid != 1 && p.pid != ctx.process.pid).collect(),
        0 => in_group(ctx.process.group.load(Ordering::Relaxed)),
        pid if pid < 0 => in_group(pid.unsigned_abs()),
        pid => process::find(pid as u32).into_iter().collect(),
    };
    if targets.is_empty() {
        return Err(Errno::ESRCH);
    }
    if signal > COUNT {
        return Err(Errno::EINVAL);
    }
    let allowed: alloc::vec::Vec<_> = targets.into_iter().filter(|target| may_send(ctx, target)).collect();
    if allowed.is_empty() {
        return Err(Errno::EPERM);
    }
    if signal != 0 {
        let (pid, uid) = sender(ctx);
        for target in allowed {
            signal::send_to_process(&target, SigInfo::user(signal, pid, uid));
        }
    }
    Ok(0)
}

fn in_group(group: u32) -> alloc::vec::Vec<Arc<Process>> {
    process::all().into_iter().filter(|p| p.group.load(Ordering::Relaxed) == group).collect()
}

fn send_to(ctx: &Context<'_>, group: Option<u32>, tid: u32, signal: u32, info: Option<SigInfo>) -> Result<usize> {
    if signal > COUNT || tid == 0 {
        return Err(Errno::EINVAL);
    }
    let thread =
        process::find_thread(tid).filter(|t| group.is_none_or(|pid| t.process.pid == pid)).ok_or(Errno::ESRCH)?;
    if !may_send(ctx, &thread.process) {
        return Err(Errno::EPERM);
    }
    if signal != 0 {
        let (pid, uid) = sender(ctx);
        signal::send_to_thread(&thread, info.unwrap_or_else(|| SigInfo::thread(signal, pid, uid)));
    }
    Ok(0)
}

pub fn tkill(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    send_to(ctx, None, args[0] as u32, args[1] as u32, None)
}

pub fn tgkill(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    send_to(ctx, Some(args[0] as u32), args[1] as u32, args[2] as u32, None)
}

pub fn rt_sigqueueinfo(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let signal = checked(args[1])?;
    let info: SigInfo = user::read(args[2])?;
    let target = process::find(args[0] as u32).ok_or(Errno::ESRCH)?;
    if !may_send(ctx, &target) || (info.code() >= 0 && target.pid != ctx.process.pid) {
        return Err(Errno::EPERM);
    }
    signal::send_to_process(&target, info.with_signal(signal));
    Ok(0)
}

pub fn rt_tgsigqueueinfo(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let signal = checked(args[2])?;
    let info: SigInfo = user::read(args[3])?;
    send_to(ctx, Some(args[0] as u32), args[1] as u32, signal, Some(info.with_signal(signal)))
}
