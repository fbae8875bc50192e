//! read, write and their relatives, lseek.
use super::Context;
use crate::errno::{Errno, Result};
use crate::fs::OpenFile;
use crate::sched;
use crate::user::{self, IoVec, Reader, Writer};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general::*;
use zerocopy::{FromZeros, IntoBytes};

/// Bytes of one call at most, as on Linux.
pub(super) const MOST: usize = 0x7fff_f000;
/// Parts of one call at most.
const PARTS: u64 = 1024;

/// Tries until there is an answer other than EAGAIN; waits in between unless the file must not block.
fn until_ready(open: &OpenFile, for_write: bool, mut attempt: impl FnMut() -> Result<usize>) -> Result<usize> {
    let first = attempt();
    if first != Err(Errno::EAGAIN) || open.nonblocking() {
        return first;
    }
    let file = open.file();
    let queue = if for_write { file.write_queue() } else { file.queue() };
    let Some(queue) = queue else { return first };
    let limit = file.wait_limit_ns(for_write);
    let deadline = limit.map(|ns| crate::time::monotonic_ns().saturating_add(ns));
    let waited = sched::block_on(&[queue], deadline, || match attempt() {
        Err(Errno::EAGAIN) => None,
        other => Some(other),
    });
    match waited {
        Ok(result) => result,
        Err(Errno::ETIMEDOUT) => Err(Errno::EAGAIN),
        // A wait with a limit of its own is not restarted.
        Err(Errno::RESTART) if limit.is_some() => Err(Errno::EINTR),
        Err(errno) => Err(errno),
    }
}

/// `read` at the file's offset.
pub(super) fn read_stream(open: &OpenFile, to: &mut Writer<'_>) -> Result<usize> {
    to.limit(MOST);
    until_ready(open, false, || open.read(to))
}

/// `write` at the file's offset. A file that blocks takes everything before the call returns, as pipes and sockets do.
pub(super) fn write_stream(open: &OpenFile, from: &mut Reader<'_>) -> Result<usize> {
    from.limit(MOST);
    let mut done = 0;
    loop {
        match until_ready(open, true, || open.write(from)) {
            Ok(n) => done += n,
            Err(errno) => return if done > 0 { Ok(done) } else { Err(errno) },
        }
        if from.remaining() == 0 || open.nonblocking() || open.file().seekable() {
            return Ok(done);
        }
    }
}

pub(super) fn one(base: u64, len: u64) -> [IoVec; 1] {
    [IoVec { base, len: len.min(MOST as u64) }]
}

/// The parts of a vectored call. EINVAL for too many or too much.
pub(super) fn parts(address: u64, count: u64) -> Result<Vec<IoVec>> {
    if count > PARTS {
        return Err(Errno::EINVAL);
    }
    let mut parts = alloc::vec![IoVec::new_zeroed(); count as usize];
    user::copy_in(parts.as_mut_slice().as_mut_bytes(), address)?;
    let mut sum = 0u64;
    for part in &parts {
        sum = sum.checked_add(part.len).filter(|sum| *sum <= i64::MAX as u64).ok_or(Errno::EINVAL)?;
        if !user::is_user_range(part.base, part.len as usize) {
            return Err(Errno::EFAULT);
        }
    }
    Ok(parts)
}

pub(super) fn usable(ctx: &Context<'_>, descriptor: u64) -> Result<Arc<OpenFile>> {
    ctx.files().get_usable(descriptor as i32)
}

pub(super) fn offset(value: u64) -> Result<u64> {
    if (value as i64) < 0 { Err(Errno::EINVAL) } else { Ok(value) }
}

pub fn read(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let open = usable(ctx, args[0])?;
    read_stream(&open, &mut Writer::new(&one(args[1], args[2])))
}

pub fn write(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let open = usable(ctx, args[0])?;
    write_stream(&open, &mut Reader::new(&one(args[1], args[2])))
}

pub fn readv(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let open = usable(ctx, args[0])?;
    let parts = parts(args[1], args[2])?;
    match parts.iter().all(|part| part.len == 0) {
        true if open.readable() => Ok(0),
        _ => read_stream(&open, &mut Writer::new(&parts)),
    }
}

pub fn writev(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let open = usable(ctx, args[0])?;
    let parts = parts(args[1], args[2])?;
    match parts.iter().all(|part| part.len == 0) {
        true if open.writable() => Ok(0),
        _ => write_stream(&open, &mut Reader::new(&parts)),
    }
}

fn read_at(open: &OpenFile, at: u64, parts: &[IoVec]) -> Result<usize> {
    let mut to = Writer::new(parts);
    to.limit(MOST);
    open.read_at(offset(at)?, &mut to)
}

fn write_at(open: &OpenFile, at: u64, parts: &[IoVec]) -> Result<usize> {
    let mut from = Reader::new(parts);
    from.limit(MOST);
    open.write_at(offset(at)?, &mut from)
}

pub fn pread64(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    offset(args[3])?;
    read_at(&*usable(ctx, args[0])?, args[3], &one(args[1], args[2]))
}

pub fn pwrite64(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    offset(args[3])?;
    write_at(&*usable(ctx, args[0])?, args[3], &one(args[1], args[2]))
}

pub fn preadv(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    offset(args[3])?;
    read_at(&*usable(ctx, args[0])?, args[3], &parts(args[1], args[2])?)
}

pub fn pwritev(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    offset(args[3])?;
    write_at(&*usable(ctx, args[0])?, args[3], &parts(args[1], args[2])?)
}

/// Flags of preadv2 and pwritev2 that change nothing here: nothing is cached that a disk should have.
const RWF_IGNORED: u64 = (RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT) as u64;

pub fn preadv2(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    if args[5] & !RWF_IGNORED != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if args[3] as i64 == -1 { readv(ctx, args) } else { preadv(ctx, args) }
}

pub fn pwritev2(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    if args[5] & !(RWF_IGNORED | u64::from(RWF_APPEND)) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let at_offset = args[3] as i64 != -1;
    if args[5] & u64::from(RWF_APPEND) != 0 {
        let open = usable(ctx, args[0])?;
        let parts = parts(args[1], args[2])?;
        if !open.writable() {
            return Err(Errno::EBADF);
        }
        let (n, end) = open.file().append(&open, &mut Reader::new(&parts))?;
        if !at_offset {
            open.set_offset(end);
        }
        return Ok(n);
    }
    if at_offset { pwritev(ctx, args) } else { writev(ctx, args) }
}

pub fn lseek(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let open = usable(ctx, args[0])?;
    if args[2] > u64::from(SEEK_HOLE) {
        return Err(Errno::EINVAL);
    }
    open.seek(args[1] as i64, args[2] as u32).map(|offset| offset as usize)
}
