//! chmod, chown, utimensat, truncate, fallocate, umask; fsync and advice; extended attributes.
use super::Context;
use super::paths::{HERE, caller, find, find_entry};
use crate::errno::{Errno, Result};
use crate::fs::opened::TreeFile;
use crate::fs::ops::attributes::{self, SetTime};
use crate::fs::{Entry, Kind, OpenFile, Time, Want, views};
use crate::user;
use alloc::sync::Arc;
use linux_raw_sys::general::*;

/// The entry behind an open descriptor; EPERM for pipes, sockets and the like, whose attributes nobody changes.
fn opened_entry(ctx: &Context<'_>, descriptor: u64) -> Result<Arc<Entry>> {
    let open = ctx.files().get_usable(descriptor as i32)?;
    open.file().downcast::<TreeFile>().map(|file| file.entry().clone()).ok_or(Errno::EPERM)
}

pub fn chmod(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    fchmodat2(ctx, &[HERE, args[0], args[1], 0, 0, 0])
}

pub fn fchmod(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let open = ctx.files().get_usable(args[0] as i32)?;
    let mode = args[1] as u32;
    match open.file().downcast::<TreeFile>() {
        Some(file) => attributes::set_mode(file.entry(), mode, &caller(ctx)),
        None => open.file().set_mode(mode & 0o7777),
    }
    .map(|()| 0)
}

pub fn fchmodat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    fchmodat2(ctx, &[args[0], args[1], args[2], 0, 0, 0])
}

pub fn fchmodat2(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, path, mode, flags, ..] = *args;
    if flags & !u64::from(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = flags & u64::from(AT_SYMLINK_NOFOLLOW) == 0;
    let entry = find(ctx, descriptor, path, flags, follow)?.entry(Errno::EPERM)?;
    attributes::set_mode(&entry, mode as u32, &caller(ctx)).map(|()| 0)
}

fn set_owner(ctx: &Context<'_>, entry: &Arc<Entry>, uid: u64, gid: u64) -> Result<usize> {
    let id = |id: u64| (id as u32 != u32::MAX).then_some(id as u32);
    attributes::set_owner(entry, id(uid), id(gid), &caller(ctx)).map(|()| 0)
}

pub fn chown(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    set_owner(ctx, &find_entry(ctx, HERE, args[0], true)?, args[1], args[2])
}

pub fn lchown(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    set_owner(ctx, &find_entry(ctx, HERE, args[0], false)?, args[1], args[2])
}

pub fn fchown(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    set_owner(ctx, &opened_entry(ctx, args[0])?, args[1], args[2])
}

pub fn fchownat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, path, uid, gid, flags, _] = *args;
    if flags & !u64::from(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = flags & u64::from(AT_SYMLINK_NOFOLLOW) == 0;
    let entry = find(ctx, descriptor, path, flags, follow)?.entry(Errno::EPERM)?;
    set_owner(ctx, &entry, uid, gid)
}

const NOW: (SetTime, SetTime) = (SetTime::Now, SetTime::Now);

/// Two `timespec` of a program; a null pointer means now. What they say is judged once the file was found.
fn read_timespecs(address: u64) -> Result<[[i64; 2]; 2]> {
    match address {
        0 => Ok([[0, i64::from(UTIME_NOW)]; 2]),
        _ => user::read(address),
    }
}

/// Access and modification time.
fn two_timespecs([accessed, modified]: [[i64; 2]; 2]) -> Result<(SetTime, SetTime)> {
    let one = |[sec, nsec]: [i64; 2]| match nsec {
        _ if nsec == i64::from(UTIME_NOW) => Ok(SetTime::Now),
        _ if nsec == i64::from(UTIME_OMIT) => Ok(SetTime::Omit),
        0..1_000_000_000 => Ok(SetTime::At(Time { sec, nsec: nsec as u32 })),
        _ => Err(Errno::EINVAL),
    };
    Ok((one(accessed)?, one(modified)?))
}

/// As [`two_timespecs`], from two `timeval`.
fn two_timevals(address: u64) -> Result<(SetTime, SetTime)> {
    if address == 0 {
        return Ok(NOW);
    }
    let [accessed, modified]: [[i64; 2]; 2] = user::read(address)?;
    let one = |[sec, micros]: [i64; 2]| match micros {
        0..1_000_000 => Ok(SetTime::At(Time { sec, nsec: micros as u32 * 1000 })),
        _ => Err(Errno::EINVAL),
    };
    Ok((one(accessed)?, one(modified)?))
}

pub fn utimensat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, path, times, flags, ..] = *args;
    let times = read_timespecs(times)?;
    if times.iter().all(|[_, nsec]| *nsec == i64::from(UTIME_OMIT)) {
        return Ok(0);
    }
    if flags & !u64::from(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let entry = if path == 0 && descriptor as i32 != AT_FDCWD {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        opened_entry(ctx, descriptor)?
    } else {
        let follow = flags & u64::from(AT_SYMLINK_NOFOLLOW) == 0;
        find(ctx, descriptor, path, flags, follow)?.entry(Errno::EPERM)?
    };
    let (accessed, modified) = two_timespecs(times)?;
    attributes::set_times(&entry, accessed, modified, &caller(ctx)).map(|()| 0)
}

pub fn futimesat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (accessed, modified) = two_timevals(args[2])?;
    let entry = if args[1] == 0 { opened_entry(ctx, args[0])? } else { find_entry(ctx, args[0], args[1], true)? };
    attributes::set_times(&entry, accessed, modified, &caller(ctx)).map(|()| 0)
}

pub fn utimes(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (accessed, modified) = two_timevals(args[1])?;
    let entry = find_entry(ctx, HERE, args[0], true)?;
    attributes::set_times(&entry, accessed, modified, &caller(ctx)).map(|()| 0)
}

pub fn utime(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (accessed, modified) = if args[1] == 0 {
        NOW
    } else {
        let [accessed, modified]: [i64; 2] = user::read(args[1])?;
        (SetTime::At(Time { sec: accessed, nsec: 0 }), SetTime::At(Time { sec: modified, nsec: 0 }))
    };
    let entry = find_entry(ctx, HERE, args[0], true)?;
    attributes::set_times(&entry, accessed, modified, &caller(ctx)).map(|()| 0)
}

pub fn truncate(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    if (args[1] as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    let entry = find_entry(ctx, HERE, args[0], true)?;
    match entry.node.kind {
        Kind::Directory => return Err(Errno::EISDIR),
        Kind::Regular => {}
        _ => return Err(Errno::EINVAL),
    }
    let caller = caller(ctx);
    entry.node.check_writable_mount()?;
    caller.check(&entry.node, Want::WRITE)?;
    attributes::truncate(&entry, args[1], &caller).map(|()| 0)
}

pub fn ftruncate(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    if (args[1] as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    let open = ctx.files().get_usable(args[0] as i32)?;
    if !open.writable() {
        return Err(Errno::EINVAL);
    }
    open.file().truncate(args[1]).map(|()| 0)
}

pub fn fallocate(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (mode, offset, len) = (args[1] as u32, args[2] as i64, args[3] as i64);
    let open = ctx.files().get_usable(args[0] as i32)?;
    if offset < 0 || len <= 0 {
        return Err(Errno::EINVAL);
    }
    let (offset, len) = (offset as u64, len as u64);
    let known = FALLOC_FL_KEEP_SIZE
        | FALLOC_FL_PUNCH_HOLE
        | FALLOC_FL_COLLAPSE_RANGE
        | FALLOC_FL_ZERO_RANGE
        | FALLOC_FL_INSERT_RANGE
        | FALLOC_FL_UNSHARE_RANGE;
    if mode & !known != 0 || mode == FALLOC_FL_PUNCH_HOLE {
        return Err(Errno::EOPNOTSUPP);
    }
    if !open.writable() {
        return Err(Errno::EBADF);
    }
    let node = match open.file().downcast::<TreeFile>() {
        Some(file) => &file.entry().node,
        None => return Err(if open.file().stat()?.kind == Kind::Fifo { Errno::ESPIPE } else { Errno::ENODEV }),
    };
    let data = node.data().ok_or(match node.kind {
        Kind::Fifo => Errno::ESPIPE,
        // A file of the host: programs then write the zeroes themselves.
        Kind::Regular => Errno::EOPNOTSUPP,
        _ => Errno::ENODEV,
    })?;
    if mode & !(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if mode & FALLOC_FL_PUNCH_HOLE != 0 {
        data.punch(offset, len)?;
        views::follow(data);
    } else {
        if mode & FALLOC_FL_KEEP_SIZE == 0 {
            crate::process::limits::check_file_size(offset.saturating_add(len) - 1, 1)?;
        }
        data.allocate(offset, len, mode & FALLOC_FL_KEEP_SIZE != 0)?;
    }
    node.touch_modified();
    Ok(0)
}

pub fn umask(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let fs = ctx.fs();
    let mut fs = fs.lock();
    Ok(core::mem::replace(&mut fs.umask, args[0] as u32 & 0o777) as usize)
}

pub fn fsync(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    ctx.files().get_usable(args[0] as i32)?.file().sync().map(|()| 0)
}

pub fn syncfs(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    ctx.files().get_usable(args[0] as i32)?;
    crate::fs::live::write_back_all();
    Ok(0)
}

/// What host directories do not have yet is what programs wrote to mappings.
pub fn sync(_ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    crate::fs::live::write_back_all();
    Ok(0)
}

/// A seekable file, for advice on its contents: ESPIPE.
fn advisable(ctx: &Context<'_>, descriptor: u64) -> Result<Arc<OpenFile>> {
    let open = ctx.files().get_usable(descriptor as i32)?;
    if open.file().seekable() { Ok(open) } else { Err(Errno::ESPIPE) }
}

pub fn sync_file_range(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let bad = args[3] & !7 != 0 || (args[1] as i64) < 0 || (args[2] as i64) < 0;
    let open = ctx.files().get_usable(args[0] as i32)?;
    match () {
        _ if bad => Err(Errno::EINVAL),
        _ if !open.file().seekable() => Err(Errno::ESPIPE),
        _ => Ok(0),
    }
}

pub fn fadvise64(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    advisable(ctx, args[0])?;
    if args[3] > u64::from(POSIX_FADV_NOREUSE) || (args[2] as i64) < 0 { Err(Errno::EINVAL) } else { Ok(0) }
}

pub fn readahead(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let open = ctx.files().get_usable(args[0] as i32)?;
    if !open.readable() {
        return Err(Errno::EBADF);
    }
    if open.file().stat()?.kind == Kind::Regular { Ok(0) } else { Err(Errno::EINVAL) }
}
