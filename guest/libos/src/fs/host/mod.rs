//! Host directories, through a file-system window (`abi::fs`).
//!
//! A request costs about 40 us, so nothing is asked twice: attributes, links, listings and absences are kept for the life
//! of the guest, which sees a host tree as it was when it first looked.
mod file;
mod window;

use super::lower::{Attributes, Bytes, ListedName, Lower};
use super::stat::{Kind, Time};
use super::walk::PATH_MAX;
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
pub(super) use file::to_frames;
use kasoku_abi::fs as wire;
pub use window::{Call, Window};

/// Look-ups in a directory after which all of it is read, attributes included, because one look-up (40 us) costs as much as
/// forty entries of a listing: fewer in a small directory (by the bytes that the host says it has), more in a large one.
fn lookups_before_listing(size: u64) -> u32 {
    const BYTES_PER_LOOKUP: u64 = 1024;
    (size / BYTES_PER_LOOKUP).clamp(4, 256) as u32
}

/// A file below one of a window's roots.
pub struct HostFile {
    window: Arc<Window>,
    root: u32,
    /// Relative to the root, without a leading slash.
    path: Box<[u8]>,
    attributes: Attributes,
    /// Target of a symbolic link, where it came with the attributes.
    target: Option<Box<[u8]>>,
    children: Mutex<Children>,
}

#[derive(Default)]
struct Children {
    lookups: u32,
    /// All entries, once they were read. `Err`: the directory cannot be listed, only searched.
    listing: Option<Result<Listing>>,
}

type Listing = BTreeMap<Box<[u8]>, Attributes>;

impl HostFile {
    /// The top of a root.
    pub fn root(window: Arc<Window>, root: u32) -> Result<Arc<dyn Lower>> {
        let (attributes, _) = look(&window, root, b"")?;
        if attributes.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let path = Box::default();
        Ok(Arc::new(HostFile { window, root, path, attributes, target: None, children: Mutex::default() }))
    }

    fn child_path(&self, name: &[u8]) -> Result<Box<[u8]>> {
        let path = if self.path.is_empty() {
            Box::from(name)
        } else {
            [&self.path, &b"/"[..], name].concat().into_boxed_slice()
        };
        if path.len() > PATH_MAX { Err(Errno::ENAMETOOLONG) } else { Ok(path) }
    }

    fn read_listing(&self) -> Result<Listing> {
        let mut listing = Listing::new();
        read_listing(&self.window, self.root, &self.path, |name, attributes| {
            listing.insert(name, attributes);
        })?;
        Ok(listing)
    }

    fn with_listing<T>(&self, children: &mut Children, then: impl FnOnce(&Listing) -> T) -> Result<T> {
        let listing = children.listing.get_or_insert_with(|| self.read_listing());
        listing.as_ref().map(then).map_err(|errno| *errno)
    }
}

impl Lower for HostFile {
    fn attributes(&self) -> Result<Attributes> {
        Ok(self.attributes.clone())
    }

    fn find(&self, name: &[u8]) -> Result<Option<Arc<dyn Lower>>> {
        let path = self.child_path(name)?;
        let mut children = self.children.lock();
        children.lookups += 1;
        let listed = children.listing.is_some() || children.lookups > lookups_before_listing(self.attributes.size);
        let found = if listed && let Ok(found) = self.with_listing(&mut children, |listing| listing.get(name).cloned())
        {
            found.map(|attributes| (attributes, None))
        } else {
            match look(&self.window, self.root, &path) {
                Ok(found) => Some(found),
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::ELOOP) => None,
                Err(errno) => return Err(errno),
            }
        };
        drop(children);
        Ok(found.map(|(attributes, target)| -> Arc<dyn Lower> {
            let (window, root) = (self.window.clone(), self.root);
            Arc::new(HostFile { window, root, path, attributes, target, children: Mutex::default() })
        }))
    }

    fn list(&self) -> Result<Vec<ListedName>> {
        self.with_listing(&mut self.children.lock(), |listing| {
            listing.iter().map(|(name, of)| ListedName { name: name.clone(), inode: of.inode, kind: of.kind }).collect()
        })
    }

    fn read_link(&self) -> Result<Box<[u8]>> {
        if let Some(target) = &self.target {
            return Ok(target.clone());
        }
        let request = wire::Request { operation: wire::READ_LINK, root: self.root, ..Default::default() };
        self.window.request(request, &self.path, |_, data| Ok(Box::<[u8]>::from(data))).and_then(check_target)
    }

    fn bytes(&self) -> Result<Bytes> {
        Ok(Bytes::Fetched(file::HostBytes::fetch_from(self.window.clone(), self.root, self.path.clone())))
    }

    fn has_whiteouts(&self) -> bool {
        false
    }
}

/// All entries of a directory.
pub(super) fn read_listing(
    window: &Window,
    root: u32,
    path: &[u8],
    mut emit: impl FnMut(Box<[u8]>, Attributes),
) -> Result<()> {
    let mut offset = 0;
    loop {
        let request = wire::Request {
            operation: wire::READ_DIR,
            root,
            offset,
            len: wire::DATA_LEN as u32,
            flags: wire::WITH_ATTRIBUTES,
            ..Default::default()
        };
        let (next, data) = window.request(request, path, |reply, data| Ok((reply.value, data.to_vec())))?;
        window::parse_listing(&data, |name, attributes| {
            if let Ok(attributes) = translate(attributes) {
                emit(name, attributes);
            }
        })?;
        // A proxy that never ends a listing, or goes round in it, ends it here.
        if next == 0 || next == offset || data.is_empty() {
            return Ok(());
        }
        offset = next;
    }
}

fn check_target(target: Box<[u8]>) -> Result<Box<[u8]>> {
    let sound = !target.is_empty() && target.len() <= PATH_MAX && !target.contains(&0);
    if sound { Ok(target) } else { Err(Errno::EIO) }
}

/// Attributes of a file, and its target if it is a symbolic link.
pub(super) fn look(window: &Window, root: u32, path: &[u8]) -> Result<(Attributes, Option<Box<[u8]>>)> {
    let request = wire::Request { operation: wire::FETCH, root, ..Default::default() };
    let (attributes, data) =
        window.request(request, path, |reply, data| Ok((translate(reply.attributes)?, Box::<[u8]>::from(data))))?;
    let target = (attributes.kind == Kind::Symlink).then(|| check_target(data)).transpose()?;
    Ok((attributes, target))
}

/// From the wire; EIO for what no file can be.
pub(super) fn translate(of: wire::Attributes) -> Result<Attributes> {
    Ok(Attributes {
        device: of.device,
        inode: of.inode,
        kind: Kind::from_mode(of.mode).ok_or(Errno::EIO)?,
        permissions: of.mode & 0o7777,
        links: of.links,
        uid: of.uid,
        gid: of.gid,
        rdev: 0,
        size: of.size,
        accessed: Time::from_ns(of.accessed_ns),
        modified: Time::from_ns(of.modified_ns),
        changed: Time::from_ns(of.changed_ns),
    })
}

#[cfg(test)]
mod tests;
