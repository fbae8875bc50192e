//! Pipes: no device here has them (`CL_DEVICE_PIPE_SUPPORT`).
use core::ffi::c_void;

use crate::cl::*;
use crate::context::Context;
use crate::error::object;
use crate::handle::{Raw, get};

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
