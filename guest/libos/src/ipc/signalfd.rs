//! signalfd: the caller's pending signals as a file.
//!
//! As on Linux, whose signals they are is decided by who reads or polls, not by who made the file.
use crate::errno::{Errno, Result};
use crate::fs::file::{File, OpenFile, PollEvents};
use crate::fs::stat::{Kind, Stat};
use crate::sched::{self, wait::WaitQueue};
use crate::signal::{self, SENT, SigInfo};
use crate::user::Writer;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general::SIGCHLD;

/// Bytes of `struct signalfd_siginfo`.
const INFO_LEN: usize = 128;

pub struct SignalFd {
    /// Signals that are read here, bit n-1 for signal n.
    set: AtomicU64,
}

impl SignalFd {
    pub fn new(set: u64) -> SignalFd {
        SignalFd { set: AtomicU64::new(set) }
    }

    /// Replaces the set.
    pub fn set(&self, set: u64) {
        self.set.store(set, Ordering::Relaxed);
        SENT.wake_all();
    }

    fn wanted(&self) -> u64 {
        self.set.load(Ordering::Relaxed)
    }
}

/// Lays a signal out as `struct signalfd_siginfo`.
fn layout(info: &SigInfo) -> [u8; INFO_LEN] {
    let mut bytes = [0; INFO_LEN];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let (pid, uid) = info.sender();
    put(0, &info.signal().to_ne_bytes());
    put(8, &info.code().to_ne_bytes());
    put(12, &pid.to_ne_bytes());
    put(16, &uid.to_ne_bytes());
    if info.signal() == SIGCHLD {
        put(40, &(info.value() as u32).to_ne_bytes());
    } else {
        put(44, &(info.value() as u32).to_ne_bytes());
        put(48, &info.value().to_ne_bytes());
    }
    bytes
}

impl File for SignalFd {
    fn ignores_seek(&self) -> bool {
        true
    }

    fn read(&self, _open: &OpenFile, _offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        if to.remaining() < INFO_LEN {
            return Err(Errno::EINVAL);
        }
        let mut done = 0;
        while to.remaining() >= INFO_LEN {
            let Some(info) = signal::take(sched::current(), self.wanted()) else { break };
            done += to.write(&layout(&info))?;
        }
        if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn poll(&self) -> PollEvents {
        let ready = signal::pending_set(sched::current()) & self.wanted() != 0;
        if ready { PollEvents::IN } else { PollEvents::empty() }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&SENT)
    }

    fn stat(&self) -> Result<Stat> {
        Ok(Stat::new(Kind::Anonymous, 0o600, super::ANONYMOUS_INODE))
    }

    fn path(&self) -> Vec<u8> {
        b"anon_inode:[signalfd]".to_vec()
    }
}
