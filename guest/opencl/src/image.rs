//! Images and samplers: no device here has them (`CL_DEVICE_IMAGE_SUPPORT`). Each call checks the handles that it is given
//! and then answers what the specification says for a context without image support.
use core::ffi::c_void;
use core::ptr::null_mut;

use crate::buffer::Buffer;
use crate::cl::*;
use crate::context::Context;
use crate::error::{Result, code, ensure, object, store};
use crate::handle::{Raw, get};
use crate::queue::Queue;

/// # Safety
/// `errcode_ret` is null or writable.
unsafe fn no_images(context: Raw, errcode_ret: *mut i32) -> Raw {
    // SAFETY: the caller's promise.
    unsafe { object(errcode_ret, || get::<Context>(context).and(Err(CL_INVALID_OPERATION))) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateImage(
    context: Raw,
    _flags: u64,
    _format: *const c_void,
    _description: *const c_void,
    _host: *mut c_void,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { no_images(context, errcode_ret) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateImageWithProperties(
    context: Raw,
    _properties: *const u64,
    _flags: u64,
    _format: *const c_void,
    _description: *const c_void,
    _host: *mut c_void,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { no_images(context, errcode_ret) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateImage2D(
    context: Raw,
    _flags: u64,
    _format: *const c_void,
    _width: usize,
    _height: usize,
    _row_pitch: usize,
    _host: *mut c_void,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { no_images(context, errcode_ret) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateImage3D(
    context: Raw,
    _flags: u64,
    _format: *const c_void,
    _width: usize,
    _height: usize,
    _depth: usize,
    _row_pitch: usize,
    _slice_pitch: usize,
    _host: *mut c_void,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { no_images(context, errcode_ret) }
}

/// A context without images supports no format of one: the list is empty.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetSupportedImageFormats(
    context: Raw,
    _flags: u64,
    kind: u32,
    count: u32,
    formats: *mut c_void,
    found_ret: *mut u32,
) -> i32 {
    code(|| {
        get::<Context>(context)?;
        ensure((CL_MEM_OBJECT_IMAGE2D..=CL_MEM_OBJECT_IMAGE1D_BUFFER).contains(&kind), CL_INVALID_VALUE)?;
        ensure(count != 0 || formats.is_null(), CL_INVALID_VALUE)?;
        // SAFETY: null or writable, as the specification says.
        unsafe { store(found_ret, 0) };
        Ok(())
    })
}

/// No handle is one of an image.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetImageInfo(
    _image: Raw,
    _parameter: u32,
    _size: usize,
    _value: *mut c_void,
    _size_ret: *mut usize,
) -> i32 {
    CL_INVALID_MEM_OBJECT
}

fn no_image_command(queue: Raw, memory: Raw) -> Result<()> {
    get::<Queue>(queue)?;
    get::<Buffer>(memory)?;
    Err(CL_INVALID_OPERATION)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueReadImage(queue: Raw, image: Raw) -> i32 {
    code(|| no_image_command(queue, image))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueWriteImage(queue: Raw, image: Raw) -> i32 {
    code(|| no_image_command(queue, image))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueFillImage(queue: Raw, image: Raw) -> i32 {
    code(|| no_image_command(queue, image))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueCopyImage(queue: Raw, image: Raw) -> i32 {
    code(|| no_image_command(queue, image))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueCopyImageToBuffer(queue: Raw, image: Raw) -> i32 {
    code(|| no_image_command(queue, image))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueCopyBufferToImage(queue: Raw, buffer: Raw) -> i32 {
    code(|| no_image_command(queue, buffer))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueMapImage(
    queue: Raw,
    image: Raw,
    _blocking: u32,
    _flags: u64,
    _origin: *const usize,
    _region: *const usize,
    _row_pitch: *mut usize,
    _slice_pitch: *mut usize,
    _count: u32,
    _waits: *const Raw,
    _event: *mut Raw,
    errcode_ret: *mut i32,
) -> *mut c_void {
    // SAFETY: null or writable, as the specification says.
    unsafe { store(errcode_ret, code(|| no_image_command(queue, image))) };
    null_mut()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateSampler(
    context: Raw,
    _normalized: u32,
    _addressing: u32,
    _filter: u32,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { no_images(context, errcode_ret) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateSamplerWithProperties(
    context: Raw,
    _properties: *const u64,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { no_images(context, errcode_ret) }
}

/// No handle is one of a sampler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clRetainSampler(_sampler: Raw) -> i32 {
    CL_INVALID_SAMPLER
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clReleaseSampler(_sampler: Raw) -> i32 {
    CL_INVALID_SAMPLER
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetSamplerInfo(
    _sampler: Raw,
    _parameter: u32,
    _size: usize,
    _value: *mut c_void,
    _size_ret: *mut usize,
) -> i32 {
    CL_INVALID_SAMPLER
}
