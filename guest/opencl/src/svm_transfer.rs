//! Commands on shared virtual memory.
//!
//! Program and device see the same bytes, so mapping is a matter of turns alone. Copies and fills are done here at once when
//! nothing is queued before them, else by the device.
use alloc::sync::Arc;
use core::ffi::c_void;

use kasoku_abi::accel::command::{COPY_BUFFER, FILL_BUFFER, MARKER};
use kasoku_abi::accel::memory;
use kasoku_accel_client::mem::copy_data;

use crate::answer::list;
use crate::backlog::Action;
use crate::cl::*;
use crate::error::{Result, code, ensure};
use crate::handle::{Raw, get};
use crate::map::{check_map_flags, in_turn};
use crate::order::Order;
use crate::queue::Queue;
use crate::rect::{Area, Rect};
use crate::svm::Place;
use crate::transfer::{Direction, Transfer};

/// The queue, which must be one of a context with shared virtual memory.
fn queue_of(raw: Raw) -> Result<Arc<Queue>> {
    let queue = get::<Queue>(raw)?;
    ensure(queue.context.driver.shares_addresses, CL_INVALID_OPERATION)?;
    Ok(Arc::clone(&*queue))
}

/// Bytes of a block, which commands on shared virtual memory alone must name.
fn place(queue: &Queue, pointer: *const c_void, size: usize) -> Result<Place> {
    queue.context.driver.blocks.find(&queue.context, pointer, size).ok_or(CL_INVALID_VALUE)
}

/// One copy, with the program's pointers.
struct Memcpy {
    target: *mut u8,
    source: *const u8,
    size: usize,
}

impl Memcpy {
    fn now(&self, order: Order<'_>) -> Result<()> {
        let started = order.now_ns();
        // SAFETY: the program gave `size` bytes at both places; that they do not overlap was checked.
        unsafe { copy_data(self.target, self.source, self.size) };
        order.done(started)
    }

    /// Whether the program's own thread can do it, having waited for the turn of a blocking one.
    fn may_be_now(&self, order: &Order<'_>, blocking: bool) -> Result<bool> {
        if blocking && order.queue.progress.in_order {
            order.wait_for_turn()?;
            return Ok(true);
        }
        Ok(order.is_free())
    }

    fn line(&self) -> Area {
        Area::line(0, self.size as u64)
    }

    fn run(&self, order: Order<'_>, blocking: bool) -> Result<()> {
        let context = &order.queue.context;
        let find = |pointer: *const u8| context.driver.blocks.find(context, pointer.cast(), self.size);
        let transfer = |place: Place, direction, host: *mut u8, order| {
            let area = Area::line(place.offset, self.size as u64);
            Transfer { buffer: &place.block, direction, area, host: Rect::new(host, self.line()) }.run(order, blocking)
        };
        match (find(self.target), find(self.source)) {
            (Some(to), Some(from)) => self.between(order, &to, &from, blocking),
            (Some(to), None) => transfer(to, Direction::Write, self.source.cast_mut(), order),
            (None, Some(from)) => transfer(from, Direction::Read, self.target, order),
            (None, None) => self.outside(order, blocking),
        }
    }

    fn between(&self, order: Order<'_>, to: &Place, from: &Place, blocking: bool) -> Result<()> {
        let driver = order.queue.context.driver;
        driver.backlog.arrive(self.source as usize, self.size)?;
        if self.may_be_now(&order, blocking)? {
            return self.now(order);
        }
        let command = driver.command(COPY_BUFFER, order.queue.id).body(&memory::Copy {
            source: from.block.id,
            destination: to.block.id,
            source_offset: from.offset,
            destination_offset: to.offset,
            size: self.size as u64,
        });
        let uses = [&*from.block.uses, &*to.block.uses];
        if blocking { order.run(command, &uses) } else { order.post(command, &uses, None) }
    }

    /// From and to memory of the program's own: what it has now arrives in the command's turn.
    fn outside(&self, order: Order<'_>, blocking: bool) -> Result<()> {
        let driver = order.queue.context.driver;
        driver.backlog.arrive(self.source as usize, self.size)?;
        if self.may_be_now(&order, blocking)? {
            return self.now(order);
        }
        let staging = driver.take(self.size as u64, memory::STORAGE_ALIGN)?;
        // SAFETY: the program gave `size` bytes; the range is ours and as long.
        unsafe { copy_data(driver.session.address(staging), self.source, self.size) };
        let command = driver.command(MARKER, order.queue.id);
        if !blocking {
            let target = Rect::new(self.target, self.line());
            let action = Action::CopyOut { staging, target };
            return order.post(command, &[], Some(action)).inspect_err(|_| driver.session.give(staging));
        }
        let result = order.run(command, &[]);
        if result.is_ok() {
            // SAFETY: as above.
            unsafe { copy_data(self.target, driver.session.address(staging), self.size) };
        }
        driver.session.give(staging);
        result
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueSVMMemcpy(
    queue: Raw,
    blocking: u32,
    target: *mut c_void,
    source: *const c_void,
    size: usize,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| {
        let queue = queue_of(queue)?;
        ensure(!target.is_null() && !source.is_null(), CL_INVALID_VALUE)?;
        let order = Order::new(&queue, CL_COMMAND_SVM_MEMCPY, count, waits, event)?;
        ensure((target as usize).abs_diff(source as usize) >= size, CL_MEM_COPY_OVERLAP)?;
        if size == 0 {
            return in_turn(order, blocking != 0, None);
        }
        Memcpy { target: target.cast(), source: source.cast(), size }.run(order, blocking != 0)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueSVMMemFill(
    queue: Raw,
    pointer: *mut c_void,
    pattern: *const c_void,
    pattern_len: usize,
    size: usize,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| {
        let queue = queue_of(queue)?;
        ensure(!pointer.is_null() && !pattern.is_null(), CL_INVALID_VALUE)?;
        ensure(pattern_len.is_power_of_two() && pattern_len <= memory::PATTERN_MAX, CL_INVALID_VALUE)?;
        ensure((pointer as usize).is_multiple_of(pattern_len) && size.is_multiple_of(pattern_len), CL_INVALID_VALUE)?;
        let order = Order::new(&queue, CL_COMMAND_SVM_MEMFILL, count, waits, event)?;
        if size == 0 {
            return in_turn(order, false, None);
        }
        let place = place(&queue, pointer, size)?;
        let mut body = memory::Fill {
            buffer: place.block.id,
            offset: place.offset,
            size: size as u64,
            pattern_len: pattern_len as u32,
            reserved: 0,
            pattern: [0; memory::PATTERN_MAX],
        };
        // SAFETY: the program gave `pattern_len` bytes.
        let bytes = unsafe { core::slice::from_raw_parts(pattern.cast::<u8>(), pattern_len) };
        body.pattern[..pattern_len].copy_from_slice(bytes);
        let command = queue.context.driver.command(FILL_BUFFER, queue.id).body(&body);
        order.post(command, &[&place.block.uses], None)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueSVMMap(
    queue: Raw,
    blocking: u32,
    flags: u64,
    pointer: *mut c_void,
    size: usize,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| {
        let queue = queue_of(queue)?;
        ensure(!pointer.is_null() && size != 0, CL_INVALID_VALUE)?;
        check_map_flags(flags)?;
        place(&queue, pointer, size)?;
        in_turn(Order::new(&queue, CL_COMMAND_SVM_MAP, count, waits, event)?, blocking != 0, None)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueSVMUnmap(
    queue: Raw,
    pointer: *mut c_void,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| {
        let queue = queue_of(queue)?;
        ensure(!pointer.is_null(), CL_INVALID_VALUE)?;
        place(&queue, pointer, 1)?;
        in_turn(Order::new(&queue, CL_COMMAND_SVM_UNMAP, count, waits, event)?, false, None)
    })
}

/// The bytes are where the device finds them already; the call only takes its turn.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueSVMMigrateMem(
    queue: Raw,
    pointers_len: u32,
    pointers: *const *const c_void,
    sizes: *const usize,
    flags: u64,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| {
        let queue = queue_of(queue)?;
        ensure(pointers_len != 0 && !pointers.is_null(), CL_INVALID_VALUE)?;
        let known = CL_MIGRATE_MEM_OBJECT_HOST | CL_MIGRATE_MEM_OBJECT_CONTENT_UNDEFINED;
        ensure(flags & !known == 0, CL_INVALID_VALUE)?;
        // SAFETY: the program gave `pointers_len` pointers, and null or as many sizes, of which 0 is the whole block.
        let (pointers, mut sizes) =
            unsafe { (list(pointers_len as usize, pointers), list(pointers_len as usize, sizes)) };
        sizes.resize(pointers.len(), 0);
        pointers
            .iter()
            .zip(&sizes)
            .try_for_each(|(&pointer, &size)| place(&queue, pointer, size.max(1)).map(|_| ()))?;
        in_turn(Order::new(&queue, CL_COMMAND_SVM_MIGRATE_MEM, count, waits, event)?, false, None)
    })
}
