//! Clocks and sleeping.
use super::Context;
use super::thread::read_timespec;
use crate::errno::{Errno, Result};
use crate::time::{SECOND_NS, monotonic_ns, realtime_ns, realtime_to_monotonic_ns};
use crate::{sched, user};
use core::sync::atomic::Ordering;
use linux_raw_sys::general::*;

fn write_timespec(address: u64, ns: u64) -> Result<()> {
    user::write(address, &[ns / SECOND_NS, ns % SECOND_NS])
}

/// Processor time is not counted per thread on software KVM's clocks finer than what the program has been running: time that
/// the vCPU was not idle.
fn cpu_time_ns(ctx: &Context<'_>) -> u64 {
    monotonic_ns().saturating_sub(ctx.process.started_ns).saturating_sub(crate::arch::cpu::idle_ns())
}

fn now_ns(ctx: &Context<'_>, clock: u64) -> Result<u64> {
    match clock as u32 {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_TAI => Ok(realtime_ns()),
        CLOCK_MONOTONIC | CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_BOOTTIME => Ok(monotonic_ns()),
        CLOCK_PROCESS_CPUTIME_ID | CLOCK_THREAD_CPUTIME_ID => Ok(cpu_time_ns(ctx)),
        // Clocks of other programs and threads (clock_getcpuclockid, pthread_getcpuclockid).
        other if (other as i32) < 0 => Ok(cpu_time_ns(ctx)),
        _ => Err(Errno::EINVAL),
    }
}

pub fn clock_gettime(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    write_timespec(args[1], now_ns(ctx, args[0])?).map(|()| 0)
}

pub fn clock_getres(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    now_ns(ctx, args[0])?;
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

pub fn clock_nanosleep(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [clock, flags, request, remaining, ..] = *args;
    now_ns(ctx, clock)?;
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
        let user = cpu_time_ns(ctx) / 10_000_000;
        user::write(args[0], &[user, 0, ctx.process.ran_ns.load(Ordering::Relaxed) / 10_000_000, 0])?;
    }
    Ok((monotonic_ns() / 10_000_000) as usize)
}

/// `struct rusage`: user time and peak memory; the counters that no library OS has are zero.
pub fn getrusage(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let used = match args[0] as i32 {
        0 | 1 => cpu_time_ns(ctx),
        -1 => 0,
        _ => return Err(Errno::EINVAL),
    };
    let mut usage = [0u64; 18];
    usage[0] = used / SECOND_NS;
    usage[1] = used % SECOND_NS / 1000;
    usage[4] = ctx.thread.space().sizes().1 / 1024;
    user::write(args[1], &usage).map(|()| 0)
}
