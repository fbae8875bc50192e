//! AF_NETLINK, as far as programs ask it which interfaces and addresses there are (rtnetlink(7): `getifaddrs`, resolvers).
//! The answer is always the loopback.
use super::inbox::Inbox;
use super::inet::interface::{FLAGS, HARDWARE, INDEX, MTU, NAME};
use super::message::Ancillary;
use super::options::Options;
use super::{Common, Endpoint, Incoming, Name, Outgoing, Received, Shutdown, caller};
use crate::errno::{Errno, Result};
use crate::fs::file::PollEvents;
use crate::ipc::READABLE;
use crate::sync::Mutex;
use crate::user;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use linux_raw_sys::net::{AF_INET, AF_INET6, AF_UNSPEC, SOCK_DGRAM, SOCK_RAW, SOL_SOCKET};

pub const AF_NETLINK: u32 = 16;
const NETLINK_ROUTE: u32 = 0;
const SOL_NETLINK: u32 = 270;
/// Bytes of `struct sockaddr_nl` and of `struct nlmsghdr`.
const NAME_LEN: usize = 12;
const HEADER_LEN: usize = 16;
/// Longest request that is read.
const REQUEST_MAX: usize = 4096;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_MULTI: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_BROADCAST: u16 = 2;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_F_PERMANENT: u8 = 0x80;
const RT_SCOPE_HOST: u8 = 254;

pub struct Netlink {
    kind: u32,
    common: Common,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    port: u32,
    inbox: Inbox,
}

/// `socket(AF_NETLINK, ...)`.
pub fn create(kind: u32, protocol: u32) -> Result<Arc<dyn Endpoint>> {
    match kind {
        SOCK_RAW | SOCK_DGRAM if protocol == NETLINK_ROUTE => {
            Ok(Arc::new(Netlink { kind, common: Common::new(Options::default()), state: Mutex::default() }))
        }
        SOCK_RAW | SOCK_DGRAM => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

fn name(port: u32) -> Name {
    let mut name = (AF_NETLINK as u16).to_ne_bytes().to_vec();
    name.extend_from_slice(&[0; 2]);
    name.extend_from_slice(&port.to_ne_bytes());
    name.resize(NAME_LEN, 0);
    name
}

/// A request's header fields that answers repeat.
#[derive(Clone, Copy)]
struct Request {
    kind: u16,
    sequence: u32,
    /// First byte after the header: the address family asked for.
    family: u32,
}

fn parse(bytes: &[u8]) -> Option<Request> {
    let short = |at: usize| Some(u16::from_ne_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let sequence = bytes.get(8..12)?.try_into().ok().map(u32::from_ne_bytes)?;
    Some(Request { kind: short(4)?, sequence, family: bytes.get(HEADER_LEN).copied().unwrap_or(0).into() })
}

/// Appends a message with its header.
fn append(to: &mut Vec<u8>, request: Request, port: u32, kind: u16, flags: u16, body: &[u8]) {
    to.extend_from_slice(&((HEADER_LEN + body.len()) as u32).to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(&flags.to_ne_bytes());
    to.extend_from_slice(&request.sequence.to_ne_bytes());
    to.extend_from_slice(&port.to_ne_bytes());
    to.extend_from_slice(body);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    to.extend_from_slice(&((4 + value.len()) as u16).to_ne_bytes());
    to.extend_from_slice(&kind.to_ne_bytes());
    to.extend_from_slice(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn name_with_nul() -> Vec<u8> {
    [NAME, &[0]].concat()
}

/// `struct ifinfomsg` and its attributes.
fn link() -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend_from_slice(&HARDWARE.to_ne_bytes());
    body.extend_from_slice(&INDEX.to_ne_bytes());
    body.extend_from_slice(&FLAGS.to_ne_bytes());
    body.extend_from_slice(&[0; 4]);
    attribute(&mut body, IFLA_IFNAME, &name_with_nul());
    attribute(&mut body, IFLA_MTU, &MTU.to_ne_bytes());
    attribute(&mut body, IFLA_ADDRESS, &[0; 6]);
    attribute(&mut body, IFLA_BROADCAST, &[0; 6]);
    body
}

/// `struct ifaddrmsg` and its attributes.
fn address(family: u32, prefix: u8, ip: &[u8]) -> Vec<u8> {
    let mut body = vec![family as u8, prefix, IFA_F_PERMANENT, RT_SCOPE_HOST];
    body.extend_from_slice(&INDEX.to_ne_bytes());
    attribute(&mut body, IFA_ADDRESS, ip);
    if family == AF_INET {
        attribute(&mut body, IFA_LOCAL, ip);
        attribute(&mut body, IFA_LABEL, &name_with_nul());
    }
    body
}

fn answer(request: Request, port: u32) -> Vec<u8> {
    let mut all = Vec::new();
    let wanted = |family| request.family == AF_UNSPEC || request.family == family;
    match request.kind {
        RTM_GETLINK => append(&mut all, request, port, RTM_NEWLINK, NLM_F_MULTI, &link()),
        RTM_GETADDR => {
            if wanted(AF_INET) {
                let body = address(AF_INET, 8, &[127, 0, 0, 1]);
                append(&mut all, request, port, RTM_NEWADDR, NLM_F_MULTI, &body);
            }
            if wanted(AF_INET6) {
                let mut loopback = [0; 16];
                loopback[15] = 1;
                let body = address(AF_INET6, 128, &loopback);
                append(&mut all, request, port, RTM_NEWADDR, NLM_F_MULTI, &body);
            }
        }
        RTM_GETROUTE => {}
        _ => {
            // The error, and the request's header once more.
            let mut body = (-Errno::EOPNOTSUPP.0).to_ne_bytes().to_vec();
            append(&mut body, request, port, request.kind, 0, &[]);
            append(&mut all, request, port, NLMSG_ERROR, 0, &body);
            return all;
        }
    }
    append(&mut all, request, port, NLMSG_DONE, NLM_F_MULTI, &[0; 4]);
    all
}

impl Netlink {
    /// The port of the socket: the program's number, as Linux chooses it first.
    fn port(&self) -> u32 {
        let mut state = self.state.lock();
        if state.port == 0 {
            state.port = caller::credentials().pid;
        }
        state.port
    }
}

impl Endpoint for Netlink {
    fn common(&self) -> &Common {
        &self.common
    }

    fn domain(&self) -> u32 {
        AF_NETLINK
    }

    fn kind(&self) -> u32 {
        self.kind
    }

    fn protocol(&self) -> u32 {
        NETLINK_ROUTE
    }

    fn bind(&self, name: &[u8]) -> Result<()> {
        let port = name.get(4..8).filter(|_| name.len() >= NAME_LEN).ok_or(Errno::EINVAL)?;
        let port = u32::from_ne_bytes([port[0], port[1], port[2], port[3]]);
        self.state.lock().port = if port == 0 { caller::credentials().pid } else { port };
        Ok(())
    }

    fn connect(&self, _name: &[u8], _nonblocking: bool, _again: bool) -> Result<()> {
        self.port();
        Ok(())
    }

    fn shutdown(&self, _how: Shutdown) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    fn local_name(&self) -> Name {
        name(self.state.lock().port)
    }

    fn peer_name(&self) -> Result<Name> {
        Ok(name(0))
    }

    fn send(&self, message: Outgoing<'_, '_>) -> Result<usize> {
        let len = message.data.remaining();
        let mut bytes = vec![0; len.min(REQUEST_MAX)];
        message.data.read(&mut bytes)?;
        let port = self.port();
        if let Some(request) = parse(&bytes) {
            let reply = answer(request, port);
            let mut state = self.state.lock();
            user::with_kernel_reader(&reply, |from| {
                state.inbox.push_message(from, &mut Ancillary::default(), Some(name(0)), None)
            })?;
        }
        self.common.queue.wake_for(READABLE);
        Ok(len)
    }

    fn receive(&self, mut into: Incoming<'_, '_>) -> Result<Received> {
        self.state.lock().inbox.pop_message(&mut into)?.ok_or(Errno::EAGAIN)
    }

    fn poll(&self) -> PollEvents {
        let writable = PollEvents::OUT | PollEvents::WRNORM | PollEvents::WRBAND;
        if self.state.lock().inbox.is_empty() { writable } else { writable | PollEvents::IN | PollEvents::RDNORM }
    }

    fn readable_bytes(&self) -> Result<usize> {
        Ok(self.state.lock().inbox.first_len())
    }

    fn check_level(&self, level: u32) -> Result<()> {
        if matches!(level, SOL_SOCKET | SOL_NETLINK) { Ok(()) } else { Err(Errno::ENOPROTOOPT) }
    }

    fn close(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_says_how_long_it_is() {
        for kind in [RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, 99] {
            let bytes = answer(Request { kind, sequence: 7, family: AF_UNSPEC }, 1);
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let len = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
                assert_eq!(rest[8..12], 7u32.to_ne_bytes());
                rest = &rest[len.next_multiple_of(4)..];
            }
        }
    }

    #[test]
    fn requests_may_be_short() {
        assert!(parse(&[0; 11]).is_none());
        assert_eq!(parse(&[0; 16]).unwrap().family, 0);
    }
}
