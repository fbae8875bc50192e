//! `/proc/PID/fd` and `/proc/PID/fdinfo`.
use super::process::View;
use super::tree::pseudo_node;
use crate::errno::{Errno, Result};
use crate::fs::directory::Dynamic;
use crate::fs::entry::Entry;
use crate::fs::file::{DirEntry, OpenFile};
use crate::fs::node::{Content, Jump, Magic, Node, Pseudo};
use crate::fs::opened::TreeFile;
use crate::fs::stat::Kind;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One of the two directories.
pub(super) struct Descriptors {
    pub view: View,
    pub info: bool,
}

/// File numbers of descriptors begin here, after those of the process's own files.
const FIRST: u64 = 0x1000;

impl Descriptors {
    fn inode(&self, descriptor: u32) -> u64 {
        let half = if self.info { 1 << 20 } else { 0 };
        self.view.inode((FIRST + u64::from(descriptor)) | half)
    }
}

impl Dynamic for Descriptors {
    fn find(&self, directory: &Arc<Entry>, name: &[u8]) -> Result<Option<Arc<Node>>> {
        let text = core::str::from_utf8(name).unwrap_or_default();
        let Some(descriptor) = text.parse::<u32>().ok().filter(|number| number.to_string() == text) else {
            return Ok(None);
        };
        let Ok(open) = self.view.process.files().get(descriptor as i32) else { return Ok(None) };
        let (mount, inode) = (&directory.node.mount, self.inode(descriptor));
        if self.info {
            return Ok(Some(pseudo_node(mount, 0o444, Arc::new(Info(open)), inode)));
        }
        let mode = 0o100 | if open.readable() { 0o400 } else { 0 } | if open.writable() { 0o200 } else { 0 };
        let content = Content::Magic(Arc::new(Descriptor(open)));
        Ok(Some(Node::system(mount, content, Kind::Symlink, mode, inode)))
    }

    fn list(&self, position: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) {
        let files = self.view.process.files();
        let kind = if self.info { Kind::Regular } else { Kind::Symlink }.dirent_type();
        let mut from = position as u32;
        while let Some(descriptor) = files.next_in_use(from) {
            let name = descriptor.to_string();
            let next = u64::from(descriptor) + 1;
            if !emit(DirEntry { inode: self.inode(descriptor), kind, name: name.as_bytes(), next }) {
                return;
            }
            from = descriptor + 1;
        }
    }
}

/// `/proc/PID/fd/N`.
struct Descriptor(Arc<OpenFile>);

impl Magic for Descriptor {
    fn text(&self) -> Result<Vec<u8>> {
        Ok(self.0.file().path())
    }

    fn jump(&self) -> Result<Jump> {
        Ok(match self.0.file().downcast::<TreeFile>() {
            Some(file) => Jump::Entry(file.entry().clone()),
            None => Jump::Open(self.0.clone()),
        })
    }
}

/// `/proc/PID/fdinfo/N`.
struct Info(Arc<OpenFile>);

impl Pseudo for Info {
    fn read(&self) -> Result<Vec<u8>> {
        let stat = self.0.file().stat().map_err(|_| Errno::ENOENT)?;
        let mount = self.0.file().downcast::<TreeFile>().map_or(0, |file| file.entry().node.mount.id);
        let (position, flags) = (self.0.offset(), self.0.flags());
        Ok(format!("pos:\t{position}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{}\n", stat.inode).into_bytes())
    }
}
