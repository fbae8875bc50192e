//! eventfd, timerfd, signalfd, pidfd.
use super::Context;
use crate::capabilities::Capability;
use crate::errno::{Errno, Result};
use crate::fs::{File, OpenFile};
use crate::ipc::eventfd::EventFd;
use crate::ipc::pidfd;
use crate::ipc::signalfd::SignalFd;
use crate::ipc::timerfd::{Clock, Setting, TimerFd};
use crate::process;
use crate::signal::{self, COUNT, SigInfo, UNSTOPPABLE};
use crate::user;
use alloc::sync::Arc;
use linux_raw_sys::general::*;

const SECOND_NS: u64 = 1_000_000_000;
const SET_LEN: u64 = 8;
const SFD_CLOEXEC: u32 = O_CLOEXEC;
const SFD_NONBLOCK: u32 = O_NONBLOCK;

fn install(ctx: &Context<'_>, file: Arc<dyn File>, status: u32, close_on_exec: bool) -> Result<usize> {
    ctx.files().install(OpenFile::new(file, O_RDWR | status), close_on_exec).map(|descriptor| descriptor as usize)
}

pub fn eventfd(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    eventfd2(ctx, &[args[0], 0, 0, 0, 0, 0])
}

pub fn eventfd2(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let flags = args[1] as u32;
    if flags & !(EFD_SEMAPHORE | EFD_CLOEXEC | EFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = EventFd::new(args[0] as u32, flags & EFD_SEMAPHORE != 0);
    install(ctx, Arc::new(file), flags & EFD_NONBLOCK, flags & EFD_CLOEXEC != 0)
}

pub fn timerfd_create(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let flags = args[1] as u32;
    if flags & !(TFD_CLOEXEC | TFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let wakes = matches!(args[0] as u32, CLOCK_REALTIME_ALARM | CLOCK_BOOTTIME_ALARM);
    if wakes && !ctx.process.credentials.lock().can(Capability::WakeAlarm) {
        return Err(Errno::EPERM);
    }
    let clock = match args[0] as u32 {
        CLOCK_REALTIME | CLOCK_REALTIME_ALARM => Clock::Realtime,
        CLOCK_MONOTONIC | CLOCK_BOOTTIME | CLOCK_BOOTTIME_ALARM => Clock::Monotonic,
        _ => return Err(Errno::EINVAL),
    };
    install(ctx, Arc::new(TimerFd::new(clock)), flags & TFD_NONBLOCK, flags & TFD_CLOEXEC != 0)
}

/// The timer behind a descriptor: EBADF, EINVAL.
fn with_timer<T>(ctx: &Context<'_>, descriptor: u64, use_it: impl FnOnce(&TimerFd) -> T) -> Result<T> {
    let open = ctx.files().get_usable(descriptor as i32)?;
    open.file().downcast::<TimerFd>().map(use_it).ok_or(Errno::EINVAL)
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> Result<u64> {
    if seconds < 0 || !(0..SECOND_NS as i64).contains(&nanoseconds) {
        return Err(Errno::EINVAL);
    }
    Ok((seconds as u64).saturating_mul(SECOND_NS).saturating_add(nanoseconds as u64).min(i64::MAX as u64))
}

/// `struct itimerspec`: interval, then first expiry.
fn words(setting: Setting) -> [u64; 4] {
    let (interval, first) = (setting.interval_ns, setting.first_ns);
    [interval / SECOND_NS, interval % SECOND_NS, first / SECOND_NS, first % SECOND_NS]
}

pub fn timerfd_settime(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, flags, new_at, old_at, ..] = *args;
    let flags = flags as u32;
    let new: [i64; 4] = user::read(new_at)?;
    if flags & !(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let setting = Setting { interval_ns: nanoseconds(new[0], new[1])?, first_ns: nanoseconds(new[2], new[3])? };
    let old = with_timer(ctx, descriptor, |timer| timer.set(setting, flags & TFD_TIMER_ABSTIME != 0))?;
    if old_at != 0 {
        user::write(old_at, &words(old))?;
    }
    Ok(0)
}

pub fn timerfd_gettime(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let setting = with_timer(ctx, args[0], TimerFd::get)?;
    user::write(args[1], &words(setting)).map(|()| 0)
}

pub fn signalfd(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    signalfd4(ctx, &[args[0], args[1], args[2], 0, 0, 0])
}

pub fn signalfd4(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, set_at, set_len, flags, ..] = *args;
    let flags = flags as u32;
    if set_len != SET_LEN || flags & !(SFD_CLOEXEC | SFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let set = user::read::<u64>(set_at)? & !UNSTOPPABLE;
    if descriptor as i32 == -1 {
        return install(ctx, Arc::new(SignalFd::new(set)), flags & SFD_NONBLOCK, flags & SFD_CLOEXEC != 0);
    }
    let open = ctx.files().get_usable(descriptor as i32)?;
    open.file().downcast::<SignalFd>().ok_or(Errno::EINVAL)?.set(set);
    Ok(descriptor as usize)
}

/// PIDFD_NONBLOCK: the only flag.
const PIDFD_NONBLOCK: u32 = O_NONBLOCK;

pub fn pidfd_open(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let flags = args[1] as u32;
    if flags & !PIDFD_NONBLOCK != 0 || args[0] as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    let target = process::find(args[0] as u32).ok_or(Errno::ESRCH)?;
    let descriptor = pidfd::open(ctx.process, &target)?;
    ctx.files().get(descriptor)?.set_nonblocking(flags != 0);
    Ok(descriptor as usize)
}

pub fn pidfd_send_signal(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, number, info_at, flags, ..] = *args;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let target = pidfd::process(&*ctx.files().get(descriptor as i32)?)?;
    let number = number as u32;
    if number > COUNT {
        return Err(Errno::EINVAL);
    }
    let info = match info_at {
        0 => SigInfo::user(number, ctx.process.pid, ctx.process.credentials.lock().uid),
        at => {
            let info = user::read::<SigInfo>(at)?;
            if info.signal() != number {
                return Err(Errno::EINVAL);
            }
            info
        }
    };
    if target.is_zombie() && process::find(target.pid).is_none() {
        return Err(Errno::ESRCH);
    }
    if number != 0 {
        signal::send_to_process(&target, info);
    }
    Ok(0)
}

pub fn pidfd_getfd(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let target = pidfd::process(&*ctx.files().get(args[0] as i32)?)?;
    if args[2] != 0 {
        return Err(Errno::EINVAL);
    }
    if target.is_zombie() {
        return Err(Errno::ESRCH);
    }
    let theirs = target.files.lock().clone();
    let open = theirs.get(args[1] as i32)?;
    ctx.files().install(open, true).map(|descriptor| descriptor as usize)
}
