//! Reading a session: every object is made again, before the first command is taken.
//!
//! The file is genuine, but a worker that had run a guest's kernels wrote it: its records are checked like a guest's.
use super::format::{self, *};
use super::save::{Queues, Waiting, bulk_start};
use crate::engine::images::{packed_len, packed_pitches};
use crate::engine::table::{Ended, Event, Object};
use crate::engine::{Engine, LongCall, events, programs};
use crate::journal::ReplayError;
use crate::link::{self, Message};
use crate::memory::Memory;
use crate::signature::split;
use kasoku_abi::accel::command::{self, Descriptor};
use kasoku_abi::accel::image::CreateImage;
use kasoku_abi::accel::kernel::{ARGUMENT_BYTES, INLINE_ARGUMENT};
use kasoku_abi::accel::object::CreateContext;
use kasoku_abi::accel::session::REPLY_SLOTS;
use kasoku_abi::accel::{Id, Range, memory};
use kasoku_backend::{Backend, BuildPhase, Command, Completion, HostBytes, Status};
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use zerocopy::{FromZeros, Immutable, IntoBytes};

/// Longest texts of a record that are copied.
const MOST_ARGUMENTS: u64 = 4096;

/// Why a session cannot be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the session file cannot be read: {0}")]
    File(#[from] rustix::io::Errno),
    #[error("the session file is damaged: {0}")]
    Damaged(&'static str),
    #[error("the session has {said} bytes of memory, this one has {given}")]
    MemorySize { said: u64, given: u64 },
    #[error("the session's memory is not the one that it was saved with, and the file does not hold it")]
    OtherMemory,
    #[error(transparent)]
    Journal(#[from] ReplayError),
    #[error("the device does not rebuild {what} {id}: {status}")]
    Device { what: &'static str, id: Id, status: Status },
}

impl From<Short> for RestoreError {
    fn from(_: Short) -> Self {
        Self::Damaged("a record ends too soon")
    }
}

/// What a rebuilt session goes on with.
pub struct Restored {
    /// Descriptors taken.
    pub head: u64,
    pub waiting: Vec<(Waiting, LongCall)>,
}

/// A mapped session file.
struct File {
    whole: HostBytes,
    bulk_start: u64,
}

impl File {
    /// Maps `file`, which cannot change any more, until the process ends.
    fn map(file: &OwnedFd, records_len: u64) -> Result<Self, RestoreError> {
        let len = rustix::fs::fstat(file)?.st_size as u64;
        if len < RECORDS || records_len > len - RECORDS {
            return Err(RestoreError::Damaged("its length"));
        }
        // SAFETY: a fresh mapping of a file that cannot change; it stays until the process ends, as `HostBytes` demands.
        // Nothing writes through it: devices read from it, and it is mapped without the right to write.
        let whole = unsafe {
            let access = ProtFlags::READ;
            // All of it is read, and a fault for each page would take longer than the reading.
            let flags = MapFlags::SHARED | MapFlags::POPULATE;
            let start = rustix::mm::mmap(core::ptr::null_mut(), len as usize, access, flags, file, 0)?;
            HostBytes::new(start.cast(), len as usize)
        };
        Ok(Self { whole, bulk_start: bulk_start(records_len) })
    }

    /// `len` bytes at `at` of the contents.
    fn bulk(&self, at: u64, len: u64) -> Result<HostBytes, RestoreError> {
        let start = at.checked_add(self.bulk_start).filter(|_| len <= self.whole.len() as u64);
        start
            .and_then(|start| self.whole.part(usize::try_from(start).ok()?, len as usize))
            .ok_or(RestoreError::Damaged("contents lie outside"))
    }
}

/// The descriptor of a command that makes an object.
fn creation(operation: u32, target: Id, body: &(impl IntoBytes + Immutable)) -> Descriptor {
    let mut descriptor = Descriptor::new_zeroed();
    (descriptor.operation, descriptor.target) = (operation, target);
    let bytes = body.as_bytes();
    descriptor.body[..bytes.len()].copy_from_slice(bytes);
    descriptor
}

impl<B: Backend> Engine<B> {
    /// Rebuilds all objects of `file`. The engine is new.
    pub fn restore(&mut self, file: &OwnedFd, records_len: u64) -> Result<Restored, RestoreError> {
        let file = File::map(file, records_len)?;
        let records =
            file.whole.part(RECORDS as usize, records_len as usize).ok_or(RestoreError::Damaged("its length"))?;
        let records = records.to_vec();
        let mut reader = Reader::new(&records);
        let (mut head, mut released, mut waiting) = (None, Vec::new(), Vec::new());
        let (mut fills, mut filled) = (false, false);
        while !reader.is_empty() {
            let (record, mut parts) = reader.record()?;
            fills |= record.kind == MEMORY;
            if fills && !filled && record.kind != MEMORY {
                // Whoever waits for the memory goes on meanwhile: commands wait in the ring.
                filled = self.companion.link().send_now(&Message::new(link::FILLED, 0), &[]).is_ok();
            }
            if record.flags & !RELEASED != 0 {
                return Err(RestoreError::Damaged("a record with unknown flags"));
            }
            if record.flags & RELEASED != 0 {
                released.push(record.id);
            }
            match record.kind {
                SESSION => {
                    let body: SessionBody = parts.take()?;
                    let given = self.memory.len();
                    if body.memory_len != given {
                        return Err(RestoreError::MemorySize { said: body.memory_len, given });
                    }
                    head = Some(body.head);
                }
                MEMORY => restore_memory(&self.memory, &file, &parts.take()?)?,
                WAIT => waiting.push(wait_of(&mut parts)?),
                _ => self.restore_object(&record, &mut parts, &file)?,
            }
        }
        for id in released {
            let _ = self.release(id);
        }
        let waiting = waiting.into_iter().map(|caller| Ok((caller.clone(), self.wait_again(&caller)?)));
        let waiting = waiting.collect::<Result<Vec<_>, RestoreError>>()?;
        Ok(Restored { head: head.ok_or(RestoreError::Damaged("it does not say how far it was"))?, waiting })
    }

    fn restore_object(&mut self, record: &Record, parts: &mut Reader<'_>, file: &File) -> Result<(), RestoreError> {
        let id = record.id;
        let what = match record.kind {
            CONTEXT => "context",
            QUEUE => "queue",
            BUFFER | SUB_BUFFER => "buffer",
            IMAGE => "image",
            SAMPLER => "sampler",
            PROGRAM => "program",
            KERNEL => "kernel",
            EVENT => "event",
            FAILED => "failed object",
            _ => return Err(RestoreError::Damaged("a record of unknown kind")),
        };
        let device = |status| RestoreError::Device { what, id, status };
        self.table.check_new(id).map_err(device)?;
        let object = match record.kind {
            CONTEXT => {
                let ContextBody { devices } = parts.take()?;
                self.create_context(&creation(command::CREATE_CONTEXT, id, &CreateContext { devices }))
                    .map_err(device)?
            }
            QUEUE => {
                let body: QueueBody = parts.take()?;
                let object = self.create_queue(&creation(command::CREATE_QUEUE, id, &body.create)).map_err(device)?;
                if let Object::Queue(queue) = &object {
                    queue.failure.store(body.failure.min(0), Ordering::Relaxed);
                }
                object
            }
            BUFFER => {
                let body: BufferBody = parts.take()?;
                let create = memory::CreateBuffer { initial: Range::NONE, ..body.create };
                let object = self.create_buffer(&creation(command::CREATE_BUFFER, id, &create)).map_err(device)?;
                let contents = match body.contents {
                    0 => None,
                    at => Some(file.bulk(at - 1, create.size)?),
                };
                self.restore_contents(&object, contents, body.maps, parts).map_err(|error| error.of(what, id))?;
                object
            }
            SUB_BUFFER => {
                let body: SubBufferBody = parts.take()?;
                let descriptor = creation(command::CREATE_SUB_BUFFER, id, &body.create);
                let object = self.create_sub_buffer(&descriptor).map_err(device)?;
                self.restore_contents(&object, None, body.maps, parts).map_err(|error| error.of(what, id))?;
                object
            }
            IMAGE => {
                let body: ImageBody = parts.take()?;
                let create = CreateImage { initial: Range::NONE, ..body.create };
                let object = self.create_image(&creation(command::CREATE_IMAGE, id, &create)).map_err(device)?;
                self.restore_elements(&object, body.contents, file)?;
                object
            }
            SAMPLER => {
                let body: SamplerBody = parts.take()?;
                self.create_sampler(&creation(command::CREATE_SAMPLER, id, &body)).map_err(device)?
            }
            PROGRAM => self.assemble_program(id, program_of(parts)?).map_err(device)?,
            KERNEL => return self.restore_kernel(id, parts),
            EVENT => self.event_of(id, &parts.take()?).map_err(device)?,
            _ => {
                let FailedBody { status, .. } = parts.take()?;
                Object::Failed(Status(status.min(-1)))
            }
        };
        self.table.insert(id, object);
        Ok(())
    }

    /// Writes a buffer's contents and maps what was mapped.
    fn restore_contents(
        &self,
        object: &Object<B>,
        contents: Option<HostBytes>,
        maps: u64,
        parts: &mut Reader<'_>,
    ) -> Result<(), Refused> {
        let Object::Buffer(buffer) = object else { return Ok(()) };
        if contents.is_none() && maps == 0 {
            return Ok(());
        }
        let device = buffer.context.devices.trailing_zeros();
        let queue = self.backend.create_queue(&buffer.context.raw, device, 0)?;
        if let Some(data) = contents {
            let write = Command::Write { buffer: &buffer.raw, offset: 0, data };
            self.backend.enqueue(&queue, &write, &[], Completion::Wait)?;
        }
        for _ in 0..maps {
            let MapBody { offset, len } = parts.take()?;
            let place = (usize::try_from(offset), usize::try_from(len));
            let storage = match (buffer.storage, place) {
                (Some(storage), (Ok(offset), Ok(len))) => storage.part(offset, len),
                _ => None,
            };
            let storage = storage.ok_or(Refused::Damaged)?;
            if !self.is_recoverable() {
                // The mapped bytes are where the guest has them: the device must not bring its own.
                let flags = memory::MAP_DISCARD;
                let map = Command::Map { buffer: &buffer.raw, offset: offset as usize, storage, flags };
                self.backend.enqueue(&queue, &map, &[], Completion::Nobody)?;
            }
            buffer.maps.lock().unwrap_or_else(PoisonError::into_inner).push((offset, len));
        }
        Ok(self.backend.finish(&queue)?)
    }

    /// Writes an image's contents, where it has any of its own.
    fn restore_elements(&self, object: &Object<B>, contents: u64, file: &File) -> Result<(), RestoreError> {
        let (Object::Image(image), Some(at)) = (object, contents.checked_sub(1)) else { return Ok(()) };
        if image.parent.is_some() {
            return Err(RestoreError::Damaged("contents of an image that has none of its own"));
        }
        let len = packed_len(&image.layout, image.layout.extent).ok_or(RestoreError::Damaged("an image's size"))?;
        let data = file.bulk(at, len)?;
        let region = image.layout.extent.map(|length| length as usize);
        let pitches = packed_pitches(image, region);
        let write = Command::WriteImage { image: &image.raw, origin: [0; 3], region, pitches, data };
        let mut queues = Queues { backend: &*self.backend, made: Vec::new() };
        let device = |status| RestoreError::Device { what: "image", id: image.id, status };
        queues.run(&image.context, &write).map_err(device)
    }

    fn restore_kernel(&mut self, id: Id, parts: &mut Reader<'_>) -> Result<(), RestoreError> {
        let device = |status| RestoreError::Device { what: "kernel", id, status };
        let body: KernelBody = parts.take()?;
        let name = core::str::from_utf8(parts.bytes(body.name_len)?);
        let name = name.map_err(|_| RestoreError::Damaged("a kernel's name"))?;
        if body.arguments > MOST_ARGUMENTS || body.failed > MOST_ARGUMENTS {
            return Err(RestoreError::Damaged("a kernel with too many arguments"));
        }
        let kernel = self.make_kernel(body.program, name).map_err(device)?;
        self.table.insert(id, kernel);
        for _ in 0..body.arguments {
            let setting: ArgumentBody = parts.take()?;
            let long = if is_inline(&setting) { &[][..] } else { parts.bytes(setting.size)? };
            // A buffer that is no more makes the argument one that a launch complains of, as before.
            let _ = self.set_copied_argument(id, &setting, Ok(long.to_vec()));
        }
        for _ in 0..body.failed {
            let FailedArgumentBody { index, status } = parts.take()?;
            let kernel = self.table.kernel_mut(id).map_err(device)?;
            kernel.failed.retain(|(known, _)| *known != index);
            kernel.failed.push((index, Status(status.min(-1))));
        }
        Ok(())
    }

    fn event_of(&self, id: Id, body: &EventBody) -> Result<Object<B>, Status> {
        let (raw, user) = if body.status > 0 {
            let context = Arc::clone(self.table.context(body.context)?);
            (Ok(self.backend.create_user_event(&context.raw)?), Some(context))
        } else {
            (Err(Ended { status: body.status, times: (body.has_times == 1).then_some(body.times) }), None)
        };
        Ok(Object::Event(Arc::new(Event { id, raw, user })))
    }

    /// The wait of a caller that was not answered.
    fn wait_again(&self, caller: &Waiting) -> Result<LongCall, RestoreError> {
        let find = |id: &Id| self.table.event(*id).map(Arc::clone);
        let list = caller.events.iter().map(find).collect::<Result<Vec<_>, Status>>();
        let list = list.map_err(|_| RestoreError::Damaged("a caller waits for what is no event"))?;
        let backend = Arc::clone(&self.backend);
        Ok(Box::new(move || events::wait(&*backend, &list)))
    }
}

/// Why contents are not restored.
enum Refused {
    Device(Status),
    Damaged,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self::Device(status)
    }
}

impl From<Short> for Refused {
    fn from(_: Short) -> Self {
        Self::Damaged
    }
}

impl Refused {
    fn of(self, what: &'static str, id: Id) -> RestoreError {
        match self {
            Self::Device(status) => RestoreError::Device { what, id, status },
            Self::Damaged => RestoreError::Damaged("a buffer's mapped ranges"),
        }
    }
}

/// Whether an argument's value does not follow its setting.
fn is_inline(setting: &ArgumentBody) -> bool {
    setting.kind != ARGUMENT_BYTES || setting.size <= INLINE_ARGUMENT as u64
}

fn restore_memory(memory: &Memory, file: &File, body: &MemoryBody) -> Result<(), RestoreError> {
    let place = Range { offset: body.offset, len: body.len };
    let source = file.bulk(body.at, body.len)?;
    let target = memory.bytes(place).ok_or(RestoreError::Damaged("session memory lies outside"))?;
    memory.populate(place);
    source.copy_to(&target);
    Ok(())
}

fn wait_of(parts: &mut Reader<'_>) -> Result<Waiting, RestoreError> {
    let body: WaitBody = parts.take()?;
    if body.slot >= REPLY_SLOTS || body.events > u64::from(command::MAX_WAITS) {
        return Err(RestoreError::Damaged("a caller that waits"));
    }
    let events = (0..body.events).map(|_| parts.take::<u64>()).collect::<Result<_, Short>>()?;
    Ok(Waiting { slot: body.slot, sequence: body.sequence, events })
}

fn program_of(parts: &mut Reader<'_>) -> Result<programs::ProgramParts, RestoreError> {
    let body: ProgramBody = parts.take()?;
    let text = parts.bytes(body.create.text.len)?.to_vec();
    let mut builds = Vec::new();
    for _ in 0..body.builds {
        let build: BuildBody = parts.take()?;
        let phase = match build.phase {
            PHASE_NONE => BuildPhase::None,
            PHASE_FAILED => BuildPhase::Failed,
            PHASE_DONE => BuildPhase::Done,
            _ => return Err(RestoreError::Damaged("a program's build")),
        };
        let log = parts.bytes(build.log_len)?.to_vec();
        let binary = match parts.bytes(build.binary_len)? {
            [] => None,
            bytes => Some(split(bytes).ok_or(RestoreError::Damaged("a program's binary"))?),
        };
        builds.push(programs::DeviceBuild { device: build.device, phase, log, binary });
    }
    let format::ProgramBody { create, loaded, .. } = body;
    Ok(programs::ProgramParts {
        context: create.context,
        kind: create.kind,
        device: create.device,
        text,
        loaded: loaded != 0,
        builds,
    })
}
