//! Events: waiting, status, times, those that the guest completes.
use super::table::{Ended, Event, Object};
use super::{Answer, Engine, Outcome, Step, body};
use kasoku_abi::accel::command::{Descriptor, INLINE_WAITS, MAX_WAITS};
use kasoku_abi::accel::object::{CreateUserEvent, SetUserEvent};
use kasoku_abi::accel::{Id, Range};
use kasoku_backend::{Backend, Status};
use std::sync::Arc;

impl<B: Backend> Engine<B> {
    /// The events of a command's wait list.
    pub(super) fn waits(&self, descriptor: &Descriptor) -> Result<Vec<Arc<Event<B>>>, Status> {
        let count = descriptor.wait_count;
        let find = |&id: &Id| match self.table.event(id) {
            Ok(event) => Ok(Arc::clone(event)),
            Err(status) if status == B::CODES.bad_event => Err(B::CODES.bad_wait_list),
            Err(status) => Err(status),
        };
        if count as usize <= INLINE_WAITS {
            return descriptor.waits[..count as usize].iter().map(find).collect();
        }
        if count > MAX_WAITS {
            return Err(B::CODES.bad_wait_list);
        }
        let list = Range { offset: descriptor.waits[0], len: u64::from(count) * 8 };
        let ids = self.copy(list, list.len)?;
        ids.chunks_exact(8).map(|id| find(&Id::from_le_bytes(id.try_into().expect("eight bytes")))).collect()
    }

    pub(super) fn wait_events(&mut self, descriptor: &Descriptor) -> Step {
        let events = match self.waits(descriptor) {
            Ok(events) if events.is_empty() => return Step::Done(Err(B::CODES.bad_value)),
            Ok(events) => events,
            Err(status) if status == B::CODES.bad_wait_list => return Step::Done(Err(B::CODES.bad_event)),
            Err(status) => return Step::Done(Err(status)),
        };
        self.busy = false;
        let backend = Arc::clone(&self.backend);
        let ids = events.iter().map(|event| event.id).collect();
        Step::Wait(ids, Box::new(move || wait(&*backend, &events)))
    }

    pub(super) fn event_status(&self, id: Id) -> Outcome {
        let status = match &self.table.event(id)?.raw {
            Ok(event) => self.backend.event_status(event)?,
            Err(ended) => ended.status,
        };
        Ok(Answer { values: [u64::from(status as u32), 0, 0, 0, 0], ..Answer::default() })
    }

    pub(super) fn event_profile(&self, id: Id) -> Outcome {
        let values = match &self.table.event(id)?.raw {
            Ok(event) => self.backend.event_profile(event)?,
            Err(ended) => ended.times.ok_or(B::CODES.no_profile)?,
        };
        Ok(Answer { values, ..Answer::default() })
    }

    pub(super) fn create_user_event(&mut self, descriptor: &Descriptor) -> Result<Object<B>, Status> {
        let CreateUserEvent { context } = body(descriptor);
        let context = Arc::clone(self.table.context(context)?);
        let raw = self.backend.create_user_event(&context.raw)?;
        Ok(Object::Event(Arc::new(Event { id: descriptor.target, raw: Ok(raw), user: Some(context) })))
    }

    pub(super) fn set_user_event(&mut self, descriptor: &Descriptor) -> Result<(), Status> {
        let SetUserEvent { status, .. } = body(descriptor);
        if status > 0 {
            return Err(B::CODES.bad_value);
        }
        let event = self.table.event(descriptor.target)?.raw.as_ref().map_err(|ended| match ended.status {
            0 => B::CODES.bad_operation,
            status => Status(status),
        })?;
        self.backend.set_user_event(event, status)
    }
}

/// Waits for all; events that failed when they were enqueued fail the wait.
pub fn wait<B: Backend>(backend: &B, events: &[Arc<Event<B>>]) -> Outcome {
    let raw: Vec<&B::Event> = events.iter().filter_map(|event| event.raw.as_ref().ok()).collect();
    if !raw.is_empty() {
        backend.wait(&raw)?;
    }
    let failed = events.iter().any(|event| event.raw.as_ref().is_err_and(Ended::has_failed));
    if failed { Err(B::CODES.wait_failed) } else { Ok(Answer::default()) }
}
