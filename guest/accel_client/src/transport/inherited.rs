//! Three inherited descriptors, named by `KASOKU_ACCEL_FDS=memory,doorbell,wake`: the library in a plain process on the
//! host, beside a broker. For tests and measurements; never part of a release.
use super::{OpenError, Transport, Wake, map_all, sleep_on};
use crate::{file, sys};

/// A memfd and two eventfds.
#[derive(Debug)]
pub struct Inherited {
    doorbell: i32,
    wake: i32,
    memory: *mut u8,
    len: usize,
}

// SAFETY: the mapping is plain shared memory, the descriptors may be used from any thread.
unsafe impl Send for Inherited {}
// SAFETY: as above; all methods only make system calls.
unsafe impl Sync for Inherited {}

impl Inherited {
    /// Opens the session that the environment names.
    pub fn open() -> Result<Self, OpenError> {
        // Without a libc there is no `environ`: this is the environment that the process started with.
        let environment = file::read(b"/proc/self/environ", 1 << 20).ok_or(OpenError::Absent)?;
        let prefix = b"KASOKU_ACCEL_FDS=";
        let value = environment.split(|&b| b == 0).find_map(|entry| entry.strip_prefix(prefix));
        let text = core::str::from_utf8(value.ok_or(OpenError::Absent)?).map_err(|_| OpenError::Unusable)?;
        let mut numbers = text.split(',').map(|number| number.parse::<i32>());
        let mut next = || numbers.next().and_then(Result::ok).ok_or(OpenError::Unusable);
        let (memory_fd, doorbell, wake) = (next()?, next()?, next()?);
        let (memory, len) = map_all(memory_fd, 0)?;
        Ok(Self { doorbell, wake, memory, len })
    }
}

impl Transport for Inherited {
    fn memory(&self) -> (*mut u8, usize) {
        (self.memory, self.len)
    }

    fn ring_doorbell(&self) {
        sys::write(self.doorbell, &1u64.to_ne_bytes());
    }

    fn sleep(&self) -> Wake {
        sleep_on(self.wake)
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        // SAFETY: the session that handed out pointers into the mapping owns this value and ends with it.
        unsafe { sys::unmap(self.memory, self.len) };
    }
}
