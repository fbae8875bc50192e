//! Sharing with graphics interfaces and other extensions that have slots in the dispatch table: none of them is offered, so
//! no context was made from theirs, which is what their specifications have an error for.
use core::ffi::c_void;

use crate::buffer::Buffer;
use crate::cl::*;
use crate::context::Context;
use crate::error::{code, object};
use crate::handle::{Raw, get};
use crate::queue::Queue;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateFromGLBuffer(context: Raw, _flags: u64, _buffer: u32, errcode_ret: *mut i32) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { no_shared_context(context, errcode_ret) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateFromGLRenderbuffer(
    context: Raw,
    _flags: u64,
    _renderbuffer: u32,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { no_shared_context(context, errcode_ret) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateFromGLTexture(
    context: Raw,
    _flags: u64,
    _target: u32,
    _level: i32,
    _texture: u32,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { no_shared_context(context, errcode_ret) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateFromGLTexture2D(
    context: Raw,
    flags: u64,
    target: u32,
    level: i32,
    texture: u32,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the same arguments for the same contract.
    unsafe { clCreateFromGLTexture(context, flags, target, level, texture, errcode_ret) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateFromGLTexture3D(
    context: Raw,
    flags: u64,
    target: u32,
    level: i32,
    texture: u32,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the same arguments for the same contract.
    unsafe { clCreateFromGLTexture(context, flags, target, level, texture, errcode_ret) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetGLObjectInfo(object: Raw, _kind: *mut u32, _name: *mut u32) -> i32 {
    code(|| get::<Buffer>(object).and(Err(CL_INVALID_GL_OBJECT)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetGLTextureInfo(object: Raw) -> i32 {
    code(|| get::<Buffer>(object).and(Err(CL_INVALID_GL_OBJECT)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueAcquireGLObjects(queue: Raw) -> i32 {
    code(|| get::<Queue>(queue).and(Err(CL_INVALID_CONTEXT)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueReleaseGLObjects(queue: Raw) -> i32 {
    code(|| get::<Queue>(queue).and(Err(CL_INVALID_CONTEXT)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetGLContextInfoKHR() -> i32 {
    CL_INVALID_GL_SHAREGROUP_REFERENCE_KHR
}

/// # Safety
/// `errcode_ret` is null or writable.
unsafe fn no_shared_context(context: Raw, errcode_ret: *mut i32) -> Raw {
    // SAFETY: the caller's promise.
    unsafe { object(errcode_ret, || get::<Context>(context).and(Err(CL_INVALID_CONTEXT))) }
}

// Slots of extensions that no Linux program calls without having seen them listed. They share functions: what differs is
// the place of the error code among the arguments.

pub unsafe extern "C" fn absent_status() -> i32 {
    CL_INVALID_OPERATION
}

pub unsafe extern "C" fn absent_object_of_3(context: Raw, _b: *mut c_void, errcode_ret: *mut i32) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { no_shared_context(context, errcode_ret) }
}

pub unsafe extern "C" fn absent_object_of_4(context: Raw, _b: u64, _c: u64, errcode_ret: *mut i32) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { no_shared_context(context, errcode_ret) }
}

pub unsafe extern "C" fn absent_object_of_5(context: Raw, _b: u64, _c: u64, _d: u64, errcode_ret: *mut i32) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { no_shared_context(context, errcode_ret) }
}

pub unsafe extern "C" fn absent_object_of_6(
    context: Raw,
    _b: u64,
    _c: u64,
    _d: u64,
    _e: u64,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { no_shared_context(context, errcode_ret) }
}
