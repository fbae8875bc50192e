//! `chmod`, `chown`, `utimensat`, `truncate`.
use super::super::access::{Caller, check_length};
use super::super::entry::Entry;
use super::super::mount::FsType;
use super::super::node::{Content, Node};
use super::super::notify;
use super::super::stat::{Kind, Time};
use super::super::views;
use crate::errno::{Errno, Result};
use alloc::sync::Arc;
use linux_raw_sys::general::{IN_ACCESS, IN_ATTRIB, IN_MODIFY};

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    Omit,
    Now,
    At(Time),
}

/// EROFS, or EPERM for what is generated.
fn check_settable(node: &Node) -> Result<()> {
    node.check_writable_mount()?;
    match node.mount.fs_type {
        FsType::Proc | FsType::Sysfs => Err(Errno::EPERM),
        _ => Ok(()),
    }
}

/// `chmod`.
pub fn set_mode(entry: &Arc<Entry>, mode: u32, caller: &Caller) -> Result<()> {
    let node = &entry.node;
    check_settable(node)?;
    if node.kind == Kind::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut meta = node.meta();
    caller.must_own(&meta)?;
    let mut mode = mode & 0o7777;
    if !caller.is_root() && !caller.in_group(meta.gid) {
        mode &= !0o2000;
    }
    if let Some(live) = &node.mount.live {
        drop(meta);
        live.set_mode(entry, mode)?;
        notify::happened(entry, IN_ATTRIB);
        return Ok(());
    }
    meta.permissions = mode;
    meta.changed = crate::fs::now();
    drop(meta);
    notify::happened(entry, IN_ATTRIB);
    Ok(())
}

/// `chown`; `None` leaves the field.
pub fn set_owner(entry: &Entry, uid: Option<u32>, gid: Option<u32>, caller: &Caller) -> Result<()> {
    let node = &entry.node;
    check_settable(node)?;
    let mut meta = node.meta();
    if !caller.is_root() {
        let changes_user = uid.is_some_and(|uid| uid != meta.uid || caller.uid != meta.uid);
        let foreign_group = gid.is_some_and(|gid| caller.uid != meta.uid || !caller.in_group(gid) && gid != meta.gid);
        if changes_user || foreign_group {
            return Err(Errno::EPERM);
        }
    }
    if node.mount.live.is_some() {
        // The host's owners are the host's; saying what is so already is no harm.
        let changes = uid.is_some_and(|uid| uid != meta.uid) || gid.is_some_and(|gid| gid != meta.gid);
        return if changes { Err(Errno::EPERM) } else { Ok(()) };
    }
    meta.uid = uid.unwrap_or(meta.uid);
    meta.gid = gid.unwrap_or(meta.gid);
    if node.kind != Kind::Directory {
        // As Linux does even for root: a new owner does not inherit set-id bits.
        meta.permissions &= !0o4000;
        if meta.permissions & 0o010 != 0 {
            meta.permissions &= !0o2000;
        }
    }
    meta.changed = crate::fs::now();
    drop(meta);
    notify::happened(entry, IN_ATTRIB);
    Ok(())
}

/// `utimensat`.
pub fn set_times(entry: &Arc<Entry>, accessed: SetTime, modified: SetTime, caller: &Caller) -> Result<()> {
    if (accessed, modified) == (SetTime::Omit, SetTime::Omit) {
        return Ok(());
    }
    let node = &entry.node;
    check_settable(node)?;
    let both_now = (accessed, modified) == (SetTime::Now, SetTime::Now);
    let owns = caller.must_own(&node.meta());
    match owns {
        Err(_) if both_now => caller.check(node, super::super::access::Want::WRITE)?,
        other => other?,
    }
    let now = crate::fs::now();
    let pick = |set: SetTime, old: Time| match set {
        SetTime::Omit => old,
        SetTime::Now => now,
        SetTime::At(time) => time,
    };
    if let Some(live) = &node.mount.live {
        live.set_times(entry, accessed, modified)?;
    } else {
        let mut meta = node.meta();
        meta.accessed = pick(accessed, meta.accessed);
        meta.modified = pick(modified, meta.modified);
        meta.changed = now;
    }
    let events = match (accessed, modified) {
        (_, SetTime::Omit) => IN_ACCESS,
        (SetTime::Omit, _) => IN_MODIFY,
        _ => IN_ATTRIB,
    };
    notify::happened(entry, events);
    Ok(())
}

/// `truncate` and `ftruncate` of a regular file whose permissions were checked.
pub fn truncate(entry: &Arc<Entry>, len: u64, caller: &Caller) -> Result<()> {
    let node = &entry.node;
    match &node.content {
        Content::Regular(data) => {
            node.check_writable_mount()?;
            check_length(data.size(), len)?;
            views::truncate(data, len)?;
        }
        Content::Live(file) => {
            node.check_writable_mount()?;
            check_length(file.size(), len)?;
            node.mount.live.as_ref().ok_or(Errno::EIO)?.truncate(entry, len)?;
            notify::happened(entry, IN_MODIFY);
            return Ok(());
        }
        // Opening a generated file with O_TRUNC, as shells do, changes nothing.
        Content::Pseudo(_) => return Ok(()),
        Content::Directory(_) => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    node.drop_privileges(caller.is_root());
    node.touch_modified();
    notify::happened(entry, IN_MODIFY);
    Ok(())
}
