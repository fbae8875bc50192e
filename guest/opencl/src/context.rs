//! Contexts.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::{c_char, c_void};
use core::sync::atomic::AtomicU32;

use kasoku_abi::accel::command::CREATE_CONTEXT;
use kasoku_abi::accel::{Id, object};

use crate::answer::{Query, list, properties};
use crate::callback::{Destructor, Destructors};
use crate::cl::*;
use crate::device::{Device, list_of, of_type};
use crate::driver::Driver;
use crate::error::{Result, code, ensure, gone, object as object_frame, status};
use crate::handle::{Identity, Object, Raw, get, publish, release, retain};
use crate::platform::{self, Platform};

/// Called with errors of a context; no error here comes without a call that reports it.
type Notify = Option<unsafe extern "C" fn(*const c_char, *const c_void, usize, *mut c_void)>;

pub struct Context {
    identity: Identity,
    pub driver: &'static Driver,
    pub id: Id,
    pub devices: Vec<Arc<Device>>,
    /// As the program gave them.
    properties: Vec<u64>,
    /// User events that are not yet set: while there are any, the order of commands may depend on the program's next calls.
    pub open_user_events: AtomicU32,
    destructors: Destructors,
}

impl Object for Context {
    const KIND: u32 = 3;
    const INVALID: i32 = CL_INVALID_CONTEXT;
    fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl Context {
    /// The context's device of that handle.
    pub fn device(&self, raw: Raw) -> Result<Arc<Device>> {
        let device = get::<Device>(raw)?;
        ensure(self.devices.iter().any(|member| Arc::ptr_eq(member, &device)), CL_INVALID_DEVICE)?;
        Ok(Arc::clone(&device))
    }

    /// The devices that a program lists, or all of them for an empty list.
    pub fn devices_of(&self, count: u32, devices: *const Raw) -> Result<Vec<Arc<Device>>> {
        ensure((count == 0) == devices.is_null(), CL_INVALID_VALUE)?;
        // SAFETY: the program gave `count` handles.
        let raws = unsafe { list(count as usize, devices) };
        if raws.is_empty() {
            return Ok(self.devices.clone());
        }
        raws.into_iter().map(|raw| self.device(raw)).collect()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.destructors.run(self.identity.raw());
        self.driver.release(self.id);
    }
}

/// Checks the properties of a new context; the platform they name, if any.
fn check_properties(pairs: &[(u64, u64)]) -> Result<Option<Raw>> {
    let mut platform = None;
    for (at, &(key, value)) in pairs.iter().enumerate() {
        ensure(pairs[..at].iter().all(|(other, _)| *other != key), CL_INVALID_PROPERTY)?;
        match key {
            CL_CONTEXT_PLATFORM => platform = Some(platform::find(value as Raw).map_err(|_| CL_INVALID_PLATFORM)?),
            CL_CONTEXT_INTEROP_USER_SYNC => ensure(value <= 1, CL_INVALID_PROPERTY)?,
            _ => return Err(CL_INVALID_PROPERTY),
        }
    }
    Ok(platform)
}

fn create(devices: Vec<Arc<Device>>, properties: Vec<u64>) -> Result<Raw> {
    let driver = devices[0].driver;
    let identity = Identity::new()?;
    let id = driver.session.new_id();
    let mask = devices.iter().fold(0, |mask, device| mask | 1 << device.index);
    let command = driver.command(CREATE_CONTEXT, id).body(&object::CreateContext { devices: mask });
    status(command.call().map_err(gone)?.status)?;
    Ok(publish(Arc::new(Context {
        identity,
        driver,
        id,
        devices,
        properties,
        open_user_events: AtomicU32::new(0),
        destructors: Destructors::new(),
    })))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateContext(
    props: *const u64,
    count: u32,
    devices: *const Raw,
    notify: Notify,
    user_data: *mut c_void,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe {
        object_frame(errcode_ret, || {
            let (pairs, words) = properties(props);
            let platform = check_properties(&pairs)?;
            ensure(count != 0 && !devices.is_null(), CL_INVALID_VALUE)?;
            ensure(notify.is_some() || user_data.is_null(), CL_INVALID_VALUE)?;
            let devices = list_of(&list(count as usize, devices))?;
            ensure(platform.is_none_or(|raw| raw == devices[0].driver.platform()), CL_INVALID_DEVICE)?;
            create(devices, words)
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateContextFromType(
    props: *const u64,
    kind: u64,
    notify: Notify,
    user_data: *mut c_void,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe {
        object_frame(errcode_ret, || {
            let (pairs, words) = properties(props);
            let platform = match check_properties(&pairs)? {
                Some(raw) => raw,
                None => platform::find(core::ptr::null_mut())?,
            };
            ensure(notify.is_some() || user_data.is_null(), CL_INVALID_VALUE)?;
            create(of_type(&*get::<Platform>(platform)?, kind)?, words)
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clRetainContext(context: Raw) -> i32 {
    code(|| retain::<Context>(context))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clReleaseContext(context: Raw) -> i32 {
    code(|| release::<Context>(context))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetContextInfo(
    context: Raw,
    parameter: u32,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let context = get::<Context>(context)?;
        // SAFETY: the program's output arguments, as the specification says.
        let query = unsafe { Query::new(size, value, size_ret) };
        match parameter {
            CL_CONTEXT_REFERENCE_COUNT => query.value(context.identity.references()),
            CL_CONTEXT_NUM_DEVICES => query.value(context.devices.len() as u32),
            CL_CONTEXT_DEVICES => query.handles(context.devices.iter().map(|device| device.identity().raw())),
            CL_CONTEXT_PROPERTIES => query.words(&context.properties),
            _ => Err(CL_INVALID_VALUE),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSetContextDestructorCallback(
    context: Raw,
    notify: Option<Destructor>,
    user_data: *mut c_void,
) -> i32 {
    code(|| get::<Context>(context)?.destructors.add(notify, user_data))
}
