//! Questions about objects. Parameter numbers and the form of values are those of the API that the guest's library speaks;
//! values never hold handles or addresses of the host.
use super::Range;
use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Body of `DESCRIBE`: where the records go. Each is a [`Record`] and `len` bytes, padded to 8.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Describe {
    pub out: Range,
}
assert_layout!(Describe, size 16, align 8);

/// Parameter of the platform.
pub const PLATFORM: u32 = 1;
/// Parameter of device `index`.
pub const DEVICE: u32 = 2;
/// Parameter of a program.
pub const PROGRAM: u32 = 3;
/// Parameter of a program's build for device `index`.
pub const BUILD: u32 = 4;
/// Parameter of a kernel.
pub const KERNEL: u32 = 5;
/// Parameter of argument `index` of a kernel.
pub const ARGUMENT: u32 = 6;
/// Parameter of a kernel on device `index`.
pub const WORK_GROUP: u32 = 7;
/// As `WORK_GROUP`, with an input value.
pub const SUB_GROUP: u32 = 8;
/// Formats that images of a context may have: `index` = kind of image, `parameter` = `memory::BUFFER_*` or
/// `FORMATS_KERNEL_READ_AND_WRITE`; pairs of channel order and channel type.
pub const FORMATS: u32 = 9;

/// Formats of images that one kernel both reads and writes.
pub const FORMATS_KERNEL_READ_AND_WRITE: u32 = 1 << 2;

/// One parameter of a `DESCRIBE` answer.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Record {
    /// What the parameter belongs to: `PLATFORM` ... `WORK_GROUP`.
    pub kind: u32,
    pub index: u32,
    pub parameter: u32,
    pub len: u32,
}
assert_layout!(Record, size 16, align 4);

/// Body of `GET_INFO`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetInfo {
    /// `PROGRAM` ... `FORMATS`.
    pub kind: u32,
    pub index: u32,
    pub parameter: u32,
    /// Bytes of `input` in use (`SUB_GROUP` only).
    pub input_len: u32,
    pub input: [u64; 3],
    pub out: Range,
}
assert_layout!(GetInfo, size 56, align 8);

/// Parameters of `DEVICE` that are Kasoku's own: u32, 1 when buffers with storage are their storage (see
/// `memory::CreateBuffer`).
pub const DEVICE_DIRECT_BUFFERS: u32 = 0x4b41_0001;
/// u32: nanoseconds: a call that takes the device less is worth polling for, a longer one should be slept through.
pub const DEVICE_POLL_NS: u32 = 0x4b41_0002;
/// u32: 1 when kernels can use addresses that the guest uses (`memory::CreateBuffer.address`).
pub const DEVICE_SHARED_ADDRESSES: u32 = 0x4b41_0004;

/// Parameter of `BUILD`, only by `GET_INFO`: the binary for that device, authenticated, as `CREATE_PROGRAM` takes it back.
pub const BUILD_BINARY: u32 = 0x4b41_0003;
