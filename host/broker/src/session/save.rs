//! Writing a session. The caller holds the engine and knows that nothing is running on the device.
use super::format::{self, *};
use crate::engine::images::{packed_len, packed_pitches};
use crate::engine::table::{Buffer, Context, Event, Image, Kernel, Object, Parent, Queue};
use crate::engine::{Engine, programs};
use kasoku_abi::accel::image::CreateImage;
use kasoku_abi::accel::object::CreateQueue;
use kasoku_abi::accel::program::CreateProgram;
use kasoku_abi::accel::{Id, Range, memory};
use kasoku_backend::{Backend, BuildPhase, Command, Completion, HostBytes, Status};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use zerocopy::IntoBytes;

/// Why a session cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    #[error("commands were still running, or held up by an event that the program completes, after {0} ms")]
    Busy(u128),
    #[error("a program's last build failed while kernels of an earlier one live")]
    StaleProgram,
    #[error("the session has shared virtual memory, whose addresses mean something on its present device only")]
    SharedAddresses,
    #[error("the device does not give the contents of its memory: {0}")]
    Contents(Status),
    #[error("the session file cannot be written: {0}")]
    File(#[from] rustix::io::Errno),
}

/// A caller that waits for events at the time of saving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub slot: u32,
    pub sequence: u32,
    pub events: Vec<Id>,
}

/// A session file without its header.
pub struct Saved {
    pub file: OwnedFd,
    pub records_len: u64,
    pub objects: u64,
}

/// Bytes that go behind the records.
enum Bulk<B: Backend> {
    Contents(Arc<Buffer<B>>),
    Elements(Arc<Image<B>>),
    Memory(HostBytes),
}

impl<B: Backend> Bulk<B> {
    fn len(&self) -> u64 {
        match self {
            Self::Contents(buffer) => buffer.size,
            // Its creation has checked that it has a length.
            Self::Elements(image) => packed_len(&image.layout, image.layout.extent).unwrap_or(0),
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }
}

/// Records with places in the file that are given out as they are needed, relative to the start of the contents.
struct Draft<B: Backend> {
    writer: Writer,
    bulk: Vec<Bulk<B>>,
    bulk_len: u64,
}

impl<B: Backend> Draft<B> {
    /// Puts bytes behind the records; where, from the start of the contents on.
    fn place(&mut self, bulk: Bulk<B>) -> u64 {
        let at = self.bulk_len;
        self.bulk_len += bulk.len().next_multiple_of(BULK_ALIGN);
        self.bulk.push(bulk);
        at
    }
}

impl<B: Backend> Engine<B> {
    /// Writes all objects, and the session's memory if `with_memory`. `head`: descriptors taken.
    pub fn save(&self, head: u64, waiting: &[Waiting], with_memory: bool) -> Result<Saved, SaveError> {
        let released: Vec<(Id, Object<B>)> = self.table.released().collect();
        let mut objects: Vec<(u32, Id, u32, &Object<B>)> = Vec::new();
        objects.extend(self.table.objects().map(|(id, object)| (kind_of(object), id, 0, object)));
        objects.extend(released.iter().map(|(id, object)| (kind_of(object), *id, RELEASED, object)));
        objects.sort_by_cached_key(|(kind, id, _, object)| (*kind, depth(object), *id));
        if objects.iter().any(|(.., object)| matches!(object, Object::Buffer(buffer) if buffer.address != 0)) {
            return Err(SaveError::SharedAddresses);
        }
        let count = objects.len() as u64;
        let mut draft = Draft { writer: Writer::default(), bulk: Vec::new(), bulk_len: 0 };
        draft.writer.put(SESSION, 0, 0, &[SessionBody { head, memory_len: self.memory.len() }.as_bytes()]);
        if with_memory {
            for range in self.memory.used()? {
                let bytes = self.memory.bytes(range).ok_or(rustix::io::Errno::INVAL)?;
                let at = draft.place(Bulk::Memory(bytes));
                let body = MemoryBody { offset: range.offset, len: range.len, at };
                draft.writer.put(MEMORY, 0, 0, &[body.as_bytes()]);
            }
        }
        let direct = self.is_direct();
        for (kind, id, flags, object) in &objects {
            match object {
                Object::Context(context) => {
                    draft.writer.put(*kind, *flags, *id, &[ContextBody { devices: context.devices }.as_bytes()]);
                }
                Object::Queue(queue) => draft.writer.put(*kind, *flags, *id, &[queue_body(queue).as_bytes()]),
                Object::Buffer(buffer) => put_buffer(&mut draft, *kind, *flags, buffer, direct),
                Object::Program(program) => put_program(&mut draft.writer, *flags, *id, program)?,
                // It could not be made again.
                Object::Kernel(kernel) if kernel.program.loaded().is_none() => return Err(SaveError::StaleProgram),
                Object::Kernel(kernel) => put_kernel(&mut draft.writer, *id, kernel),
                Object::Event(event) => self.put_event(&mut draft.writer, *id, event),
                Object::Image(image) => put_image(&mut draft, *flags, image),
                Object::Sampler(sampler) => draft.writer.put(*kind, *flags, *id, &[sampler.create.as_bytes()]),
                Object::Failed(status) => {
                    let body = FailedBody { status: status.0, reserved: 0 };
                    draft.writer.put(*kind, *flags, *id, &[body.as_bytes()]);
                }
            }
        }
        for Waiting { slot, sequence, events } in waiting {
            let body = WaitBody { slot: *slot, sequence: *sequence, events: events.len() as u64 };
            draft.writer.put(WAIT, 0, 0, &[body.as_bytes(), events.as_bytes()]);
        }
        self.write(draft).map(|(file, records_len)| Saved { file, records_len, objects: count })
    }

    fn put_event(&self, writer: &mut Writer, id: Id, event: &Event<B>) {
        let mut body = EventBody { status: 0, has_times: 0, times: [0; 5], context: 0 };
        let times = match &event.raw {
            Ok(raw) => {
                body.status = self.backend.event_status(raw).unwrap_or(B::CODES.no_resources.0).min(1);
                body.context = event.user.as_ref().map_or(0, |context| context.id);
                self.backend.event_profile(raw).ok()
            }
            Err(ended) => {
                body.status = ended.status;
                ended.times
            }
        };
        if let Some(times) = times {
            (body.has_times, body.times) = (1, times);
        }
        writer.put(EVENT, 0, id, &[body.as_bytes()]);
    }

    /// Makes the file and lets the device write the contents into it.
    fn write(&self, draft: Draft<B>) -> Result<(OwnedFd, u64), SaveError> {
        let records = draft.writer.into_bytes();
        let bulk_start = bulk_start(records.len() as u64);
        let len = (bulk_start + draft.bulk_len) as usize;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create(c"kasoku-session", flags)?;
        rustix::fs::ftruncate(&file, len as u64)?;
        // SAFETY: a fresh mapping of a fresh file, removed below when nothing uses it any more.
        let start = unsafe {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            rustix::mm::mmap(core::ptr::null_mut(), len, access, MapFlags::SHARED, &file, 0)?
        };
        // SAFETY: as long as the mapping. On the ways out with an error below it stays mapped, as the type demands: a device
        // may still be writing. On the other it is removed after all blocking reads have returned.
        let whole = unsafe { HostBytes::new(start.cast(), len) };
        let part = |at: u64, len: u64| whole.part(at as usize, len as usize).expect("the file was made this long");
        part(RECORDS, records.len() as u64).fill_from(&records);
        let mut at = bulk_start;
        let mut queues = Queues { backend: &*self.backend, made: Vec::new() };
        for bulk in &draft.bulk {
            let target = part(at, bulk.len());
            at += bulk.len().next_multiple_of(BULK_ALIGN);
            match bulk {
                Bulk::Memory(bytes) => bytes.copy_to(&target),
                Bulk::Contents(buffer) => {
                    let read = Command::Read { buffer: &buffer.raw, offset: 0, data: target };
                    queues.run(&buffer.context, &read).map_err(SaveError::Contents)?;
                }
                Bulk::Elements(image) => {
                    let region = image.layout.extent.map(|length| length as usize);
                    let pitches = packed_pitches(image, region);
                    let read = Command::ReadImage { image: &image.raw, origin: [0; 3], region, pitches, data: target };
                    queues.run(&image.context, &read).map_err(SaveError::Contents)?;
                }
            }
        }
        // SAFETY: the mapping made above; every read into it was waited for.
        unsafe { rustix::mm::munmap(start, len)? };
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
        Ok((file, records.len() as u64))
    }
}

/// A queue for each context whose memory is moved.
pub struct Queues<'b, B: Backend> {
    pub backend: &'b B,
    pub made: Vec<(Id, B::Queue)>,
}

impl<B: Backend> Queues<'_, B> {
    /// Carries out a command and waits for its end. By its event: there is an implementation whose blocking calls on images
    /// return too early.
    pub fn run(&mut self, context: &Context<B>, command: &Command<'_, B>) -> Result<(), Status> {
        let known = self.made.iter().position(|(id, _)| *id == context.id);
        let known = match known {
            Some(known) => known,
            None => {
                let device = context.devices.trailing_zeros();
                self.made.push((context.id, self.backend.create_queue(&context.raw, device, 0)?));
                self.made.len() - 1
            }
        };
        let event = self.backend.enqueue(&self.made[known].1, command, &[], Completion::Event)?;
        event.map_or(Ok(()), |event| self.backend.wait(&[&event]))
    }
}

/// How many images lie between an object and memory of its own.
fn depth<B: Backend>(object: &Object<B>) -> usize {
    let Object::Image(image) = object else { return 0 };
    let parent_of = |image: &Arc<Image<B>>| match &image.parent {
        Some(Parent::Image(parent)) => Some(Arc::clone(parent)),
        Some(Parent::Buffer(_)) | None => None,
    };
    core::iter::successors(parent_of(image), parent_of).count()
}

/// Where the contents begin, behind so many bytes of records.
pub fn bulk_start(records_len: u64) -> u64 {
    (RECORDS + records_len).next_multiple_of(BULK_ALIGN)
}

fn kind_of<B: Backend>(object: &Object<B>) -> u32 {
    match object {
        Object::Context(_) => CONTEXT,
        Object::Queue(_) => QUEUE,
        Object::Buffer(buffer) if buffer.parent.is_some() => SUB_BUFFER,
        Object::Buffer(_) => BUFFER,
        Object::Image(_) => IMAGE,
        Object::Sampler(_) => SAMPLER,
        Object::Program(_) => PROGRAM,
        Object::Kernel(_) => KERNEL,
        Object::Event(_) => EVENT,
        Object::Failed(_) => FAILED,
    }
}

fn queue_body<B: Backend>(queue: &Queue<B>) -> QueueBody {
    let create = CreateQueue { context: queue.context.id, device: queue.device, flags: queue.flags };
    QueueBody { create, failure: queue.failure.load(Ordering::Relaxed), reserved: 0 }
}

fn put_buffer<B: Backend>(draft: &mut Draft<B>, kind: u32, flags: u32, buffer: &Arc<Buffer<B>>, direct: bool) {
    let maps: Vec<MapBody> = {
        let maps = buffer.maps.lock().unwrap_or_else(PoisonError::into_inner);
        maps.iter().map(|&(offset, len)| Range { offset, len }).collect()
    };
    let count = maps.len() as u64;
    if let Some(parent) = &buffer.parent {
        let create = memory::CreateSubBuffer {
            parent: parent.id,
            origin: buffer.origin,
            size: buffer.size,
            flags: buffer.flags,
            reserved: 0,
        };
        let body = SubBufferBody { create, maps: count };
        draft.writer.put(kind, flags, buffer.id, &[body.as_bytes(), maps.as_bytes()]);
        return;
    }
    let create = memory::CreateBuffer {
        context: buffer.context.id,
        size: buffer.size,
        storage: buffer.storage_range,
        initial: Range::NONE,
        flags: buffer.flags,
        reserved: 0,
        address: 0,
    };
    // A direct buffer's bytes are in the session's memory.
    let in_place = direct && buffer.storage.is_some();
    let contents = if in_place { 0 } else { 1 + draft.place(Bulk::Contents(Arc::clone(buffer))) };
    let body = BufferBody { create, contents, maps: count };
    draft.writer.put(kind, flags, buffer.id, &[body.as_bytes(), maps.as_bytes()]);
}

fn put_image<B: Backend>(draft: &mut Draft<B>, flags: u32, image: &Arc<Image<B>>) {
    let create = CreateImage { initial: Range::NONE, ..image.create };
    let contents = if image.parent.is_some() { 0 } else { 1 + draft.place(Bulk::Elements(Arc::clone(image))) };
    draft.writer.put(IMAGE, flags, image.id, &[ImageBody { create, contents }.as_bytes()]);
}

fn put_program<B: Backend>(
    writer: &mut Writer,
    flags: u32,
    id: Id,
    program: &programs::Program<B>,
) -> Result<(), SaveError> {
    let programs::ProgramParts { context, kind, device, text, loaded, builds } = program.parts();
    let usable = |build: &programs::DeviceBuild| build.phase == BuildPhase::Done && build.binary.is_some();
    if loaded && !builds.iter().any(usable) {
        return Err(SaveError::StaleProgram);
    }
    let create = CreateProgram { context, kind, device, text: Range { offset: 0, len: text.len() as u64 } };
    let body = ProgramBody { create, loaded: loaded.into(), builds: builds.len() as u64 };
    let binaries: Vec<Vec<u8>> =
        builds.iter().map(|build| build.binary.as_ref().map(|signed| signed.to_vec()).unwrap_or_default()).collect();
    let headers: Vec<BuildBody> = builds
        .iter()
        .zip(&binaries)
        .map(|(build, binary)| BuildBody {
            device: build.device,
            phase: match build.phase {
                BuildPhase::Done => PHASE_DONE,
                BuildPhase::Failed => PHASE_FAILED,
                BuildPhase::None | BuildPhase::Running => PHASE_NONE,
            },
            log_len: build.log.len() as u64,
            binary_len: binary.len() as u64,
        })
        .collect();
    let mut parts: Vec<&[u8]> = vec![body.as_bytes(), &text];
    for ((header, build), binary) in headers.iter().zip(&builds).zip(&binaries) {
        parts.extend([header.as_bytes(), build.log.as_slice(), binary.as_slice()]);
    }
    writer.put(format::PROGRAM, flags, id, &parts);
    Ok(())
}

fn put_kernel<B: Backend>(writer: &mut Writer, id: Id, kernel: &Kernel<B>) {
    let body = KernelBody {
        program: kernel.program.id,
        name_len: kernel.name.len() as u64,
        arguments: kernel.settings.len() as u64,
        failed: kernel.failed.len() as u64,
    };
    let failed: Vec<FailedArgumentBody> =
        kernel.failed.iter().map(|(index, status)| FailedArgumentBody { index: *index, status: status.0 }).collect();
    let mut parts: Vec<&[u8]> = vec![body.as_bytes(), kernel.name.as_bytes()];
    for (setting, long) in &kernel.settings {
        parts.extend([setting.as_bytes(), long.as_slice()]);
    }
    parts.push(failed.as_bytes());
    writer.put(KERNEL, 0, id, &parts);
}
