//! `/proc/PID/ns`: every program of a guest is in the same namespaces, the first of each kind.
use super::process::View;
use crate::errno::Result;
use crate::fs::directory::Dynamic;
use crate::fs::entry::Entry;
use crate::fs::file::DirEntry;
use crate::fs::node::{Content, Node};
use crate::fs::stat::Kind;
use alloc::format;
use alloc::sync::Arc;

/// Name, what it is a namespace of, and the inode that Linux gives to the first one of the kind.
const NAMESPACES: &[(&str, &str, u32)] = &[
    ("cgroup", "cgroup", 0xeffffffb),
    ("ipc", "ipc", 0xefffffff),
    ("mnt", "mnt", 0xf0000001),
    ("net", "net", 0xf0000000),
    ("pid", "pid", 0xeffffffc),
    ("pid_for_children", "pid", 0xeffffffc),
    ("time", "time", 0xeffffffa),
    ("time_for_children", "time", 0xeffffffa),
    ("user", "user", 0xeffffffd),
    ("uts", "uts", 0xeffffffe),
];

/// Inodes of one process's `ns`, away from those of its other files.
const FIRST_INODE: u64 = 1 << 17;

pub(super) struct Namespaces(pub View);

impl Dynamic for Namespaces {
    fn find(&self, directory: &Arc<Entry>, name: &[u8]) -> Result<Option<Arc<Node>>> {
        let found = (1..).zip(NAMESPACES).find(|(_, (known, ..))| known.as_bytes() == name);
        Ok(found.map(|(index, (_, kind, number))| {
            let content = Content::Symlink(format!("{kind}:[{number}]").into_bytes().into_boxed_slice());
            Node::system(&directory.node.mount, content, Kind::Symlink, 0o777, self.0.inode(FIRST_INODE + index))
        }))
    }

    fn list(&self, position: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) {
        for (index, (name, ..)) in (1..).zip(NAMESPACES).filter(|(index, _)| *index > position) {
            let (inode, kind) = (self.0.inode(FIRST_INODE + index), Kind::Symlink.dirent_type());
            if !emit(DirEntry { inode, kind, name: name.as_bytes(), next: index }) {
                return;
            }
        }
    }
}
