//! Enqueued commands.
use crate::backend::OpenCl;
use crate::constants as cl;
use crate::ffi::{Api, Raw};
use crate::handle::{Event, Queue};
use crate::library::check;
use kasoku_abi::accel::memory::{MAP_DISCARD, MAP_READ, MAP_WRITE};
use kasoku_backend::{Command, Completion, Result};

/// Handles of a wait list; short ones lie on the stack.
pub struct WaitList {
    short: [Raw; 8],
    long: Vec<Raw>,
    count: usize,
}

impl WaitList {
    pub fn new(events: &[&Event]) -> Self {
        let mut list = Self { short: [core::ptr::null_mut(); 8], long: Vec::new(), count: events.len() };
        if events.len() <= list.short.len() {
            for (slot, event) in list.short.iter_mut().zip(events) {
                *slot = event.0.raw();
            }
        } else {
            list.long = events.iter().map(|event| event.0.raw()).collect();
        }
        list
    }

    pub fn count(&self) -> u32 {
        self.count as u32
    }

    /// Null for an empty list, as the specification wants it.
    pub fn pointer(&self) -> *const Raw {
        match self.count {
            0 => core::ptr::null(),
            _ if self.long.is_empty() => self.short.as_ptr(),
            _ => self.long.as_ptr(),
        }
    }
}

fn map_flags(flags: u32) -> u64 {
    let pairs = [(MAP_READ, cl::MAP_READ), (MAP_WRITE, cl::MAP_WRITE), (MAP_DISCARD, cl::MAP_WRITE_INVALIDATE)];
    pairs.iter().filter(|(ours, _)| flags & ours != 0).map(|(_, theirs)| theirs).sum()
}

/// Enqueues one command; the memory that it names is the broker's to keep valid (`HostBytes`).
pub fn enqueue(
    api: &'static Api,
    queue: &Queue,
    command: &Command<'_, OpenCl>,
    waits: &[&Event],
    completion: Completion,
) -> Result<Option<Event>> {
    let list = WaitList::new(waits);
    let (count, waits) = (list.count(), list.pointer());
    let queue = queue.0.raw();
    let blocking = u32::from(completion == Completion::Wait);
    let mut raw: Raw = core::ptr::null_mut();
    let event: *mut Raw = if completion == Completion::Event { &raw mut raw } else { core::ptr::null_mut() };
    // SAFETY, for every call below: queue, buffers, images, kernel and events are live objects of the same implementation; the wait
    // list is given with its length; sizes and offsets inside buffers are checked by the implementation; host memory stays
    // mapped (`HostBytes`) and was checked by the broker to hold what the command moves.
    let status = match *command {
        // SAFETY: see above.
        Command::Marker => unsafe { (api.enqueue_marker_with_wait_list)(queue, count, waits, event) },
        // SAFETY: see above.
        Command::Barrier => unsafe { (api.enqueue_barrier_with_wait_list)(queue, count, waits, event) },
        // SAFETY: see above.
        Command::Read { buffer, offset, data } => unsafe {
            let (memory, host) = (buffer.handle.raw(), data.as_ptr().cast());
            (api.enqueue_read_buffer)(queue, memory, blocking, offset, data.len(), host, count, waits, event)
        },
        // SAFETY: see above.
        Command::Write { buffer, offset, data } => unsafe {
            let (memory, host) = (buffer.handle.raw(), data.as_ptr().cast_const().cast());
            (api.enqueue_write_buffer)(queue, memory, blocking, offset, data.len(), host, count, waits, event)
        },
        // SAFETY: see above.
        Command::Copy { source, destination, source_offset, destination_offset, size } => unsafe {
            let (from, to) = (source.handle.raw(), destination.handle.raw());
            (api.enqueue_copy_buffer)(queue, from, to, source_offset, destination_offset, size, count, waits, event)
        },
        // SAFETY: see above; the pattern is copied by the call.
        Command::Fill { buffer, pattern, offset, size } => unsafe {
            let (memory, start) = (buffer.handle.raw(), pattern.as_ptr().cast());
            (api.enqueue_fill_buffer)(queue, memory, start, pattern.len(), offset, size, count, waits, event)
        },
        // SAFETY: see above.
        Command::ReadRect { buffer, ref rect, data } => unsafe {
            (api.enqueue_read_buffer_rect)(
                queue,
                buffer.handle.raw(),
                blocking,
                rect.first_origin.as_ptr(),
                rect.second_origin.as_ptr(),
                rect.region.as_ptr(),
                rect.first_pitches[0],
                rect.first_pitches[1],
                rect.second_pitches[0],
                rect.second_pitches[1],
                data.as_ptr().cast(),
                count,
                waits,
                event,
            )
        },
        // SAFETY: see above.
        Command::WriteRect { buffer, ref rect, data } => unsafe {
            (api.enqueue_write_buffer_rect)(
                queue,
                buffer.handle.raw(),
                blocking,
                rect.first_origin.as_ptr(),
                rect.second_origin.as_ptr(),
                rect.region.as_ptr(),
                rect.first_pitches[0],
                rect.first_pitches[1],
                rect.second_pitches[0],
                rect.second_pitches[1],
                data.as_ptr().cast_const().cast(),
                count,
                waits,
                event,
            )
        },
        // SAFETY: see above.
        Command::CopyRect { source, destination, ref rect } => unsafe {
            (api.enqueue_copy_buffer_rect)(
                queue,
                source.handle.raw(),
                destination.handle.raw(),
                rect.first_origin.as_ptr(),
                rect.second_origin.as_ptr(),
                rect.region.as_ptr(),
                rect.first_pitches[0],
                rect.first_pitches[1],
                rect.second_pitches[0],
                rect.second_pitches[1],
                count,
                waits,
                event,
            )
        },
        Command::Map { buffer, offset, storage, flags } => {
            let mut status = 0;
            let (memory, flags) = (buffer.handle.raw(), map_flags(flags));
            // SAFETY: see above. The pointer that comes back is the storage (OpenCL 5.2.4: for a buffer over host memory).
            unsafe {
                let size = storage.len();
                (api.enqueue_map_buffer)(queue, memory, 0, flags, offset, size, count, waits, event, &raw mut status)
            };
            status
        }
        // SAFETY: see above; `storage` is what the map call returned.
        Command::Unmap { buffer, storage } => unsafe {
            let (memory, host) = (buffer.handle.raw(), storage.as_ptr().cast());
            (api.enqueue_unmap_mem_object)(queue, memory, host, count, waits, event)
        },
        // SAFETY: see above.
        Command::ReadImage { image, ref origin, ref region, pitches: [row, slice], data } => unsafe {
            let (image, origin, region, host) = (image.0.raw(), origin.as_ptr(), region.as_ptr(), data.as_ptr().cast());
            (api.enqueue_read_image)(queue, image, 0, origin, region, row, slice, host, count, waits, event)
        },
        // SAFETY: see above.
        Command::WriteImage { image, ref origin, ref region, pitches: [row, slice], data } => unsafe {
            let (image, origin, region) = (image.0.raw(), origin.as_ptr(), region.as_ptr());
            let host = data.as_ptr().cast_const().cast();
            (api.enqueue_write_image)(queue, image, 0, origin, region, row, slice, host, count, waits, event)
        },
        // SAFETY: see above.
        Command::CopyImage { source, destination, ref source_origin, ref destination_origin, ref region } => unsafe {
            let (from, to) = (source.0.raw(), destination.0.raw());
            let (from_origin, to_origin) = (source_origin.as_ptr(), destination_origin.as_ptr());
            (api.enqueue_copy_image)(queue, from, to, from_origin, to_origin, region.as_ptr(), count, waits, event)
        },
        Command::FillImage { image, colour, ref origin, ref region } => {
            // Read as four words: aligned as such.
            let words = colour.as_chunks::<4>().0;
            let colour: [u32; 4] = core::array::from_fn(|n| u32::from_le_bytes(words[n]));
            let (image, origin, region) = (image.0.raw(), origin.as_ptr(), region.as_ptr());
            // SAFETY: see above; the colour is copied by the call.
            unsafe {
                let colour = colour.as_ptr().cast();
                (api.enqueue_fill_image)(queue, image, colour, origin, region, count, waits, event)
            }
        }
        // SAFETY: see above.
        Command::ImageToBuffer { image, buffer, ref origin, ref region, offset } => unsafe {
            let (image, buffer) = (image.0.raw(), buffer.handle.raw());
            let (origin, region) = (origin.as_ptr(), region.as_ptr());
            (api.enqueue_copy_image_to_buffer)(queue, image, buffer, origin, region, offset, count, waits, event)
        },
        // SAFETY: see above.
        Command::BufferToImage { buffer, image, offset, ref origin, ref region } => unsafe {
            let (image, buffer) = (image.0.raw(), buffer.handle.raw());
            let (origin, region) = (origin.as_ptr(), region.as_ptr());
            (api.enqueue_copy_buffer_to_image)(queue, buffer, image, offset, origin, region, count, waits, event)
        },
        Command::Launch { kernel, dimensions, ref offset, ref global, ref local } => {
            let one = [1usize; 3];
            let zero = [0usize; 3];
            let task = dimensions == 0;
            let (dimensions, offset, global) = if task { (1, &zero, &one) } else { (dimensions, offset, global) };
            let local = match local {
                _ if task => one.as_ptr(),
                Some(local) => local.as_ptr(),
                None => core::ptr::null(),
            };
            let kernel = kernel.handle.raw();
            // SAFETY: see above; every size array has three elements and `dimensions` is at most 3.
            unsafe {
                let (offset, global) = (offset.as_ptr(), global.as_ptr());
                (api.enqueue_nd_range_kernel)(queue, kernel, dimensions, offset, global, local, count, waits, event)
            }
        }
    };
    check(status)?;
    // SAFETY: the call succeeded, so a requested event is new and ours.
    Ok((!raw.is_null()).then(|| unsafe { Event::own(api, raw) }))
}
