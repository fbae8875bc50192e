//! Sending and receiving on sockets.
use super::socket::{Patience, find, read_name, until_ready, write_name};
use super::wait::Deadline;
use super::{Context, control, transfer};
use crate::errno::{Errno, Result};
use crate::fs::OpenFile;
use crate::ipc::socket::protocol::IPPROTO_TCP;
use crate::ipc::socket::{Ancillary, Endpoint, Incoming, Name, Outgoing, Received};
use crate::signal;
use crate::user::{self, IoVec, Reader, Writer};
use alloc::vec::Vec;
use linux_raw_sys::general::SIGPIPE;
use linux_raw_sys::net::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct msghdr`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Header {
    name: u64,
    name_len: u32,
    padding: u32,
    parts: u64,
    part_count: u64,
    control: u64,
    control_len: u64,
    flags: u32,
    padding2: u32,
}

/// Wait for the first message only.
const MSG_WAITFORONE: u32 = 0x10000;
/// Bytes of `struct mmsghdr`, and where its length is.
const MMSG_LEN: u64 = 64;
const MMSG_COUNT_AT: u64 = 56;
/// Most messages of one call, most parts of one message.
const BATCH_MAX: u32 = 1024;
const PARTS_MAX: u64 = 1024;
const NAME_MAX: u32 = 128;

/// The parts of a message's bytes.
fn read_parts(header: &Header) -> Result<Vec<IoVec>> {
    if header.part_count > PARTS_MAX { Err(Errno::EMSGSIZE) } else { transfer::parts(header.parts, header.part_count) }
}

fn patience(open: &OpenFile, flags: u32, limit_ns: Option<u64>) -> Patience {
    if open.nonblocking() || flags & MSG_DONTWAIT != 0 { Patience::None } else { Patience::Limit(limit_ns) }
}

/// Sends one message; on a stream that may wait, all of it.
fn send(
    open: &OpenFile,
    endpoint: &dyn Endpoint,
    data: &mut Reader<'_>,
    to: Option<&[u8]>,
    mut ancillary: Ancillary,
    flags: u32,
) -> Result<usize> {
    let limit = endpoint.common().options.lock().send_timeout_ns;
    let patience = patience(open, flags, limit);
    let stream = endpoint.kind() == SOCK_STREAM;
    let mut done = 0;
    loop {
        let sent =
            until_ready(endpoint, patience, || endpoint.send(Outgoing { data, to, ancillary: &mut ancillary, flags }));
        match sent {
            Ok(len) => done += len,
            Err(_) if done > 0 => return Ok(done),
            Err(errno) => {
                if errno == Errno::EPIPE && stream && flags & MSG_NOSIGNAL == 0 {
                    signal::send_self(SIGPIPE);
                }
                return Err(errno);
            }
        }
        if !stream || data.remaining() == 0 || matches!(patience, Patience::None) {
            return Ok(done);
        }
    }
}

/// Receives one message; with MSG_WAITALL on a stream, as much as there is room for.
fn receive(open: &OpenFile, endpoint: &dyn Endpoint, data: &mut Writer<'_>, flags: u32) -> Result<Received> {
    if flags & MSG_ERRQUEUE != 0 {
        return Err(Errno::EAGAIN);
    }
    let peek = flags & MSG_PEEK != 0;
    if flags & MSG_OOB != 0 {
        return match endpoint.protocol() {
            IPPROTO_TCP => endpoint.receive(Incoming { peek, urgent: true, ..Incoming::plain(data) }),
            _ if endpoint.kind() == SOCK_STREAM => Err(Errno::EINVAL),
            _ => Err(Errno::EOPNOTSUPP),
        };
    }
    let limit = endpoint.common().options.lock().receive_timeout_ns;
    let patience = patience(open, flags, limit);
    let discard = flags & MSG_TRUNC != 0 && endpoint.protocol() == IPPROTO_TCP;
    let nonblocking = matches!(patience, Patience::None);
    let mut all: Option<Received> = None;
    loop {
        let received = until_ready(endpoint, patience, || {
            endpoint.receive(Incoming { data, peek, urgent: false, discard, nonblocking })
        });
        let more = match (received, &mut all) {
            (Err(errno), None) => return Err(errno),
            (Err(_), Some(_)) => false,
            (Ok(first), None) => {
                let more = first.len > 0;
                all = Some(first);
                more
            }
            (Ok(next), Some(all)) => {
                all.len += next.len;
                all.full_len += next.len;
                all.ancillary.rights.extend(next.ancillary.rights);
                next.len > 0
            }
        };
        let complete = flags & MSG_WAITALL == 0 || peek || endpoint.kind() != SOCK_STREAM || data.remaining() == 0;
        let has_rights = all.as_ref().is_some_and(|all| !all.ancillary.rights.is_empty());
        if complete || !more || has_rights || matches!(patience, Patience::None) {
            return Ok(all.unwrap_or_default());
        }
    }
}

/// What the call's result counts: MSG_TRUNC asks for the length of the whole message.
fn counted(endpoint: &dyn Endpoint, received: &Received, flags: u32) -> usize {
    let whole = flags & MSG_TRUNC != 0 && endpoint.kind() != SOCK_STREAM;
    if whole { received.full_len } else { received.len }
}

pub fn sendto(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, data, len, flags, name_at, name_len] = *args;
    let (open, endpoint) = find(ctx, descriptor)?;
    let to = if name_at == 0 { None } else { Some(read_name(name_at, name_len)?) };
    let parts = transfer::one(data, len);
    send(&open, &*endpoint, &mut Reader::new(&parts), to.as_deref(), Ancillary::default(), flags as u32)
}

pub fn recvfrom(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, data, len, flags, name_at, len_at] = *args;
    let flags = flags as u32;
    let (open, endpoint) = find(ctx, descriptor)?;
    let parts = transfer::one(data, len);
    let received = receive(&open, &*endpoint, &mut Writer::new(&parts), flags)?;
    if name_at != 0 {
        write_name(received.from.as_deref().unwrap_or_default(), name_at, len_at)?;
    }
    Ok(counted(&*endpoint, &received, flags))
}

fn send_message(ctx: &Context<'_>, open: &OpenFile, endpoint: &dyn Endpoint, at: u64, flags: u32) -> Result<usize> {
    let header: Header = user::read(at)?;
    let parts = read_parts(&header)?;
    let to: Option<Name> = match (header.name, header.name_len) {
        (0, _) | (_, 0) => None,
        (_, len) if len as i32 <= 0 => return Err(Errno::EINVAL),
        (name, len) => Some(read_name(name, len.min(NAME_MAX).into())?),
    };
    let ancillary = match header.control_len {
        0 => Ancillary::default(),
        len => control::parse(ctx, endpoint.domain(), header.control, len)?,
    };
    send(open, endpoint, &mut Reader::new(&parts), to.as_deref(), ancillary, flags)
}

fn receive_message(ctx: &Context<'_>, open: &OpenFile, endpoint: &dyn Endpoint, at: u64, flags: u32) -> Result<usize> {
    let mut header: Header = user::read(at)?;
    if (header.name_len as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let parts = read_parts(&header)?;
    let mut received = receive(open, endpoint, &mut Writer::new(&parts), flags)?;
    if header.name != 0 {
        let name = received.from.as_deref().unwrap_or_default();
        user::copy_out(header.name, &name[..name.len().min(header.name_len as usize)])?;
        header.name_len = name.len() as u32;
    }
    let close_on_exec = flags & MSG_CMSG_CLOEXEC != 0;
    let options = endpoint.common().options.lock().clone();
    let room = if header.control == 0 { 0 } else { header.control_len.min(u64::from(u32::MAX)) as usize };
    let (control, control_cut) = control::build(ctx, &mut received, &options, room, close_on_exec);
    user::copy_out(header.control, &control)?;
    header.control_len = control.len() as u64;
    header.flags = flags & MSG_CMSG_CLOEXEC;
    if received.truncated() {
        header.flags |= MSG_TRUNC;
    }
    if control_cut {
        header.flags |= MSG_CTRUNC;
    }
    user::write(at, &header)?;
    Ok(counted(endpoint, &received, flags))
}

pub fn sendmsg(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (open, endpoint) = find(ctx, args[0])?;
    send_message(ctx, &open, &*endpoint, args[1], args[2] as u32)
}

pub fn recvmsg(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (open, endpoint) = find(ctx, args[0])?;
    receive_message(ctx, &open, &*endpoint, args[1], args[2] as u32)
}

/// Handles messages one after the other: how many, or the error of the first.
fn batch(array: u64, count: u64, mut one: impl FnMut(u64, u32) -> Result<usize>) -> Result<usize> {
    let count = (count as u32).min(BATCH_MAX);
    for done in 0..count {
        let at = array + u64::from(done) * MMSG_LEN;
        let len = match one(at, done) {
            Ok(len) => len,
            Err(errno) => return if done == 0 { Err(errno) } else { Ok(done as usize) },
        };
        user::write(at + MMSG_COUNT_AT, &(len as u32))?;
    }
    Ok(count as usize)
}

pub fn sendmmsg(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, array, count, flags, ..] = *args;
    let (open, endpoint) = find(ctx, descriptor)?;
    batch(array, count, |at, _| send_message(ctx, &open, &*endpoint, at, flags as u32))
}

pub fn recvmmsg(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, array, count, flags, timeout_at, _] = *args;
    let flags = flags as u32;
    let deadline = Deadline::from_timespec(timeout_at)?;
    let (open, endpoint) = find(ctx, descriptor)?;
    let result = batch(array, count, |at, done| {
        // As on Linux, the time is looked at between messages only.
        if done > 0 && deadline.has_passed() {
            return Err(Errno::EAGAIN);
        }
        let wait_no_more = done > 0 && flags & MSG_WAITFORONE != 0;
        let flags = if wait_no_more { flags | MSG_DONTWAIT } else { flags };
        receive_message(ctx, &open, &*endpoint, at, flags & !MSG_WAITFORONE)
    });
    deadline.write_timespec(timeout_at);
    result
}
