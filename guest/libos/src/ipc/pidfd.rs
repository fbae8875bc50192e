//! pidfd: a program as a file, readable once it has ended.
use crate::errno::{Errno, Result};
use crate::fs::file::{File, OpenFile, PollEvents};
use crate::fs::stat::{Kind, Stat};
use crate::process::Process;
use crate::sched::wait::WaitQueue;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general::O_RDWR;

pub struct PidFd(Arc<Process>);

/// A descriptor of `owner`'s that names `target`; it is closed by `exec`.
pub fn open(owner: &Arc<Process>, target: &Arc<Process>) -> Result<i32> {
    let open = OpenFile::new(Arc::new(PidFd(target.clone())), O_RDWR);
    let files = owner.files.lock().clone();
    files.install(open, true)
}

/// The program that a descriptor names: its number. EBADF for other files.
pub fn target(open: &OpenFile) -> Result<u32> {
    process(open).map(|process| process.pid)
}

/// The program that a descriptor names: a pidfd, or its directory in `/proc`. EBADF for other files.
pub fn process(open: &OpenFile) -> Result<Arc<Process>> {
    if let Some(file) = open.file().downcast::<PidFd>() {
        return Ok(file.0.clone());
    }
    let path = open.file().path();
    let number = path.strip_prefix(b"/proc/").and_then(|n| core::str::from_utf8(n).ok()).and_then(|n| n.parse().ok());
    number.and_then(crate::process::find).ok_or(Errno::EBADF)
}

impl File for PidFd {
    fn poll(&self) -> PollEvents {
        if self.0.is_zombie() { PollEvents::IN | PollEvents::RDNORM } else { PollEvents::empty() }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.0.ended)
    }

    fn stat(&self) -> Result<Stat> {
        Ok(Stat::new(Kind::Anonymous, 0o600, super::ANONYMOUS_INODE))
    }

    fn path(&self) -> Vec<u8> {
        b"anon_inode:[pidfd]".to_vec()
    }
}
