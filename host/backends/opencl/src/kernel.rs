//! Kernels: creation, arguments, questions.
use crate::backend::OpenCl;
use crate::constants as cl;
use crate::ffi::{Api, Raw};
use crate::handle::Handle;
use crate::library::{ask, check};
use crate::program::Program;
use kasoku_abi::accel::info;
use kasoku_backend::{Argument, Question, Result, Status};
use std::ffi::CString;

pub struct Kernel {
    pub(crate) handle: Handle,
    /// Bit per device of its program.
    pub(crate) devices: u64,
}

pub fn create(backend: &OpenCl, program: &Program, name: &str) -> Result<Kernel> {
    let name = CString::new(name).map_err(|_| Status(-46))?;
    let mut status = 0;
    // SAFETY: a live program and a C string.
    let raw = unsafe { (backend.api().create_kernel)(program.handle.raw(), name.as_ptr(), &raw mut status) };
    check(status)?;
    // SAFETY: a new kernel with one reference, ours.
    Ok(Kernel { handle: unsafe { Handle::new(raw, backend.api().release_kernel) }, devices: program.devices })
}

pub fn duplicate(backend: &OpenCl, kernel: &Kernel) -> Result<Kernel> {
    let api21 = backend.platform.api21.ok_or(Status(cl::INVALID_OPERATION))?;
    let mut status = 0;
    // SAFETY: a live kernel.
    let raw = unsafe { (api21.clone_kernel)(kernel.handle.raw(), &raw mut status) };
    check(status)?;
    // SAFETY: a new kernel with one reference, ours.
    Ok(Kernel { handle: unsafe { Handle::new(raw, backend.api().release_kernel) }, devices: kernel.devices })
}

pub fn set_argument(api: &Api, kernel: &Kernel, index: u32, argument: &Argument<'_, OpenCl>) -> Result<()> {
    let set = |size: usize, value: *const core::ffi::c_void| {
        // SAFETY: a live kernel; `value` is null or has `size` bytes.
        check(unsafe { (api.set_kernel_arg)(kernel.handle.raw(), index, size, value) })
    };
    match argument {
        Argument::Bytes(bytes) => {
            // An implementation reads a buffer argument of handle size as a handle: never let a guest's bytes be one.
            if bytes.len() == size_of::<Raw>() && is_handle(api, kernel, index) {
                return Err(Status(-38));
            }
            set(bytes.len(), bytes.as_ptr().cast())
        }
        Argument::Buffer(buffer) => {
            let raw = buffer.handle.raw();
            set(size_of::<Raw>(), (&raw const raw).cast())
        }
        Argument::NullBuffer => {
            let raw: Raw = core::ptr::null_mut();
            set(size_of::<Raw>(), (&raw const raw).cast())
        }
        Argument::Local(size) => set(*size, core::ptr::null()),
    }
}

/// Whether an argument is known to be a handle: it lies in global or constant memory, or is an image (which has no
/// address space of its own but is reported as global).
fn is_handle(api: &Api, kernel: &Kernel, index: u32) -> bool {
    const ADDRESS_GLOBAL: u32 = 0x119b;
    const ADDRESS_PRIVATE: u32 = 0x119e;
    let mut qualifier = ADDRESS_PRIVATE;
    // SAFETY: a live kernel; room for the four bytes of this parameter is given and said.
    let status = unsafe {
        (api.get_kernel_arg_info)(
            kernel.handle.raw(),
            index,
            cl::KERNEL_ARGUMENT[0],
            4,
            (&raw mut qualifier).cast(),
            core::ptr::null_mut(),
        )
    };
    status == 0 && (ADDRESS_GLOBAL..ADDRESS_PRIVATE).contains(&qualifier)
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
