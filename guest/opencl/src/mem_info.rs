//! Questions about memory objects.
use core::ffi::c_void;
use core::ptr::null_mut;

use crate::answer::Query;
use crate::cl::*;
use crate::error::code;
use crate::handle::{Object, Raw};
use crate::memory::Memory;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetMemObjectInfo(
    object: Raw,
    parameter: u32,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let memory = Memory::get(object)?;
        // SAFETY: the program's output arguments, as the specification says.
        let query = unsafe { Query::new(size, value, size_ret) };
        match parameter {
            CL_MEM_CONTEXT => return query.handle(memory.context().identity().raw()),
            CL_MEM_USES_SVM_POINTER => {
                let shared = matches!(&memory, Memory::Buffer(buffer) if buffer.uses_svm());
                return query.value(u32::from(shared));
            }
            _ => {}
        }
        match (&memory, parameter) {
            (Memory::Buffer(buffer), CL_MEM_FLAGS) => query.value(buffer.flags),
            (Memory::Buffer(buffer), CL_MEM_HOST_PTR) => query.value(buffer.host_ptr),
            (Memory::Buffer(buffer), CL_MEM_SIZE) => query.value(buffer.size),
            (Memory::Buffer(buffer), CL_MEM_MAP_COUNT) => query.value(buffer.mappings.lock().len() as u32),
            (Memory::Buffer(buffer), CL_MEM_REFERENCE_COUNT) => query.value(buffer.identity().references()),
            (Memory::Buffer(buffer), CL_MEM_PROPERTIES) => query.words(&buffer.property_words),
            (Memory::Buffer(_), CL_MEM_TYPE) => query.value(CL_MEM_OBJECT_BUFFER),
            (Memory::Buffer(buffer), CL_MEM_OFFSET) => query.value(buffer.origin),
            (Memory::Buffer(buffer), CL_MEM_ASSOCIATED_MEMOBJECT) => {
                query.handle(buffer.parent.as_ref().map_or(null_mut(), |parent| parent.identity().raw()))
            }
            (Memory::Image(image), CL_MEM_FLAGS) => query.value(image.flags),
            (Memory::Image(image), CL_MEM_HOST_PTR) => query.value(image.host_ptr),
            (Memory::Image(image), CL_MEM_SIZE) => query.value(image.size()),
            (Memory::Image(image), CL_MEM_MAP_COUNT) => query.value(image.mappings.lock().len() as u32),
            (Memory::Image(image), CL_MEM_REFERENCE_COUNT) => query.value(image.identity().references()),
            (Memory::Image(image), CL_MEM_PROPERTIES) => query.words(&image.property_words),
            (Memory::Image(image), CL_MEM_TYPE) => query.value(image.layout.kind),
            (Memory::Image(_), CL_MEM_OFFSET) => query.value(0u64),
            (Memory::Image(image), CL_MEM_ASSOCIATED_MEMOBJECT) => {
                query.handle(image.parent.as_ref().map_or(null_mut(), Memory::raw))
            }
            _ => Err(CL_INVALID_VALUE),
        }
    })
}
