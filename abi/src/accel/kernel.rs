//! Kernels.
use super::{Id, Range};
use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Longest kernel name, bytes: C asks for 1023 significant characters at most of any name that a linker sees.
pub const NAME_MAX: u64 = 1024;
/// Bytes of an argument that fit into the descriptor.
pub const INLINE_ARGUMENT: usize = 128;
/// Largest argument given by value, bytes.
pub const ARGUMENT_MAX: u64 = 64 << 10;

/// Body of `CREATE_KERNEL`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreateKernel {
    pub program: Id,
    /// UTF-8, without a terminating zero.
    pub name: Range,
}
assert_layout!(CreateKernel, size 24, align 8);

/// Body of `CLONE_KERNEL`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CloneKernel {
    pub source: Id,
}
assert_layout!(CloneKernel, size 8, align 8);

/// The value is `size` bytes.
pub const ARGUMENT_BYTES: u32 = 1;
/// The value is the object `object` (0 = a null buffer); `size` is that of a handle and is not looked at.
pub const ARGUMENT_OBJECT: u32 = 2;
/// The argument is `size` bytes of local memory.
pub const ARGUMENT_LOCAL: u32 = 3;
/// The value is the address of byte `size` of the buffer `object`, which was created with an address.
pub const ARGUMENT_ADDRESS: u32 = 4;

/// Body of `SET_ARGUMENT`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetArgument {
    pub index: u32,
    /// `ARGUMENT_*`.
    pub kind: u32,
    pub size: u64,
    pub object: Id,
    /// Value of more than `INLINE_ARGUMENT` bytes: exactly `size` of them.
    pub data: Range,
    /// Shorter value.
    pub inline: [u8; INLINE_ARGUMENT],
}
assert_layout!(SetArgument, size 168, align 8);

/// Body of `LAUNCH`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Launch {
    pub kernel: Id,
    /// 1 to 3; 0 = a single work item (a task).
    pub dimensions: u32,
    /// 1 = `local_size` holds; 0 = the device chooses.
    pub has_local_size: u32,
    pub global_offset: [u64; 3],
    pub global_size: [u64; 3],
    pub local_size: [u64; 3],
}
assert_layout!(Launch, size 88, align 8);
