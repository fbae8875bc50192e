//! stat and its relatives, statx, access, readlink, statfs.
use super::Context;
use super::paths::{HERE, Target, caller, find, find_as, real_caller};
use crate::errno::{Errno, Result};
use crate::fs::mount::{FsType, Mount};
use crate::fs::opened::TreeFile;
use crate::fs::walk::NAME_MAX;
use crate::fs::{Content, Kind, Stat, Time, Want, pages};
use crate::mm::frame::memory;
use crate::user;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general::*;
use zerocopy::{Immutable, IntoBytes};

/// `struct stat`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct StatOut {
    device: u64,
    inode: u64,
    links: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    padding: u32,
    rdev: u64,
    size: u64,
    block_size: u64,
    blocks: u64,
    times: [[u64; 2]; 3],
    unused: [u64; 3],
}
const _: () = assert!(size_of::<StatOut>() == size_of::<stat>());

fn write_stat(address: u64, of: &Stat) -> Result<usize> {
    let time = |time: Time| [time.sec as u64, time.nsec.into()];
    let out = StatOut {
        device: of.device,
        inode: of.inode,
        links: of.links.into(),
        mode: of.mode(),
        uid: of.uid,
        gid: of.gid,
        padding: 0,
        rdev: of.rdev,
        size: of.size,
        block_size: of.block_size.into(),
        blocks: of.blocks,
        times: [time(of.accessed), time(of.modified), time(of.changed)],
        unused: [0; 3],
    };
    user::write(address, &out)?;
    Ok(0)
}

pub fn stat_path(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    write_stat(args[1], &find(ctx, HERE, args[0], 0, true)?.stat()?)
}

pub fn lstat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    write_stat(args[1], &find(ctx, HERE, args[0], 0, false)?.stat()?)
}

pub fn fstat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    write_stat(args[1], &ctx.files().get(args[0] as i32)?.file().stat()?)
}

pub fn newfstatat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, path, out, flags, ..] = *args;
    if flags & !u64::from(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = flags & u64::from(AT_SYMLINK_NOFOLLOW) == 0;
    write_stat(out, &find(ctx, descriptor, path, flags, follow)?.stat()?)
}

/// `struct statx_timestamp`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct StatxTime {
    sec: i64,
    nsec: u32,
    padding: u32,
}

/// `struct statx`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct StatxOut {
    mask: u32,
    block_size: u32,
    attributes: u64,
    links: u32,
    uid: u32,
    gid: u32,
    mode: u16,
    padding: u16,
    inode: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    accessed: StatxTime,
    born: StatxTime,
    changed: StatxTime,
    modified: StatxTime,
    rdev: [u32; 2],
    device: [u32; 2],
    mount: u64,
    rest: [u64; 13],
}
const _: () = assert!(size_of::<StatxOut>() == size_of::<statx>());

fn major_minor(number: u64) -> [u32; 2] {
    let major = (number >> 8) & 0xfff | (number >> 32) & !0xfff;
    let minor = number & 0xff | (number >> 12) & 0xffff_ff00;
    [major as u32, minor as u32]
}

pub fn statx(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, path, flags, mask, out, _] = *args;
    let known = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE;
    let both = u64::from(AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC);
    if flags & !u64::from(known) != 0 || flags & both == both || mask & u64::from(STATX__RESERVED) != 0 {
        return Err(Errno::EINVAL);
    }
    let target = find(ctx, descriptor, path, flags, flags & u64::from(AT_SYMLINK_NOFOLLOW) == 0)?;
    let of = target.stat()?;
    let mount = mount_of(&target);
    let time = |time: Time| StatxTime { sec: time.sec, nsec: time.nsec, padding: 0 };
    let out_value = StatxOut {
        mask: STATX_BASIC_STATS | STATX_BTIME | if mount.is_some() { STATX_MNT_ID } else { 0 },
        block_size: of.block_size,
        attributes: 0,
        links: of.links,
        uid: of.uid,
        gid: of.gid,
        mode: of.mode() as u16,
        padding: 0,
        inode: of.inode,
        size: of.size,
        blocks: of.blocks,
        attributes_mask: 0,
        accessed: time(of.accessed),
        born: time(of.born),
        changed: time(of.changed),
        modified: time(of.modified),
        rdev: major_minor(of.rdev),
        device: major_minor(of.device),
        mount: mount.map_or(0, |mount| mount.id.into()),
        rest: [0; 13],
    };
    user::write(out, &out_value)?;
    Ok(0)
}

fn mount_of(target: &Target) -> Option<Arc<Mount>> {
    match target {
        Target::Entry(entry) => Some(entry.node.mount.clone()),
        Target::Open(open) => open.file().downcast::<TreeFile>().map(|file| file.entry().node.mount.clone()),
    }
}

pub fn access(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    faccessat2(ctx, &[HERE, args[0], args[1], 0, 0, 0])
}

pub fn faccessat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    faccessat2(ctx, &[args[0], args[1], args[2], 0, 0, 0])
}

pub fn faccessat2(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, path, mode, flags, ..] = *args;
    if mode & !7 != 0 || flags & !u64::from(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let who = if flags & u64::from(AT_EACCESS) != 0 { caller(ctx) } else { real_caller(ctx) };
    let follow = flags & u64::from(AT_SYMLINK_NOFOLLOW) == 0;
    // A pipe or the like: its descriptor's owner may use it.
    let Ok(entry) = find_as(ctx, &who, descriptor, path, flags, follow)?.entry(Errno::EINVAL) else { return Ok(0) };
    let want = Want::from_bits_truncate(mode as u32);
    let node = &entry.node;
    if want.contains(Want::WRITE) && matches!(node.kind, Kind::Regular | Kind::Directory | Kind::Symlink) {
        node.check_writable_mount()?;
    }
    who.check(node, want).map(|()| 0)
}

pub fn readlink(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    readlinkat(ctx, &[HERE, args[0], args[1], args[2], 0, 0])
}

pub fn readlinkat(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let [descriptor, path, out, len, ..] = *args;
    if len as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    let target = find(ctx, descriptor, path, AT_EMPTY_PATH.into(), false)?;
    // The empty path is meant for a link opened with O_PATH | O_NOFOLLOW; anything else there is ENOENT.
    let is_empty = user::read::<u8>(path)? == 0;
    let not_a_link = if is_empty { Errno::ENOENT } else { Errno::EINVAL };
    let entry = target.entry(not_a_link)?;
    let text: Vec<u8> = match &entry.node.content {
        Content::Symlink(target) => target.to_vec(),
        Content::Magic(magic) => magic.text()?,
        _ => return Err(not_a_link),
    };
    let len = text.len().min(len as usize);
    user::copy_out(out, &text[..len])?;
    Ok(len)
}

/// `struct statfs`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct StatfsOut {
    kind: u64,
    block_size: u64,
    blocks: u64,
    blocks_free: u64,
    blocks_available: u64,
    files: u64,
    files_free: u64,
    id: u64,
    name_max: u64,
    fragment_size: u64,
    flags: u64,
    spare: [u64; 4],
}
const _: () = assert!(size_of::<StatfsOut>() == size_of::<statfs>());

fn write_statfs(address: u64, mount: Option<&Mount>) -> Result<usize> {
    const PIPEFS: u64 = 0x5049_5045;
    const ST_RDONLY: u64 = 1;
    const ST_VALID: u64 = 0x20;
    let limited = mount.is_some_and(|mount| mount.fs_type.is_storage());
    let over_layers = mount.is_some_and(|mount| mount.fs_type == FsType::Overlay);
    let (total, free, files) = if limited {
        let limit = pages::page_limit();
        let free = limit.saturating_sub(pages::pages_used()).min(memory().free_frames());
        // Over layers, what programs cannot have counts as used.
        let total = if over_layers { memory().total_frames() } else { limit };
        (total as u64, free as u64, pages::inode_limit() as u64)
    } else {
        (0, 0, 0)
    };
    let read_only = mount.is_some_and(|mount| mount.read_only);
    let out = StatfsOut {
        kind: mount.map_or(PIPEFS, |mount| mount.fs_type.magic()),
        block_size: 4096,
        blocks: total,
        blocks_free: free,
        blocks_available: free,
        files,
        files_free: files.saturating_sub(pages::inodes_used() as u64),
        id: mount.map_or(0, |mount| mount.device),
        name_max: NAME_MAX as u64,
        fragment_size: 4096,
        flags: ST_VALID | if read_only { ST_RDONLY } else { 0 },
        spare: [0; 4],
    };
    user::write(address, &out)?;
    Ok(0)
}

pub fn statfs_path(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    write_statfs(args[1], mount_of(&find(ctx, HERE, args[0], 0, true)?).as_deref())
}

pub fn fstatfs(ctx: &Context<'_>, args: &[u64; 6]) -> Result<usize> {
    let open = ctx.files().get(args[0] as i32)?;
    write_statfs(args[1], mount_of(&Target::Open(open)).as_deref())
}
