//! One end of a connection: what it has received, what is shut down, who is on the other side. Unix streams, sequenced
//! packets and TCP connections are made of two of them.
//!
//! A sender puts bytes straight into the other end's inbox. When that is full, the sender's wish is noted there, and the
//! receiver wakes it once there is enough room again.
use super::common::Common;
use super::inbox::Inbox;
use super::message::{Incoming, Outgoing, Received};
use super::options::Options;
use super::urgent::Urgent;
use super::{READABLE, Shutdown, WRITABLE};
use crate::errno::{Errno, Result};
use crate::fs::file::PollEvents;
use crate::sync::Mutex;
use alloc::sync::{Arc, Weak};
use linux_raw_sys::net::MSG_OOB;

/// How the two ends treat each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    UnixStream,
    UnixPackets,
    Tcp,
}

/// Bytes that a TCP connection holds in one direction when nobody has chosen buffer sizes; Linux grows to about as much.
const TCP_GENEROUS: usize = 2_500_000;

pub(super) struct Conduit {
    pub common: Common,
    pub flavour: Flavour,
    side: Mutex<Side>,
}

#[derive(Default)]
struct Side {
    inbox: Inbox,
    peer: Weak<Conduit>,
    connected: bool,
    /// Nothing more will come in (RCV_SHUTDOWN).
    receive_closed: bool,
    /// Nothing more may go out (SEND_SHUTDOWN).
    send_closed: bool,
    /// TCP: the other end's FIN or RST has come.
    finished: bool,
    /// TCP: the program itself wants to receive nothing more.
    deaf: bool,
    /// The socket itself has gone.
    closed: bool,
    /// TCP: the newest urgent byte.
    urgent: Option<Urgent>,
    /// The other end found this inbox too full and wants to be woken.
    sender_waits: bool,
}

impl Side {
    /// The connection is over for this end.
    fn reset(&mut self) {
        self.receive_closed = true;
        self.send_closed = true;
        self.finished = true;
    }

    /// All of a message, whose last byte is urgent.
    fn push_urgent(&mut self, message: Outgoing<'_, '_>, inline: bool) -> Result<usize> {
        let plain = message.data.remaining() - 1;
        let done = if plain > 0 { self.inbox.push_stream(message.data, plain, message.ancillary)? } else { 0 };
        if done < plain {
            return Ok(done);
        }
        let mut byte = [0];
        message.data.clone().read(&mut byte)?;
        let before = self.inbox.bytes();
        if inline {
            self.inbox.push_stream(message.data, 1, message.ancillary)?;
        } else {
            message.data.skip(1);
        }
        self.urgent = Some(Urgent::new(byte[0], before, inline));
        Ok(done + 1)
    }

    /// `recv(MSG_OOB)`: EINVAL where there is no urgent byte, or it was given out.
    fn take_urgent(&mut self, into: &mut Incoming<'_, '_>) -> Result<Received> {
        let byte = self.urgent.as_mut().ok_or(Errno::EINVAL)?.take(into.peek)?;
        let len = into.data.write(&[byte])?;
        Ok(Received { len, full_len: len, ..Received::default() })
    }

    /// Hands out bytes of the stream, up to the mark of the urgent byte.
    fn pop_stream(&mut self, into: &mut Incoming<'_, '_>, tell_senders: bool) -> Result<Received> {
        let Some(urgent) = &mut self.urgent else { return self.inbox.pop_stream(into, tell_senders) };
        let mut until_mark = into.data.clone();
        until_mark.limit(urgent.allowance());
        let mut limited = Incoming { data: &mut until_mark, ..*into };
        let received = self.inbox.pop_stream(&mut limited, tell_senders)?;
        into.data.skip(received.len);
        if !into.peek && urgent.advance(received.len) {
            self.urgent = None;
        }
        Ok(received)
    }
}

impl Conduit {
    pub fn new(flavour: Flavour, options: Options) -> Arc<Conduit> {
        Arc::new(Conduit { common: Common::new(options), flavour, side: Mutex::default() })
    }

    /// Connects two fresh ends.
    pub fn join(a: &Arc<Conduit>, b: &Arc<Conduit>) {
        for (this, other) in [(a, b), (b, a)] {
            let mut side = this.side.lock();
            side.peer = Arc::downgrade(other);
            side.connected = true;
        }
    }

    pub fn is_connected(&self) -> bool {
        self.side.lock().connected
    }

    /// The other end, while it exists.
    pub fn peer(&self) -> Option<Arc<Conduit>> {
        self.side.lock().peer.upgrade()
    }

    /// Whether both directions have ended or the connection was reset: TCP has no peer's name then.
    pub fn is_finished(&self) -> bool {
        let side = self.side.lock();
        side.finished && side.send_closed
    }

    /// Bytes that may wait in the other end's inbox.
    fn limit(&self) -> usize {
        let options = self.common.options.lock();
        match self.flavour {
            Flavour::Tcp if !options.buffers_chosen => TCP_GENEROUS,
            Flavour::Tcp => (options.send_buffer + options.receive_buffer) as usize,
            _ => options.send_buffer as usize,
        }
    }

    fn charge(&self, inbox: &Inbox) -> usize {
        if self.flavour == Flavour::UnixPackets { inbox.message_charge() } else { inbox.bytes() }
    }

    /// Whether `poll` calls a sender writable whose bytes have this charge.
    fn is_roomy(&self, charge: usize, limit: usize) -> bool {
        match self.flavour {
            Flavour::Tcp => charge <= limit / 3 * 2,
            _ => charge * 4 <= limit,
        }
    }

    /// Sends; ENOTCONN before a connection was made.
    pub fn send(&self, message: Outgoing<'_, '_>) -> Result<usize> {
        let (peer, closed) = {
            let side = self.side.lock();
            if !side.connected {
                return Err(Errno::ENOTCONN);
            }
            (side.peer.upgrade(), side.send_closed)
        };
        if self.flavour != Flavour::UnixStream {
            self.common.take_error()?;
        }
        if closed {
            return Err(Errno::EPIPE);
        }
        let limit = self.limit();
        let packets = self.flavour == Flavour::UnixPackets;
        if packets && message.data.remaining() > limit - 32 {
            return Err(Errno::EMSGSIZE);
        }
        if message.data.remaining() == 0 && !packets {
            return Ok(0);
        }
        let Some(peer) = peer else { return self.send_to_nobody(message) };
        let urgent = self.flavour == Flavour::Tcp && message.flags & MSG_OOB != 0;
        let inline = urgent && peer.common.options.lock().urgent_inline;
        let mut side = peer.side.lock();
        if side.closed {
            drop(side);
            return self.send_to_nobody(message);
        }
        if self.flavour == Flavour::Tcp && side.deaf && side.send_closed {
            // Both directions are shut down there: what comes now is answered by a reset of both ends.
            side.reset();
            drop(side);
            peer.common.set_error(Errno::ECONNRESET);
            peer.common.queue.wake_all();
            return self.send_to_nobody(message);
        }
        let charge = self.charge(&side.inbox);
        let room = limit.saturating_sub(charge);
        let sent = match packets {
            _ if room == 0 => Err(Errno::EAGAIN),
            true if charge > 0 && message.data.remaining() > room => Err(Errno::EAGAIN),
            true => side.inbox.push_message(message.data, message.ancillary, None, None),
            false if urgent && message.data.remaining() <= room => side.push_urgent(message, inline),
            false => side.inbox.push_stream(message.data, room, message.ancillary),
        };
        side.sender_waits |= sent == Err(Errno::EAGAIN);
        drop(side);
        if sent.is_ok() {
            peer.common.queue.wake_for(if urgent { READABLE | PollEvents::PRI.bits() } else { READABLE });
        }
        sent
    }

    /// The other end is gone. TCP learns of it by the answer to what it sends, so the first bytes are lost silently.
    fn send_to_nobody(&self, message: Outgoing<'_, '_>) -> Result<usize> {
        if self.flavour != Flavour::Tcp {
            return Err(Errno::EPIPE);
        }
        {
            let mut side = self.side.lock();
            let was_finished = side.finished;
            side.reset();
            self.common.set_error(if was_finished { Errno::EPIPE } else { Errno::ECONNRESET });
        }
        self.common.queue.wake_all();
        let len = message.data.remaining();
        message.data.skip(len);
        Ok(len)
    }

    /// Receives; ENOTCONN before a connection was made.
    pub fn receive(&self, mut into: Incoming<'_, '_>) -> Result<Received> {
        let tell_senders = self.common.options.lock().pass_credentials;
        let mut side = self.side.lock();
        if !side.connected {
            return Err(Errno::ENOTCONN);
        }
        if into.urgent {
            return side.take_urgent(&mut into);
        }
        let received = match self.flavour {
            Flavour::UnixPackets => {
                self.common.take_error()?;
                side.inbox.pop_message(&mut into)?
            }
            _ if side.inbox.is_empty() => None,
            _ => Some(side.pop_stream(&mut into, tell_senders)?),
        };
        let Some(received) = received else {
            let ended = side.receive_closed;
            drop(side);
            // EPIPE tells senders only: whoever receives sees the end that came before it.
            if self.common.error() != Some(Errno::EPIPE) {
                self.common.take_error()?;
            }
            return if ended { Ok(Received::default()) } else { Err(Errno::EAGAIN) };
        };
        let peer = side.peer.upgrade().filter(|_| side.sender_waits && !into.peek);
        let charge = self.charge(&side.inbox);
        drop(side);
        if let Some(peer) = peer.filter(|peer| peer.is_roomy(charge, peer.limit())) {
            self.side.lock().sender_waits = false;
            peer.common.queue.wake_for(WRITABLE);
        }
        Ok(received)
    }

    /// `shutdown`.
    pub fn shutdown(&self, how: Shutdown) {
        let peer = {
            let mut side = self.side.lock();
            side.receive_closed |= how.receive;
            side.deaf |= how.receive;
            side.send_closed |= how.send;
            side.peer.upgrade()
        };
        self.common.queue.wake_all();
        if let Some(peer) = peer {
            {
                let mut side = peer.side.lock();
                side.receive_closed |= how.send;
                side.finished |= how.send;
                side.send_closed |= how.receive && self.flavour != Flavour::Tcp;
            }
            peer.common.queue.wake_all();
        }
    }

    /// The socket has gone. Bytes that nobody read mean a reset for the other end.
    pub fn close(&self) {
        let (inbox, peer) = {
            let mut side = self.side.lock();
            side.closed = true;
            side.receive_closed = true;
            side.send_closed = true;
            (core::mem::take(&mut side.inbox), core::mem::take(&mut side.peer))
        };
        let unread = inbox.is_worth_a_reset();
        // Open files may be in there; their ends run with nothing locked.
        drop(inbox);
        let Some(peer) = peer.upgrade() else { return };
        let cut = unread || self.flavour == Flavour::Tcp && self.common.options.lock().linger == (1, 0);
        {
            let mut side = peer.side.lock();
            let is_over = self.flavour == Flavour::Tcp && side.finished && side.send_closed;
            if cut && !side.closed && !is_over {
                let late = self.flavour == Flavour::Tcp && side.finished;
                peer.common.set_error(if late { Errno::EPIPE } else { Errno::ECONNRESET });
            }
            side.receive_closed = true;
            side.finished = true;
            side.send_closed |= cut || self.flavour != Flavour::Tcp;
        }
        peer.common.queue.wake_all();
    }

    /// Whether a read stands at the mark of the urgent byte.
    pub fn is_at_mark(&self) -> bool {
        self.side.lock().urgent.as_ref().is_some_and(Urgent::is_at_mark)
    }

    pub fn readable_bytes(&self) -> usize {
        self.side.lock().inbox.bytes()
    }

    /// Whether a sender is called writable; if not, it is woken once it is.
    fn is_writable(&self) -> bool {
        let Some(peer) = self.peer() else { return true };
        let limit = self.limit();
        let mut side = peer.side.lock();
        let roomy = side.closed || self.is_roomy(self.charge(&side.inbox), limit);
        side.sender_waits |= !roomy;
        roomy
    }

    /// Readiness of an end that is or was connected.
    pub fn poll(&self) -> PollEvents {
        let mut events = PollEvents::empty();
        let send_closed = {
            let side = self.side.lock();
            if !side.inbox.is_empty() {
                events |= PollEvents::IN | PollEvents::RDNORM;
            }
            if side.urgent.as_ref().is_some_and(Urgent::is_news) {
                events |= PollEvents::PRI;
            }
            if side.receive_closed {
                events |= PollEvents::IN | PollEvents::RDNORM | PollEvents::RDHUP;
            }
            if side.receive_closed && side.send_closed {
                events |= PollEvents::HUP;
            }
            side.send_closed
        };
        if self.common.error().is_some() {
            events |= PollEvents::ERR;
        }
        if send_closed && self.flavour == Flavour::Tcp || self.is_writable() {
            events |= PollEvents::OUT | PollEvents::WRNORM;
            if self.flavour != Flavour::Tcp {
                events |= PollEvents::WRBAND;
            }
        }
        events
    }
}
