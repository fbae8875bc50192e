//! Executable programs, made of binaries. Compiling is done elsewhere (`compile`).
use crate::backend::{Context, OpenCl};
use crate::constants as cl;
use crate::ffi::Raw;
use crate::handle::Handle;
use crate::library::{ask, check};
use crate::package::{self, Arguments};
use kasoku_abi::accel::info;
use kasoku_backend::{Question, Result, Status};

pub struct Program {
    pub(crate) handle: Handle,
    /// Bit per device that it was loaded for.
    pub(crate) devices: u64,
    /// What the compiler knew of its kernels' arguments.
    pub(crate) arguments: Arguments,
}

pub fn load(backend: &OpenCl, context: &Context, binaries: &[(u32, &[u8])]) -> Result<Program> {
    let api = backend.api();
    let mut devices: Vec<Raw> = Vec::with_capacity(binaries.len());
    let mut chosen = Vec::with_capacity(binaries.len());
    let mut mask = 0u64;
    for (index, bytes) in binaries {
        let device = backend.device_of(context, *index)?.raw;
        mask |= 1 << index;
        // Parts of one device are one to its implementation, and their binaries equal.
        if !devices.contains(&device) {
            devices.push(device);
            chosen.push(bytes);
        }
    }
    let packages = chosen.into_iter().map(|bytes| package::decode(bytes).ok_or(Status(cl::INVALID_BINARY)));
    let packages = packages.collect::<Result<Vec<_>>>()?;
    let lengths: Vec<usize> = packages.iter().map(|package| package.binary.len()).collect();
    let starts: Vec<*const u8> = packages.iter().map(|package| package.binary.as_ptr()).collect();
    let count = devices.len() as u32;
    let mut per_binary = vec![0i32; devices.len()];
    let mut status = 0;
    // SAFETY: live context and devices; each list has `count` elements, each binary its length.
    let raw = unsafe {
        (api.create_program_with_binary)(
            context.handle.raw(),
            count,
            devices.as_ptr(),
            lengths.as_ptr(),
            starts.as_ptr(),
            per_binary.as_mut_ptr(),
            &raw mut status,
        )
    };
    check(status)?;
    // SAFETY: a new program with one reference, ours.
    let handle = unsafe { Handle::new(raw, api.release_program) };
    // PoCL tells what the arguments of a binary's kernels are only when asked for at this point too.
    let options = c"-cl-kernel-arg-info";
    // SAFETY: live program and devices; the options are a C string; no callback, so the call returns when it is done.
    check(unsafe {
        let null = core::ptr::null_mut();
        (api.build_program)(handle.raw(), count, devices.as_ptr(), options.as_ptr(), null, null)
    })?;
    let arguments = packages.into_iter().next().map(|package| package.arguments).unwrap_or_default();
    Ok(Program { handle, devices: mask, arguments })
}

/// Parameters of a program that hold no handle and are not the broker's to answer.
pub const PARAMETERS: [u32; 2] = [cl::PROGRAM_NUM_KERNELS, cl::PROGRAM_KERNEL_NAMES];
/// Parameters of a program's build for a device.
pub const BUILD_PARAMETERS: [u32; 2] = [cl::PROGRAM_BINARY_TYPE, cl::PROGRAM_BUILD_GLOBAL_VARIABLE_TOTAL_SIZE];

pub fn info(backend: &OpenCl, program: &Program, question: &Question<'_>) -> Result<Vec<u8>> {
    let (api, raw, parameter) = (backend.api(), program.handle.raw(), question.parameter);
    match question.kind {
        info::PROGRAM if PARAMETERS.contains(&parameter) => {
            // SAFETY: a live program; `ask` passes a buffer with its true size.
            ask(|size, value, needed| unsafe { (api.get_program_info)(raw, parameter, size, value, needed) })
        }
        info::BUILD if BUILD_PARAMETERS.contains(&parameter) => {
            let device: Raw = match backend.devices.get(question.index as usize) {
                Some(device) if program.devices >> question.index & 1 == 1 => device.raw,
                _ => return Err(Status(-33)),
            };
            // SAFETY: as above; the device is live.
            ask(|size, value, needed| unsafe {
                (api.get_program_build_info)(raw, device, parameter, size, value, needed)
            })
        }
        _ => Err(Status(cl::INVALID_VALUE)),
    }
}
