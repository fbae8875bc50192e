//! Changes of the tree, made at the host. The caller has made the checks that Linux makes before it asks a file system.
use super::directory::Names;
use super::{Handle, Live, child_path, open_handle, path_of};
use crate::errno::{Errno, Result};
use crate::fs::entry::Entry;
use crate::fs::host::read_listing;
use crate::fs::mount::Mount;
use crate::fs::node::{Content, Node};
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

    pub fn create(&self, directory: &Arc<Entry>, name: &[u8], mode: u32) -> Result<Arc<Handle>> {
        let request = wire::Request { mode, ..self.request(wire::CREATE) };
        self.opened(request, &child_path(directory, name)?).map(|(handle, _)| handle)
    }

    /// A file without a name (O_TMPFILE), which never gets one where it is `for_ever` so.
    pub fn create_nameless(
        &self,
        mount: &Arc<Mount>,
        directory: &Arc<Entry>,
        mode: u32,
        for_ever: bool,
    ) -> Result<(Arc<Node>, Arc<Handle>)> {
        let flags = wire::NAMELESS | if for_ever { wire::FOR_EVER } else { 0 };
        let request = wire::Request { mode, flags, ..self.request(wire::CREATE) };
        let (handle, of) = self.opened(request, &path_of(directory)?)?;
        let node = self.node(mount, &of, None)?;
        if let Content::Live(file) = &node.content {
            file.set_handle(&handle);
        }
        Ok((node, handle))
    }

    pub fn make_directory(&self, directory: &Arc<Entry>, name: &[u8], mode: u32) -> Result<()> {
        let request = wire::Request { mode, ..self.request(wire::MAKE_DIR) };
        self.change(request, &child_path(directory, name)?, b"")
    }

    pub fn symlink(&self, directory: &Arc<Entry>, name: &[u8], target: &[u8]) -> Result<()> {
        self.change(self.request(wire::SYMLINK), &child_path(directory, name)?, target)
    }

    pub fn link(&self, old: &Arc<Entry>, directory: &Arc<Entry>, name: &[u8]) -> Result<()> {
        let to = child_path(directory, name)?;
        match open_handle(old).filter(|_| old.is_removed()) {
            Some(handle) => self.change(wire::Request { root: self.root, ..handle.request(wire::LINK) }, b"", &to),
            None => self.change(self.request(wire::LINK), &named(old)?, &to),
        }
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
        match open_handle(entry) {
            Some(handle) => self.change(wire::Request { mode, ..handle.request(wire::SET_MODE) }, b"", b""),
            None => self.change(wire::Request { mode, ..self.request(wire::SET_MODE) }, &named(entry)?, b""),
        }?;
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
        match open_handle(entry) {
            Some(handle) => self.change(handle.request(wire::SET_TIMES), b"", times.as_bytes()),
            None => self.change(self.request(wire::SET_TIMES), &named(entry)?, times.as_bytes()),
        }?;
        self.refresh(entry)
    }

    pub fn truncate(&self, entry: &Arc<Entry>, len: u64) -> Result<()> {
        match open_handle(entry).filter(|handle| handle.is_writable()) {
            Some(handle) => entry.node.refresh(&handle.truncate(len)?),
            None => {
                let request = wire::Request { offset: len, ..self.request(wire::TRUNCATE) };
                self.change(request, &named(entry)?, b"")?;
                self.refresh(entry)?;
            }
        }
        if let Content::Live(file) = &entry.node.content
            && let Some(view) = file.view()
        {
            view.resize(len);
        }
        Ok(())
    }

    fn change(&self, request: wire::Request, path: &[u8], more: &[u8]) -> Result<()> {
        self.window.exchange(request, path, more, |_, _| Ok(()))
    }
}

/// The host's path of an entry that still has its name.
fn named(entry: &Arc<Entry>) -> Result<alloc::vec::Vec<u8>> {
    if entry.is_removed() { Err(Errno::ENOENT) } else { path_of(entry) }
}
