//! What a socket has received: bytes in units. A unit is a message, or on streams a run of bytes with the same sender and
//! with at most one set of open files, which goes with its first byte.
use super::bytes::Bytes;
use super::message::{Ancillary, Incoming, Name, Received};
use crate::errno::{Errno, Result};
use crate::user::Reader;
use alloc::collections::VecDeque;

/// What a message costs of the buffer on top of its bytes, as on Linux (structure and rounding).
const MESSAGE_OVERHEAD: usize = 768;

struct Unit {
    len: usize,
    ancillary: Ancillary,
    from: Option<Name>,
    sent_to: Option<Name>,
}

#[derive(Default)]
pub(super) struct Inbox {
    bytes: Bytes,
    units: VecDeque<Unit>,
}

impl Inbox {
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Bytes of all units.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Number of units.
    pub fn messages(&self) -> usize {
        self.units.len()
    }

    /// Whether there is something that its sender should know was never read. As on Linux, a message without bytes at the
    /// beginning does not count.
    pub fn is_worth_a_reset(&self) -> bool {
        self.units.len() > 1 || self.first_len() > 0
    }

    /// Bytes of the first message.
    pub fn first_len(&self) -> usize {
        self.units.front().map_or(0, |unit| unit.len)
    }

    /// What the messages cost of a buffer, bytes.
    pub fn message_charge(&self) -> usize {
        self.bytes.len() + self.units.len() * MESSAGE_OVERHEAD
    }

    /// Appends up to `max` bytes of a stream; the ancillary data is taken with the first of them.
    pub fn push_stream(&mut self, from: &mut Reader<'_>, max: usize, ancillary: &mut Ancillary) -> Result<usize> {
        let len = self.bytes.push(from, max)?;
        if len == 0 {
            return Ok(0);
        }
        let ancillary = core::mem::take(ancillary);
        match self.units.back_mut() {
            Some(last)
                if ancillary.rights.is_empty()
                    && last.ancillary.rights.is_empty()
                    && last.ancillary.credentials == ancillary.credentials =>
            {
                last.len += len;
            }
            _ => self.units.push_back(Unit { len, ancillary, from: None, sent_to: None }),
        }
        Ok(len)
    }

    /// Appends a whole message, or nothing.
    pub fn push_message(
        &mut self,
        from: &mut Reader<'_>,
        ancillary: &mut Ancillary,
        sender: Option<Name>,
        sent_to: Option<Name>,
    ) -> Result<usize> {
        let want = from.remaining();
        let len = if want == 0 { 0 } else { self.bytes.push(from, want)? };
        if len < want {
            self.bytes.cut(len);
            return Err(Errno::EFAULT);
        }
        self.units.push_back(Unit { len, ancillary: core::mem::take(ancillary), from: sender, sent_to });
        Ok(len)
    }

    /// Hands out bytes of a stream up to the next boundary that a reader must see: behind open files, and between senders
    /// when `tell_senders` (SO_PASSCRED).
    pub fn pop_stream(&mut self, into: &mut Incoming<'_, '_>, tell_senders: bool) -> Result<Received> {
        let mut received = Received::default();
        let mut offset = 0;
        let mut index = 0;
        while into.data.remaining() > 0 {
            let Some(unit) = self.units.get_mut(index) else { break };
            if received.len > 0 && tell_senders && unit.ancillary.credentials != received.ancillary.credentials {
                break;
            }
            let copied = match into.discard {
                true => {
                    let len = unit.len.min(into.data.remaining());
                    into.data.skip(len);
                    Ok(len)
                }
                false => self.bytes.peek(offset, into.data, unit.len),
            };
            let len = match copied {
                Ok(len) => len,
                Err(errno) if received.len == 0 => return Err(errno),
                Err(_) => break,
            };
            received.ancillary.credentials = unit.ancillary.credentials;
            received.ancillary.rights = match into.peek {
                true => unit.ancillary.rights.clone(),
                false => core::mem::take(&mut unit.ancillary.rights),
            };
            received.len += len;
            let whole = len == unit.len;
            if into.peek {
                offset += len;
                index += 1;
            } else {
                unit.len -= len;
                self.bytes.skip(len);
                if whole {
                    self.units.pop_front();
                }
            }
            if !whole || !received.ancillary.rights.is_empty() {
                break;
            }
        }
        received.full_len = received.len;
        Ok(received)
    }

    /// Hands out the first message; what does not fit of it is lost, unless it was only looked at.
    pub fn pop_message(&mut self, into: &mut Incoming<'_, '_>) -> Result<Option<Received>> {
        let Some(unit) = self.units.front() else { return Ok(None) };
        let (full_len, want) = (unit.len, unit.len.min(into.data.remaining()));
        let len = if want == 0 { 0 } else { self.bytes.peek(0, into.data, want)? };
        if len < want {
            return Err(Errno::EFAULT);
        }
        let unit = if into.peek {
            Unit { len, ancillary: unit.ancillary.clone(), from: unit.from.clone(), sent_to: unit.sent_to.clone() }
        } else {
            self.bytes.skip(full_len);
            match self.units.pop_front() {
                Some(unit) => unit,
                None => return Ok(None),
            }
        };
        Ok(Some(Received {
            len,
            full_len,
            from: unit.from,
            ancillary: unit.ancillary,
            end_of_record: true,
            sent_to: unit.sent_to,
        }))
    }
}
