//! Numbers of the OpenCL specification (cl.h), as far as this backend uses them.

pub const BUILD_PROGRAM_FAILURE: i32 = -11;
pub const COMPILE_PROGRAM_FAILURE: i32 = -15;
pub const LINK_PROGRAM_FAILURE: i32 = -17;
pub const INVALID_VALUE: i32 = -30;
pub const INVALID_IMAGE_FORMAT_DESCRIPTOR: i32 = -39;
pub const INVALID_IMAGE_DESCRIPTOR: i32 = -65;
pub const INVALID_BUILD_OPTIONS: i32 = -43;
pub const INVALID_OPERATION: i32 = -59;
pub const INVALID_COMPILER_OPTIONS: i32 = -66;
pub const INVALID_LINKER_OPTIONS: i32 = -67;
pub const INVALID_BINARY: i32 = -42;
pub const OUT_OF_RESOURCES: i32 = -5;

pub const DEVICE_TYPE_ALL: u64 = 0xffff_ffff;
pub const DEVICE_TYPE_CPU: u64 = 1 << 1;
pub const DEVICE_TYPE_GPU: u64 = 1 << 2;
pub const DEVICE_TYPE_ACCELERATOR: u64 = 1 << 3;

pub const QUEUE_OUT_OF_ORDER: u64 = 1 << 0;
pub const QUEUE_PROFILING: u64 = 1 << 1;

pub const MEM_READ_WRITE: u64 = 1 << 0;
pub const MEM_WRITE_ONLY: u64 = 1 << 1;
pub const MEM_READ_ONLY: u64 = 1 << 2;
pub const MEM_USE_HOST_PTR: u64 = 1 << 3;
pub const MEM_COPY_HOST_PTR: u64 = 1 << 5;

pub const MEM_KERNEL_READ_AND_WRITE: u64 = 1 << 12;
pub const MEM_OBJECT_IMAGE2D: u32 = 0x10f1;
pub const MEM_OBJECT_IMAGE3D: u32 = 0x10f2;
pub const MEM_OBJECT_IMAGE2D_ARRAY: u32 = 0x10f3;
pub const MEM_OBJECT_IMAGE1D: u32 = 0x10f4;
pub const MEM_OBJECT_IMAGE1D_ARRAY: u32 = 0x10f5;
pub const MEM_OBJECT_IMAGE1D_BUFFER: u32 = 0x10f6;

pub const MAP_READ: u64 = 1 << 0;
pub const MAP_WRITE: u64 = 1 << 1;
pub const MAP_WRITE_INVALIDATE: u64 = 1 << 2;

pub const BUFFER_CREATE_TYPE_REGION: u32 = 0x1220;

pub const EVENT_COMMAND_EXECUTION_STATUS: u32 = 0x11d3;
/// QUEUED, SUBMIT, START, END, COMPLETE.
pub const PROFILING: [u32; 5] = [0x1280, 0x1281, 0x1282, 0x1283, 0x1284];

pub const PLATFORM_VERSION: u32 = 0x0901;
pub const PLATFORM_NAME: u32 = 0x0902;

pub const DEVICE_TYPE: u32 = 0x1000;
pub const DEVICE_MAX_COMPUTE_UNITS: u32 = 0x1002;
pub const DEVICE_GLOBAL_MEM_SIZE: u32 = 0x101f;
pub const DEVICE_NAME: u32 = 0x102b;
pub const DEVICE_VENDOR: u32 = 0x102c;
pub const DRIVER_VERSION: u32 = 0x102d;
pub const DEVICE_VERSION: u32 = 0x102f;
pub const DEVICE_SVM_CAPABILITIES: u32 = 0x1053;
pub const DEVICE_SVM_COARSE_GRAIN_BUFFER: u64 = 1 << 0;
pub const DEVICE_HOST_UNIFIED_MEMORY: u32 = 0x1035;

pub const PROGRAM_BINARY_SIZES: u32 = 0x1165;
pub const PROGRAM_BINARIES: u32 = 0x1166;
pub const PROGRAM_NUM_KERNELS: u32 = 0x1167;
pub const PROGRAM_KERNEL_NAMES: u32 = 0x1168;

pub const PROGRAM_BINARY_TYPE_EXECUTABLE: u32 = 4;

pub const PROGRAM_BUILD_STATUS: u32 = 0x1181;
pub const PROGRAM_BUILD_LOG: u32 = 0x1183;
pub const PROGRAM_BINARY_TYPE: u32 = 0x1184;
pub const PROGRAM_BUILD_GLOBAL_VARIABLE_TOTAL_SIZE: u32 = 0x1185;

pub const KERNEL_FUNCTION_NAME: u32 = 0x1190;
pub const KERNEL_NUM_ARGS: u32 = 0x1191;
pub const KERNEL_ATTRIBUTES: u32 = 0x1195;
pub const KERNEL_ARGUMENT: [u32; 5] = [0x1196, 0x1197, 0x1198, 0x1199, 0x119a];
pub const KERNEL_WORK_GROUP_SIZE: u32 = 0x11b0;
pub const KERNEL_COMPILE_WORK_GROUP_SIZE: u32 = 0x11b1;
pub const KERNEL_LOCAL_MEM_SIZE: u32 = 0x11b2;
pub const KERNEL_PREFERRED_WORK_GROUP_SIZE_MULTIPLE: u32 = 0x11b3;
pub const KERNEL_PRIVATE_MEM_SIZE: u32 = 0x11b4;
pub const KERNEL_GLOBAL_WORK_SIZE: u32 = 0x11b5;

/// Parameters of a device that a guest may know, by range: those of the specification and of its extensions, and NVIDIA's.
pub const DEVICE_PARAMETERS: [core::ops::RangeInclusive<u32>; 2] = [0x1000..=0x1076, 0x4000..=0x400a];
/// In these ranges, but handles: the device's platform and its parent.
pub const DEVICE_HANDLES: [u32; 2] = [0x1031, 0x1042];
/// Parameters of a platform that a guest may know.
pub const PLATFORM_PARAMETERS: core::ops::RangeInclusive<u32> = 0x0900..=0x0907;
