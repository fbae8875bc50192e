//! What the broker asks of an accelerator backend.
//!
//! The broker validates what a guest says and keeps its objects by number; a backend turns checked calls into those of one
//! vendor's library. Objects are values that release themselves when dropped. Every backend passes [`check_backend`].
//!
//! Invariant: nothing in here knows a ring, an id or a guest; nothing in a backend reads memory of a guest by itself.

mod command;
mod compile;
mod conformance;
mod host;
mod status;

pub use command::{
    Argument, BufferSpec, Command, Completion, ImageLayout, ImageParent, ImageShape, ImageSpec, Index3, Rect,
    SamplerSpec,
};
pub use compile::{Build, BuildPhase, Compiler, Job, Language, Step};
pub use conformance::{ConformanceProgram, check_backend};
pub use host::HostBytes;
pub use status::{Codes, Status};

/// Result of a call of the accelerator's API.
pub type Result<T> = core::result::Result<T, Status>;

/// One parameter of an object: the fields of `kasoku_abi::accel::info::Record`, and the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub kind: u32,
    pub index: u32,
    pub parameter: u32,
    pub value: Vec<u8>,
}

/// A question about a program or a kernel: the fields of `kasoku_abi::accel::info::GetInfo`.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub kind: u32,
    pub index: u32,
    pub parameter: u32,
    pub input: &'a [u64],
}

/// An opened set of devices of one platform.
///
/// Methods may be called from several threads at once, except those that take a `Kernel` (the broker calls them one at a
/// time). `finish`, `wait`, and `enqueue` with [`Completion::Wait`] may block; nothing else does.
pub trait Backend: Send + Sync + Sized + 'static {
    type Context: Send + Sync;
    type Queue: Send + Sync;
    type Buffer: Send + Sync;
    type Image: Send + Sync;
    type Sampler: Send + Sync;
    type Program: Send + Sync;
    type Kernel: Send + Sync;
    type Event: Send + Sync;

    /// Codes that the broker itself answers with.
    const CODES: Codes;

    /// Number of devices.
    fn device_count(&self) -> u32;
    /// Whether kernels run on the host's processors: then nobody should poll while they do.
    fn shares_processors(&self) -> bool;
    /// Whether kernels may use every address of this process, on all devices ([`Argument::Address`]).
    fn shares_addresses(&self) -> bool;
    /// Everything constant about the platform and the devices that a guest may know.
    fn describe(&self) -> Vec<Info>;

    /// `devices`: bit per device.
    fn create_context(&self, devices: u64) -> Result<Self::Context>;
    /// `flags`: `kasoku_abi::accel::object::QUEUE_*`.
    fn create_queue(&self, context: &Self::Context, device: u32, flags: u32) -> Result<Self::Queue>;
    fn flush(&self, queue: &Self::Queue) -> Result<()>;
    fn finish(&self, queue: &Self::Queue) -> Result<()>;

    fn create_buffer(&self, context: &Self::Context, spec: &BufferSpec) -> Result<Self::Buffer>;
    fn create_sub_buffer(&self, parent: &Self::Buffer, flags: u32, origin: u64, size: u64) -> Result<Self::Buffer>;

    /// How the elements of such an image lie; fails for shapes and formats that no image has.
    fn image_layout(shape: &ImageShape) -> Result<ImageLayout>;
    /// Questions of kind `kasoku_abi::accel::info::FORMATS`.
    fn context_info(&self, context: &Self::Context, question: &Question<'_>) -> Result<Vec<u8>>;
    fn create_image(&self, context: &Self::Context, spec: &ImageSpec<'_, Self>) -> Result<Self::Image>;
    fn create_sampler(&self, context: &Self::Context, spec: &SamplerSpec) -> Result<Self::Sampler>;

    /// Enqueues `command`. An event is returned for every `Completion` but `None` and `Wait`.
    fn enqueue(
        &self,
        queue: &Self::Queue,
        command: &Command<'_, Self>,
        waits: &[&Self::Event],
        completion: Completion,
    ) -> Result<Option<Self::Event>>;

    /// Returns when all events have completed; fails when one of them has.
    fn wait(&self, events: &[&Self::Event]) -> Result<()>;
    /// Execution status: 0 = complete, 1 to 3 = on the way, negative = failed.
    fn event_status(&self, event: &Self::Event) -> Result<i32>;
    /// Queued, submitted, started, ended, completed: ns of the host's CLOCK_MONOTONIC.
    fn event_profile(&self, event: &Self::Event) -> Result<[u64; 5]>;
    fn create_user_event(&self, context: &Self::Context) -> Result<Self::Event>;
    fn set_user_event(&self, event: &Self::Event, status: i32) -> Result<()>;

    /// Makes an executable program of binaries that a [`Compiler`] for the same devices made: (device, binary).
    fn load_program(&self, context: &Self::Context, binaries: &[(u32, &[u8])]) -> Result<Self::Program>;
    /// Whether a binary of a [`Compiler`] can be loaded as it is, or has to be linked first.
    fn is_executable(binary: &[u8]) -> bool;
    /// What a guest asks about a program's build for a device beyond what the loaded program knows.
    fn describe_build(device: u32, phase: BuildPhase, log: &[u8], binary: Option<&[u8]>) -> Vec<Info>;
    fn describe_program(&self, program: &Self::Program) -> Vec<Info>;
    fn program_info(&self, program: &Self::Program, question: &Question<'_>) -> Result<Vec<u8>>;

    fn create_kernel(&self, program: &Self::Program, name: &str) -> Result<Self::Kernel>;
    fn clone_kernel(&self, kernel: &Self::Kernel) -> Result<Self::Kernel>;
    fn describe_kernel(&self, kernel: &Self::Kernel) -> Vec<Info>;
    fn kernel_info(&self, kernel: &Self::Kernel, question: &Question<'_>) -> Result<Vec<u8>>;
    fn set_argument(&self, kernel: &Self::Kernel, index: u32, argument: &Argument<'_, Self>) -> Result<()>;
}
