//! Answers of the broker.
use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a slot: a cache line of its own.
pub const REPLY_LEN: u64 = 64;

/// One reply slot. The guest chooses a free slot and a `sequence` that differs from the slot's present one; it owns the slot
/// until the answer is there. The broker writes all other fields, then `sequence` with release ordering.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Reply {
    /// `Descriptor.reply_sequence` of the call that is answered here.
    pub sequence: u32,
    /// 0, or the error code of the API that the guest's library speaks (OpenCL: negative).
    pub status: i32,
    /// Bytes that the whole answer has; more than `written` when the range given for it is too short: ask again.
    pub len: u64,
    /// Bytes written to the range given for the answer.
    pub written: u64,
    /// Small results, as the command says. Of a call that waited for a device: `values[0]` = nanoseconds from taking its
    /// descriptor to its answer, by which the guest judges whether to poll for the next one.
    pub values: [u64; 5],
}
assert_layout!(Reply, size 64, align 64);
