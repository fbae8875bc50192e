//! Every number and structure that crosses the wall of a Kasoku VM, defined once and without behaviour.
//!
//! Both sides compile this crate: the library OS and the virtual libraries inside the guest, the VMM, the broker and the
//! proxies on the host. Structures hold fixed-width integers only: no pointers, no `usize`, no `bool`, no padding;
//! their sizes and offsets are asserted at compile time. Whoever changes one raises [`ABI_VERSION`].
#![no_std]
#![forbid(unsafe_code)]

pub mod accel;
pub mod boot;
pub mod config;
pub mod cpu;
pub mod fs;
pub mod hypercall;
pub mod layout;
pub mod snapshot;

/// Version of everything in this crate; the VMM refuses a library OS that was built against another.
pub const ABI_VERSION: u32 = 2;

/// A guest-physical address. The host cannot dereference it: only the VMM's checked memory functions turn it, together
/// with a length, into bytes.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(transparent)]
pub struct Gpa(pub u64);

/// Asserts a structure's size and alignment at compile time. When it fires: the wire format has changed, so raise
/// [`ABI_VERSION`] and then correct the number.
#[macro_export]
macro_rules! assert_layout {
    ($type:ty, size $size:expr, align $align:expr) => {
        const _: () = assert!(core::mem::size_of::<$type>() == $size, "wire format changed: raise ABI_VERSION");
        const _: () = assert!(core::mem::align_of::<$type>() == $align, "wire format changed: raise ABI_VERSION");
    };
}
