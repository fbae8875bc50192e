//! Shared virtual memory and pipes: no device here has them (`CL_DEVICE_SVM_CAPABILITIES`, `CL_DEVICE_PIPE_SUPPORT`).
//! Pointers in shared memory and kernel arguments need equal addresses on both sides, which a session does not give.
//!
//! The commands' further arguments are never looked at, so they are not named: the calling convention lets a function
//! ignore what it is passed.
use core::ffi::c_void;
use core::ptr::null_mut;

use crate::cl::*;
use crate::context::Context;
use crate::error::{Result, code, object};
use crate::handle::{Raw, get};
use crate::kernel::Kernel;
use crate::queue::Queue;

/// Null, as for a context without devices that have it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSVMAlloc(_context: Raw, _flags: u64, _size: usize, _alignment: u32) -> *mut c_void {
    null_mut()
}

/// There is nothing to free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSVMFree(_context: Raw, _pointer: *mut c_void) {}

fn no_svm(queue: Raw) -> Result<()> {
    get::<Queue>(queue).and(Err(CL_INVALID_OPERATION))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueSVMFree(queue: Raw) -> i32 {
    code(|| no_svm(queue))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueSVMMemcpy(queue: Raw) -> i32 {
    code(|| no_svm(queue))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueSVMMemFill(queue: Raw) -> i32 {
    code(|| no_svm(queue))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueSVMMap(queue: Raw) -> i32 {
    code(|| no_svm(queue))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueSVMUnmap(queue: Raw) -> i32 {
    code(|| no_svm(queue))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueSVMMigrateMem(queue: Raw) -> i32 {
    code(|| no_svm(queue))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSetKernelArgSVMPointer(kernel: Raw, _index: u32, _value: *const c_void) -> i32 {
    code(|| get::<Kernel>(kernel).and(Err(CL_INVALID_OPERATION)))
}

/// All that can be told of a kernel's execution concerns shared virtual memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSetKernelExecInfo(kernel: Raw, _parameter: u32, _size: usize, _value: *const c_void) -> i32 {
    code(|| get::<Kernel>(kernel).and(Err(CL_INVALID_OPERATION)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreatePipe(
    context: Raw,
    _flags: u64,
    _packet_size: u32,
    _packets: u32,
    _properties: *const isize,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { object(errcode_ret, || get::<Context>(context).and(Err(CL_INVALID_OPERATION))) }
}

/// No handle is one of a pipe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetPipeInfo(
    _pipe: Raw,
    _parameter: u32,
    _size: usize,
    _value: *mut c_void,
    _size_ret: *mut usize,
) -> i32 {
    CL_INVALID_MEM_OBJECT
}
