//! `rename`, with RENAME_NOREPLACE, RENAME_EXCHANGE and RENAME_WHITEOUT.
use super::super::access::Want;
use super::super::directory::State;
use super::super::entry::Entry;
use super::super::node::Content;
use super::super::notify;
use super::super::stat::Kind;
use super::super::walk::{Last, Parent, Walk};
use super::make::node_in;
use super::remove::{kill_if_empty, lose_name};
use super::{check_changeable, is_mount_point, touch_directory};
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, MutexGuard};
use alloc::sync::Arc;
use linux_raw_sys::general::{RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT};

/// One rename at a time: two could otherwise make a directory its own ancestor.
static RENAMING: Mutex<()> = Mutex::new(());

/// Whether the flags make sense, which Linux says before it looks at the paths.
pub fn check_flags(flags: u32) -> Result<()> {
    let exchange = flags & RENAME_EXCHANGE != 0;
    let unknown = flags & !(RENAME_EXCHANGE | RENAME_NOREPLACE | RENAME_WHITEOUT) != 0;
    if unknown || exchange && flags & (RENAME_NOREPLACE | RENAME_WHITEOUT) != 0 { Err(Errno::EINVAL) } else { Ok(()) }
}

/// `renameat2`, whose flags have been checked.
pub fn rename(walk: &mut Walk<'_>, from: &Parent<'_>, to: &Parent<'_>, flags: u32) -> Result<()> {
    let exchange = flags & RENAME_EXCHANGE != 0;
    let no_replace = flags & RENAME_NOREPLACE != 0;
    let whiteout = flags & RENAME_WHITEOUT != 0;
    let (old_dir, new_dir) = (&from.directory, &to.directory);
    if old_dir.node.mount.id != new_dir.node.mount.id {
        return Err(Errno::EXDEV);
    }
    let Last::Name(old_name) = from.last else { return Err(Errno::EBUSY) };
    let Last::Name(new_name) = to.last else { return Err(if no_replace { Errno::EEXIST } else { Errno::EBUSY }) };
    old_dir.node.check_writable_mount()?;

    let _one_at_a_time = RENAMING.lock();
    let old = walk.child(old_dir, old_name)?.ok_or(Errno::ENOENT)?;
    let new = walk.child(new_dir, new_name)?;
    let old_is_dir = old.node.kind == Kind::Directory;
    let new_is_dir = new.as_ref().is_some_and(|new| new.node.kind == Kind::Directory);
    if no_replace && new.is_some() {
        return Err(Errno::EEXIST);
    }
    if exchange {
        let new = new.as_ref().ok_or(Errno::ENOENT)?;
        if !new_is_dir && to.slash {
            return Err(Errno::ENOTDIR);
        }
        if old_dir.is_below(new) {
            return Err(Errno::EINVAL);
        }
    }
    if !old_is_dir && (from.slash || to.slash && !exchange) {
        return Err(Errno::ENOTDIR);
    }
    if new_dir.is_below(&old) {
        return Err(Errno::EINVAL);
    }
    if let Some(new) = &new
        && !exchange
        && old_dir.is_below(new)
    {
        return Err(Errno::ENOTEMPTY);
    }
    if new.as_ref().is_some_and(|new| Arc::ptr_eq(&new.node, &old.node)) {
        return Ok(());
    }
    check_changeable(&old_dir.node)?;
    walk.caller.check_remove(&old_dir.node, &old.node)?;
    match &new {
        None => {
            super::check_alive(new_dir)?;
            walk.caller.check_create(&new_dir.node)?;
        }
        Some(new) => {
            walk.caller.check_remove(&new_dir.node, &new.node)?;
            match () {
                _ if exchange => {}
                _ if old_is_dir && !new_is_dir => return Err(Errno::ENOTDIR),
                _ if !old_is_dir && new_is_dir => return Err(Errno::EISDIR),
                _ => {}
            }
        }
    }
    let same_dir = Arc::ptr_eq(&old_dir.node, &new_dir.node);
    if !same_dir && old_is_dir {
        walk.caller.check(&old.node, Want::WRITE)?;
    }
    if !same_dir && exchange && new_is_dir {
        walk.caller.check(&new.as_ref().expect("checked").node, Want::WRITE)?;
    }
    if is_mount_point(&old) || new.as_ref().is_some_and(is_mount_point) {
        return Err(Errno::EBUSY);
    }
    if let Some(live) = &old_dir.node.mount.live {
        if whiteout {
            return Err(Errno::EINVAL);
        }
        live.rename(&old, new_dir, new_name, flags)?;
        let (from, to) = ((&**old_dir, old_name), (&**new_dir, new_name));
        notify::moved(from, to, &old.node, new.as_ref().map(|replaced| &*replaced.node));
        return Ok(());
    }
    if new_is_dir && !exchange {
        kill_if_empty(new.as_ref().expect("a directory"))?;
    }
    exchange_names(old_dir, &old, new_dir, new.as_ref(), new_name, exchange)?;
    if whiteout {
        let node = node_in(&old_dir.node, Content::Device(0, None), Kind::CharDevice, 0, walk.caller)?;
        old_dir.node.directory()?.insert(old_dir, old_name, node)?;
    }

    let moved = i32::from(old_is_dir);
    let replaced = i32::from(new_is_dir);
    match (exchange, same_dir) {
        (_, true) => touch_directory(&new_dir.node, if exchange { 0 } else { -replaced }),
        (true, false) => {
            touch_directory(&old_dir.node, replaced - moved);
            touch_directory(&new_dir.node, moved - replaced);
        }
        (false, false) => {
            touch_directory(&old_dir.node, -moved);
            touch_directory(&new_dir.node, moved - replaced);
        }
    }
    old.node.touch_changed();
    let (from, to) = ((&**old_dir, old_name), (&**new_dir, new_name));
    match &new {
        Some(new) if exchange => {
            new.node.touch_changed();
            notify::moved(from, to, &old.node, None);
            notify::moved(to, from, &new.node, None);
        }
        replaced => notify::moved(from, to, &old.node, replaced.as_ref().map(|replaced| &*replaced.node)),
    }
    Ok(())
}

/// Changes the two directories, both locked.
fn exchange_names(
    old_dir: &Arc<Entry>,
    old: &Arc<Entry>,
    new_dir: &Arc<Entry>,
    new: Option<&Arc<Entry>>,
    new_name: &[u8],
    exchange: bool,
) -> Result<()> {
    let old_name = old.name();
    let new_name: Arc<[u8]> = new.map_or_else(|| Arc::from(new_name), |new| new.name());
    with_both(old_dir, new_dir, |old_state, new_state| {
        let mut old_state = old_state;
        let is_still = |state: &mut State, dir, name: &[u8], entry: Option<&Arc<Entry>>| -> Result<bool> {
            Ok(match (state.find(dir, name)?, entry) {
                (None, None) => true,
                (Some(found), Some(entry)) => Arc::ptr_eq(&found, entry),
                _ => false,
            })
        };
        let unchanged = match &mut old_state {
            Some(state) => is_still(state, old_dir, &old_name, Some(old))?,
            None => is_still(new_state, old_dir, &old_name, Some(old))?,
        } && is_still(new_state, new_dir, &new_name, new)?;
        if !unchanged || new_state.is_dead() {
            return Err(Errno::ENOENT);
        }
        let source: &mut State = match &mut old_state {
            Some(state) => state,
            None => new_state,
        };
        match new {
            Some(new) if exchange => {
                source.put(old_name.clone(), new.clone());
                new_state.put(new_name.clone(), old.clone());
            }
            _ => {
                source.take(&old_name);
                new_state.put(new_name.clone(), old.clone());
            }
        }
        Ok(())
    })?;
    match new {
        Some(new) if exchange => new.move_to(old_dir, old_name),
        Some(new) => {
            new.mark_removed();
            lose_name(&new.node);
        }
        None => {}
    }
    old.move_to(new_dir, new_name);
    Ok(())
}

/// Locks both directories (the first is `None` when they are the same), always in the order of their addresses.
fn with_both<T>(
    old_dir: &Arc<Entry>,
    new_dir: &Arc<Entry>,
    then: impl FnOnce(Option<MutexGuard<'_, State>>, &mut State) -> Result<T>,
) -> Result<T> {
    let (old, new) = (old_dir.node.directory()?, new_dir.node.directory()?);
    match Arc::as_ptr(&old_dir.node).cmp(&Arc::as_ptr(&new_dir.node)) {
        core::cmp::Ordering::Equal => then(None, &mut new.lock()),
        core::cmp::Ordering::Less => {
            let first = old.lock();
            then(Some(first), &mut new.lock())
        }
        core::cmp::Ordering::Greater => {
            let mut first = new.lock();
            then(Some(old.lock()), &mut first)
        }
    }
}
