//! What a program may do beyond its user's rights (capabilities(7)).
use crate::errno::{Errno, Result};

/// Capabilities that the library OS asks about; bit numbers as Linux has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    Kill = 5,
    SetGid = 6,
    SetUid = 7,
    SetPcap = 8,
    IpcOwner = 15,
    SysChroot = 18,
    SysAdmin = 21,
    SysNice = 23,
    SysResource = 24,
    WakeAlarm = 35,
}

/// The highest capability that exists (CAP_CHECKPOINT_RESTORE).
pub const LAST: u32 = 40;
/// All of them.
pub const ALL: u64 = (1 << (LAST + 1)) - 1;

/// The sets of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    pub permitted: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub bounding: u64,
    pub ambient: u64,
    /// PR_SET_KEEPCAPS: a change of users leaves the permitted set.
    pub keep: bool,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
}

impl Default for Capabilities {
    /// Those of an ordinary user.
    fn default() -> Self {
        Capabilities {
            permitted: 0,
            effective: 0,
            inheritable: 0,
            bounding: ALL,
            ambient: 0,
            keep: false,
            no_new_privileges: false,
        }
    }
}

impl Capabilities {
    /// Those that a user begins with.
    pub fn of_user(uid: u32) -> Capabilities {
        let all = if uid == 0 { ALL } else { 0 };
        Capabilities { permitted: all, effective: all, ..Capabilities::default() }
    }

    pub fn can(&self, capability: Capability) -> bool {
        self.effective >> capability as u8 & 1 == 1
    }

    /// The user ids (real, effective, saved) have changed.
    pub fn users_changed(&mut self, old: [u32; 3], new: [u32; 3]) {
        if old.contains(&0) && !new.contains(&0) {
            if !self.keep {
                self.permitted = 0;
                self.effective = 0;
            }
            self.ambient = 0;
        }
        match (old[1] == 0, new[1] == 0) {
            (true, false) => self.effective = 0,
            (false, true) => self.effective = self.permitted,
            _ => {}
        }
    }

    /// `capset`: rights are given up, never gained.
    pub fn set(&mut self, permitted: u64, effective: u64, inheritable: u64) -> Result<()> {
        let may_add = if self.can(Capability::SetPcap) { self.bounding } else { self.permitted };
        let refused = permitted & !self.permitted != 0
            || effective & !permitted != 0
            || inheritable & !(self.inheritable | may_add) != 0
            || inheritable & !(self.inheritable | self.bounding) != 0;
        if refused {
            return Err(Errno::EPERM);
        }
        (self.permitted, self.effective, self.inheritable) = (permitted & ALL, effective & ALL, inheritable & ALL);
        self.ambient &= self.permitted & self.inheritable;
        Ok(())
    }

    /// PR_CAP_AMBIENT_RAISE.
    pub fn raise_ambient(&mut self, capability: u32) -> Result<()> {
        if self.permitted & self.inheritable & 1 << capability == 0 {
            return Err(Errno::EPERM);
        }
        self.ambient |= 1 << capability;
        Ok(())
    }

    /// PR_CAPBSET_DROP.
    pub fn drop_bounding(&mut self, capability: u32) -> Result<()> {
        if !self.can(Capability::SetPcap) {
            return Err(Errno::EPERM);
        }
        self.bounding &= !(1 << capability);
        Ok(())
    }

    /// The program executes another; files carry no capabilities here.
    pub fn executed(&mut self, uid: u32, euid: u32) {
        self.keep = false;
        if uid == 0 || euid == 0 {
            self.permitted = self.inheritable | self.bounding;
            self.effective = if euid == 0 { self.permitted } else { 0 };
        } else {
            self.permitted = self.ambient;
            self.effective = self.ambient;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: [u32; 3] = [0; 3];
    const USER: [u32; 3] = [100; 3];

    #[test]
    fn a_change_of_users_takes_everything() {
        let mut sets = Capabilities::of_user(0);
        sets.users_changed(ROOT, USER);
        assert_eq!((sets.permitted, sets.effective), (0, 0));
        assert_eq!(sets.set(1, 1, 0), Err(Errno::EPERM));
    }

    #[test]
    fn kept_capabilities_are_made_effective_again() {
        let mut sets = Capabilities { keep: true, ..Capabilities::of_user(0) };
        sets.users_changed(ROOT, USER);
        assert_eq!((sets.permitted, sets.effective), (ALL, 0));
        assert_eq!(sets.set(ALL, ALL, 0), Ok(()));
        assert!(sets.can(Capability::SetGid));
        sets.executed(100, 100);
        assert_eq!((sets.permitted, sets.effective, sets.keep), (0, 0, false));
    }

    #[test]
    fn an_effective_user_comes_and_goes() {
        let mut sets = Capabilities::of_user(0);
        sets.users_changed(ROOT, [0, 100, 0]);
        assert_eq!((sets.permitted, sets.effective), (ALL, 0));
        sets.users_changed([0, 100, 0], ROOT);
        assert_eq!(sets.effective, ALL);
    }

    #[test]
    fn nothing_is_gained() {
        let mut sets = Capabilities::of_user(0);
        assert_eq!(sets.set(0b110, 0b111, 0), Err(Errno::EPERM));
        assert_eq!(sets.set(0b110, 0b010, 0b010), Ok(()));
        assert_eq!(sets.set(0b111, 0, 0), Err(Errno::EPERM));
        assert_eq!(sets.drop_bounding(1), Err(Errno::EPERM));
        assert_eq!(sets.raise_ambient(1), Ok(()));
        assert_eq!(sets.raise_ambient(2), Err(Errno::EPERM));
        sets.executed(100, 100);
        assert_eq!((sets.permitted, sets.effective), (0b010, 0b010));
    }

    #[test]
    fn root_gets_the_bounding_set() {
        let mut sets = Capabilities::of_user(0);
        sets.drop_bounding(21).unwrap();
        sets.executed(0, 0);
        assert!(!sets.can(Capability::SysAdmin) && sets.can(Capability::Kill));
    }
}
