//! Platforms: one per accelerator session.
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::{c_char, c_void};

use kasoku_abi::accel::info;
use kasoku_accel_client::lock::Mutex;
use kasoku_accel_client::transport::{OpenError, Transport};

use crate::answer::{Query, c_text};
use crate::cl::*;
use crate::device::Device;
use crate::driver::Driver;
use crate::entries::{ENTRIES, Entry, Support};
use crate::error::{Result, code, ensure, store};
use crate::extensions;
use crate::handle::{Identity, Object, Raw, get, publish};

/// Most accelerators of a guest: their nodes are numbered with one digit.
const ACCELERATORS: u8 = 10;

pub struct Platform {
    identity: Identity,
    pub driver: &'static Driver,
    pub devices: Vec<Arc<Device>>,
}

impl Object for Platform {
    const KIND: u32 = 1;
    const INVALID: i32 = CL_INVALID_PLATFORM;
    fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// The platforms found so far. Sessions that could not be opened are tried again at the next call.
static ALL: Mutex<Vec<Arc<Platform>>> = Mutex::new(Vec::new());

fn open(number: u8) -> core::result::Result<Box<dyn Transport>, OpenError> {
    #[cfg(feature = "socket-transport")]
    if number == 0 {
        return Ok(Box::new(kasoku_accel_client::transport::Inherited::open()?));
    }
    Ok(Box::new(kasoku_accel_client::transport::Device::open(number)?))
}

/// All platforms, opened at the first call.
pub fn all() -> Vec<Raw> {
    let mut all = ALL.lock();
    if all.is_empty() {
        // Numbers are dense: the first absent one ends the list. One that cannot be used hides only itself.
        for number in 0..ACCELERATORS {
            match open(number).and_then(Driver::start) {
                Ok(driver) => all.extend(create(driver)),
                Err(OpenError::Absent) => break,
                Err(OpenError::Unusable | OpenError::Gone) => {}
            }
        }
    }
    all.iter().map(|platform| platform.identity.raw()).collect()
}

fn create(driver: &'static Driver) -> Result<Arc<Platform>> {
    let devices = (0..driver.records.devices()).map(|index| Device::create(driver, index)).collect::<Result<_>>()?;
    let platform = Arc::new(Platform { identity: Identity::new()?, driver, devices });
    driver.set_platform(publish(Arc::clone(&platform)));
    Ok(platform)
}

/// The platform named, or the only one where the program leaves the choice to us.
pub fn find(raw: Raw) -> Result<Raw> {
    if !raw.is_null() {
        get::<Platform>(raw)?;
        return Ok(raw);
    }
    all().first().copied().ok_or(CL_INVALID_PLATFORM)
}

fn list(count: u32, platforms: *mut Raw, found_ret: *mut u32, none: i32) -> Result<()> {
    ensure(!(platforms.is_null() && found_ret.is_null()), CL_INVALID_VALUE)?;
    ensure(platforms.is_null() || count != 0, CL_INVALID_VALUE)?;
    let all = all();
    // SAFETY: null or writable, as the specification says.
    unsafe { store(found_ret, all.len() as u32) };
    ensure(!all.is_empty(), none)?;
    if !platforms.is_null() {
        for (at, &raw) in all.iter().take(count as usize).enumerate() {
            // SAFETY: the program gave room for `count` handles.
            unsafe { platforms.add(at).write_unaligned(raw) };
        }
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clIcdGetPlatformIDsKHR(count: u32, platforms: *mut Raw, found_ret: *mut u32) -> i32 {
    code(|| list(count, platforms, found_ret, CL_PLATFORM_NOT_FOUND_KHR))
}

/// When this library is itself opened as `libOpenCL.so.1`. Like a loader it fails without any platform.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetPlatformIDs(count: u32, platforms: *mut Raw, found_ret: *mut u32) -> i32 {
    code(|| list(count, platforms, found_ret, CL_PLATFORM_NOT_FOUND_KHR))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetPlatformInfo(
    platform: Raw,
    parameter: u32,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let platform = get::<Platform>(find(platform)?)?;
        // SAFETY: the program's output arguments, as the specification says.
        let query = unsafe { Query::new(size, value, size_ret) };
        let records = &platform.driver.records;
        match parameter {
            CL_PLATFORM_PROFILE => query.text(b"FULL_PROFILE"),
            CL_PLATFORM_VERSION => query.text(VERSION_TEXT),
            CL_PLATFORM_NUMERIC_VERSION => query.value(VERSION),
            // The name of the implementation behind is part of ours: programs that treat one specially still see it, and
            // none takes this platform for that implementation itself.
            CL_PLATFORM_NAME => {
                let mut name = Vec::from(&b"Kasoku"[..]);
                if let Some(behind) = records.text(info::PLATFORM, 0, CL_PLATFORM_NAME) {
                    name.extend([b" (", behind, b")"].concat());
                }
                query.text(&name)
            }
            CL_PLATFORM_VENDOR => query.text(b"Kasoku"),
            CL_PLATFORM_EXTENSIONS => query.text(extensions::PLATFORM),
            CL_PLATFORM_EXTENSIONS_WITH_VERSION => query.bytes(&extensions::with_versions(extensions::PLATFORM)),
            CL_PLATFORM_ICD_SUFFIX_KHR => query.text(b"KASOKU"),
            CL_PLATFORM_HOST_TIMER_RESOLUTION => query.value(0u64),
            _ => Err(CL_INVALID_VALUE),
        }
    })
}

fn function(name: *const c_char) -> *mut c_void {
    // SAFETY: the program passes a C string.
    let name = unsafe { c_text(name) };
    // Functions of extensions that are not offered are not given out: programs take them as a sign of the extension.
    let given = |entry: &Entry| entry.support == Support::Works || !entry.since.starts_with("cl_");
    let entry = ENTRIES.iter().find(|entry| entry.name.as_bytes() == name && given(entry));
    entry.map_or(core::ptr::null_mut(), |entry| entry.function.0.cast_mut().cast())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetExtensionFunctionAddress(name: *const c_char) -> *mut c_void {
    function(name)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetExtensionFunctionAddressForPlatform(platform: Raw, name: *const c_char) -> *mut c_void {
    if get::<Platform>(platform).is_err() { core::ptr::null_mut() } else { function(name) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clUnloadPlatformCompiler(platform: Raw) -> i32 {
    code(|| get::<Platform>(platform).map(|_| ()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clUnloadCompiler() -> i32 {
    CL_SUCCESS
}
