//! Setting kernel arguments.
//!
//! What the broker tells of an argument (its address space and type) decides how its value is read and lets most mistakes
//! be found here, so that setting needs no answer. Where that is unknown (a structure, a program without argument
//! information) the broker is asked, once for each kind and size of value.
use alloc::sync::Arc;
use core::ffi::c_void;

use kasoku_abi::accel::command::SET_ARGUMENT;
use kasoku_abi::accel::kernel::{
    ARGUMENT_BYTES, ARGUMENT_LOCAL, ARGUMENT_MAX, ARGUMENT_OBJECT, INLINE_ARGUMENT, SetArgument,
};
use kasoku_abi::accel::{NO_ID, Range, info};

use crate::buffer::Buffer;
use crate::cl::*;
use crate::error::{Result, code, ensure, full, gone, status};
use crate::handle::{Raw, get};
use crate::image::Image;
use crate::kernel::{Argument, Kernel};
use crate::memory::Memory;
use crate::sampler::Sampler;

/// Bytes of a built-in type of OpenCL C, by its name; nothing for others.
fn size_of_type(name: &[u8]) -> Option<usize> {
    let digits = name.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (base, lanes) = name.split_at(name.len() - digits);
    let lanes = match lanes {
        b"" => 1,
        b"2" => 2,
        // Three lanes take the room of four.
        b"3" | b"4" => 4,
        b"8" => 8,
        b"16" => 16,
        _ => return None,
    };
    let element = match base {
        b"char" | b"uchar" | b"unsigned char" => 1,
        b"short" | b"ushort" | b"unsigned short" | b"half" => 2,
        b"int" | b"uint" | b"unsigned int" | b"float" => 4,
        b"long" | b"ulong" | b"unsigned long" | b"double" | b"size_t" => 8,
        _ => return None,
    };
    Some(element * lanes)
}

/// A checked argument, and whether only the broker can tell if it suits.
struct Checked {
    kind: u32,
    argument: Argument,
    object: u64,
    doubtful: bool,
}

impl Checked {
    fn plain(kind: u32, doubtful: bool) -> Self {
        Self { kind, argument: Argument::Value, object: NO_ID, doubtful }
    }
}

/// The handle at `value`, which may be null itself.
///
/// # Safety
/// `value` is null or has eight bytes.
unsafe fn handle_at(value: *const c_void) -> Raw {
    // SAFETY: the caller's promise.
    if value.is_null() { core::ptr::null_mut() } else { unsafe { value.cast::<Raw>().read_unaligned() } }
}

fn memory(kernel: &Kernel, memory: Memory) -> Result<Checked> {
    ensure(Arc::ptr_eq(memory.context(), &kernel.program.context), CL_INVALID_MEM_OBJECT)?;
    let (argument, object) = (Argument::Memory(memory.downgrade()), memory.id());
    Ok(Checked { kind: ARGUMENT_OBJECT, argument, object, doubtful: false })
}

fn buffer(kernel: &Kernel, raw: Raw) -> Result<Checked> {
    if raw.is_null() {
        return Ok(Checked::plain(ARGUMENT_OBJECT, false));
    }
    memory(kernel, Memory::Buffer(Arc::clone(&*get::<Buffer>(raw)?)))
}

fn sampler(kernel: &Kernel, raw: Raw) -> Result<Checked> {
    let sampler = Arc::clone(&*get::<Sampler>(raw)?);
    ensure(Arc::ptr_eq(&sampler.context, &kernel.program.context), CL_INVALID_SAMPLER)?;
    let object = sampler.id;
    Ok(Checked { kind: ARGUMENT_OBJECT, argument: Argument::Sampler { _kept: sampler }, object, doubtful: false })
}

/// # Safety
/// `value` is null or has `size` bytes.
unsafe fn check(kernel: &Kernel, index: u32, size: usize, value: *const c_void) -> Result<Checked> {
    let records = &kernel.records;
    let type_name = records.text(info::ARGUMENT, index, CL_KERNEL_ARG_TYPE_NAME);
    match records.value::<u32>(info::ARGUMENT, index, CL_KERNEL_ARG_ADDRESS_QUALIFIER) {
        Some(CL_KERNEL_ARG_ADDRESS_LOCAL) => {
            ensure(value.is_null(), CL_INVALID_ARG_VALUE)?;
            ensure(size != 0, CL_INVALID_ARG_SIZE)?;
            Ok(Checked::plain(ARGUMENT_LOCAL, false))
        }
        Some(CL_KERNEL_ARG_ADDRESS_GLOBAL | CL_KERNEL_ARG_ADDRESS_CONSTANT) => {
            let image = type_name.is_some_and(|name| name.starts_with(b"image"));
            ensure(size == size_of::<Raw>(), CL_INVALID_ARG_SIZE)?;
            // SAFETY: the caller's promise, and the size is that of a handle.
            let raw = unsafe { handle_at(value) };
            if image { memory(kernel, Memory::Image(Arc::clone(&*get::<Image>(raw)?))) } else { buffer(kernel, raw) }
        }
        Some(_) => {
            if type_name == Some(b"sampler_t") {
                ensure(size == size_of::<Raw>(), CL_INVALID_ARG_SIZE)?;
                // SAFETY: the caller's promise, and the size is that of a handle.
                return sampler(kernel, unsafe { handle_at(value) });
            }
            ensure(!value.is_null(), CL_INVALID_ARG_VALUE)?;
            let expected = type_name.and_then(size_of_type);
            ensure(expected.is_none_or(|expected| expected == size) && size != 0, CL_INVALID_ARG_SIZE)?;
            Ok(Checked::plain(ARGUMENT_BYTES, expected.is_none()))
        }
        None if value.is_null() => Ok(Checked::plain(ARGUMENT_LOCAL, true)),
        None => {
            if size == size_of::<Raw>() {
                // SAFETY: the caller's promise.
                let raw = unsafe { handle_at(value) };
                if let Ok(object) = Memory::get(raw) {
                    return Ok(Checked { doubtful: true, ..memory(kernel, object)? });
                }
                if get::<Sampler>(raw).is_ok() {
                    return Ok(Checked { doubtful: true, ..sampler(kernel, raw)? });
                }
            }
            Ok(Checked::plain(ARGUMENT_BYTES, true))
        }
    }
}

/// # Safety
/// `value` is null or has `size` bytes.
unsafe fn set(kernel: &Kernel, index: u32, size: usize, value: *const c_void) -> Result<()> {
    let mut arguments = kernel.arguments.lock();
    let place = arguments.get_mut(index as usize).ok_or(CL_INVALID_ARG_INDEX)?;
    // SAFETY: the caller's promise.
    let checked = unsafe { check(kernel, index, size, value)? };
    let driver = kernel.program.context.driver;
    let mut command = driver.command(SET_ARGUMENT, kernel.id);
    let mut body = SetArgument {
        index,
        kind: checked.kind,
        size: size as u64,
        object: checked.object,
        data: Range::NONE,
        inline: [0; INLINE_ARGUMENT],
    };
    if checked.kind == ARGUMENT_BYTES {
        ensure(size as u64 <= ARGUMENT_MAX, CL_INVALID_ARG_SIZE)?;
        // SAFETY: the caller's promise; a value that is null is not of this kind.
        let bytes = unsafe { core::slice::from_raw_parts(value.cast::<u8>(), size) };
        match body.inline.get_mut(..size) {
            Some(inline) => inline.copy_from_slice(bytes),
            None => body.data = command.attach(bytes).map_err(full)?,
        }
    }
    let command = command.body(&body);
    let taken = &mut kernel.taken.lock()[index as usize];
    if checked.doubtful && *taken != Some((checked.kind, size)) {
        status(command.call().map_err(gone)?.status)?;
        *taken = Some((checked.kind, size));
    } else {
        command.post().map_err(gone)?;
    }
    if checked.kind == ARGUMENT_LOCAL {
        kernel.taken_shapes.lock().clear();
    }
    *place = checked.argument;
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSetKernelArg(kernel: Raw, index: u32, size: usize, value: *const c_void) -> i32 {
    // SAFETY: the program passes null or `size` bytes.
    code(|| unsafe { set(&*get::<Kernel>(kernel)?, index, size, value) })
}

#[cfg(test)]
mod tests {
    use super::size_of_type;

    #[test]
    fn sizes_of_built_in_types() {
        for (name, size) in [("float", 4), ("int3", 16), ("uchar16", 16), ("double2", 16), ("size_t", 8), ("half", 2)] {
            assert_eq!(size_of_type(name.as_bytes()), Some(size), "{name}");
        }
        for name in ["struct point", "float5", "my_t2", "", "16"] {
            assert_eq!(size_of_type(name.as_bytes()), None, "{name}");
        }
    }
}
