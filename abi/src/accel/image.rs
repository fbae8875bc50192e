//! Images and samplers. Formats, kinds and modes are the numbers of the API that the guest's library speaks.
//!
//! Elements of an image travel packed: a range of the arena holds `region[0] * region[1] * region[2]` elements without gaps.
//! Origins and regions count elements, then rows (or layers of an array of lines), then slices (or layers of an array).
use super::{Id, Range};
use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a fill colour: four channels of 32 bits.
pub const COLOUR_LEN: usize = 16;

/// Body of `CREATE_IMAGE`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreateImage {
    pub context: Id,
    /// Buffer or image whose memory the new image shows; 0 = memory of its own.
    pub parent: Id,
    /// `memory::BUFFER_*`.
    pub flags: u32,
    pub kind: u32,
    pub channel_order: u32,
    pub channel_type: u32,
    pub width: u64,
    pub height: u64,
    pub depth: u64,
    pub array_size: u64,
    /// Bytes between rows of `parent`; 0 = packed.
    pub row_pitch: u64,
    /// First contents, read at the call: exactly the image's elements, or `Range::NONE`.
    pub initial: Range,
}
assert_layout!(CreateImage, size 88, align 8);

/// Body of `CREATE_SAMPLER`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreateSampler {
    pub context: Id,
    /// 1 = coordinates are normalised.
    pub normalized: u32,
    pub addressing: u32,
    pub filter: u32,
    pub reserved: u32,
}
assert_layout!(CreateSampler, size 24, align 8);

/// Body of `READ_IMAGE` and `WRITE_IMAGE`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TransferImage {
    pub image: Id,
    pub origin: [u64; 3],
    pub region: [u64; 3],
    /// Exactly the region's elements.
    pub data: Range,
}
assert_layout!(TransferImage, size 72, align 8);

/// Body of `COPY_IMAGE`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CopyImage {
    pub source: Id,
    pub destination: Id,
    pub source_origin: [u64; 3],
    pub destination_origin: [u64; 3],
    pub region: [u64; 3],
}
assert_layout!(CopyImage, size 88, align 8);

/// Body of `FILL_IMAGE`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FillImage {
    pub image: Id,
    pub origin: [u64; 3],
    pub region: [u64; 3],
    pub colour: [u8; COLOUR_LEN],
}
assert_layout!(FillImage, size 72, align 8);

/// Body of `COPY_IMAGE_TO_BUFFER` and `COPY_BUFFER_TO_IMAGE`; the elements lie packed in the buffer.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CopyImageBuffer {
    pub image: Id,
    pub buffer: Id,
    pub origin: [u64; 3],
    pub region: [u64; 3],
    pub buffer_offset: u64,
}
assert_layout!(CopyImageBuffer, size 72, align 8);
