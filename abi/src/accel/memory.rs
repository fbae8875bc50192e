//! Buffers and transfers.
//!
//! Bulk data (`Transfer.data`, `TransferRect.data`) belongs to the device from submission until the command's event has
//! completed; the storage of a buffer from its creation until the buffer is released and the queues that use it have drained.
use super::{Id, Range};
use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Alignment of a buffer's storage in the arena: no less, or a device may copy instead of working in place.
pub const STORAGE_ALIGN: u64 = 128;
/// Longest fill pattern, bytes.
pub const PATTERN_MAX: usize = 128;

/// What kernels may do with a buffer (none of the first two: both).
pub const BUFFER_KERNEL_WRITE_ONLY: u32 = 1 << 0;
pub const BUFFER_KERNEL_READ_ONLY: u32 = 1 << 1;

/// Body of `CREATE_BUFFER`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreateBuffer {
    pub context: Id,
    /// Bytes of the buffer.
    pub size: u64,
    /// Host side of the buffer: exactly `size` bytes, or `Range::NONE`. On a device with `info::DEVICE_DIRECT_BUFFERS` the
    /// buffer *is* this range: kernels work in it, and the guest may read and write it itself whenever no command that
    /// uses the buffer is queued. On others it is what `MAP_BUFFER` fills and `UNMAP_BUFFER` sends back. Its bytes at
    /// creation are the buffer's first contents.
    pub storage: Range,
    /// First contents of a buffer without storage, read at the call: exactly `size` bytes, or `Range::NONE`.
    pub initial: Range,
    /// `BUFFER_*`.
    pub flags: u32,
    pub reserved: u32,
    /// Where the guest has the first byte of `storage`, on devices with `info::DEVICE_SHARED_ADDRESSES`: pointers to these bytes
    /// mean the same to kernels (`kernel::ARGUMENT_ADDRESS`, and pointers in memory). The whole session then lies between
    /// `session::SHARED_START` and `SHARED_END` in the guest, always at the same place. 0: nobody needs that.
    pub address: u64,
}
assert_layout!(CreateBuffer, size 64, align 8);

/// Body of `CREATE_SUB_BUFFER`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreateSubBuffer {
    pub parent: Id,
    pub origin: u64,
    pub size: u64,
    /// `BUFFER_*`; none: as the parent.
    pub flags: u32,
    pub reserved: u32,
}
assert_layout!(CreateSubBuffer, size 32, align 8);

/// Body of `READ_BUFFER` and `WRITE_BUFFER`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Transfer {
    pub buffer: Id,
    /// First byte in the buffer.
    pub offset: u64,
    /// Source or destination; its length is the number of bytes.
    pub data: Range,
}
assert_layout!(Transfer, size 32, align 8);

/// Body of `COPY_BUFFER`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Copy {
    pub source: Id,
    pub destination: Id,
    pub source_offset: u64,
    pub destination_offset: u64,
    pub size: u64,
}
assert_layout!(Copy, size 40, align 8);

/// Body of `FILL_BUFFER`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Fill {
    pub buffer: Id,
    pub offset: u64,
    pub size: u64,
    /// Bytes of `pattern` in use: 1, 2, 4 ... 128.
    pub pattern_len: u32,
    pub reserved: u32,
    pub pattern: [u8; PATTERN_MAX],
}
assert_layout!(Fill, size 160, align 8);

/// Body of `READ_BUFFER_RECT` and `WRITE_BUFFER_RECT`. Origins and region in bytes, rows, slices; a pitch of 0 = packed.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TransferRect {
    pub buffer: Id,
    pub buffer_origin: [u64; 3],
    /// Relative to the start of `data`.
    pub host_origin: [u64; 3],
    pub region: [u64; 3],
    pub buffer_row_pitch: u64,
    pub buffer_slice_pitch: u64,
    pub host_row_pitch: u64,
    pub host_slice_pitch: u64,
    pub data: Range,
}
assert_layout!(TransferRect, size 128, align 8);

/// Body of `COPY_BUFFER_RECT`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CopyRect {
    pub source: Id,
    pub destination: Id,
    pub source_origin: [u64; 3],
    pub destination_origin: [u64; 3],
    pub region: [u64; 3],
    pub source_row_pitch: u64,
    pub source_slice_pitch: u64,
    pub destination_row_pitch: u64,
    pub destination_slice_pitch: u64,
}
assert_layout!(CopyRect, size 120, align 8);

/// The host reads the mapped bytes.
pub const MAP_READ: u32 = 1 << 0;
/// The host writes the mapped bytes.
pub const MAP_WRITE: u32 = 1 << 1;
/// The host overwrites all mapped bytes: their old contents need not be fetched.
pub const MAP_DISCARD: u32 = 1 << 2;

/// Body of `MAP_BUFFER` and `UNMAP_BUFFER`; the buffer, or its parent, has storage.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Map {
    pub buffer: Id,
    pub offset: u64,
    pub size: u64,
    /// `MAP_*`; not looked at by `UNMAP_BUFFER`.
    pub flags: u32,
    pub reserved: u32,
}
assert_layout!(Map, size 32, align 8);
