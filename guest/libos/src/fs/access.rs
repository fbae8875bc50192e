//! Who asks, and what the mode bits let them do.
use super::node::{Meta, Node};
use super::stat::Kind;
use crate::errno::{Errno, Result};
use alloc::vec::Vec;

bitflags::bitflags! {
    /// Permissions asked for (the bits of `access`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Want: u32 {
        const READ = 4;
        const WRITE = 2;
        const EXECUTE = 1;
    }
}

/// The identity that file permissions are checked against. User 0 may do everything (CAP_DAC_OVERRIDE, CAP_FOWNER, ...).
#[derive(Clone, Debug, Default)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Caller {
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    pub fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// Whether the caller may act as the owner (chmod, utimes): EPERM.
    pub fn must_own(&self, meta: &Meta) -> Result<()> {
        if self.is_root() || self.uid == meta.uid { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Whether the mode bits allow it: EACCES.
    pub fn check(&self, node: &Node, want: Want) -> Result<()> {
        let directory = node.kind == Kind::Directory;
        if self.is_root() {
            // Root may do all but execute what nobody may execute.
            let denied = want.contains(Want::EXECUTE) && !directory && node.meta().permissions & 0o111 == 0;
            return if denied { Err(Errno::EACCES) } else { Ok(()) };
        }
        let meta = node.meta();
        let shift = match () {
            _ if self.uid == meta.uid => 6,
            _ if self.in_group(meta.gid) => 3,
            _ => 0,
        };
        if want.bits() & !(meta.permissions >> shift) & 7 == 0 { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Whether entries may be added to the directory.
    pub fn check_create(&self, directory: &Node) -> Result<()> {
        self.check(directory, Want::WRITE | Want::EXECUTE)
    }

    /// Whether `victim` may be removed from the directory (sticky bit: only by its owner or the directory's).
    pub fn check_remove(&self, directory: &Node, victim: &Node) -> Result<()> {
        self.check(directory, Want::WRITE | Want::EXECUTE)?;
        let meta = directory.meta();
        let sticky = meta.permissions & 0o1000 != 0 && !self.is_root();
        if sticky && self.uid != meta.uid && self.uid != victim.meta().uid {
            return Err(Errno::EPERM);
        }
        Ok(())
    }
}

/// How many of `len` bytes the calling program may write at an offset: EFBIG, and a signal, when it is none.
#[cfg(target_os = "none")]
pub(super) fn check_size(offset: u64, len: usize) -> Result<usize> {
    crate::process::limits::check_file_size(offset, len)
}

/// On the host (tests) nobody has limits.
#[cfg(not(target_os = "none"))]
pub(super) fn check_size(_offset: u64, len: usize) -> Result<usize> {
    Ok(len)
}

/// Whether a file of `size` bytes may become `len` bytes long.
pub(super) fn check_length(size: u64, len: u64) -> Result<()> {
    // The last new byte is what the limit is about.
    if len > size { check_size(len - 1, 1).map(|_| ()) } else { Ok(()) }
}
