//! Commands: the fixed-size descriptor and the number of each operation. The bodies are in the files of their areas.
//!
//! # Posted, answered, blocking
//! - Without [`FLAG_REPLY`] a command is posted: the guest goes on at once. Its failure shows later: an object whose creation
//!   failed answers every later command with that code; a failed enqueue gives its event that code as execution status
//!   and is reported by the next [`FINISH`] of its queue; an argument that could not be set is reported by the next
//!   [`LAUNCH`] of its kernel.
//! - With [`FLAG_REPLY`] the broker answers in the named slot when the call would return.
//! - With [`FLAG_BLOCKING`] as well, an enqueued command is answered when it has completed on the device.
//!
//! Commands are taken from the ring in order; blocking ones do not hold up those behind them.
use super::Id;
use crate::assert_layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a descriptor.
pub const DESCRIPTOR_LEN: u64 = 256;
/// Bytes of its body.
pub const BODY_LEN: usize = 192;
/// Events that a wait list holds in the descriptor itself.
pub const INLINE_WAITS: usize = 3;
/// Most events of one wait list.
pub const MAX_WAITS: u32 = 65_536;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct Descriptor {
    /// Which operation; decides the type of `body`.
    pub operation: u32,
    /// `FLAG_*`.
    pub flags: u32,
    /// Where the answer goes, with `FLAG_REPLY`.
    pub reply_slot: u32,
    pub reply_sequence: u32,
    /// The object that is addressed: the queue of an enqueued command, else as the operation says.
    pub target: Id,
    /// New event for the completion of an enqueued command; 0 = none.
    pub event: Id,
    /// Events that an enqueued command waits for.
    pub wait_count: u32,
    pub reserved: u32,
    /// Up to `INLINE_WAITS` events; a longer list lies in the arena as u64s and `waits[0]` is its offset.
    pub waits: [Id; INLINE_WAITS],
    pub body: [u8; BODY_LEN],
}
assert_layout!(Descriptor, size 256, align 64);

/// Answer in `reply_slot`.
pub const FLAG_REPLY: u32 = 1 << 0;
/// Answer an enqueued command at its completion. Needs `FLAG_REPLY`.
pub const FLAG_BLOCKING: u32 = 1 << 1;

// Session and objects (`object`, `info`)
/// Answers at once. No body.
pub const PING: u32 = 0x0100;
/// Everything that is constant about `target`, as records (`info`): 0 = platform and devices; a kernel; a program.
pub const DESCRIBE: u32 = 0x0101;
/// One parameter of `target`. Body `info::GetInfo`.
pub const GET_INFO: u32 = 0x0102;
/// The guest holds `target`, of any type, no longer. No body. What still uses it keeps it alive, as in the API.
pub const RELEASE: u32 = 0x0103;

// Contexts and queues (`object`)
/// `target` = new context.
pub const CREATE_CONTEXT: u32 = 0x0200;
/// `target` = new queue.
pub const CREATE_QUEUE: u32 = 0x0201;
/// Submits what is queued on `target`. No body.
pub const FLUSH: u32 = 0x0202;
/// Answers when all that is queued on `target` has completed. No body. Always blocking.
pub const FINISH: u32 = 0x0203;
/// Enqueued: completes when the wait list has (an empty one: all earlier commands). No body.
pub const MARKER: u32 = 0x0204;
/// As `MARKER`, and later commands wait for it.
pub const BARRIER: u32 = 0x0205;

// Buffers (`memory`)
/// `target` = new buffer.
pub const CREATE_BUFFER: u32 = 0x0300;
/// `target` = new buffer.
pub const CREATE_SUB_BUFFER: u32 = 0x0301;
/// Enqueued: buffer to arena. Body `memory::Transfer`.
pub const READ_BUFFER: u32 = 0x0302;
/// Enqueued: arena to buffer. Body `memory::Transfer`.
pub const WRITE_BUFFER: u32 = 0x0303;
/// Enqueued. Body `memory::Copy`.
pub const COPY_BUFFER: u32 = 0x0304;
/// Enqueued. Body `memory::Fill`.
pub const FILL_BUFFER: u32 = 0x0305;
/// Enqueued. Body `memory::TransferRect`.
pub const READ_BUFFER_RECT: u32 = 0x0306;
/// Enqueued. Body `memory::TransferRect`.
pub const WRITE_BUFFER_RECT: u32 = 0x0307;
/// Enqueued. Body `memory::CopyRect`.
pub const COPY_BUFFER_RECT: u32 = 0x0308;
/// Enqueued: the arena storage of a buffer becomes valid for the host. Body `memory::Map`.
pub const MAP_BUFFER: u32 = 0x0309;
/// Enqueued: the device may use the buffer again; undoes one `MAP_BUFFER` of the same range. Body `memory::Map`.
pub const UNMAP_BUFFER: u32 = 0x030a;

// Programs (`program`)
/// `target` = new program.
pub const CREATE_PROGRAM: u32 = 0x0400;
/// `target` = program. Answers when the build has ended. Body `program::BuildProgram`.
pub const BUILD_PROGRAM: u32 = 0x0401;
/// `target` = program, which becomes something to link. As `BUILD_PROGRAM`, with the same body.
pub const COMPILE_PROGRAM: u32 = 0x0402;
/// `target` = new program, which is there also when linking fails. Answers when linking has ended. Body
/// `program::LinkProgram`.
pub const LINK_PROGRAM: u32 = 0x0403;

// Kernels (`kernel`)
/// `target` = new kernel.
pub const CREATE_KERNEL: u32 = 0x0500;
/// `target` = new kernel, with the arguments of another.
pub const CLONE_KERNEL: u32 = 0x0501;
/// `target` = kernel.
pub const SET_ARGUMENT: u32 = 0x0502;
/// Enqueued: runs a kernel over an index space. Body `kernel::Launch`.
pub const LAUNCH: u32 = 0x0503;

// Events (`object`)
/// Answers when the events of the wait list have completed; no target, no body. Always blocking.
pub const WAIT_EVENTS: u32 = 0x0600;
/// `target` = event: `values[0]` = execution status (0 complete, 1 running, 2 submitted, 3 queued, or an error), as u32 in the
/// low half.
pub const EVENT_STATUS: u32 = 0x0601;
/// `target` = event: values = queued, submitted, started, ended, completed in ns of the host's CLOCK_MONOTONIC.
pub const EVENT_PROFILE: u32 = 0x0602;
/// `target` = new event that the guest completes. Body `object::CreateUserEvent`.
pub const CREATE_USER_EVENT: u32 = 0x0603;
/// `target` = user event. Body `object::SetUserEvent`.
pub const SET_USER_EVENT: u32 = 0x0604;

// Images and samplers (`image`)
/// `target` = new image.
pub const CREATE_IMAGE: u32 = 0x0700;
/// `target` = new sampler.
pub const CREATE_SAMPLER: u32 = 0x0701;
/// Enqueued: image to arena. Body `image::TransferImage`.
pub const READ_IMAGE: u32 = 0x0702;
/// Enqueued: arena to image. Body `image::TransferImage`.
pub const WRITE_IMAGE: u32 = 0x0703;
/// Enqueued. Body `image::CopyImage`.
pub const COPY_IMAGE: u32 = 0x0704;
/// Enqueued. Body `image::FillImage`.
pub const FILL_IMAGE: u32 = 0x0705;
/// Enqueued. Body `image::CopyImageBuffer`.
pub const COPY_IMAGE_TO_BUFFER: u32 = 0x0706;
/// Enqueued. Body `image::CopyImageBuffer`.
pub const COPY_BUFFER_TO_IMAGE: u32 = 0x0707;
