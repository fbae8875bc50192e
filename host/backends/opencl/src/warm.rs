//! A device's first commands: they start the implementation's threads before the jail closes, and tell what the
//! specification leaves open.
use crate::backend::own_memory;
use crate::backend::{Context, OpenCl};
use crate::clock::{self, monotonic_ns};
use crate::constants as cl;
use crate::ffi::Raw;
use crate::handle::{Event, Handle, Queue};
use crate::library::{Platform, check};
use kasoku_backend::{Argument, Backend, BufferSpec, Command, Completion, Result};
use std::sync::{Arc, PoisonError};

/// Bytes of the probing buffer: some pages, so that an implementation that copies small buffers is seen as well.
const PROBE_LEN: usize = 1 << 16;

/// A program that touches what most programs touch: run once, it spares the first real one the initialisation of code
/// generation. Compiled by a compiling process as any other.
pub const WARM_SOURCE: &str = "kernel void kasoku_warm(global float *values) {
    size_t i = get_global_id(0);
    values[i] = exp(values[i]) + sqrt(values[i]);
}";

impl OpenCl {
    /// Loads and runs the binary of [`WARM_SOURCE`] for the first device.
    pub fn warm_up(&self, binary: &[u8]) -> Result<()> {
        const COUNT: usize = 256;
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(handle) = ready else { return Ok(()) };
        let context = Context { handle: Arc::clone(&handle), devices: u64::MAX >> (64 - self.devices.len()) };
        let program = self.load_program(&context, &[(0, binary)])?;
        let kernel = self.create_kernel(&program, "kasoku_warm")?;
        let spec = BufferSpec { size: 4 * COUNT as u64, flags: 0, storage: None, initial: None };
        let buffer = self.create_buffer(&context, &spec)?;
        self.set_argument(&kernel, 0, &Argument::Buffer(&buffer))?;
        let queue = self.create_queue(&context, 0, 0)?;
        let launch =
            Command::Launch { kernel: &kernel, dimensions: 1, offset: [0; 3], global: [COUNT, 1, 1], local: None };
        self.enqueue(&queue, &launch, &[], Completion::Nobody)?;
        self.finish(&queue)
    }
}

pub struct Probe {
    /// A buffer over host memory is that memory.
    pub direct: bool,
    /// Host's monotonic clock minus the device's, ns.
    pub offset_ns: i64,
}

pub fn probe(platform: &Platform, context: &Handle, device: Raw) -> Result<Probe> {
    let api = platform.api;
    let null: Raw = core::ptr::null_mut();
    let mut status = 0;
    // SAFETY: live context and device.
    let queue = unsafe { (api.create_command_queue)(context.raw(), device, cl::QUEUE_PROFILING, &raw mut status) };
    check(status)?;
    // SAFETY: a new queue with one reference, ours.
    let queue = unsafe { Queue::own(api, queue) };
    let memory = own_memory(PROBE_LEN + 4096);
    let skip = memory.as_ptr().align_offset(4096);
    let start = memory.as_ptr().wrapping_add(skip);
    let flags = cl::MEM_READ_WRITE | cl::MEM_USE_HOST_PTR;
    // SAFETY: the memory has PROBE_LEN bytes from `start` and stays.
    let buffer = unsafe { (api.create_buffer)(context.raw(), flags, PROBE_LEN, start.cast(), &raw mut status) };
    check(status)?;
    // SAFETY: a new buffer with one reference, ours.
    let buffer = unsafe { Handle::new(buffer, api.release_mem_object) };

    let pattern = 0x5au8;
    let fill = || -> Result<[u64; 3]> {
        let mut event: Raw = null;
        let before = monotonic_ns();
        // SAFETY: live queue and buffer; the pattern is copied by the call; the event is ours.
        check(unsafe {
            let (queue, pattern) = (queue.0.raw(), (&raw const pattern).cast());
            (api.enqueue_fill_buffer)(queue, buffer.raw(), pattern, 1, 0, PROBE_LEN, 0, null.cast(), &raw mut event)
        })?;
        let after = monotonic_ns();
        // SAFETY: a new event with one reference, ours.
        let event = unsafe { Event::own(api, event) };
        // SAFETY: a live queue.
        check(unsafe { (api.finish)(queue.0.raw()) })?;
        let mut queued = 0u64;
        // SAFETY: a live event; room for the eight bytes of this parameter is given and said.
        check(unsafe {
            (api.get_event_profiling_info)(event.0.raw(), cl::PROFILING[0], 8, (&raw mut queued).cast(), null.cast())
        })?;
        Ok([before, queued, after])
    };
    let first = fill();
    // A device without times has its first commands behind it all the same.
    let mut looks = core::iter::once(first).chain(core::iter::repeat_with(fill));
    let offset_ns = clock::offset(|| looks.next()?.ok()).unwrap_or(0);

    // The device wrote without being told where the host looks: in place, then the bytes are there before any mapping.
    // SAFETY: inside `memory`; the device has finished.
    let seen = unsafe { start.read_volatile() == pattern && start.add(PROBE_LEN - 1).read_volatile() == pattern };
    let unified = platform.device_u64(device, cl::DEVICE_HOST_UNIFIED_MEMORY) != 0
        || platform.device_u64(device, cl::DEVICE_TYPE) & cl::DEVICE_TYPE_CPU != 0;

    Ok(Probe { direct: seen && unified, offset_ns })
}
