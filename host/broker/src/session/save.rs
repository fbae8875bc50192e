//! Writing a session. The caller holds the engine and knows that nothing is running on the device.
use super::format::{self, *};
use crate::engine::table::{Buffer, Event, Kernel, Object, Queue};
use crate::engine::{Engine, programs};
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
    #[error("session files have no form for the {0}s that it holds")]
    Unsaveable(&'static str),
    #[error("the device does not give a buffer's contents: {0}")]
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
    Memory(HostBytes),
}

impl<B: Backend> Bulk<B> {
    fn len(&self) -> u64 {
        match self {
            Self::Contents(buffer) => buffer.size,
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
        for (_, object) in self.table.objects() {
            match object {
                Object::Image(_) => return Err(SaveError::Unsaveable("image")),
                // A kernel keeps its samplers, also those that the guest has released.
                Object::Kernel(kernel) if kernel.samplers.is_empty() => {}
                Object::Sampler(_) | Object::Kernel(_) => return Err(SaveError::Unsaveable("sampler")),
                _ => {}
            }
        }
        let released: Vec<(Id, Object<B>)> = self.table.released().collect();
        let mut objects: Vec<(u32, Id, u32, &Object<B>)> = Vec::new();
        objects.extend(self.table.objects().map(|(id, object)| (kind_of(object), id, 0, object)));
        objects.extend(released.iter().map(|(id, object)| (kind_of(object), *id, RELEASED, object)));
        objects.sort_by_key(|(kind, id, ..)| (*kind, *id));
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
                Object::Kernel(kernel) => put_kernel(&mut draft.writer, *id, kernel),
                Object::Event(event) => self.put_event(&mut draft.writer, *id, event),
                // Refused above.
                Object::Image(_) | Object::Sampler(_) => {}
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
        let mut queues: Vec<(Id, B::Queue)> = Vec::new();
        for bulk in &draft.bulk {
            let target = part(at, bulk.len());
            at += bulk.len().next_multiple_of(BULK_ALIGN);
            match bulk {
                Bulk::Memory(bytes) => bytes.copy_to(&target),
                Bulk::Contents(buffer) => {
                    let context = &buffer.context;
                    if !queues.iter().any(|(id, _)| *id == context.id) {
                        let device = context.devices.trailing_zeros();
                        let queue = self.backend.create_queue(&context.raw, device, 0).map_err(SaveError::Contents)?;
                        queues.push((context.id, queue));
                    }
                    let Some((_, queue)) = queues.iter().find(|(id, _)| *id == context.id) else { continue };
                    let read = Command::Read { buffer: &buffer.raw, offset: 0, data: target };
                    self.backend.enqueue(queue, &read, &[], Completion::Wait).map_err(SaveError::Contents)?;
                }
            }
        }
        // SAFETY: the mapping made above; every read into it was waited for.
        unsafe { rustix::mm::munmap(start, len)? };
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
        Ok((file, records.len() as u64))
    }
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
        Object::Program(_) => PROGRAM,
        Object::Kernel(_) => KERNEL,
        Object::Event(_) => EVENT,
        Object::Failed(_) | Object::Image(_) | Object::Sampler(_) => FAILED,
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
    };
    // A direct buffer's bytes are in the session's memory.
    let in_place = direct && buffer.storage.is_some();
    let contents = if in_place { 0 } else { 1 + draft.place(Bulk::Contents(Arc::clone(buffer))) };
    let body = BufferBody { create, contents, maps: count };
    draft.writer.put(kind, flags, buffer.id, &[body.as_bytes(), maps.as_bytes()]);
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
