//! Programs: clone, exec, exit, wait.
use super::Context;
use super::time::rusage;
use crate::errno::{Errno, Result};
use crate::process::exit;
use crate::process::fork::{CLONE_CLEAR_SIGHAND_LOW, CloneRequest};
use crate::process::tracing;
use crate::process::wait::{self, Fate, Wanted, Which};
use crate::process::{exec, fork, open};
use crate::user;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::*;

/// Most strings that execve takes, and the longest one.
const STRINGS_MAX: usize = 65536;
const STRING_MAX: usize = 128 << 10;

pub fn clone(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [flags, stack, parent_tid, child_tid, tls, _] = *args;
    let request = CloneRequest {
        flags: flags & !u64::from(CSIGNAL | CLONE_DETACHED),
        stack,
        parent_tid,
        child_tid,
        tls,
        exit_signal: (flags & u64::from(CSIGNAL)) as u32,
        pidfd: parent_tid,
    };
    if flags & u64::from(CLONE_PIDFD) != 0 && flags & u64::from(CLONE_PARENT_SETTID) != 0 {
        return Err(Errno::EINVAL);
    }
    fork::clone(&request, &ctx.regs())
}

const CLONE3_CLEAR_SIGHAND: u64 = 1 << 32;
const CLONE3_INTO_CGROUP: u64 = 1 << 33;

pub fn clone3(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let len = args[1] as usize;
    if !(64..=4096).contains(&len) {
        return Err(if len < 64 { Errno::EINVAL } else { Errno::E2BIG });
    }
    let mut words = [0u64; 11];
    let known = len.min(88);
    let mut bytes = [0u8; 88];
    user::copy_in(&mut bytes[..known], args[0])?;
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]);
    }
    let [flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_len, tls, set_tid, ..] = words;
    if flags & CLONE3_INTO_CGROUP != 0 || set_tid != 0 || exit_signal > 64 || (stack == 0) != (stack_len == 0) {
        return Err(Errno::EINVAL);
    }
    let mut low = flags & !CLONE3_CLEAR_SIGHAND & !u64::from(CLONE_DETACHED);
    if flags & CLONE3_CLEAR_SIGHAND != 0 {
        low |= u64::from(CLONE_CLEAR_SIGHAND_LOW);
    }
    let stack = stack.wrapping_add(stack_len);
    fork::clone(
        &CloneRequest { flags: low, stack, parent_tid, child_tid, tls, exit_signal: exit_signal as u32, pidfd },
        &ctx.regs(),
    )
}

pub fn fork(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    fork::clone(&CloneRequest { exit_signal: SIGCHLD, ..CloneRequest::default() }, &ctx.regs())
}

pub fn vfork(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    let flags = u64::from(CLONE_VM | CLONE_VFORK);
    fork::clone(&CloneRequest { flags, exit_signal: SIGCHLD, ..CloneRequest::default() }, &ctx.regs())
}

fn read_strings(mut at: u64) -> Result<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    while at != 0 {
        let pointer: u64 = user::read(at)?;
        if pointer == 0 {
            break;
        }
        let string = user::read_c_string(pointer, STRING_MAX);
        strings.push(string.map_err(|e| if e == Errno::ENAMETOOLONG { Errno::E2BIG } else { e })?);
        if strings.len() > STRINGS_MAX {
            return Err(Errno::E2BIG);
        }
        at += 8;
    }
    Ok(strings)
}

pub fn execve(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    // The calling thread may not come back from `run`: nothing that is to be freed may be left here.
    run(ctx, prepare(ctx, args)?)
}

fn prepare(ctx: &Context<'_>, args: &[u64; 6]) -> Result<exec::Prepared> {
    let path = user::read_c_string(args[0], 4095)?;
    exec::prepare(ctx.process, &path, arguments(args[1], &path)?, read_strings(args[2])?)
}

fn arguments(at: u64, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut strings = read_strings(at)?;
    // Linux gives a program without arguments an empty first one; its own name serves it better than nothing.
    if strings.is_empty() {
        strings.push(path.to_vec());
    }
    Ok(strings)
}

pub fn execveat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    run(ctx, prepare_at(ctx, args)?)
}

fn prepare_at(ctx: &Context<'_>, args: &[u64; 6]) -> Result<exec::Prepared> {
    let [directory, path, argv, envp, flags, _] = *args;
    let path = user::read_c_string(path, 4095)?;
    if flags & !u64::from(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let argv = arguments(argv, &path)?;
    let envp = read_strings(envp)?;
    if path.starts_with(b"/") || directory as i32 == AT_FDCWD {
        return exec::prepare(ctx.process, &path, argv, envp);
    }
    let open = ctx.files().get(directory as i32)?;
    let base = open.file().path();
    if path.is_empty() {
        let file = open::executable_of(ctx.process, &open)?;
        exec::prepare_file(ctx.process, file, &base, argv, envp)
    } else {
        let full = [&base, &b"/"[..], &path].concat();
        exec::prepare(ctx.process, &full, argv, envp)
    }
}

fn run(ctx: &Context<'_>, prepared: exec::Prepared) -> Result<usize> {
    let mut regs = ctx.regs();
    exec::replace(prepared, &mut regs);
    ctx.replace_regs(regs);
    Ok(0)
}

fn status_of(ctx: &Context<'_>, code: u64) -> u32 {
    let status = (code as u32 & 0xff) << 8;
    tracing::at_end(&ctx.regs(), status);
    status
}

pub fn exit(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    exit::exit_one(status_of(ctx, args[0]))
}

pub fn exit_group(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    exit::exit_group(status_of(ctx, args[0]))
}

pub fn wait4(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [pid, status_at, options, usage_at, ..] = *args;
    if options & !u64::from(WNOHANG | WUNTRACED | WCONTINUED | __WALL | __WCLONE | __WNOTHREAD) != 0 {
        return Err(Errno::EINVAL);
    }
    let which = match pid as i32 {
        -1 => Which::Any,
        0 => Which::Group(ctx.process.group.load(Ordering::Relaxed)),
        i32::MIN => return Err(Errno::ESRCH),
        pid if pid < 0 => Which::Group(pid.unsigned_abs()),
        pid => Which::Process(pid as u32),
    };
    let has = |option: u32| options & u64::from(option) != 0;
    let wanted = Wanted {
        which,
        ends: true,
        stops: has(WUNTRACED),
        continues: has(WCONTINUED),
        at_once: has(WNOHANG),
        keep: false,
    };
    let Some(change) = wait::wait(&wanted)? else { return Ok(0) };
    if status_at != 0 {
        user::write(status_at, &change.fate.status())?;
    }
    if usage_at != 0 {
        user::write(usage_at, &rusage(change.ran_ns, 0))?;
    }
    Ok(change.pid as usize)
}

pub fn waitid(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [kind, id, info_at, options, usage_at, _] = *args;
    if options & u64::from(WEXITED | WSTOPPED | WCONTINUED) == 0 {
        return Err(Errno::EINVAL);
    }
    let which = match kind as u32 {
        P_ALL => Which::Any,
        P_PID => Which::Process(id as u32),
        P_PGID if id == 0 => Which::Group(ctx.process.group.load(Ordering::Relaxed)),
        P_PGID => Which::Group(id as u32),
        P_PIDFD => Which::Process(crate::ipc::pidfd::target(&*ctx.files().get(id as i32)?)?),
        _ => return Err(Errno::EINVAL),
    };
    let has = |option: u32| options & u64::from(option) != 0;
    let wanted = Wanted {
        which,
        ends: has(WEXITED),
        stops: has(WSTOPPED),
        continues: has(WCONTINUED),
        at_once: has(WNOHANG),
        keep: has(WNOWAIT),
    };
    let change = wait::wait(&wanted)?;
    if info_at != 0 {
        let info = change.map(|change| {
            let (code, value) = match change.fate {
                Fate::Exited(status) => (CLD_EXITED, status),
                Fate::Killed(signal) => (CLD_KILLED, signal),
                Fate::Stopped(signal) => (CLD_STOPPED, signal),
                Fate::Trapped(status) => (CLD_TRAPPED, status),
                Fate::Continued => (CLD_CONTINUED, SIGCONT),
            };
            crate::signal::SigInfo::child(change.pid, change.uid, code, value)
        });
        match info {
            Some(info) => user::write(info_at, &info)?,
            None => user::write(info_at, &[0u64; 4])?,
        }
    }
    if usage_at != 0 {
        user::write(usage_at, &rusage(change.map_or(0, |change| change.ran_ns), 0))?;
    }
    Ok(0)
}
