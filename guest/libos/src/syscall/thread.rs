//! Threads: futexes, thread-local storage, scheduling parameters.
use super::Context;
use crate::errno::{Errno, Result};
use crate::sched::{futex, futex_pi, thread::Thread};
use crate::{sched, time, user};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::*;

/// A `timespec` of the program's, as nanoseconds: EINVAL when it is not one.
pub fn read_timespec(address: u64) -> Result<u64> {
    let [seconds, nanoseconds]: [i64; 2] = user::read(address)?;
    if seconds < 0 || !(0..1_000_000_000).contains(&nanoseconds) {
        return Err(Errno::EINVAL);
    }
    Ok((seconds as u64).saturating_mul(time::SECOND_NS).saturating_add(nanoseconds as u64))
}

pub fn futex(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [address, operation, value, timeout, second, third] = *args;
    let operation = operation as u32;
    let shared = operation & FUTEX_PRIVATE_FLAG == 0;
    let realtime = operation & FUTEX_CLOCK_REALTIME != 0;
    let command = operation & !(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    let value = value as u32;
    match command {
        FUTEX_WAIT | FUTEX_WAIT_BITSET => {
            let deadline = match (timeout, command) {
                (0, _) => None,
                // FUTEX_WAIT's timeout is relative, FUTEX_WAIT_BITSET's absolute.
                (at, FUTEX_WAIT) => Some(time::monotonic_ns().saturating_add(read_timespec(at)?)),
                (at, _) if realtime => Some(time::realtime_to_monotonic_ns(read_timespec(at)?)),
                (at, _) => Some(read_timespec(at)?),
            };
            let bits = if command == FUTEX_WAIT { !0 } else { third as u32 };
            let key = futex::key(address, shared)?;
            futex::wait(key, address, value, bits, deadline).map(|()| 0)
        }
        FUTEX_WAKE | FUTEX_WAKE_BITSET => {
            let bits = if command == FUTEX_WAKE { !0 } else { third as u32 };
            if bits == 0 {
                return Err(Errno::EINVAL);
            }
            Ok(futex::wake(futex::key(address, shared)?, value, bits))
        }
        FUTEX_REQUEUE | FUTEX_CMP_REQUEUE => {
            if (value as i32) < 0 || (timeout as i32) < 0 {
                return Err(Errno::EINVAL);
            }
            if command == FUTEX_CMP_REQUEUE && user::read::<u32>(address)? != third as u32 {
                return Err(Errno::EAGAIN);
            }
            let (from, to) = (futex::key(address, shared)?, futex::key(second, shared)?);
            let (woken, moved) = futex::requeue(from, to, value, timeout as u32);
            Ok(if command == FUTEX_REQUEUE { woken } else { woken + moved })
        }
        FUTEX_WAKE_OP => wake_op(address, shared, value, timeout as u32, second, third as u32),
        FUTEX_LOCK_PI | FUTEX_LOCK_PI2 => {
            let deadline = match timeout {
                0 => None,
                // FUTEX_LOCK_PI's is on the real-time clock whatever the flags say.
                at if command == FUTEX_LOCK_PI || realtime => Some(time::realtime_to_monotonic_ns(read_timespec(at)?)),
                at => Some(read_timespec(at)?),
            };
            futex_pi::lock(futex::key(address, shared)?, address, deadline, false).map(|()| 0)
        }
        FUTEX_TRYLOCK_PI => futex_pi::lock(futex::key(address, shared)?, address, None, true).map(|()| 0),
        FUTEX_UNLOCK_PI => futex_pi::unlock(futex::key(address, shared)?, address).map(|()| 0),
        _ => Err(Errno::ENOSYS),
    }
}

/// FUTEX_WAKE_OP: changes the second word, wakes on the first, and on the second when its old value compares so.
fn wake_op(address: u64, shared: bool, count: u32, second_count: u32, second: u64, operation: u32) -> Result<usize> {
    let (first_key, second_key) = (futex::key(address, shared)?, futex::key(second, shared)?);
    let argument = {
        let raw = (operation >> 12 & 0xfff) as i32;
        let value = raw << 20 >> 20;
        if operation >> 28 & 8 != 0 { 1 << (value & 31) } else { value }
    };
    let compare = operation as i32 & 0xfff;
    let compare = compare << 20 >> 20;
    let kind = operation >> 28 & 7;
    if kind > 4 {
        return Err(Errno::ENOSYS);
    }
    let change = |old: u32| match kind {
        0 => argument as u32,
        1 => old.wrapping_add(argument as u32),
        2 => old | argument as u32,
        3 => old & !(argument as u32),
        _ => old ^ argument as u32,
    };
    let old = sched::current().space().update_word(second, |old| Some(change(old)))? as i32;
    let also = match operation >> 24 & 15 {
        0 => old == compare,
        1 => old != compare,
        2 => old < compare,
        3 => old <= compare,
        4 => old > compare,
        5 => old >= compare,
        _ => return Err(Errno::ENOSYS),
    };
    let mut woken = futex::wake(first_key, count, !0);
    if also {
        woken += futex::wake(second_key, second_count, !0);
    }
    Ok(woken)
}

pub fn set_tid_address(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    ctx.thread.clear_tid.store(args[0], Ordering::Relaxed);
    Ok(ctx.thread.tid as usize)
}

pub fn set_robust_list(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    if args[1] != 24 {
        return Err(Errno::EINVAL);
    }
    ctx.thread.robust_list.store(args[0], Ordering::Relaxed);
    Ok(0)
}

pub fn get_robust_list(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let head = match args[0] as u32 {
        0 => ctx.thread.robust_list.load(Ordering::Relaxed),
        tid => crate::process::find_thread(tid).ok_or(Errno::ESRCH)?.robust_list.load(Ordering::Relaxed),
    };
    user::write(args[1], &head)?;
    user::write(args[2], &24u64)?;
    Ok(0)
}

const ARCH_SET_FS: u64 = 0x1002;
const ARCH_GET_FS: u64 = 0x1003;

/// ARCH_SET_GS is refused: gs belongs to the library OS.
pub fn arch_prctl(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    match args[0] {
        ARCH_SET_FS if args[1] < 1 << 47 => {
            // SAFETY: canonical, by the check.
            unsafe { crate::arch::cpu::set_fs_base(args[1]) };
            Ok(0)
        }
        ARCH_SET_FS => Err(Errno::EPERM),
        ARCH_GET_FS => user::write(args[1], &crate::arch::cpu::fs_base()).map(|()| 0),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sched_yield(_ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    sched::yield_now();
    Ok(0)
}

fn known_thread(ctx: &Context<'_>, tid: u64) -> Result<()> {
    let tid = tid as u32;
    if tid == 0 || tid == ctx.thread.tid || crate::process::find_thread(tid).is_some() {
        Ok(())
    } else {
        Err(Errno::ESRCH)
    }
}

fn named_thread(ctx: &Context<'_>, tid: u64) -> Result<Arc<Thread>> {
    match tid as u32 {
        0 => Ok(sched::current_arc()),
        tid if tid == ctx.thread.tid => Ok(sched::current_arc()),
        tid => crate::process::find_thread(tid).ok_or(Errno::ESRCH),
    }
}

/// The mask of vCPUs, 8 bytes.
pub fn sched_getaffinity(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let thread = named_thread(ctx, args[0])?;
    if args[1] < 8 || !args[1].is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    user::write(args[2], &thread.affinity())?;
    Ok(8)
}

pub fn sched_setaffinity(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let thread = named_thread(ctx, args[0])?;
    let mut mask = [0; 8];
    let len = (args[1] as usize).min(8);
    user::copy_in(&mut mask[..len], args[2])?;
    let mask = u64::from_le_bytes(mask) & sched::cpu::online();
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    thread.set_affinity(mask);
    Ok(0)
}

pub fn sched_getscheduler(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    known_thread(ctx, args[0]).map(|()| SCHED_NORMAL as usize)
}

/// Only the normal policy, with its only priority 0.
pub fn sched_setscheduler(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    known_thread(ctx, args[0])?;
    let priority: i32 = user::read(args[2])?;
    match args[1] as u32 & !SCHED_RESET_ON_FORK {
        SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE if priority == 0 => Ok(0),
        SCHED_FIFO | SCHED_RR if (1..=99).contains(&priority) => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sched_getparam(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    known_thread(ctx, args[0])?;
    user::write(args[1], &0u32).map(|()| 0)
}

pub fn sched_setparam(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    known_thread(ctx, args[0])?;
    let priority: i32 = user::read(args[1])?;
    if priority == 0 { Ok(0) } else { Err(Errno::EINVAL) }
}

/// `struct sched_attr` in its first version: size, policy, flags, nice, priority, and three numbers of the deadline policy.
const SCHED_ATTR_LEN: u32 = 48;

pub fn sched_getattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [tid, at, size, flags, ..] = *args;
    if at == 0 || !(u64::from(SCHED_ATTR_LEN)..=4096).contains(&size) || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let nice = named_thread(ctx, tid)?.nice.load(Ordering::Relaxed);
    let words = [u64::from(SCHED_NORMAL) << 32 | u64::from(SCHED_ATTR_LEN), 0, u64::from(nice as u32), 0, 0, 0];
    user::write(at, &words).map(|()| 0)
}

/// Only the normal policy, with its nice value.
pub fn sched_setattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [tid, at, flags, ..] = *args;
    if at == 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let [size_and_policy, _, nice_and_priority]: [u64; 3] = user::read(at)?;
    if (size_and_policy as u32) < SCHED_ATTR_LEN {
        return Err(Errno::E2BIG);
    }
    known_thread(ctx, tid)?;
    match ((size_and_policy >> 32) as u32, (nice_and_priority >> 32) as u32) {
        (SCHED_NORMAL | SCHED_BATCH, 0) => {
            super::priority::setpriority(ctx, &[u64::from(PRIO_PROCESS), tid, nice_and_priority & 0xffff_ffff, 0, 0, 0])
        }
        (SCHED_IDLE, 0) => Ok(0),
        (SCHED_FIFO | SCHED_RR, 1..=99) => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

pub fn sched_priority_max(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    priority(args[0], 99)
}

pub fn sched_priority_min(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    priority(args[0], 1)
}

fn priority(policy: u64, realtime: usize) -> Result<usize> {
    match policy as u32 {
        SCHED_FIFO | SCHED_RR => Ok(realtime),
        SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// The tick of the VMM: 5 ms.
pub fn sched_rr_get_interval(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    known_thread(ctx, args[0])?;
    user::write(args[1], &[0u64, 5_000_000]).map(|()| 0)
}

pub fn getcpu(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    for (address, value) in [(args[0], crate::arch::cpu::number() as u32), (args[1], 0)] {
        if address != 0 {
            user::write(address, &value)?;
        }
    }
    Ok(0)
}
