//! Extended attributes: no file has any, and none can be set, as on a file system without them.
use super::Context;
use super::paths::{HERE, find_entry};
use crate::errno::{Errno, Result};

fn none(_found: ()) -> Result<usize> {
    Err(Errno::EOPNOTSUPP)
}

fn by_path(ctx: &Context<'_>, path: u64, follow: bool) -> Result<()> {
    find_entry(ctx, HERE, path, follow).map(|_| ())
}

fn by_descriptor(ctx: &Context<'_>, descriptor: u64) -> Result<()> {
    ctx.files().get_usable(descriptor as i32).map(|_| ())
}

/// getxattr, setxattr, removexattr.
pub fn xattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    by_path(ctx, args[0], true).and_then(none)
}

/// lgetxattr, lsetxattr, lremovexattr.
pub fn lxattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    by_path(ctx, args[0], false).and_then(none)
}

/// fgetxattr, fsetxattr, fremovexattr.
pub fn fxattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    by_descriptor(ctx, args[0]).and_then(none)
}

pub fn listxattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    by_path(ctx, args[0], true).map(|()| 0)
}

pub fn llistxattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    by_path(ctx, args[0], false).map(|()| 0)
}

pub fn flistxattr(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    by_descriptor(ctx, args[0]).map(|()| 0)
}
