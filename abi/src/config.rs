//! The configuration blob: what to run and how. A sequence of records, each a [`RecordHeader`] and `len` bytes, padded to
//! 8; it ends with the blob. Written by the VMM, parsed by the library OS.
use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RecordHeader {
    pub kind: u32,
    /// Bytes of the record's body, without padding.
    pub len: u32,
}
assert_layout!(RecordHeader, size 8, align 4);

/// One program argument, in order; the first names the program (searched on PATH when it has no slash).
pub const ARG: u32 = 1;
/// `NAME=VALUE`.
pub const ENV: u32 = 2;
/// Working directory.
pub const CWD: u32 = 3;
/// Host name of the guest.
pub const HOSTNAME: u32 = 4;
/// [`Mount`], then the guest path: a tree of a file-system window appears there.
pub const MOUNT: u32 = 5;
/// Layer index (u32), bottom first: the root is the union of all named layers, later ones over earlier ones.
pub const ROOT_LAYER: u32 = 6;
/// Print every system call on the console (no body).
pub const STRACE: u32 = 7;
/// Count where time goes and print it on the console at the end (no body).
pub const STATS: u32 = 9;
/// Real user id and group id of the program: two u32.
pub const CREDENTIALS: u32 = 8;

/// Layer index (u32), four zero bytes, then the guest path: the layer's tree appears there, read-only.
pub const VOLUME: u32 = 10;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mount {
    /// Index of the region (`REGION_FS`).
    pub region: u32,
    /// Which of the window's roots.
    pub root: u32,
    /// `MOUNT_*`.
    pub flags: u32,
    pub reserved: u32,
}
assert_layout!(Mount, size 16, align 4);

/// The guest may not write. (A mount at `/` is always read-only below, with memory over it.)
pub const MOUNT_READ_ONLY: u32 = 1;
