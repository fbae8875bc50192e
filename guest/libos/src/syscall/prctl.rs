//! prctl(2): what a program or a thread wants to be different about itself.
use super::Context;
use crate::capabilities::{Capabilities, LAST};
use crate::errno::{Errno, Result};
use crate::user;
use core::sync::atomic::Ordering;
use linux_raw_sys::prctl::*;

pub fn prctl(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [option, value, ..] = *args;
    match option as u32 {
        PR_SET_NAME => set_name(ctx, value),
        PR_GET_NAME => user::write(value, &*ctx.thread.name.lock()).map(|()| 0),
        PR_SET_DUMPABLE if value <= 1 => {
            ctx.process.dumpable.store(value == 1, Ordering::Relaxed);
            Ok(0)
        }
        PR_GET_DUMPABLE => Ok(usize::from(ctx.process.dumpable.load(Ordering::Relaxed))),
        PR_SET_PDEATHSIG if value <= u64::from(crate::signal::COUNT) => {
            ctx.process.death_signal.store(value as u32, Ordering::Relaxed);
            Ok(0)
        }
        PR_GET_PDEATHSIG => user::write(value, &ctx.process.death_signal.load(Ordering::Relaxed)).map(|()| 0),
        PR_SET_CHILD_SUBREAPER => {
            ctx.process.adopts.store(value != 0, Ordering::Relaxed);
            Ok(0)
        }
        PR_GET_CHILD_SUBREAPER => {
            user::write(value, &u32::from(ctx.process.adopts.load(Ordering::Relaxed))).map(|()| 0)
        }
        PR_SET_KEEPCAPS if value <= 1 => with_capabilities(ctx, |sets| {
            sets.keep = value == 1;
            Ok(0)
        }),
        PR_GET_KEEPCAPS => with_capabilities(ctx, |sets| Ok(usize::from(sets.keep))),
        PR_SET_NO_NEW_PRIVS if value == 1 && args[2..5] == [0; 3] => with_capabilities(ctx, |sets| {
            sets.no_new_privileges = true;
            Ok(0)
        }),
        PR_GET_NO_NEW_PRIVS if args[1..5] == [0; 4] => {
            with_capabilities(ctx, |sets| Ok(usize::from(sets.no_new_privileges)))
        }
        PR_CAPBSET_READ if value <= u64::from(LAST) => {
            with_capabilities(ctx, |sets| Ok((sets.bounding >> value & 1) as usize))
        }
        PR_CAPBSET_DROP if value <= u64::from(LAST) => {
            with_capabilities(ctx, |sets| sets.drop_bounding(value as u32).map(|()| 0))
        }
        PR_CAP_AMBIENT => ambient(ctx, args),
        // There is nothing to fuse, trace, slow down or lock here.
        PR_SET_TIMERSLACK | PR_SET_PTRACER | PR_SET_THP_DISABLE | PR_SET_VMA => Ok(0),
        PR_GET_SECCOMP | PR_GET_SECUREBITS | PR_GET_THP_DISABLE => Ok(0),
        PR_GET_TIMERSLACK => Ok(50_000),
        _ => Err(Errno::EINVAL),
    }
}

fn set_name(ctx: &Context<'_>, at: u64) -> Result<usize> {
    let mut name = [0; 16];
    let bytes = user::read_c_string(at, 4095)?;
    let len = bytes.len().min(15);
    name[..len].copy_from_slice(&bytes[..len]);
    *ctx.thread.name.lock() = name;
    Ok(0)
}

fn with_capabilities(ctx: &Context<'_>, change: impl FnOnce(&mut Capabilities) -> Result<usize>) -> Result<usize> {
    change(&mut ctx.process.credentials.lock().capabilities)
}

fn ambient(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [_, how, capability, rest @ ..] = *args;
    if rest[..2] != [0; 2] {
        return Err(Errno::EINVAL);
    }
    with_capabilities(ctx, |sets| {
        if how as u32 == PR_CAP_AMBIENT_CLEAR_ALL {
            sets.ambient = 0;
            return Ok(0);
        }
        if capability > u64::from(LAST) {
            return Err(Errno::EINVAL);
        }
        match how as u32 {
            PR_CAP_AMBIENT_IS_SET => Ok((sets.ambient >> capability & 1) as usize),
            PR_CAP_AMBIENT_RAISE => sets.raise_ambient(capability as u32).map(|()| 0),
            PR_CAP_AMBIENT_LOWER => {
                sets.ambient &= !(1 << capability);
                Ok(0)
            }
            _ => Err(Errno::EINVAL),
        }
    })
}
