//! What system calls do to the tree: open, make, remove, rename, link, change attributes. Errors and their order are
//! Linux's.
pub mod attributes;
pub mod make;
pub mod open;
pub mod remove;
pub mod rename;

use super::entry::Entry;
use super::mount::FsType;
use super::node::Node;
use super::walk::{Last, Parent, Walk};
use crate::errno::{Errno, Result};
use alloc::sync::Arc;

/// Whether programs may change the entries of the directory at all: EROFS, or EPERM in generated trees.
fn check_changeable(directory: &Node) -> Result<()> {
    directory.check_writable_mount()?;
    match directory.mount.fs_type {
        FsType::Proc | FsType::Sysfs => Err(Errno::EPERM),
        _ => Ok(()),
    }
}

/// Whether something is mounted at the entry.
fn is_mount_point(entry: &Arc<Entry>) -> bool {
    entry.parent().is_none_or(|parent| parent.node.mount.id != entry.node.mount.id)
}

/// The name for something new that the caller may make: EEXIST when it is there.
fn new_name<'p>(walk: &Walk<'_>, parent: &Parent<'p>, directory: bool) -> Result<&'p [u8]> {
    let name = free_name(walk, parent, directory)?;
    check_may_create(walk, &parent.directory)?;
    Ok(name)
}

/// A name that is not there yet.
fn free_name<'p>(walk: &Walk<'_>, parent: &Parent<'p>, directory: bool) -> Result<&'p [u8]> {
    let Last::Name(name) = parent.last else { return Err(Errno::EEXIST) };
    if walk.child(&parent.directory, name)?.is_some() {
        return Err(Errno::EEXIST);
    }
    if parent.slash && !directory {
        return Err(Errno::ENOENT);
    }
    match parent.directory.node.mount.fs_type {
        // A name that a generated tree does not have is not there, whoever wants to make it.
        FsType::Proc | FsType::Sysfs => Err(Errno::ENOENT),
        _ => parent.directory.node.check_writable_mount().map(|()| name),
    }
}

/// Whether the caller may add entries to the directory.
fn check_may_create(walk: &Walk<'_>, directory: &Arc<Entry>) -> Result<()> {
    check_alive(directory)?;
    walk.caller.check_create(&directory.node)
}

/// ENOENT in a directory that was removed.
fn check_alive(directory: &Arc<Entry>) -> Result<()> {
    if directory.node.directory()?.lock().is_dead() { Err(Errno::ENOENT) } else { Ok(()) }
}

/// The directory's entries changed.
fn touch_directory(directory: &Node, subdirectories: i32) {
    directory.touch_modified();
    let mut meta = directory.meta();
    meta.links = meta.links.saturating_add_signed(subdirectories);
}
