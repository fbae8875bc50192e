//! Error codes, and the frame that every entry point runs in.
use kasoku_accel_client::{Full, Gone};

use crate::cl::{CL_DEVICE_NOT_AVAILABLE, CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_OUT_OF_RESOURCES, CL_SUCCESS};
use crate::handle::Raw;

/// An OpenCL error code as the error.
pub type Result<T> = core::result::Result<T, i32>;

/// The code for a broker that has ended.
pub fn gone(gone: Gone) -> i32 {
    match gone {
        Gone::Meanwhile => CL_OUT_OF_RESOURCES,
        Gone::Before => CL_DEVICE_NOT_AVAILABLE,
    }
}

/// The code for an arena without room.
pub fn full(_: Full) -> i32 {
    CL_MEM_OBJECT_ALLOCATION_FAILURE
}

/// The broker's status as a result.
pub fn status(code: i32) -> Result<()> {
    if code == CL_SUCCESS { Ok(()) } else { Err(code) }
}

/// `Err(code)` unless `condition`.
pub fn ensure(condition: bool, code: i32) -> Result<()> {
    if condition { Ok(()) } else { Err(code) }
}

/// Frame of an entry that returns a code.
pub fn code(run: impl FnOnce() -> Result<()>) -> i32 {
    match run() {
        Ok(()) => CL_SUCCESS,
        Err(code) => code,
    }
}

/// Frame of an entry that returns an object and stores a code.
///
/// # Safety
/// `errcode_ret` is null or writable.
pub unsafe fn object(errcode_ret: *mut i32, run: impl FnOnce() -> Result<Raw>) -> Raw {
    let (raw, code) = match run() {
        Ok(raw) => (raw, CL_SUCCESS),
        Err(code) => (core::ptr::null_mut(), code),
    };
    // SAFETY: the caller's promise.
    unsafe { store(errcode_ret, code) };
    raw
}

/// Stores through an optional output pointer.
///
/// # Safety
/// `target` is null or writable.
pub unsafe fn store<T>(target: *mut T, value: T) {
    if !target.is_null() {
        // SAFETY: the caller's promise.
        unsafe { target.write_unaligned(value) };
    }
}
