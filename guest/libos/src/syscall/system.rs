//! The machine: names, sizes, random bytes, prctl.
use super::Context;
use crate::capabilities::Capability;
use crate::errno::{Errno, Result};
use crate::mm::frame::memory;
use crate::{random, time, user};
use core::sync::atomic::Ordering;
use linux_raw_sys::general::*;
use linux_raw_sys::system::sysinfo;

/// What `uname` says: the Linux whose behaviour is the model.
pub const RELEASE: &str = "6.1.0-kasoku";
pub const VERSION: &str = "#1 SMP Kasoku library OS";

pub fn uname(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let host = crate::boot::hostname();
    let fields: [&[u8]; 6] = [b"Linux", &host, RELEASE.as_bytes(), VERSION.as_bytes(), b"x86_64", b"(none)"];
    let mut bytes = [0u8; 65 * 6];
    for (i, field) in fields.iter().enumerate() {
        let len = field.len().min(64);
        bytes[i * 65..i * 65 + len].copy_from_slice(&field[..len]);
    }
    user::copy_out(args[0], &bytes).map(|()| 0)
}

pub fn sethostname(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    if !ctx.process.credentials.lock().can(Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    if args[1] > 64 {
        return Err(Errno::EINVAL);
    }
    let mut name = alloc::vec![0; args[1] as usize];
    user::copy_in(&mut name, args[0])?;
    crate::boot::set_hostname(name);
    Ok(0)
}

pub fn sysinfo(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let memory = memory();
    let mut words = [0u64; size_of::<sysinfo>() / 8];
    words[0] = (time::monotonic_ns() - crate::boot::started_ns()) / time::SECOND_NS;
    words[4] = memory.total_frames() as u64 * 4096;
    words[5] = memory.free_frames() as u64 * 4096;
    words[10] = crate::process::task_count() as u64;
    // mem_unit follows totalhigh and freehigh.
    words[13] = 1;
    user::write(args[0], &words).map(|()| 0)
}

pub fn getrandom(_ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [address, len, flags, ..] = *args;
    if flags & !u64::from(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE) != 0 {
        return Err(Errno::EINVAL);
    }
    let len = len.min(32 << 20);
    let mut bytes = [0; 256];
    let mut done = 0;
    while done < len {
        let here = (len - done).min(bytes.len() as u64) as usize;
        random::fill(&mut bytes[..here]);
        user::copy_out(address + done, &bytes[..here])?;
        done += here as u64;
    }
    Ok(len as usize)
}

/// Only the personality of Linux; addresses are not randomised, whatever it says of that.
pub fn personality(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    const ADDR_NO_RANDOMIZE: u32 = 0x0004_0000;
    let place = &ctx.process.personality;
    match args[0] as u32 {
        u32::MAX => Ok(place.load(Ordering::Relaxed) as usize),
        wanted @ (0 | ADDR_NO_RANDOMIZE) => Ok(place.swap(wanted, Ordering::Relaxed) as usize),
        _ => Err(Errno::EINVAL),
    }
}

/// What Linux answers to a program without the right.
pub fn forbidden(_ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    Err(Errno::EPERM)
}
