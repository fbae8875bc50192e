//! AF_UNIX.
mod datagram;
mod name;
mod path;
mod stream;

pub use datagram::UnixDatagram;
pub use stream::UnixStream;

use super::{Common, Credentials, Endpoint};
use crate::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::net::{AF_UNIX, SO_PEERCRED, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET};
use zerocopy::IntoBytes;

/// `socket(AF_UNIX, ...)`.
pub fn create(kind: u32, protocol: u32) -> Result<Arc<dyn Endpoint>> {
    check_protocol(protocol)?;
    match kind {
        SOCK_STREAM | SOCK_SEQPACKET => Ok(UnixStream::new(kind)),
        SOCK_DGRAM | SOCK_RAW => Ok(UnixDatagram::new()),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// `socketpair(AF_UNIX, ...)`.
pub fn pair(kind: u32, protocol: u32) -> Result<(Arc<dyn Endpoint>, Arc<dyn Endpoint>)> {
    check_protocol(protocol)?;
    match kind {
        SOCK_STREAM | SOCK_SEQPACKET => {
            let (a, b) = (UnixStream::new(kind), UnixStream::new(kind));
            UnixStream::join(&a, &b);
            Ok((a, b))
        }
        SOCK_DGRAM | SOCK_RAW => {
            let (a, b) = (UnixDatagram::new(), UnixDatagram::new());
            UnixDatagram::join(&a, &b);
            Ok((a, b))
        }
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

fn check_protocol(protocol: u32) -> Result<()> {
    if protocol != 0 && protocol != AF_UNIX { Err(Errno::EPROTONOSUPPORT) } else { Ok(()) }
}

/// Unix sockets have options of the socket level only.
fn check_level(level: u32) -> Result<()> {
    if level == SOL_SOCKET { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

fn get_option(level: u32, name: u32, peer: Credentials) -> Option<Result<Vec<u8>>> {
    ((level, name) == (SOL_SOCKET, SO_PEERCRED)).then(|| Ok(peer.as_bytes().to_vec()))
}

/// Options of a fresh unix socket.
fn fresh_common() -> Common {
    Common::new(super::options::Options::default())
}

#[cfg(test)]
mod tests;
