//! Opening one implementation and asking it for what it has.
use crate::constants as cl;
use crate::ffi::{self, Api, Api21, Raw, SetAddress, Specialize};
use core::ffi::{CStr, c_void};
use kasoku_backend::Status;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Why an implementation cannot be used.
#[derive(Debug)]
pub struct OpenError(pub String);

impl core::fmt::Display for OpenError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

/// A loaded library. It is never unloaded: drivers keep threads.
pub struct Library {
    path: String,
    get_platforms: unsafe extern "C" fn(u32, *mut Raw, *mut u32) -> i32,
}

/// A platform with its entry points.
#[derive(Clone, Copy)]
pub struct Platform {
    pub raw: Raw,
    pub api: &'static Api,
    pub api21: Option<&'static Api21>,
    pub specialize: Option<Specialize>,
    pub set_address: Option<SetAddress>,
}

// SAFETY: OpenCL platforms may be used from any thread.
unsafe impl Send for Platform {}
// SAFETY: as above.
unsafe impl Sync for Platform {}

impl Library {
    /// Maps the library and its dependencies; no code of the platform runs yet beyond static constructors.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let name = path.display().to_string();
        let c_path = CString::new(path.as_os_str().as_bytes()).map_err(|_| OpenError(format!("{name}: not a path")))?;
        // SAFETY: a plain dlopen; what the library's constructors do is the administrator's choice of library.
        let handle = unsafe { libc::dlopen(c_path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            return Err(OpenError(format!("cannot load {name}: {}", last_dl_error())));
        }
        // SAFETY: dlsym on a handle that is never closed.
        let lookup = unsafe { libc::dlsym(handle, c"clGetExtensionFunctionAddress".as_ptr()) };
        if lookup.is_null() {
            return Err(OpenError(format!(
                "{name} is not an OpenCL vendor library (no clGetExtensionFunctionAddress)"
            )));
        }
        // SAFETY: the type of that entry point in every version of OpenCL.
        let lookup: unsafe extern "C" fn(*const core::ffi::c_char) -> Raw = unsafe { core::mem::transmute(lookup) };
        // SAFETY: a call with a C string, as a loader makes it.
        let entry = unsafe { lookup(c"clIcdGetPlatformIDsKHR".as_ptr()) };
        if entry.is_null() {
            return Err(OpenError(format!("{name} has no clIcdGetPlatformIDsKHR (cl_khr_icd)")));
        }
        // SAFETY: the type that cl_khr_icd gives this function.
        let get_platforms =
            unsafe { core::mem::transmute::<Raw, unsafe extern "C" fn(u32, *mut Raw, *mut u32) -> i32>(entry) };
        Ok(Self { path: name, get_platforms })
    }

    /// The library's first platform (every implementation in use has one). Runs the driver's initialisation.
    pub fn platform(&self) -> Result<Platform, OpenError> {
        let mut raw: Raw = core::ptr::null_mut();
        let mut count = 0;
        // SAFETY: room for one platform is given and said.
        let status = unsafe { (self.get_platforms)(1, &raw mut raw, &raw mut count) };
        if status != 0 || count == 0 || raw.is_null() {
            return Err(OpenError(format!("{}: the driver finds no platform (status {status})", self.path)));
        }
        // SAFETY: an ICD platform begins with the pointer to its dispatch table.
        let table = unsafe { raw.cast::<*const *const c_void>().read() };
        // SAFETY: as above; the table belongs to a live platform of at least OpenCL 1.2 (older ones lack slots: None).
        let api = unsafe { Api::read(table) };
        let api: &'static Api =
            Box::leak(Box::new(api.ok_or_else(|| OpenError(format!("{}: older than OpenCL 1.2", self.path)))?));
        let platform = Platform { raw, api, api21: None, specialize: None, set_address: None };
        let version = platform.info_text(cl::PLATFORM_VERSION).unwrap_or_default();
        let api21 = if version_of(&version) >= (2, 1) {
            // SAFETY: the platform says that it is of version 2.1 or newer.
            unsafe { Api21::read(table) }.map(|api| &*Box::leak(Box::new(api)))
        } else {
            None
        };
        let specialize = if version_of(&version) >= (2, 2) {
            // SAFETY: the platform says that it is of version 2.2 or newer.
            unsafe { ffi::specialize(table) }
        } else {
            None
        };
        let set_address = if version_of(&version) >= (2, 0) {
            // SAFETY: the platform says that it is of version 2.0 or newer.
            unsafe { ffi::set_address(table) }
        } else {
            None
        };
        Ok(Platform { api21, specialize, set_address, ..platform })
    }
}

impl Platform {
    pub(crate) fn devices(&self) -> Result<Vec<Raw>, Status> {
        let mut count = 0;
        // SAFETY: asks for the number only.
        let status = unsafe {
            (self.api.get_device_ids)(self.raw, cl::DEVICE_TYPE_ALL, 0, core::ptr::null_mut(), &raw mut count)
        };
        check(status)?;
        let mut devices = vec![core::ptr::null_mut(); count as usize];
        // SAFETY: room for `count` devices is given and said.
        let status = unsafe {
            (self.api.get_device_ids)(self.raw, cl::DEVICE_TYPE_ALL, count, devices.as_mut_ptr(), &raw mut count)
        };
        check(status)?;
        Ok(devices)
    }

    pub fn info(&self, parameter: u32) -> Result<Vec<u8>, Status> {
        // SAFETY: `ask` passes a buffer with its true size.
        ask(|size, value, needed| unsafe { (self.api.get_platform_info)(self.raw, parameter, size, value, needed) })
    }

    pub fn info_text(&self, parameter: u32) -> Result<String, Status> {
        self.info(parameter).map(|value| text(&value))
    }

    pub(crate) fn device_info(&self, device: Raw, parameter: u32) -> Result<Vec<u8>, Status> {
        // SAFETY: `ask` passes a buffer with its true size; `device` comes from `devices`.
        ask(|size, value, needed| unsafe { (self.api.get_device_info)(device, parameter, size, value, needed) })
    }

    pub(crate) fn device_text(&self, device: Raw, parameter: u32) -> String {
        self.device_info(device, parameter).map(|value| text(&value)).unwrap_or_default()
    }

    pub(crate) fn device_u64(&self, device: Raw, parameter: u32) -> u64 {
        self.device_info(device, parameter).map(|value| number(&value)).unwrap_or_default()
    }
}

/// Turns a status into a result.
pub fn check(status: i32) -> Result<(), Status> {
    if status == 0 { Ok(()) } else { Err(Status(status)) }
}

/// Asks an information call for the size of its value, then for the value.
pub fn ask(call: impl Fn(usize, Raw, *mut usize) -> i32) -> Result<Vec<u8>, Status> {
    let mut needed = 0;
    check(call(0, core::ptr::null_mut(), &raw mut needed))?;
    let mut value = vec![0u8; needed];
    if needed > 0 {
        check(call(needed, value.as_mut_ptr().cast(), core::ptr::null_mut()))?;
    }
    Ok(value)
}

/// A text value, without its terminating zero.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).trim().to_owned()
}

/// A little-endian integer of up to 8 bytes.
pub fn number(value: &[u8]) -> u64 {
    let mut bytes = [0u8; 8];
    let count = value.len().min(8);
    bytes[..count].copy_from_slice(&value[..count]);
    u64::from_le_bytes(bytes)
}

/// The numbers of "OpenCL 3.0 ...".
fn version_of(version: &str) -> (u32, u32) {
    let numbers = version.strip_prefix("OpenCL ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let mut parts = numbers.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn last_dl_error() -> String {
    // SAFETY: dlerror returns null or a C string that is valid until the thread's next dl call.
    unsafe {
        let error = libc::dlerror();
        if error.is_null() {
            String::from("unknown error")
        } else {
            CStr::from_ptr(error).to_string_lossy().into_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version_of("OpenCL 3.0 PoCL 3.1"), (3, 0));
        assert_eq!(version_of("OpenCL 1.2"), (1, 2));
        assert_eq!(version_of("nonsense"), (0, 0));
    }

    #[test]
    fn a_library_that_is_none_is_refused_with_its_name() {
        let error = Library::open(Path::new("/does/not/exist.so")).err().unwrap();
        assert!(error.to_string().contains("/does/not/exist.so"), "{error}");
        let error = Library::open(Path::new("libc.so.6")).err().unwrap();
        assert!(error.to_string().contains("not an OpenCL vendor library"), "{error}");
    }
}
