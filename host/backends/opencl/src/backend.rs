//! The opened devices: the backend trait over one implementation.
use crate::clock::Clock;
use crate::constants as cl;
use crate::describe::DeviceKind;
use crate::enqueue;
use crate::ffi::{Api, Raw};
use crate::handle::{Event, Handle, Image, Queue, Sampler};
use crate::library::{OpenError, Platform, check};
use crate::{describe, image, kernel, package, program};
use kasoku_abi::accel::memory::{BUFFER_KERNEL_READ_ONLY, BUFFER_KERNEL_WRITE_ONLY};
use kasoku_abi::accel::object::{QUEUE_OUT_OF_ORDER, QUEUE_PROFILING};
use kasoku_backend::{
    Argument, Backend, BufferSpec, BuildPhase, Codes, Command, Completion, HostBytes, ImageLayout, ImageShape,
    ImageSpec, Info, Question, Result, SamplerSpec, Status,
};
use std::sync::{Arc, Mutex, PoisonError};

/// Devices of one OpenCL platform, ready for commands.
pub struct OpenCl {
    pub(crate) platform: Platform,
    pub(crate) devices: Vec<Device>,
    /// What guests are told that the devices are; else the truth.
    pub(crate) presented: Option<u64>,
    /// A context over all devices that nobody has asked for yet: making one takes up to 340 ms on a discrete device.
    pub(crate) ready: Mutex<Option<Arc<Handle>>>,
}

pub(crate) struct Device {
    pub raw: Raw,
    /// Buffers over host memory are that memory.
    pub direct: bool,
    pub clock: Clock,
}

// SAFETY: device handles may be used from any thread.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

pub struct Context {
    pub(crate) handle: Arc<Handle>,
    /// Bit per device.
    pub(crate) devices: u64,
}

pub struct Buffer {
    pub(crate) handle: Handle,
}

impl OpenCl {
    /// Takes the devices with these indices of the platform, makes a context and lets the implementation start its threads.
    pub fn open(platform: Platform, indices: &[u32]) -> core::result::Result<Self, OpenError> {
        let all = platform.devices().map_err(|status| OpenError(format!("the platform lists no devices: {status}")))?;
        let pick = |&index: &u32| {
            all.get(index as usize)
                .copied()
                .ok_or_else(|| OpenError(format!("there is no device {index}: the platform has {}", all.len())))
        };
        let raws = indices.iter().map(pick).collect::<core::result::Result<Vec<Raw>, OpenError>>()?;
        let context = make_context(platform.api, &raws)
            .map_err(|status| OpenError(format!("the driver makes no context: {status}")))?;
        let devices = raws
            .iter()
            .map(|&raw| {
                let probe = crate::warm::probe(&platform, &context, raw)?;
                Ok(Device { raw, direct: probe.direct, clock: Clock::new(platform, raw, probe.offset_ns) })
            })
            .collect::<Result<Vec<Device>>>()
            .map_err(|status| OpenError(format!("the device fails its first commands: {status}")))?;
        Ok(Self { platform, devices, presented: None, ready: Mutex::new(Some(Arc::new(context))) })
    }

    /// Tells guests that the devices are of that kind: many programs ask for nothing but GPUs.
    pub fn present_as(&mut self, kind: DeviceKind) {
        self.presented = Some(kind.bit());
    }

    pub(crate) fn api(&self) -> &'static Api {
        self.platform.api
    }

    /// The handles of the devices in `mask`.
    pub(crate) fn raw_devices(&self, mask: u64) -> Vec<Raw> {
        let chosen = |(index, device): (usize, &Device)| (mask >> index & 1 == 1).then_some(device.raw);
        self.devices.iter().enumerate().filter_map(chosen).collect()
    }

    /// The device of an index that a context must hold.
    pub(crate) fn device_of(&self, context: &Context, index: u32) -> Result<&Device> {
        let device = self.devices.get(index as usize).ok_or(Status(-33))?;
        if context.devices >> index & 1 == 1 { Ok(device) } else { Err(Status(-33)) }
    }
}

/// Each of `devices` once, in their order: parts of one are the same to its implementation.
pub(crate) fn distinct(devices: &[Raw]) -> Vec<Raw> {
    let first = |&(at, device): &(usize, &Raw)| !devices[..at].contains(device);
    devices.iter().enumerate().filter(first).map(|(_, device)| *device).collect()
}

pub(crate) fn make_context(api: &Api, devices: &[Raw]) -> Result<Handle> {
    let devices = distinct(devices);
    let mut status = 0;
    // SAFETY: a list of live devices with its length; no properties, no callback.
    let raw = unsafe {
        (api.create_context)(
            core::ptr::null(),
            devices.len() as u32,
            devices.as_ptr(),
            core::ptr::null(),
            core::ptr::null_mut(),
            &raw mut status,
        )
    };
    check(status)?;
    // SAFETY: a new context with one reference, ours.
    Ok(unsafe { Handle::new(raw, api.release_context) })
}

/// `kasoku_abi` flags of a buffer in OpenCL's.
pub(crate) fn access(flags: u32) -> u64 {
    match (flags & BUFFER_KERNEL_WRITE_ONLY != 0, flags & BUFFER_KERNEL_READ_ONLY != 0) {
        (true, false) => cl::MEM_WRITE_ONLY,
        (false, true) => cl::MEM_READ_ONLY,
        // Both at once is what OpenCL forbids: the implementation says so.
        (true, true) => cl::MEM_WRITE_ONLY | cl::MEM_READ_ONLY,
        (false, false) => 0,
    }
}

impl Backend for OpenCl {
    type Context = Context;
    type Queue = Queue;
    type Buffer = Buffer;
    type Image = Image;
    type Sampler = Sampler;
    type Program = program::Program;
    type Kernel = kernel::Kernel;
    type Event = Event;

    const CODES: Codes = Codes {
        bad_value: Status(-30),
        bad_operation: Status(-59),
        bad_context: Status(-34),
        bad_queue: Status(-36),
        bad_buffer: Status(-38),
        bad_program: Status(-44),
        bad_kernel: Status(-48),
        bad_event: Status(-58),
        bad_wait_list: Status(-57),
        bad_argument_index: Status(-49),
        bad_kernel_name: Status(-46),
        bad_binary: Status(-42),
        bad_build_options: Status(-43),
        not_executable: Status(-45),
        build_failed: Status(-11),
        compile_failed: Status(cl::COMPILE_PROGRAM_FAILURE),
        link_failed: Status(cl::LINK_PROGRAM_FAILURE),
        wait_failed: Status(-14),
        no_device_memory: Status(-4),
        no_host_memory: Status(-6),
        no_resources: Status(-5),
        no_profile: Status(-7),
    };

    fn device_count(&self) -> u32 {
        self.devices.len() as u32
    }

    fn shares_processors(&self) -> bool {
        let kind = |device: &Device| self.platform.device_u64(device.raw, cl::DEVICE_TYPE);
        self.devices.iter().any(|device| kind(device) & cl::DEVICE_TYPE_CPU != 0)
    }

    /// A processor's kernels run in this process, so whatever it can reach, they can; that goes beyond what
    /// `CL_DEVICE_SVM_CAPABILITIES` promises of memory that the implementation did not allocate.
    fn shares_addresses(&self) -> bool {
        let shares = |device: &Device| {
            let number = |parameter| self.platform.device_u64(device.raw, parameter);
            device.direct
                && number(cl::DEVICE_TYPE) & cl::DEVICE_TYPE_CPU != 0
                && number(cl::DEVICE_SVM_CAPABILITIES) & cl::DEVICE_SVM_COARSE_GRAIN_BUFFER != 0
        };
        self.platform.set_address.is_some() && self.devices.iter().all(shares)
    }

    fn describe(&self) -> Vec<Info> {
        describe::platform_and_devices(self)
    }

    fn create_context(&self, devices: u64) -> Result<Context> {
        let all = u64::MAX >> (64 - self.devices.len());
        if devices == 0 || devices & !all != 0 {
            return Err(Status(-33));
        }
        if devices == all
            && let Some(handle) = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            return Ok(Context { handle, devices });
        }
        let handle = make_context(self.api(), &self.raw_devices(devices))?;
        Ok(Context { handle: Arc::new(handle), devices })
    }

    fn create_queue(&self, context: &Context, device: u32, flags: u32) -> Result<Queue> {
        let device = self.device_of(context, device)?;
        let mut properties = 0;
        if flags & QUEUE_OUT_OF_ORDER != 0 {
            properties |= cl::QUEUE_OUT_OF_ORDER;
        }
        if flags & QUEUE_PROFILING != 0 {
            properties |= cl::QUEUE_PROFILING;
        }
        let mut status = 0;
        // SAFETY: live context and device.
        let raw =
            unsafe { (self.api().create_command_queue)(context.handle.raw(), device.raw, properties, &raw mut status) };
        check(status)?;
        // SAFETY: a new queue with one reference, ours.
        Ok(unsafe { Queue::own(self.api(), raw) })
    }

    fn flush(&self, queue: &Queue) -> Result<()> {
        // SAFETY: a live queue.
        check(unsafe { (self.api().flush)(queue.0.raw()) })
    }

    fn finish(&self, queue: &Queue) -> Result<()> {
        // SAFETY: a live queue.
        check(unsafe { (self.api().finish)(queue.0.raw()) })
    }

    fn create_buffer(&self, context: &Context, spec: &BufferSpec) -> Result<Buffer> {
        let (flags, host) = match (spec.storage, spec.initial) {
            (Some(storage), _) => (cl::MEM_USE_HOST_PTR, storage.as_ptr()),
            (None, Some(initial)) => (cl::MEM_COPY_HOST_PTR, initial.as_ptr()),
            (None, None) => (0, core::ptr::null_mut()),
        };
        let flags = access(spec.flags) | flags;
        let mut status = 0;
        // SAFETY: live context; the host memory has `size` bytes (`BufferSpec`) and outlives the process's devices.
        let raw = unsafe {
            let size = spec.size as usize;
            (self.api().create_buffer)(context.handle.raw(), flags, size, host.cast(), &raw mut status)
        };
        check(status)?;
        // SAFETY: a new buffer with one reference, ours.
        Ok(Buffer { handle: unsafe { Handle::new(raw, self.api().release_mem_object) } })
    }

    fn create_sub_buffer(&self, parent: &Buffer, flags: u32, origin: u64, size: u64) -> Result<Buffer> {
        let region = [origin as usize, size as usize];
        let mut status = 0;
        // SAFETY: live buffer; the region is the structure of two sizes that this type asks for.
        let raw = unsafe {
            (self.api().create_sub_buffer)(
                parent.handle.raw(),
                access(flags),
                cl::BUFFER_CREATE_TYPE_REGION,
                region.as_ptr().cast(),
                &raw mut status,
            )
        };
        check(status)?;
        // SAFETY: a new buffer with one reference, ours.
        Ok(Buffer { handle: unsafe { Handle::new(raw, self.api().release_mem_object) } })
    }

    fn image_layout(shape: &ImageShape) -> Result<ImageLayout> {
        image::layout(shape)
    }

    fn context_info(&self, context: &Context, question: &Question<'_>) -> Result<Vec<u8>> {
        image::formats(self.api(), context, question)
    }

    fn create_image(&self, context: &Context, spec: &ImageSpec<'_, Self>) -> Result<Image> {
        image::create(self.api(), context, spec)
    }

    fn create_sampler(&self, context: &Context, spec: &SamplerSpec) -> Result<Sampler> {
        image::create_sampler(self.api(), context, spec)
    }

    fn enqueue(
        &self,
        queue: &Queue,
        command: &Command<'_, Self>,
        waits: &[&Event],
        completion: Completion,
    ) -> Result<Option<Event>> {
        enqueue::enqueue(self.api(), queue, command, waits, completion)
    }

    fn wait(&self, events: &[&Event]) -> Result<()> {
        let list = enqueue::WaitList::new(events);
        // SAFETY: live events with their number.
        check(unsafe { (self.api().wait_for_events)(list.count(), list.pointer()) })
    }

    fn event_status(&self, event: &Event) -> Result<i32> {
        let mut value = [0u8; 4];
        // SAFETY: a live event; room for the four bytes of this parameter is given and said.
        check(unsafe {
            (self.api().get_event_info)(
                event.0.raw(),
                cl::EVENT_COMMAND_EXECUTION_STATUS,
                value.len(),
                value.as_mut_ptr().cast(),
                core::ptr::null_mut(),
            )
        })?;
        Ok(i32::from_le_bytes(value))
    }

    fn event_profile(&self, event: &Event) -> Result<[u64; 5]> {
        let mut times = [0u64; 5];
        for (index, parameter) in cl::PROFILING.into_iter().enumerate() {
            let mut value = 0u64;
            // SAFETY: a live event; room for the eight bytes of this parameter is given and said.
            let status = unsafe {
                (self.api().get_event_profiling_info)(
                    event.0.raw(),
                    parameter,
                    8,
                    (&raw mut value).cast(),
                    core::ptr::null_mut(),
                )
            };
            // The last one (completion of child kernels) came with 2.0: without it, it is the end.
            if status != 0 && index == 4 {
                value = times[3];
            } else {
                check(status)?;
                // All devices of one platform keep the same clock.
                value = self.devices[0].clock.to_monotonic(value);
            }
            times[index] = value;
        }
        Ok(times)
    }

    fn create_user_event(&self, context: &Context) -> Result<Event> {
        let mut status = 0;
        // SAFETY: a live context.
        let raw = unsafe { (self.api().create_user_event)(context.handle.raw(), &raw mut status) };
        check(status)?;
        // SAFETY: a new event with one reference, ours.
        Ok(unsafe { Event::own(self.api(), raw) })
    }

    fn set_user_event(&self, event: &Event, status: i32) -> Result<()> {
        // SAFETY: a live event; for another than a user event the implementation answers an error.
        check(unsafe { (self.api().set_user_event_status)(event.0.raw(), status) })
    }

    fn load_program(&self, context: &Context, binaries: &[(u32, &[u8])]) -> Result<program::Program> {
        program::load(self, context, binaries)
    }

    fn is_executable(binary: &[u8]) -> bool {
        package::decode(binary).is_some_and(|package| package.kind == cl::PROGRAM_BINARY_TYPE_EXECUTABLE)
    }

    fn describe_build(device: u32, phase: BuildPhase, log: &[u8], binary: Option<&[u8]>) -> Vec<Info> {
        describe::build(device, phase, log, binary)
    }

    fn describe_program(&self, program: &program::Program) -> Vec<Info> {
        describe::program(self, program)
    }

    fn program_info(&self, program: &program::Program, question: &Question<'_>) -> Result<Vec<u8>> {
        program::info(self, program, question)
    }

    fn create_kernel(&self, program: &program::Program, name: &str) -> Result<kernel::Kernel> {
        kernel::create(self, program, name)
    }

    fn clone_kernel(&self, kernel: &kernel::Kernel) -> Result<kernel::Kernel> {
        kernel::duplicate(self, kernel)
    }

    fn describe_kernel(&self, kernel: &kernel::Kernel) -> Vec<Info> {
        describe::kernel(self, kernel)
    }

    fn kernel_info(&self, kernel: &kernel::Kernel, question: &Question<'_>) -> Result<Vec<u8>> {
        kernel::info(self, kernel, question)
    }

    fn set_argument(&self, kernel: &kernel::Kernel, index: u32, argument: &Argument<'_, Self>) -> Result<()> {
        kernel::set_argument(self, kernel, index, argument)
    }
}

/// Memory of this process that a device may use, for probing it.
pub(crate) fn own_memory(len: usize) -> HostBytes {
    let memory: &'static mut [u8] = Box::leak(vec![0u8; len].into_boxed_slice());
    // SAFETY: leaked, so it stays; the only reference to it ends here.
    unsafe { HostBytes::new(memory.as_mut_ptr(), len) }
}
