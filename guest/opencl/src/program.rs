//! Programs: creation and builds.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::{c_char, c_void};
use core::sync::atomic::{AtomicU32, Ordering};

use kasoku_abi::accel::command::{BUILD_PROGRAM, CREATE_PROGRAM, GET_INFO};
use kasoku_abi::accel::{Id, info, program};
use kasoku_accel_client::lock::Mutex;

use crate::answer::{c_text, list};
use crate::callback::{Destructor, Destructors};
use crate::cl::*;
use crate::context::Context;
use crate::device::Device;
use crate::driver::{Records, ask};
use crate::error::{Result, code, ensure, full, gone, object as object_frame, status, store};
use crate::handle::{Identity, Object, Raw, get, publish, release, retain};
use crate::include::{self, Options};

/// `void (*)(cl_program, void *user_data)`.
pub type Notify = Destructor;

/// Where a program comes from.
pub enum Origin {
    Source(Vec<u8>),
    Binary,
    Intermediate(Vec<u8>),
}

pub struct Program {
    identity: Identity,
    pub context: Arc<Context>,
    pub id: Id,
    pub devices: Vec<Arc<Device>>,
    pub origin: Origin,
    /// What the broker says since the last build, and the options of that.
    pub built: Mutex<(Arc<Records>, Vec<u8>)>,
    /// Kernels that exist: the program cannot be built anew under them.
    pub kernels: AtomicU32,
    destructors: Destructors,
}

impl Object for Program {
    const KIND: u32 = 7;
    const INVALID: i32 = CL_INVALID_PROGRAM;
    fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl Program {
    pub fn records(&self) -> Arc<Records> {
        Arc::clone(&self.built.lock().0)
    }

    /// Whether it can run on some device, or on `device`.
    pub fn is_executable(&self, device: Option<u32>) -> bool {
        let records = self.records();
        let built = |index| records.value::<i32>(info::BUILD, index, CL_PROGRAM_BUILD_STATUS) == Some(CL_BUILD_SUCCESS);
        match device {
            Some(index) => built(index),
            None => self.devices.iter().any(|device| built(device.index)),
        }
    }

    /// The device of that handle, which the program was made for.
    pub fn device(&self, raw: Raw) -> Result<Arc<Device>> {
        let device = get::<Device>(raw)?;
        ensure(self.devices.iter().any(|member| Arc::ptr_eq(member, &device)), CL_INVALID_DEVICE)?;
        Ok(Arc::clone(&device))
    }

    /// The binary for a device; empty before a build.
    pub fn binary(&self, device: &Device) -> Result<Vec<u8>> {
        if !matches!(self.origin, Origin::Binary) && !self.is_executable(Some(device.index)) {
            return Ok(Vec::new());
        }
        let driver = self.context.driver;
        let (kind, parameter) = (info::BUILD, info::BUILD_BINARY);
        ask(&driver.session, 256 << 10, |out| {
            let body = info::GetInfo { kind, index: device.index, parameter, input_len: 0, input: [0; 3], out };
            Ok(driver.command(GET_INFO, self.id).body(&body))
        })
    }

    fn build(&self, devices: &[Arc<Device>], options: &[u8]) -> Result<()> {
        let driver = self.context.driver;
        let parsed = Options::parse(options);
        let headers = match &self.origin {
            Origin::Source(source) => include::collect(source, &parsed.directories),
            Origin::Binary | Origin::Intermediate(_) => Vec::new(),
        };
        // What arguments are lets this library check them by itself (`argument`).
        let wire = [&parsed.rest[..], b" -cl-kernel-arg-info"].concat();
        let mut command = driver.command(BUILD_PROGRAM, self.id);
        let body = program::BuildProgram {
            devices: devices.iter().fold(0, |mask, device| mask | 1 << device.index),
            options: command.attach(&wire).map_err(full)?,
            headers: command.attach(&headers).map_err(full)?,
        };
        let answer = command.body(&body).call().map_err(gone)?;
        let records = driver.describe(self.id)?;
        *self.built.lock() = (Arc::new(records), Vec::from(options));
        status(answer.status)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.destructors.run(self.identity.raw());
        self.context.driver.release(self.id);
    }
}

fn create(context: &Arc<Context>, devices: Vec<Arc<Device>>, kind: u32, text: &[u8], origin: Origin) -> Result<Raw> {
    let identity = Identity::new()?;
    let driver = context.driver;
    let id = driver.session.new_id();
    let mut command = driver.command(CREATE_PROGRAM, id);
    let text = command.attach(text).map_err(full)?;
    let device = devices[0].index;
    let command = command.body(&program::CreateProgram { context: context.id, kind, device, text });
    // Text fails at its build; a binary is judged at once.
    if kind == program::SOURCE {
        command.post().map_err(gone)?;
    } else {
        status(command.call().map_err(gone)?.status)?;
    }
    Ok(publish(Arc::new(Program {
        identity,
        context: Arc::clone(context),
        id,
        devices,
        origin,
        built: Mutex::default(),
        kernels: AtomicU32::new(0),
        destructors: Destructors::new(),
    })))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateProgramWithSource(
    context: Raw,
    count: u32,
    strings: *const *const c_char,
    lengths: *const usize,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code, and `count` strings.
    unsafe {
        object_frame(errcode_ret, || {
            let context = get::<Context>(context)?;
            ensure(count != 0 && !strings.is_null(), CL_INVALID_VALUE)?;
            let lengths = list(count as usize, lengths);
            let mut source = Vec::new();
            for (at, string) in list(count as usize, strings).into_iter().enumerate() {
                ensure(!string.is_null(), CL_INVALID_VALUE)?;
                match lengths.get(at) {
                    None | Some(0) => source.extend_from_slice(c_text(string)),
                    Some(&len) => source.extend_from_slice(core::slice::from_raw_parts(string.cast::<u8>(), len)),
                }
            }
            // An empty text is a program without kernels; the broker takes none, so give it a blank.
            let wire: &[u8] = if source.is_empty() { b"\n" } else { &source };
            ensure(wire.len() as u64 <= program::TEXT_MAX, CL_OUT_OF_RESOURCES)?;
            let wire = Vec::from(wire);
            create(&context, context.devices.clone(), program::SOURCE, &wire, Origin::Source(source))
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateProgramWithBinary(
    context: Raw,
    count: u32,
    devices: *const Raw,
    lengths: *const usize,
    binaries: *const *const u8,
    statuses: *mut i32,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code, and `count` elements everywhere.
    unsafe {
        object_frame(errcode_ret, || {
            let context = get::<Context>(context)?;
            ensure(count != 0 && !devices.is_null(), CL_INVALID_VALUE)?;
            ensure(!lengths.is_null() && !binaries.is_null(), CL_INVALID_VALUE)?;
            let devices = context.devices_of(count, devices)?;
            let (lengths, binaries) = (list(count as usize, lengths), list(count as usize, binaries));
            for (at, (&len, &binary)) in lengths.iter().zip(&binaries).enumerate() {
                if len == 0 || binary.is_null() {
                    store_status(statuses, at, CL_INVALID_VALUE);
                    return Err(CL_INVALID_VALUE);
                }
            }
            // The protocol carries one binary for one device.
            ensure(devices.len() == 1, CL_INVALID_BINARY)?;
            let binary = core::slice::from_raw_parts(binaries[0], lengths[0]);
            let result = create(&context, devices, program::BINARY, binary, Origin::Binary);
            store_status(statuses, 0, result.err().unwrap_or(CL_SUCCESS));
            result
        })
    }
}

/// Stores the status of one binary.
///
/// # Safety
/// `statuses` is null or has more than `at` elements.
unsafe fn store_status(statuses: *mut i32, at: usize, status: i32) {
    if !statuses.is_null() {
        // SAFETY: the caller's promise.
        unsafe { store(statuses.add(at), status) };
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateProgramWithIL(
    context: Raw,
    text: *const c_void,
    len: usize,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code, and `len` bytes.
    unsafe {
        object_frame(errcode_ret, || {
            let context = get::<Context>(context)?;
            let taken = context.devices.iter().all(|device| {
                let version = device.driver.records.text(info::DEVICE, device.index, CL_DEVICE_IL_VERSION);
                version.is_some_and(|version| !version.is_empty())
            });
            ensure(taken, CL_INVALID_OPERATION)?;
            ensure(!text.is_null() && len != 0, CL_INVALID_VALUE)?;
            let bytes = core::slice::from_raw_parts(text.cast::<u8>(), len);
            let origin = Origin::Intermediate(Vec::from(bytes));
            create(&context, context.devices.clone(), program::INTERMEDIATE, bytes, origin)
        })
    }
}

/// No device here has built-in kernels, so every name is unknown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateProgramWithBuiltInKernels(
    context: Raw,
    count: u32,
    devices: *const Raw,
    names: *const c_char,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe {
        object_frame(errcode_ret, || {
            let context = get::<Context>(context)?;
            ensure(count != 0 && !names.is_null(), CL_INVALID_VALUE)?;
            context.devices_of(count, devices)?;
            Err(CL_INVALID_VALUE)
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clRetainProgram(program: Raw) -> i32 {
    code(|| retain::<Program>(program))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clReleaseProgram(program: Raw) -> i32 {
    code(|| release::<Program>(program))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clBuildProgram(
    program: Raw,
    count: u32,
    devices: *const Raw,
    options: *const c_char,
    notify: Option<Notify>,
    user_data: *mut c_void,
) -> i32 {
    code(|| {
        let handle = program;
        let program = get::<Program>(program)?;
        ensure((count == 0) == devices.is_null(), CL_INVALID_VALUE)?;
        ensure(notify.is_some() || user_data.is_null(), CL_INVALID_VALUE)?;
        // SAFETY: the program gave `count` handles, and null or a C string.
        let (raws, options) = unsafe { (list(count as usize, devices), c_text(options)) };
        let mut devices: Vec<_> = raws.into_iter().map(|raw| program.device(raw)).collect::<Result<_>>()?;
        if devices.is_empty() {
            devices = program.devices.clone();
        }
        ensure(program.kernels.load(Ordering::Acquire) == 0, CL_INVALID_OPERATION)?;
        let result = program.build(&devices, options);
        match notify {
            // With a callback the call may return before the build has ended, so its outcome is in the build's status.
            Some(notify) if matches!(result, Ok(()) | Err(CL_BUILD_PROGRAM_FAILURE)) => {
                // SAFETY: the program registered the function for this call.
                unsafe { notify(handle, user_data) };
                Ok(())
            }
            _ => result,
        }
    })
}

/// Separate compilation needs a linker, which no device here has (`CL_DEVICE_LINKER_AVAILABLE`).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCompileProgram(
    program: Raw,
    _count: u32,
    _devices: *const Raw,
    _options: *const c_char,
    _headers_len: u32,
    _headers: *const Raw,
    _names: *const *const c_char,
    _notify: Option<Notify>,
    _user_data: *mut c_void,
) -> i32 {
    code(|| get::<Program>(program).and(Err(CL_COMPILER_NOT_AVAILABLE)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clLinkProgram(
    context: Raw,
    _count: u32,
    _devices: *const Raw,
    _options: *const c_char,
    _programs_len: u32,
    _programs: *const Raw,
    _notify: Option<Notify>,
    _user_data: *mut c_void,
    errcode_ret: *mut i32,
) -> Raw {
    // SAFETY: the program passes null or a place for the code.
    unsafe { object_frame(errcode_ret, || get::<Context>(context).and(Err(CL_LINKER_NOT_AVAILABLE))) }
}

/// Deprecated since 3.0, where it may be refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSetProgramReleaseCallback(
    program: Raw,
    notify: Option<Notify>,
    user_data: *mut c_void,
) -> i32 {
    code(|| get::<Program>(program)?.destructors.add(notify, user_data))
}

/// Only programs of an intermediate language have constants to specialise, and the protocol does not carry them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSetProgramSpecializationConstant(
    program: Raw,
    _id: u32,
    _size: usize,
    _value: *const c_void,
) -> i32 {
    code(|| get::<Program>(program).and(Err(CL_INVALID_OPERATION)))
}
