//! epoll.
use super::Context;
use super::wait::{self, Deadline};
use crate::errno::{Errno, Result};
use crate::fs::OpenFile;
use crate::ipc::epoll::{Epoll, Interest, queues};
use crate::signal;
use crate::user;
use alloc::sync::Arc;
use linux_raw_sys::general::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct epoll_event`, packed on x86-64.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C, packed)]
struct Event {
    events: u32,
    data: u64,
}

/// Most events of one wait.
const EVENTS_MAX: usize = i32::MAX as usize / size_of::<Event>();

pub fn epoll_create(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    if args[0] as i32 <= 0 { Err(Errno::EINVAL) } else { epoll_create1(ctx, &[0; 6]) }
}

pub fn epoll_create1(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let flags = args[0] as u32;
    if flags & !EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let open = OpenFile::new(Epoll::new(), O_RDWR);
    ctx.files().install(open, flags != 0).map(|descriptor| descriptor as usize)
}

pub fn epoll_ctl(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [epoll, operation, descriptor, event_at, ..] = *args;
    let (operation, descriptor) = (operation as u32, descriptor as i32);
    let interest = if operation == EPOLL_CTL_DEL {
        Interest { events: 0, data: 0 }
    } else {
        let event: Event = user::read(event_at)?;
        Interest { events: event.events, data: event.data }
    };
    let files = ctx.files();
    let owner = files.get_usable(epoll as i32)?;
    let target = files.get_usable(descriptor)?;
    if queues(&**target.file()).next().is_none() {
        return Err(Errno::EPERM);
    }
    let epoll = owner.file().downcast::<Epoll>().filter(|_| !Arc::ptr_eq(&owner, &target)).ok_or(Errno::EINVAL)?;
    match operation {
        EPOLL_CTL_ADD => epoll.add(descriptor, &target, interest)?,
        EPOLL_CTL_MOD => epoll.modify(descriptor, &target, interest)?,
        EPOLL_CTL_DEL => epoll.remove(descriptor, &target)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn wait_until(ctx: &Context<'_>, descriptor: u64, at: u64, max: u64, deadline: Deadline) -> Result<usize> {
    let open = ctx.files().get_usable(descriptor as i32)?;
    let max = usize::try_from(max as i32).ok().filter(|max| (1..=EVENTS_MAX).contains(max)).ok_or(Errno::EINVAL)?;
    if !user::is_user_range(at, max * size_of::<Event>()) {
        return Err(Errno::EFAULT);
    }
    let file = open.file();
    let epoll = file.downcast::<Epoll>().ok_or(Errno::EINVAL)?;
    let collect = || {
        let mut to = at;
        let found = epoll.collect(max, |events, data| {
            user::write(to, &Event { events, data })?;
            to += size_of::<Event>() as u64;
            Ok(())
        });
        if found == Ok(0) { None } else { Some(found) }
    };
    wait::until(|| queues(&**file).collect(), deadline, collect)?.unwrap_or(Ok(0))
}

pub fn epoll_wait(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    wait_until(ctx, args[0], args[1], args[2], Deadline::after_ms(args[3] as i32))
}

pub fn epoll_pwait(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let mask = wait::signal_mask(args[4], args[5])?;
    signal::with_mask(mask, || epoll_wait(ctx, args))
}

pub fn epoll_pwait2(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let deadline = Deadline::from_timespec(args[3])?;
    let mask = wait::signal_mask(args[4], args[5])?;
    signal::with_mask(mask, || wait_until(ctx, args[0], args[1], args[2], deadline))
}
