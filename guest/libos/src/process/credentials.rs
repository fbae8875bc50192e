//! User and group identities of a program (credentials(7)).
use crate::capabilities::{Capabilities, Capability};
use alloc::vec::Vec;
use linux_raw_sys::general::{S_ISGID, S_ISUID, S_IXGRP};

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

    /// The program executes another, from a file with these set-id bits.
    pub fn executed(&mut self, set: SetId) {
        if !self.capabilities.no_new_privileges {
            self.euid = set.user.unwrap_or(self.euid);
            self.egid = set.group.unwrap_or(self.egid);
        }
        self.suid = self.euid;
        self.sgid = self.egid;
        self.capabilities.executed(self.uid, self.euid);
    }

    /// Whether it acts with the rights of somebody whom it does not belong to: then its user may not meddle with it.
    pub fn are_lent(&self) -> bool {
        (self.uid, self.gid) != (self.euid, self.egid)
    }
}

/// Whose rights a file gives to whoever executes it (set-user-id and set-group-id bits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetId {
    pub user: Option<u32>,
    pub group: Option<u32>,
}

impl SetId {
    /// As a file's permissions and owners say.
    pub fn of(permissions: u32, uid: u32, gid: u32) -> SetId {
        SetId {
            user: (permissions & S_ISUID != 0).then_some(uid),
            // Without the group's right to execute it, the bit once meant mandatory locks.
            group: (permissions & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP).then_some(gid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_owners_rights() {
        let mut who = Credentials::new(1000, 1000);
        for ordinary in [0o755, 0o2744] {
            who.executed(SetId::of(ordinary, 0, 0));
            assert!(!who.are_lent());
        }
        who.executed(SetId::of(0o6755, 0, 7));
        assert!(who.are_lent());
        assert_eq!((who.users(), who.gid, who.egid, who.sgid), ([1000, 0, 0], 1000, 7, 7));
        assert!(who.can(crate::capabilities::Capability::Kill));
    }

    #[test]
    fn who_wants_no_new_privileges_gets_none() {
        let mut who = Credentials::new(1000, 1000);
        who.capabilities.no_new_privileges = true;
        who.executed(SetId::of(0o6755, 0, 0));
        assert_eq!(who.users(), [1000; 3]);
    }
}
