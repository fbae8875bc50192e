//! Everything that goes to a queue.
use super::events::wait;
use super::images::packed_pitches;
use super::table::{Buffer, Ended, Event, Image, Object, Queue};
use super::{Answer, Engine, Outcome, Step, body};
use kasoku_abi::accel::command::{self, Descriptor, FLAG_BLOCKING, FLAG_REPLY};
use kasoku_abi::accel::image::COLOUR_LEN;
use kasoku_abi::accel::kernel::Launch;
use kasoku_abi::accel::memory::{Copy, CopyRect, Fill, MAP_DISCARD, MAP_READ, MAP_WRITE, Map, Transfer, TransferRect};
use kasoku_abi::accel::{Id, NO_ID};
use kasoku_backend::{Backend, Command, Completion, HostBytes, Index3, Rect, Status};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// A checked command that owns what it needs, so that a blocking one can run beside others.
pub(super) enum Work<B: Backend> {
    Marker,
    Barrier,
    Read(Arc<Buffer<B>>, usize, HostBytes),
    Write(Arc<Buffer<B>>, usize, HostBytes),
    Copy(Arc<Buffer<B>>, Arc<Buffer<B>>, Copy),
    Fill(Arc<Buffer<B>>, Fill),
    ReadRect(Arc<Buffer<B>>, Rect, HostBytes),
    WriteRect(Arc<Buffer<B>>, Rect, HostBytes),
    CopyRect(Arc<Buffer<B>>, Arc<Buffer<B>>, Rect),
    Map(Arc<Buffer<B>>, Map, HostBytes),
    /// As `Map`, of a buffer that is apart from its storage.
    Fetch(Arc<Buffer<B>>, Map, HostBytes),
    Unmap(Arc<Buffer<B>>, HostBytes),
    /// Origin, region, packed data.
    ReadImage(Arc<Image<B>>, Index3, Index3, HostBytes),
    WriteImage(Arc<Image<B>>, Index3, Index3, HostBytes),
    /// Source's origin, destination's origin, region.
    CopyImage(Arc<Image<B>>, Arc<Image<B>>, [Index3; 3]),
    FillImage(Arc<Image<B>>, [u8; COLOUR_LEN], Index3, Index3),
    /// Origin, region, offset in the buffer.
    ImageToBuffer(Arc<Image<B>>, Arc<Buffer<B>>, Index3, Index3, usize),
    BufferToImage(Arc<Image<B>>, Arc<Buffer<B>>, Index3, Index3, usize),
}

impl<B: Backend> Work<B> {
    fn command(&self) -> Command<'_, B> {
        match self {
            Self::Marker => Command::Marker,
            Self::Barrier => Command::Barrier,
            Self::Read(buffer, offset, data) => Command::Read { buffer: &buffer.raw, offset: *offset, data: *data },
            Self::Write(buffer, offset, data) => Command::Write { buffer: &buffer.raw, offset: *offset, data: *data },
            Self::Copy(source, destination, copy) => Command::Copy {
                source: &source.raw,
                destination: &destination.raw,
                source_offset: copy.source_offset as usize,
                destination_offset: copy.destination_offset as usize,
                size: copy.size as usize,
            },
            Self::Fill(buffer, fill) => Command::Fill {
                buffer: &buffer.raw,
                pattern: &fill.pattern[..fill.pattern_len as usize],
                offset: fill.offset as usize,
                size: fill.size as usize,
            },
            Self::ReadRect(buffer, rect, data) => Command::ReadRect { buffer: &buffer.raw, rect: *rect, data: *data },
            Self::WriteRect(buffer, rect, data) => Command::WriteRect { buffer: &buffer.raw, rect: *rect, data: *data },
            Self::CopyRect(source, destination, rect) => {
                Command::CopyRect { source: &source.raw, destination: &destination.raw, rect: *rect }
            }
            Self::Map(buffer, map, storage) => {
                Command::Map { buffer: &buffer.raw, offset: map.offset as usize, storage: *storage, flags: map.flags }
            }
            Self::Fetch(_, map, _) if map.flags & MAP_DISCARD != 0 => Command::Marker,
            Self::Fetch(buffer, map, storage) => {
                Command::Read { buffer: &buffer.raw, offset: map.offset as usize, data: *storage }
            }
            Self::Unmap(buffer, storage) => Command::Unmap { buffer: &buffer.raw, storage: *storage },
            Self::ReadImage(image, origin, region, data) => Command::ReadImage {
                image: &image.raw,
                origin: *origin,
                region: *region,
                pitches: packed_pitches(image, *region),
                data: *data,
            },
            Self::WriteImage(image, origin, region, data) => Command::WriteImage {
                image: &image.raw,
                origin: *origin,
                region: *region,
                pitches: packed_pitches(image, *region),
                data: *data,
            },
            Self::CopyImage(source, destination, [source_origin, destination_origin, region]) => Command::CopyImage {
                source: &source.raw,
                destination: &destination.raw,
                source_origin: *source_origin,
                destination_origin: *destination_origin,
                region: *region,
            },
            Self::FillImage(image, colour, origin, region) => {
                Command::FillImage { image: &image.raw, colour, origin: *origin, region: *region }
            }
            Self::ImageToBuffer(image, buffer, origin, region, offset) => Command::ImageToBuffer {
                image: &image.raw,
                buffer: &buffer.raw,
                origin: *origin,
                region: *region,
                offset: *offset,
            },
            Self::BufferToImage(image, buffer, origin, region, offset) => Command::BufferToImage {
                buffer: &buffer.raw,
                image: &image.raw,
                offset: *offset,
                origin: *origin,
                region: *region,
            },
        }
    }

    /// Whether the backend can carry it out in one blocking call. Not those of images: Intel's blocking write of an image
    /// returns while it is still being written.
    fn is_transfer(&self) -> bool {
        matches!(self, Self::Read(..) | Self::Write(..) | Self::ReadRect(..) | Self::WriteRect(..))
    }
}

/// The answer of a blocking command that has completed: what it read may be wrong when one before it was refused.
fn after_those_before<B: Backend>(queue: &Queue<B>) -> Outcome {
    if queue.in_order {
        queue.take_failure()?;
    }
    Ok(Answer::default())
}

impl<B: Backend> Engine<B> {
    /// An enqueued command, or an operation that nobody knows.
    pub(super) fn enqueue(&mut self, descriptor: &Descriptor) -> Step {
        let replied = descriptor.flags & FLAG_REPLY != 0;
        let result = self.try_enqueue(descriptor);
        if let (Err(status), false) = (&result, replied) {
            self.keep_failure(descriptor, *status);
        }
        result.unwrap_or_else(|status| Step::Done(Err(status)))
    }

    /// A posted command failed: its event and its queue tell later.
    pub(super) fn keep_failure(&mut self, descriptor: &Descriptor, status: Status) {
        if let Ok(queue) = self.table.queue(descriptor.target) {
            let _ = queue.failure.compare_exchange(0, status.0, Ordering::Relaxed, Ordering::Relaxed);
        }
        if descriptor.event != NO_ID && self.table.check_new(descriptor.event).is_ok() {
            let event = Event { id: descriptor.event, raw: Err(Ended::failed(status)), user: None };
            self.table.insert(descriptor.event, Object::Event(Arc::new(event)));
        }
    }

    fn try_enqueue(&mut self, descriptor: &Descriptor) -> Result<Step, Status> {
        let known = (command::READ_BUFFER..=command::UNMAP_BUFFER).contains(&descriptor.operation)
            || (command::READ_IMAGE..=command::COPY_BUFFER_TO_IMAGE).contains(&descriptor.operation)
            || [command::LAUNCH, command::MARKER, command::BARRIER].contains(&descriptor.operation);
        if !known {
            return Err(B::CODES.bad_value);
        }
        let queue = Arc::clone(self.table.queue(descriptor.target)?);
        if descriptor.event != NO_ID {
            self.table.check_new(descriptor.event)?;
        }
        let waits = self.waits(descriptor)?;
        if waits.iter().any(|event| event.raw.as_ref().is_err_and(Ended::has_failed)) {
            return Err(B::CODES.wait_failed);
        }
        let blocking = descriptor.flags & (FLAG_REPLY | FLAG_BLOCKING) == FLAG_REPLY | FLAG_BLOCKING;
        let named = descriptor.event;
        let completion = if blocking || named != NO_ID { Completion::Event } else { Completion::Nobody };
        let event = if descriptor.operation == command::LAUNCH {
            self.launch(&queue, body(descriptor), &raw_waits(&waits), completion)?
        } else {
            let work = self.work(descriptor)?;
            if blocking && named == NO_ID && work.is_transfer() {
                let backend = Arc::clone(&self.backend);
                self.busy &= !queue.in_order;
                return Ok(Step::Later(Box::new(move || {
                    backend.enqueue(&queue.raw, &work.command(), &raw_waits(&waits), Completion::Wait)?;
                    after_those_before(&queue)
                })));
            }
            let event = self.backend.enqueue(&queue.raw, &work.command(), &raw_waits(&waits), completion)?;
            self.note_mapping(&work);
            event
        };
        self.busy = true;
        let Some(event) = event else { return Ok(Step::from(Ok(()))) };
        let event = Arc::new(Event { id: named, raw: Ok(event), user: None });
        if named != NO_ID {
            self.table.insert(named, Object::Event(Arc::clone(&event)));
        }
        if !blocking {
            return Ok(Step::from(Ok(())));
        }
        self.busy &= !queue.in_order;
        let backend = Arc::clone(&self.backend);
        Ok(Step::Later(Box::new(move || {
            wait(&*backend, &[event])?;
            after_those_before(&queue)
        })))
    }

    fn launch(
        &mut self,
        queue: &Queue<B>,
        launch: Launch,
        waits: &[&B::Event],
        completion: Completion,
    ) -> Result<Option<B::Event>, Status> {
        let kernel = self.table.kernel(launch.kernel)?;
        if let Some((_, status)) = kernel.failed.first() {
            return Err(*status);
        }
        if kernel.memory.iter().any(|(_, memory)| memory.strong_count() == 0) {
            return Err(B::CODES.bad_buffer);
        }
        if launch.dimensions > 3 || launch.has_local_size > 1 {
            return Err(B::CODES.bad_value);
        }
        let command = Command::Launch {
            kernel: &kernel.raw,
            dimensions: launch.dimensions,
            offset: index3(launch.global_offset),
            global: index3(launch.global_size),
            local: (launch.has_local_size == 1).then(|| index3(launch.local_size)),
        };
        self.backend.enqueue(&queue.raw, &command, waits, completion)
    }

    /// Checks a command's body.
    fn work(&self, descriptor: &Descriptor) -> Result<Work<B>, Status> {
        let buffer = |id: Id| self.table.buffer(id).map(Arc::clone);
        Ok(match descriptor.operation {
            command::MARKER => Work::Marker,
            command::BARRIER => Work::Barrier,
            command::READ_BUFFER | command::WRITE_BUFFER => {
                let transfer: Transfer = body(descriptor);
                let data = self.bytes(transfer.data)?;
                let memory = buffer(transfer.buffer)?;
                inside::<B>(transfer.offset, transfer.data.len, memory.size)?;
                let make = if descriptor.operation == command::READ_BUFFER { Work::Read } else { Work::Write };
                make(memory, transfer.offset as usize, data)
            }
            command::COPY_BUFFER => {
                let copy: Copy = body(descriptor);
                let (source, destination) = (buffer(copy.source)?, buffer(copy.destination)?);
                inside::<B>(copy.source_offset, copy.size, source.size)?;
                inside::<B>(copy.destination_offset, copy.size, destination.size)?;
                Work::Copy(source, destination, copy)
            }
            command::FILL_BUFFER => {
                let fill: Fill = body(descriptor);
                if !fill.pattern_len.is_power_of_two() || fill.pattern_len as usize > fill.pattern.len() {
                    return Err(B::CODES.bad_value);
                }
                let memory = buffer(fill.buffer)?;
                inside::<B>(fill.offset, fill.size, memory.size)?;
                Work::Fill(memory, fill)
            }
            command::READ_BUFFER_RECT | command::WRITE_BUFFER_RECT => {
                let transfer: TransferRect = body(descriptor);
                let data = self.bytes(transfer.data)?;
                let memory = buffer(transfer.buffer)?;
                let rect = Rect {
                    first_origin: index3(transfer.buffer_origin),
                    second_origin: index3(transfer.host_origin),
                    region: index3(transfer.region),
                    first_pitches: [transfer.buffer_row_pitch as usize, transfer.buffer_slice_pitch as usize],
                    second_pitches: [transfer.host_row_pitch as usize, transfer.host_slice_pitch as usize],
                };
                box_inside::<B>(rect.first_origin, rect.region, rect.first_pitches, memory.size)?;
                box_inside::<B>(rect.second_origin, rect.region, rect.second_pitches, data.len() as u64)?;
                let make =
                    if descriptor.operation == command::READ_BUFFER_RECT { Work::ReadRect } else { Work::WriteRect };
                make(memory, rect, data)
            }
            command::COPY_BUFFER_RECT => {
                let copy: CopyRect = body(descriptor);
                let (source, destination) = (buffer(copy.source)?, buffer(copy.destination)?);
                let rect = Rect {
                    first_origin: index3(copy.source_origin),
                    second_origin: index3(copy.destination_origin),
                    region: index3(copy.region),
                    first_pitches: [copy.source_row_pitch as usize, copy.source_slice_pitch as usize],
                    second_pitches: [copy.destination_row_pitch as usize, copy.destination_slice_pitch as usize],
                };
                box_inside::<B>(rect.first_origin, rect.region, rect.first_pitches, source.size)?;
                box_inside::<B>(rect.second_origin, rect.region, rect.second_pitches, destination.size)?;
                Work::CopyRect(source, destination, rect)
            }
            command::MAP_BUFFER | command::UNMAP_BUFFER => self.map(descriptor.operation, body(descriptor))?,
            _ => self.image_work(descriptor)?,
        })
    }

    fn map(&self, operation: u32, map: Map) -> Result<Work<B>, Status> {
        let buffer = Arc::clone(self.table.buffer(map.buffer)?);
        let storage = buffer.storage.ok_or(B::CODES.bad_operation)?;
        inside::<B>(map.offset, map.size, buffer.size)?;
        let storage = storage.part(map.offset as usize, map.size as usize).ok_or(B::CODES.bad_value)?;
        if operation == command::MAP_BUFFER {
            if map.flags & !(MAP_READ | MAP_WRITE | MAP_DISCARD) != 0 {
                return Err(B::CODES.bad_value);
            }
            let make = if self.is_recoverable() { Work::Fetch } else { Work::Map };
            return Ok(make(buffer, map, storage));
        }
        let mut maps = buffer.maps.lock().unwrap_or_else(PoisonError::into_inner);
        let mapped = maps.iter().position(|&known| known == (map.offset, map.size)).ok_or(B::CODES.bad_value)?;
        maps.swap_remove(mapped);
        drop(maps);
        if self.is_recoverable() {
            let data = self.mapped_range(&map).ok_or(B::CODES.bad_value)?;
            return Ok(Work::Write(buffer, map.offset as usize, self.bytes(data)?));
        }
        Ok(Work::Unmap(buffer, storage))
    }

    /// Remembers a mapping, so that only what is mapped is ever unmapped.
    fn note_mapping(&self, work: &Work<B>) {
        if let Work::Map(buffer, map, _) | Work::Fetch(buffer, map, _) = work {
            buffer.maps.lock().unwrap_or_else(PoisonError::into_inner).push((map.offset, map.size));
        }
    }
}

fn raw_waits<B: Backend>(waits: &[Arc<Event<B>>]) -> Vec<&B::Event> {
    waits.iter().filter_map(|event| event.raw.as_ref().ok()).collect()
}

pub(super) fn index3(values: [u64; 3]) -> Index3 {
    values.map(|value| value as usize)
}

/// `[offset, offset + len)` is not empty and lies inside `[0, size)`.
pub(super) fn inside<B: Backend>(offset: u64, len: u64, size: u64) -> Result<(), Status> {
    match offset.checked_add(len) {
        Some(end) if end <= size && len != 0 => Ok(()),
        _ => Err(B::CODES.bad_value),
    }
}

/// Whether a box of bytes lies inside a memory of `size` bytes, with the specification's rules for pitches (OpenCL 5.2.2).
fn box_inside<B: Backend>(origin: Index3, region: Index3, pitches: [usize; 2], size: u64) -> Result<(), Status> {
    let last = || -> Option<u64> {
        let [x, y, z] = region.map(|length| length as u64);
        if x == 0 || y == 0 || z == 0 {
            return None;
        }
        let row = if pitches[0] == 0 { x } else { pitches[0] as u64 };
        let slice = if pitches[1] == 0 { row.checked_mul(y)? } else { pitches[1] as u64 };
        if row < x || slice < row.checked_mul(y)? || slice % row != 0 {
            return None;
        }
        let [ox, oy, oz] = origin.map(|start| start as u64);
        let start = oz.checked_mul(slice)?.checked_add(oy.checked_mul(row)?)?.checked_add(ox)?;
        start.checked_add((z - 1).checked_mul(slice)?)?.checked_add((y - 1).checked_mul(row)?)?.checked_add(x)
    };
    match last() {
        Some(end) if end <= size => Ok(()),
        _ => Err(B::CODES.bad_value),
    }
}
