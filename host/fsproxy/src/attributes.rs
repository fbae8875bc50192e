//! Attributes of files as the window carries them.
use kasoku_abi::fs::Attributes;
use rustix::fs::{AtFlags, Statx, StatxFlags, StatxTimestamp, makedev, statx};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::OwnedFd;

/// Attributes of an open file (O_PATH will do).
pub fn of_file(file: &OwnedFd) -> Result<Attributes, Errno> {
    statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map(|attributes| convert(&attributes))
}

/// Attributes of `name` in `directory`: one component, so there is nothing to follow on the way, and a link is not followed
/// at the end.
pub fn of_entry(directory: &OwnedFd, name: &CStr) -> Result<Attributes, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(directory, name, flags, StatxFlags::BASIC_STATS).map(|attributes| convert(&attributes))
}

fn convert(statx: &Statx) -> Attributes {
    let ns = |time: &StatxTimestamp| {
        u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.into())
    };
    Attributes {
        inode: statx.stx_ino,
        size: statx.stx_size,
        blocks: statx.stx_blocks,
        modified_ns: ns(&statx.stx_mtime),
        changed_ns: ns(&statx.stx_ctime),
        accessed_ns: ns(&statx.stx_atime),
        mode: statx.stx_mode.into(),
        links: statx.stx_nlink,
        uid: statx.stx_uid,
        gid: statx.stx_gid,
        device: makedev(statx.stx_dev_major, statx.stx_dev_minor),
    }
}
