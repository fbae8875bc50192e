//! Unix sockets without connections: SOCK_DGRAM.
use super::name::{self, Address, Named};
use super::{check_level, fresh_common, get_option};
use crate::errno::{Errno, Result};
use crate::fs::file::PollEvents;
use crate::ipc::socket::inbox::Inbox;
use crate::ipc::socket::{Common, Credentials, Endpoint, Incoming, Name, Outgoing, Received, Shutdown, caller};
use crate::ipc::{READABLE, WRITABLE};
use crate::sync::Mutex;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use linux_raw_sys::net::{AF_UNIX, AF_UNSPEC, MSG_OOB, SOCK_DGRAM};

/// Messages that wait for a receiver before senders have to (net.unix.max_dgram_qlen).
const QUEUE_MAX: usize = 10;

pub struct UnixDatagram {
    this: Weak<UnixDatagram>,
    common: Common,
    state: Mutex<State>,
}

struct State {
    address: Option<Address>,
    peer: Option<(Weak<UnixDatagram>, Address)>,
    peer_credentials: Credentials,
    inbox: Inbox,
    receive_closed: bool,
    send_closed: bool,
    closed: bool,
    /// Senders that found this inbox full.
    senders: Vec<Weak<UnixDatagram>>,
}

impl UnixDatagram {
    pub fn new() -> Arc<UnixDatagram> {
        let state = State {
            address: None,
            peer: None,
            peer_credentials: Credentials::UNKNOWN,
            inbox: Inbox::default(),
            receive_closed: false,
            send_closed: false,
            closed: false,
            senders: Vec::new(),
        };
        Arc::new_cyclic(|this| UnixDatagram { this: this.clone(), common: fresh_common(), state: Mutex::new(state) })
    }

    /// Makes two fresh endpoints each other's peers (`socketpair`).
    pub fn join(a: &Arc<UnixDatagram>, b: &Arc<UnixDatagram>) {
        for (this, other) in [(a, b), (b, a)] {
            let mut state = this.state.lock();
            state.peer = Some((Arc::downgrade(other), Address::Unnamed));
            state.peer_credentials = caller::credentials();
        }
    }

    fn target(address: &Address) -> Result<Arc<UnixDatagram>> {
        match name::find(address)? {
            Named::Datagram(target) => target.upgrade().ok_or(Errno::ECONNREFUSED),
            Named::Stream(_) => Err(Errno::EPROTOTYPE),
        }
    }

    /// Whether this endpoint takes messages from `sender`: one that is connected hears its peer only.
    fn hears(&self, sender: &UnixDatagram) -> bool {
        self.state.lock().peer.as_ref().is_none_or(|(peer, _)| core::ptr::eq(peer.as_ptr(), sender))
    }

    /// Whether a message must wait; remembers the sender then.
    fn is_full_for(&self, state: &mut State, sender: &UnixDatagram, limit: usize) -> bool {
        let mutual = state.peer.as_ref().is_some_and(|(peer, _)| core::ptr::eq(peer.as_ptr(), sender));
        let full = state.inbox.message_charge() >= limit || !mutual && state.inbox.messages() > QUEUE_MAX;
        if full && !state.senders.iter().any(|known| known.ptr_eq(&sender.this)) {
            state.senders.retain(|known| known.strong_count() > 0);
            state.senders.push(sender.this.clone());
        }
        full
    }

    /// Leaves the peer. Messages that have come are lost, as on Linux; a peer that was connected to this one hears of it.
    fn disconnect(&self) {
        let (peer, inbox) = {
            let mut state = self.state.lock();
            (state.peer.take(), core::mem::take(&mut state.inbox))
        };
        let peer = peer.and_then(|(peer, _)| peer.upgrade()).filter(|_| !inbox.is_empty());
        drop(inbox);
        if let Some(peer) = peer.filter(|peer| !peer.state.lock().closed && peer.is_peer_of(self)) {
            peer.common.set_error(Errno::ECONNRESET);
            peer.common.queue.wake_all();
        }
    }

    fn is_peer_of(&self, other: &UnixDatagram) -> bool {
        self.state.lock().peer.as_ref().is_some_and(|(peer, _)| core::ptr::eq(peer.as_ptr(), other))
    }

    fn send_limit(&self) -> usize {
        self.common.options.lock().send_buffer as usize
    }

    fn connected_peer(&self) -> Option<Arc<UnixDatagram>> {
        self.state.lock().peer.as_ref().and_then(|(peer, _)| peer.upgrade())
    }
}

impl Endpoint for UnixDatagram {
    fn common(&self) -> &Common {
        &self.common
    }

    fn domain(&self) -> u32 {
        AF_UNIX
    }

    fn kind(&self) -> u32 {
        SOCK_DGRAM
    }

    fn protocol(&self) -> u32 {
        0
    }

    fn bind(&self, name: &[u8]) -> Result<()> {
        let address = Address::parse(name)?;
        if self.state.lock().address.is_some() {
            return if address == Address::Unnamed { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let address = name::bind(address, &Named::Datagram(self.this.clone()))?;
        self.state.lock().address = Some(address);
        Ok(())
    }

    fn connect(&self, name: &[u8], _nonblocking: bool, _again: bool) -> Result<()> {
        let family = name.first_chunk::<2>().map(|family| u32::from(u16::from_ne_bytes(*family)));
        if family == Some(AF_UNSPEC) {
            self.disconnect();
            return Ok(());
        }
        let address = Address::parse(name)?;
        let target = Self::target(&address)?;
        if !target.hears(self) {
            return Err(Errno::EPERM);
        }
        if self.connected_peer().is_some_and(|old| !Arc::ptr_eq(&old, &target)) {
            self.disconnect();
        }
        {
            let mut state = self.state.lock();
            state.peer = Some((Arc::downgrade(&target), address));
            state.peer_credentials = caller::credentials();
        }
        self.common.queue.wake_for(WRITABLE);
        Ok(())
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        {
            let mut state = self.state.lock();
            state.receive_closed |= how.receive;
            state.send_closed |= how.send;
        }
        self.common.queue.wake_all();
        Ok(())
    }

    fn local_name(&self) -> Name {
        self.state.lock().address.as_ref().unwrap_or(&Address::Unnamed).to_name()
    }

    fn peer_name(&self) -> Result<Name> {
        let state = self.state.lock();
        state.peer.as_ref().map(|(_, address)| address.to_name()).ok_or(Errno::ENOTCONN)
    }

    fn send(&self, message: Outgoing<'_, '_>) -> Result<usize> {
        if message.flags & MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let to = message.to.map(Address::parse).transpose()?;
        let limit = self.send_limit();
        if message.data.remaining() > limit - 32 {
            return Err(Errno::EMSGSIZE);
        }
        self.common.take_error()?;
        let from = {
            let state = self.state.lock();
            if state.send_closed {
                return Err(Errno::EPIPE);
            }
            state.address.as_ref().map(Address::to_name)
        };
        let target = match to {
            Some(address) => Self::target(&address)?,
            None => {
                let peer = self.state.lock().peer.as_ref().ok_or(Errno::ENOTCONN)?.0.upgrade();
                let Some(peer) = peer.filter(|peer| !peer.state.lock().closed) else {
                    self.disconnect();
                    return Err(Errno::ECONNREFUSED);
                };
                peer
            }
        };
        if !target.hears(self) {
            return Err(Errno::EPERM);
        }
        if message.ancillary.credentials.is_none() {
            message.ancillary.credentials = Some(caller::credentials());
        }
        let sent = {
            let mut state = target.state.lock();
            match () {
                () if state.closed => Err(Errno::ECONNREFUSED),
                () if state.receive_closed => Err(Errno::EPIPE),
                () if target.is_full_for(&mut state, self, limit) => Err(Errno::EAGAIN),
                () => state.inbox.push_message(message.data, message.ancillary, from, None),
            }
        }?;
        target.common.queue.wake_for(READABLE);
        Ok(sent)
    }

    fn receive(&self, mut into: Incoming<'_, '_>) -> Result<Received> {
        self.common.take_error()?;
        let (received, senders) = {
            let mut state = self.state.lock();
            let Some(mut received) = state.inbox.pop_message(&mut into)? else {
                let ended = state.receive_closed && !into.nonblocking;
                return if ended { Ok(Received::default()) } else { Err(Errno::EAGAIN) };
            };
            received.end_of_record = false;
            let has_room = !into.peek && state.inbox.messages() <= QUEUE_MAX;
            (received, if has_room { core::mem::take(&mut state.senders) } else { Vec::new() })
        };
        for sender in senders.iter().filter_map(Weak::upgrade) {
            sender.common.queue.wake_for(WRITABLE);
        }
        Ok(received)
    }

    fn poll(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        {
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
        }
        if self.common.error().is_some() {
            events |= PollEvents::ERR;
        }
        let limit = self.send_limit() / 4;
        let full = self.connected_peer().is_some_and(|peer| {
            let mut state = peer.state.lock();
            peer.is_full_for(&mut state, self, limit)
        });
        if !full {
            events |= PollEvents::OUT | PollEvents::WRNORM | PollEvents::WRBAND;
        }
        events
    }

    fn readable_bytes(&self) -> Result<usize> {
        Ok(self.state.lock().inbox.first_len())
    }

    fn get_option(&self, level: u32, name: u32) -> Option<Result<Vec<u8>>> {
        get_option(level, name, self.state.lock().peer_credentials)
    }

    fn check_level(&self, level: u32) -> Result<()> {
        check_level(level)
    }

    fn close(&self) {
        let (inbox, address, senders) = {
            let mut state = self.state.lock();
            state.closed = true;
            (core::mem::take(&mut state.inbox), state.address.clone(), core::mem::take(&mut state.senders))
        };
        drop(inbox);
        if let Some(address) = address {
            name::release(&address);
        }
        for sender in senders.iter().filter_map(Weak::upgrade) {
            sender.common.queue.wake_for(WRITABLE);
        }
    }
}
