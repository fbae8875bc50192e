//! `mkdir`, `mknod`, `symlink`, `link`, and files without a name.
use super::super::access::{Caller, Want};
use super::super::data::Data;
use super::super::directory::Directory;
use super::super::entry::Entry;
use super::super::node::{Content, Node};
use super::super::notify;
use super::super::stat::Kind;
use super::super::walk::{PATH_MAX, Parent, Walk};
use super::{check_may_create, free_name, new_name, touch_directory};
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use alloc::boxed::Box;
use alloc::sync::Arc;
use linux_raw_sys::general::F_SEAL_SEAL;

/// A new node that `directory` is going to hold: it inherits the group, and directories the set-group-id bit, from a
/// directory that has it.
pub(super) fn node_in(
    directory: &Node,
    content: Content,
    kind: Kind,
    mut mode: u32,
    caller: &Caller,
) -> Result<Arc<Node>> {
    let (set_gid, gid) = {
        let meta = directory.meta();
        (meta.permissions & 0o2000 != 0, meta.gid)
    };
    let mut owner = Caller { uid: caller.uid, gid: caller.gid, groups: caller.groups.clone() };
    if set_gid {
        owner.gid = gid;
        if kind == Kind::Directory {
            mode |= 0o2000;
        } else if mode & 0o2010 == 0o2010 && !caller.is_root() && !caller.in_group(gid) {
            mode &= !0o2000;
        }
    }
    Node::create(&directory.mount, content, kind, mode, &owner)
}

/// The entry that was just made at the host.
fn made(walk: &Walk<'_>, directory: &Arc<Entry>, name: &[u8]) -> Result<Arc<Entry>> {
    let entry = walk.child(directory, name)?.ok_or(Errno::ENOENT)?;
    notify::created(&entry);
    Ok(entry)
}

/// `mkdir`; `mode` has the umask applied.
pub fn directory(walk: &mut Walk<'_>, parent: &Parent<'_>, mode: u32) -> Result<()> {
    let name = new_name(walk, parent, true)?;
    let into = &parent.directory;
    if let Some(live) = &into.node.mount.live {
        live.make_directory(into, name, mode)?;
        return made(walk, into, name).map(|_| ());
    }
    let node =
        node_in(&into.node, Content::Directory(Directory::empty()), Kind::Directory, mode & 0o1777, walk.caller)?;
    let entry = into.node.directory()?.insert(into, name, node)?;
    touch_directory(&into.node, 1);
    notify::created(&entry);
    Ok(())
}

/// `mknod` and the binding of a Unix socket: a node that is neither directory nor link. Gives its entry.
pub fn special(walk: &mut Walk<'_>, parent: &Parent<'_>, kind: Kind, mode: u32, rdev: u64) -> Result<Arc<Entry>> {
    let name = new_name(walk, parent, false)?;
    if let Some(live) = &parent.directory.node.mount.live {
        if kind != Kind::Regular {
            return Err(Errno::EPERM);
        }
        live.create(&parent.directory, name, mode)?;
        return made(walk, &parent.directory, name);
    }
    let content = match kind {
        Kind::Regular => Content::Regular(Data::empty(F_SEAL_SEAL)),
        Kind::CharDevice | Kind::BlockDevice if !walk.caller.is_root() => return Err(Errno::EPERM),
        Kind::CharDevice | Kind::BlockDevice => Content::Device(rdev, None),
        Kind::Fifo | Kind::Socket => Content::Slot(Mutex::new(None)),
        Kind::Directory | Kind::Symlink | Kind::Anonymous => return Err(Errno::EINVAL),
    };
    let into = &parent.directory;
    let node = node_in(&into.node, content, kind, mode & 0o7777, walk.caller)?;
    let entry = into.node.directory()?.insert(into, name, node)?;
    touch_directory(&into.node, 0);
    notify::created(&entry);
    Ok(entry)
}

/// `symlink`.
pub fn symlink(walk: &mut Walk<'_>, parent: &Parent<'_>, target: &[u8]) -> Result<()> {
    match target.len() {
        0 => return Err(Errno::ENOENT),
        len if len > PATH_MAX => return Err(Errno::ENAMETOOLONG),
        _ => {}
    }
    let name = new_name(walk, parent, false)?;
    let into = &parent.directory;
    if let Some(live) = &into.node.mount.live {
        live.symlink(into, name, target)?;
        return made(walk, into, name).map(|_| ());
    }
    let node = node_in(&into.node, Content::Symlink(Box::from(target)), Kind::Symlink, 0o777, walk.caller)?;
    let entry = into.node.directory()?.insert(into, name, node)?;
    touch_directory(&into.node, 0);
    notify::created(&entry);
    Ok(())
}

/// `link`: one more name for `old`.
pub fn link(walk: &mut Walk<'_>, old: &Arc<Entry>, parent: &Parent<'_>) -> Result<()> {
    let name = free_name(walk, parent, false)?;
    let into = &parent.directory;
    let node = &old.node;
    if node.mount.id != into.node.mount.id || matches!(node.content, Content::Opened(_)) {
        return Err(Errno::EXDEV);
    }
    check_hard_link(walk.caller, node)?;
    check_may_create(walk, into)?;
    if node.kind == Kind::Directory {
        return Err(Errno::EPERM);
    }
    if let Some(live) = &into.node.mount.live {
        live.link(old, into, name)?;
        let entry = walk.child(into, name)?.ok_or(Errno::ENOENT)?;
        notify::linked(&entry);
        return Ok(());
    }
    {
        let mut meta = node.meta();
        if meta.links == 0 && !meta.linkable {
            return Err(Errno::ENOENT);
        }
        meta.links += 1;
    }
    let entry = into.node.directory()?.insert(into, name, node.clone()).inspect_err(|_| node.meta().links -= 1)?;
    node.touch_changed();
    touch_directory(&into.node, 0);
    notify::linked(&entry);
    Ok(())
}

/// `fs.protected_hardlinks`, which every distribution sets: only for what one owns or may read and write.
fn check_hard_link(caller: &Caller, node: &Node) -> Result<()> {
    let meta = *node.meta();
    if caller.must_own(&meta).is_ok() {
        return Ok(());
    }
    let safe = node.kind == Kind::Regular && meta.permissions & 0o4000 == 0 && meta.permissions & 0o2010 != 0o2010;
    if safe && caller.check(node, Want::READ | Want::WRITE).is_ok() { Ok(()) } else { Err(Errno::EPERM) }
}
