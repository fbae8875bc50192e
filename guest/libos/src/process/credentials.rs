//! User and group identities of a program (credentials(7)).
use crate::capabilities::{Capabilities, Capability};
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
    pub capabilities: Capabilities,
}

impl Credentials {
    pub fn new(uid: u32, gid: u32) -> Credentials {
        Credentials {
            uid,
            euid: uid,
            suid: uid,
            gid,
            egid: gid,
            sgid: gid,
            groups: Vec::new(),
            capabilities: Capabilities::of_user(uid),
        }
    }

    pub fn users(&self) -> [u32; 3] {
        [self.uid, self.euid, self.suid]
    }

    /// Whether it may do what its user alone may not.
    pub fn can(&self, capability: Capability) -> bool {
        self.capabilities.can(capability)
    }

    /// The program executes another.
    pub fn executed(&mut self) {
        self.suid = self.euid;
        self.sgid = self.egid;
        self.capabilities.executed(self.uid, self.euid);
    }
}
