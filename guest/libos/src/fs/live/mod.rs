//! Host directories that the guest may change: nothing is kept, every look asks the host, every change is made there before
//! the call returns. So guest and host see each other's files at once; what that costs is a request (40 us) per name that
//! is looked up and per read or write. What programs have mapped is the exception (`view`).
//!
//! A node stands for a file of the host (device and inode), for as long as somebody has it: locks and watches hang on it.
mod changes;
mod directory;
mod file;
mod view;

pub use file::{Handle, LiveFile};
pub use view::{View, map, write_back_all};

use super::directory::Directory;
use super::entry::Entry;
use super::host::{Window, look, translate};
use super::lower::Attributes;
use super::mount::Mount;
use super::node::{Content, Node};
use super::stat::Kind;
use super::walk::PATH_MAX;
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use kasoku_abi::fs as wire;

/// Nodes in the table beyond which those that nobody has are taken out.
const MANY_NODES: usize = 1024;

/// The host's side of a mount.
pub struct Live {
    window: Arc<Window>,
    root: u32,
    nodes: Mutex<BTreeMap<(u64, u64), Weak<Node>>>,
}

impl Live {
    pub fn new(window: Arc<Window>, root: u32) -> Live {
        Live { window, root, nodes: Mutex::new(BTreeMap::new()) }
    }

    /// The node of the mount's top.
    pub fn top(&self, mount: &Arc<Mount>) -> Result<Arc<Node>> {
        let (attributes, _) = look(&self.window, self.root, b"")?;
        if attributes.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        self.node(mount, &attributes, None)
    }

    /// What is at a path; `None` where nothing is.
    fn find(&self, mount: &Arc<Mount>, path: &[u8]) -> Result<Option<Arc<Node>>> {
        match look(&self.window, self.root, path) {
            Ok((attributes, target)) => self.node(mount, &attributes, target).map(Some),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The node for a file of the host, with what the host says about it now.
    fn node(&self, mount: &Arc<Mount>, of: &Attributes, target: Option<Box<[u8]>>) -> Result<Arc<Node>> {
        let content = match of.kind {
            // A link's target may have changed under the same number.
            Kind::Symlink => {
                return Ok(Node::over_lower(mount, Content::Symlink(target.ok_or(Errno::EIO)?), of));
            }
            Kind::Directory => Content::Directory(Directory::generated(Arc::<directory::Children>::default())),
            Kind::Regular => Content::Live(LiveFile::default()),
            // Devices, pipes and sockets of the host are not the guest's.
            _ => Content::Device(0, None),
        };
        let mut nodes = self.nodes.lock();
        let key = (of.device, of.inode);
        if let Some(node) = nodes.get(&key).and_then(Weak::upgrade)
            && node.kind == of.kind
        {
            drop(nodes);
            node.refresh(of);
            return Ok(node);
        }
        let node = Node::over_lower(mount, content, of);
        node.refresh(of);
        if nodes.len() >= MANY_NODES {
            nodes.retain(|_, node| node.strong_count() > 0);
        }
        nodes.insert(key, Arc::downgrade(&node));
        Ok(node)
    }

    /// Asks the host about an entry again: for those who hold it open. One that is gone stays as it was.
    pub fn refresh(&self, entry: &Arc<Entry>) -> Result<()> {
        if let Some(handle) = open_handle(entry) {
            entry.node.refresh(&handle.attributes()?);
            return Ok(());
        }
        if entry.is_removed() {
            return Ok(());
        }
        match look(&self.window, self.root, &path_of(entry)?) {
            Ok((of, _)) if (of.device, of.inode) == (entry.node.device, entry.node.inode) => entry.node.refresh(&of),
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    fn request(&self, operation: u32) -> wire::Request {
        wire::Request { operation, root: self.root, ..Default::default() }
    }
}

/// The file of an entry as somebody has it open.
fn open_handle(entry: &Entry) -> Option<Arc<Handle>> {
    match &entry.node.content {
        Content::Live(file) => file.handle(),
        _ => None,
    }
}

/// The host's path of an entry: its names up to the top of the mount.
fn path_of(entry: &Arc<Entry>) -> Result<Vec<u8>> {
    let mut names = Vec::new();
    let mut at = entry.clone();
    while let Some(parent) = at.parent().filter(|parent| parent.node.mount.id == entry.node.mount.id) {
        names.push(at.name());
        at = parent;
    }
    let path = names.iter().rev().map(|name| &name[..]).collect::<Vec<_>>().join(&b'/');
    if path.len() > PATH_MAX { Err(Errno::ENAMETOOLONG) } else { Ok(path) }
}

/// The host's path of a name in a directory.
fn child_path(directory: &Arc<Entry>, name: &[u8]) -> Result<Vec<u8>> {
    let mut path = path_of(directory)?;
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    if path.len() > PATH_MAX { Err(Errno::ENAMETOOLONG) } else { Ok(path) }
}
