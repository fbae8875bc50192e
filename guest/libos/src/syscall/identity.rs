//! Who a program is: numbers, users, groups, sessions, limits.
use super::Context;
use crate::errno::{Errno, Result};
use crate::process::{self, Credentials, limits};
use crate::user;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::RLIMIT_NOFILE;

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

/// Changes ids: root to anything, others only among the ones they have. -1 keeps.
fn change(ctx: &Context<'_>, wanted: [u64; 3], users: bool) -> Result<usize> {
    let mut c = ctx.process.credentials.lock();
    let have = if users { [c.uid, c.euid, c.suid] } else { [c.gid, c.egid, c.sgid] };
    let mut new = have;
    for (new, wanted) in new.iter_mut().zip(wanted) {
        let wanted = wanted as u32;
        if wanted != u32::MAX {
            if !c.is_root() && !have.contains(&wanted) {
                return Err(Errno::EPERM);
            }
            *new = wanted;
        }
    }
    let Credentials { uid, euid, suid, gid, egid, sgid, .. } = &mut *c;
    let fields = if users { [uid, euid, suid] } else { [gid, egid, sgid] };
    for (field, new) in fields.into_iter().zip(new) {
        *field = new;
    }
    Ok(0)
}

const KEEP: u64 = u32::MAX as u64;

/// For root all three ids change, for others the effective one.
fn set_one(ctx: &Context<'_>, id: u64, users: bool) -> Result<usize> {
    let root = ctx.process.credentials.lock().is_root();
    change(ctx, if root { [id; 3] } else { [KEEP, id, KEEP] }, users)
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
    if !ctx.process.credentials.lock().is_root() {
        return Err(Errno::EPERM);
    }
    if args[0] > 65536 {
        return Err(Errno::EINVAL);
    }
    let groups = (0..args[0]).map(|i| user::read::<u32>(args[1] + i * 4)).collect::<Result<Vec<_>>>()?;
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
    let target = named(ctx, args[0])?;
    let group = if args[1] == 0 { target.pid } else { args[1] as u32 };
    if (args[1] as i32) < 0 {
        return Err(Errno::EINVAL);
    }
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
        if hard > old.1 && !ctx.process.credentials.lock().is_root() {
            return Err(Errno::EPERM);
        }
        target.limits.lock().0[resource] = (soft, hard);
        if resource == RLIMIT_NOFILE as usize {
            target.files.lock().set_limit(soft);
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

/// The one priority there is.
pub fn getpriority(_ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    Ok(20)
}

pub fn setpriority(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    if args[0] > 2 { Err(Errno::EINVAL) } else { Ok(0) }
}

/// `capget`: root has every capability, others none.
pub fn capget(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    const VERSION_3: u32 = 0x2008_0522;
    let [version, _]: [u32; 2] = user::read(args[0])?;
    user::write(args[0], &VERSION_3)?;
    if version != VERSION_3 && version != 0x2007_1026 && version != 0x1998_0330 {
        return if args[1] == 0 { Ok(0) } else { Err(Errno::EINVAL) };
    }
    if args[1] != 0 {
        let set = if ctx.process.credentials.lock().is_root() { u32::MAX } else { 0 };
        let high = set & 0x1ff;
        let words = [set, set, 0, high, high, 0];
        let len = if version == 0x1998_0330 { 3 } else { 6 };
        for (i, word) in words[..len].iter().enumerate() {
            user::write(args[1] + i as u64 * 4, word)?;
        }
    }
    Ok(0)
}

/// Dropping capabilities is allowed, and changes nothing: the VM is the wall.
pub fn capset(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    if ctx.process.credentials.lock().is_root() { Ok(0) } else { Err(Errno::EPERM) }
}
