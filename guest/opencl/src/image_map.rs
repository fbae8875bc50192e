//! Mapping images into the program's memory: read at mapping, written back at unmapping.
use core::ffi::c_void;
use core::ptr::null_mut;

use kasoku_abi::accel::command::READ_IMAGE;
use kasoku_abi::accel::{Range, image, memory};

use crate::backlog::Action;
use crate::cl::*;
use crate::error::{Result, code, ensure, store};
use crate::handle::{Raw, get};
use crate::image::Image;
use crate::image_transfer::Transfer;
use crate::map::{WRITING, check_map_flags, in_turn};
use crate::order::Order;
use crate::queue::Queue;
use crate::rect::Rect;
use crate::transfer::{Direction, triple};

/// One mapping of an image.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    address: usize,
    origin: [u64; 3],
    region: [u64; 3],
    pitches: (u64, u64),
    writable: bool,
    /// Arena memory that holds the mapped bytes; none where they lie in the program's own memory.
    pub staging: Option<Range>,
}

/// Where a region begins in memory that holds the whole image.
fn start_of(image: &Image, origin: [u64; 3]) -> Result<usize> {
    let area = image.layout.area(image.layout.extent, image.pitches)?;
    let at = [origin[0] * image.layout.element, origin[1], origin[2]];
    Ok(crate::rect::Area { origin: at, ..area }.start() as usize)
}

fn map(image: &Image, order: Order<'_>, blocking: bool, flags: u64, mut mapping: Mapping) -> Result<Mapping> {
    let driver = image.context.driver;
    let discards = flags & CL_MAP_WRITE_INVALIDATE_REGION != 0;
    let (origin, region) = (mapping.origin, mapping.region);
    if image.host_ptr != 0 {
        mapping.address = image.host_ptr + start_of(image, origin)?;
        mapping.pitches = image.pitches;
        if discards {
            in_turn(order, blocking, None)?;
        } else {
            let host = Rect::new(mapping.address as *mut u8, image.layout.area(region, mapping.pitches)?);
            Transfer { image, direction: Direction::Read, origin, region, host }.run(order, blocking)?;
        }
        return Ok(mapping);
    }
    let len = image.layout.len(region).ok_or(CL_INVALID_VALUE)?;
    let staging = driver.take(len, memory::STORAGE_ALIGN).map_err(|_| CL_MAP_FAILURE)?;
    mapping.address = driver.session.address(staging) as usize;
    mapping.staging = Some(staging);
    mapping.pitches = image.layout.pitches(region, 0, 0)?;
    let body = image::TransferImage { image: image.id, origin, region, data: staging };
    let command = driver.command(READ_IMAGE, order.queue.id).body(&body);
    let uses = [&*image.uses];
    let result = match (discards, blocking) {
        (true, _) => in_turn(order, blocking, None),
        (false, true) => order.run(command, &uses),
        (false, false) => order.ask(command, &uses, None),
    };
    result.inspect_err(|_| driver.session.give(staging))?;
    Ok(mapping)
}

/// Ends the mapping at `address`.
pub fn unmap(image: &Image, order: Order<'_>, address: *mut c_void) -> Result<()> {
    let mapping = {
        let mut mappings = image.mappings.lock();
        let at = mappings.iter().rposition(|mapping| mapping.address == address as usize);
        mappings.remove(at.ok_or(CL_INVALID_VALUE)?)
    };
    let driver = image.context.driver;
    let (origin, region) = (mapping.origin, mapping.region);
    match mapping.staging {
        _ if !mapping.writable => in_turn(order, false, mapping.staging.map(Action::Free)),
        Some(staging) => {
            let body = image::TransferImage { image: image.id, origin, region, data: staging };
            let command = driver.command(kasoku_abi::accel::command::WRITE_IMAGE, order.queue.id).body(&body);
            order.post(command, &[&image.uses], Some(Action::Free(staging)))
        }
        None => {
            let host = Rect::new(mapping.address as *mut u8, image.layout.area(region, mapping.pitches)?);
            Transfer { image, direction: Direction::Write, origin, region, host }.run(order, false)
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueMapImage(
    queue: Raw,
    image: Raw,
    blocking: u32,
    flags: u64,
    origin: *const usize,
    region: *const usize,
    row_pitch: *mut usize,
    slice_pitch: *mut usize,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
    errcode_ret: *mut i32,
) -> *mut c_void {
    let mut address = null_mut();
    let result = code(|| {
        let queue = get::<Queue>(queue)?;
        let image = get::<Image>(image)?;
        image.check_use(&queue.context)?;
        check_map_flags(flags)?;
        // SAFETY: the program's arrays, as the specification says.
        let (origin, region) = unsafe { (triple(origin)?, triple(region)?) };
        let (origin, region) = image.layout.check(origin, region)?;
        ensure(!row_pitch.is_null(), CL_INVALID_VALUE)?;
        ensure(!slice_pitch.is_null() || !image.layout.has_slices(), CL_INVALID_VALUE)?;
        let order = Order::new(&queue, CL_COMMAND_MAP_IMAGE, count, waits, event)?;
        if flags & CL_MAP_READ != 0 {
            image.check_host_access(CL_MEM_HOST_WRITE_ONLY)?;
        }
        if flags & WRITING != 0 {
            image.check_host_access(CL_MEM_HOST_READ_ONLY)?;
        }
        let writable = flags & WRITING != 0;
        let mapping = Mapping { address: 0, origin, region, pitches: (0, 0), writable, staging: None };
        let mapping = map(&image, order, blocking != 0, flags, mapping)?;
        image.mappings.lock().push(mapping);
        // SAFETY: the first is not null; both are null or writable.
        unsafe {
            store(row_pitch, mapping.pitches.0 as usize);
            store(slice_pitch, if image.layout.has_slices() { mapping.pitches.1 as usize } else { 0 });
        }
        address = mapping.address as *mut u8;
        Ok(())
    });
    // SAFETY: null or writable, as the specification says.
    unsafe { store(errcode_ret, result) };
    address.cast()
}
