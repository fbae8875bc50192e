//! What every endpoint has.
use super::options::Options;
use crate::errno::{Errno, Result};
use crate::sched::wait::WaitQueue;
use crate::sync::Mutex;
use core::sync::atomic::{AtomicI32, Ordering};

pub struct Common {
    /// Woken after each change of readiness.
    pub queue: WaitQueue,
    pub inode: u64,
    pub options: Mutex<Options>,
    /// The error that the next call, or SO_ERROR, takes.
    error: AtomicI32,
}

impl Common {
    pub fn new(options: Options) -> Common {
        let inode = crate::ipc::next_inode();
        Common { queue: WaitQueue::new(), inode, options: Mutex::new(options), error: AtomicI32::new(0) }
    }

    /// Leaves an error for the next call.
    pub fn set_error(&self, errno: Errno) {
        self.error.store(errno.0, Ordering::Release);
    }

    /// The pending error, which stays.
    pub fn error(&self) -> Option<Errno> {
        Some(self.error.load(Ordering::Acquire)).filter(|number| *number != 0).map(Errno)
    }

    /// Takes the pending error.
    pub fn take_error(&self) -> Result<()> {
        match self.error.swap(0, Ordering::AcqRel) {
            0 => Ok(()),
            errno => Err(Errno(errno)),
        }
    }

    /// SO_ERROR: the pending error's number, which is gone then.
    pub fn take_error_number(&self) -> i32 {
        self.error.swap(0, Ordering::AcqRel)
    }
}
