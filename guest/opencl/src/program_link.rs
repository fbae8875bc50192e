//! Separate compilation: programs that become parts, and programs that are made of parts.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::{c_char, c_void};
use core::ptr::null_mut;
use core::sync::atomic::Ordering;

use kasoku_abi::accel::command::{COMPILE_PROGRAM, LINK_PROGRAM};
use kasoku_abi::accel::{info, program};
use zerocopy::IntoBytes;

use crate::answer::{c_text, list};
use crate::cl::*;
use crate::context::Context;
use crate::device::Device;
use crate::error::{Result, code, ensure, full, gone, store};
use crate::handle::{Identity, Raw, get, publish};
use crate::program::{Notify, Origin, Program, tell};

/// Names and texts of the headers that a program gives.
///
/// # Safety
/// Both are null or have `count` elements; names are C strings.
unsafe fn headers_of(count: u32, programs: *const Raw, names: *const *const c_char) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    ensure((count == 0) == programs.is_null() && programs.is_null() == names.is_null(), CL_INVALID_VALUE)?;
    // SAFETY: the caller's promise.
    let (programs, names) = unsafe { (list(count as usize, programs), list(count as usize, names)) };
    let header = |(raw, name): (Raw, *const c_char)| {
        let program = get::<Program>(raw)?;
        let Origin::Source(text) = &program.origin else { return Err(CL_INVALID_OPERATION) };
        // SAFETY: the caller's promise.
        let name = unsafe { c_text(name) };
        ensure(!name.is_empty(), CL_INVALID_VALUE)?;
        Ok((Vec::from(name), text.clone()))
    };
    programs.into_iter().zip(names).map(header).collect()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCompileProgram(
    program: Raw,
    count: u32,
    devices: *const Raw,
    options: *const c_char,
    headers_len: u32,
    headers: *const Raw,
    names: *const *const c_char,
    notify: Option<Notify>,
    user_data: *mut c_void,
) -> i32 {
    code(|| {
        let handle = program;
        let program = get::<Program>(program)?;
        let devices = program.devices_of(count, devices)?;
        // SAFETY: the program's lists, as the specification says.
        let embedded = unsafe { headers_of(headers_len, headers, names)? };
        ensure(notify.is_some() || user_data.is_null(), CL_INVALID_VALUE)?;
        ensure(matches!(program.origin, Origin::Source(_) | Origin::Intermediate(_)), CL_INVALID_OPERATION)?;
        ensure(program.kernels.load(Ordering::Acquire) == 0, CL_INVALID_OPERATION)?;
        // SAFETY: the program passes null or a C string.
        let options = unsafe { c_text(options) };
        let result = program.make(COMPILE_PROGRAM, &devices, options, embedded);
        // SAFETY: the program registered the function for this call.
        unsafe { tell(result, notify, handle, user_data) }
    })
}

/// Links; also where that fails there may be a program, which tells why.
fn link(
    context: &Arc<Context>,
    devices: Vec<Arc<Device>>,
    options: &[u8],
    programs: &[Raw],
) -> Result<(Option<Arc<Program>>, i32)> {
    let mut inputs = Vec::with_capacity(programs.len());
    for &raw in programs {
        let program = get::<Program>(raw)?;
        ensure(Arc::ptr_eq(&program.context, context), CL_INVALID_PROGRAM)?;
        let records = program.records();
        let linkable = |device: &Arc<Device>| {
            let kind = records.value::<u32>(info::BUILD, device.index, CL_PROGRAM_BINARY_TYPE);
            kind.is_some_and(|kind| kind != CL_PROGRAM_BINARY_TYPE_EXECUTABLE)
        };
        ensure(devices.iter().all(&linkable), CL_INVALID_OPERATION)?;
        inputs.push(program.id);
    }
    let identity = Identity::new()?;
    let driver = context.driver;
    let id = driver.session.new_id();
    let mut command = driver.command(LINK_PROGRAM, id);
    let body = program::LinkProgram {
        context: context.id,
        devices: devices.iter().fold(0, |mask, device| mask | 1 << device.index),
        options: command.attach(options).map_err(full)?,
        programs: command.attach(inputs.as_bytes()).map_err(full)?,
    };
    let status = command.body(&body).call().map_err(gone)?.status;
    // Without an object linking never began.
    let Ok(records) = driver.describe(id) else { return Ok((None, status)) };
    let program = Program::new(identity, context, id, devices, Origin::Linked);
    *program.built.lock() = (Arc::new(records), Vec::from(options));
    let begun = matches!(status, CL_SUCCESS | CL_LINK_PROGRAM_FAILURE);
    Ok((begun.then(|| Arc::new(program)), status))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clLinkProgram(
    context: Raw,
    count: u32,
    devices: *const Raw,
    options: *const c_char,
    programs_len: u32,
    programs: *const Raw,
    notify: Option<Notify>,
    user_data: *mut c_void,
    errcode_ret: *mut i32,
) -> Raw {
    let mut linked = null_mut();
    let result = code(|| {
        let context = get::<Context>(context)?;
        let devices = context.devices_of(count, devices)?;
        ensure(programs_len != 0 && !programs.is_null(), CL_INVALID_VALUE)?;
        ensure(notify.is_some() || user_data.is_null(), CL_INVALID_VALUE)?;
        // SAFETY: the program gave `programs_len` handles, and null or a C string.
        let (programs, options) = unsafe { (list(programs_len as usize, programs), c_text(options)) };
        let (program, status) = link(&context, devices, options, &programs)?;
        if let Some(program) = program {
            linked = publish(program);
            if let Some(notify) = notify {
                // SAFETY: the program registered the function for this call.
                unsafe { notify(linked, user_data) };
            }
        }
        if status == CL_SUCCESS { Ok(()) } else { Err(status) }
    });
    // SAFETY: null or writable, as the specification says.
    unsafe { store(errcode_ret, result) };
    linked
}
