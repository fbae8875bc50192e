//! System V inter-process communication (sysvipc(7)): shared memory segments, semaphore sets, message queues. Objects live
//! in tables by number and are found by key; they stay until somebody removes them.
pub mod msg;
pub mod sem;
pub mod shm;

use crate::capabilities::Capability;
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use linux_raw_sys::general::{__kernel_gid_t, __kernel_uid_t};
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub const IPC_PRIVATE: i32 = 0;
pub const IPC_CREAT: u32 = 0o1000;
pub const IPC_EXCL: u32 = 0o2000;
pub const IPC_NOWAIT: u32 = 0o4000;
pub const IPC_RMID: u32 = 0;
pub const IPC_SET: u32 = 1;
pub const IPC_STAT: u32 = 2;
pub const IPC_INFO: u32 = 3;

/// Reading and writing, as mode bits of one class of users.
pub const READ: u32 = 4;
pub const WRITE: u32 = 2;
/// Most objects of a kind.
const OBJECTS_MAX: usize = 4096;

/// `struct ipc64_perm`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Permissions {
    pub key: i32,
    pub uid: __kernel_uid_t,
    pub gid: __kernel_gid_t,
    pub creator: __kernel_uid_t,
    pub creator_group: __kernel_gid_t,
    pub mode: u32,
    pub sequence: u16,
    padding: [u16; 3],
    unused: [u64; 2],
}

const _: () = assert!(size_of::<Permissions>() == 48);

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
    pub groups: alloc::vec::Vec<u32>,
    pub capabilities: crate::capabilities::Capabilities,
}

impl Permissions {
    fn new(key: i32, mode: u32, caller: &Caller) -> Permissions {
        Permissions {
            key,
            uid: caller.uid,
            gid: caller.gid,
            creator: caller.uid,
            creator_group: caller.gid,
            mode: mode & 0o777,
            sequence: 0,
            padding: [0; 3],
            unused: [0; 2],
        }
    }

    /// EACCES unless the caller may use the object so (READ, WRITE).
    pub fn check(&self, caller: &Caller, wanted: u32) -> Result<()> {
        let in_group = |gid: u32| caller.gid == gid || caller.groups.contains(&gid);
        let shift = match () {
            _ if caller.uid == self.uid || caller.uid == self.creator => 6,
            _ if in_group(self.gid) || in_group(self.creator_group) => 3,
            _ => 0,
        };
        let granted = self.mode >> shift;
        let allowed = wanted & !granted & 7 == 0 || caller.capabilities.can(Capability::IpcOwner);
        if allowed { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// EPERM unless the caller may change or remove the object.
    pub fn must_own(&self, caller: &Caller) -> Result<()> {
        let own = caller.uid == self.uid || caller.uid == self.creator;
        if own || caller.capabilities.can(Capability::SysAdmin) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// IPC_SET: owner, group and mode.
    pub fn set(&mut self, wanted: &Permissions) {
        self.uid = wanted.uid;
        self.gid = wanted.gid;
        self.mode = wanted.mode & 0o777;
    }
}

/// An object in a table.
pub trait Object: Send + Sync {
    fn permissions(&self) -> Permissions;
}

/// All objects of a kind.
pub struct Table<T> {
    objects: Mutex<Objects<T>>,
}

struct Objects<T> {
    by_id: BTreeMap<u32, Arc<T>>,
    next: u32,
}

impl<T: Object> Table<T> {
    const fn new() -> Table<T> {
        Table { objects: Mutex::new(Objects { by_id: BTreeMap::new(), next: 0 }) }
    }

    /// The object with the key, or a new one: what `shmget`, `semget` and `msgget` have in common.
    fn get(
        &self,
        caller: &Caller,
        key: i32,
        flags: u32,
        check: impl FnOnce(&T) -> Result<()>,
        make: impl FnOnce(Permissions) -> Result<T>,
    ) -> Result<u32> {
        let mut objects = self.objects.lock();
        let found = objects.by_id.iter().find(|(_, object)| key != IPC_PRIVATE && object.permissions().key == key);
        if let Some((id, object)) = found {
            if flags & IPC_CREAT != 0 && flags & IPC_EXCL != 0 {
                return Err(Errno::EEXIST);
            }
            check(object)?;
            object.permissions().check(caller, (flags >> 6 | flags >> 3 | flags) & 6)?;
            return Ok(*id);
        }
        if key != IPC_PRIVATE && flags & IPC_CREAT == 0 {
            return Err(Errno::ENOENT);
        }
        if objects.by_id.len() >= OBJECTS_MAX {
            return Err(Errno::ENOSPC);
        }
        let object = make(Permissions::new(key, flags, caller))?;
        let id = objects.next;
        objects.next = (id + 1) & i32::MAX as u32;
        objects.by_id.insert(id, Arc::new(object));
        Ok(id)
    }

    /// EINVAL when there is none.
    fn find(&self, id: u32) -> Result<Arc<T>> {
        self.objects.lock().by_id.get(&id).cloned().ok_or(Errno::EINVAL)
    }

    fn remove(&self, id: u32) -> Result<Arc<T>> {
        self.objects.lock().by_id.remove(&id).ok_or(Errno::EINVAL)
    }

    /// The object at a place in the table (`*_STAT` commands), with its number, and the highest place in use.
    fn at(&self, index: u32) -> Result<(u32, Arc<T>)> {
        let objects = self.objects.lock();
        let found = objects.by_id.iter().nth(index as usize).ok_or(Errno::EINVAL)?;
        Ok((*found.0, found.1.clone()))
    }

    fn count(&self) -> usize {
        self.objects.lock().by_id.len()
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    crate::time::realtime_ns() / crate::time::SECOND_NS
}
