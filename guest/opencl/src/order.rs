//! The common part of all `clEnqueue*` calls: wait list, submission, event.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering};

use kasoku_abi::accel::{Id, NO_ID};
use kasoku_accel_client::lock::Mutex;
use kasoku_accel_client::{Call, Command, sys};

use crate::answer::list;
use crate::backlog::{Action, Deferred};
use crate::cl::*;
use crate::driver::Driver;
use crate::error::{Result, ensure, full, gone, status};
use crate::event::{Event, hand_out, wait};
use crate::handle::{Identity, Raw, get};
use crate::progress::Uses;
use crate::queue::Queue;

/// A command that nobody has waited for yet.
pub struct Running {
    call: Call<'static>,
    number: u64,
}

/// An action whose command has not been submitted yet: without one, what it holds goes back.
struct Held {
    driver: &'static Driver,
    action: Option<Action>,
}

impl Held {
    fn take(mut self) -> Option<Action> {
        self.action.take()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(Action::Free(range) | Action::CopyOut { staging: range, .. }) = self.action.take() {
            self.driver.session.give(range);
        }
    }
}

/// One command for a queue, as the program ordered it.
pub struct Order<'q> {
    pub queue: &'q Arc<Queue>,
    /// `CL_COMMAND_*`.
    kind: u32,
    /// Events of the wait list that are not known to have completed.
    waits: Vec<Arc<Event>>,
    event_ret: *mut Raw,
}

impl<'q> Order<'q> {
    /// Checks the wait list.
    pub fn new(queue: &'q Arc<Queue>, kind: u32, count: u32, waits: *const Raw, event_ret: *mut Raw) -> Result<Self> {
        ensure((count == 0) == waits.is_null(), CL_INVALID_EVENT_WAIT_LIST)?;
        // SAFETY: the program gave `count` handles.
        let raws = unsafe { list(count as usize, waits) };
        let mut waits = Vec::with_capacity(raws.len());
        for raw in raws {
            let event = get::<Event>(raw).map_err(|_| CL_INVALID_EVENT_WAIT_LIST)?;
            ensure(Arc::ptr_eq(&event.context, &queue.context), CL_INVALID_CONTEXT)?;
            if event.known_status() != CL_COMPLETE {
                waits.push(Arc::clone(&event));
            }
        }
        Ok(Self { queue, kind, waits, event_ret })
    }

    /// The same order once more, for a command that is cut into several.
    pub fn again(&self) -> Self {
        Self { queue: self.queue, kind: self.kind, waits: self.waits.clone(), event_ret: self.event_ret }
    }

    /// As [`Order::again`], for a part before the last.
    pub fn without_event(&self) -> Self {
        Self { event_ret: core::ptr::null_mut(), ..self.again() }
    }

    /// The same order, with nothing in its wait list but `event`.
    pub fn after(self, event: Arc<Event>) -> Self {
        Self { waits: alloc::vec![event], ..self }
    }

    /// Whether there is nothing to wait for, neither in the list nor in the queue.
    pub fn is_free(&self) -> bool {
        self.waits.is_empty() && self.queue.progress.is_idle()
    }

    /// Whether the wait list is empty or done.
    pub fn waits_for_nothing(&self) -> bool {
        self.waits.is_empty()
    }

    /// Whether the program wants an event.
    pub fn wants_event(&self) -> bool {
        !self.event_ret.is_null()
    }

    /// Waits for what must come before a blocking command of an in-order queue: its wait list and all earlier commands.
    pub fn wait_for_turn(&self) -> Result<()> {
        wait(&self.waits)?;
        self.queue.progress.drain()
    }

    fn wait_ids(&self) -> Vec<Id> {
        self.waits.iter().map(|event| event.id).collect()
    }

    /// Posts `command`, which uses the buffers of `uses`, and performs `action` when it has completed.
    pub fn post(self, command: Command<'_>, uses: &[&Uses], action: Option<Action>) -> Result<()> {
        let identity = if self.wants_event() { Some(Identity::new()?) } else { None };
        let driver = self.queue.context.driver;
        let id = if identity.is_some() { driver.session.new_id() } else { NO_ID };
        let command = command.event(id).waits(&self.wait_ids()).map_err(full)?;
        let progress = &self.queue.progress;
        let (number, deferred) = progress.submit(|number| {
            command.post().map_err(gone)?;
            uses.iter().for_each(|uses| uses.touch(progress, number));
            Ok((number, action.map(|action| driver.backlog.defer(progress, number, action))))
        })?;
        if let Some(identity) = identity {
            self.hand_out(identity, id, number, CL_QUEUED, deferred, None);
        }
        Ok(())
    }

    /// Posts `command` and waits for the device's word whether it takes it; `action` as in [`Order::post`], except that what it
    /// holds is given back here when the device does not.
    pub fn ask(self, command: Command<'_>, uses: &[&Uses], action: Option<Action>) -> Result<()> {
        let driver = self.queue.context.driver;
        let action = action.map(|action| Held { driver, action: Some(action) });
        let identity = if self.wants_event() { Some(Identity::new()?) } else { None };
        let id = if identity.is_some() { driver.session.new_id() } else { NO_ID };
        let command = command.event(id).waits(&self.wait_ids()).map_err(full)?;
        let progress = &self.queue.progress;
        let (number, call, deferred) = progress.submit(|number| {
            let call = command.start().map_err(gone)?;
            uses.iter().for_each(|uses| uses.touch(progress, number));
            // Before the answer: another thread may see the command complete as soon as it is taken.
            let action = action.and_then(Held::take);
            Ok((number, call, action.map(|action| driver.backlog.defer(progress, number, action))))
        })?;
        status(call.wait().map_err(gone)?.status).inspect_err(|_| {
            if let Some(deferred) = &deferred {
                deferred.perform(driver, false);
                driver.backlog.forget(deferred);
            }
            if id != NO_ID {
                driver.release(id);
            }
        })?;
        if let Some(identity) = identity {
            self.hand_out(identity, id, number, CL_QUEUED, deferred, None);
        }
        Ok(())
    }

    /// Posts `command`, to be waited for by [`Order::finish`]; never the last one of an order, which may have an event.
    pub fn start(&self, command: Command<'static>, uses: &[&Uses]) -> Result<Running> {
        let command = command.waits(&self.wait_ids()).map_err(full)?.blocking();
        let progress = &self.queue.progress;
        progress.submit(|number| {
            let call = command.start().map_err(gone)?;
            uses.iter().for_each(|uses| uses.touch(progress, number));
            Ok(Running { call, number })
        })
    }

    /// Waits until the device has completed what [`Order::start`] posted.
    pub fn finish(&self, running: Running) -> Result<()> {
        status(running.call.wait().map_err(gone)?.status)?;
        self.queue.progress.complete(running.number);
        Ok(())
    }

    /// Posts `command` and waits until the device has completed it.
    pub fn run(self, command: Command<'_>, uses: &[&Uses]) -> Result<()> {
        let identity = if self.wants_event() { Some(Identity::new()?) } else { None };
        let driver = self.queue.context.driver;
        let id = if identity.is_some() { driver.session.new_id() } else { NO_ID };
        let command = command.event(id).waits(&self.wait_ids()).map_err(full)?.blocking();
        let progress = &self.queue.progress;
        let (number, call) = progress.submit(|number| {
            let call = command.start().map_err(gone)?;
            uses.iter().for_each(|uses| uses.touch(progress, number));
            Ok((number, call))
        })?;
        status(call.wait().map_err(gone)?.status)?;
        progress.complete(number);
        if let Some(identity) = identity {
            self.hand_out(identity, id, number, CL_COMPLETE, None, None);
        }
        Ok(())
    }

    /// The command is done already, by this library: began at `started_ns` (`now_ns`).
    pub fn done(self, started_ns: u64) -> Result<()> {
        if self.wants_event() {
            let ended = self.now_ns();
            let times = [started_ns, started_ns, started_ns, ended, ended];
            self.hand_out(Identity::new()?, NO_ID, 0, CL_COMPLETE, None, Some(times));
        }
        Ok(())
    }

    /// The time of now where the program may ask for it, else 0: clocks cost more than small transfers.
    pub fn now_ns(&self) -> u64 {
        let asked = self.wants_event() && self.queue.properties & CL_QUEUE_PROFILING_ENABLE != 0;
        if asked { sys::monotonic_ns() } else { 0 }
    }

    fn hand_out(
        &self,
        identity: Identity,
        id: Id,
        number: u64,
        status: i32,
        deferred: Option<Arc<Deferred>>,
        times: Option<[u64; 5]>,
    ) {
        let event = Event {
            identity,
            context: Arc::clone(&self.queue.context),
            queue: Some(Arc::clone(self.queue)),
            kind: self.kind,
            id,
            place: Some((Arc::clone(&self.queue.progress), number)),
            status: AtomicI32::new(status),
            deferred,
            times: Mutex::new(times),
        };
        hand_out(Arc::new(event), self.event_ret);
    }

    /// Whether the order of commands may still depend on what the program does next.
    pub fn may_be_held_up(&self) -> bool {
        self.queue.context.open_user_events.load(Ordering::Relaxed) != 0
    }
}
