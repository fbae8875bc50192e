//! Contexts, queues and user events.
use super::Id;
use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Body of `CREATE_CONTEXT`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreateContext {
    /// Devices of the context: bit n for index n.
    pub devices: u64,
}
assert_layout!(CreateContext, size 8, align 8);

/// Commands may run in any order that wait lists and barriers allow.
pub const QUEUE_OUT_OF_ORDER: u32 = 1 << 0;
/// Events of the queue carry times.
pub const QUEUE_PROFILING: u32 = 1 << 1;

/// Body of `CREATE_QUEUE`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreateQueue {
    pub context: Id,
    /// Index of the device.
    pub device: u32,
    /// `QUEUE_*`.
    pub flags: u32,
}
assert_layout!(CreateQueue, size 16, align 8);

/// Body of `CREATE_USER_EVENT`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreateUserEvent {
    pub context: Id,
}
assert_layout!(CreateUserEvent, size 8, align 8);

/// Body of `SET_USER_EVENT`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetUserEvent {
    /// 0 = complete, negative = failed.
    pub status: i32,
    pub reserved: u32,
}
assert_layout!(SetUserEvent, size 8, align 4);
