//! Devices: what the lease grants, described by the broker and corrected by what this library offers.
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::c_void;

use kasoku_abi::accel::info;
use kasoku_accel_client::sys;
use zerocopy::FromBytes;

use crate::answer::Query;
use crate::cl::*;
use crate::driver::Driver;
use crate::error::{Result, code, ensure, store};
use crate::extensions;
use crate::handle::{Identity, Object, Raw, get, publish};
use crate::platform::{self, Platform};

pub struct Device {
    identity: Identity,
    pub driver: &'static Driver,
    /// Its number in the session.
    pub index: u32,
}

impl Object for Device {
    const KIND: u32 = 2;
    const INVALID: i32 = CL_INVALID_DEVICE;
    fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl Device {
    /// A device whose handle is valid for ever, as those of root devices are.
    pub fn create(driver: &'static Driver, index: u32) -> Result<Arc<Self>> {
        let device = Arc::new(Self { identity: Identity::new()?, driver, index });
        publish(Arc::clone(&device));
        Ok(device)
    }

    /// A parameter that is one integer or structure.
    pub fn value<T: FromBytes>(&self, parameter: u32) -> Option<T> {
        self.driver.records.value(info::DEVICE, self.index, parameter)
    }

    /// A parameter of type `size_t` or `cl_ulong`; 0 when the driver does not know it.
    pub fn number(&self, parameter: u32) -> u64 {
        self.value(parameter).unwrap_or(0)
    }

    fn kind(&self) -> u64 {
        self.number(CL_DEVICE_TYPE)
    }

    fn bytes(&self, parameter: u32) -> Result<&[u8]> {
        self.driver.records.bytes(info::DEVICE, self.index, parameter).ok_or(CL_INVALID_VALUE)
    }

    fn answer(&self, parameter: u32, query: Query) -> Result<()> {
        match parameter {
            CL_DEVICE_PLATFORM => query.handle(self.driver.platform()),
            CL_DEVICE_PARENT_DEVICE => query.handle(core::ptr::null_mut()),
            CL_DEVICE_REFERENCE_COUNT => query.value(1u32),
            CL_DEVICE_VERSION => query.text(VERSION_TEXT),
            CL_DEVICE_NUMERIC_VERSION => query.value(VERSION),
            CL_DEVICE_EXTENSIONS => query.text(&extensions::of_device(text(self.bytes(parameter)?))),
            CL_DEVICE_EXTENSIONS_WITH_VERSION => {
                let list = extensions::of_device(text(self.bytes(CL_DEVICE_EXTENSIONS)?));
                query.bytes(&extensions::with_versions(&list))
            }
            CL_DEVICE_OPENCL_C_NUMERIC_VERSION_KHR => {
                query.value(language_version(text(self.bytes(CL_DEVICE_OPENCL_C_VERSION)?)))
            }
            CL_DEVICE_OPENCL_C_FEATURES => query.bytes(&extensions::features(self.bytes(parameter)?)),
            CL_DEVICE_EXECUTION_CAPABILITIES => query.value(CL_EXEC_KERNEL),
            CL_DEVICE_BUILT_IN_KERNELS => query.text(b""),
            CL_DEVICE_BUILT_IN_KERNELS_WITH_VERSION => query.bytes(b""),
            // cl_device_partition_property lists that hold their end alone.
            CL_DEVICE_PARTITION_PROPERTIES | CL_DEVICE_PARTITION_TYPE => query.value(0u64),
            CL_DEVICE_SVM_CAPABILITIES => {
                let coarse = if self.driver.shares_addresses { CL_DEVICE_SVM_COARSE_GRAIN_BUFFER } else { 0 };
                query.value(coarse)
            }
            _ if ABSENT_U32.contains(&parameter) => query.value(0u32),
            _ if ABSENT_U64.contains(&parameter) => query.value(0u64),
            _ if parameter >> 16 == info::DEVICE_DIRECT_BUFFERS >> 16 => Err(CL_INVALID_VALUE),
            _ => query.bytes(self.bytes(parameter)?),
        }
    }
}

/// `cl_uint`, `cl_bool` and 32-bit fields of features that this library does not offer.
const ABSENT_U32: &[u32] = &[
    CL_DEVICE_PARTITION_MAX_SUB_DEVICES,
    CL_DEVICE_MAX_PIPE_ARGS,
    CL_DEVICE_PIPE_MAX_ACTIVE_RESERVATIONS,
    CL_DEVICE_PIPE_MAX_PACKET_SIZE,
    CL_DEVICE_PIPE_SUPPORT,
    CL_DEVICE_QUEUE_ON_DEVICE_PREFERRED_SIZE,
    CL_DEVICE_QUEUE_ON_DEVICE_MAX_SIZE,
    CL_DEVICE_MAX_ON_DEVICE_QUEUES,
    CL_DEVICE_MAX_ON_DEVICE_EVENTS,
];

/// The same with 64 bits.
const ABSENT_U64: &[u32] =
    &[CL_DEVICE_QUEUE_ON_DEVICE_PROPERTIES, CL_DEVICE_DEVICE_ENQUEUE_CAPABILITIES, CL_DEVICE_PARTITION_AFFINITY_DOMAIN];

/// `cl_version` of a text such as "OpenCL C 1.2 ...".
fn language_version(text: &[u8]) -> u32 {
    let mut numbers = text.split(|byte| !byte.is_ascii_digit()).filter(|digits| !digits.is_empty());
    let mut next = || numbers.next().map_or(0, |digits| digits.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')));
    let major = next();
    major << 22 | next() << 12
}

fn text(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\0").unwrap_or(bytes)
}

/// Checks a list of device handles that belong to one driver.
pub fn list_of(raws: &[Raw]) -> Result<Vec<Arc<Device>>> {
    let devices = raws.iter().map(|&raw| get::<Device>(raw).map(|device| Arc::clone(&device)));
    let mut devices: Vec<_> = devices.collect::<Result<_>>()?;
    let first: *const Driver = devices.first().ok_or(CL_INVALID_VALUE)?.driver;
    ensure(devices.iter().all(|device| core::ptr::eq(device.driver, first)), CL_INVALID_DEVICE)?;
    // A device named twice counts once.
    let mut seen = 0u64;
    devices.retain(|device| {
        let new = seen >> device.index & 1 == 0;
        seen |= 1 << device.index;
        new
    });
    Ok(devices)
}

/// The devices of `platform` that `kind` asks for.
pub fn of_type(platform: &Platform, kind: u64) -> Result<Vec<Arc<Device>>> {
    let known = CL_DEVICE_TYPE_DEFAULT
        | CL_DEVICE_TYPE_CPU
        | CL_DEVICE_TYPE_GPU
        | CL_DEVICE_TYPE_ACCELERATOR
        | CL_DEVICE_TYPE_CUSTOM;
    ensure(kind == CL_DEVICE_TYPE_ALL || (kind != 0 && kind & !known == 0), CL_INVALID_DEVICE_TYPE)?;
    let wanted = |device: &&Arc<Device>| match kind {
        CL_DEVICE_TYPE_ALL => device.kind() & CL_DEVICE_TYPE_CUSTOM == 0,
        _ => device.kind() & kind != 0 || (kind & CL_DEVICE_TYPE_DEFAULT != 0 && device.index == 0),
    };
    let devices: Vec<_> = platform.devices.iter().filter(wanted).cloned().collect();
    if devices.is_empty() { Err(CL_DEVICE_NOT_FOUND) } else { Ok(devices) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetDeviceIDs(
    platform: Raw,
    kind: u64,
    count: u32,
    devices: *mut Raw,
    found_ret: *mut u32,
) -> i32 {
    code(|| {
        let platform = get::<Platform>(platform::find(platform)?)?;
        ensure(devices.is_null() || count != 0, CL_INVALID_VALUE)?;
        ensure(!(devices.is_null() && found_ret.is_null()), CL_INVALID_VALUE)?;
        let found = of_type(&platform, kind)?;
        // SAFETY: null or writable, as the specification says.
        unsafe { store(found_ret, found.len() as u32) };
        if !devices.is_null() {
            for (at, device) in found.iter().take(count as usize).enumerate() {
                // SAFETY: the program gave room for `count` handles.
                unsafe { devices.add(at).write_unaligned(device.identity.raw()) };
            }
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetDeviceInfo(
    device: Raw,
    parameter: u32,
    size: usize,
    value: *mut c_void,
    size_ret: *mut usize,
) -> i32 {
    code(|| {
        let device = get::<Device>(device)?;
        // SAFETY: the program's output arguments, as the specification says.
        device.answer(parameter, unsafe { Query::new(size, value, size_ret) })
    })
}

/// Root devices are not counted; the call only checks its argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clRetainDevice(device: Raw) -> i32 {
    code(|| get::<Device>(device).map(|_| ()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clReleaseDevice(device: Raw) -> i32 {
    code(|| get::<Device>(device).map(|_| ()))
}

/// No device here can be partitioned (`CL_DEVICE_PARTITION_PROPERTIES` is empty), so no property is supported.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clCreateSubDevices(
    device: Raw,
    _properties: *const isize,
    _count: u32,
    _devices: *mut Raw,
    _found_ret: *mut u32,
) -> i32 {
    code(|| get::<Device>(device).and(Err(CL_INVALID_VALUE)))
}

/// Both clocks are the host's CLOCK_MONOTONIC, which is the guest's too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetDeviceAndHostTimer(device: Raw, device_time: *mut u64, host_time: *mut u64) -> i32 {
    code(|| {
        get::<Device>(device)?;
        ensure(!device_time.is_null() && !host_time.is_null(), CL_INVALID_VALUE)?;
        let now = sys::monotonic_ns();
        // SAFETY: not null, so writable.
        unsafe {
            store(device_time, now);
            store(host_time, now);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clGetHostTimer(device: Raw, host_time: *mut u64) -> i32 {
    code(|| {
        get::<Device>(device)?;
        ensure(!host_time.is_null(), CL_INVALID_VALUE)?;
        // SAFETY: not null, so writable.
        unsafe { store(host_time, sys::monotonic_ns()) };
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn language_versions_are_read_from_their_text() {
        assert_eq!(super::language_version(b"OpenCL C 1.2 PoCL"), 1 << 22 | 2 << 12);
        assert_eq!(super::language_version(b"OpenCL C 3.0 "), 3 << 22);
        assert_eq!(super::language_version(b""), 0);
    }
}
