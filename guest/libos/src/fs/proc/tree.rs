//! Making generated files and directories (`/proc`, `/sys`).
use crate::errno::{Errno, Result};
use crate::fs::entry::Entry;
use crate::fs::mount::Mount;
use crate::fs::node::{Content, Node, Pseudo, fresh_inode};
use crate::fs::setup::{add, add_directory};
use crate::fs::stat::Kind;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Makes a file's text.
pub type Text = fn() -> Vec<u8>;

/// The directory at a path below `root`, made where it is missing.
pub fn directory(root: &Arc<Entry>, path: &str) -> Result<Arc<Entry>> {
    let mut at = root.clone();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let found = at.node.directory()?.lock().find(&at, name.as_bytes())?;
        at = match found {
            Some(found) => found,
            None => add_directory(&at, name, 0o555)?,
        };
    }
    Ok(at)
}

/// Adds a file that reads as `text` says.
pub fn file(root: &Arc<Entry>, path: &str, text: Text) -> Result<()> {
    generated(root, path, 0o444, Arc::new(text))
}

/// Adds a file that may be written too.
pub fn writable_file(root: &Arc<Entry>, path: &str, text: Text, write: fn(&[u8]) -> Result<()>) -> Result<()> {
    generated(root, path, 0o644, Arc::new(Writable { text, write }))
}

/// Adds a file whose contents are made by anything that can.
pub fn generated(root: &Arc<Entry>, path: &str, mode: u32, pseudo: Arc<dyn Pseudo>) -> Result<()> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = directory(root, parent)?;
    add(&parent, name, pseudo_node(&parent.node.mount, mode, pseudo, fresh_inode())).map(|_| ())
}

pub(super) fn pseudo_node(mount: &Arc<Mount>, mode: u32, pseudo: Arc<dyn Pseudo>, inode: u64) -> Arc<Node> {
    Node::system(mount, Content::Pseudo(pseudo), Kind::Regular, mode, inode)
}

struct Writable {
    text: Text,
    write: fn(&[u8]) -> Result<()>,
}

impl Pseudo for Writable {
    fn read(&self) -> Result<Vec<u8>> {
        Ok((self.text)())
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() { Err(Errno::EINVAL) } else { (self.write)(bytes) }
    }
}
