//! Reads and writes of buffers.
//!
//! Where the device works in the arena and nothing that uses the buffer is queued, this library copies between the
//! program's memory and the buffer itself: one copy, no command. Otherwise data goes through a range of the arena that the
//! broker fills or empties in the queue's order.
use alloc::sync::Arc;
use core::ffi::c_void;

use kasoku_abi::accel::command::{
    CREATE_QUEUE, MARKER, READ_BUFFER, READ_BUFFER_RECT, RELEASE, WRITE_BUFFER, WRITE_BUFFER_RECT,
};
use kasoku_abi::accel::{Id, Range, memory, object};
use kasoku_accel_client::Command;
use kasoku_accel_client::mem::copy_data;

use crate::backlog::Action;
use crate::buffer::Buffer;
use crate::cl::*;
use crate::context::Context;
use crate::error::{Result, code, ensure, gone, status};
use crate::handle::{Raw, get};
use crate::order::{Order, Running};
use crate::queue::Queue;
use crate::rect::{Area, Rect};
use crate::svm::Place;

/// Most bytes that go through the arena at a time: enough to hide the cost of a command, little enough to leave room.
pub const CHUNK: u64 = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Buffer to program.
    Read,
    /// Program to buffer.
    Write,
}

/// A copy between a buffer and the program's memory.
#[derive(Clone, Copy)]
pub struct Transfer<'b> {
    pub buffer: &'b Buffer,
    pub direction: Direction,
    /// In the buffer.
    pub area: Area,
    /// In the program's memory, of the same shape.
    pub host: Rect,
}

impl Transfer<'_> {
    /// Performs or posts the transfer.
    pub fn run(&self, order: Order<'_>, blocking: bool) -> Result<()> {
        let (start, len) = self.host.extent();
        let driver = order.queue.context.driver;
        driver.backlog.arrive(start, len)?;
        let progress = &order.queue.progress;
        let reachable = self.buffer.address().is_some();
        if reachable && blocking && progress.in_order {
            order.wait_for_turn()?;
            return self.directly(order);
        }
        if reachable && order.is_free() {
            return self.directly(order);
        }
        if let Some(place) = driver.blocks.find(&order.queue.context, start as *const c_void, len) {
            return self.between(order, blocking, &place);
        }
        // Nothing queued touches the buffer, so nobody can tell that its bytes move before their turn; unless the program
        // holds up what is queued until it has looked.
        let unseen = progress.in_order && order.waits_for_nothing() && !order.may_be_held_up();
        if reachable && unseen && self.buffer.uses.is_idle() {
            return self.early(order);
        }
        if self.area.len() <= self.chunk() { self.staged(order, blocking) } else { self.in_chunks(order, blocking) }
    }

    fn chunk(&self) -> u64 {
        CHUNK.min(self.buffer.context.driver.session.arena_len() / 8)
    }

    fn directly(&self, order: Order<'_>) -> Result<()> {
        let started = order.now_ns();
        self.copy();
        order.done(started)
    }

    /// Copies now; the event, if any, comes in its turn.
    fn early(&self, order: Order<'_>) -> Result<()> {
        self.copy();
        if !order.wants_event() {
            return Ok(());
        }
        let command = order.queue.context.driver.command(MARKER, order.queue.id);
        order.post(command, &[], None)
    }

    fn copy(&self) {
        let Some(address) = self.buffer.address() else { return };
        let inside = Rect::new(address, self.area);
        // SAFETY: the area was checked against the buffer; the program's memory is as large as it said.
        unsafe {
            match self.direction {
                Direction::Read => self.host.copy_from(&inside),
                Direction::Write => inside.copy_from(&self.host),
            }
        }
    }

    fn command(&self, order: &Order<'_>, data: Range) -> Command<'static> {
        let driver = self.buffer.context.driver;
        let area = &self.area;
        let read = self.direction == Direction::Read;
        if area.is_line() {
            let operation = if read { READ_BUFFER } else { WRITE_BUFFER };
            let body = memory::Transfer { buffer: self.buffer.id, offset: area.start(), data };
            return driver.command(operation, order.queue.id).body(&body);
        }
        let packed = area.packed();
        let operation = if read { READ_BUFFER_RECT } else { WRITE_BUFFER_RECT };
        driver.command(operation, order.queue.id).body(&memory::TransferRect {
            buffer: self.buffer.id,
            buffer_origin: area.origin,
            host_origin: packed.origin,
            region: area.region,
            buffer_row_pitch: area.row_pitch,
            buffer_slice_pitch: area.slice_pitch,
            host_row_pitch: packed.row_pitch,
            host_slice_pitch: packed.slice_pitch,
            data,
        })
    }

    /// From or to shared virtual memory, which is in the arena already; a kernel behind this command may look there.
    fn between(&self, order: Order<'_>, blocking: bool, place: &Place) -> Result<()> {
        let driver = self.buffer.context.driver;
        let (_, len) = self.host.extent();
        let data = driver.session.range_of(self.host.first(), len as u64).ok_or(CL_INVALID_VALUE)?;
        let (area, host) = (&self.area, &self.host.area);
        let operation = if self.direction == Direction::Read { READ_BUFFER_RECT } else { WRITE_BUFFER_RECT };
        let command = if area.is_line() {
            self.command(&order, data)
        } else {
            driver.command(operation, order.queue.id).body(&memory::TransferRect {
                buffer: self.buffer.id,
                buffer_origin: area.origin,
                host_origin: [0; 3],
                region: area.region,
                buffer_row_pitch: area.row_pitch,
                buffer_slice_pitch: area.slice_pitch,
                host_row_pitch: host.row_pitch,
                host_slice_pitch: host.slice_pitch,
                data,
            })
        };
        let uses = [&*self.buffer.uses, &*place.block.uses];
        if blocking { order.run(command, &uses) } else { order.post(command, &uses, None) }
    }

    /// Through one range of the arena.
    fn staged(&self, order: Order<'_>, blocking: bool) -> Result<()> {
        let driver = self.buffer.context.driver;
        let staging = driver.take(self.area.len(), memory::STORAGE_ALIGN)?;
        let address = driver.session.address(staging);
        if self.direction == Direction::Write {
            // SAFETY: the range is ours and as long as the region.
            unsafe { self.host.gather(address) };
        }
        let command = self.command(&order, staging);
        let uses = [&*self.buffer.uses];
        if !blocking {
            let action = match self.direction {
                Direction::Read => Action::CopyOut { staging, target: self.host },
                Direction::Write => Action::Free(staging),
            };
            return order.post(command, &uses, Some(action)).inspect_err(|_| driver.session.give(staging));
        }
        let result = order.run(command, &uses);
        if result.is_ok() && self.direction == Direction::Read {
            // SAFETY: the broker has filled the range.
            unsafe { self.host.scatter(address) };
        }
        driver.session.give(staging);
        result
    }

    /// Too large for one range: one part after the other, this side copying one while the device copies another. Reads
    /// block also where the program did not ask for it; writes do when they would wait for room in the arena anyway.
    fn in_chunks(&self, order: Order<'_>, blocking: bool) -> Result<()> {
        let mut reading = None;
        let result = self.parts(&order, blocking, &mut reading);
        // The range of a read belongs to the device until that has ended, also when a later part failed.
        let last = reading.map_or(Ok(()), |part: Reading| part.arrive(&order));
        result.and(last)?;
        let end = self.last_part();
        let blocking = blocking || self.direction == Direction::Read;
        if end.area.len() <= self.chunk() { end.staged(order, blocking) } else { end.in_chunks(order, blocking) }
    }

    /// Which dimension is cut, how much of it goes at a time, and how much there is.
    fn cut(&self) -> (usize, u64, u64) {
        let chunk = self.chunk();
        let (dimension, unit) = match self.area.region {
            [bytes, rows, slices] if slices > 1 && bytes * rows <= chunk => (2, bytes * rows),
            [bytes, rows, slices] if rows > 1 && bytes <= chunk && slices == 1 => (1, bytes),
            [_, 1, 1] => (0, 1),
            // Slices or rows that are themselves too large go one at a time.
            [_, _, slices] => (if slices > 1 { 2 } else { 1 }, u64::MAX),
        };
        (dimension, (chunk / unit).max(1), self.area.region[dimension])
    }

    fn part(&self, dimension: usize, at: u64, n: u64) -> Self {
        Transfer {
            area: self.area.part(dimension, at, n),
            host: Rect { area: self.host.area.part(dimension, at, n), ..self.host },
            ..*self
        }
    }

    /// The part with which the transfer ends, and its event begins.
    fn last_part(&self) -> Self {
        let (dimension, step, count) = self.cut();
        let at = (count - 1) / step * step;
        self.part(dimension, at, count - at)
    }

    /// All parts but the last; the read that is under way at the end is left in `reading`.
    fn parts(&self, order: &Order<'_>, blocking: bool, reading: &mut Option<Reading>) -> Result<()> {
        let (dimension, step, count) = self.cut();
        // Where commands pass each other, the last one's event says nothing of those before it.
        let posted = self.direction == Direction::Write && order.queue.progress.in_order;
        for at in (0..(count - 1) / step).map(|number| number * step) {
            let part = self.part(dimension, at, step);
            if part.area.len() > self.chunk() {
                part.in_chunks(order.without_event(), blocking)?;
            } else if self.direction == Direction::Write {
                part.staged(order.without_event(), !posted)?;
            } else {
                let next = match (part.start_reading(order), reading.take()) {
                    // Perhaps there is room for one part at a time only.
                    (Err(_), Some(previous)) => {
                        previous.arrive(order)?;
                        part.start_reading(order)?
                    }
                    (next, previous) => {
                        *reading = previous;
                        next?
                    }
                };
                if let Some(previous) = reading.replace(next) {
                    previous.arrive(order)?;
                }
            }
        }
        Ok(())
    }

    fn start_reading(&self, order: &Order<'_>) -> Result<Reading> {
        let driver = self.buffer.context.driver;
        let staging = driver.take(self.area.len(), memory::STORAGE_ALIGN)?;
        let running = order.start(self.command(order, staging), &[&*self.buffer.uses]);
        let running = running.inspect_err(|_| driver.session.give(staging))?;
        Ok(Reading { running, staging, host: self.host })
    }
}

/// A part of a read that is under way.
struct Reading {
    running: Running,
    staging: Range,
    host: Rect,
}

impl Reading {
    /// Waits for it and copies it to the program.
    fn arrive(self, order: &Order<'_>) -> Result<()> {
        let driver = order.queue.context.driver;
        let result = order.finish(self.running);
        if result.is_ok() {
            // SAFETY: the broker has filled the range; the program's memory is as large as it said.
            unsafe { self.host.scatter(driver.session.address(self.staging)) };
        }
        driver.session.give(self.staging);
        result
    }
}

/// First contents of a buffer that are too large to go with its creation.
pub fn upload(context: &Arc<Context>, buffer: Id, host: *const u8, size: u64) -> Result<()> {
    let driver = context.driver;
    let queue = driver.session.new_id();
    let body = object::CreateQueue { context: context.id, device: context.devices[0].index, flags: 0 };
    driver.command(CREATE_QUEUE, queue).body(&body).post().map_err(gone)?;
    let staging = driver.take(CHUNK.min(driver.session.arena_len() / 8), memory::STORAGE_ALIGN)?;
    let mut result = Ok(());
    let mut at = 0;
    while at < size && result.is_ok() {
        let data = Range { offset: staging.offset, len: staging.len.min(size - at) };
        // SAFETY: the program gave `size` bytes; the range is ours.
        unsafe { copy_data(driver.session.address(data), host.add(at as usize), data.len as usize) };
        let body = memory::Transfer { buffer, offset: at, data };
        let answer = driver.command(WRITE_BUFFER, queue).body(&body).blocking().call();
        result = answer.map_err(gone).and_then(|answer| status(answer.status));
        at += data.len;
    }
    driver.session.give(staging);
    let _ = driver.command(RELEASE, queue).post();
    result
}

/// Arguments that all four calls share.
struct Call {
    queue: Raw,
    buffer: Raw,
    blocking: u32,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
}

impl Call {
    fn run(self, direction: Direction, host: *mut c_void, areas: impl FnOnce() -> Result<(Area, Area)>) -> Result<()> {
        let queue = get::<Queue>(self.queue)?;
        let buffer = get::<Buffer>(self.buffer)?;
        buffer.check_use(&queue.context, &queue.device)?;
        let (area, host_area) = areas()?;
        ensure(area.end().is_some_and(|end| end <= buffer.size), CL_INVALID_VALUE)?;
        ensure(!host.is_null(), CL_INVALID_VALUE)?;
        let (kind, forbidden) = match (direction, area.is_line() && area.row_pitch == area.region[0]) {
            (Direction::Read, true) => (CL_COMMAND_READ_BUFFER, CL_MEM_HOST_WRITE_ONLY),
            (Direction::Read, false) => (CL_COMMAND_READ_BUFFER_RECT, CL_MEM_HOST_WRITE_ONLY),
            (Direction::Write, true) => (CL_COMMAND_WRITE_BUFFER, CL_MEM_HOST_READ_ONLY),
            (Direction::Write, false) => (CL_COMMAND_WRITE_BUFFER_RECT, CL_MEM_HOST_READ_ONLY),
        };
        let order = Order::new(&queue, kind, self.count, self.waits, self.event)?;
        buffer.check_host_access(forbidden)?;
        let host = Rect::new(host.cast(), host_area);
        Transfer { buffer: &buffer, direction, area, host }.run(order, self.blocking != 0)
    }
}

fn line(offset: usize, size: usize) -> Result<(Area, Area)> {
    ensure(size != 0 && offset.checked_add(size).is_some(), CL_INVALID_VALUE)?;
    Ok((Area::line(offset as u64, size as u64), Area::line(0, size as u64)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueReadBuffer(
    queue: Raw,
    buffer: Raw,
    blocking: u32,
    offset: usize,
    size: usize,
    host: *mut c_void,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    let call = Call { queue, buffer, blocking, count, waits, event };
    code(|| call.run(Direction::Read, host, || line(offset, size)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueWriteBuffer(
    queue: Raw,
    buffer: Raw,
    blocking: u32,
    offset: usize,
    size: usize,
    host: *const c_void,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    let call = Call { queue, buffer, blocking, count, waits, event };
    code(|| call.run(Direction::Write, host.cast_mut(), || line(offset, size)))
}

/// Three numbers that a program passes by pointer.
///
/// # Safety
/// `numbers` is null or has three elements.
pub unsafe fn triple(numbers: *const usize) -> Result<[usize; 3]> {
    ensure(!numbers.is_null(), CL_INVALID_VALUE)?;
    // SAFETY: not null, so readable.
    Ok(unsafe { numbers.cast::<[usize; 3]>().read_unaligned() })
}

/// The two areas of a rectangular transfer.
///
/// # Safety
/// Each pointer is null or has three elements.
unsafe fn rects(
    [buffer_origin, host_origin, region]: [*const usize; 3],
    [buffer_row, buffer_slice, host_row, host_slice]: [usize; 4],
) -> Result<(Area, Area)> {
    // SAFETY: the caller's promise.
    let (buffer_origin, host_origin, region) =
        unsafe { (triple(buffer_origin)?, triple(host_origin)?, triple(region)?) };
    Ok((
        Area::checked(buffer_origin, region, buffer_row, buffer_slice)?,
        Area::checked(host_origin, region, host_row, host_slice)?,
    ))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueReadBufferRect(
    queue: Raw,
    buffer: Raw,
    blocking: u32,
    buffer_origin: *const usize,
    host_origin: *const usize,
    region: *const usize,
    buffer_row: usize,
    buffer_slice: usize,
    host_row: usize,
    host_slice: usize,
    host: *mut c_void,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    let call = Call { queue, buffer, blocking, count, waits, event };
    // SAFETY: the program's arrays, as the specification says.
    let areas =
        || unsafe { rects([buffer_origin, host_origin, region], [buffer_row, buffer_slice, host_row, host_slice]) };
    code(|| call.run(Direction::Read, host, areas))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueWriteBufferRect(
    queue: Raw,
    buffer: Raw,
    blocking: u32,
    buffer_origin: *const usize,
    host_origin: *const usize,
    region: *const usize,
    buffer_row: usize,
    buffer_slice: usize,
    host_row: usize,
    host_slice: usize,
    host: *const c_void,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    let call = Call { queue, buffer, blocking, count, waits, event };
    // SAFETY: the program's arrays, as the specification says.
    let areas =
        || unsafe { rects([buffer_origin, host_origin, region], [buffer_row, buffer_slice, host_row, host_slice]) };
    code(|| call.run(Direction::Write, host.cast_mut(), areas))
}
