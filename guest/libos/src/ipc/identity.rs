//! What a pipe or a socket is as an inode: number, owner, permission bits.
use super::socket::caller;
use crate::errno::{Errno, Result};
use crate::fs::stat::{Kind, Stat};
use core::sync::atomic::{AtomicU32, Ordering};

pub(crate) struct Identity {
    pub inode: u64,
    kind: Kind,
    pub uid: u32,
    gid: u32,
    /// Permission bits, which nobody asks about.
    mode: AtomicU32,
}

impl Identity {
    /// Of something that the calling program makes.
    pub fn new(kind: Kind, mode: u32) -> Identity {
        let maker = caller::credentials();
        Identity { inode: super::next_inode(), kind, uid: maker.uid, gid: maker.gid, mode: AtomicU32::new(mode) }
    }

    pub fn stat(&self) -> Stat {
        let mode = self.mode.load(Ordering::Relaxed);
        Stat { uid: self.uid, gid: self.gid, ..Stat::new(self.kind, mode, self.inode) }
    }

    /// `fchmod`: EPERM for others than the owner.
    pub fn set_mode(&self, mode: u32) -> Result<()> {
        let uid = caller::credentials().uid;
        if uid != 0 && uid != self.uid {
            return Err(Errno::EPERM);
        }
        self.mode.store(mode, Ordering::Relaxed);
        Ok(())
    }
}
