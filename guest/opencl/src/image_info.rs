//! Questions about images.
use core::ffi::c_void;
use core::ptr::null_mut;

use crate::answer::Query;
use crate::cl::*;
use crate::error::code;
use crate::handle::{Raw, get};
use crate::image::Image;
use crate::memory::Memory;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetImageInfo(
    image: Raw,
    parameter: u32,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let image = get::<Image>(image)?;
        // SAFETY: the program's output arguments, as the specification says.
        let query = unsafe { Query::new(size, value, size_ret) };
        let layout = &image.layout;
        let [width, second, third] = layout.extent;
        let when = |kinds: &[u32], number: u64| if kinds.contains(&layout.kind) { number } else { 0 };
        match parameter {
            CL_IMAGE_FORMAT => query.value([image.format.order, image.format.channel_type]),
            CL_IMAGE_ELEMENT_SIZE => query.value(layout.element),
            CL_IMAGE_ROW_PITCH => query.value(image.pitches.0),
            CL_IMAGE_SLICE_PITCH => query.value(if layout.has_slices() { image.pitches.1 } else { 0 }),
            CL_IMAGE_WIDTH => query.value(width),
            CL_IMAGE_HEIGHT => {
                let planes = [CL_MEM_OBJECT_IMAGE2D, CL_MEM_OBJECT_IMAGE2D_ARRAY, CL_MEM_OBJECT_IMAGE3D];
                query.value(when(&planes, second))
            }
            CL_IMAGE_DEPTH => query.value(when(&[CL_MEM_OBJECT_IMAGE3D], third)),
            CL_IMAGE_ARRAY_SIZE => {
                let lines = when(&[CL_MEM_OBJECT_IMAGE1D_ARRAY], second);
                query.value(lines | when(&[CL_MEM_OBJECT_IMAGE2D_ARRAY], third))
            }
            CL_IMAGE_BUFFER => query.handle(match &image.parent {
                Some(parent @ Memory::Buffer(_)) => parent.raw(),
                _ => null_mut(),
            }),
            CL_IMAGE_NUM_MIP_LEVELS | CL_IMAGE_NUM_SAMPLES => query.value(0u32),
            _ => Err(CL_INVALID_VALUE),
        }
    })
}
