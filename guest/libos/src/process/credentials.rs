//! User and group identities of a program (credentials(7)).
use alloc::vec::Vec;

/// Real, effective and saved ids, and supplementary groups.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub groups: Vec<u32>,
}

impl Credentials {
    pub fn new(uid: u32, gid: u32) -> Credentials {
        Credentials { uid, euid: uid, suid: uid, gid, egid: gid, sgid: gid, groups: Vec::new() }
    }

    /// Whether it may do what only root may.
    pub fn is_root(&self) -> bool {
        self.euid == 0
    }
}
