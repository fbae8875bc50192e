//! The session's logic: takes one copied descriptor after the other, checks it, and calls the backend.
//!
//! Invariant: no memory of the guest is looked at twice, and no failure of a command is anything but a status code.

mod buffers;
mod enqueue;
pub mod events;
pub mod images;
mod info;
mod kernels;
mod objects;
pub mod programs;
mod recovery;
pub mod table;

pub use recovery::Recovered;

use crate::companion::Companion;
use crate::journal::Journal;
use crate::memory::Memory;
use kasoku_abi::accel::command::{self, Descriptor, FLAG_REPLY};
use kasoku_abi::accel::info::DEVICE_DIRECT_BUFFERS;
use kasoku_abi::accel::{Id, Range};
use kasoku_backend::{Backend, HostBytes, Status};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use table::{Object, Table};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Most bytes of program texts and binaries of one session.
const MOST_TEXT: u64 = 1 << 30;

/// What a call answers besides its status.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer {
    pub len: u64,
    pub written: u64,
    pub values: [u64; 5],
}

/// Result of one command.
pub type Outcome = Result<Answer, Status>;

/// What becomes of a descriptor.
pub enum Step {
    Done(Outcome),
    /// The rest may take long; it needs the session's objects no more and may run beside later commands.
    Later(LongCall),
    /// As `Later`: waits for these events.
    Wait(Vec<Id>, LongCall),
}

/// A call that is finished without the engine.
pub type LongCall = Box<dyn FnOnce() -> Outcome + Send>;

impl From<Result<(), Status>> for Step {
    fn from(result: Result<(), Status>) -> Self {
        Self::Done(result.map(|()| Answer::default()))
    }
}

/// One session.
pub struct Engine<B: Backend> {
    pub(crate) backend: Arc<B>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) companion: Arc<Companion>,
    pub(crate) table: Table<B>,
    /// Bytes of device memory outside the arena that the guest may still take.
    device_memory_left: Arc<AtomicU64>,
    /// Bytes of program texts and binaries that the broker may still keep for the guest.
    text_left: Arc<AtomicU64>,
    /// Where what changes the session is written down, if it is.
    journal: Option<Arc<Journal>>,
    /// What ranges of the arena held when a command was taken that is being carried out again.
    overlay: Vec<(Range, HostBytes)>,
    /// Something was enqueued since a queue was last waited for: a device may be computing.
    busy: bool,
}

impl<B: Backend> Engine<B> {
    /// `device_memory`: most bytes of buffers outside the arena.
    pub fn new(
        backend: Arc<B>,
        memory: Arc<Memory>,
        companion: Arc<Companion>,
        device_memory: u64,
        journal: Option<Arc<Journal>>,
    ) -> Self {
        let device_memory_left = Arc::new(AtomicU64::new(device_memory));
        let text_left = Arc::new(AtomicU64::new(MOST_TEXT));
        let (table, overlay) = (Table::new(), Vec::new());
        Self { backend, memory, companion, table, device_memory_left, text_left, journal, overlay, busy: false }
    }

    /// Whether a device may be computing.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Carries out one command. The descriptor is the broker's own copy.
    pub fn step(&mut self, descriptor: &Descriptor) -> Step {
        self.step_journalled(descriptor)
    }

    fn carry_out(&mut self, descriptor: &Descriptor) -> Step {
        let target = descriptor.target;
        match descriptor.operation {
            command::PING => Step::from(Ok(())),
            command::DESCRIBE => Step::Done(self.describe(descriptor)),
            command::GET_INFO => Step::Done(self.get_info(descriptor)),
            command::RELEASE => self.release(target).into(),
            command::CREATE_CONTEXT => self.create(descriptor, Self::create_context),
            command::CREATE_QUEUE => self.create(descriptor, Self::create_queue),
            command::CREATE_BUFFER => self.create(descriptor, Self::create_buffer),
            command::CREATE_SUB_BUFFER => self.create(descriptor, Self::create_sub_buffer),
            command::CREATE_IMAGE => self.create(descriptor, Self::create_image),
            command::CREATE_SAMPLER => self.create(descriptor, Self::create_sampler),
            command::CREATE_PROGRAM => self.create(descriptor, Self::create_program),
            command::CREATE_KERNEL => self.create(descriptor, Self::create_kernel),
            command::CLONE_KERNEL => self.create(descriptor, Self::clone_kernel),
            command::CREATE_USER_EVENT => self.create(descriptor, Self::create_user_event),
            command::SET_USER_EVENT => self.set_user_event(descriptor).into(),
            command::FLUSH => self.flush(target).into(),
            command::FINISH => self.finish(target),
            command::BUILD_PROGRAM | command::COMPILE_PROGRAM => self.build_program(descriptor),
            command::LINK_PROGRAM => self.link_program(descriptor),
            command::SET_ARGUMENT => self.set_argument(descriptor).into(),
            command::WAIT_EVENTS => self.wait_events(descriptor),
            command::EVENT_STATUS => Step::Done(self.event_status(target)),
            command::EVENT_PROFILE => Step::Done(self.event_profile(target)),
            _ => self.enqueue(descriptor),
        }
    }

    /// Makes an object under the number `target`; when that fails and nobody waits for the answer, the number keeps the failure.
    fn create(
        &mut self,
        descriptor: &Descriptor,
        make: fn(&mut Self, &Descriptor) -> Result<Object<B>, Status>,
    ) -> Step {
        let id = descriptor.target;
        if let Err(status) = self.table.check_new(id) {
            return Step::Done(Err(status));
        }
        match make(self, descriptor) {
            Ok(object) => {
                self.table.insert(id, object);
                Step::from(Ok(()))
            }
            Err(status) => {
                if descriptor.flags & FLAG_REPLY == 0 {
                    self.table.insert(id, Object::Failed(status));
                }
                Step::Done(Err(status))
            }
        }
    }

    /// The guest's bytes of a range.
    fn bytes(&self, range: Range) -> Result<HostBytes, Status> {
        if let Some((_, bytes)) = self.overlay.iter().find(|(known, _)| *known == range) {
            return Ok(*bytes);
        }
        self.memory.arena(range).ok_or(B::CODES.bad_value)
    }

    /// A private copy of a range of at most `most` bytes.
    fn copy(&self, range: Range, most: u64) -> Result<Vec<u8>, Status> {
        if range.len > most {
            return Err(B::CODES.bad_value);
        }
        self.bytes(range).map(|bytes| bytes.to_vec())
    }

    /// Writes an answer to the range that the guest gave for it.
    fn put(&self, out: Range, value: &[u8]) -> Outcome {
        let written = self.bytes(out)?.fill_from(value);
        Ok(Answer { len: value.len() as u64, written: written as u64, ..Answer::default() })
    }

    /// Waits until nothing is queued on any device; to be called without the engine.
    pub fn drain(&self) -> Box<dyn FnOnce() + Send> {
        let queues = self.table.objects().filter_map(|(_, object)| match object {
            Object::Queue(queue) => Some(Arc::clone(queue)),
            _ => None,
        });
        let (backend, queues) = (Arc::clone(&self.backend), queues.collect::<Vec<_>>());
        Box::new(move || {
            for queue in queues {
                // A failure belongs to the guest's own commands: it is told by them.
                let _ = backend.finish(&queue.raw);
            }
        })
    }

    /// Whether one of these events waits for the guest.
    pub fn are_held_up(&self, events: &[Id]) -> bool {
        events.iter().any(|id| {
            let event = self.table.event(*id).ok().filter(|event| event.user.is_some());
            let status = event.and_then(|event| event.raw.as_ref().ok()).map(|raw| self.backend.event_status(raw));
            matches!(status, Some(Ok(status)) if status > 0)
        })
    }

    /// Whether buffers with storage are their storage, on every device.
    pub fn is_direct(&self) -> bool {
        if self.is_recoverable() {
            return false;
        }
        let records = self.backend.describe();
        let mut answers = records.iter().filter(|record| record.parameter == DEVICE_DIRECT_BUFFERS);
        answers.all(|record| record.value.first() == Some(&1))
    }

    /// Whether kernels can use the guest's addresses.
    pub fn shares_addresses(&self) -> bool {
        !self.is_recoverable() && self.backend.shares_addresses()
    }

    pub fn release(&mut self, id: Id) -> Result<(), Status> {
        self.table.remove(id).map(|_| ()).ok_or(B::CODES.bad_value)
    }
}

/// The body of a command.
fn body<T: FromBytes + KnownLayout + Immutable>(descriptor: &Descriptor) -> T {
    let (body, _) = T::read_from_prefix(&descriptor.body).expect("every body is at most BODY_LEN bytes");
    body
}
