//! The page that a vCPU shares with the VMM: hypercall arguments, events, preemption.
//!
//! The VMM trusts nothing in it: it reads each field once, into a copy, and checks the copy.
use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The interrupted state that the VMM stores before it sends a vCPU to `LibosHeader.preempt_entry`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PreemptFrame {
    pub rip: u64,
    pub rsp: u64,
    pub rflags: u64,
}
assert_layout!(PreemptFrame, size 24, align 8);

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CpuPage {
    /// Hypercall arguments, written by the guest before the `out`.
    pub args: [u64; 6],
    /// Hypercall result, written by the VMM: a value, or a negative errno.
    pub result: i64,
    /// `PENDING_*` bits, set by the VMM (atomic or), taken by the guest (atomic exchange).
    pub pending: u64,
    /// Signals from outside for the first program, bit n-1 for signal n; atomic like `pending`.
    pub signals: u64,
    /// Written by the guest: channels on which a thread waits to read, bit per channel ...
    pub watch_read: u64,
    /// ... and to write.
    pub watch_write: u64,
    /// Written by the guest: regions on whose wake-up a thread waits, bit per region.
    pub watch_region: u64,
    /// Written by the guest: when it wants to be preempted while it runs, CLOCK_MONOTONIC ns on the guest's clock;
    /// 0 = never, 1 = at every tick (more than one thread is runnable).
    pub preempt_at_ns: u64,
    pub preempt: PreemptFrame,
    /// Written by the guest for `kasoku ps`: nanoseconds spent idle.
    pub idle_ns: u64,
    pub reserved: [u64; 16],
}
assert_layout!(CpuPage, size 264, align 8);

/// Something happened that only a look at the guest's own state explains (a tick, a stop request).
pub const PENDING_KICK: u64 = 1 << 0;
/// `CpuPage.signals` is not empty.
pub const PENDING_SIGNALS: u64 = 1 << 1;
/// A watched channel may be ready: which ones is found by trying.
pub const PENDING_CHANNEL: u64 = 1 << 2;
/// A snapshot is wanted: the vCPU makes the hypercall `SNAPSHOT` where it holds no lock.
pub const PENDING_SNAPSHOT: u64 = 1 << 3;
/// Bit number of the first region's wake-up.
pub const PENDING_REGION: u32 = 32;
