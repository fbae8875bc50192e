//! Extended attributes: setxattr, getxattr, listxattr, removexattr, by path, by link, by descriptor.
use super::Context;
use super::paths::{HERE, caller, find_entry};
use crate::errno::{Errno, Result};
use crate::fs::opened::TreeFile;
use crate::fs::{Entry, xattr};
use crate::user;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general::{XATTR_CREATE, XATTR_REPLACE};

/// How the file is named.
#[derive(Clone, Copy)]
enum By {
    Path,
    Link,
    Descriptor,
}

fn entry(ctx: &Context<'_>, by: By, argument: u64) -> Result<Arc<Entry>> {
    match by {
        By::Path => find_entry(ctx, HERE, argument, true),
        By::Link => find_entry(ctx, HERE, argument, false),
        By::Descriptor => {
            let open = ctx.files().get_usable(argument as i32)?;
            open.file().downcast::<TreeFile>().map(|file| file.entry().clone()).ok_or(Errno::EOPNOTSUPP)
        }
    }
}

/// An attribute's name: ERANGE for none and for one that is too long.
fn name(address: u64) -> Result<Vec<u8>> {
    match user::read_c_string(address, xattr::NAME_MAX) {
        Ok(name) if !name.is_empty() => Ok(name),
        Ok(_) | Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        Err(errno) => Err(errno),
    }
}

/// Gives bytes to a program that said how many it takes; 0 asks only how many there are.
fn give(bytes: &[u8], to: u64, room: u64) -> Result<usize> {
    match room {
        0 => {}
        room if room < bytes.len() as u64 => return Err(Errno::ERANGE),
        _ => user::copy_out(to, bytes)?,
    }
    Ok(bytes.len())
}

fn set(ctx: &Context<'_>, by: By, args: &[u64; 6]) -> Result<usize> {
    let [file, name_at, value_at, len, flags, _] = *args;
    let flags = flags as u32;
    if flags & !(XATTR_CREATE | XATTR_REPLACE) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = name(name_at)?;
    if len > xattr::VALUE_MAX as u64 {
        return Err(Errno::E2BIG);
    }
    let mut value = alloc::vec![0; len as usize];
    user::copy_in(&mut value, value_at)?;
    xattr::set(&*entry(ctx, by, file)?, &name, &value, flags, &caller(ctx)).map(|()| 0)
}

fn get(ctx: &Context<'_>, by: By, args: &[u64; 6]) -> Result<usize> {
    let name = name(args[1])?;
    let value = xattr::get(&*entry(ctx, by, args[0])?, &name, &caller(ctx))?;
    give(&value, args[2], args[3])
}

fn list(ctx: &Context<'_>, by: By, args: &[u64; 6]) -> Result<usize> {
    give(&xattr::list(&*entry(ctx, by, args[0])?, &caller(ctx)), args[1], args[2])
}

fn remove(ctx: &Context<'_>, by: By, args: &[u64; 6]) -> Result<usize> {
    let name = name(args[1])?;
    xattr::remove(&*entry(ctx, by, args[0])?, &name, &caller(ctx)).map(|()| 0)
}

pub fn setxattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    set(ctx, By::Path, args)
}

pub fn lsetxattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    set(ctx, By::Link, args)
}

pub fn fsetxattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    set(ctx, By::Descriptor, args)
}

pub fn getxattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    get(ctx, By::Path, args)
}

pub fn lgetxattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    get(ctx, By::Link, args)
}

pub fn fgetxattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    get(ctx, By::Descriptor, args)
}

pub fn listxattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    list(ctx, By::Path, args)
}

pub fn llistxattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    list(ctx, By::Link, args)
}

pub fn flistxattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    list(ctx, By::Descriptor, args)
}

pub fn removexattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    remove(ctx, By::Path, args)
}

pub fn lremovexattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    remove(ctx, By::Link, args)
}

pub fn fremovexattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    remove(ctx, By::Descriptor, args)
}
