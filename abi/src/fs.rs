//! The file-system window: host directories for a guest, served by `host/fsproxy`.
//!
//! One request at a time. The guest writes a [`Request`] at offset 0 and the path at [`DATA`], then makes the hypercall
//! `REGION_CALL`; the proxy reads the request once, into a copy, writes data at [`DATA`] and a [`Reply`] at [`REPLY`].
//! Paths are relative to the root, without a leading slash ("" = the root itself), and are opened beneath it: no symbolic
//! link is followed on the host (the guest resolves links itself, in its own tree).
use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Offset of the reply in the window.
pub const REPLY: u64 = 256;
/// Offset of paths and data.
pub const DATA: u64 = 4096;
/// Most bytes of data in one request or reply.
pub const DATA_LEN: u64 = 1 << 20;
/// Bytes of a window: 2 MiB, so that it is one large page.
pub const WINDOW_LEN: u64 = 2 << 20;
/// Longest path, bytes.
pub const PATH_MAX: u64 = 4096;

/// Attributes of `path`, links not followed.
pub const STAT: u32 = 1;
/// Entries of directory `path` from `offset` on: a sequence of [`DirEntry`], [`Attributes`] where `flags` is
/// [`WITH_ATTRIBUTES`], and name, padded to 8. `.` and `..` are left out. `Reply.value` is the offset for the next request, 0
/// at the end.
pub const READ_DIR: u32 = 2;
/// Target of symbolic link `path`.
pub const READ_LINK: u32 = 3;
/// Opens regular file `path` for reading, or also for writing where `flags` is [`FOR_WRITING`]; `Reply.value` is its handle.
pub const OPEN: u32 = 4;
/// `len` bytes of `handle` from `offset`.
pub const READ: u32 = 5;
/// Releases `handle`.
pub const CLOSE: u32 = 6;
/// STAT, and in the same request what is usually asked next (a request costs 40 us): the target of a symbolic link, the
/// first `len` bytes of a regular file. Where the file is longer, `Reply.value` is a handle to it (as of OPEN), else 0. With
/// `len` 0 no file is opened.
/// A file that cannot be opened (not permitted, too many open) has its attributes alone: OPEN tells why.
pub const FETCH: u32 = 7;

// What follows changes files: EROFS in a root that is not served for that. A second path or other bytes lie behind the path,
// `len` of them. Set-id bits are never given, and devices, pipes and sockets never made.
/// The `len` bytes behind the (empty) path, to `handle` at `offset`, or at its end where `flags` is [`APPEND`]. `Reply.value`
/// is how many were written; the attributes are those afterwards.
pub const WRITE: u32 = 8;
/// Makes regular file `path`, which does not exist, with permissions `mode`, and opens it for writing and reading; where
/// `flags` has [`NAMELESS`], a file without a name in directory `path`.
pub const CREATE: u32 = 9;
/// Length `offset` for `handle`, or for regular file `path` where `handle` is 0.
pub const TRUNCATE: u32 = 10;
/// Makes directory `path` with permissions `mode`.
pub const MAKE_DIR: u32 = 11;
/// Removes `path`, which is no directory.
pub const UNLINK: u32 = 12;
/// Removes empty directory `path`.
pub const REMOVE_DIR: u32 = 13;
/// Gives `path` the second path; `flags` as of `renameat2`: RENAME_NOREPLACE (1) or RENAME_EXCHANGE (2).
pub const RENAME: u32 = 14;
/// The second path becomes another name of `path`, or (`handle` not 0, `path` empty) of the file that is open there.
pub const LINK: u32 = 15;
/// Makes symbolic link `path`; the bytes behind are its target.
pub const SYMLINK: u32 = 16;
/// Permissions `mode` for `path`, or for `handle` where it is not 0.
pub const SET_MODE: u32 = 17;
/// [`Times`] (the bytes behind) for `path`, or for `handle` where it is not 0.
pub const SET_TIMES: u32 = 18;
/// What was written to `handle` is on the disk.
pub const SYNC: u32 = 19;
/// Attributes of `handle`.
pub const STAT_HANDLE: u32 = 20;

/// `Request.flags` of OPEN.
pub const FOR_WRITING: u32 = 1;
/// `Request.flags` of WRITE.
pub const APPEND: u32 = 1;
/// `Request.flags` of CREATE: as O_TMPFILE.
pub const NAMELESS: u32 = 1;
/// `Request.flags` of CREATE, with [`NAMELESS`]: the file never gets a name.
pub const FOR_EVER: u32 = 2;

/// `Request.flags` of READ_DIR: links are not followed; an entry that cannot be looked at is left out.
pub const WITH_ATTRIBUTES: u32 = 1;

#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Request {
    pub operation: u32,
    pub root: u32,
    pub handle: u64,
    pub offset: u64,
    pub len: u32,
    pub path_len: u32,
    pub flags: u32,
    pub mode: u32,
}
assert_layout!(Request, size 40, align 8);

#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Reply {
    /// 0 or a negative errno.
    pub status: i32,
    /// Bytes at [`DATA`].
    pub len: u32,
    pub value: u64,
    pub attributes: Attributes,
}
assert_layout!(Reply, size 88, align 8);

/// As `statx` gives them.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Attributes {
    pub inode: u64,
    pub size: u64,
    pub blocks: u64,
    pub modified_ns: u64,
    pub changed_ns: u64,
    pub accessed_ns: u64,
    /// File type and permissions.
    pub mode: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub device: u64,
}
assert_layout!(Attributes, size 72, align 8);

/// Access and modification time as `utimensat` takes them: nanoseconds may be UTIME_NOW or UTIME_OMIT.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Times {
    pub accessed_s: i64,
    pub accessed_ns: i64,
    pub modified_s: i64,
    pub modified_ns: i64,
}
assert_layout!(Times, size 32, align 8);

#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DirEntry {
    pub inode: u64,
    /// DT_* of `getdents64`.
    pub kind: u32,
    pub name_len: u32,
}
assert_layout!(DirEntry, size 16, align 8);
