//! Contexts and queues.
use super::table::{Context, Object, Queue};
use super::{Answer, Engine, Step, body};
use kasoku_abi::accel::Id;
use kasoku_abi::accel::command::Descriptor;
use kasoku_abi::accel::object::{CreateContext, CreateQueue, QUEUE_OUT_OF_ORDER, QUEUE_PROFILING};
use kasoku_backend::{Backend, Status};
use std::sync::Arc;
use std::sync::atomic::AtomicI32;

impl<B: Backend> Engine<B> {
    pub fn create_context(&mut self, descriptor: &Descriptor) -> Result<Object<B>, Status> {
        let CreateContext { devices } = body(descriptor);
        let raw = self.backend.create_context(devices)?;
        Ok(Object::Context(Arc::new(Context { raw, id: descriptor.target, devices })))
    }

    pub fn create_queue(&mut self, descriptor: &Descriptor) -> Result<Object<B>, Status> {
        let CreateQueue { context, device, flags } = body(descriptor);
        if flags & !(QUEUE_OUT_OF_ORDER | QUEUE_PROFILING) != 0 {
            return Err(B::CODES.bad_value);
        }
        let context = Arc::clone(self.table.context(context)?);
        let raw = self.backend.create_queue(&context.raw, device, flags)?;
        let in_order = flags & QUEUE_OUT_OF_ORDER == 0;
        Ok(Object::Queue(Arc::new(Queue { raw, context, device, flags, in_order, failure: AtomicI32::new(0) })))
    }

    pub(super) fn flush(&mut self, queue: Id) -> Result<(), Status> {
        self.backend.flush(&self.table.queue(queue)?.raw)
    }

    pub(super) fn finish(&mut self, queue: Id) -> Step {
        let queue = match self.table.queue(queue) {
            Ok(queue) => Arc::clone(queue),
            Err(status) => return Step::Done(Err(status)),
        };
        let backend = Arc::clone(&self.backend);
        self.busy = false;
        Step::Later(Box::new(move || {
            backend.finish(&queue.raw)?;
            queue.take_failure()?;
            Ok(Answer::default())
        }))
    }
}
