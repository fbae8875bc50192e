//! Mapping buffers into the program's memory.
//!
//! A buffer that lies in the arena is mapped by giving out its address. Others, and those with memory of the program's
//! own (`CL_MEM_USE_HOST_PTR`, whose mapping must lie in that memory), are read at mapping and written back at unmapping.
use core::ffi::c_void;
use core::ptr::null_mut;

use kasoku_abi::accel::command::{MARKER, READ_BUFFER, WRITE_BUFFER};
use kasoku_abi::accel::{Range, memory};

use crate::backlog::Action;
use crate::buffer::Buffer;
use crate::cl::*;
use crate::error::{Result, code, ensure, store};
use crate::handle::{Raw, get};
use crate::image_map;
use crate::memory::Memory;
use crate::order::Order;
use crate::queue::Queue;
use crate::rect::{Area, Rect};
use crate::transfer::{Direction, Transfer};

/// One mapping of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    address: usize,
    offset: u64,
    size: u64,
    writable: bool,
    /// Arena memory that holds the mapped bytes apart from the buffer.
    pub staging: Option<Range>,
}

pub const WRITING: u64 = CL_MAP_WRITE | CL_MAP_WRITE_INVALIDATE_REGION;

/// Checks the flags of a mapping.
pub fn check_map_flags(flags: u64) -> Result<()> {
    ensure(flags & !(CL_MAP_READ | WRITING) == 0, CL_INVALID_VALUE)?;
    let mixed = flags & CL_MAP_WRITE_INVALIDATE_REGION != 0 && flags & (CL_MAP_READ | CL_MAP_WRITE) != 0;
    ensure(!mixed, CL_INVALID_VALUE)
}

/// Nothing moves; the event or the blocking call comes in its turn.
pub fn in_turn(order: Order<'_>, blocking: bool, action: Option<Action>) -> Result<()> {
    let driver = order.queue.context.driver;
    if order.is_free() {
        if let Some(Action::Free(range)) = action {
            driver.session.give(range);
        }
        let now = order.now_ns();
        return order.done(now);
    }
    if blocking && order.queue.progress.in_order {
        order.wait_for_turn()?;
        let now = order.now_ns();
        return order.done(now);
    }
    let command = driver.command(MARKER, order.queue.id);
    if blocking {
        order.run(command, &[])
    } else if order.wants_event() || !order.waits_for_nothing() || action.is_some() {
        order.post(command, &[], action)
    } else {
        Ok(())
    }
}

fn map(buffer: &Buffer, order: Order<'_>, blocking: bool, flags: u64, offset: usize, size: usize) -> Result<*mut u8> {
    let driver = buffer.context.driver;
    let discards = flags & CL_MAP_WRITE_INVALIDATE_REGION != 0;
    let mut mapping =
        Mapping { address: 0, offset: offset as u64, size: size as u64, writable: flags & WRITING != 0, staging: None };
    if buffer.is_apart() {
        mapping.address = buffer.host_ptr + offset;
        if discards {
            in_turn(order, blocking, None)?;
        } else {
            let area = Area::line(mapping.offset, mapping.size);
            let host = Rect::new(mapping.address as *mut u8, Area::line(0, mapping.size));
            Transfer { buffer, direction: Direction::Read, area, host }.run(order, blocking)?;
        }
    } else if let Some(address) = buffer.address() {
        mapping.address = address as usize + offset;
        in_turn(order, blocking, None)?;
    } else {
        let staging = driver.take(mapping.size, memory::STORAGE_ALIGN).map_err(|_| CL_MAP_FAILURE)?;
        mapping.address = driver.session.address(staging) as usize;
        mapping.staging = Some(staging);
        let body = memory::Transfer { buffer: buffer.id, offset: mapping.offset, data: staging };
        let command = driver.command(READ_BUFFER, order.queue.id).body(&body);
        let uses = [&*buffer.uses];
        let result = match (discards, blocking) {
            (true, _) => in_turn(order, blocking, None),
            (false, true) => order.run(command, &uses),
            (false, false) => order.post(command, &uses, None),
        };
        result.inspect_err(|_| driver.session.give(staging))?;
    }
    buffer.mappings.lock().push(mapping);
    Ok(mapping.address as *mut u8)
}

fn unmap(buffer: &Buffer, order: Order<'_>, mapping: Mapping) -> Result<()> {
    let driver = buffer.context.driver;
    if let Some(staging) = mapping.staging {
        if !mapping.writable {
            return in_turn(order, false, Some(Action::Free(staging)));
        }
        let body = memory::Transfer { buffer: buffer.id, offset: mapping.offset, data: staging };
        let command = driver.command(WRITE_BUFFER, order.queue.id).body(&body);
        return order.post(command, &[&buffer.uses], Some(Action::Free(staging)));
    }
    if buffer.is_apart() && mapping.writable {
        let area = Area::line(mapping.offset, mapping.size);
        let host = Rect::new(mapping.address as *mut u8, Area::line(0, mapping.size));
        return Transfer { buffer, direction: Direction::Write, area, host }.run(order, false);
    }
    in_turn(order, false, None)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueMapBuffer(
    queue: Raw,
    buffer: Raw,
    blocking: u32,
    flags: u64,
    offset: usize,
    size: usize,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
    errcode_ret: *mut i32,
) -> *mut c_void {
    let mut address = null_mut();
    let result = code(|| {
        let queue = get::<Queue>(queue)?;
        let buffer = get::<Buffer>(buffer)?;
        buffer.check_use(&queue.context, &queue.device)?;
        buffer.check(offset, size)?;
        check_map_flags(flags)?;
        let order = Order::new(&queue, CL_COMMAND_MAP_BUFFER, count, waits, event)?;
        if flags & CL_MAP_READ != 0 {
            buffer.check_host_access(CL_MEM_HOST_WRITE_ONLY)?;
        }
        if flags & WRITING != 0 {
            buffer.check_host_access(CL_MEM_HOST_READ_ONLY)?;
        }
        address = map(&buffer, order, blocking != 0, flags, offset, size)?;
        Ok(())
    });
    // SAFETY: null or writable, as the specification says.
    unsafe { store(errcode_ret, result) };
    address.cast()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueUnmapMemObject(
    queue: Raw,
    object: Raw,
    address: *mut c_void,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| {
        let queue = get::<Queue>(queue)?;
        let memory = Memory::get(object)?;
        memory.check_use(&queue.context, &queue.device)?;
        let order = Order::new(&queue, CL_COMMAND_UNMAP_MEM_OBJECT, count, waits, event)?;
        let buffer = match memory {
            Memory::Buffer(buffer) => buffer,
            Memory::Image(image) => return image_map::unmap(&image, order, address),
        };
        let mapping = {
            let mut mappings = buffer.mappings.lock();
            let at = mappings.iter().rposition(|mapping| mapping.address == address as usize);
            mappings.remove(at.ok_or(CL_INVALID_VALUE)?)
        };
        unmap(&buffer, order, mapping)
    })
}
