//! sendfile, copy_file_range, splice, vmsplice, tee: bytes from one file to another.
use super::Context;
use super::transfer::{self, MOST, offset, read_stream, usable, write_stream};
use crate::errno::{Errno, Result};
use crate::fs::opened::TreeFile;
use crate::fs::{Kind, OpenFile};
use crate::ipc::pipe;
use crate::sched;
use crate::user;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general::*;

const SPLICE_FLAGS: u64 = (SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT) as u64;
/// Bytes moved at a time.
const CHUNK: usize = 64 << 10;

/// Writes all of `bytes` to a file that may make us wait.
fn write_all(open: &OpenFile, bytes: &[u8]) -> Result<usize> {
    user::with_kernel_reader(bytes, |from| write_stream(open, from))
}

pub fn sendfile(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [to, from, offset_at, count, ..] = *args;
    let from = usable(ctx, from)?;
    let to = usable(ctx, to)?;
    if !from.readable() || !to.writable() {
        return Err(Errno::EBADF);
    }
    let has_offset = from.file().seekable() || from.file().ignores_seek();
    match count {
        _ if to.flags() & O_APPEND != 0 || !has_offset => return Err(Errno::EINVAL),
        0 => return Ok(0),
        _ if from.file().stat()?.kind != Kind::Regular => return Err(Errno::EINVAL),
        _ => {}
    }
    let mut at = if offset_at != 0 { offset(user::read(offset_at)?)? } else { from.offset() };
    let mut left = count.min(MOST as u64) as usize;
    let mut buffer = alloc::vec![0u8; left.min(CHUNK)];
    let mut done = 0;
    let result = loop {
        let here = left.min(buffer.len());
        let n = match user::with_kernel_writer(&mut buffer[..here], |writer| from.file().read(&from, at, writer)) {
            Ok(n) => n,
            Err(errno) => break Err(errno),
        };
        if n == 0 {
            break Ok(());
        }
        match write_all(&to, &buffer[..n]) {
            Ok(written) => {
                at += written as u64;
                done += written;
                left -= written;
                if written < n || left == 0 {
                    break Ok(());
                }
            }
            Err(errno) => break Err(errno),
        }
    };
    match result {
        Err(errno) if done == 0 => return Err(errno),
        _ => {}
    }
    if offset_at != 0 {
        user::write(offset_at, &at)?;
    } else {
        from.set_offset(at);
    }
    Ok(done)
}

pub fn copy_file_range(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [from, from_at, to, to_at, len, flags] = *args;
    let from = usable(ctx, from)?;
    let to = usable(ctx, to)?;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let file = |open: &Arc<OpenFile>| match open.file().downcast::<TreeFile>() {
        Some(file) => match file.entry().node.kind {
            Kind::Regular => Ok(file.entry().node.clone()),
            Kind::Directory => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        },
        None => Err(Errno::EINVAL),
    };
    let (source, target) = (file(&from)?, file(&to)?);
    if !from.readable() || !to.writable() || to.flags() & O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    let position = |address: u64, open: &OpenFile| match address {
        0 => Ok(open.offset()),
        _ => user::read(address).and_then(offset),
    };
    let (mut read_at, mut write_at) = (position(from_at, &from)?, position(to_at, &to)?);
    // What lies beyond the end of the source is not copied, so it cannot overlap.
    let len = len.min(MOST as u64).min(source.data().map_or(0, |data| data.size()).saturating_sub(read_at));
    let overlaps = read_at < write_at.saturating_add(len) && write_at < read_at.saturating_add(len);
    if Arc::ptr_eq(&source, &target) && overlaps && len > 0 {
        return Err(Errno::EINVAL);
    }
    let mut left = len as usize;
    let mut buffer = alloc::vec![0u8; left.min(CHUNK)];
    let mut done = 0;
    while left > 0 {
        let here = left.min(buffer.len());
        let step = user::with_kernel_writer(&mut buffer[..here], |writer| from.file().read(&from, read_at, writer))
            .and_then(|n| user::with_kernel_reader(&buffer[..n], |reader| to.file().write(&to, write_at, reader)));
        match step {
            Ok(0) => break,
            Ok(n) => {
                read_at += n as u64;
                write_at += n as u64;
                done += n;
                left -= n;
            }
            Err(errno) if done == 0 => return Err(errno),
            Err(_) => break,
        }
    }
    let keep = |address: u64, open: &OpenFile, at: u64| match address {
        0 => {
            open.set_offset(at);
            Ok(())
        }
        _ => user::write(address, &at),
    };
    keep(from_at, &from, read_at)?;
    keep(to_at, &to, write_at)?;
    Ok(done)
}

fn is_pipe(open: &OpenFile) -> Result<bool> {
    Ok(open.file().stat()?.kind == Kind::Fifo)
}

/// Moves bytes between a pipe and a file (or another pipe): once as much as is there, as Linux does.
pub fn splice(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [from, from_at, to, to_at, len, flags] = *args;
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let (from, to) = (usable(ctx, from)?, usable(ctx, to)?);
    if !from.readable() || !to.writable() {
        return Err(Errno::EBADF);
    }
    let (from_pipe, to_pipe) = (is_pipe(&from)?, is_pipe(&to)?);
    match (from_pipe, to_pipe) {
        (false, false) => return Err(Errno::EINVAL),
        (true, _) if from_at != 0 => return Err(Errno::ESPIPE),
        (_, true) if to_at != 0 => return Err(Errno::ESPIPE),
        (true, true) if Arc::ptr_eq(from.file(), to.file()) => return Err(Errno::EINVAL),
        (true, false) if to.flags() & O_APPEND != 0 || to_at != 0 && !to.file().seekable() => {
            return Err(Errno::EINVAL);
        }
        (false, true) if from_at != 0 && !from.file().seekable() => return Err(Errno::EINVAL),
        _ => {}
    }
    let mut buffer = alloc::vec![0u8; (len as usize).min(CHUNK)];
    let read_at = if from_at != 0 { Some(offset(user::read(from_at)?)?) } else { None };
    let write_at = if to_at != 0 { Some(offset(user::read(to_at)?)?) } else { None };
    let n = user::with_kernel_writer(&mut buffer, |writer| match read_at {
        Some(at) => from.read_at(at, writer),
        None if flags & u64::from(SPLICE_F_NONBLOCK) != 0 => from.read(writer),
        None => read_stream(&from, writer),
    })?;
    let written = user::with_kernel_reader(&buffer[..n], |reader| match write_at {
        Some(at) => to.write_at(at, reader),
        None => write_stream(&to, reader),
    });
    let written = match written {
        Ok(written) => written,
        Err(errno) => {
            give_back(&from, read_at, n);
            return Err(errno);
        }
    };
    give_back(&from, read_at, n - written);
    if let Some(at) = read_at {
        user::write(from_at, &(at + written as u64))?;
    }
    if let Some(at) = write_at {
        user::write(to_at, &(at + written as u64))?;
    }
    Ok(written)
}

/// A file whose bytes found no place was not read that far.
fn give_back(from: &OpenFile, read_at: Option<u64>, bytes: usize) {
    if read_at.is_none() && from.file().seekable() {
        from.set_offset(from.offset() - bytes as u64);
    }
}

/// The program's memory to a pipe, or a pipe to the program's memory.
pub fn vmsplice(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let open = usable(ctx, args[0])?;
    match () {
        _ if !is_pipe(&open)? => Err(Errno::EBADF),
        _ if open.writable() => transfer::writev(ctx, args),
        _ => transfer::readv(ctx, args),
    }
}

/// Copies from pipe to pipe what stays in the first.
pub fn tee(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [from, to, len, flags, ..] = *args;
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let (from, to) = (usable(ctx, from)?, usable(ctx, to)?);
    if !from.readable() || !to.writable() {
        return Err(Errno::EBADF);
    }
    let source = from.file().downcast::<pipe::End>().ok_or(Errno::EINVAL)?;
    let target = to.file().downcast::<pipe::End>().ok_or(Errno::EINVAL)?;
    let len = len.min(MOST as u64) as usize;
    let attempt = || pipe::tee(source, target, len);
    let waits = flags & u64::from(SPLICE_F_NONBLOCK) == 0 && !from.nonblocking() && !to.nonblocking();
    match attempt() {
        Err(Errno::EAGAIN) if waits => {
            let queues: Vec<_> = [from.file().queue(), to.file().write_queue()].into_iter().flatten().collect();
            sched::block_on(&queues, None, || match attempt() {
                Err(Errno::EAGAIN) => None,
                other => Some(other),
            })?
        }
        other => other,
    }
}
