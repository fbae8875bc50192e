//! TCP over the loopback. Without packets the handshake is done by `connect` itself, but what programs see of its order
//! stays: a non-blocking `connect` answers EINPROGRESS although the connection, or its refusal, is there already.
use super::address::{Address, Ip};
use super::listing::Row;
use super::{Bound, Claim, TCP_PORTS, bind_address, check_level, destination, is_unspecified};
use crate::errno::{Errno, Result};
use crate::fs::file::PollEvents;
use crate::ipc::READABLE;
use crate::ipc::socket::conduit::{Conduit, Flavour};
use crate::ipc::socket::listener::{Connector, Listener, wake_connectors};
use crate::ipc::socket::options::Options;
use crate::ipc::socket::protocol::IPPROTO_TCP;
use crate::ipc::socket::{Common, Endpoint, Incoming, Name, Outgoing, Received, Shutdown};
use crate::sync::Mutex;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use linux_raw_sys::net::{SOCK_STREAM, TCP_INFO};

/// Buffers of a fresh socket (net.ipv4.tcp_wmem, tcp_rmem), bytes.
const SEND_BUFFER: u32 = 16384;
const RECEIVE_BUFFER: u32 = 131_072;
/// Bytes of `struct tcp_info` that are filled in, and its state values.
const INFO_LEN: usize = 232;
const STATE_ESTABLISHED: u8 = 1;
const STATE_SYN_SENT: u8 = 2;
const STATE_CLOSE: u8 = 7;
const STATE_LISTEN: u8 = 10;

pub struct Tcp {
    this: Weak<Tcp>,
    domain: u32,
    conduit: Arc<Conduit>,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    bound: Option<Bound>,
    /// Ends of the connection.
    local: Option<Address>,
    remote: Option<Address>,
    listener: Option<Listener<Tcp>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// The listener's backlog is full.
    Waiting,
    /// Refused, and no `connect` was told yet.
    Failed,
    /// Connected, and no `connect` was told yet.
    Made,
    Connected,
}

impl Tcp {
    pub fn new(domain: u32) -> Arc<Tcp> {
        Self::with_options(domain, Options::new(SEND_BUFFER, RECEIVE_BUFFER))
    }

    fn with_options(domain: u32, options: Options) -> Arc<Tcp> {
        let conduit = Conduit::new(Flavour::Tcp, options);
        let state = State { phase: Phase::Idle, bound: None, local: None, remote: None, listener: None };
        Arc::new_cyclic(|this| Tcp { this: this.clone(), domain, conduit, state: Mutex::new(state) })
    }

    /// As `/proc/net/tcp` shows it; a socket that neither listens nor is connected is not shown.
    pub(super) fn row(&self) -> Option<Row> {
        let (state, local, remote) = {
            let state = self.state.lock();
            let local = state.local.or(state.bound.map(|bound| bound.address))?;
            match state.phase {
                _ if state.listener.is_some() => (STATE_LISTEN, local, None),
                Phase::Waiting => (STATE_SYN_SENT, local, state.remote),
                Phase::Made | Phase::Connected => (STATE_ESTABLISHED, local, state.remote),
                Phase::Idle | Phase::Failed => return None,
            }
        };
        let identity = &self.conduit.common.identity;
        let waiting = if state == STATE_ESTABLISHED { self.conduit.readable_bytes() } else { 0 };
        Some(Row { domain: self.domain, local, remote, state, uid: identity.uid, inode: identity.inode, waiting })
    }

    fn claim(&self, address: Address, listening: bool) -> Claim {
        let options = self.conduit.common.options.lock();
        let (reuse_address, reuse_port) = (options.reuse_address, options.reuse_port);
        Claim { address, v6_only: options.v6_only, reuse_address, reuse_port, listening }
    }

    fn v6_only(&self) -> bool {
        self.conduit.common.options.lock().v6_only
    }

    fn phase(&self) -> Phase {
        self.state.lock().phase
    }

    /// Binds to a port of the library OS's choice where the program has chosen none.
    fn ensure_bound(&self, ip: Ip) -> Result<Bound> {
        if let Some(bound) = self.state.lock().bound {
            return Ok(bound);
        }
        let claim = self.claim(Address { ip, port: 0 }, false);
        let (id, address) = TCP_PORTS.claim(claim, self.this.clone())?;
        let bound = Bound { id, address };
        self.state.lock().bound = Some(bound);
        Ok(bound)
    }

    /// Meets the listener: ECONNREFUSED, or EAGAIN while its backlog is full.
    fn meet(&self, to: Address) -> Result<()> {
        let bound = self.ensure_bound(to.source_ip())?;
        let from_ip = if bound.address.ip.is_any() { to.source_ip() } else { bound.address.ip };
        let from = Address { ip: from_ip, port: bound.address.port };
        let targets = TCP_PORTS.find(to, true);
        let share = usize::from(from.port) % targets.len().max(1);
        let target = targets.get(share).ok_or(Errno::ECONNREFUSED)?;
        {
            let mut state = target.state.lock();
            let listener = state.listener.as_mut().ok_or(Errno::ECONNREFUSED)?;
            if listener.is_full() {
                let waiter: Weak<dyn Connector> = self.this.clone();
                listener.wait(waiter);
                return Err(Errno::EAGAIN);
            }
            listener.push(target.accepted(self, to, from));
        }
        {
            let mut state = self.state.lock();
            state.local = Some(from);
            state.remote = Some(to);
        }
        target.conduit.common.queue.wake_for(READABLE);
        Ok(())
    }

    /// The listener's end of a new connection.
    fn accepted(&self, client: &Tcp, local: Address, remote: Address) -> Arc<Tcp> {
        let options = self.conduit.common.options.lock().clone();
        let end = Tcp::with_options(self.domain, options);
        let claim = end.claim(local, false);
        let id = TCP_PORTS.join(claim, Arc::downgrade(&end));
        {
            let mut state = end.state.lock();
            state.phase = Phase::Connected;
            state.bound = Some(Bound { id, address: local });
            state.local = Some(local);
            state.remote = Some(remote);
        }
        Conduit::join(&client.conduit, &end.conduit);
        end
    }

    /// Tries to connect and settles the phase that follows.
    fn attempt(&self, to: Address) -> Result<()> {
        let result = self.meet(to);
        let phase = match result {
            Ok(()) => Phase::Made,
            Err(Errno::EAGAIN) => Phase::Waiting,
            Err(Errno::ECONNREFUSED) => Phase::Failed,
            Err(_) => Phase::Idle,
        };
        {
            let mut state = self.state.lock();
            state.phase = phase;
            state.remote = Some(to).filter(|_| phase != Phase::Idle);
        }
        if phase == Phase::Failed {
            self.conduit.common.set_error(Errno::ECONNREFUSED);
        }
        if phase != Phase::Waiting {
            self.conduit.common.queue.wake_all();
        }
        result
    }

    /// The outcome of an attempt, told once.
    fn conclude(&self, phase: Phase) -> Result<()> {
        if phase == Phase::Made {
            self.state.lock().phase = Phase::Connected;
            return Ok(());
        }
        self.state.lock().phase = Phase::Idle;
        self.conduit.common.take_error()?;
        Err(Errno::ECONNABORTED)
    }

    fn is_established(&self) -> bool {
        matches!(self.phase(), Phase::Made | Phase::Connected)
    }
}

impl Connector for Tcp {
    fn common(&self) -> &Common {
        &self.conduit.common
    }

    fn retry(&self) {
        let (phase, remote) = {
            let state = self.state.lock();
            (state.phase, state.remote)
        };
        if let (Phase::Waiting, Some(to)) = (phase, remote) {
            // Whatever comes of it is in the phase, where `connect` and `poll` find it.
            let _ = self.attempt(to);
        }
    }
}

impl Endpoint for Tcp {
    fn common(&self) -> &Common {
        &self.conduit.common
    }

    fn domain(&self) -> u32 {
        self.domain
    }

    fn kind(&self) -> u32 {
        SOCK_STREAM
    }

    fn protocol(&self) -> u32 {
        IPPROTO_TCP
    }

    fn bind(&self, name: &[u8]) -> Result<()> {
        let address = bind_address(name, self.domain, self.v6_only())?;
        if self.state.lock().bound.is_some() {
            return Err(Errno::EINVAL);
        }
        let (id, address) = TCP_PORTS.claim(self.claim(address, false), self.this.clone())?;
        self.state.lock().bound = Some(Bound { id, address });
        Ok(())
    }

    fn connect(&self, name: &[u8], nonblocking: bool, again: bool) -> Result<()> {
        if is_unspecified(name)? {
            return if self.is_listening() || self.phase() == Phase::Idle { Ok(()) } else { Err(Errno::EAFNOSUPPORT) };
        }
        match self.phase() {
            phase @ (Phase::Made | Phase::Failed) => return self.conclude(phase),
            Phase::Connected => return Err(Errno::EISCONN),
            Phase::Waiting if nonblocking => return Err(Errno::EALREADY),
            Phase::Waiting if again => return Err(Errno::EAGAIN),
            Phase::Waiting | Phase::Idle => {}
        }
        if self.is_listening() {
            return Err(Errno::EISCONN);
        }
        let to = destination(name, self.domain, self.v6_only())?;
        match self.attempt(to) {
            Ok(()) | Err(Errno::ECONNREFUSED | Errno::EAGAIN) if nonblocking => Err(Errno::EINPROGRESS),
            Ok(()) | Err(Errno::ECONNREFUSED) => self.conclude(self.phase()),
            Err(errno) => Err(errno),
        }
    }

    fn listen(&self, backlog: i32) -> Result<()> {
        if self.phase() != Phase::Idle {
            return Err(Errno::EINVAL);
        }
        let bound = self.ensure_bound(Address::any(self.domain).ip)?;
        {
            let options = self.conduit.common.options.lock();
            TCP_PORTS.set_reuse(bound.address.port, bound.id, options.reuse_address, options.reuse_port);
        }
        TCP_PORTS.set_listening(bound.address.port, bound.id, true)?;
        let mut state = self.state.lock();
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
        if self.is_listening() {
            if how.receive {
                self.stop_listening();
            }
            return Ok(());
        }
        if !self.is_established() || self.conduit.is_finished() {
            return Err(Errno::ENOTCONN);
        }
        self.conduit.shutdown(how);
        Ok(())
    }

    fn local_name(&self) -> Name {
        let state = self.state.lock();
        let local = state.local.or(state.bound.map(|bound| bound.address));
        local.unwrap_or_else(|| Address::any(self.domain)).to_name(self.domain)
    }

    fn peer_name(&self) -> Result<Name> {
        if !self.is_established() || self.conduit.is_finished() {
            return Err(Errno::ENOTCONN);
        }
        let remote = self.state.lock().remote.ok_or(Errno::ENOTCONN)?;
        Ok(remote.to_name(self.domain))
    }

    fn send(&self, message: Outgoing<'_, '_>) -> Result<usize> {
        match self.phase() {
            Phase::Waiting => Err(Errno::EAGAIN),
            Phase::Idle | Phase::Failed => {
                self.conduit.common.take_error()?;
                Err(Errno::EPIPE)
            }
            Phase::Made | Phase::Connected => self.conduit.send(message),
        }
    }

    fn receive(&self, into: Incoming<'_, '_>) -> Result<Received> {
        match self.phase() {
            Phase::Waiting => Err(Errno::EAGAIN),
            Phase::Idle | Phase::Failed => {
                self.conduit.common.take_error()?;
                Err(Errno::ENOTCONN)
            }
            Phase::Made | Phase::Connected => self.conduit.receive(into),
        }
    }

    fn poll(&self) -> PollEvents {
        let phase = {
            let state = self.state.lock();
            if let Some(listener) = &state.listener {
                let ready = PollEvents::IN | PollEvents::RDNORM;
                return if listener.is_empty() { PollEvents::empty() } else { ready };
            }
            state.phase
        };
        let writable = PollEvents::OUT | PollEvents::WRNORM;
        let readable = PollEvents::IN | PollEvents::RDNORM | PollEvents::RDHUP;
        let error = if self.conduit.common.error().is_some() { PollEvents::ERR } else { PollEvents::empty() };
        match phase {
            Phase::Waiting => PollEvents::empty(),
            Phase::Idle => writable | PollEvents::HUP | error,
            Phase::Failed => writable | readable | PollEvents::HUP | error,
            Phase::Made | Phase::Connected => self.conduit.poll(),
        }
    }

    fn readable_bytes(&self) -> Result<usize> {
        if self.is_listening() { Err(Errno::EINVAL) } else { Ok(self.conduit.readable_bytes()) }
    }

    fn is_at_mark(&self) -> bool {
        self.conduit.is_at_mark()
    }

    fn get_option(&self, level: u32, name: u32) -> Option<Result<Vec<u8>>> {
        if (level, name) != (IPPROTO_TCP, TCP_INFO) {
            return None;
        }
        let mut info = vec![0; INFO_LEN];
        info[0] = match self.phase() {
            _ if self.is_listening() => STATE_LISTEN,
            Phase::Waiting => STATE_SYN_SENT,
            Phase::Made | Phase::Connected if !self.conduit.is_finished() => STATE_ESTABLISHED,
            _ => STATE_CLOSE,
        };
        Some(Ok(info))
    }

    fn check_level(&self, level: u32) -> Result<()> {
        check_level(self.domain, level, IPPROTO_TCP)
    }

    fn close(&self) {
        self.stop_listening();
        let bound = self.state.lock().bound.take();
        if let Some(bound) = bound {
            TCP_PORTS.release(bound.address.port, bound.id);
        }
        self.conduit.close();
    }
}

impl Tcp {
    /// Connections that nobody accepted are reset, those who wait to connect are refused.
    fn stop_listening(&self) {
        let (listener, bound) = {
            let mut state = self.state.lock();
            (state.listener.take(), state.bound)
        };
        let Some((waiting, connectors)) = listener.map(Listener::finish) else { return };
        if let Some(bound) = bound {
            // Ending to listen cannot conflict with anybody.
            let _ = TCP_PORTS.set_listening(bound.address.port, bound.id, false);
        }
        for connection in waiting {
            connection.conduit.common.options.lock().linger = (1, 0);
            connection.close();
        }
        self.conduit.common.queue.wake_all();
        wake_connectors(connectors);
    }
}
