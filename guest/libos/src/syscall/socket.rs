//! Sockets: making, naming, connecting them, and their options. What sends and receives is in `message`.
use super::Context;
use super::pipe::install_pair;
use crate::errno::{Errno, Result};
use crate::fs::OpenFile;
use crate::ipc::socket::netlink::AF_NETLINK;
use crate::ipc::socket::options::integer;
use crate::ipc::socket::protocol::IPPROTO_IPV6;
use crate::ipc::socket::{Credentials, Endpoint, Name, Shutdown, Socket, inet, netlink, unix};
use crate::sched;
use crate::time;
use crate::user;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use linux_raw_sys::general::{O_CLOEXEC, O_NONBLOCK};
use linux_raw_sys::net::*;
use zerocopy::IntoBytes;

const AF_MAX: u32 = 46;
/// Bits of a `socket` type that are the type, and the first value that is none.
const TYPE_MASK: u32 = 0xf;
const SOCK_MAX: u32 = 11;
/// Bytes of the largest socket address.
const NAME_MAX: usize = 128;
/// Bytes of the largest option that is looked at.
const OPTION_MAX: usize = 4096;

/// Splits a type argument into the type and O_CLOEXEC, O_NONBLOCK.
fn kind_and_flags(argument: u64) -> Result<(u32, u32)> {
    let argument = argument as u32;
    let (kind, flags) = (argument & TYPE_MASK, argument & !TYPE_MASK);
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 { Err(Errno::EINVAL) } else { Ok((kind, flags)) }
}

pub fn socket(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (domain, protocol) = (args[0] as u32, args[2] as u32);
    let (kind, flags) = kind_and_flags(args[1])?;
    let endpoint: Arc<dyn Endpoint> = match domain {
        AF_MAX.. => return Err(Errno::EAFNOSUPPORT),
        _ if kind >= SOCK_MAX => return Err(Errno::EINVAL),
        AF_UNIX => unix::create(kind, protocol)?,
        AF_INET | AF_INET6 => inet::create(domain, kind, protocol)?,
        AF_NETLINK => netlink::create(kind, protocol)?,
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    let open = Socket::open(endpoint, flags);
    ctx.files().install(open, flags & O_CLOEXEC != 0).map(|descriptor| descriptor as usize)
}

pub fn socketpair(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (domain, protocol) = (args[0] as u32, args[2] as u32);
    let (kind, flags) = kind_and_flags(args[1])?;
    let (first, second) = match domain {
        AF_UNIX => unix::pair(kind, protocol)?,
        AF_INET | AF_INET6 => return inet::create(domain, kind, protocol).and(Err(Errno::EOPNOTSUPP)),
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    let (first, second) = (Socket::open(first, flags), Socket::open(second, flags));
    install_pair(ctx, first, second, flags & O_CLOEXEC != 0, |one, two| user::write(args[3], &[one, two]))
}

/// The open file and the endpoint behind a descriptor: EBADF, ENOTSOCK.
pub(super) fn find(ctx: &Context<'_>, descriptor: u64) -> Result<(Arc<OpenFile>, Arc<dyn Endpoint>)> {
    let open = ctx.files().get_usable(descriptor as i32)?;
    let endpoint = Socket::of(&open)?;
    Ok((open, endpoint))
}

/// A socket address argument.
pub(super) fn read_name(address: u64, len: u64) -> Result<Name> {
    let len = usize::try_from(len as i32).ok().filter(|len| *len <= NAME_MAX).ok_or(Errno::EINVAL)?;
    let mut name = vec![0; len];
    user::copy_in(&mut name, address)?;
    Ok(name)
}

/// Tells a socket address: as much as the program has room for, and how long it is.
pub(super) fn write_name(name: &[u8], address: u64, len_at: u64) -> Result<()> {
    let room = usize::try_from(user::read::<i32>(len_at)?).map_err(|_| Errno::EINVAL)?;
    user::copy_out(address, &name[..name.len().min(room)])?;
    user::write(len_at, &(name.len() as i32))
}

/// How long a call may wait.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    /// EAGAIN at once.
    None,
    /// For ever, or for so many ns (SO_RCVTIMEO, SO_SNDTIMEO).
    Limit(Option<u64>),
}

/// Tries until there is an answer other than EAGAIN, as far as patience allows.
pub(super) fn until_ready<T>(
    endpoint: &dyn Endpoint,
    patience: Patience,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let first = attempt();
    let (Err(Errno::EAGAIN), Patience::Limit(limit)) = (&first, patience) else { return first };
    let deadline = limit.map(|ns| time::monotonic_ns().saturating_add(ns));
    let waited = sched::block_on(&[&endpoint.common().queue], deadline, || match attempt() {
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

fn receive_patience(open: &OpenFile, endpoint: &dyn Endpoint) -> Patience {
    match open.nonblocking() {
        true => Patience::None,
        false => Patience::Limit(endpoint.common().options.lock().receive_timeout_ns),
    }
}

pub fn bind(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (_, endpoint) = find(ctx, args[0])?;
    let name = read_name(args[1], args[2])?;
    endpoint.bind(&name).map(|()| 0)
}

pub fn listen(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (_, endpoint) = find(ctx, args[0])?;
    endpoint.listen(args[1] as i32).map(|()| 0)
}

pub fn accept(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    accept4(ctx, &[args[0], args[1], args[2], 0, 0, 0])
}

pub fn accept4(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, name_at, len_at, flags, ..] = *args;
    let flags = flags as u32;
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let (open, endpoint) = find(ctx, descriptor)?;
    ctx.files().check_room()?;
    let patience = receive_patience(&open, &*endpoint);
    let connection = until_ready(&*endpoint, patience, || endpoint.accept())?;
    let name = connection.peer_name();
    let accepted = Socket::open(connection, flags);
    if name_at != 0 {
        write_name(&name.map_err(|_| Errno::ECONNABORTED)?, name_at, len_at)?;
    }
    ctx.files().install(accepted, flags & O_CLOEXEC != 0).map(|descriptor| descriptor as usize)
}

pub fn connect(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (open, endpoint) = find(ctx, args[0])?;
    let name = read_name(args[1], args[2])?;
    let nonblocking = open.nonblocking();
    let patience = match nonblocking {
        true => Patience::None,
        false => Patience::Limit(endpoint.common().options.lock().send_timeout_ns),
    };
    let mut again = false;
    let result = until_ready(&*endpoint, patience, || {
        let result = endpoint.connect(&name, nonblocking, again);
        again = true;
        result
    });
    match result {
        Err(Errno::EAGAIN) if endpoint.domain() != AF_UNIX => Err(Errno::EINPROGRESS),
        result => result.map(|()| 0),
    }
}

pub fn shutdown(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (_, endpoint) = find(ctx, args[0])?;
    let how = match args[1] as u32 {
        SHUT_RD => Shutdown { receive: true, send: false },
        SHUT_WR => Shutdown { receive: false, send: true },
        SHUT_RDWR => Shutdown { receive: true, send: true },
        _ => return Err(Errno::EINVAL),
    };
    endpoint.shutdown(how).map(|()| 0)
}

pub fn getsockname(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (_, endpoint) = find(ctx, args[0])?;
    write_name(&endpoint.local_name(), args[1], args[2]).map(|()| 0)
}

pub fn getpeername(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let (_, endpoint) = find(ctx, args[0])?;
    write_name(&endpoint.peer_name()?, args[1], args[2]).map(|()| 0)
}

/// Options of the socket level that can only be asked.
const ASK_ONLY: [u32; 8] =
    [SO_ERROR, SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN, SO_PEERCRED, SO_COOKIE, SO_SNDLOWAT];

pub fn setsockopt(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, level, name, value_at, len, _] = *args;
    let (level, name) = (level as u32, name as u32);
    let (_, endpoint) = find(ctx, descriptor)?;
    let len = usize::try_from(len as i32).map_err(|_| Errno::EINVAL)?;
    let mut value = vec![0; len.min(OPTION_MAX)];
    user::copy_in(&mut value, value_at)?;
    endpoint.check_level(level)?;
    if level == SOL_SOCKET && ASK_ONLY.contains(&name) {
        return Err(Errno::ENOPROTOOPT);
    }
    if (level, name) == (IPPROTO_IPV6, IPV6_V6ONLY) {
        integer(&value)?;
        if endpoint.local_name() != inet::address::Address::any(endpoint.domain()).to_name(endpoint.domain()) {
            return Err(Errno::EINVAL);
        }
    }
    endpoint.common().options.lock().set(level, name, &value).map(|()| 0)
}

fn option(endpoint: &dyn Endpoint, level: u32, name: u32) -> Result<Vec<u8>> {
    // IPv4 has another errno for questions at a level that is not its own than for orders.
    let foreign = |errno| if endpoint.domain() == AF_INET { Errno::EOPNOTSUPP } else { errno };
    endpoint.check_level(level).map_err(foreign)?;
    if let Some(own) = endpoint.get_option(level, name) {
        return own;
    }
    let number = match (level, name) {
        (SOL_SOCKET, SO_ERROR) => endpoint.common().take_error_number(),
        (SOL_SOCKET, SO_TYPE) => endpoint.kind() as i32,
        (SOL_SOCKET, SO_DOMAIN) => endpoint.domain() as i32,
        (SOL_SOCKET, SO_PROTOCOL) => endpoint.protocol() as i32,
        (SOL_SOCKET, SO_ACCEPTCONN) => endpoint.is_listening().into(),
        (SOL_SOCKET, SO_COOKIE) => return Ok(endpoint.common().identity.inode.to_ne_bytes().to_vec()),
        (SOL_SOCKET, SO_PEERCRED) => return Ok(Credentials::UNKNOWN.as_bytes().to_vec()),
        _ => return endpoint.common().options.lock().get(level, name),
    };
    Ok(number.to_ne_bytes().to_vec())
}

pub fn getsockopt(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, level, name, value_at, len_at, _] = *args;
    let (_, endpoint) = find(ctx, descriptor)?;
    let room = usize::try_from(user::read::<i32>(len_at)?).map_err(|_| Errno::EINVAL)?;
    let value = option(&*endpoint, level as u32, name as u32)?;
    let len = value.len().min(room);
    user::copy_out(value_at, &value[..len])?;
    user::write(len_at, &(len as i32)).map(|()| 0)
}
