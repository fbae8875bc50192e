//! Kernels: creation, arguments, questions.
use crate::backend::OpenCl;
use crate::constants as cl;
use crate::ffi::{Api, Raw};
use crate::handle::Handle;
use crate::library::{ask, check, number, text};
use crate::program::Program;
use kasoku_abi::accel::info;
use kasoku_backend::{Argument, Backend, Info, Question, Result, Status};
use std::ffi::CString;
use std::sync::Arc;

pub struct Kernel {
    pub(crate) handle: Handle,
    /// Bit per device of its program.
    pub(crate) devices: u64,
    /// What the compiler knew of its arguments.
    arguments: Arc<[Info]>,
}

impl Kernel {
    fn argument(&self, index: u32, parameter: u32) -> Option<&[u8]> {
        let found = self.arguments.iter().find(|info| (info.index, info.parameter) == (index, parameter))?;
        Some(&found.value)
    }
}

pub fn create(backend: &OpenCl, program: &Program, name: &str) -> Result<Kernel> {
    let arguments = program.arguments.get(name).cloned().unwrap_or_default();
    let name = CString::new(name).map_err(|_| Status(-46))?;
    let mut status = 0;
    // SAFETY: a live program and a C string.
    let raw = unsafe { (backend.api().create_kernel)(program.handle.raw(), name.as_ptr(), &raw mut status) };
    check(status)?;
    // SAFETY: a new kernel with one reference, ours.
    let handle = unsafe { Handle::new(raw, backend.api().release_kernel) };
    Ok(Kernel { handle, devices: program.devices, arguments })
}

pub fn duplicate(backend: &OpenCl, kernel: &Kernel) -> Result<Kernel> {
    let api21 = backend.platform.api21.ok_or(Status(cl::INVALID_OPERATION))?;
    let mut status = 0;
    // SAFETY: a live kernel.
    let raw = unsafe { (api21.clone_kernel)(kernel.handle.raw(), &raw mut status) };
    check(status)?;
    // SAFETY: a new kernel with one reference, ours.
    let handle = unsafe { Handle::new(raw, backend.api().release_kernel) };
    Ok(Kernel { handle, devices: kernel.devices, arguments: Arc::clone(&kernel.arguments) })
}

pub fn set_argument(backend: &OpenCl, kernel: &Kernel, index: u32, argument: &Argument<'_, OpenCl>) -> Result<()> {
    let api = backend.api();
    let set = |size: usize, value: *const core::ffi::c_void| {
        // SAFETY: a live kernel; `value` is null or has `size` bytes.
        check(unsafe { (api.set_kernel_arg)(kernel.handle.raw(), index, size, value) })
    };
    // An implementation reads an argument of handle size as a handle of what the kernel takes: never let a guest's bytes be one,
    // nor a handle of another type. Values of other sizes and local memory it tells apart by itself.
    let handle = match argument {
        Argument::Bytes(bytes) => bytes.len() == size_of::<Raw>(),
        Argument::Local(_) => false,
        _ => true,
    };
    if handle && let Some(taken) = taken(api, kernel, index) {
        let suits = match argument {
            Argument::Bytes(_) => taken == Taken::Value,
            Argument::Buffer(_) | Argument::NullBuffer | Argument::Address(_) => taken == Taken::Buffer,
            Argument::Image(_) => taken == Taken::Image,
            Argument::Sampler(_) => taken == Taken::Sampler,
            Argument::Local(_) => taken == Taken::Local,
        };
        if !suits {
            return Err(Status(match taken {
                Taken::Buffer | Taken::Image => -38,
                Taken::Sampler => -41,
                Taken::Value | Taken::Local | Taken::Other => -50,
            }));
        }
    }
    match argument {
        Argument::Bytes(bytes) => set(bytes.len(), bytes.as_ptr().cast()),
        Argument::Buffer(buffer) => {
            let raw = buffer.handle.raw();
            set(size_of::<Raw>(), (&raw const raw).cast())
        }
        Argument::NullBuffer => {
            let raw: Raw = core::ptr::null_mut();
            set(size_of::<Raw>(), (&raw const raw).cast())
        }
        Argument::Image(image) => {
            let raw = image.0.raw();
            set(size_of::<Raw>(), (&raw const raw).cast())
        }
        Argument::Sampler(sampler) => {
            let raw = sampler.0.raw();
            set(size_of::<Raw>(), (&raw const raw).cast())
        }
        Argument::Local(size) => set(*size, core::ptr::null()),
        Argument::Address(address) => {
            let set = backend.platform.set_address.filter(|_| backend.shares_addresses());
            let set = set.ok_or(Status(cl::INVALID_OPERATION))?;
            // SAFETY: a live kernel; what it does at the address is the kernel's affair.
            check(unsafe { set(kernel.handle.raw(), index, *address as *const core::ffi::c_void) })
        }
    }
}

/// What an argument takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Value,
    Local,
    Buffer,
    Image,
    Sampler,
    /// A queue, a pipe, an event: nothing that a guest can give.
    Other,
}

/// What an argument takes, where that is known.
fn taken(api: &Api, kernel: &Kernel, index: u32) -> Option<Taken> {
    let [address, _, type_name, ..] = cl::KERNEL_ARGUMENT;
    let known = |parameter| match kernel.argument(index, parameter) {
        Some(value) => Some(value.to_vec()),
        // SAFETY: a live kernel; `ask` passes a buffer with its true size.
        None => ask(|size, value, needed| unsafe {
            (api.get_kernel_arg_info)(kernel.handle.raw(), index, parameter, size, value, needed)
        })
        .ok(),
    };
    let address = number(&known(address)?);
    let name = known(type_name).map(|name| text(&name)).unwrap_or_default();
    Some(match address {
        _ if name.starts_with("image") && name.ends_with("_t") => Taken::Image,
        _ if name == "sampler_t" => Taken::Sampler,
        _ if ["queue_t", "pipe", "event_t", "clk_event_t", "reserve_id_t"].contains(&name.as_str()) => Taken::Other,
        0x119c => Taken::Local,
        0x119b | 0x119d => Taken::Buffer,
        _ => Taken::Value,
    })
}

/// Parameters of a kernel that hold no handle.
pub const PARAMETERS: [u32; 3] = [cl::KERNEL_FUNCTION_NAME, cl::KERNEL_NUM_ARGS, cl::KERNEL_ATTRIBUTES];
/// Parameters of a kernel on a device.
pub const WORK_GROUP_PARAMETERS: [u32; 6] = [
    cl::KERNEL_WORK_GROUP_SIZE,
    cl::KERNEL_COMPILE_WORK_GROUP_SIZE,
    cl::KERNEL_LOCAL_MEM_SIZE,
    cl::KERNEL_PREFERRED_WORK_GROUP_SIZE_MULTIPLE,
    cl::KERNEL_PRIVATE_MEM_SIZE,
    cl::KERNEL_GLOBAL_WORK_SIZE,
];

pub fn info(backend: &OpenCl, kernel: &Kernel, question: &Question<'_>) -> Result<Vec<u8>> {
    let (api, raw, parameter) = (backend.api(), kernel.handle.raw(), question.parameter);
    let device = || match backend.devices.get(question.index as usize) {
        Some(device) if kernel.devices >> question.index & 1 == 1 => Ok(device.raw),
        _ => Err(Status(-33)),
    };
    match question.kind {
        info::KERNEL if PARAMETERS.contains(&parameter) => {
            // SAFETY: a live kernel; `ask` passes a buffer with its true size.
            ask(|size, value, needed| unsafe { (api.get_kernel_info)(raw, parameter, size, value, needed) })
        }
        info::ARGUMENT if cl::KERNEL_ARGUMENT.contains(&parameter) => {
            let index = question.index;
            if let Some(value) = kernel.argument(index, parameter) {
                return Ok(value.to_vec());
            }
            // SAFETY: as above.
            ask(|size, value, needed| unsafe { (api.get_kernel_arg_info)(raw, index, parameter, size, value, needed) })
        }
        info::WORK_GROUP if WORK_GROUP_PARAMETERS.contains(&parameter) => {
            let device = device()?;
            // SAFETY: as above; the device is live.
            ask(|size, value, needed| unsafe {
                (api.get_kernel_work_group_info)(raw, device, parameter, size, value, needed)
            })
        }
        info::SUB_GROUP => {
            let api21 = backend.platform.api21.ok_or(Status(cl::INVALID_OPERATION))?;
            let device = device()?;
            let input: Vec<usize> = question.input.iter().map(|&value| value as usize).collect();
            let (input_size, input) = (size_of_val(input.as_slice()), input.as_ptr().cast());
            // SAFETY: as above; the input is given with its size.
            ask(|size, value, needed| unsafe {
                (api21.get_kernel_sub_group_info)(raw, device, parameter, input_size, input, size, value, needed)
            })
        }
        _ => Err(Status(cl::INVALID_VALUE)),
    }
}
