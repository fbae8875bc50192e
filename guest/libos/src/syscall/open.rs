//! open, openat, openat2, creat, close, memfd_create.
use super::Context;
use super::paths::{HERE, caller, context, read_path, start};
use crate::errno::{Errno, Result};
use crate::fs::node::{Content, Node};
use crate::fs::ops::open::{self, How};
use crate::fs::walk::Resolve;
use crate::fs::{Kind, OpenFile, Walk, data::Data, setup};
use crate::user;
use alloc::sync::Arc;
use linux_raw_sys::general::*;

/// Flags that Linux knows; `openat` drops others, `openat2` refuses them.
const KNOWN: u64 = (O_ACCMODE
    | O_CREAT
    | O_EXCL
    | O_NOCTTY
    | O_TRUNC
    | O_APPEND
    | O_NONBLOCK
    | O_SYNC
    | O_DSYNC
    | FASYNC
    | O_DIRECT
    | O_LARGEFILE
    | O_DIRECTORY
    | O_NOFOLLOW
    | O_NOATIME
    | O_CLOEXEC
    | O_PATH
    | O_TMPFILE) as u64;

fn open_with(
    ctx: &Context<'_>,
    descriptor: u64,
    address: u64,
    flags: u32,
    mode: u32,
    resolve: Resolve,
) -> Result<usize> {
    open::check_flags(flags)?;
    let path = read_path(address)?;
    ctx.files().check_room()?;
    let fs = context(ctx);
    let start = start(ctx, &fs, descriptor as i32, &path)?;
    let caller = caller(ctx);
    let mut walk = if resolve.is_empty() {
        Walk::new(&fs.root, &caller)
    } else {
        Walk::bounded(&fs.root, &start, &caller, resolve)
    };
    let opened = open::open(&mut walk, &start, &path, How { flags, mode: mode & 0o7777 & !fs.umask })?;
    install(ctx, opened, flags)
}

fn install(ctx: &Context<'_>, open: Arc<OpenFile>, flags: u32) -> Result<usize> {
    ctx.files().install(open, flags & O_CLOEXEC != 0).map(|descriptor| descriptor as usize)
}

pub fn openat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, path, flags, mode, ..] = *args;
    let flags = (flags & KNOWN) as u32 | O_LARGEFILE;
    open_with(ctx, descriptor, path, flags, mode as u32, Resolve::empty())
}

pub fn open(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    openat(ctx, &[HERE, args[0], args[1], args[2], 0, 0])
}

pub fn creat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    openat(ctx, &[HERE, args[0], u64::from(O_CREAT | O_WRONLY | O_TRUNC), args[1], 0, 0])
}

pub fn openat2(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    const HOW_LEN: u64 = 24;
    let [descriptor, path, how, len, ..] = *args;
    if len < HOW_LEN {
        return Err(Errno::EINVAL);
    }
    if len > 4096 {
        return Err(Errno::E2BIG);
    }
    let [flags, mode, resolve]: [u64; 3] = user::read(how)?;
    let mut rest = alloc::vec![0u8; (len - HOW_LEN) as usize];
    user::copy_in(&mut rest, how + HOW_LEN)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    let resolve = Resolve::from_bits(resolve).ok_or(Errno::EINVAL)?;
    let makes = flags & u64::from(O_CREAT | __O_TMPFILE) != 0;
    let path_only = u64::from(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if flags & !KNOWN != 0
        || mode & !0o7777 != 0
        || mode != 0 && !makes
        || resolve.contains(Resolve::BENEATH | Resolve::IN_ROOT)
        || flags & u64::from(O_PATH) != 0 && flags & !path_only != 0
    {
        return Err(Errno::EINVAL);
    }
    // What is cached is not ours to promise; EAGAIN sends the caller to the slow way.
    if resolve.contains(Resolve::CACHED) {
        return Err(Errno::EAGAIN);
    }
    open_with(ctx, descriptor, path, flags as u32 | O_LARGEFILE, mode as u32, resolve)
}

pub fn close(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    ctx.files().close(args[0] as i32).map(|()| 0)
}

pub fn memfd_create(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    const NAME_MAX: usize = 249;
    let flags = args[1] as u32;
    if flags & !(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_NOEXEC_SEAL | MFD_EXEC) != 0
        || flags & MFD_EXEC != 0 && flags & MFD_NOEXEC_SEAL != 0
    {
        return Err(Errno::EINVAL);
    }
    if flags & MFD_HUGETLB != 0 {
        return Err(Errno::ENOSYS);
    }
    let name = user::read_c_string(args[0], NAME_MAX).map_err(|errno| match errno {
        Errno::ENAMETOOLONG => Errno::EINVAL,
        other => other,
    })?;
    let no_exec = flags & MFD_NOEXEC_SEAL != 0;
    let seals = match () {
        _ if no_exec => F_SEAL_EXEC,
        _ if flags & MFD_ALLOW_SEALING != 0 => 0,
        _ => F_SEAL_SEAL,
    };
    let mode = if no_exec { 0o666 } else { 0o777 };
    let content = Content::Regular(Data::empty(seals));
    let node = Node::create(&setup::memory_mount(), content, Kind::Regular, mode, &caller(ctx))?;
    node.meta().links = 0;
    let label = [b"memfd:", &name[..]].concat();
    let cloexec = if flags & MFD_CLOEXEC != 0 { O_CLOEXEC } else { 0 };
    install(ctx, open::nameless(node, &label, O_RDWR | O_LARGEFILE), cloexec)
}
