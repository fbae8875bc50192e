//! UDP over the loopback. What finds no receiver, or a full one, is lost as on any network; a connected sender hears of the
//! former by ECONNREFUSED at its next call.
use super::address::Address;
use super::listing::Row;
use super::{Bound, Claim, Ports, UDP_LITE_PORTS, UDP_PORTS, bind_address, check_level, destination, is_unspecified};
use crate::errno::{Errno, Result};
use crate::fs::file::PollEvents;
use crate::ipc::READABLE;
use crate::ipc::socket::inbox::Inbox;
use crate::ipc::socket::message::{Ancillary, PacketHeader};
use crate::ipc::socket::options::Options;
use crate::ipc::socket::protocol::{IPPROTO_IP, IPPROTO_IPV6, IPPROTO_UDPLITE};
use crate::ipc::socket::{Common, Endpoint, Incoming, Name, Outgoing, Received, Shutdown};
use crate::sync::Mutex;
use alloc::sync::{Arc, Weak};
use linux_raw_sys::net::{IP_TOS, IP_TTL, IPV6_TCLASS, IPV6_UNICAST_HOPS, MSG_OOB, SOCK_DGRAM};

/// Largest payload: 65535 less the headers.
const PAYLOAD_MAX: usize = 65507;

/// Hop limit where none was chosen.
const HOPS_USUAL: u8 = 64;

pub struct Udp {
    this: Weak<Udp>,
    domain: u32,
    /// UDP or UDP-Lite, which has ports of its own.
    protocol: u32,
    common: Common,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bound: Option<Bound>,
    /// Whom `connect` named.
    remote: Option<Address>,
    inbox: Inbox,
    /// Only tells readers who wait that there is nothing to wait for: what arrives is kept all the same.
    receive_closed: bool,
    closed: bool,
    send_closed: bool,
}

impl Udp {
    pub fn new(domain: u32, protocol: u32) -> Arc<Udp> {
        Arc::new_cyclic(|this| Udp {
            this: this.clone(),
            domain,
            protocol,
            common: Common::new(Options::default()),
            state: Mutex::default(),
        })
    }

    fn ports(&self) -> &'static Ports<Udp> {
        if self.protocol == IPPROTO_UDPLITE { &UDP_LITE_PORTS } else { &UDP_PORTS }
    }

    /// What the header of a packet to `to` says: the sender's wish, else its options.
    fn header(&self, to: Address, wish: PacketHeader) -> PacketHeader {
        let options = self.common.options.lock();
        let (hops, class) = match to.ip.is_v4() {
            true => (options.number(IPPROTO_IP, IP_TTL), options.number(IPPROTO_IP, IP_TOS)),
            false => (options.number(IPPROTO_IPV6, IPV6_UNICAST_HOPS), options.number(IPPROTO_IPV6, IPV6_TCLASS)),
        };
        PacketHeader {
            hop_limit: wish.hop_limit.or(u8::try_from(hops).ok()).or(Some(HOPS_USUAL)),
            traffic_class: wish.traffic_class.or(Some(class as u8)),
        }
    }

    /// As `/proc/net/udp` shows it.
    pub(super) fn row(&self) -> Option<Row> {
        const CONNECTED: u8 = 1;
        const UNCONNECTED: u8 = 7;
        let (local, remote) = {
            let state = self.state.lock();
            (state.bound?.address, state.remote)
        };
        let state = if remote.is_some() { CONNECTED } else { UNCONNECTED };
        let identity = &self.common.identity;
        let waiting = self.readable_bytes().unwrap_or(0);
        Some(Row { domain: self.domain, local, remote, state, uid: identity.uid, inode: identity.inode, waiting })
    }

    fn claim(&self, address: Address) -> Claim {
        let options = self.common.options.lock();
        Claim {
            address,
            v6_only: options.v6_only,
            reuse_address: options.reuse_address,
            reuse_port: options.reuse_port,
            listening: false,
        }
    }

    fn v6_only(&self) -> bool {
        self.common.options.lock().v6_only
    }

    fn ensure_bound(&self) -> Result<Bound> {
        if let Some(bound) = self.state.lock().bound {
            return Ok(bound);
        }
        let (id, address) = self.ports().claim(self.claim(Address::any(self.domain)), self.this.clone())?;
        let bound = Bound { id, address };
        self.state.lock().bound = Some(bound);
        Ok(bound)
    }

    /// Whether a message from `from` is for this socket, which is bound to where it goes.
    fn hears(&self, from: Address) -> bool {
        self.state.lock().remote.is_none_or(|remote| remote == from)
    }

    /// Who gets a message: a socket connected to the sender before others, the youngest first.
    fn receiver(&self, to: Address, from: Address) -> Option<Arc<Udp>> {
        let holders = self.ports().find(to, false);
        let connected = holders.iter().rev().find(|holder| holder.state.lock().remote == Some(from));
        connected.or_else(|| holders.iter().rev().find(|holder| holder.hears(from))).cloned()
    }

    /// Puts a message into the inbox; what does not fit is lost.
    fn deliver(&self, message: Outgoing<'_, '_>, from: Address, to: Address, header: PacketHeader) -> Result<()> {
        let limit = self.common.options.lock().receive_buffer as usize;
        let len = message.data.remaining();
        {
            let mut state = self.state.lock();
            if state.closed || state.inbox.message_charge() + len > limit && !state.inbox.is_empty() {
                message.data.skip(len);
                return Ok(());
            }
            let names = (Some(from.to_name(self.domain)), Some(to.to_name(self.domain)));
            let mut ancillary = Ancillary { header, ..Ancillary::default() };
            state.inbox.push_message(message.data, &mut ancillary, names.0, names.1)?;
        }
        self.common.queue.wake_for(READABLE);
        Ok(())
    }
}

impl Endpoint for Udp {
    fn common(&self) -> &Common {
        &self.common
    }

    fn domain(&self) -> u32 {
        self.domain
    }

    fn kind(&self) -> u32 {
        SOCK_DGRAM
    }

    fn protocol(&self) -> u32 {
        self.protocol
    }

    fn bind(&self, name: &[u8]) -> Result<()> {
        let address = bind_address(name, self.domain, self.v6_only())?;
        if self.state.lock().bound.is_some() {
            return Err(Errno::EINVAL);
        }
        let (id, address) = self.ports().claim(self.claim(address), self.this.clone())?;
        self.state.lock().bound = Some(Bound { id, address });
        Ok(())
    }

    fn connect(&self, name: &[u8], _nonblocking: bool, _again: bool) -> Result<()> {
        if is_unspecified(name)? {
            self.state.lock().remote = None;
            return Ok(());
        }
        let to = destination(name, self.domain, self.v6_only())?;
        self.ensure_bound()?;
        self.state.lock().remote = Some(to);
        Ok(())
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        {
            let mut state = self.state.lock();
            state.receive_closed |= how.receive;
            state.send_closed |= how.send;
        }
        self.common.queue.wake_all();
        // As on Linux, it has its effect all the same.
        self.peer_name().map(|_| ())
    }

    fn local_name(&self) -> Name {
        let state = self.state.lock();
        let mut local = state.bound.map_or_else(|| Address::any(self.domain), |bound| bound.address);
        if let Some(remote) = state.remote.filter(|_| local.ip.is_any()) {
            local.ip = remote.source_ip();
        }
        local.to_name(self.domain)
    }

    fn peer_name(&self) -> Result<Name> {
        let remote = self.state.lock().remote.ok_or(Errno::ENOTCONN)?;
        Ok(remote.to_name(self.domain))
    }

    fn send(&self, message: Outgoing<'_, '_>) -> Result<usize> {
        let len = message.data.remaining();
        if len > PAYLOAD_MAX {
            return Err(Errno::EMSGSIZE);
        }
        if message.flags & MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let remote = self.state.lock().remote;
        let to = match message.to {
            Some(name) => {
                let given = Address::parse(name, self.domain)?;
                match () {
                    () if given.port == 0 => return Err(Errno::EINVAL),
                    () if given.ip.is_broadcast() && !self.common.options.lock().broadcast => {
                        return Err(Errno::EACCES);
                    }
                    () => destination(name, self.domain, self.v6_only())?,
                }
            }
            None => remote.ok_or(Errno::EDESTADDRREQ)?,
        };
        self.common.take_error()?;
        if self.state.lock().send_closed {
            return Err(Errno::EPIPE);
        }
        let bound = self.ensure_bound()?;
        let from_ip = if bound.address.ip.is_any() { to.source_ip() } else { bound.address.ip };
        let from = Address { ip: from_ip, port: bound.address.port };
        match self.receiver(to, from) {
            Some(receiver) => {
                let header = self.header(to, message.ancillary.header);
                receiver.deliver(message, from, to, header)?;
            }
            None => {
                message.data.skip(len);
                if remote == Some(to) {
                    self.common.set_error(Errno::ECONNREFUSED);
                    self.common.queue.wake_all();
                }
            }
        }
        Ok(len)
    }

    fn receive(&self, mut into: Incoming<'_, '_>) -> Result<Received> {
        self.common.take_error()?;
        let mut state = self.state.lock();
        match state.inbox.pop_message(&mut into)? {
            Some(mut received) => {
                received.end_of_record = false;
                Ok(received)
            }
            None if state.receive_closed && !into.nonblocking => Ok(Received::default()),
            None => Err(Errno::EAGAIN),
        }
    }

    fn poll(&self) -> PollEvents {
        let mut events = PollEvents::OUT | PollEvents::WRNORM | PollEvents::WRBAND;
        let state = self.state.lock();
        if !state.inbox.is_empty() {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if state.receive_closed {
            events |= PollEvents::IN | PollEvents::RDNORM | PollEvents::RDHUP;
        }
        if state.receive_closed && state.send_closed {
            events |= PollEvents::HUP;
        }
        if self.common.error().is_some() {
            events |= PollEvents::ERR;
        }
        events
    }

    fn readable_bytes(&self) -> Result<usize> {
        Ok(self.state.lock().inbox.first_len())
    }

    fn check_level(&self, level: u32) -> Result<()> {
        check_level(self.domain, level, self.protocol)
    }

    fn close(&self) {
        let (bound, inbox) = {
            let mut state = self.state.lock();
            state.closed = true;
            (state.bound.take(), core::mem::take(&mut state.inbox))
        };
        drop(inbox);
        if let Some(bound) = bound {
            self.ports().release(bound.address.port, bound.id);
        }
    }
}
