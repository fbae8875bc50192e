//! Commands between images and buffers: copies and fills.
use core::ffi::c_void;

use kasoku_abi::accel::command::{COPY_BUFFER_TO_IMAGE, COPY_IMAGE, COPY_IMAGE_TO_BUFFER, FILL_IMAGE};
use kasoku_abi::accel::image;

use crate::buffer::Buffer;
use crate::cl::*;
use crate::error::{Result, code, ensure};
use crate::handle::{Raw, get};
use crate::image::Image;
use crate::order::Order;
use crate::queue::Queue;
use crate::transfer::triple;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueCopyImage(
    queue: Raw,
    source: Raw,
    destination: Raw,
    source_origin: *const usize,
    destination_origin: *const usize,
    region: *const usize,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| {
        let queue = get::<Queue>(queue)?;
        let (from, to) = (get::<Image>(source)?, get::<Image>(destination)?);
        from.check_use(&queue.context)?;
        to.check_use(&queue.context)?;
        ensure(from.format == to.format, CL_IMAGE_FORMAT_MISMATCH)?;
        // SAFETY: the program's arrays, as the specification says.
        let (source_origin, destination_origin, region) =
            unsafe { (triple(source_origin)?, triple(destination_origin)?, triple(region)?) };
        let (source_origin, _) = from.layout.check(source_origin, region)?;
        let (destination_origin, region) = to.layout.check(destination_origin, region)?;
        let order = Order::new(&queue, CL_COMMAND_COPY_IMAGE, count, waits, event)?;
        if core::ptr::eq(&raw const **from, &raw const **to) {
            let apart = |n: usize| source_origin[n].abs_diff(destination_origin[n]) >= region[n];
            ensure((0..3).any(apart), CL_MEM_COPY_OVERLAP)?;
        }
        let (source, destination) = (from.id, to.id);
        let body = image::CopyImage { source, destination, source_origin, destination_origin, region };
        order.ask(queue.context.driver.command(COPY_IMAGE, queue.id).body(&body), &[&from.uses, &to.uses], None)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueFillImage(
    queue: Raw,
    image: Raw,
    colour: *const c_void,
    origin: *const usize,
    region: *const usize,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| {
        let queue = get::<Queue>(queue)?;
        let image = get::<Image>(image)?;
        image.check_use(&queue.context)?;
        ensure(!colour.is_null(), CL_INVALID_VALUE)?;
        // SAFETY: the program's arrays, as the specification says.
        let (origin, region) = unsafe { (triple(origin)?, triple(region)?) };
        let (origin, region) = image.layout.check(origin, region)?;
        let order = Order::new(&queue, CL_COMMAND_FILL_IMAGE, count, waits, event)?;
        let mut body = image::FillImage { image: image.id, origin, region, colour: [0; image::COLOUR_LEN] };
        // A depth is one number, any other colour four.
        let len = if image.format.order == CL_DEPTH { 4 } else { image::COLOUR_LEN };
        // SAFETY: the program gave that many bytes.
        body.colour[..len].copy_from_slice(unsafe { core::slice::from_raw_parts(colour.cast::<u8>(), len) });
        order.ask(queue.context.driver.command(FILL_IMAGE, queue.id).body(&body), &[&image.uses], None)
    })
}

/// Arguments of a copy between an image and a buffer.
struct Between {
    operation: u32,
    kind: u32,
    image: Raw,
    buffer: Raw,
    offset: usize,
}

impl Between {
    /// # Safety
    /// `origin` and `region` are null or have three elements.
    unsafe fn run(
        self,
        queue: Raw,
        [origin, region]: [*const usize; 2],
        count: u32,
        waits: *const Raw,
        event: *mut Raw,
    ) -> Result<()> {
        let queue = get::<Queue>(queue)?;
        let (image, buffer) = (get::<Image>(self.image)?, get::<Buffer>(self.buffer)?);
        image.check_use(&queue.context)?;
        buffer.check_use(&queue.context, &queue.device)?;
        // SAFETY: the caller's promise.
        let (origin, region) = unsafe { (triple(origin)?, triple(region)?) };
        let (origin, region) = image.layout.check(origin, region)?;
        let len = image.layout.len(region).ok_or(CL_INVALID_VALUE)?;
        buffer.check(self.offset, len as usize)?;
        let order = Order::new(&queue, self.kind, count, waits, event)?;
        let (image_id, buffer_id, buffer_offset) = (image.id, buffer.id, self.offset as u64);
        let body = image::CopyImageBuffer { image: image_id, buffer: buffer_id, origin, region, buffer_offset };
        let command = queue.context.driver.command(self.operation, queue.id).body(&body);
        order.ask(command, &[&image.uses, &buffer.uses], None)
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueCopyImageToBuffer(
    queue: Raw,
    image: Raw,
    buffer: Raw,
    origin: *const usize,
    region: *const usize,
    offset: usize,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    let (operation, kind) = (COPY_IMAGE_TO_BUFFER, CL_COMMAND_COPY_IMAGE_TO_BUFFER);
    let between = Between { operation, kind, image, buffer, offset };
    // SAFETY: the program's arrays, as the specification says.
    code(|| unsafe { between.run(queue, [origin, region], count, waits, event) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueCopyBufferToImage(
    queue: Raw,
    buffer: Raw,
    image: Raw,
    offset: usize,
    origin: *const usize,
    region: *const usize,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    let (operation, kind) = (COPY_BUFFER_TO_IMAGE, CL_COMMAND_COPY_BUFFER_TO_IMAGE);
    let between = Between { operation, kind, image, buffer, offset };
    // SAFETY: the program's arrays, as the specification says.
    code(|| unsafe { between.run(queue, [origin, region], count, waits, event) })
}
