//! Clocks and sleeping.
use super::Context;
use super::thread::read_timespec;
use crate::errno::{Errno, Result};
use crate::process::clock::CpuClock;
use crate::time::{SECOND_NS, monotonic_ns, realtime_ns, realtime_to_monotonic_ns};
use crate::{sched, user};
use core::sync::atomic::Ordering;
use linux_raw_sys::general::*;

fn write_timespec(address: u64, ns: u64) -> Result<()> {
    user::write(address, &[ns / SECOND_NS, ns % SECOND_NS])
}

fn now_ns(clock: u64) -> Result<u64> {
    match clock as u32 {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_TAI => Ok(realtime_ns()),
        CLOCK_MONOTONIC | CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_BOOTTIME => Ok(monotonic_ns()),
        other => CpuClock::of(other).and_then(CpuClock::used_ns).ok_or(Errno::EINVAL),
    }
}

pub fn clock_gettime(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    write_timespec(args[1], now_ns(args[0])?).map(|()| 0)
}

pub fn clock_getres(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    now_ns(args[0])?;
    if args[1] != 0 {
        write_timespec(args[1], 1)?;
    }
    Ok(0)
}

/// The clock belongs to the host.
pub fn clock_settime(_ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    Err(Errno::EPERM)
}

pub fn gettimeofday(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let now = realtime_ns();
    if args[0] != 0 {
        user::write(args[0], &[now / SECOND_NS, now % SECOND_NS / 1000])?;
    }
    if args[1] != 0 {
        user::write(args[1], &0u64)?;
    }
    Ok(0)
}

pub fn time(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let seconds = realtime_ns() / SECOND_NS;
    if args[0] != 0 {
        user::write(args[0], &seconds)?;
    }
    Ok(seconds as usize)
}

fn sleep(deadline: u64, remaining_at: u64) -> Result<usize> {
    match sched::block_on::<()>(&[], Some(deadline), || None) {
        Err(Errno::ETIMEDOUT) => Ok(0),
        _ => {
            if remaining_at != 0 {
                write_timespec(remaining_at, deadline.saturating_sub(monotonic_ns()))?;
            }
            Err(Errno::RESTART_NO_HANDLER)
        }
    }
}

pub fn nanosleep(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    sleep(monotonic_ns().saturating_add(read_timespec(args[0])?), args[1])
}

pub fn clock_nanosleep(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [clock, flags, request, remaining, ..] = *args;
    now_ns(clock)?;
    if matches!(clock as u32, CLOCK_THREAD_CPUTIME_ID) {
        return Err(Errno::EINVAL);
    }
    let wanted = read_timespec(request)?;
    if flags & u64::from(TIMER_ABSTIME) == 0 {
        return sleep(monotonic_ns().saturating_add(wanted), remaining);
    }
    let deadline = if clock as u32 == CLOCK_REALTIME { realtime_to_monotonic_ns(wanted) } else { wanted };
    sleep(deadline, 0)
}

/// Ticks of 10 ms: user, system, and the children's.
pub fn times(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    if args[0] != 0 {
        let own = ctx.process.cpu_time_ns() / 10_000_000;
        let children = ctx.process.children_ran_ns.load(Ordering::Relaxed) / 10_000_000;
        user::write(args[0], &[own, 0, children, 0])?;
    }
    Ok((monotonic_ns() / 10_000_000) as usize)
}

/// `struct rusage`: user time and peak memory; the counters that no library OS has are zero.
pub fn rusage(ran_ns: u64, resident: u64) -> [u64; 18] {
    let mut usage = [0u64; 18];
    usage[0] = ran_ns / SECOND_NS;
    usage[1] = ran_ns % SECOND_NS / 1000;
    usage[4] = resident / 1024;
    usage
}

pub fn getrusage(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let used = match args[0] as i32 {
        0 => ctx.process.cpu_time_ns(),
        1 => ctx.thread.cpu_time_ns(),
        -1 => ctx.process.children_ran_ns.load(Ordering::Relaxed),
        _ => return Err(Errno::EINVAL),
    };
    user::write(args[1], &rusage(used, ctx.thread.space().sizes().1)).map(|()| 0)
}
