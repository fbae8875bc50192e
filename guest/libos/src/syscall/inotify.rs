//! inotify_init, inotify_add_watch, inotify_rm_watch.
use super::Context;
use super::paths::{caller, find_entry};
use crate::errno::{Errno, Result};
use crate::fs::notify::{Inotify, InotifyFile};
use crate::fs::{Kind, OpenFile, Want};
use alloc::sync::Arc;
use linux_raw_sys::general::*;

const IN_CLOEXEC: u32 = O_CLOEXEC;
const IN_NONBLOCK: u32 = O_NONBLOCK;
/// The descriptor argument of a path relative to the working directory.
const HERE: u64 = super::paths::HERE;

pub fn inotify_init(ctx: &Context<'_>, _args: &[u64; 6]) -> Result<usize> {
    inotify_init1(ctx, &[0; 6])
}

pub fn inotify_init1(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let flags = args[0] as u32;
    if flags & !(IN_CLOEXEC | IN_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let open = OpenFile::new(Arc::new(InotifyFile(Inotify::new())), O_RDONLY | flags & IN_NONBLOCK);
    ctx.files().install(open, flags & IN_CLOEXEC != 0).map(|descriptor| descriptor as usize)
}

/// EBADF, and EINVAL for what is no inotify instance.
fn instance(ctx: &Context<'_>, descriptor: u64) -> Result<Arc<Inotify>> {
    let open = ctx.files().get_usable(descriptor as i32)?;
    open.file().downcast::<InotifyFile>().map(|file| file.0.clone()).ok_or(Errno::EINVAL)
}

pub fn inotify_add_watch(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, path, mask, ..] = *args;
    let mask = mask as u32;
    let both = IN_MASK_ADD | IN_MASK_CREATE;
    if mask & (IN_ALL_EVENTS | IN_DELETE_SELF) == 0 || mask & both == both {
        return Err(Errno::EINVAL);
    }
    let instance = instance(ctx, descriptor)?;
    let entry = find_entry(ctx, HERE, path, mask & IN_DONT_FOLLOW == 0)?;
    if mask & IN_ONLYDIR != 0 && entry.node.kind != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    caller(ctx).check(&entry.node, Want::READ)?;
    instance.watch(&entry, mask).map(|number| number as usize)
}

pub fn inotify_rm_watch(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    if instance(ctx, args[0])?.end(args[1] as i32) { Ok(0) } else { Err(Errno::EINVAL) }
}
