//! Accelerator sessions: what a virtual library in the guest and the broker of a lease say to each other.
//!
//! One block of shared memory (a sealed memfd) holds everything:
//! ```text
//! 0                 session::Header         state, counters, parking flags
//! REPLIES           reply::Reply x 64       one slot per call that waits for an answer, chosen by the guest
//! RING              command::Descriptor x 1024   submission ring, guest -> broker
//! ARENA             the rest                payload and buffers, allocated by the guest
//! ```
//! The doorbell (guest to broker) and the wake-up (broker to guest) are eventfds beside it. `docs/protocols/accelerator.md`
//! states the contract in words; the rules for sleeping are in [`session`], the commands in [`command`].
//!
//! Nothing here knows an accelerator API by name: an object is a context, a queue, a buffer, an image, a sampler, a
//! program, a kernel or an event. Only numbers pass through that belong to the API which the guest's library speaks: status codes and the
//! parameter numbers of [`info`].

pub mod command;
pub mod image;
pub mod info;
pub mod kernel;
pub mod memory;
pub mod object;
pub mod program;
pub mod reply;
pub mod session;

use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of an object, chosen by the guest: never 0, never used twice in a session, one name space for all types.
pub type Id = u64;
/// "No object".
pub const NO_ID: Id = 0;

/// Bytes of the arena, named by their offset from its start. The broker checks it against the arena before every use.
/// Offsets from 2^48 up are reserved for further segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Range {
    pub offset: u64,
    pub len: u64,
}
assert_layout!(Range, size 16, align 8);

impl Range {
    /// "No bytes": what a command holds where a range is optional.
    pub const NONE: Self = Self { offset: 0, len: 0 };
}
