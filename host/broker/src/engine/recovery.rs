//! Writing down what changes a session, and carrying it out again in a process that takes over (`journal`).
use super::table::Object;
use super::{Engine, Outcome, Step, body};
use crate::journal::{Ended, Queue, Replay, State, Written};
use crate::link::{self, Message};
use kasoku_abi::accel::command::{self, Descriptor, FLAG_BLOCKING, FLAG_REPLY, INLINE_WAITS, MAX_WAITS};
use kasoku_abi::accel::image::{CreateImage, TransferImage};
use kasoku_abi::accel::kernel::{ARGUMENT_BYTES, CreateKernel, INLINE_ARGUMENT, SetArgument};
use kasoku_abi::accel::memory::{CreateBuffer, MAP_DISCARD, Map, Transfer, TransferRect};
use kasoku_abi::accel::program::{BuildProgram, CreateProgram, LinkProgram};
use kasoku_abi::accel::{Id, NO_ID, Range};
use kasoku_backend::{Backend, HostBytes};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use zerocopy::IntoBytes;

/// How much of a journal was carried out again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub replayed: u64,
    /// Commands that may not have ended: they have failed.
    pub dropped: u64,
}

impl<B: Backend> Engine<B> {
    /// Carries out one command and writes it down, where a successor must know of it.
    pub(super) fn step_journalled(&mut self, descriptor: &Descriptor) -> Step {
        let Some(journal) = self.journal.clone() else { return self.carry_out(descriptor) };
        let changes = changes_state(descriptor);
        let ticket = if changes { journal.begin(descriptor, &self.payload(descriptor)) } else { None };
        let step = self.carry_out(descriptor);
        // A failed enqueue leaves nothing that could still be running.
        let enqueued = !matches!(step, Step::Done(Err(_))) && is_enqueued(descriptor.operation);
        let enqueued = if enqueued { self.enqueued(descriptor) } else { None };
        let end = enqueued.as_ref().map(|(queue, _, waits)| match ticket {
            _ if queue.in_order => Ended::Queue(queue.id, journal.mark()),
            Some(_) => Ended::Command,
            None => Ended::Events(waits.clone()),
        });
        let builds = [command::BUILD_PROGRAM, command::COMPILE_PROGRAM, command::LINK_PROGRAM];
        if let Some(ticket) = ticket
            && !(builds.contains(&descriptor.operation) && matches!(step, Step::Later(_)))
        {
            journal.done(ticket, enqueued);
        }
        let ended = match descriptor.operation {
            command::FINISH => Some(Ended::Queue(descriptor.target, journal.mark())),
            command::WAIT_EVENTS => Some(Ended::Events(self.wait_ids(descriptor))),
            command::EVENT_STATUS | command::EVENT_PROFILE => Some(Ended::Events(vec![descriptor.target])),
            _ => end,
        };
        if changes && journal.wants_save() {
            let _ = self.companion.link().send_now(&Message::new(link::JOURNAL, 0), &[]);
        }
        match step {
            Step::Done(outcome) => {
                if let Some(ended) = ended.filter(|_| says_the_end(descriptor, &outcome)) {
                    journal.settle(ticket, &ended);
                }
                Step::Done(outcome)
            }
            Step::Later(call) => Step::Later(Box::new(move || {
                let outcome = call();
                match (ended, ticket) {
                    (Some(ended), ticket) => journal.settle(ticket, &ended),
                    (None, Some(ticket)) => journal.done(ticket, None),
                    (None, None) => {}
                }
                outcome
            })),
            Step::Wait(events, call) => Step::Wait(
                events,
                Box::new(move || {
                    let outcome = call();
                    if let Some(ended) = ended {
                        journal.settle(ticket, &ended);
                    }
                    outcome
                }),
            ),
        }
    }

    /// The queue, event and wait list of a command that has just been enqueued.
    fn enqueued(&self, descriptor: &Descriptor) -> Option<(Queue, Id, Vec<Id>)> {
        let in_order = self.table.queue(descriptor.target).ok()?.in_order;
        Some((Queue { id: descriptor.target, in_order }, descriptor.event, self.wait_ids(descriptor)))
    }

    fn wait_ids(&self, descriptor: &Descriptor) -> Vec<Id> {
        let count = descriptor.wait_count as usize;
        if count <= INLINE_WAITS {
            return descriptor.waits[..count].to_vec();
        }
        let bytes = wait_list(descriptor).and_then(|list| self.bytes(list).ok());
        let bytes = bytes.map(|bytes| bytes.to_vec()).unwrap_or_default();
        bytes.as_chunks::<8>().0.iter().map(|id| Id::from_le_bytes(*id)).collect()
    }

    /// What a command reads of the arena.
    fn payload(&self, descriptor: &Descriptor) -> Vec<(Range, HostBytes)> {
        let mut ranges = Vec::from_iter(wait_list(descriptor));
        match descriptor.operation {
            command::CREATE_BUFFER => {
                let CreateBuffer { storage, initial, .. } = body(descriptor);
                ranges.extend([storage, initial]);
            }
            command::CREATE_IMAGE => ranges.push(body::<CreateImage>(descriptor).initial),
            command::CREATE_PROGRAM => ranges.push(body::<CreateProgram>(descriptor).text),
            command::BUILD_PROGRAM | command::COMPILE_PROGRAM => {
                let BuildProgram { options, headers, constants, .. } = body(descriptor);
                ranges.extend([options, headers, constants]);
            }
            command::LINK_PROGRAM => {
                let LinkProgram { options, programs, .. } = body(descriptor);
                ranges.extend([options, programs]);
            }
            command::CREATE_KERNEL => ranges.push(body::<CreateKernel>(descriptor).name),
            command::SET_ARGUMENT => {
                let SetArgument { kind, size, data, .. } = body(descriptor);
                if kind == ARGUMENT_BYTES && size as usize > INLINE_ARGUMENT {
                    ranges.push(data);
                }
            }
            command::WRITE_BUFFER => ranges.push(body::<Transfer>(descriptor).data),
            command::WRITE_BUFFER_RECT => ranges.push(body::<TransferRect>(descriptor).data),
            command::WRITE_IMAGE => ranges.push(body::<TransferImage>(descriptor).data),
            command::UNMAP_BUFFER => ranges.extend(self.mapped_range(&body(descriptor))),
            _ => {}
        }
        ranges.retain(|range| range.len != 0);
        ranges.into_iter().filter_map(|range| Some((range, self.memory.arena(range)?))).collect()
    }

    /// Where the bytes lie that a mapping shows.
    pub(super) fn mapped_range(&self, map: &Map) -> Option<Range> {
        let buffer = self.table.buffer(map.buffer).ok()?;
        let (start, offset) = match &buffer.parent {
            Some(parent) => (parent.storage_range, buffer.origin.checked_add(map.offset)?),
            None => (buffer.storage_range, map.offset),
        };
        (start != Range::NONE).then_some(Range { offset: start.offset.checked_add(offset)?, len: map.size })
    }

    /// Carries out again what a predecessor wrote down.
    pub fn replay(&mut self, replay: Replay) -> Recovered {
        let mut recovered = Recovered::default();
        for Written { descriptor, state, payload } in replay.commands {
            self.overlay = payload;
            let known = if is_enqueued(descriptor.operation) { state == State::Settled } else { state != State::Begun };
            if known {
                recovered.replayed += 1;
                // A failure that the guest was told of is nothing for its queue to tell again.
                let told =
                    if descriptor.flags & FLAG_REPLY != 0 { self.table.queue(descriptor.target).ok() } else { None };
                let told = told.map(|queue| (Arc::clone(queue), queue.failure.load(Ordering::Relaxed)));
                let step = self.carry_out(&repeatable(&descriptor));
                if let (Some((queue, failure)), Step::Done(Err(_))) = (told, &step) {
                    queue.failure.store(failure, Ordering::Relaxed);
                }
                match step {
                    Step::Done(_) => {}
                    Step::Later(call) | Step::Wait(_, call) => {
                        // What failed then fails again.
                        let _ = call();
                    }
                }
            } else {
                recovered.dropped += 1;
                self.drop_command(&descriptor);
            }
            self.overlay.clear();
        }
        (self.drain())();
        recovered
    }

    /// A command that may have killed whoever carried it out has failed.
    fn drop_command(&mut self, descriptor: &Descriptor) {
        if is_enqueued(descriptor.operation) {
            if descriptor.operation == command::UNMAP_BUFFER {
                let map: Map = body(descriptor);
                if let Ok(buffer) = self.table.buffer(map.buffer) {
                    let mut maps = buffer.maps.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(at) = maps.iter().position(|&known| known == (map.offset, map.size)) {
                        maps.swap_remove(at);
                    }
                }
            }
            return self.keep_failure(descriptor, B::CODES.no_resources);
        }
        let posted = descriptor.flags & FLAG_REPLY == 0;
        if posted && creates(descriptor.operation) && self.table.check_new(descriptor.target).is_ok() {
            self.table.insert(descriptor.target, Object::Failed(B::CODES.no_resources));
        }
    }

    /// Buffers are apart from their storage: a successor must not find what a crashed kernel left in it.
    pub fn is_recoverable(&self) -> bool {
        self.journal.is_some()
    }

    /// The journal, for whoever takes descriptors and answers them.
    pub fn journal(&self) -> Option<Arc<crate::journal::Journal>> {
        self.journal.clone()
    }
}

/// A long wait list lies in the arena.
fn wait_list(descriptor: &Descriptor) -> Option<Range> {
    let count = descriptor.wait_count;
    let outside = count as usize > INLINE_WAITS && count <= MAX_WAITS;
    outside.then_some(Range { offset: descriptor.waits[0], len: u64::from(count) * 8 })
}

const fn creates(operation: u32) -> bool {
    matches!(
        operation,
        command::CREATE_CONTEXT
            | command::CREATE_QUEUE
            | command::CREATE_BUFFER
            | command::CREATE_SUB_BUFFER
            | command::CREATE_IMAGE
            | command::CREATE_SAMPLER
            | command::CREATE_PROGRAM
            | command::CREATE_KERNEL
            | command::CLONE_KERNEL
            | command::CREATE_USER_EVENT
    )
}

fn is_enqueued(operation: u32) -> bool {
    (command::READ_BUFFER..=command::UNMAP_BUFFER).contains(&operation)
        || (command::READ_IMAGE..=command::COPY_BUFFER_TO_IMAGE).contains(&operation)
        || [command::LAUNCH, command::MARKER, command::BARRIER].contains(&operation)
}

const fn is_read(operation: u32) -> bool {
    matches!(operation, command::READ_BUFFER | command::READ_BUFFER_RECT | command::READ_IMAGE)
}

/// Whether a successor must know of a command. A read leaves nothing behind but its event.
fn changes_state(descriptor: &Descriptor) -> bool {
    match descriptor.operation {
        operation if is_read(operation) => descriptor.event != NO_ID,
        operation => {
            is_enqueued(operation)
                || creates(operation)
                || matches!(
                    operation,
                    command::RELEASE
                        | command::SET_USER_EVENT
                        | command::SET_ARGUMENT
                        | command::BUILD_PROGRAM
                        | command::COMPILE_PROGRAM
                        | command::LINK_PROGRAM
                )
        }
    }
}

/// Whether an immediate answer means that something has ended: an event's state, or its times.
fn says_the_end(descriptor: &Descriptor, outcome: &Outcome) -> bool {
    match (descriptor.operation, outcome) {
        (command::EVENT_STATUS, Ok(answer)) => answer.values[0] as u32 as i32 <= 0,
        (command::EVENT_PROFILE, Ok(_)) => true,
        _ => false,
    }
}

/// A command as it is carried out again: nobody waits for it, and what was read has been read.
fn repeatable(descriptor: &Descriptor) -> Descriptor {
    let mut again = *descriptor;
    if is_enqueued(descriptor.operation) {
        again.flags &= !(FLAG_REPLY | FLAG_BLOCKING);
    }
    if is_read(descriptor.operation) {
        again.operation = command::MARKER;
    }
    if descriptor.operation == command::MAP_BUFFER {
        // What is mapped is the program's by now: it is not brought again.
        let map: Map = body(descriptor);
        let map = Map { flags: map.flags | MAP_DISCARD, ..map };
        again.body[..size_of::<Map>()].copy_from_slice(map.as_bytes());
    }
    again
}
