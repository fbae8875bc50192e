//! Command queues, and the commands without data: flush, finish, markers, barriers.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::{null, null_mut};

use kasoku_abi::accel::command::{BARRIER, CREATE_QUEUE, FLUSH, MARKER};
use kasoku_abi::accel::{Id, object};

use crate::answer::{Query, properties};
use crate::cl::*;
use crate::context::Context;
use crate::device::Device;
use crate::error::{Result, code, ensure, gone, object as object_frame, status};
use crate::handle::{Identity, Object, Raw, get, publish, release, retain};
use crate::order::Order;
use crate::progress::Progress;

pub struct Queue {
    identity: Identity,
    pub context: Arc<Context>,
    pub device: Arc<Device>,
    pub id: Id,
    /// `CL_QUEUE_*`.
    pub properties: u64,
    /// As the program gave them to `clCreateCommandQueueWithProperties`.
    property_words: Vec<u64>,
    pub progress: Arc<Progress>,
}

impl Object for Queue {
    const KIND: u32 = 5;
    const INVALID: i32 = CL_INVALID_COMMAND_QUEUE;
    fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.progress.close();
    }
}

fn create(context: Raw, device: Raw, flags: u64, property_words: Vec<u64>) -> Result<Raw> {
    let context = get::<Context>(context)?;
    let device = context.device(device)?;
    let supported = device.number(CL_DEVICE_QUEUE_ON_HOST_PROPERTIES);
    ensure(flags & !(CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE | CL_QUEUE_PROFILING_ENABLE) == 0, CL_INVALID_VALUE)?;
    ensure(flags & !supported == 0, CL_INVALID_QUEUE_PROPERTIES)?;
    let out_of_order = flags & CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE != 0;
    let mut queue_flags = if out_of_order { object::QUEUE_OUT_OF_ORDER } else { 0 };
    if flags & CL_QUEUE_PROFILING_ENABLE != 0 {
        queue_flags |= object::QUEUE_PROFILING;
    }
    let identity = Identity::new()?;
    let driver = context.driver;
    let id = driver.session.new_id();
    let body = object::CreateQueue { context: context.id, device: device.index, flags: queue_flags };
    status(driver.command(CREATE_QUEUE, id).body(&body).call().map_err(gone)?.status)?;
    Ok(publish(Arc::new(Queue {
        identity,
        context: Arc::clone(&context),
        device,
        id,
        properties: flags,
        property_words,
        progress: Arc::new(Progress::new(driver, id, !out_of_order)),
    })))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateCommandQueue(context: Raw, device: Raw, flags: u64, errcode_ret: *mut i32) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { object_frame(errcode_ret, || create(context, device, flags, Vec::new())) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateCommandQueueWithProperties(
    context: Raw,
    device: Raw,
    props: *const u64,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code, and null or a list that ends in 0.
    unsafe {
        object_frame(errcode_ret, || {
            let (pairs, words) = properties(props);
            get::<Context>(context)?.device(device)?;
            let mut flags = 0;
            for (key, value) in pairs {
                match key as u32 {
                    CL_QUEUE_PROPERTIES => flags = value,
                    // A size is for queues on a device, which there are none of.
                    CL_QUEUE_SIZE => return Err(CL_INVALID_QUEUE_PROPERTIES),
                    _ => return Err(CL_INVALID_VALUE),
                }
            }
            ensure(flags & (CL_QUEUE_ON_DEVICE | CL_QUEUE_ON_DEVICE_DEFAULT) == 0, CL_INVALID_QUEUE_PROPERTIES)?;
            create(context, device, flags, words)
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clRetainCommandQueue(queue: Raw) -> i32 {
    code(|| retain::<Queue>(queue))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clReleaseCommandQueue(queue: Raw) -> i32 {
    code(|| release::<Queue>(queue))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetCommandQueueInfo(
    queue: Raw,
    parameter: u32,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let queue = get::<Queue>(queue)?;
        // SAFETY: the program's output arguments, as the specification says.
        let query = unsafe { Query::new(size, value, size_ret) };
        match parameter {
            CL_QUEUE_CONTEXT => query.handle(queue.context.identity().raw()),
            CL_QUEUE_DEVICE => query.handle(queue.device.identity().raw()),
            CL_QUEUE_REFERENCE_COUNT => query.value(queue.identity.references()),
            CL_QUEUE_PROPERTIES => query.value(queue.properties),
            CL_QUEUE_PROPERTIES_ARRAY => query.words(&queue.property_words),
            CL_QUEUE_DEVICE_DEFAULT => query.handle(null_mut()),
            // Valid for queues on a device only.
            CL_QUEUE_SIZE => Err(CL_INVALID_COMMAND_QUEUE),
            _ => Err(CL_INVALID_VALUE),
        }
    })
}

/// Deprecated since 1.1, where it was already allowed to fail: properties are fixed at creation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSetCommandQueueProperty(queue: Raw, _flags: u64, _enable: u32, _old_ret: *mut u64) -> i32 {
    code(|| get::<Queue>(queue).and(Err(CL_INVALID_OPERATION)))
}

/// There are no queues on devices.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSetDefaultDeviceCommandQueue(context: Raw, device: Raw, _queue: Raw) -> i32 {
    code(|| get::<Context>(context)?.device(device).and(Err(CL_INVALID_OPERATION)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clFlush(queue: Raw) -> i32 {
    code(|| {
        let queue = get::<Queue>(queue)?;
        if queue.progress.is_idle() {
            return queue.context.driver.session.check().map_err(gone);
        }
        queue.context.driver.command(FLUSH, queue.id).post().map_err(gone)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clFinish(queue: Raw) -> i32 {
    code(|| get::<Queue>(queue)?.progress.finish())
}

fn point(operation: u32, kind: u32, queue: Raw, count: u32, waits: *const Raw, event: *mut Raw) -> Result<()> {
    let queue = get::<Queue>(queue)?;
    let order = Order::new(&queue, kind, count, waits, event)?;
    if order.is_free() {
        let now = order.now_ns();
        return order.done(now);
    }
    let command = queue.context.driver.command(operation, queue.id);
    order.post(command, &[], None)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueMarkerWithWaitList(
    queue: Raw,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| point(MARKER, CL_COMMAND_MARKER, queue, count, waits, event))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueBarrierWithWaitList(
    queue: Raw,
    count: u32,
    waits: *const Raw,
    event: *mut Raw,
) -> i32 {
    code(|| point(BARRIER, CL_COMMAND_BARRIER, queue, count, waits, event))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueMarker(queue: Raw, event: *mut Raw) -> i32 {
    code(|| {
        get::<Queue>(queue)?;
        ensure(!event.is_null(), CL_INVALID_VALUE)?;
        point(MARKER, CL_COMMAND_MARKER, queue, 0, null(), event)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueBarrier(queue: Raw) -> i32 {
    code(|| point(BARRIER, CL_COMMAND_BARRIER, queue, 0, null(), null_mut()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clEnqueueWaitForEvents(queue: Raw, count: u32, waits: *const Raw) -> i32 {
    code(|| {
        get::<Queue>(queue)?;
        ensure(count != 0 && !waits.is_null(), CL_INVALID_VALUE)?;
        let result = point(BARRIER, CL_COMMAND_BARRIER, queue, count, waits, null_mut());
        result.map_err(|code| if code == CL_INVALID_EVENT_WAIT_LIST { CL_INVALID_EVENT } else { code })
    })
}
