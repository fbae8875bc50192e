//! getdents, chdir, getcwd, chroot.
use super::Context;
use super::paths::{HERE, caller, context, find_entry};
use crate::capabilities::Capability;
use crate::errno::{Errno, Result};
use crate::fs::opened::TreeFile;
use crate::fs::{Entry, Kind, Want};
use crate::user;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bytes of entries that one call gives at most.
const MOST: usize = 256 << 10;

/// Collects entries as `encode` lays them out, and hands them to the program.
fn list(ctx: &Context<'_>, args: &[u64; 6], encode: fn(&mut Vec<u8>, &crate::fs::DirEntry<'_>)) -> Result<usize> {
    let open = ctx.files().get_usable(args[0] as i32)?;
    let room = (args[2] as u32 as usize).min(MOST);
    let mut bytes = Vec::new();
    let mut too_small = false;
    let next = open.file().read_dir(open.offset(), &mut |entry| {
        let before = bytes.len();
        encode(&mut bytes, &entry);
        let fits = bytes.len() <= room;
        if !fits {
            bytes.truncate(before);
            too_small = before == 0;
        }
        fits
    })?;
    if too_small {
        return Err(Errno::EINVAL);
    }
    user::copy_out(args[1], &bytes)?;
    open.set_offset(next);
    Ok(bytes.len())
}

pub fn getdents64(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    list(ctx, args, |bytes, entry| {
        const HEAD: usize = 19;
        let len = (HEAD + entry.name.len() + 1).next_multiple_of(8);
        let end = bytes.len() + len;
        bytes.extend_from_slice(&entry.inode.to_le_bytes());
        bytes.extend_from_slice(&entry.next.to_le_bytes());
        bytes.extend_from_slice(&(len as u16).to_le_bytes());
        bytes.push(entry.kind);
        bytes.extend_from_slice(entry.name);
        bytes.resize(end, 0);
    })
}

pub fn getdents(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    list(ctx, args, |bytes, entry| {
        const HEAD: usize = 18;
        // The name, its NUL, and the type in the last byte.
        let len = (HEAD + entry.name.len() + 2).next_multiple_of(8);
        let end = bytes.len() + len;
        bytes.extend_from_slice(&entry.inode.to_le_bytes());
        bytes.extend_from_slice(&entry.next.to_le_bytes());
        bytes.extend_from_slice(&(len as u16).to_le_bytes());
        bytes.extend_from_slice(entry.name);
        bytes.resize(end - 1, 0);
        bytes.push(entry.kind);
    })
}

/// A directory that may be entered.
fn enterable(ctx: &Context<'_>, entry: &Arc<Entry>) -> Result<()> {
    if entry.node.kind != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    caller(ctx).check(&entry.node, Want::EXECUTE)
}

pub fn chdir(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let entry = find_entry(ctx, HERE, args[0], true)?;
    enterable(ctx, &entry)?;
    ctx.fs().lock().cwd = entry;
    Ok(0)
}

pub fn fchdir(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let open = ctx.files().get(args[0] as i32)?;
    let file = open.file().downcast::<TreeFile>().ok_or(Errno::ENOTDIR)?;
    enterable(ctx, file.entry())?;
    ctx.fs().lock().cwd = file.entry().clone();
    Ok(0)
}

pub fn chroot(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let entry = find_entry(ctx, HERE, args[0], true)?;
    enterable(ctx, &entry)?;
    if !ctx.process.credentials.lock().can(Capability::SysChroot) {
        return Err(Errno::EPERM);
    }
    ctx.fs().lock().root = entry;
    Ok(0)
}

pub fn getcwd(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let fs = context(ctx);
    if fs.cwd.is_removed() {
        return Err(Errno::ENOENT);
    }
    let (mut path, reachable) = fs.cwd.path_from(&fs.root);
    if !reachable {
        path.splice(0..0, *b"(unreachable)");
    }
    path.push(0);
    if path.len() > args[1] as usize {
        return Err(Errno::ERANGE);
    }
    user::copy_out(args[0], &path)?;
    Ok(path.len())
}
