//! What travels through sockets besides bytes, and how it is handed over.
use crate::fs::file::OpenFile;
use crate::user::{Reader, Writer};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A socket address as programs give and get it (`struct sockaddr_*`), family included.
pub type Name = Vec<u8>;

/// Who sent something (`struct ucred`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct Credentials {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Credentials {
    /// What stands for "nobody known" (`SO_PEERCRED` of a socket without a peer).
    pub const UNKNOWN: Credentials = Credentials { pid: 0, uid: u32::MAX, gid: u32::MAX };
}

/// What a packet's header says besides addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketHeader {
    /// Hop limit (IPv6) or time to live (IPv4).
    pub hop_limit: Option<u8>,
    /// Traffic class (IPv6) or type of service (IPv4).
    pub traffic_class: Option<u8>,
}

/// What goes with the first byte of a message.
#[derive(Clone, Default)]
pub struct Ancillary {
    pub rights: Vec<Arc<OpenFile>>,
    pub credentials: Option<Credentials>,
    pub header: PacketHeader,
}

/// A message on its way in.
pub struct Outgoing<'a, 'b> {
    pub data: &'a mut Reader<'b>,
    /// Destination, where one was given.
    pub to: Option<&'a [u8]>,
    /// Taken once the first byte has been accepted.
    pub ancillary: &'a mut Ancillary,
    /// `MSG_*`.
    pub flags: u32,
}

/// Where a message goes out to.
pub struct Incoming<'a, 'b> {
    pub data: &'a mut Writer<'b>,
    pub peek: bool,
    /// Only the urgent byte (MSG_OOB).
    pub urgent: bool,
    /// TCP: the bytes are thrown away instead of handed out (MSG_TRUNC).
    pub discard: bool,
    /// The caller will not wait: a datagram socket that is shut down then answers EAGAIN instead of an end.
    pub nonblocking: bool,
}

/// What was received.
#[derive(Default)]
pub struct Received {
    /// Bytes handed out.
    pub len: usize,
    /// Bytes of the whole message, where it did not fit.
    pub full_len: usize,
    pub from: Option<Name>,
    pub ancillary: Ancillary,
    /// The end of a record (sequenced packets).
    pub end_of_record: bool,
    /// Where the message was sent to (`IP_PKTINFO`).
    pub sent_to: Option<Name>,
}

impl<'a, 'b> Incoming<'a, 'b> {
    /// A plain read.
    pub fn plain(data: &'a mut Writer<'b>) -> Incoming<'a, 'b> {
        Incoming { data, peek: false, urgent: false, discard: false, nonblocking: false }
    }
}

impl Received {
    /// A part of the message was lost because it did not fit.
    pub fn truncated(&self) -> bool {
        self.full_len > self.len
    }
}
