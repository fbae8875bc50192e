//! mkdir, rmdir, link, unlink, symlink, rename, mknod: names in directories.
use super::Context;
use super::paths::{HERE, caller, context, find, read_path, start, with_parent};
use crate::errno::{Errno, Result};
use crate::fs::ops::{make, remove, rename};
use crate::fs::{Kind, Walk};
use linux_raw_sys::general::*;

pub fn mkdir(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    mkdirat(ctx, &[HERE, args[0], args[1], 0, 0, 0])
}

pub fn mkdirat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let mode = args[2] as u32;
    with_parent(ctx, args[0], args[1], |walk, parent, fs| make::directory(walk, parent, mode & !fs.umask)).map(|()| 0)
}

pub fn rmdir(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    with_parent(ctx, HERE, args[0], |walk, parent, _| remove::directory(walk, parent)).map(|()| 0)
}

pub fn unlink(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    with_parent(ctx, HERE, args[0], |walk, parent, _| remove::file(walk, parent)).map(|()| 0)
}

pub fn unlinkat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, path, flags, ..] = *args;
    match flags {
        0 => with_parent(ctx, descriptor, path, |walk, parent, _| remove::file(walk, parent)),
        _ if flags == u64::from(AT_REMOVEDIR) => {
            with_parent(ctx, descriptor, path, |walk, parent, _| remove::directory(walk, parent))
        }
        _ => Err(Errno::EINVAL),
    }
    .map(|()| 0)
}

pub fn symlink(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    symlinkat(ctx, &[args[0], HERE, args[1], 0, 0, 0])
}

pub fn symlinkat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let target = read_path(args[0])?;
    with_parent(ctx, args[1], args[2], |walk, parent, _| make::symlink(walk, parent, &target)).map(|()| 0)
}

pub fn link(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    linkat(ctx, &[HERE, args[0], HERE, args[1], 0, 0])
}

pub fn linkat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [old_descriptor, old_path, descriptor, path, flags, _] = *args;
    if flags & !u64::from(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = flags & u64::from(AT_SYMLINK_FOLLOW) != 0;
    let old = find(ctx, old_descriptor, old_path, flags, follow)?.entry(Errno::EXDEV)?;
    with_parent(ctx, descriptor, path, |walk, parent, _| make::link(walk, &old, parent)).map(|()| 0)
}

pub fn rename(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    renameat2(ctx, &[HERE, args[0], HERE, args[1], 0, 0])
}

pub fn renameat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    renameat2(ctx, &[args[0], args[1], args[2], args[3], 0, 0])
}

pub fn renameat2(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [old_descriptor, old_path, new_descriptor, new_path, flags, _] = *args;
    rename::check_flags(flags as u32)?;
    // The old path is walked before the new one is even read: its errors come first.
    let old_path = read_path(old_path)?;
    let fs = context(ctx);
    let caller = caller(ctx);
    let mut walk = Walk::new(&fs.root, &caller);
    let from = walk.parent(&start(ctx, &fs, old_descriptor as i32, &old_path)?, &old_path)?;
    let new_path = read_path(new_path)?;
    let to = walk.parent(&start(ctx, &fs, new_descriptor as i32, &new_path)?, &new_path)?;
    rename::rename(&mut walk, &from, &to, flags as u32).map(|()| 0)
}

pub fn mknod(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    mknodat(ctx, &[HERE, args[0], args[1], args[2], 0, 0])
}

pub fn mknodat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, path, mode, device, ..] = *args;
    let mode = mode as u32;
    let kind = match mode & S_IFMT {
        0 => Some(Kind::Regular),
        _ => Kind::from_mode(mode),
    };
    // Before the path is looked at, as on Linux.
    let kind = match kind {
        Some(Kind::Directory) => return Err(Errno::EPERM),
        None | Some(Kind::Symlink) => return Err(Errno::EINVAL),
        Some(kind) => kind,
    };
    with_parent(ctx, descriptor, path, |walk, parent, fs| {
        make::special(walk, parent, kind, mode & 0o7777 & !fs.umask, device)
    })
    .map(|_| 0)
}
