//! Questions about kernels.
use alloc::sync::Arc;
use core::ffi::c_void;

use kasoku_abi::accel::command::GET_INFO;
use kasoku_abi::accel::info;

use crate::answer::{Query, list};
use crate::cl::*;
use crate::device::Device;
use crate::driver::ask;
use crate::error::{Result, code, ensure};
use crate::handle::{Object, Raw, get};
use crate::kernel::Kernel;
use crate::queue::Queue;

/// The device asked for; null where the kernel has one only.
fn device_of(kernel: &Kernel, raw: Raw) -> Result<Arc<Device>> {
    let program = &kernel.program;
    if raw.is_null() && program.devices.len() == 1 {
        return Ok(Arc::clone(&program.devices[0]));
    }
    program.device(raw).map_err(|_| CL_INVALID_DEVICE)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetKernelInfo(
    kernel: Raw,
    parameter: u32,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let kernel = get::<Kernel>(kernel)?;
        // SAFETY: the program's output arguments, as the specification says.
        let query = unsafe { Query::new(size, value, size_ret) };
        match parameter {
            CL_KERNEL_REFERENCE_COUNT => query.value(kernel.identity().references()),
            CL_KERNEL_CONTEXT => query.handle(kernel.program.context.identity().raw()),
            CL_KERNEL_PROGRAM => query.handle(kernel.program.identity().raw()),
            CL_KERNEL_FUNCTION_NAME | CL_KERNEL_NUM_ARGS | CL_KERNEL_ATTRIBUTES => {
                match (parameter, kernel.records.bytes(info::KERNEL, 0, parameter)) {
                    (_, Some(bytes)) => query.bytes(bytes),
                    (CL_KERNEL_ATTRIBUTES, None) => query.text(b""),
                    _ => Err(CL_INVALID_VALUE),
                }
            }
            _ => Err(CL_INVALID_VALUE),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetKernelArgInfo(
    kernel: Raw,
    index: u32,
    parameter: u32,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let kernel = get::<Kernel>(kernel)?;
        ensure((index as usize) < kernel.arguments.lock().len(), CL_INVALID_ARG_INDEX)?;
        let known = CL_KERNEL_ARG_ADDRESS_QUALIFIER..=CL_KERNEL_ARG_NAME;
        ensure(known.contains(&parameter), CL_INVALID_VALUE)?;
        // SAFETY: the program's output arguments, as the specification says.
        let query = unsafe { Query::new(size, value, size_ret) };
        query.bytes(kernel.records.bytes(info::ARGUMENT, index, parameter).ok_or(CL_KERNEL_ARG_INFO_NOT_AVAILABLE)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetKernelWorkGroupInfo(
    kernel: Raw,
    device: Raw,
    parameter: u32,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let kernel = get::<Kernel>(kernel)?;
        let device = device_of(&kernel, device)?;
        // SAFETY: the program's output arguments, as the specification says.
        let query = unsafe { Query::new(size, value, size_ret) };
        query.bytes(kernel.records.bytes(info::WORK_GROUP, device.index, parameter).ok_or(CL_INVALID_VALUE)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetKernelSubGroupInfo(
    kernel: Raw,
    device: Raw,
    parameter: u32,
    input_len: usize,
    input: *const c_void,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let kernel = get::<Kernel>(kernel)?;
        let device = device_of(&kernel, device)?;
        let mut words = [0u64; 3];
        let count = input_len / size_of::<usize>();
        ensure(input_len.is_multiple_of(size_of::<usize>()) && count <= words.len(), CL_INVALID_VALUE)?;
        ensure((count == 0) == input.is_null(), CL_INVALID_VALUE)?;
        // SAFETY: the program gave `input_len` bytes.
        let given = unsafe { list(count, input.cast::<u64>()) };
        words[..count].copy_from_slice(&given);
        let driver = kernel.program.context.driver;
        let bytes = ask(&driver.session, 256, |out| {
            let (kind, index, input_len) = (info::SUB_GROUP, device.index, input_len as u32);
            let body = info::GetInfo { kind, index, parameter, input_len, input: words, out };
            Ok(driver.command(GET_INFO, kernel.id).body(&body))
        })?;
        // SAFETY: the program's output arguments, as the specification says.
        unsafe { Query::new(size, value, size_ret) }.bytes(&bytes)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetKernelSubGroupInfoKHR(
    kernel: Raw,
    device: Raw,
    parameter: u32,
    input_len: usize,
    input: *const c_void,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    // SAFETY: the same arguments for the same contract.
    unsafe { clGetKernelSubGroupInfo(kernel, device, parameter, input_len, input, size, value, size_ret) }
}

/// Of OpenCL 3.1, which is not offered: the device's choice is not known before a launch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetKernelSuggestedLocalWorkSize(
    queue: Raw,
    kernel: Raw,
    _dimensions: u32,
    _offset: *const usize,
    _global: *const usize,
    _local: *mut usize,
) -> i32 {
    code(|| {
        get::<Queue>(queue)?;
        get::<Kernel>(kernel)?;
        Err(CL_INVALID_OPERATION)
    })
}
