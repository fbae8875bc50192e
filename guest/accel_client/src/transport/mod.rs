//! How the session's memory, doorbell and wake-up are reached.
mod device;
#[cfg(feature = "socket-transport")]
mod inherited;

pub use device::Device;
#[cfg(feature = "socket-transport")]
pub use inherited::Inherited;

use kasoku_abi::accel::session::{MEMORY_MAX, SHARED_START};

use crate::sys;

/// Why a session could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// There is no accelerator of that number, or no lease on it.
    Absent,
    /// There is one, but this library cannot use it: other version, nonsense in the header, no memory to map it.
    Unusable,
    /// The broker has ended already.
    Gone,
}

/// What ended a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The broker signalled, or a signal handler ran: look again.
    Look,
    /// The other end is gone for good.
    Gone,
}

/// One end of a session. `memory` stays mapped as long as the value lives.
pub trait Transport: Send + Sync {
    /// The session's memory.
    fn memory(&self) -> (*mut u8, usize);
    /// Wakes the broker.
    fn ring_doorbell(&self);
    /// Sleeps until the broker signals.
    fn sleep(&self) -> Wake;
}

/// Maps all of `fd`, whose size `fstat` tells: where kernels may share the addresses of session `number` if nothing else is
/// there, else anywhere.
fn map_all(fd: i32, number: u8) -> Result<(*mut u8, usize), OpenError> {
    let len = sys::file_status(fd).map_or(0, |(_, size)| size as usize);
    if len == 0 {
        return Err(OpenError::Unusable);
    }
    let protection = sys::PROT_READ | sys::PROT_WRITE;
    let place = SHARED_START + u64::from(number) * MEMORY_MAX;
    let memory = sys::map_at(place as usize, len, protection, sys::MAP_SHARED, fd);
    let memory = memory.or_else(|_| sys::map(len, protection, sys::MAP_SHARED, fd));
    memory.map(|base| (base, len)).map_err(|_| OpenError::Unusable)
}

/// Sleeps until `fd` is readable and takes its signal.
fn sleep_on(fd: i32) -> Wake {
    let mut fds = [sys::PollFd { fd, events: sys::POLLIN, revents: 0 }];
    let ready = sys::poll(&mut fds, -1);
    let events = fds[0].revents;
    if ready < 0 {
        return if ready == sys::EINTR || ready == sys::EAGAIN { Wake::Look } else { Wake::Gone };
    }
    if events & sys::POLLIN != 0 {
        // The count does not matter; another thread may have taken it already (EAGAIN).
        sys::read(fd, &mut [0; 8]);
        return Wake::Look;
    }
    if events & (sys::POLLERR | sys::POLLHUP | sys::POLLNVAL) != 0 { Wake::Gone } else { Wake::Look }
}
