//! What every endpoint has.
use super::options::Options;
use crate::errno::{Errno, Result};
use crate::fs::stat::Kind;
use crate::ipc::identity::Identity;
use crate::sched::wait::WaitQueue;
use crate::sync::Mutex;
use core::sync::atomic::{AtomicI32, Ordering};

pub struct Common {
    /// Woken after each change of readiness.
    pub queue: WaitQueue,
    pub(crate) identity: Identity,
    pub options: Mutex<Options>,
    /// The error that the next call, or SO_ERROR, takes.
    error: AtomicI32,
}

impl Common {
    pub fn new(options: Options) -> Common {
        let identity = Identity::new(Kind::Socket, 0o777);
        Common { queue: WaitQueue::new(), identity, options: Mutex::new(options), error: AtomicI32::new(0) }
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
