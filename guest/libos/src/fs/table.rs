//! Descriptor tables.
use super::file::OpenFile;
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// No table grows beyond this, whatever RLIMIT_NOFILE says (Linux: `fs.nr_open`). A table stays below the heap's largest
/// object.
pub const MAX_DESCRIPTORS: u32 = 65536;
/// RLIMIT_NOFILE of the first program: soft.
pub const DEFAULT_LIMIT: u32 = 1024;

#[derive(Clone)]
struct Slot {
    open: Arc<OpenFile>,
    close_on_exec: bool,
}

#[derive(Clone, Default)]
struct Slots {
    slots: Vec<Option<Slot>>,
    /// No descriptor below this one is free.
    free_from: usize,
}

/// The descriptors of one process (or of several that share them by CLONE_FILES).
pub struct FileTable {
    slots: Mutex<Slots>,
    /// RLIMIT_NOFILE, soft: descriptors are below it.
    limit: AtomicU32,
    /// Owner of the POSIX locks taken through this table.
    id: u64,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Default for FileTable {
    fn default() -> Self {
        Self::new()
    }
}

impl FileTable {
    pub fn new() -> FileTable {
        FileTable {
            slots: Mutex::new(Slots::default()),
            limit: AtomicU32::new(DEFAULT_LIMIT),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Who owns POSIX locks taken through this table.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// A copy for `fork`: the same open files.
    pub fn fork(&self) -> FileTable {
        FileTable {
            slots: Mutex::new(self.slots.lock().clone()),
            limit: AtomicU32::new(self.limit.load(Ordering::Relaxed)),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Follows RLIMIT_NOFILE's soft limit.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit.min(MAX_DESCRIPTORS.into()) as u32, Ordering::Relaxed);
    }

    /// The open file behind a descriptor; EBADF.
    pub fn get(&self, descriptor: i32) -> Result<Arc<OpenFile>> {
        let slots = self.slots.lock();
        let slot = usize::try_from(descriptor).ok().and_then(|d| slots.slots.get(d)?.as_ref());
        slot.map(|slot| slot.open.clone()).ok_or(Errno::EBADF)
    }

    /// As [`Self::get`], EBADF also for descriptors opened with O_PATH.
    pub fn get_usable(&self, descriptor: i32) -> Result<Arc<OpenFile>> {
        self.get(descriptor).and_then(|open| if open.is_path_only() { Err(Errno::EBADF) } else { Ok(open) })
    }

    /// EMFILE when no descriptor is free: asked before a call does what [`Self::install`] could not undo.
    pub fn check_room(&self) -> Result<()> {
        let slots = self.slots.lock();
        let limit = self.limit() as usize;
        let free = slots.free_from < limit
            && (slots.slots.len() < limit || slots.slots[slots.free_from..limit].iter().any(Option::is_none));
        if free { Ok(()) } else { Err(Errno::EMFILE) }
    }

    /// Puts the file at the lowest free descriptor; EMFILE at the limit.
    pub fn install(&self, open: Arc<OpenFile>, close_on_exec: bool) -> Result<i32> {
        self.install_from(0, open, close_on_exec)
    }

    /// Puts the file at the lowest free descriptor that is not below `from` (F_DUPFD): EINVAL when `from` is at the limit.
    pub fn install_from(&self, from: u32, open: Arc<OpenFile>, close_on_exec: bool) -> Result<i32> {
        let limit = self.limit();
        if from > 0 && from >= limit {
            return Err(Errno::EINVAL);
        }
        let mut slots = self.slots.lock();
        let begin = slots.free_from.max(from as usize);
        let used = slots.slots.len();
        let at = (begin..used).find(|d| slots.slots[*d].is_none()).unwrap_or(used.max(begin));
        if at >= limit as usize {
            return Err(Errno::EMFILE);
        }
        slots.put(at, Slot { open, close_on_exec });
        if from as usize <= slots.free_from {
            slots.free_from = at + 1;
        }
        Ok(at as i32)
    }

    /// Puts the file at this very descriptor (dup2); what was there is closed. EBADF when it is beyond the limit.
    pub fn install_at(&self, descriptor: i32, open: Arc<OpenFile>, close_on_exec: bool) -> Result<()> {
        let at = usize::try_from(descriptor).ok().filter(|d| *d < self.limit() as usize).ok_or(Errno::EBADF)?;
        let old = self.slots.lock().put(at, Slot { open, close_on_exec });
        self.finish(old);
        Ok(())
    }

    /// Closes a descriptor.
    pub fn close(&self, descriptor: i32) -> Result<()> {
        let at = usize::try_from(descriptor).map_err(|_| Errno::EBADF)?;
        let slot = self.slots.lock().take(at).ok_or(Errno::EBADF)?;
        self.finish(Some(slot));
        Ok(())
    }

    /// Closes all descriptors from `first` to `last`.
    pub fn close_range(&self, first: u32, last: u32) {
        self.close_where(first, last, |_| true);
    }

    /// Marks them close-on-exec instead (CLOSE_RANGE_CLOEXEC).
    pub fn cloexec_range(&self, first: u32, last: u32) {
        let mut slots = self.slots.lock();
        let end = slots.slots.len().min(last as usize + 1);
        for slot in slots.slots.iter_mut().take(end).skip(first as usize).flatten() {
            slot.close_on_exec = true;
        }
    }

    /// What `execve` closes.
    pub fn close_on_exec(&self) {
        self.close_where(0, u32::MAX, |slot| slot.close_on_exec);
    }

    /// What the end of a process closes.
    pub fn close_all(&self) {
        self.close_range(0, u32::MAX);
    }

    fn close_where(&self, first: u32, last: u32, matches: impl Fn(&Slot) -> bool) {
        let mut at = first as usize;
        loop {
            // One at a time: a file's end runs with the table unlocked, because it may wake others.
            let slot = {
                let mut slots = self.slots.lock();
                let end = slots.slots.len().min(last as usize + 1);
                let Some(found) = (at..end).find(|d| slots.slots[*d].as_ref().is_some_and(&matches)) else { return };
                at = found + 1;
                slots.take(found)
            };
            self.finish(slot);
        }
    }

    /// The close-on-exec flag.
    pub fn cloexec(&self, descriptor: i32) -> Result<bool> {
        self.with_slot(descriptor, |slot| slot.close_on_exec)
    }

    pub fn set_cloexec(&self, descriptor: i32, on: bool) -> Result<()> {
        self.with_slot(descriptor, |slot| slot.close_on_exec = on)
    }

    fn with_slot<T>(&self, descriptor: i32, then: impl FnOnce(&mut Slot) -> T) -> Result<T> {
        let mut slots = self.slots.lock();
        let slot = usize::try_from(descriptor).ok().and_then(|d| slots.slots.get_mut(d)?.as_mut());
        slot.map(then).ok_or(Errno::EBADF)
    }

    /// The lowest descriptor in use from `from` on (listing of /proc/self/fd).
    pub fn next_in_use(&self, from: u32) -> Option<u32> {
        let slots = self.slots.lock();
        (from as usize..slots.slots.len()).find(|d| slots.slots[*d].is_some()).map(|d| d as u32)
    }

    /// Slots that the table has room for (`FDSize` of `/proc/self/status`).
    pub fn capacity(&self) -> usize {
        self.slots.lock().slots.capacity()
    }

    fn finish(&self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            slot.open.flush(self.id);
        }
    }
}

impl Drop for FileTable {
    fn drop(&mut self) {
        self.close_all();
    }
}

impl Slots {
    fn put(&mut self, at: usize, slot: Slot) -> Option<Slot> {
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, || None);
        }
        self.slots[at].replace(slot)
    }

    fn take(&mut self, at: usize) -> Option<Slot> {
        let slot = self.slots.get_mut(at)?.take()?;
        self.free_from = self.free_from.min(at);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::file::File;
    use crate::fs::stat::{Kind, Stat};

    struct Nothing;
    impl File for Nothing {
        fn stat(&self) -> Result<Stat> {
            Ok(Stat::new(Kind::Anonymous, 0o600, 1))
        }
        fn path(&self) -> Vec<u8> {
            b"anon_inode:[nothing]".to_vec()
        }
    }

    fn open() -> Arc<OpenFile> {
        OpenFile::new(Arc::new(Nothing), 0)
    }

    #[test]
    fn the_lowest_free_descriptor_is_taken() {
        let table = FileTable::new();
        for expected in 0..5 {
            assert_eq!(table.install(open(), false), Ok(expected));
        }
        table.close(3).unwrap();
        table.close(1).unwrap();
        assert_eq!(table.install(open(), false), Ok(1));
        assert_eq!(table.install(open(), false), Ok(3));
        assert_eq!(table.install_from(10, open(), true), Ok(10));
        assert_eq!(table.install(open(), false), Ok(5));
        assert_eq!(table.install_from(2, open(), false), Ok(6));
        assert_eq!(table.install(open(), false), Ok(7));
    }

    #[test]
    fn limits_and_bad_descriptors() {
        let table = FileTable::new();
        table.set_limit(2);
        assert_eq!(table.close(0), Err(Errno::EBADF));
        assert!(table.get(-1).is_err() && table.get(i32::MAX).is_err());
        table.install(open(), false).unwrap();
        table.install(open(), false).unwrap();
        assert_eq!(table.check_room(), Err(Errno::EMFILE));
        assert_eq!(table.install(open(), false), Err(Errno::EMFILE));
        assert_eq!(table.install_from(2, open(), false), Err(Errno::EINVAL));
        assert_eq!(table.install_at(2, open(), false), Err(Errno::EBADF));
        assert_eq!(table.install_at(-1, open(), false), Err(Errno::EBADF));
    }

    #[test]
    fn exec_closes_what_is_marked_and_fork_copies() {
        let table = FileTable::new();
        for mark in [false, true, true, false] {
            table.install(open(), mark).unwrap();
        }
        let copy = table.fork();
        table.close_on_exec();
        let in_use = |table: &FileTable| (0..4).filter(|d| table.get(*d).is_ok()).collect::<Vec<_>>();
        assert_eq!(in_use(&table), [0, 3]);
        assert_eq!(in_use(&copy), [0, 1, 2, 3]);
        copy.close_range(1, u32::MAX);
        assert_eq!(in_use(&copy), [0]);
    }
}
