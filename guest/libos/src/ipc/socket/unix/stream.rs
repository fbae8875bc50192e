//! Unix sockets with connections: SOCK_STREAM and SOCK_SEQPACKET.
use super::name::{self, Address, Named};
use super::{Credentials, check_level, get_option};
use crate::errno::{Errno, Result};
use crate::fs::file::PollEvents;
use crate::ipc::READABLE;
use crate::ipc::socket::conduit::{Conduit, Flavour};
use crate::ipc::socket::listener::{Connector, Listener, wake_connectors};
use crate::ipc::socket::options::Options;
use crate::ipc::socket::{Common, Endpoint, Incoming, Name, Outgoing, Received, Shutdown, caller};
use crate::sync::Mutex;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use linux_raw_sys::net::{AF_UNIX, MSG_OOB, SOCK_SEQPACKET};

pub struct UnixStream {
    this: Weak<UnixStream>,
    kind: u32,
    conduit: Arc<Conduit>,
    state: Mutex<State>,
}

struct State {
    address: Option<Address>,
    peer_address: Address,
    listener: Option<Listener<UnixStream>>,
    /// Who listens (for those who connect), and who is on the other side.
    own_credentials: Credentials,
    peer_credentials: Credentials,
}

impl UnixStream {
    pub fn new(kind: u32) -> Arc<UnixStream> {
        let flavour = if kind == SOCK_SEQPACKET { Flavour::UnixPackets } else { Flavour::UnixStream };
        let conduit = Conduit::new(flavour, Options::default());
        let state = State {
            address: None,
            peer_address: Address::Unnamed,
            listener: None,
            own_credentials: caller::credentials(),
            peer_credentials: Credentials::UNKNOWN,
        };
        Arc::new_cyclic(|this| UnixStream { this: this.clone(), kind, conduit, state: Mutex::new(state) })
    }

    /// Connects two fresh endpoints to each other (`socketpair`).
    pub fn join(a: &Arc<UnixStream>, b: &Arc<UnixStream>) {
        Conduit::join(&a.conduit, &b.conduit);
        for end in [a, b] {
            let mut state = end.state.lock();
            state.peer_credentials = state.own_credentials;
        }
    }

    /// What `connect` finds at a name.
    fn target(&self, name: &[u8]) -> Result<Arc<UnixStream>> {
        match name::find(&Address::parse(name)?)? {
            Named::Stream(target) => {
                let target = target.upgrade().ok_or(Errno::ECONNREFUSED)?;
                if target.kind == self.kind { Ok(target) } else { Err(Errno::EPROTOTYPE) }
            }
            Named::Datagram(_) => Err(Errno::EPROTOTYPE),
        }
    }

    fn tags_credentials(&self) -> bool {
        let wants = |conduit: &Conduit| conduit.common.options.lock().pass_credentials;
        wants(&self.conduit) || self.conduit.peer().is_some_and(|peer| wants(&peer))
    }
}

impl Connector for UnixStream {
    fn common(&self) -> &Common {
        &self.conduit.common
    }
}

impl Endpoint for UnixStream {
    fn common(&self) -> &Common {
        &self.conduit.common
    }

    fn domain(&self) -> u32 {
        AF_UNIX
    }

    fn kind(&self) -> u32 {
        self.kind
    }

    fn protocol(&self) -> u32 {
        0
    }

    fn bind(&self, name: &[u8]) -> Result<()> {
        let address = Address::parse(name)?;
        if self.state.lock().address.is_some() {
            // Linux keeps a chosen name when it is asked for another one of its choice.
            return if address == Address::Unnamed { Ok(()) } else { Err(Errno::EINVAL) };
        }
        let address = name::bind(address, &Named::Stream(self.this.clone()))?;
        self.state.lock().address = Some(address);
        Ok(())
    }

    fn connect(&self, name: &[u8], _nonblocking: bool, _again: bool) -> Result<()> {
        let target = self.target(name)?;
        let this = self.this.upgrade().ok_or(Errno::EINVAL)?;
        let fresh = UnixStream::new(self.kind);
        {
            let state = self.state.lock();
            if state.listener.is_some() {
                return Err(Errno::EINVAL);
            }
            if self.conduit.is_connected() {
                return Err(Errno::EISCONN);
            }
            let mut accepted = fresh.state.lock();
            accepted.peer_address = state.address.clone().unwrap_or(Address::Unnamed);
            accepted.peer_credentials = caller::credentials();
        }
        let (address, credentials) = {
            let mut state = target.state.lock();
            let (address, credentials) = (state.address.clone(), state.own_credentials);
            let listener = state.listener.as_mut().ok_or(Errno::ECONNREFUSED)?;
            if listener.is_full() {
                let waiter: Weak<dyn Connector> = self.this.clone();
                listener.wait(waiter);
                return Err(Errno::EAGAIN);
            }
            Conduit::join(&self.conduit, &fresh.conduit);
            fresh.conduit.common.options.lock().pass_credentials =
                target.conduit.common.options.lock().pass_credentials;
            {
                let mut accepted = fresh.state.lock();
                accepted.address.clone_from(&address);
                accepted.own_credentials = credentials;
            }
            listener.push(fresh);
            (address, credentials)
        };
        {
            let mut state = this.state.lock();
            state.peer_address = address.unwrap_or(Address::Unnamed);
            state.peer_credentials = credentials;
        }
        target.conduit.common.queue.wake_for(READABLE);
        self.conduit.common.queue.wake_all();
        Ok(())
    }

    fn listen(&self, backlog: i32) -> Result<()> {
        let mut state = self.state.lock();
        if state.address.is_none() || self.conduit.is_connected() {
            return Err(Errno::EINVAL);
        }
        state.own_credentials = caller::credentials();
        match &mut state.listener {
            Some(listener) => listener.set_backlog(backlog),
            None => state.listener = Some(Listener::new(backlog)),
        }
        Ok(())
    }

    fn accept(&self) -> Result<Arc<dyn Endpoint>> {
        let (connection, connectors) = {
            let mut state = self.state.lock();
            state.listener.as_mut().ok_or(Errno::EINVAL)?.pop()?
        };
        wake_connectors(connectors);
        Ok(connection)
    }

    fn is_listening(&self) -> bool {
        self.state.lock().listener.is_some()
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.conduit.shutdown(how);
        Ok(())
    }

    fn local_name(&self) -> Name {
        self.state.lock().address.as_ref().unwrap_or(&Address::Unnamed).to_name()
    }

    fn peer_name(&self) -> Result<Name> {
        if !self.conduit.is_connected() {
            return Err(Errno::ENOTCONN);
        }
        Ok(self.state.lock().peer_address.to_name())
    }

    fn send(&self, message: Outgoing<'_, '_>) -> Result<usize> {
        if message.to.is_some() && self.kind != SOCK_SEQPACKET {
            return Err(if self.conduit.is_connected() { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        if message.flags & MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if message.ancillary.credentials.is_none() && self.tags_credentials() {
            message.ancillary.credentials = Some(caller::credentials());
        }
        self.conduit.send(message)
    }

    fn receive(&self, into: Incoming<'_, '_>) -> Result<Received> {
        match self.conduit.receive(into) {
            Err(Errno::ENOTCONN) if self.kind != SOCK_SEQPACKET => Err(Errno::EINVAL),
            result => result,
        }
    }

    fn poll(&self) -> PollEvents {
        if let Some(listener) = &self.state.lock().listener {
            let ready = PollEvents::IN | PollEvents::RDNORM;
            return if listener.is_empty() { PollEvents::empty() } else { ready };
        }
        let mut events = self.conduit.poll();
        if !self.conduit.is_connected() {
            events |= PollEvents::HUP;
        }
        events
    }

    fn readable_bytes(&self) -> Result<usize> {
        if self.is_listening() { Err(Errno::EINVAL) } else { Ok(self.conduit.readable_bytes()) }
    }

    fn get_option(&self, level: u32, name: u32) -> Option<Result<Vec<u8>>> {
        get_option(level, name, self.state.lock().peer_credentials)
    }

    fn check_level(&self, level: u32) -> Result<()> {
        check_level(level)
    }

    fn close(&self) {
        let (listener, address) = {
            let mut state = self.state.lock();
            // A name that was inherited from the listener stays the listener's.
            let address = if self.conduit.is_connected() { None } else { state.address.clone() };
            (state.listener.take(), address)
        };
        if let Some(address) = address {
            name::release(&address);
        }
        self.conduit.close();
        if let Some((waiting, connectors)) = listener.map(Listener::finish) {
            for connection in waiting {
                connection.reset();
            }
            wake_connectors(connectors);
        }
    }
}

impl UnixStream {
    /// A connection that nobody will accept: its other side sees a reset.
    fn reset(&self) {
        let peer = self.conduit.peer();
        self.conduit.close();
        if let Some(peer) = peer {
            peer.common.set_error(Errno::ECONNRESET);
            peer.common.queue.wake_all();
        }
    }
}
