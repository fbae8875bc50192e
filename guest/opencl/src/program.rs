//! Programs: creation and builds.
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::{c_char, c_void};
use core::sync::atomic::{AtomicU32, Ordering};

use kasoku_abi::accel::command::{BUILD_PROGRAM, CREATE_PROGRAM, GET_INFO};
use kasoku_abi::accel::{Id, info, program};
use kasoku_accel_client::lock::Mutex;
use zerocopy::IntoBytes;

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
    /// Other programs.
    Linked,
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
    /// Specialisation constants, by number, for the next build.
    pub constants: Mutex<BTreeMap<u32, program::Constant>>,
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
    /// A program that the broker knows by `id`, not yet built.
    pub fn new(identity: Identity, context: &Arc<Context>, id: Id, devices: Vec<Arc<Device>>, origin: Origin) -> Self {
        Self {
            identity,
            context: Arc::clone(context),
            id,
            devices,
            origin,
            built: Mutex::default(),
            kernels: AtomicU32::new(0),
            constants: Mutex::new(BTreeMap::new()),
            destructors: Destructors::new(),
        }
    }

    pub fn records(&self) -> Arc<Records> {
        Arc::clone(&self.built.lock().0)
    }

    /// The kind of binary that the last build made for a device, `CL_PROGRAM_BINARY_TYPE_*`.
    pub fn binary_type(&self, device: u32) -> u32 {
        let records = self.records();
        let status = records.value::<i32>(info::BUILD, device, CL_PROGRAM_BUILD_STATUS);
        let built = status == Some(CL_BUILD_SUCCESS);
        let kind = records.value(info::BUILD, device, CL_PROGRAM_BINARY_TYPE);
        if built { kind.unwrap_or(CL_PROGRAM_BINARY_TYPE_NONE) } else { CL_PROGRAM_BINARY_TYPE_NONE }
    }

    /// Whether it can run on some device, or on `device`.
    pub fn is_executable(&self, device: Option<u32>) -> bool {
        let runs = |index| self.binary_type(index) == CL_PROGRAM_BINARY_TYPE_EXECUTABLE;
        match device {
            Some(index) => runs(index),
            None => self.devices.iter().any(|device| runs(device.index)),
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
        let built = self.binary_type(device.index) != CL_PROGRAM_BINARY_TYPE_NONE;
        if !matches!(self.origin, Origin::Binary) && !built {
            return Ok(Vec::new());
        }
        let driver = self.context.driver;
        let (kind, parameter) = (info::BUILD, info::BUILD_BINARY);
        ask(&driver.session, 256 << 10, |out| {
            let body = info::GetInfo { kind, index: device.index, parameter, input_len: 0, input: [0; 3], out };
            Ok(driver.command(GET_INFO, self.id).body(&body))
        })
    }

    /// Builds or compiles it; `embedded`: names and texts of headers that the program gave.
    pub fn make(
        &self,
        operation: u32,
        devices: &[Arc<Device>],
        options: &[u8],
        embedded: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Result<()> {
        let driver = self.context.driver;
        let parsed = Options::parse(options);
        let headers = match &self.origin {
            Origin::Source(source) => include::collect(source, &parsed.directories, embedded),
            Origin::Binary | Origin::Intermediate(_) | Origin::Linked => Vec::new(),
        };
        let constants: Vec<program::Constant> = self.constants.lock().values().copied().collect();
        // What arguments are lets this library check them by itself (`argument`). A binary has its options already.
        let told: &[u8] = if matches!(self.origin, Origin::Binary) { b"" } else { b" -cl-kernel-arg-info" };
        let wire = [&parsed.rest[..], told].concat();
        let mut command = driver.command(operation, self.id);
        let body = program::BuildProgram {
            devices: devices.iter().fold(0, |mask, device| mask | 1 << device.index),
            options: command.attach(&wire).map_err(full)?,
            headers: command.attach(&headers).map_err(full)?,
            constants: command.attach(constants.as_bytes()).map_err(full)?,
        };
        let answer = command.body(&body).call().map_err(gone)?;
        let records = driver.describe(self.id)?;
        *self.built.lock() = (Arc::new(records), Vec::from(options));
        status(answer.status)
    }

    /// The devices that a program lists for a build, or all of them for an empty list.
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

/// A build has ended with `result`: with a callback the call may have returned before, so the outcome is in the build's status.
///
/// # Safety
/// `notify` is a function of the program that takes these arguments.
pub unsafe fn tell(result: Result<()>, notify: Option<Notify>, handle: Raw, user_data: *mut c_void) -> Result<()> {
    let built = matches!(result, Ok(()) | Err(CL_BUILD_PROGRAM_FAILURE | CL_COMPILE_PROGRAM_FAILURE));
    match notify.filter(|_| built) {
        Some(notify) => {
            // SAFETY: the caller's promise.
            unsafe { notify(handle, user_data) };
            Ok(())
        }
        None => result,
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
    let program = Program::new(identity, context, id, devices, origin);
    if kind == program::BINARY {
        // What kind of binary it is shows before any build.
        program.built.lock().0 = Arc::new(driver.describe(id)?);
    }
    Ok(publish(Arc::new(program)))
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
        let devices = program.devices_of(count, devices)?;
        ensure(notify.is_some() || user_data.is_null(), CL_INVALID_VALUE)?;
        ensure(!matches!(program.origin, Origin::Linked), CL_INVALID_OPERATION)?;
        ensure(program.kernels.load(Ordering::Acquire) == 0, CL_INVALID_OPERATION)?;
        // SAFETY: the program passes null or a C string.
        let options = unsafe { c_text(options) };
        let result = program.make(BUILD_PROGRAM, &devices, options, Vec::new());
        // SAFETY: the program registered the function for this call.
        unsafe { tell(result, notify, handle, user_data) }
    })
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

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clSetProgramSpecializationConstant(
    program: Raw,
    id: u32,
    size: usize,
    value: *const c_void,
) -> i32 {
    code(|| {
        let program = get::<Program>(program)?;
        let Origin::Intermediate(text) = &program.origin else { return Err(CL_INVALID_PROGRAM) };
        let expected = crate::spirv::constant_size(text, id).ok_or(CL_INVALID_SPEC_ID)?;
        ensure(size == expected && !value.is_null(), CL_INVALID_VALUE)?;
        let mut constant = program::Constant { id, size: size as u32, value: [0; 8] };
        // SAFETY: the program gave `size` bytes, which are at most eight.
        constant.value[..size].copy_from_slice(unsafe { core::slice::from_raw_parts(value.cast(), size) });
        program.constants.lock().insert(id, constant);
        Ok(())
    })
}
