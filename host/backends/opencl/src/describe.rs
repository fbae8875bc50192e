//! Everything constant about an object, for one answer that a guest keeps.
use crate::backend::OpenCl;
use crate::constants as cl;
use crate::kernel::{self, Kernel};
use crate::library::{number, text};
use crate::package;
use crate::program::{self, Program};
use kasoku_abi::accel::info;
use kasoku_backend::{Backend, BuildPhase, Info, Question};

/// Up to which length of calls a guest should poll, ns: about what sleeping costs it; less where it takes a processor from
/// the device that way.
const POLL_NS_SHARED: u32 = 60_000;
const POLL_NS_DISCRETE: u32 = 100_000;

pub fn platform_and_devices(backend: &OpenCl) -> Vec<Info> {
    let platform = &backend.platform;
    let mut records = Vec::new();
    for parameter in cl::PLATFORM_PARAMETERS {
        if let Ok(value) = platform.info(parameter) {
            records.push(Info { kind: info::PLATFORM, index: 0, parameter, value });
        }
    }
    let shared_addresses = u32::from(backend.shares_addresses());
    for (index, device) in backend.devices.iter().enumerate() {
        let mut add =
            |parameter, value| records.push(Info { kind: info::DEVICE, index: index as u32, parameter, value });
        for parameter in cl::DEVICE_PARAMETERS.into_iter().flatten() {
            if cl::DEVICE_HANDLES.contains(&parameter) {
                continue;
            }
            match (parameter, backend.presented) {
                (cl::DEVICE_TYPE, Some(kind)) => add(parameter, kind.to_le_bytes().to_vec()),
                _ => {
                    if let Ok(value) = platform.device_info(device.raw, parameter) {
                        add(parameter, value);
                    }
                }
            }
        }
        let shared = platform.device_u64(device.raw, cl::DEVICE_TYPE) & cl::DEVICE_TYPE_CPU != 0;
        let poll = if shared { POLL_NS_SHARED } else { POLL_NS_DISCRETE };
        add(info::DEVICE_DIRECT_BUFFERS, u32::from(device.direct).to_le_bytes().to_vec());
        add(info::DEVICE_SHARED_ADDRESSES, shared_addresses.to_le_bytes().to_vec());
        add(info::DEVICE_POLL_NS, poll.to_le_bytes().to_vec());
    }
    records
}

pub fn program(backend: &OpenCl, subject: &Program) -> Vec<Info> {
    let mut records = Vec::new();
    let mut ask = |kind, index, parameter| {
        if let Ok(value) = program::info(backend, subject, &Question { kind, index, parameter, input: &[] }) {
            records.push(Info { kind, index, parameter, value });
        }
    };
    for parameter in program::PARAMETERS {
        ask(info::PROGRAM, 0, parameter);
    }
    for index in devices_of(subject.devices) {
        for parameter in program::BUILD_PARAMETERS {
            ask(info::BUILD, index, parameter);
        }
    }
    records
}

/// Status and log of a build, as CL_PROGRAM_BUILD_STATUS and CL_PROGRAM_BUILD_LOG have them, and what kind of binary came of it.
pub fn build(device: u32, phase: BuildPhase, log: &[u8], binary: Option<&[u8]>) -> Vec<Info> {
    let status: i32 = match phase {
        BuildPhase::Done => 0,
        BuildPhase::None => -1,
        BuildPhase::Failed => -2,
        BuildPhase::Running => -3,
    };
    let mut text = log.to_vec();
    text.push(0);
    let record = |parameter, value| Info { kind: info::BUILD, index: device, parameter, value };
    let kind = binary.and_then(package::decode).map(|package| package.kind.to_le_bytes().to_vec());
    let mut records =
        vec![record(cl::PROGRAM_BUILD_STATUS, status.to_le_bytes().to_vec()), record(cl::PROGRAM_BUILD_LOG, text)];
    records.extend(kind.map(|kind| record(cl::PROGRAM_BINARY_TYPE, kind)));
    records
}

pub fn kernel(backend: &OpenCl, subject: &Kernel) -> Vec<Info> {
    let mut records = Vec::new();
    let mut ask = |kind, index, parameter| {
        let value = kernel::info(backend, subject, &Question { kind, index, parameter, input: &[] }).ok()?;
        records.push(Info { kind, index, parameter, value: value.clone() });
        Some(value)
    };
    for parameter in kernel::PARAMETERS {
        ask(info::KERNEL, 0, parameter);
    }
    let arguments = ask(info::KERNEL, 0, cl::KERNEL_NUM_ARGS).map_or(0, |value| number(&value));
    'arguments: for index in 0..arguments as u32 {
        for parameter in cl::KERNEL_ARGUMENT {
            // Without the build option for it no argument has any.
            if ask(info::ARGUMENT, index, parameter).is_none() && parameter == cl::KERNEL_ARGUMENT[0] {
                break 'arguments;
            }
        }
    }
    for index in devices_of(subject.devices) {
        for parameter in kernel::WORK_GROUP_PARAMETERS {
            ask(info::WORK_GROUP, index, parameter);
        }
    }
    records
}

fn devices_of(mask: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |index| mask >> index & 1 == 1)
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    Cpu,
    Gpu,
    Accelerator,
}

impl DeviceKind {
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Gpu, Self::Accelerator];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Accelerator => "accelerator",
        }
    }

    pub(crate) const fn bit(self) -> u64 {
        match self {
            Self::Cpu => cl::DEVICE_TYPE_CPU,
            Self::Gpu => cl::DEVICE_TYPE_GPU,
            Self::Accelerator => cl::DEVICE_TYPE_ACCELERATOR,
        }
    }

    fn of_bits(bits: u64) -> Self {
        let has = |kind: &Self| bits & kind.bit() != 0;
        [Self::Gpu, Self::Cpu].into_iter().find(has).unwrap_or(Self::Accelerator)
    }
}

/// A device as `kasoku-broker list` shows it.
#[derive(Clone, Debug)]
pub struct DeviceEntry {
    pub index: u32,
    pub name: String,
    pub vendor: String,
    pub platform: String,
    pub driver_version: String,
    pub version: String,
    pub kind: DeviceKind,
    pub compute_units: u64,
    pub memory_bytes: u64,
}

/// The devices of an implementation, without opening them.
pub fn entries(platform: &crate::library::Platform) -> Vec<DeviceEntry> {
    let devices = platform.devices().unwrap_or_default();
    let name = platform.info(cl::PLATFORM_NAME).map(|value| text(&value)).unwrap_or_default();
    let entry = |(index, &device): (usize, &crate::ffi::Raw)| DeviceEntry {
        index: index as u32,
        name: platform.device_text(device, cl::DEVICE_NAME),
        vendor: platform.device_text(device, cl::DEVICE_VENDOR),
        platform: name.clone(),
        driver_version: platform.device_text(device, cl::DRIVER_VERSION),
        version: platform.device_text(device, cl::DEVICE_VERSION),
        kind: DeviceKind::of_bits(platform.device_u64(device, cl::DEVICE_TYPE)),
        compute_units: platform.device_u64(device, cl::DEVICE_MAX_COMPUTE_UNITS),
        memory_bytes: platform.device_u64(device, cl::DEVICE_GLOBAL_MEM_SIZE),
    };
    devices.iter().enumerate().map(entry).collect()
}
