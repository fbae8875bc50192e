//! `unlink` and `rmdir`.
use super::super::entry::Entry;
use super::super::node::Node;
use super::super::notify;
use super::super::stat::Kind;
use super::super::walk::{Last, Parent, Walk};
use super::{check_changeable, is_mount_point, touch_directory};
use crate::errno::{Errno, Result};
use alloc::sync::Arc;

/// `unlink`.
pub fn file(walk: &mut Walk<'_>, parent: &Parent<'_>) -> Result<()> {
    let Last::Name(name) = parent.last else { return Err(Errno::EISDIR) };
    let directory = &parent.directory;
    directory.node.check_writable_mount()?;
    let victim = walk.child(directory, name)?.ok_or(Errno::ENOENT)?;
    if parent.slash {
        return Err(if victim.node.kind == Kind::Directory { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    check_changeable(&directory.node)?;
    walk.caller.check_remove(&directory.node, &victim.node)?;
    if victim.node.kind == Kind::Directory {
        return Err(Errno::EISDIR);
    }
    if let Some(live) = &directory.node.mount.live {
        live.remove(&victim)?;
        notify::removed(directory, &victim);
        return Ok(());
    }
    detach(directory, &victim)?;
    touch_directory(&directory.node, 0);
    notify::removed(directory, &victim);
    Ok(())
}

/// `rmdir`.
pub fn directory(walk: &mut Walk<'_>, parent: &Parent<'_>) -> Result<()> {
    let name = match parent.last {
        Last::Name(name) => name,
        Last::Dot => return Err(Errno::EINVAL),
        Last::DotDot => return Err(Errno::ENOTEMPTY),
        Last::Root => return Err(Errno::EBUSY),
    };
    let directory = &parent.directory;
    directory.node.check_writable_mount()?;
    let victim = walk.child(directory, name)?.ok_or(Errno::ENOENT)?;
    walk.caller.check_remove(&directory.node, &victim.node)?;
    if victim.node.kind != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    check_changeable(&directory.node)?;
    if is_mount_point(&victim) {
        return Err(Errno::EBUSY);
    }
    if let Some(live) = &directory.node.mount.live {
        live.remove(&victim)?;
        notify::removed(directory, &victim);
        return Ok(());
    }
    kill_if_empty(&victim)?;
    detach(directory, &victim)?;
    touch_directory(&directory.node, -1);
    notify::removed(directory, &victim);
    Ok(())
}

/// Marks an empty directory as dead, so that nothing can be made in it while its name goes: ENOTEMPTY.
pub(super) fn kill_if_empty(victim: &Arc<Entry>) -> Result<()> {
    let mut state = victim.node.directory()?.lock();
    if !state.is_empty()? {
        return Err(Errno::ENOTEMPTY);
    }
    state.kill();
    Ok(())
}

/// Takes the name away: ENOENT when somebody else was faster.
fn detach(directory: &Arc<Entry>, victim: &Arc<Entry>) -> Result<()> {
    let name = victim.name();
    {
        let mut state = directory.node.directory()?.lock();
        let still = state.find(directory, &name)?;
        if !still.is_some_and(|still| Arc::ptr_eq(&still, victim)) {
            return Err(Errno::ENOENT);
        }
        state.take(&name);
    }
    victim.mark_removed();
    lose_name(&victim.node);
    Ok(())
}

/// A node has one name less.
pub(super) fn lose_name(node: &Node) {
    let mut meta = node.meta();
    meta.links = if node.kind == Kind::Directory { 0 } else { meta.links.saturating_sub(1) };
    meta.changed = crate::fs::now();
}
