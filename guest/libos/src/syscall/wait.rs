//! Waiting for files: deadlines as programs give them, and signals that end a wait.
use crate::errno::{Errno, Result};
use crate::sched::{self, wait::WaitQueue};
use crate::time::{self, SECOND_NS};
use crate::user;
use alloc::vec::Vec;

const SIGNAL_SET_LEN: u64 = 8;

/// When a wait ends without a result.
#[derive(Clone, Copy)]
pub struct Deadline {
    /// CLOCK_MONOTONIC ns; `None`: never. In the past: the caller does not wait at all.
    at_ns: Option<u64>,
}

impl Deadline {
    pub const NEVER: Deadline = Deadline { at_ns: None };

    pub fn after_ns(ns: Option<u64>) -> Deadline {
        Deadline { at_ns: ns.map(|ns| if ns == 0 { 0 } else { time::monotonic_ns().saturating_add(ns) }) }
    }

    /// Milliseconds as `poll` counts them: negative means for ever.
    pub fn after_ms(ms: i32) -> Deadline {
        Self::after_ns(u64::try_from(ms).ok().map(|ms| ms * 1_000_000))
    }

    fn read(address: u64, per_second: u64) -> Result<Deadline> {
        if address == 0 {
            return Ok(Self::NEVER);
        }
        let [seconds, part]: [i64; 2] = user::read(address)?;
        if seconds < 0 || part < 0 {
            return Err(Errno::EINVAL);
        }
        let (seconds, part) = (seconds as u64, part as u64);
        let part_ns = part.saturating_mul(SECOND_NS / per_second);
        Ok(Self::after_ns(Some(seconds.saturating_mul(SECOND_NS).saturating_add(part_ns))))
    }

    /// From a relative `struct timespec`; 0 is no deadline.
    pub fn from_timespec(address: u64) -> Result<Deadline> {
        if address != 0 && user::read::<[u64; 2]>(address)?[1] >= SECOND_NS {
            return Err(Errno::EINVAL);
        }
        Self::read(address, SECOND_NS)
    }

    /// From a relative `struct timeval`; 0 is no deadline.
    pub fn from_timeval(address: u64) -> Result<Deadline> {
        Self::read(address, 1_000_000)
    }

    pub fn has_passed(self) -> bool {
        self.at_ns.is_some_and(|at| time::monotonic_ns() >= at)
    }

    fn left_ns(self) -> u64 {
        self.at_ns.map_or(0, |at| at.saturating_sub(time::monotonic_ns()))
    }

    /// Tells the program what is left, as Linux does; where it cannot be written it is not told.
    pub fn write_timespec(self, address: u64) {
        if address != 0 {
            let _ = user::write(address, &[self.left_ns() / SECOND_NS, self.left_ns() % SECOND_NS]);
        }
    }

    /// As [`Self::write_timespec`], for `select`.
    pub fn write_timeval(self, address: u64) {
        if address != 0 {
            let left = self.left_ns();
            let _ = user::write(address, &[left / SECOND_NS, left % SECOND_NS / 1000]);
        }
    }
}

/// Waits until `look` finds something; `None` at the deadline. A signal ends it for good: such calls are not restarted after
/// a handler. The queues are asked for only where there is something to wait for.
pub fn until<'q, T>(
    queues: impl FnOnce() -> Vec<&'q WaitQueue>,
    deadline: Deadline,
    mut look: impl FnMut() -> Option<T>,
) -> Result<Option<T>> {
    if let Some(found) = look() {
        return Ok(Some(found));
    }
    if deadline.at_ns == Some(0) {
        return Ok(None);
    }
    match sched::block_on(&queues(), deadline.at_ns, look) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ETIMEDOUT) => Ok(None),
        Err(Errno::RESTART) => Err(Errno::RESTART_NO_HANDLER),
        Err(errno) => Err(errno),
    }
}

/// The mask that a call waits under: `None` where none was given.
pub fn signal_mask(address: u64, len: u64) -> Result<Option<u64>> {
    match address {
        0 => Ok(None),
        _ if len != SIGNAL_SET_LEN => Err(Errno::EINVAL),
        _ => user::read(address).map(Some),
    }
}
