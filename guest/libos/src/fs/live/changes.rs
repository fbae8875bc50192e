//! Changes of the tree, made at the host. The caller has made the checks that Linux makes before it asks a file system.
use super::directory::Names;
use super::{Handle, Live, child_path, path_of};
use crate::errno::Result;
use crate::fs::entry::Entry;
use crate::fs::host::read_listing;
use crate::fs::ops::attributes::SetTime;
use crate::fs::stat::Kind;
use alloc::sync::Arc;
use kasoku_abi::fs as wire;
use linux_raw_sys::general::{UTIME_NOW, UTIME_OMIT};
use zerocopy::IntoBytes;

impl Live {
    /// All names of a directory.
    pub(super) fn names(&self, path: &[u8]) -> Result<Names> {
        let mut names = Names::new();
        read_listing(&self.window, self.root, path, |name, of| {
            names.insert(name, (of.inode, of.kind));
        })?;
        Ok(names)
    }

    pub fn create(&self, directory: &Arc<Entry>, name: &[u8], mode: u32) -> Result<Handle> {
        let request = wire::Request { mode, ..self.request(wire::CREATE) };
        self.opened(request, &child_path(directory, name)?)
    }

    pub fn make_directory(&self, directory: &Arc<Entry>, name: &[u8], mode: u32) -> Result<()> {
        let request = wire::Request { mode, ..self.request(wire::MAKE_DIR) };
        self.change(request, &child_path(directory, name)?, b"")
    }

    pub fn symlink(&self, directory: &Arc<Entry>, name: &[u8], target: &[u8]) -> Result<()> {
        self.change(self.request(wire::SYMLINK), &child_path(directory, name)?, target)
    }

    pub fn link(&self, old: &Arc<Entry>, directory: &Arc<Entry>, name: &[u8]) -> Result<()> {
        self.change(self.request(wire::LINK), &path_of(old)?, &child_path(directory, name)?)
    }

    /// Removes a name: of a directory, or of anything else.
    pub fn remove(&self, victim: &Arc<Entry>) -> Result<()> {
        let operation = if victim.node.kind == Kind::Directory { wire::REMOVE_DIR } else { wire::UNLINK };
        self.change(self.request(operation), &path_of(victim)?, b"")?;
        victim.mark_removed();
        Ok(())
    }

    pub fn rename(&self, old: &Arc<Entry>, directory: &Arc<Entry>, name: &[u8], flags: u32) -> Result<()> {
        let request = wire::Request { flags, ..self.request(wire::RENAME) };
        self.change(request, &path_of(old)?, &child_path(directory, name)?)
    }

    pub fn set_mode(&self, entry: &Arc<Entry>, mode: u32) -> Result<()> {
        let request = wire::Request { mode, ..self.request(wire::SET_MODE) };
        self.change(request, &path_of(entry)?, b"")?;
        self.refresh(entry)
    }

    pub fn set_times(&self, entry: &Arc<Entry>, accessed: SetTime, modified: SetTime) -> Result<()> {
        let time = |set: SetTime| match set {
            SetTime::Omit => (0, i64::from(UTIME_OMIT)),
            SetTime::Now => (0, i64::from(UTIME_NOW)),
            SetTime::At(time) => (time.sec, i64::from(time.nsec)),
        };
        let ((accessed_s, accessed_ns), (modified_s, modified_ns)) = (time(accessed), time(modified));
        let times = wire::Times { accessed_s, accessed_ns, modified_s, modified_ns };
        self.change(self.request(wire::SET_TIMES), &path_of(entry)?, times.as_bytes())?;
        self.refresh(entry)
    }

    pub fn truncate(&self, entry: &Arc<Entry>, len: u64) -> Result<()> {
        let request = wire::Request { offset: len, ..self.request(wire::TRUNCATE) };
        self.change(request, &path_of(entry)?, b"")?;
        self.refresh(entry)
    }

    fn change(&self, request: wire::Request, path: &[u8], more: &[u8]) -> Result<()> {
        self.window.exchange(request, path, more, |_, _| Ok(()))
    }
}
