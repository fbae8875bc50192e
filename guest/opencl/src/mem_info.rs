//! Questions about memory objects.
use core::ffi::c_void;
use core::ptr::null_mut;

use crate::answer::Query;
use crate::buffer::Buffer;
use crate::cl::*;
use crate::error::code;
use crate::handle::{Object, Raw, get};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetMemObjectInfo(
    object: Raw,
    parameter: u32,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let buffer = get::<Buffer>(object)?;
        // SAFETY: the program's output arguments, as the specification says.
        let query = unsafe { Query::new(size, value, size_ret) };
        match parameter {
            CL_MEM_TYPE => query.value(CL_MEM_OBJECT_BUFFER),
            CL_MEM_FLAGS => query.value(buffer.flags),
            CL_MEM_SIZE => query.value(buffer.size),
            CL_MEM_HOST_PTR => query.value(buffer.host_ptr),
            CL_MEM_MAP_COUNT => query.value(buffer.mappings.lock().len() as u32),
            CL_MEM_REFERENCE_COUNT => query.value(buffer.identity().references()),
            CL_MEM_CONTEXT => query.handle(buffer.context.identity().raw()),
            CL_MEM_ASSOCIATED_MEMOBJECT => {
                query.handle(buffer.parent.as_ref().map_or(null_mut(), |parent| parent.identity().raw()))
            }
            CL_MEM_OFFSET => query.value(buffer.origin),
            CL_MEM_USES_SVM_POINTER => query.value(0u32),
            CL_MEM_PROPERTIES => query.words(&buffer.property_words),
            _ => Err(CL_INVALID_VALUE),
        }
    })
}
