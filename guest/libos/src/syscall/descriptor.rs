//! dup, fcntl, ioctl, flock, close_range: descriptors themselves.
use super::Context;
use crate::errno::{Errno, Result};
use crate::fs::OpenFile;
use crate::fs::locks::{Owner, Range};
use crate::sched;
use crate::user;
use alloc::sync::Arc;
use linux_raw_sys::general::*;
use linux_raw_sys::ioctl::{FIOASYNC, FIOCLEX, FIONBIO, FIONCLEX};
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub fn dup(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let files = ctx.files();
    let open = files.get(args[0] as i32)?;
    files.install(open, false).map(|descriptor| descriptor as usize)
}

pub fn dup2(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (old, new) = (args[0] as i32, args[1] as i32);
    let files = ctx.files();
    let open = files.get(old)?;
    if old != new {
        files.install_at(new, open, false)?;
    }
    Ok(new as usize)
}

pub fn dup3(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (old, new, flags) = (args[0] as i32, args[1] as i32, args[2] as u32);
    if flags & !O_CLOEXEC != 0 || old == new {
        return Err(Errno::EINVAL);
    }
    let files = ctx.files();
    files.install_at(new, files.get(old)?, flags != 0)?;
    Ok(new as usize)
}

/// `linux/close_range.h`.
const CLOSE_RANGE_UNSHARE: u32 = 1 << 1;
const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;

pub fn close_range(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (first, last, flags) = (args[0] as u32, args[1] as u32, args[2] as u32);
    if flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        let mut files = ctx.process.files.lock();
        if Arc::strong_count(&files) > 1 {
            *files = Arc::new(files.fork());
        }
    }
    match flags & CLOSE_RANGE_CLOEXEC {
        0 => ctx.files().close_range(first, last),
        _ => ctx.files().cloexec_range(first, last),
    }
    Ok(0)
}

pub fn fcntl(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (descriptor, command, argument) = (args[0] as i32, args[1] as u32, args[2]);
    let files = ctx.files();
    let open = files.get(descriptor)?;
    match command {
        F_DUPFD => return files.install_from(argument as u32, open, false).map(|d| d as usize),
        F_DUPFD_CLOEXEC => return files.install_from(argument as u32, open, true).map(|d| d as usize),
        F_GETFD => return files.cloexec(descriptor).map(usize::from),
        F_SETFD => return files.set_cloexec(descriptor, argument & u64::from(FD_CLOEXEC) != 0).map(|()| 0),
        F_GETFL => return Ok(open.flags() as usize),
        _ if open.is_path_only() => return Err(Errno::EBADF),
        _ => {}
    }
    match command {
        F_SETFL => open.set_flags(argument as u32),
        F_GETLK => return get_lock(&open, Owner::Table(files.id()), argument),
        F_SETLK | F_SETLKW => {
            let owner = Owner::Table(files.id());
            return set_lock(&open, owner, ctx.process.pid as i32, argument, command == F_SETLKW);
        }
        F_OFD_GETLK => return get_lock(&open, Owner::Open(open.id()), argument),
        F_OFD_SETLK | F_OFD_SETLKW => {
            return set_lock(&open, Owner::Open(open.id()), -1, argument, command == F_OFD_SETLKW);
        }
        F_SETOWN => open.set_owner(argument as i32),
        F_GETOWN => return Ok(open.owner() as usize),
        // Notifications of a directory are refused; taking away those that nobody has is not.
        F_NOTIFY if argument as u32 & !DN_MULTISHOT == 0 => {}
        F_GETSIG | F_GETLEASE => return Ok(if command == F_GETLEASE { F_UNLCK as usize } else { 0 }),
        _ => return open.file().fcntl(&open, command, argument),
    }
    Ok(0)
}

/// `struct flock`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Flock {
    kind: i16,
    whence: i16,
    padding: u32,
    start: i64,
    len: i64,
    pid: i32,
    padding2: u32,
}

/// The bytes that a `struct flock` names, both ends included.
fn span(open: &OpenFile, lock: &Flock) -> Result<(u64, u64)> {
    let base = match lock.whence as u32 {
        SEEK_SET => 0,
        SEEK_CUR => open.offset() as i64,
        SEEK_END => open.file().stat()?.size as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(lock.start).ok_or(Errno::EOVERFLOW)?;
    let (first, last) = match lock.len {
        0 => (start, i64::MAX),
        len if len > 0 => (start, start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?),
        len => (start.checked_add(len).ok_or(Errno::EINVAL)?, start - 1),
    };
    if first < 0 || last < first { Err(Errno::EINVAL) } else { Ok((first as u64, last as u64)) }
}

fn read_flock(owner: Owner, address: u64) -> Result<Flock> {
    let lock: Flock = user::read(address)?;
    if matches!(owner, Owner::Open(_)) && lock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(lock)
}

fn get_lock(open: &Arc<OpenFile>, owner: Owner, address: u64) -> Result<usize> {
    let mut lock = read_flock(owner, address)?;
    if !matches!(lock.kind as u32, F_RDLCK | F_WRLCK) {
        return Err(Errno::EINVAL);
    }
    let (first, last) = span(open, &lock)?;
    let wanted = Range { owner, first, last, exclusive: lock.kind as u32 == F_WRLCK, pid: 0 };
    match open.locks_if_any().and_then(|locks| locks.conflict(&wanted)) {
        None => lock.kind = F_UNLCK as i16,
        Some(held) => {
            lock.kind = if held.exclusive { F_WRLCK } else { F_RDLCK } as i16;
            lock.whence = SEEK_SET as i16;
            lock.start = held.first as i64;
            lock.len = if held.last >= i64::MAX as u64 { 0 } else { (held.last - held.first + 1) as i64 };
            lock.pid = held.pid;
        }
    }
    user::write(address, &lock)?;
    Ok(0)
}

fn set_lock(open: &Arc<OpenFile>, owner: Owner, pid: i32, address: u64, wait: bool) -> Result<usize> {
    let lock = read_flock(owner, address)?;
    let (first, last) = span(open, &lock)?;
    let exclusive = match lock.kind as u32 {
        F_UNLCK => {
            if let Some(locks) = open.locks_if_any() {
                locks.unlock_range(owner, first, last);
            }
            return Ok(0);
        }
        F_RDLCK if !open.readable() => return Err(Errno::EBADF),
        F_WRLCK if !open.writable() => return Err(Errno::EBADF),
        F_RDLCK => false,
        F_WRLCK => true,
        _ => return Err(Errno::EINVAL),
    };
    let wanted = Range { owner, first, last, exclusive, pid };
    let locks = open.locks();
    match locks.lock_range(wanted) {
        Err(Errno::EAGAIN) if wait => sched::block_on(&[&locks.queue], None, || locks.lock_range(wanted).ok())?,
        other => other?,
    }
    Ok(0)
}

pub fn flock(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let operation = args[1] as u32;
    if !matches!(operation & !LOCK_NB, LOCK_SH | LOCK_EX | LOCK_UN) {
        return Err(Errno::EINVAL);
    }
    let open = ctx.files().get_usable(args[0] as i32)?;
    let exclusive = match operation & !LOCK_NB {
        LOCK_SH => false,
        LOCK_EX => true,
        LOCK_UN => {
            if let Some(locks) = open.locks_if_any() {
                locks.unlock_whole(open.id());
            }
            return Ok(0);
        }
        _ => return Err(Errno::EINVAL),
    };
    let locks = open.locks();
    match locks.lock_whole(open.id(), exclusive) {
        Err(Errno::EAGAIN) if operation & LOCK_NB == 0 => {
            sched::block_on(&[&locks.queue], None, || locks.lock_whole(open.id(), exclusive).ok())?;
        }
        other => other?,
    }
    Ok(0)
}

pub fn ioctl(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (descriptor, request, argument) = (args[0] as i32, args[1] as u32, args[2]);
    let files = ctx.files();
    let open = files.get_usable(descriptor)?;
    match request {
        FIOCLEX => files.set_cloexec(descriptor, true)?,
        FIONCLEX => files.set_cloexec(descriptor, false)?,
        FIONBIO => open.set_nonblocking(user::read::<i32>(argument)? != 0),
        FIOASYNC => {
            user::read::<i32>(argument)?;
        }
        _ => return open.file().ioctl(&open, request, argument),
    }
    Ok(0)
}
