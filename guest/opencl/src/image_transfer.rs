//! Reading and writing images.
use alloc::sync::Arc;
use core::ffi::c_void;

use kasoku_abi::accel::command::{CREATE_QUEUE, READ_IMAGE, RELEASE, WRITE_IMAGE};
use kasoku_abi::accel::{Id, Range, image, memory, object};
use kasoku_accel_client::Command;

use crate::backlog::Action;
use crate::cl::*;
use crate::driver::Driver;
use crate::error::{Result, code, ensure, gone, status};
use crate::handle::{Raw, get};
use crate::image::Image;
use crate::order::Order;
use crate::queue::Queue;
use crate::rect::Rect;
use crate::transfer::{CHUNK, Direction, triple};

/// Most bytes that go through the arena at a time.
pub fn chunk(driver: &Driver) -> u64 {
    CHUNK.min(driver.session.arena_len() / 8)
}

/// A copy between an image and the program's memory.
#[derive(Clone, Copy)]
pub struct Transfer<'i> {
    pub image: &'i Image,
    pub direction: Direction,
    pub origin: [u64; 3],
    pub region: [u64; 3],
    /// The region in the program's memory.
    pub host: Rect,
}

impl Transfer<'_> {
    /// Performs or posts the transfer.
    pub fn run(&self, order: Order<'_>, blocking: bool) -> Result<()> {
        let driver = order.queue.context.driver;
        let (start, len) = self.host.extent();
        driver.backlog.arrive(start, len)?;
        // A kernel behind this command may look at shared virtual memory: what goes there must not come later.
        let blocking = blocking || driver.blocks.touch(start, len);
        if self.host.area.len() <= chunk(driver) { self.staged(order, blocking) } else { self.in_chunks(order) }
    }

    fn command(&self, queue: Id, data: Range) -> Command<'static> {
        let operation = if self.direction == Direction::Read { READ_IMAGE } else { WRITE_IMAGE };
        let body = image::TransferImage { image: self.image.id, origin: self.origin, region: self.region, data };
        self.image.context.driver.command(operation, queue).body(&body)
    }

    /// Through one range of the arena.
    fn staged(&self, order: Order<'_>, blocking: bool) -> Result<()> {
        let driver = self.image.context.driver;
        let staging = driver.take(self.host.area.len(), memory::STORAGE_ALIGN)?;
        let address = driver.session.address(staging);
        if self.direction == Direction::Write {
            // SAFETY: the range is ours and as long as the region.
            unsafe { self.host.gather(address) };
        }
        let command = self.command(order.queue.id, staging);
        let uses = [&*self.image.uses];
        if !blocking {
            let action = match self.direction {
                Direction::Read => Action::CopyOut { staging, target: self.host },
                Direction::Write => Action::Free(staging),
            };
            return order.ask(command, &uses, Some(action));
        }
        let result = order.run(command, &uses);
        if result.is_ok() && self.direction == Direction::Read {
            // SAFETY: the broker has filled the range.
            unsafe { self.host.scatter(address) };
        }
        driver.session.give(staging);
        result
    }

    /// The parts of a region that is too large for one range.
    fn parts(&self) -> impl Iterator<Item = Self> {
        let dimension = self.region.iter().rposition(|&n| n > 1).unwrap_or(0);
        let unit = self.region[..dimension].iter().product::<u64>() * self.image.layout.element;
        let step = (chunk(self.image.context.driver) / unit).max(1);
        let (count, whole) = (self.region[dimension], *self);
        // The program's memory is counted in bytes along the first dimension.
        let scale = if dimension == 0 { self.image.layout.element } else { 1 };
        (0..count.div_ceil(step)).map(move |number| {
            let (from, n) = (number * step, step.min(count - number * step));
            let mut part = whole;
            part.origin[dimension] += from;
            part.region[dimension] = n;
            part.host.area = whole.host.area.part(dimension, from * scale, n * scale);
            part
        })
    }

    /// One part after the other; blocks, as it would wait for room in the arena anyway.
    fn in_chunks(&self, order: Order<'_>) -> Result<()> {
        let mut parts = self.parts().peekable();
        while let Some(part) = parts.next() {
            let part_order = if parts.peek().is_some() { order.without_event() } else { order.again() };
            if part.host.area.len() <= chunk(self.image.context.driver) {
                part.staged(part_order, true)?;
            } else {
                part.in_chunks(part_order)?;
            }
        }
        Ok(())
    }

    /// Writes through a range that is lent, on a queue of which only the broker knows.
    fn write_with(&self, queue: Id, staging: Range) -> Result<()> {
        let driver = self.image.context.driver;
        if self.host.area.len() > staging.len {
            return self.parts().try_for_each(|part| part.write_with(queue, staging));
        }
        let data = Range { len: self.host.area.len(), ..staging };
        // SAFETY: the range is ours and at least as long as the region.
        unsafe { self.host.gather(driver.session.address(data)) };
        let answer = self.command(queue, data).blocking().call().map_err(gone)?;
        status(answer.status)
    }
}

/// First contents of an image that are too large to go with its creation.
pub fn upload(image: &Arc<Image>, host: Rect) -> Result<()> {
    let driver = image.context.driver;
    let queue = driver.session.new_id();
    let body = object::CreateQueue { context: image.context.id, device: image.context.devices[0].index, flags: 0 };
    driver.command(CREATE_QUEUE, queue).body(&body).post().map_err(gone)?;
    let staging = driver.take(chunk(driver), memory::STORAGE_ALIGN)?;
    let (origin, region) = ([0; 3], image.layout.extent);
    let result = Transfer { image, direction: Direction::Write, origin, region, host }.write_with(queue, staging);
    driver.session.give(staging);
    let _ = driver.command(RELEASE, queue).post();
    result
}

/// Arguments that both calls share.
struct Call {
    queue: Raw,
    image: Raw,
    blocking: u32,
    origin: *const usize,
    region: *const usize,
    row_pitch: usize,
    slice_pitch: usize,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
}

impl Call {
    /// # Safety
    /// `origin` and `region` are null or have three elements; `host` has the region.
    unsafe fn run(self, direction: Direction, host: *mut c_void) -> Result<()> {
        let queue = get::<Queue>(self.queue)?;
        let image = get::<Image>(self.image)?;
        image.check_use(&queue.context)?;
        ensure(!host.is_null(), CL_INVALID_VALUE)?;
        // SAFETY: the caller's promise.
        let (origin, region) = unsafe { (triple(self.origin)?, triple(self.region)?) };
        let (origin, region) = image.layout.check(origin, region)?;
        let pitches = image.layout.pitches(region, self.row_pitch, self.slice_pitch)?;
        let area = image.layout.area(region, pitches)?;
        let (kind, forbidden) = match direction {
            Direction::Read => (CL_COMMAND_READ_IMAGE, CL_MEM_HOST_WRITE_ONLY),
            Direction::Write => (CL_COMMAND_WRITE_IMAGE, CL_MEM_HOST_READ_ONLY),
        };
        let order = Order::new(&queue, kind, self.count, self.waits, self.event)?;
        image.check_host_access(forbidden)?;
        let host = Rect::new(host.cast(), area);
        Transfer { image: &image, direction, origin, region, host }.run(order, self.blocking != 0)
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueReadImage(
    queue: Raw,
    image: Raw,
    blocking: u32,
    origin: *const usize,
    region: *const usize,
    row_pitch: usize,
    slice_pitch: usize,
    host: *mut c_void,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    let call = Call { queue, image, blocking, origin, region, row_pitch, slice_pitch, count, waits, event };
    // SAFETY: the program's arrays and memory, as the specification says.
    code(|| unsafe { call.run(Direction::Read, host) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueWriteImage(
    queue: Raw,
    image: Raw,
    blocking: u32,
    origin: *const usize,
    region: *const usize,
    row_pitch: usize,
    slice_pitch: usize,
    host: *const c_void,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    let call = Call { queue, image, blocking, origin, region, row_pitch, slice_pitch, count, waits, event };
    // SAFETY: the program's arrays and memory, as the specification says.
    code(|| unsafe { call.run(Direction::Write, host.cast_mut()) })
}
