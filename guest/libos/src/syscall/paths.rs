//! What the file calls have in common: paths, directory descriptors, whose permissions count.
use super::Context;
use crate::errno::{Errno, Result};
use crate::fs::opened::TreeFile;
use crate::fs::walk::{PATH_MAX, Parent};
use crate::fs::{Caller, Entry, FsContext, OpenFile, Stat, Walk};
use crate::user;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general::{AT_EMPTY_PATH, AT_FDCWD};

/// Whose permissions count: the effective user's.
pub fn caller(ctx: &Context<'_>) -> Caller {
    let credentials = ctx.process.credentials.lock();
    Caller { uid: credentials.euid, gid: credentials.egid, groups: credentials.groups.clone() }
}

/// The real user's, for `access`.
pub fn real_caller(ctx: &Context<'_>) -> Caller {
    let credentials = ctx.process.credentials.lock();
    Caller { uid: credentials.uid, gid: credentials.gid, groups: credentials.groups.clone() }
}

/// A path argument: EFAULT, ENAMETOOLONG, and ENOENT for the empty one (before anything else is looked at).
pub fn read_path(address: u64) -> Result<Vec<u8>> {
    let path = user::read_c_string(address, PATH_MAX)?;
    if path.is_empty() { Err(Errno::ENOENT) } else { Ok(path) }
}

/// Working directory, root and umask of the caller.
pub fn context(ctx: &Context<'_>) -> FsContext {
    ctx.fs().lock().clone()
}

/// Where a path begins: the working directory, or what `descriptor` is open on (EBADF; ENOTDIR where that is no directory).
/// An absolute path begins at the root, whatever the descriptor.
pub fn start(ctx: &Context<'_>, fs: &FsContext, descriptor: i32, path: &[u8]) -> Result<Arc<Entry>> {
    if path.first() == Some(&b'/') {
        return Ok(fs.root.clone());
    }
    if descriptor == AT_FDCWD {
        return Ok(fs.cwd.clone());
    }
    let open = ctx.files().get(descriptor)?;
    open.file().downcast::<TreeFile>().map(|file| file.entry().clone()).ok_or(Errno::ENOTDIR)
}

/// What a path argument leads to.
pub enum Target {
    Entry(Arc<Entry>),
    /// AT_EMPTY_PATH: the descriptor itself.
    Open(Arc<OpenFile>),
}

impl Target {
    pub fn stat(&self) -> Result<Stat> {
        match self {
            Target::Entry(entry) => entry.node.stat(),
            Target::Open(open) => open.file().stat(),
        }
    }

    /// The entry in the tree; `otherwise` for a pipe, a socket and the like.
    pub fn entry(self, otherwise: Errno) -> Result<Arc<Entry>> {
        match self {
            Target::Entry(entry) => Ok(entry),
            Target::Open(open) => open.file().downcast::<TreeFile>().map(|file| file.entry().clone()).ok_or(otherwise),
        }
    }
}

/// Walks the path at `address` from `descriptor`, by the caller's permissions.
pub fn find(ctx: &Context<'_>, descriptor: u64, address: u64, flags: u64, follow: bool) -> Result<Target> {
    find_as(ctx, &caller(ctx), descriptor, address, flags, follow)
}

pub fn find_as(
    ctx: &Context<'_>,
    caller: &Caller,
    descriptor: u64,
    address: u64,
    flags: u64,
    follow: bool,
) -> Result<Target> {
    let descriptor = descriptor as i32;
    let empty_allowed = flags & u64::from(AT_EMPTY_PATH) != 0;
    let path = match () {
        _ if empty_allowed && address == 0 => Vec::new(),
        _ if empty_allowed => user::read_c_string(address, PATH_MAX)?,
        _ => read_path(address)?,
    };
    if path.is_empty() {
        return match descriptor {
            AT_FDCWD => Ok(Target::Entry(context(ctx).cwd)),
            _ => ctx.files().get(descriptor).map(Target::Open),
        };
    }
    let fs = context(ctx);
    let start = start(ctx, &fs, descriptor, &path)?;
    Walk::new(&fs.root, caller).find(&start, &path, follow).map(Target::Entry)
}

/// As [`find`], for calls on a plain path relative to the working directory.
pub fn find_entry(ctx: &Context<'_>, descriptor: u64, address: u64, follow: bool) -> Result<Arc<Entry>> {
    find(ctx, descriptor, address, 0, follow)?.entry(Errno::EINVAL)
}

/// Walks to the directory that holds the last component, and hands it to `then` (which makes or removes that name).
pub fn with_parent<T>(
    ctx: &Context<'_>,
    descriptor: u64,
    address: u64,
    then: impl FnOnce(&mut Walk<'_>, &Parent<'_>, &FsContext) -> Result<T>,
) -> Result<T> {
    let path = read_path(address)?;
    let fs = context(ctx);
    let start = start(ctx, &fs, descriptor as i32, &path)?;
    let caller = caller(ctx);
    let mut walk = Walk::new(&fs.root, &caller);
    let parent = walk.parent(&start, &path)?;
    then(&mut walk, &parent, &fs)
}

/// The descriptor argument of calls that have none: the working directory.
pub const HERE: u64 = AT_FDCWD as u64;
