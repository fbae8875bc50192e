//! TCP's urgent byte: the last byte of a message sent with MSG_OOB. It is taken out of the stream (unless SO_OOBINLINE) and
//! leaves a mark there, at which a read stops once.
use crate::errno::{Errno, Result};

/// The newest urgent byte; an older one is forgotten, as in TCP.
#[derive(Clone, Copy)]
pub(super) struct Urgent {
    byte: u8,
    /// Bytes of the stream before the mark.
    before: usize,
    /// `recv(MSG_OOB)` has given it out.
    taken: bool,
    inline: bool,
}

impl Urgent {
    /// `before`: bytes in the inbox when it arrived.
    pub fn new(byte: u8, before: usize, inline: bool) -> Urgent {
        Urgent { byte, before, taken: false, inline }
    }

    /// Whether `poll` says POLLPRI.
    pub fn is_news(&self) -> bool {
        !self.taken
    }

    /// Whether the next byte to read is the one behind the mark (SIOCATMARK).
    pub fn is_at_mark(&self) -> bool {
        self.before == 0
    }

    /// How many bytes a read may give before it stops.
    pub fn allowance(&self) -> usize {
        if self.before == 0 { usize::MAX } else { self.before }
    }

    /// A read gave `len` bytes. Whether it went beyond the mark, so that the byte is history.
    pub fn advance(&mut self, len: usize) -> bool {
        let beyond = len > 0 && self.before == 0;
        self.before = self.before.saturating_sub(len);
        beyond
    }

    /// `recv(MSG_OOB)`.
    pub fn take(&mut self, peek: bool) -> Result<u8> {
        if self.taken || self.inline {
            return Err(Errno::EINVAL);
        }
        self.taken = !peek;
        Ok(self.byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_stops_at_the_mark_once() {
        let mut urgent = Urgent::new(b'!', 5, false);
        assert_eq!(urgent.allowance(), 5);
        assert!(!urgent.advance(3));
        assert_eq!(urgent.allowance(), 2);
        assert!(!urgent.advance(2) && urgent.is_at_mark());
        assert_eq!(urgent.allowance(), usize::MAX);
        assert!(urgent.advance(1));
    }

    #[test]
    fn the_byte_is_given_once() {
        let mut urgent = Urgent::new(b'!', 0, false);
        assert_eq!(urgent.take(true), Ok(b'!'));
        assert_eq!(urgent.take(false), Ok(b'!'));
        assert_eq!(urgent.take(false), Err(Errno::EINVAL));
        assert!(!urgent.is_news());
        assert_eq!(Urgent::new(b'!', 0, true).take(false), Err(Errno::EINVAL));
    }
}
