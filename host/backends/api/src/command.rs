//! What can be enqueued, and what else a call takes.
use crate::{Backend, HostBytes};

/// A buffer to be made.
#[derive(Clone, Copy, Debug)]
pub struct BufferSpec {
    /// Bytes; not 0.
    pub size: u64,
    /// `kasoku_abi::accel::memory::BUFFER_*`.
    pub flags: u32,
    /// Host side of the buffer, exactly `size` bytes.
    pub storage: Option<HostBytes>,
    /// First contents, exactly `size` bytes; never with `storage`.
    pub initial: Option<HostBytes>,
}

/// Three coordinates or sizes.
pub type Index3 = [usize; 3];

/// A box of bytes in two memories; pitches of 0 = packed. The broker has checked that the host's side lies inside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Rect {
    /// In the buffer, or in the source of a copy.
    pub first_origin: Index3,
    /// In the host's memory, or in the destination of a copy.
    pub second_origin: Index3,
    pub region: Index3,
    pub first_pitches: [usize; 2],
    pub second_pitches: [usize; 2],
}

/// An enqueued operation.
pub enum Command<'a, B: Backend> {
    Marker,
    Barrier,
    Read {
        buffer: &'a B::Buffer,
        offset: usize,
        data: HostBytes,
    },
    Write {
        buffer: &'a B::Buffer,
        offset: usize,
        data: HostBytes,
    },
    Copy {
        source: &'a B::Buffer,
        destination: &'a B::Buffer,
        source_offset: usize,
        destination_offset: usize,
        size: usize,
    },
    Fill {
        buffer: &'a B::Buffer,
        pattern: &'a [u8],
        offset: usize,
        size: usize,
    },
    ReadRect {
        buffer: &'a B::Buffer,
        rect: Rect,
        data: HostBytes,
    },
    WriteRect {
        buffer: &'a B::Buffer,
        rect: Rect,
        data: HostBytes,
    },
    CopyRect {
        source: &'a B::Buffer,
        destination: &'a B::Buffer,
        rect: Rect,
    },
    /// `storage`: where the buffer's host side holds these bytes; `flags`: `MAP_*`.
    Map {
        buffer: &'a B::Buffer,
        offset: usize,
        storage: HostBytes,
        flags: u32,
    },
    Unmap {
        buffer: &'a B::Buffer,
        storage: HostBytes,
    },
    /// `dimensions` 0 = a task.
    Launch {
        kernel: &'a B::Kernel,
        dimensions: u32,
        offset: Index3,
        global: Index3,
        local: Option<Index3>,
    },
}

/// Who learns of a command's completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    Nobody,
    /// The returned event.
    Event,
    /// The call returns only then. For `Read`, `Write` and their `Rect` forms.
    Wait,
}

/// A kernel argument.
pub enum Argument<'a, B: Backend> {
    Bytes(&'a [u8]),
    Buffer(&'a B::Buffer),
    NullBuffer,
    /// Bytes of local memory.
    Local(usize),
}
