//! Questions about programs and their builds.
use alloc::vec::Vec;
use core::ffi::c_void;

use kasoku_abi::accel::info;
use zerocopy::IntoBytes;

use crate::answer::Query;
use crate::cl::*;
use crate::error::{Result, code, ensure};
use crate::handle::{Object, Raw, get};
use crate::program::{Origin, Program};

fn about_kernels(program: &Program, parameter: u32, query: Query) -> Result<()> {
    ensure(program.is_executable(None), CL_INVALID_PROGRAM_EXECUTABLE)?;
    let records = program.records();
    query.bytes(records.bytes(info::PROGRAM, 0, parameter).ok_or(CL_INVALID_VALUE)?)
}

fn binaries(program: &Program, query: Query) -> Result<()> {
    let targets = query.pointers(program.devices.len())?;
    for (device, target) in program.devices.iter().zip(targets).filter(|(_, target)| !target.is_null()) {
        let binary = program.binary(device)?;
        // SAFETY: the program gave as many bytes as CL_PROGRAM_BINARY_SIZES told it.
        unsafe { core::ptr::copy_nonoverlapping(binary.as_ptr(), target, binary.len()) };
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetProgramInfo(
    program: Raw,
    parameter: u32,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let program = get::<Program>(program)?;
        // SAFETY: the program's output arguments, as the specification says.
        let query = unsafe { Query::new(size, value, size_ret) };
        match parameter {
            CL_PROGRAM_REFERENCE_COUNT => query.value(program.identity().references()),
            CL_PROGRAM_CONTEXT => query.handle(program.context.identity().raw()),
            CL_PROGRAM_NUM_DEVICES => query.value(program.devices.len() as u32),
            CL_PROGRAM_DEVICES => query.handles(program.devices.iter().map(|device| device.identity().raw())),
            CL_PROGRAM_SOURCE => match &program.origin {
                Origin::Source(source) => query.text(source),
                Origin::Binary | Origin::Intermediate(_) | Origin::Linked => query.text(b""),
            },
            CL_PROGRAM_IL => match &program.origin {
                Origin::Intermediate(text) => query.bytes(text),
                Origin::Source(_) | Origin::Binary | Origin::Linked => query.bytes(b""),
            },
            CL_PROGRAM_BINARY_SIZES => {
                let sizes = program.devices.iter().map(|device| program.binary(device).map(|binary| binary.len()));
                query.bytes(sizes.collect::<Result<Vec<usize>>>()?.as_bytes())
            }
            CL_PROGRAM_BINARIES => binaries(&program, query),
            CL_PROGRAM_NUM_KERNELS | CL_PROGRAM_KERNEL_NAMES => about_kernels(&program, parameter, query),
            CL_PROGRAM_SCOPE_GLOBAL_CTORS_PRESENT | CL_PROGRAM_SCOPE_GLOBAL_DTORS_PRESENT => query.value(0u32),
            _ => Err(CL_INVALID_VALUE),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetProgramBuildInfo(
    program: Raw,
    device: Raw,
    parameter: u32,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let program = get::<Program>(program)?;
        let device = program.device(device)?;
        // SAFETY: the program's output arguments, as the specification says.
        let query = unsafe { Query::new(size, value, size_ret) };
        let built = program.built.lock();
        match (parameter, built.0.bytes(info::BUILD, device.index, parameter)) {
            (CL_PROGRAM_BUILD_OPTIONS, _) => query.text(&built.1),
            (_, Some(bytes)) => query.bytes(bytes),
            (CL_PROGRAM_BUILD_STATUS, None) => query.value(CL_BUILD_NONE),
            (CL_PROGRAM_BUILD_LOG, None) => query.text(b""),
            (CL_PROGRAM_BINARY_TYPE, None) => query.value(CL_PROGRAM_BINARY_TYPE_NONE),
            (CL_PROGRAM_BUILD_GLOBAL_VARIABLE_TOTAL_SIZE, None) => query.value(0usize),
            _ => Err(CL_INVALID_VALUE),
        }
    })
}
