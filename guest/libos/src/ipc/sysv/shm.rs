//! Shared memory segments (shmget(2), shmop(2)).
use super::{Caller, Object, Permissions, Table, now};
use crate::errno::{Errno, Result};
use crate::mm::shared::SharedMemory;
use crate::mm::source::MapSource;
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Mode bit of a segment that goes with its last mapping.
const SHM_DEST: u32 = 0o1000;

/// `struct shmid64_ds`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Description {
    pub permissions: Permissions,
    size: u64,
    attached: u64,
    detached: u64,
    changed: u64,
    creator_pid: u32,
    last_pid: u32,
    mappings: u64,
    unused: [u64; 2],
}

const _: () = assert!(size_of::<Description>() == 112);

pub struct Segment {
    description: Mutex<Description>,
    /// Held by every mapping too: they are counted so.
    memory: Arc<dyn MapSource>,
}

impl Object for Segment {
    fn permissions(&self) -> Permissions {
        self.description.lock().permissions
    }
}

static SEGMENTS: Table<Segment> = Table::new();
/// Segments that were removed while they were mapped: they have a number as long as that lasts.
static REMOVED: Mutex<BTreeMap<u32, Removed>> = Mutex::new(BTreeMap::new());

type Removed = (Description, Weak<dyn MapSource>);

/// `shmget`.
pub fn get(caller: &Caller, key: i32, size: u64, flags: u32) -> Result<u32> {
    let fits = |segment: &Segment| {
        if size > segment.description.lock().size { Err(Errno::EINVAL) } else { Ok(()) }
    };
    SEGMENTS.get(caller, key, flags, fits, |permissions| {
        if size == 0 {
            return Err(Errno::EINVAL);
        }
        if size > crate::mm::frame::memory().total_frames() as u64 * kasoku_abi::layout::PAGE * 4 {
            return Err(Errno::ENOMEM);
        }
        let description = Description {
            permissions,
            size,
            attached: 0,
            detached: 0,
            changed: now(),
            creator_pid: caller.pid,
            last_pid: 0,
            mappings: 0,
            unused: [0; 2],
        };
        Ok(Segment { description: Mutex::new(description), memory: Arc::new(SharedMemory::of_bytes(size)) })
    })
}

/// What `shmat` maps: the memory, its size, and the segment's key, which names the mapping.
pub fn attach(caller: &Caller, id: u32, wanted: u32) -> Result<(Arc<dyn MapSource>, u64, i32)> {
    let (description, memory) = match SEGMENTS.find(id) {
        Ok(segment) => {
            let mut description = segment.description.lock();
            description.permissions.check(caller, wanted)?;
            description.attached = now();
            description.last_pid = caller.pid;
            (*description, segment.memory.clone())
        }
        Err(errno) => {
            let removed = REMOVED.lock();
            let (description, memory) = removed.get(&id).ok_or(errno)?;
            description.permissions.check(caller, wanted)?;
            (*description, memory.upgrade().ok_or(errno)?)
        }
    };
    Ok((memory, description.size, description.permissions.key))
}

/// The size of the segment whose memory that is, which is being unmapped (`shmdt`).
pub fn detach(caller: &Caller, memory: &Arc<dyn MapSource>) -> Option<u64> {
    let objects = SEGMENTS.objects.lock();
    let segment = objects.by_id.values().find(|segment| Arc::ptr_eq(&segment.memory, memory));
    if let Some(segment) = segment {
        let mut description = segment.description.lock();
        description.detached = now();
        description.last_pid = caller.pid;
        return Some(description.size);
    }
    let removed = REMOVED.lock();
    let same = |held: &Weak<dyn MapSource>| core::ptr::addr_eq(held.as_ptr(), Arc::as_ptr(memory));
    removed.values().find(|(_, held)| same(held)).map(|(description, _)| description.size)
}

/// IPC_RMID. What is mapped stays so; its number goes with the last mapping.
pub fn remove(caller: &Caller, id: u32) -> Result<()> {
    SEGMENTS.find(id)?.permissions().must_own(caller)?;
    let segment = SEGMENTS.remove(id)?;
    let mut removed = REMOVED.lock();
    removed.retain(|_, (_, memory)| memory.strong_count() > 0);
    let mut description = *segment.description.lock();
    description.permissions.key = super::IPC_PRIVATE;
    description.permissions.mode |= SHM_DEST;
    removed.insert(id, (description, Arc::downgrade(&segment.memory)));
    Ok(())
}

/// IPC_SET.
pub fn set(caller: &Caller, id: u32, wanted: &Permissions) -> Result<()> {
    let segment = SEGMENTS.find(id)?;
    let mut description = segment.description.lock();
    description.permissions.must_own(caller)?;
    description.permissions.set(wanted);
    description.changed = now();
    Ok(())
}

/// IPC_STAT.
pub fn describe(caller: &Caller, id: u32) -> Result<Description> {
    let description = match SEGMENTS.find(id) {
        // The table holds one reference.
        Ok(segment) => described(&segment),
        Err(errno) => {
            let removed = REMOVED.lock();
            let (description, memory) = removed.get(&id).ok_or(errno)?;
            match memory.strong_count() {
                0 => return Err(errno),
                mappings => Description { mappings: mappings as u64, ..*description },
            }
        }
    };
    description.permissions.check(caller, super::READ)?;
    Ok(description)
}

fn described(segment: &Segment) -> Description {
    Description { mappings: Arc::strong_count(&segment.memory) as u64 - 1, ..*segment.description.lock() }
}

/// SHM_STAT and SHM_STAT_ANY.
pub fn describe_at(caller: &Caller, index: u32, any: bool) -> Result<(u32, Description)> {
    let (id, segment) = SEGMENTS.at(index)?;
    if !any {
        segment.permissions().check(caller, super::READ)?;
    }
    Ok((id, described(&segment)))
}

/// Segments in use, and their pages altogether (SHM_INFO).
pub fn totals() -> (usize, u64) {
    let objects = SEGMENTS.objects.lock();
    let pages = |segment: &Arc<Segment>| segment.description.lock().size.div_ceil(kasoku_abi::layout::PAGE);
    (objects.by_id.len(), objects.by_id.values().map(pages).sum())
}
