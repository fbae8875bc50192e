//! Who a program is: numbers, users, groups, sessions, limits.
use super::Context;
use crate::capabilities::Capability;
use crate::errno::{Errno, Result};
use crate::process::{self, limits};
use crate::user;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::{RLIMIT_CPU, RLIMIT_NOFILE};

pub fn getpid(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    Ok(ctx.process.pid as usize)
}

pub fn gettid(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    Ok(ctx.thread.tid as usize)
}

pub fn getppid(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    Ok(ctx.process.parent_pid() as usize)
}

pub fn getuid(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    Ok(ctx.process.credentials.lock().uid as usize)
}

pub fn geteuid(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    Ok(ctx.process.credentials.lock().euid as usize)
}

pub fn getgid(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    Ok(ctx.process.credentials.lock().gid as usize)
}

pub fn getegid(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    Ok(ctx.process.credentials.lock().egid as usize)
}

pub fn getresuid(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let c = ctx.process.credentials.lock().clone();
    write_three(args, [c.uid, c.euid, c.suid])
}

pub fn getresgid(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let c = ctx.process.credentials.lock().clone();
    write_three(args, [c.gid, c.egid, c.sgid])
}

fn write_three(args: &[u64; 6], values: [u32; 3]) -> Result<usize> {
    for (at, value) in args.iter().zip(values) {
        user::write(*at, &value)?;
    }
    Ok(0)
}

/// Changes ids: to anything with the capability, else only among the ones it has. -1 keeps.
fn change(ctx: &Context<'_>, wanted: [u64; 3], users: bool) -> Result<usize> {
    let mut c = ctx.process.credentials.lock();
    let have = if users { c.users() } else { [c.gid, c.egid, c.sgid] };
    let mut new = have;
    for (new, wanted) in new.iter_mut().zip(wanted) {
        let wanted = wanted as u32;
        if wanted != u32::MAX {
            if !c.can(change_of(users)) && !have.contains(&wanted) {
                return Err(Errno::EPERM);
            }
            *new = wanted;
        }
    }
    if users {
        [c.uid, c.euid, c.suid] = new;
        c.capabilities.users_changed(have, new);
    } else {
        [c.gid, c.egid, c.sgid] = new;
    }
    Ok(0)
}

fn change_of(users: bool) -> Capability {
    if users { Capability::SetUid } else { Capability::SetGid }
}

const KEEP: u64 = u32::MAX as u64;

/// With the capability all three ids change, else the effective one.
fn set_one(ctx: &Context<'_>, id: u64, users: bool) -> Result<usize> {
    let all = ctx.process.credentials.lock().can(change_of(users));
    change(ctx, if all { [id; 3] } else { [KEEP, id, KEEP] }, users)
}

pub fn setuid(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    set_one(ctx, args[0], true)
}

pub fn setgid(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    set_one(ctx, args[0], false)
}

/// A new real id, or a new effective one, is saved too.
fn set_two(ctx: &Context<'_>, args: &[u64; 6], users: bool) -> Result<usize> {
    let saved = if args[0] as u32 != u32::MAX || args[1] as u32 != u32::MAX { args[1] } else { KEEP };
    change(ctx, [args[0], args[1], saved], users)
}

pub fn setreuid(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    set_two(ctx, args, true)
}

pub fn setregid(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    set_two(ctx, args, false)
}

pub fn setresuid(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    change(ctx, [args[0], args[1], args[2]], true)
}

pub fn setresgid(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    change(ctx, [args[0], args[1], args[2]], false)
}

/// The id for file access follows the effective one; the call tells it.
pub fn setfsuid(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    Ok(ctx.process.credentials.lock().euid as usize)
}

pub fn setfsgid(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    Ok(ctx.process.credentials.lock().egid as usize)
}

pub fn getgroups(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let groups = ctx.process.credentials.lock().groups.clone();
    let room = args[0] as i32;
    if room == 0 {
        return Ok(groups.len());
    }
    if room < groups.len() as i32 {
        return Err(Errno::EINVAL);
    }
    for (i, group) in groups.iter().enumerate() {
        user::write(args[1] + i as u64 * 4, group)?;
    }
    Ok(groups.len())
}

pub fn setgroups(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    if !ctx.process.credentials.lock().can(Capability::SetGid) {
        return Err(Errno::EPERM);
    }
    if args[0] > 65536 {
        return Err(Errno::EINVAL);
    }
    let mut groups = (0..args[0]).map(|i| user::read::<u32>(args[1] + i * 4)).collect::<Result<Vec<_>>>()?;
    groups.sort_unstable();
    ctx.process.credentials.lock().groups = groups;
    Ok(0)
}

fn named(ctx: &Context<'_>, pid: u64) -> Result<alloc::sync::Arc<process::Process>> {
    match pid as u32 {
        0 => Ok(ctx.process.clone()),
        pid => process::find(pid).ok_or(Errno::ESRCH),
    }
}

pub fn getpgid(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    Ok(named(ctx, args[0])?.group.load(Ordering::Relaxed) as usize)
}

pub fn getpgrp(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    Ok(ctx.process.group.load(Ordering::Relaxed) as usize)
}

pub fn setpgid(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let wanted = if args[1] as i32 == 0 { args[0] } else { args[1] };
    if (wanted as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let target = named(ctx, args[0])?;
    let group = if wanted as i32 == 0 { target.pid } else { wanted as u32 };
    let is_own = target.pid == ctx.process.pid || target.parent_pid() == ctx.process.pid;
    if !is_own {
        return Err(Errno::ESRCH);
    }
    if target.session.load(Ordering::Relaxed) == target.pid {
        return Err(Errno::EPERM);
    }
    target.group.store(group, Ordering::Relaxed);
    Ok(0)
}

pub fn getsid(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    Ok(named(ctx, args[0])?.session.load(Ordering::Relaxed) as usize)
}

pub fn setsid(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    let process = ctx.process;
    if process.group.load(Ordering::Relaxed) == process.pid {
        return Err(Errno::EPERM);
    }
    process.group.store(process.pid, Ordering::Relaxed);
    process.session.store(process.pid, Ordering::Relaxed);
    Ok(process.pid as usize)
}

pub fn prlimit64(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let target = named(ctx, args[0])?;
    let resource = args[1] as usize;
    if resource >= limits::COUNT {
        return Err(Errno::EINVAL);
    }
    let new: Option<[u64; 2]> = if args[2] == 0 { None } else { Some(user::read(args[2])?) };
    let old = target.limits.lock().0[resource];
    if let Some([soft, hard]) = new {
        if soft > hard {
            return Err(Errno::EINVAL);
        }
        if hard > old.1 && !ctx.process.credentials.lock().can(Capability::SysResource) {
            return Err(Errno::EPERM);
        }
        target.limits.lock().0[resource] = (soft, hard);
        if resource == RLIMIT_NOFILE as usize {
            target.files.lock().set_limit(soft);
        }
        if resource == RLIMIT_CPU as usize {
            target.timers.limit_cpu(target.limits.lock().cpu_ns().0);
        }
    }
    if args[3] != 0 {
        user::write(args[3], &[old.0, old.1])?;
    }
    Ok(0)
}

pub fn getrlimit(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    prlimit64(ctx, &[0, args[0], 0, args[1], 0, 0])
}

pub fn setrlimit(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    prlimit64(ctx, &[0, args[0], args[1], 0, 0, 0])
}

const CAPABILITY_VERSION_1: u32 = 0x1998_0330;
const CAPABILITY_VERSION_2: u32 = 0x2007_1026;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Words per set that the caller's version has, and whom it asks about. An unknown version is told the newest one: `None`.
fn capability_header(ctx: &Context<'_>, at: u64) -> Result<Option<(usize, alloc::sync::Arc<process::Process>)>> {
    let [version, pid]: [u32; 2] = user::read(at)?;
    let words = match version {
        CAPABILITY_VERSION_1 => 1,
        CAPABILITY_VERSION_2 | CAPABILITY_VERSION_3 => 2,
        _ => {
            user::write(at, &CAPABILITY_VERSION_3)?;
            return Ok(None);
        }
    };
    if (pid as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let named = process::find_thread(pid).map(|thread| thread.process.clone());
    let target = if pid == 0 { ctx.process.clone() } else { named.ok_or(Errno::ESRCH)? };
    Ok(Some((words, target)))
}

pub fn capget(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let Some((words, target)) = capability_header(ctx, args[0])? else {
        return if args[1] == 0 { Ok(0) } else { Err(Errno::EINVAL) };
    };
    if args[1] == 0 {
        return Ok(0);
    }
    let sets = target.credentials.lock().capabilities;
    for word in 0..words {
        let part = [sets.effective, sets.permitted, sets.inheritable].map(|set| (set >> (32 * word)) as u32);
        user::write(args[1] + word as u64 * 12, &part)?;
    }
    Ok(0)
}

pub fn capset(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (words, target) = capability_header(ctx, args[0])?.ok_or(Errno::EINVAL)?;
    if target.pid != ctx.process.pid {
        return Err(Errno::EPERM);
    }
    let mut sets = [0u64; 3];
    for word in 0..words {
        let part: [u32; 3] = user::read(args[1] + word as u64 * 12)?;
        for (set, part) in sets.iter_mut().zip(part) {
            *set |= u64::from(part) << (32 * word);
        }
    }
    let [effective, permitted, inheritable] = sets;
    ctx.process.credentials.lock().capabilities.set(permitted, effective, inheritable).map(|()| 0)
}
