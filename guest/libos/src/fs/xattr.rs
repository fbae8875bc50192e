//! Extended attributes. They are kept in memory with the node, whatever lies below it: layers and host directories show none.
use super::access::{Caller, Want};
use super::entry::Entry;
use super::mount::FsType;
use super::node::{Content, Node};
use super::notify;
use super::stat::Kind;
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use linux_raw_sys::general::{IN_ATTRIB, XATTR_CREATE, XATTR_REPLACE};

/// Longest name, without the NUL.
pub const NAME_MAX: usize = 255;
/// Longest value, bytes.
pub const VALUE_MAX: usize = 64 << 10;
/// Names and values of one file together, bytes: ENOSPC beyond, so that attributes cannot eat the library OS's own memory.
const FILE_MAX: usize = 128 << 10;

type Bytes = Box<[u8]>;

/// The attributes of one node: values by name.
#[derive(Default)]
pub struct Attributes(Mutex<BTreeMap<Bytes, Bytes>>);

/// Who may do what with an attribute of a name is told by its first part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Space {
    User,
    Trusted,
    Security,
    Unknown,
}

fn space(name: &[u8]) -> Space {
    match name {
        _ if name.starts_with(b"user.") => Space::User,
        _ if name.starts_with(b"trusted.") => Space::Trusted,
        _ if name.starts_with(b"security.") => Space::Security,
        _ => Space::Unknown,
    }
}

/// Whether the caller may touch an attribute of that name, in Linux's order of refusals.
fn check(node: &Node, name: &[u8], caller: &Caller, write: bool) -> Result<()> {
    if write {
        node.check_writable_mount()?;
    }
    let refused = if write { Errno::EPERM } else { Errno::ENODATA };
    let space = space(name);
    let checked_by_mode = match space {
        Space::Trusted if !caller.is_root() => return Err(refused),
        Space::User if !matches!(node.kind, Kind::Regular | Kind::Directory) => return Err(refused),
        Space::User if write && node.kind == Kind::Directory => {
            let meta = *node.meta();
            if meta.permissions & 0o1000 != 0 {
                caller.must_own(&meta)?;
            }
            true
        }
        Space::Trusted | Space::Security => false,
        _ => !name.starts_with(b"system."),
    };
    if checked_by_mode {
        caller.check(node, if write { Want::WRITE } else { Want::READ })?;
    }
    if space == Space::Security && write && !caller.is_root() {
        return Err(Errno::EPERM);
    }
    let generated = matches!(node.mount.fs_type, FsType::Proc | FsType::Sysfs | FsType::DevPts);
    if generated || space == Space::Unknown || matches!(node.content, Content::Opened(_)) {
        return Err(Errno::EOPNOTSUPP);
    }
    if name.ends_with(b".") && name.iter().filter(|byte| **byte == b'.').count() == 1 {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// `setxattr`.
pub fn set(entry: &Entry, name: &[u8], value: &[u8], flags: u32, caller: &Caller) -> Result<()> {
    let node = &entry.node;
    check(node, name, caller, true)?;
    {
        let mut held = node.xattrs().0.lock();
        match held.contains_key(name) {
            true if flags & XATTR_CREATE != 0 => return Err(Errno::EEXIST),
            false if flags & XATTR_REPLACE != 0 => return Err(Errno::ENODATA),
            _ => {}
        }
        let others = held.iter().filter(|(other, _)| &***other != name).map(|(other, value)| other.len() + value.len());
        if others.sum::<usize>() + name.len() + value.len() > FILE_MAX {
            return Err(Errno::ENOSPC);
        }
        held.insert(Box::from(name), Box::from(value));
    }
    changed(entry);
    Ok(())
}

/// `getxattr`.
pub fn get(entry: &Entry, name: &[u8], caller: &Caller) -> Result<Box<[u8]>> {
    check(&entry.node, name, caller, false)?;
    let held = entry.node.xattrs_if_any().ok_or(Errno::ENODATA)?;
    held.0.lock().get(name).cloned().ok_or(Errno::ENODATA)
}

/// `removexattr`.
pub fn remove(entry: &Entry, name: &[u8], caller: &Caller) -> Result<()> {
    check(&entry.node, name, caller, true)?;
    let held = entry.node.xattrs_if_any().ok_or(Errno::ENODATA)?;
    held.0.lock().remove(name).ok_or(Errno::ENODATA)?;
    changed(entry);
    Ok(())
}

/// `listxattr`: the names that the caller may know, each with its NUL.
pub fn list(entry: &Entry, caller: &Caller) -> Vec<u8> {
    let mut names = Vec::new();
    if let Some(held) = entry.node.xattrs_if_any() {
        for name in held.0.lock().keys().filter(|name| caller.is_root() || space(name) != Space::Trusted) {
            names.extend_from_slice(name);
            names.push(0);
        }
    }
    names
}

fn changed(entry: &Entry) {
    entry.node.touch_changed();
    notify::happened(entry, IN_ATTRIB);
}
