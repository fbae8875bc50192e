//! Events: completions that the broker tells of, that this library knows by itself, or that the program sets.
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::sync::atomic::{AtomicI32, Ordering};

use kasoku_abi::accel::command::{CREATE_USER_EVENT, EVENT_PROFILE, EVENT_STATUS, SET_USER_EVENT, WAIT_EVENTS};
use kasoku_abi::accel::{Id, NO_ID, object};
use kasoku_accel_client::lock::Mutex;

use crate::answer::{Query, list};
use crate::backlog::Deferred;
use crate::callback;
use crate::cl::*;
use crate::context::Context;
use crate::error::{Result, code, ensure, full, gone, object as object_frame, status, store};
use crate::handle::{Identity, Object, Raw, get, publish, release, retain};
use crate::progress::Progress;
use crate::queue::Queue;

/// `void (*)(cl_event, cl_int status, void *user_data)`.
type Notify = unsafe extern "C" fn(Raw, i32, *mut c_void);

pub struct Event {
    pub identity: Identity,
    pub context: Arc<Context>,
    /// None for user events.
    pub queue: Option<Arc<Queue>>,
    /// `CL_COMMAND_*`.
    pub kind: u32,
    /// Its number in the session; `NO_ID` if only this library knows it.
    pub id: Id,
    /// The command's place in its queue.
    pub place: Option<(Arc<Progress>, u64)>,
    /// Last known execution status: final if not positive.
    pub status: AtomicI32,
    pub deferred: Option<Arc<Deferred>>,
    /// Queued, submitted, started, ended, completed, once known.
    pub times: Mutex<Option<[u64; 5]>>,
}

impl Object for Event {
    const KIND: u32 = 4;
    const INVALID: i32 = CL_INVALID_EVENT;
    fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl Event {
    /// The status as last known, without asking.
    pub fn known_status(&self) -> i32 {
        self.status.load(Ordering::Acquire)
    }

    /// The event's command has ended with `status`.
    pub fn settle(&self, status: i32) {
        let driver = self.context.driver;
        if let Some(deferred) = &self.deferred {
            deferred.perform(driver, status == CL_COMPLETE);
            driver.backlog.forget(deferred);
        }
        if let (Some((progress, number)), CL_COMPLETE) = (&self.place, status) {
            progress.complete(*number);
        }
        self.status.store(status, Ordering::Release);
    }

    /// The present status, asking the broker unless it is final.
    pub fn current_status(&self) -> Result<i32> {
        let known = self.known_status();
        if known <= CL_COMPLETE || self.id == NO_ID {
            return Ok(known);
        }
        let answer = self.context.driver.command(EVENT_STATUS, self.id).call().map_err(gone)?;
        status(answer.status)?;
        let now = answer.values[0] as u32 as i32;
        if now <= CL_COMPLETE {
            self.settle(now);
        }
        Ok(now)
    }

    fn profile(&self) -> Result<[u64; 5]> {
        if let Some(times) = *self.times.lock() {
            return Ok(times);
        }
        ensure(self.current_status()? == CL_COMPLETE, CL_PROFILING_INFO_NOT_AVAILABLE)?;
        let answer = self.context.driver.command(EVENT_PROFILE, self.id).call().map_err(gone)?;
        status(answer.status)?;
        *self.times.lock() = Some(answer.values);
        Ok(answer.values)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.queue.is_none() && self.known_status() > CL_COMPLETE {
            self.context.open_user_events.fetch_sub(1, Ordering::Relaxed);
        }
        if self.id != NO_ID {
            self.context.driver.release(self.id);
        }
    }
}

/// Waits until all of `events` have ended; an error if one of them failed.
pub fn wait(events: &[Arc<Event>]) -> Result<()> {
    let open: Vec<&Arc<Event>> = events.iter().filter(|event| event.known_status() > CL_COMPLETE).collect();
    if let Some(first) = open.first() {
        let ids: Vec<Id> = open.iter().map(|event| event.id).collect();
        let command = first.context.driver.command(WAIT_EVENTS, NO_ID).waits(&ids).map_err(full)?;
        let answer = command.blocking().call().map_err(gone)?;
        if answer.status == CL_SUCCESS {
            open.iter().for_each(|event| event.settle(CL_COMPLETE));
        } else {
            // Which of them failed is in their states; the wait has failed even where (Intel) none of them admits it.
            for event in &open {
                event.current_status()?;
            }
            return Err(answer.status);
        }
    }
    let failed = events.iter().any(|event| event.known_status() < CL_COMPLETE);
    ensure(!failed, CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clWaitForEvents(count: u32, events: *const Raw) -> i32 {
    code(|| {
        ensure(count != 0 && !events.is_null(), CL_INVALID_VALUE)?;
        // SAFETY: the program gave `count` handles.
        let raws = unsafe { list(count as usize, events) };
        let events: Vec<_> =
            raws.into_iter().map(|raw| get::<Event>(raw).map(|event| Arc::clone(&event))).collect::<Result<_>>()?;
        let context = &events[0].context;
        ensure(events.iter().all(|event| Arc::ptr_eq(&event.context, context)), CL_INVALID_CONTEXT)?;
        wait(&events)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clRetainEvent(event: Raw) -> i32 {
    code(|| retain::<Event>(event))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clReleaseEvent(event: Raw) -> i32 {
    code(|| release::<Event>(event))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetEventInfo(
    event: Raw,
    parameter: u32,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let event = get::<Event>(event)?;
        // SAFETY: the program's output arguments, as the specification says.
        let query = unsafe { Query::new(size, value, size_ret) };
        match parameter {
            CL_EVENT_COMMAND_QUEUE => {
                query.handle(event.queue.as_ref().map_or(core::ptr::null_mut(), |queue| queue.identity().raw()))
            }
            CL_EVENT_CONTEXT => query.handle(event.context.identity().raw()),
            CL_EVENT_COMMAND_TYPE => query.value(event.kind),
            CL_EVENT_COMMAND_EXECUTION_STATUS => query.value(event.current_status()?),
            CL_EVENT_REFERENCE_COUNT => query.value(event.identity.references()),
            _ => Err(CL_INVALID_VALUE),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetEventProfilingInfo(
    event: Raw,
    parameter: u32,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let event = get::<Event>(event)?;
        // SAFETY: the program's output arguments, as the specification says.
        let query = unsafe { Query::new(size, value, size_ret) };
        let which = match parameter {
            CL_PROFILING_COMMAND_QUEUED..=CL_PROFILING_COMMAND_COMPLETE => parameter - CL_PROFILING_COMMAND_QUEUED,
            _ => return Err(CL_INVALID_VALUE),
        };
        let profiling = event.queue.as_ref().is_some_and(|queue| queue.properties & CL_QUEUE_PROFILING_ENABLE != 0);
        ensure(profiling, CL_PROFILING_INFO_NOT_AVAILABLE)?;
        query.value(event.profile()?[which as usize])
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateUserEvent(context: Raw, errcode_ret: *mut i32) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe {
        object_frame(errcode_ret, || {
            let context = get::<Context>(context)?;
            create_user(&context).map(publish)
        })
    }
}

/// An event that this side completes.
pub fn create_user(context: &Arc<Context>) -> Result<Arc<Event>> {
    let identity = Identity::new()?;
    let id = context.driver.session.new_id();
    let body = object::CreateUserEvent { context: context.id };
    context.driver.command(CREATE_USER_EVENT, id).body(&body).post().map_err(gone)?;
    context.open_user_events.fetch_add(1, Ordering::Relaxed);
    Ok(Arc::new(Event {
        identity,
        context: Arc::clone(context),
        queue: None,
        kind: CL_COMMAND_USER,
        id,
        place: None,
        status: AtomicI32::new(CL_SUBMITTED),
        deferred: None,
        times: Mutex::new(None),
    }))
}

/// Completes an event of [`create_user`], or lets it fail; an error when that has been done before.
pub fn set_user(event: &Event, new_status: i32) -> Result<()> {
    let changed = event.status.compare_exchange(CL_SUBMITTED, new_status, Ordering::AcqRel, Ordering::Relaxed);
    ensure(changed.is_ok(), CL_INVALID_OPERATION)?;
    event.context.open_user_events.fetch_sub(1, Ordering::Relaxed);
    let body = object::SetUserEvent { status: new_status, reserved: 0 };
    event.context.driver.command(SET_USER_EVENT, event.id).body(&body).post().map_err(gone)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSetUserEventStatus(event: Raw, new_status: i32) -> i32 {
    code(|| {
        let event = get::<Event>(event)?;
        ensure(event.queue.is_none(), CL_INVALID_EVENT)?;
        ensure(new_status <= CL_COMPLETE, CL_INVALID_VALUE)?;
        set_user(&event, new_status)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSetEventCallback(
    event: Raw,
    wanted: i32,
    notify: Option<Notify>,
    user_data: *mut c_void,
) -> i32 {
    code(|| {
        let event = Arc::clone(&*get::<Event>(event)?);
        let notify = notify.ok_or(CL_INVALID_VALUE)?;
        ensure((CL_COMPLETE..=CL_SUBMITTED).contains(&wanted), CL_INVALID_VALUE)?;
        let user_data = user_data as usize;
        let call = move |event: Arc<Event>| {
            let reached = event.known_status().min(wanted);
            // SAFETY: the program registered the function for this call; the event is alive meanwhile.
            unsafe { notify(event.identity.raw(), reached, user_data as *mut c_void) };
        };
        if event.known_status() <= CL_COMPLETE {
            call(event);
            return Ok(());
        }
        callback::spawn(Box::new(move || {
            if let Err(code) = wait(core::slice::from_ref(&event))
                && event.known_status() > CL_COMPLETE
            {
                event.settle(code);
            }
            call(event);
        }))
    })
}

/// Stores a new event's handle where the program wants it; without a wish it lives until its command is done.
pub fn hand_out(event: Arc<Event>, event_ret: *mut Raw) {
    let raw = publish(event);
    // SAFETY: the caller has checked that the pointer is not null, so the program can be written to there.
    unsafe { store(event_ret, raw) };
}
