//! The guest's device node: one descriptor is memory, doorbell and wake-up.
use super::{OpenError, Transport, Wake, map_all, sleep_on};
use crate::sys;

/// An open `/dev/kasoku/accelN`.
#[derive(Debug)]
pub struct Device {
    fd: i32,
    memory: *mut u8,
    len: usize,
}

// SAFETY: the mapping is plain shared memory, the descriptor may be used from any thread.
unsafe impl Send for Device {}
// SAFETY: as above; all methods only make system calls.
unsafe impl Sync for Device {}

impl Device {
    /// Opens accelerator `number`, 0 to 9.
    pub fn open(number: u8) -> Result<Self, OpenError> {
        let mut path = *b"/dev/kasoku/accel0\0";
        path[17] = b'0' + number;
        let fd = sys::open(&path, sys::O_RDWR | sys::O_CLOEXEC | sys::O_NONBLOCK);
        if fd < 0 {
            return Err(OpenError::Absent);
        }
        let fd = fd as i32;
        match map_all(fd, number) {
            Ok((memory, len)) => Ok(Self { fd, memory, len }),
            Err(error) => {
                sys::close(fd);
                Err(error)
            }
        }
    }
}

impl Transport for Device {
    fn memory(&self) -> (*mut u8, usize) {
        (self.memory, self.len)
    }

    fn ring_doorbell(&self) {
        sys::write(self.fd, &1u64.to_ne_bytes());
    }

    fn sleep(&self) -> Wake {
        sleep_on(self.fd)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: the session that handed out pointers into the mapping owns this value and ends with it.
        unsafe { sys::unmap(self.memory, self.len) };
        sys::close(self.fd);
    }
}
