//! The entries of a host directory that may change at any time.
use super::child_path;
use crate::errno::{Errno, Result};
use crate::fs::directory::Dynamic;
use crate::fs::entry::Entry;
use crate::fs::file::DirEntry;
use crate::fs::node::Node;
use crate::fs::stat::Kind;
use crate::sync::Mutex;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

/// Inode number and kind of each name.
pub type Names = BTreeMap<Box<[u8]>, (u64, Kind)>;

/// What a listing has shown. A name keeps its position, so that a listing goes on where it was whatever happened since.
#[derive(Default)]
pub struct Children(Mutex<Listing>);

#[derive(Default)]
struct Listing {
    by_position: BTreeMap<u64, (Box<[u8]>, u64, Kind)>,
    positions: BTreeMap<Box<[u8]>, u64>,
    next: u64,
}

impl Listing {
    fn renew(&mut self, names: Names) {
        self.positions.retain(|name, _| names.contains_key(name));
        self.by_position.clear();
        for (name, (inode, kind)) in names {
            let position = *self.positions.entry(name.clone()).or_insert_with(|| {
                self.next += 1;
                self.next - 1
            });
            self.by_position.insert(position, (name, inode, kind));
        }
    }
}

impl Dynamic for Children {
    fn find(&self, directory: &Arc<Entry>, name: &[u8]) -> Result<Option<Arc<Node>>> {
        let mount = &directory.node.mount;
        mount.live.as_ref().ok_or(Errno::EIO)?.find(mount, &child_path(directory, name)?)
    }

    fn begin_list(&self, directory: &Arc<Entry>) -> Result<()> {
        let live = directory.node.mount.live.as_ref().ok_or(Errno::EIO)?;
        let names = live.names(&super::path_of(directory)?)?;
        self.0.lock().renew(names);
        Ok(())
    }

    fn list(&self, position: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) {
        for (at, (name, inode, kind)) in self.0.lock().by_position.range(position..) {
            if !emit(DirEntry { inode: *inode, kind: kind.dirent_type(), name, next: at + 1 }) {
                break;
            }
        }
    }
}
