//! The session's memory: where its parts lie, the header, and how the two sides sleep without losing a wake-up.
//!
//! # Submitting
//! The guest (one thread at a time: it holds a lock of its own) writes descriptor `tail % RING_SLOTS`, then stores
//! `tail + 1` with release ordering. It must not overtake `head + RING_SLOTS`. The broker copies a descriptor once,
//! works on the copy, and stores `head + 1` when it has read all payload that belongs to the call (every arena range
//! except bulk data, see `memory`): from then on slot and payload may be used again.
//!
//! # Parking
//! All accesses below are sequentially consistent, or have a sequentially consistent fence between the store and the load.
//! - Broker, before it sleeps on the doorbell: `broker_parked = PARKED`; load `tail` again; work if it moved, else sleep. While a
//!   broker thread is blocked in a wait of the device, the flag is up too and another thread of the broker sleeps on the
//!   doorbell.
//! - Guest, after storing `tail`: `swap(broker_parked, 0)`; if it was not 0, ring the doorbell. So one sleep costs one ring.
//! - While a device has work of this session, the broker first *naps*: `broker_parked = PARKED_NAPPING`, and it looks at `tail`
//!   again by itself within [`NAP_MAX_NS`]. A guest that posts a command for which nobody waits leaves it asleep then, unless the
//!   ring fills up: what is posted in quick succession is taken in batches, and costs neither side a ring.
//! - Guest, before a thread sleeps on the wake-up: `guest_parked = 1`; look at the reply slot (or `head`, if it waits for room
//!   in the ring: then `space_wanted = 1` first) and at `broker_state` again; sleep only if nothing changed.
//! - Broker, after storing a reply's `sequence`: `swap(guest_parked, 0)`; if it was 1, signal the wake-up. The same after
//!   it advanced `head`, when `swap(space_wanted, 0)` was 1.
//! - One wake-up may answer several sleepers: the guest thread that reads it wakes all others that wait, and whoever
//!   sleeps again raises the flag again.
use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `Header.magic`: "kasokuAX".
pub const MAGIC: u64 = u64::from_le_bytes(*b"kasokuAX");
/// `Header.version`.
pub const VERSION: u32 = 1;

/// Offset of the reply slots.
pub const REPLIES: u64 = 4096;
/// Number of reply slots: calls of one guest that wait at the same time.
pub const REPLY_SLOTS: u32 = 64;
/// Offset of the submission ring.
pub const RING: u64 = 8192;
/// Descriptors in the ring, a power of two.
pub const RING_SLOTS: u64 = 1024;
/// Offset of the arena, on a large page.
pub const ARENA: u64 = crate::layout::LARGE_PAGE;
/// Least and most bytes of a session's memory, a multiple of large pages.
pub const MEMORY_MIN: u64 = 4 << 20;
pub const MEMORY_MAX: u64 = 64 << 30;

/// Where a guest maps sessions whose addresses its kernels shall know: one `MEMORY_MAX` for each, by number. No process of
/// either side has anything there by itself.
pub const SHARED_START: u64 = 0x2000_0000_0000;
pub const SHARED_END: u64 = SHARED_START + 16 * MEMORY_MAX;

/// `Header.broker_state`: not yet ready.
pub const STATE_STARTING: u32 = 0;
/// Commands are served.
pub const STATE_SERVING: u32 = 1;
/// The lease has ended in good order: nothing is served any more.
pub const STATE_CLOSED: u32 = 2;
/// The process that served the device died (a kernel crashed it, or it was killed): every object is lost, calls that wait
/// get no answer. Never left again in this epoch.
pub const STATE_LOST: u32 = 3;

/// The session has no device at present, its objects are kept: commands wait in the ring until it has one again.
pub const STATE_SUSPENDED: u32 = 4;

/// `Header.broker_parked`: the broker sleeps until it is rung.
pub const PARKED: u32 = 1;
/// It sleeps for at most [`NAP_MAX_NS`].
pub const PARKED_NAPPING: u32 = 2;
/// Longest nap of a broker, nanoseconds: how much later than enqueued a command may start beside others.
pub const NAP_MAX_NS: u64 = 400_000;

/// The first page. Words that different sides write lie on different cache lines. The broker takes nothing from it but
/// `tail`, `guest_parked` and `space_wanted`, all of which may lie without harm to anybody but the guest.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Header {
    pub magic: u64,
    pub version: u32,
    /// `STATE_*`, written by the broker's side only.
    pub broker_state: u32,
    /// The lease's epoch: grows with each session of a device.
    pub epoch: u64,
    /// Bytes of the arena.
    pub arena_len: u64,
    /// Number of devices in this session; devices are named by index.
    pub device_count: u32,
    /// How the serving process died, for messages: number of the signal, 0 when there was none.
    pub death_signal: u32,
    pub reserved0: [u64; 3],

    /// Descriptors published so far; written by the guest.
    pub tail: u64,
    pub reserved1: [u64; 7],

    /// Descriptors consumed so far; written by the broker.
    pub head: u64,
    pub reserved2: [u64; 7],

    /// The broker sleeps (`PARKED`, `PARKED_NAPPING`): set by it, taken (swapped with 0) by the guest.
    pub broker_parked: u32,
    pub reserved3: [u32; 15],

    /// A guest thread sleeps: set by it, taken by the broker.
    pub guest_parked: u32,
    /// A guest thread waits for room in the ring: set by it, taken by the broker.
    pub space_wanted: u32,
    pub reserved4: [u32; 14],
}
assert_layout!(Header, size 320, align 64);

/// Offsets of the words that are accessed atomically.
pub const OFFSET_BROKER_STATE: u64 = 12;
pub const OFFSET_TAIL: u64 = 64;
pub const OFFSET_HEAD: u64 = 128;
pub const OFFSET_BROKER_PARKED: u64 = 192;
pub const OFFSET_GUEST_PARKED: u64 = 256;
pub const OFFSET_SPACE_WANTED: u64 = 260;

const _: () = {
    assert!(core::mem::offset_of!(Header, broker_state) as u64 == OFFSET_BROKER_STATE);
    assert!(core::mem::offset_of!(Header, tail) as u64 == OFFSET_TAIL);
    assert!(core::mem::offset_of!(Header, head) as u64 == OFFSET_HEAD);
    assert!(core::mem::offset_of!(Header, broker_parked) as u64 == OFFSET_BROKER_PARKED);
    assert!(core::mem::offset_of!(Header, guest_parked) as u64 == OFFSET_GUEST_PARKED);
    assert!(core::mem::offset_of!(Header, space_wanted) as u64 == OFFSET_SPACE_WANTED);
    assert!(RING_SLOTS.is_power_of_two());
    assert!(RING + RING_SLOTS * super::command::DESCRIPTOR_LEN <= ARENA);
    assert!(REPLIES + REPLY_SLOTS as u64 * super::reply::REPLY_LEN <= RING);
};
