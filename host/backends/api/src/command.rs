//! What can be enqueued, and what else a call takes.
use crate::{Backend, HostBytes};
use kasoku_abi::accel::image::COLOUR_LEN;

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

/// What an image is made of, in the numbers of the backend's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageShape {
    pub kind: u32,
    pub channel_order: u32,
    pub channel_type: u32,
    pub width: u64,
    pub height: u64,
    pub depth: u64,
    pub array_size: u64,
}

/// Whose memory an image shows.
pub enum ImageParent<'a, B: Backend> {
    Buffer(&'a B::Buffer),
    Image(&'a B::Image),
}

/// An image to be made.
pub struct ImageSpec<'a, B: Backend> {
    pub shape: ImageShape,
    /// `kasoku_abi::accel::memory::BUFFER_*`.
    pub flags: u32,
    pub parent: Option<ImageParent<'a, B>>,
    /// Bytes between rows of the parent; 0 = packed.
    pub row_pitch: usize,
    /// First contents, exactly as many bytes as [`Backend::image_layout`] says, packed; never with `parent`.
    pub initial: Option<HostBytes>,
}

/// How the elements of an image lie in packed memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLayout {
    /// Bytes of an element.
    pub element: u64,
    /// Elements, rows or layers, slices or layers; none is 0.
    pub extent: [u64; 3],
    /// The second dimension counts layers.
    pub lines: bool,
}

/// A sampler to be made, in the numbers of the backend's API.
#[derive(Clone, Copy, Debug)]
pub struct SamplerSpec {
    pub normalized: bool,
    pub addressing: u32,
    pub filter: u32,
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
    /// `pitches` of `data`, which holds the region.
    ReadImage {
        image: &'a B::Image,
        origin: Index3,
        region: Index3,
        pitches: [usize; 2],
        data: HostBytes,
    },
    WriteImage {
        image: &'a B::Image,
        origin: Index3,
        region: Index3,
        pitches: [usize; 2],
        data: HostBytes,
    },
    CopyImage {
        source: &'a B::Image,
        destination: &'a B::Image,
        source_origin: Index3,
        destination_origin: Index3,
        region: Index3,
    },
    FillImage {
        image: &'a B::Image,
        colour: &'a [u8; COLOUR_LEN],
        origin: Index3,
        region: Index3,
    },
    ImageToBuffer {
        image: &'a B::Image,
        buffer: &'a B::Buffer,
        origin: Index3,
        region: Index3,
        offset: usize,
    },
    BufferToImage {
        buffer: &'a B::Buffer,
        image: &'a B::Image,
        offset: usize,
        origin: Index3,
        region: Index3,
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
    /// The call returns only then. For `Read`, `Write`, and their `Rect` forms.
    Wait,
}

/// A kernel argument.
pub enum Argument<'a, B: Backend> {
    Bytes(&'a [u8]),
    Buffer(&'a B::Buffer),
    NullBuffer,
    Image(&'a B::Image),
    Sampler(&'a B::Sampler),
    /// Bytes of local memory.
    Local(usize),
    /// Memory of this process, where [`Backend::shares_addresses`].
    Address(usize),
}
