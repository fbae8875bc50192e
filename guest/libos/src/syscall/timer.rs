//! Timers that send signals.
use super::Context;
use crate::errno::{Errno, Result};
use crate::process::clock::CpuClock;
use crate::time::{SECOND_NS, monotonic_ns, realtime_to_monotonic_ns};
use crate::timer::{Clock, INTERVAL, Notify};
use crate::user;
use linux_raw_sys::general::*;

/// Which of the program's timers: `None` for the real one, 0 and 1 for those that count processor time.
fn which(number: u64) -> Result<Option<usize>> {
    match number as u32 {
        ITIMER_REAL => Ok(None),
        ITIMER_VIRTUAL => Ok(Some(0)),
        ITIMER_PROF => Ok(Some(1)),
        _ => Err(Errno::EINVAL),
    }
}

fn write_interval(at: u64, (left, interval): (u64, u64), unit_ns: u64) -> Result<()> {
    let split = |ns: u64| [ns / SECOND_NS, ns % SECOND_NS / unit_ns];
    let ([a, b], [c, d]) = (split(interval), split(left));
    user::write(at, &[a, b, c, d])
}

fn read_interval(at: u64, unit_ns: u64) -> Result<(u64, u64)> {
    let [a, b, c, d]: [i64; 4] = user::read(at)?;
    let join = |seconds: i64, part: i64| {
        let valid = seconds >= 0 && part >= 0 && (part as u64) < SECOND_NS / unit_ns;
        valid.then(|| (seconds as u64).saturating_mul(SECOND_NS).saturating_add(part as u64 * unit_ns))
    };
    Ok((join(c, d).ok_or(Errno::EINVAL)?, join(a, b).ok_or(Errno::EINVAL)?))
}

pub fn getitimer(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let now = match which(args[0])? {
        None => ctx.process.timers.get(INTERVAL)?,
        Some(timer) => ctx.process.timers.get_cpu(timer, ctx.process.cpu_time_ns()),
    };
    write_interval(args[1], now, 1000).map(|()| 0)
}

pub fn setitimer(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let which = which(args[0])?;
    let (value, interval) = if args[1] == 0 { (0, 0) } else { read_interval(args[1], 1000)? };
    let old = match which {
        None => {
            let deadline = (value > 0).then(|| monotonic_ns().saturating_add(value));
            ctx.process.timers.set(INTERVAL, deadline, interval)?
        }
        Some(timer) => ctx.process.timers.set_cpu(timer, ctx.process.cpu_time_ns(), value, interval),
    };
    if args[2] != 0 {
        write_interval(args[2], old, 1000)?;
    }
    Ok(0)
}

/// Seconds that were left, rounded up.
pub fn alarm(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let seconds = args[0] as u32;
    let deadline = (seconds > 0).then(|| monotonic_ns() + u64::from(seconds) * SECOND_NS);
    let (left, _) = ctx.process.timers.set(INTERVAL, deadline, 0)?;
    Ok(left.div_ceil(SECOND_NS) as usize)
}

pub fn timer_create(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let clock = match args[0] as u32 {
        CLOCK_MONOTONIC | CLOCK_BOOTTIME | CLOCK_BOOTTIME_ALARM => Clock::Monotonic,
        CLOCK_REALTIME | CLOCK_REALTIME_ALARM | CLOCK_TAI => Clock::Realtime,
        other => {
            let clock = CpuClock::of(other).filter(|clock| clock.used_ns().is_some());
            Clock::Processor(clock.ok_or(Errno::EINVAL)?)
        }
    };
    // struct sigevent: value, signo, notify, tid.
    let event: Option<(u64, u32, u32, u32)> = match args[1] {
        0 => None,
        at => {
            let [value, signal_and_kind, tid]: [u64; 3] = user::read(at)?;
            Some((value, signal_and_kind as u32, (signal_and_kind >> 32) as u32, tid as u32))
        }
    };
    if let Some((_, signal, kind, _)) = event
        && (!matches!(kind, SIGEV_SIGNAL | SIGEV_NONE | SIGEV_THREAD_ID)
            || (kind != SIGEV_NONE && !(1..=64).contains(&signal)))
    {
        return Err(Errno::EINVAL);
    }
    let number = ctx.process.timers.create(clock, |number| match event {
        None => Notify::Process { signal: SIGALRM, value: u64::from(number) },
        Some((_, _, SIGEV_NONE, _)) => Notify::Nothing,
        Some((value, signal, SIGEV_THREAD_ID, tid)) => Notify::Thread { signal, value, tid },
        Some((value, signal, _, _)) => Notify::Process { signal, value },
    })?;
    user::write(args[2], &number).map(|()| 0)
}

pub fn timer_settime(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [number, flags, new_at, old_at, ..] = *args;
    let number = number as u32;
    let clock = ctx.process.timers.clock(number)?;
    let (value, interval) = read_interval(new_at, 1)?;
    let absolute = flags & u64::from(TIMER_ABSTIME) != 0;
    let wanted = (value > 0).then_some(value);
    let old = match clock {
        Clock::Processor(clock) => {
            let used = clock.used_ns().ok_or(Errno::ESRCH)?;
            let due = wanted.map(|value| if absolute { value } else { used.saturating_add(value) });
            ctx.process.timers.set_counting(number, due, interval)?
        }
        _ => {
            let deadline = wanted.map(|value| match clock {
                Clock::Realtime if absolute => realtime_to_monotonic_ns(value),
                _ if absolute => value,
                _ => monotonic_ns().saturating_add(value),
            });
            ctx.process.timers.set(number, deadline, interval)?
        }
    };
    if old_at != 0 {
        write_interval(old_at, old, 1)?;
    }
    Ok(0)
}

pub fn timer_gettime(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    write_interval(args[1], ctx.process.timers.get(args[0] as u32)?, 1).map(|()| 0)
}

pub fn timer_getoverrun(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    ctx.process.timers.overrun(args[0] as u32).map(|n| n as usize)
}

pub fn timer_delete(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    ctx.process.timers.delete(args[0] as u32).map(|()| 0)
}
