//! Sockets: unix(7), and tcp(7) and udp(7) over the guest's own loopback.
//!
//! A [`Socket`] is the open file; behind it stands an [`Endpoint`], one type per protocol. Endpoints know each other (by
//! weak references) and hand bytes straight into each other's [`inbox`]; there are no packets. No endpoint blocks: the
//! system call waits on the endpoint's queue and tries again. Two endpoints are never locked at once.
mod bytes;
pub(crate) mod caller;
mod common;
mod conduit;
mod inbox;
pub mod inet;
mod listener;
pub mod message;
pub mod netlink;
pub mod options;
pub mod protocol;
pub mod unix;
mod urgent;

pub use common::Common;
pub use message::{Ancillary, Credentials, Incoming, Name, Outgoing, Received};

use crate::errno::{Errno, Result};
use crate::fs::file::{File, OpenFile, PollEvents};
use crate::fs::stat::Stat;
use crate::ipc::{READABLE, WRITABLE};
use crate::sched::wait::WaitQueue;
use crate::user::{self, Reader, Writer};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general::{O_NONBLOCK, O_RDWR};
use linux_raw_sys::ioctl::{FIONREAD, SIOCATMARK, TIOCOUTQ};
use linux_raw_sys::net::SOCK_STREAM;

/// Which directions `shutdown` ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    pub receive: bool,
    pub send: bool,
}

/// What a protocol does. Calls that would have to wait answer EAGAIN.
pub trait Endpoint: Send + Sync {
    fn common(&self) -> &Common;
    /// `AF_*`.
    fn domain(&self) -> u32;
    /// `SOCK_*`.
    fn kind(&self) -> u32;
    /// `IPPROTO_*`, as SO_PROTOCOL gives it.
    fn protocol(&self) -> u32;

    fn bind(&self, name: &[u8]) -> Result<()>;

    /// Begins or goes on to connect. EAGAIN: wait and call again with `again`. `nonblocking` matters where Linux answers
    /// EINPROGRESS although the connection is made at once.
    fn connect(&self, name: &[u8], nonblocking: bool, again: bool) -> Result<()>;

    fn listen(&self, backlog: i32) -> Result<()> {
        let _ = backlog;
        Err(Errno::EOPNOTSUPP)
    }

    fn accept(&self) -> Result<Arc<dyn Endpoint>> {
        Err(Errno::EOPNOTSUPP)
    }

    fn is_listening(&self) -> bool {
        false
    }

    fn shutdown(&self, how: Shutdown) -> Result<()>;

    /// `getsockname`.
    fn local_name(&self) -> Name;
    /// `getpeername`; ENOTCONN.
    fn peer_name(&self) -> Result<Name>;

    fn send(&self, message: Outgoing<'_, '_>) -> Result<usize>;
    fn receive(&self, into: Incoming<'_, '_>) -> Result<Received>;
    fn poll(&self) -> PollEvents;

    /// Bytes that the next read would find (FIONREAD).
    fn readable_bytes(&self) -> Result<usize>;

    /// Whether a read stands at the urgent mark (SIOCATMARK).
    fn is_at_mark(&self) -> bool {
        false
    }

    /// Options beyond those that all sockets share; `None`: not one of its own.
    fn get_option(&self, level: u32, name: u32) -> Option<Result<Vec<u8>>> {
        let _ = (level, name);
        None
    }

    /// Whether options of this level exist for it at all.
    fn check_level(&self, level: u32) -> Result<()>;

    /// The last descriptor has gone.
    fn close(&self);
}

/// A socket as a file.
pub struct Socket {
    endpoint: Arc<dyn Endpoint>,
}

impl Socket {
    /// An open file for the endpoint; `flags`: O_NONBLOCK.
    pub fn open(endpoint: Arc<dyn Endpoint>, flags: u32) -> Arc<OpenFile> {
        OpenFile::new(Arc::new(Socket { endpoint }), O_RDWR | flags & O_NONBLOCK)
    }

    pub fn endpoint(&self) -> &Arc<dyn Endpoint> {
        &self.endpoint
    }

    /// The endpoint behind an open file; ENOTSOCK.
    pub fn of(open: &OpenFile) -> Result<Arc<dyn Endpoint>> {
        let socket = open.file().downcast::<Socket>().ok_or(Errno::ENOTSOCK)?;
        Ok(socket.endpoint.clone())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.endpoint.close();
    }
}

impl File for Socket {
    fn read(&self, open: &OpenFile, _offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let into = Incoming { nonblocking: open.nonblocking(), ..Incoming::plain(to) };
        self.endpoint.receive(into).map(|received| received.len)
    }

    fn write(&self, _open: &OpenFile, _offset: u64, from: &mut Reader<'_>) -> Result<usize> {
        let mut ancillary = Ancillary::default();
        let sent = self.endpoint.send(Outgoing { data: from, to: None, ancillary: &mut ancillary, flags: 0 });
        match sent {
            Err(Errno::EPIPE) if self.endpoint.kind() == SOCK_STREAM => Err(super::broken_pipe()),
            result => result,
        }
    }

    fn poll(&self) -> PollEvents {
        self.endpoint.poll()
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.endpoint.common().queue)
    }

    fn wait_limit_ns(&self, for_write: bool) -> Option<u64> {
        let options = self.endpoint.common().options.lock();
        if for_write { options.send_timeout_ns } else { options.receive_timeout_ns }
    }

    fn stat(&self) -> Result<Stat> {
        Ok(self.endpoint.common().identity.stat())
    }

    fn set_mode(&self, mode: u32) -> Result<()> {
        self.endpoint.common().identity.set_mode(mode)
    }

    fn ioctl(&self, _open: &OpenFile, request: u32, argument: u64) -> Result<usize> {
        let value = match request {
            FIONREAD => self.endpoint.readable_bytes()? as i32,
            // Bytes that the other side has not got yet: they arrive as they are sent.
            TIOCOUTQ => 0,
            SIOCATMARK => self.endpoint.is_at_mark().into(),
            _ => return inet::interface::ioctl(request, argument),
        };
        user::write(argument, &value)?;
        Ok(0)
    }

    fn path(&self) -> Vec<u8> {
        format!("socket:[{}]", self.endpoint.common().identity.inode).into_bytes()
    }
}
