//! The entry points of an OpenCL implementation, read from the dispatch table of its platform.
//!
//! Not cl3/opencl-sys: those call one process-wide `libOpenCL.so.1`, which a fresh machine does not have and which loads
//! every vendor at once. Here one vendor's library is opened by its path, as a loader would, and nothing else. Slots are
//! those of `cl_icd.h` (`struct _cl_icd_dispatch`), fixed since OpenCL 1.2 and only ever appended to.
use core::ffi::{c_char, c_void};

pub type Raw = *mut c_void;
pub type Mask = u64;

/// `cl_image_desc`.
#[derive(Debug)]
#[repr(C)]
pub struct ImageDescription {
    pub kind: u32,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
    pub array_size: usize,
    pub row_pitch: usize,
    pub slice_pitch: usize,
    pub mip_levels: u32,
    pub samples: u32,
    pub memory: Raw,
}

macro_rules! entry_points {
    ($($slot:literal $name:ident ( $($argument:ty),* $(,)? ) -> $result:ty;)*) => {
        /// Entry points that every implementation of OpenCL 1.2 has.
        pub struct Api { $(pub $name: unsafe extern "C" fn($($argument),*) -> $result,)* }

        impl Api {
            /// # Safety
            /// `table` must be the dispatch table of a live OpenCL 1.2 platform.
            pub unsafe fn read(table: *const *const c_void) -> Option<Self> {
                // SAFETY: the caller vouches for the table; its slots hold functions of these types (cl_icd.h).
                unsafe { Some(Self { $($name: {
                    let entry = table.add($slot).read();
                    if entry.is_null() { return None; }
                    core::mem::transmute::<*const c_void, unsafe extern "C" fn($($argument),*) -> $result>(entry)
                },)* }) }
            }
        }
    };
}

entry_points! {
    1 get_platform_info(Raw, u32, usize, Raw, *mut usize) -> i32;
    2 get_device_ids(Raw, Mask, u32, *mut Raw, *mut u32) -> i32;
    3 get_device_info(Raw, u32, usize, Raw, *mut usize) -> i32;
    4 create_context(*const isize, u32, *const Raw, *const c_void, Raw, *mut i32) -> Raw;
    7 release_context(Raw) -> i32;
    9 create_command_queue(Raw, Raw, Mask, *mut i32) -> Raw;
    11 release_command_queue(Raw) -> i32;
    14 create_buffer(Raw, Mask, usize, Raw, *mut i32) -> Raw;
    18 release_mem_object(Raw) -> i32;
    19 get_supported_image_formats(Raw, Mask, u32, u32, Raw, *mut u32) -> i32;
    22 create_sampler(Raw, u32, u32, u32, *mut i32) -> Raw;
    24 release_sampler(Raw) -> i32;
    26 create_program_with_source(Raw, u32, *const *const c_char, *const usize, *mut i32) -> Raw;
    27 create_program_with_binary(Raw, u32, *const Raw, *const usize, *const *const u8, *mut i32, *mut i32) -> Raw;
    29 release_program(Raw) -> i32;
    30 build_program(Raw, u32, *const Raw, *const c_char, Raw, Raw) -> i32;
    32 get_program_info(Raw, u32, usize, Raw, *mut usize) -> i32;
    33 get_program_build_info(Raw, Raw, u32, usize, Raw, *mut usize) -> i32;
    34 create_kernel(Raw, *const c_char, *mut i32) -> Raw;
    37 release_kernel(Raw) -> i32;
    38 set_kernel_arg(Raw, u32, usize, *const c_void) -> i32;
    39 get_kernel_info(Raw, u32, usize, Raw, *mut usize) -> i32;
    40 get_kernel_work_group_info(Raw, Raw, u32, usize, Raw, *mut usize) -> i32;
    41 wait_for_events(u32, *const Raw) -> i32;
    42 get_event_info(Raw, u32, usize, Raw, *mut usize) -> i32;
    44 release_event(Raw) -> i32;
    45 get_event_profiling_info(Raw, u32, usize, Raw, *mut usize) -> i32;
    46 flush(Raw) -> i32;
    47 finish(Raw) -> i32;
    48 enqueue_read_buffer(Raw, Raw, u32, usize, usize, Raw, u32, *const Raw, *mut Raw) -> i32;
    49 enqueue_write_buffer(Raw, Raw, u32, usize, usize, *const c_void, u32, *const Raw, *mut Raw) -> i32;
    50 enqueue_copy_buffer(Raw, Raw, Raw, usize, usize, usize, u32, *const Raw, *mut Raw) -> i32;
    51 enqueue_read_image(Raw, Raw, u32, *const usize, *const usize, usize, usize, Raw, u32, *const Raw, *mut Raw) -> i32;
    52 enqueue_write_image(Raw, Raw, u32, *const usize, *const usize, usize, usize, *const c_void, u32, *const Raw,
        *mut Raw) -> i32;
    53 enqueue_copy_image(Raw, Raw, Raw, *const usize, *const usize, *const usize, u32, *const Raw, *mut Raw) -> i32;
    54 enqueue_copy_image_to_buffer(Raw, Raw, Raw, *const usize, *const usize, usize, u32, *const Raw, *mut Raw) -> i32;
    55 enqueue_copy_buffer_to_image(Raw, Raw, Raw, usize, *const usize, *const usize, u32, *const Raw, *mut Raw) -> i32;
    56 enqueue_map_buffer(Raw, Raw, u32, Mask, usize, usize, u32, *const Raw, *mut Raw, *mut i32) -> Raw;
    58 enqueue_unmap_mem_object(Raw, Raw, Raw, u32, *const Raw, *mut Raw) -> i32;
    59 enqueue_nd_range_kernel(Raw, Raw, u32, *const usize, *const usize, *const usize, u32, *const Raw, *mut Raw) -> i32;
    82 create_sub_buffer(Raw, Mask, u32, *const c_void, *mut i32) -> Raw;
    84 create_user_event(Raw, *mut i32) -> Raw;
    85 set_user_event_status(Raw, i32) -> i32;
    86 enqueue_read_buffer_rect(Raw, Raw, u32, *const usize, *const usize, *const usize, usize, usize, usize, usize, Raw,
        u32, *const Raw, *mut Raw) -> i32;
    87 enqueue_write_buffer_rect(Raw, Raw, u32, *const usize, *const usize, *const usize, usize, usize, usize, usize,
        *const c_void, u32, *const Raw, *mut Raw) -> i32;
    88 enqueue_copy_buffer_rect(Raw, Raw, Raw, *const usize, *const usize, *const usize, usize, usize, usize, usize, u32,
        *const Raw, *mut Raw) -> i32;
    96 create_image(Raw, Mask, *const [u32; 2], *const ImageDescription, Raw, *mut i32) -> Raw;
    98 compile_program(Raw, u32, *const Raw, *const c_char, u32, *const Raw, *const *const c_char, Raw, Raw) -> i32;
    99 link_program(Raw, u32, *const Raw, *const c_char, u32, *const Raw, Raw, Raw, *mut i32) -> Raw;
    101 get_kernel_arg_info(Raw, u32, u32, usize, Raw, *mut usize) -> i32;
    102 enqueue_fill_buffer(Raw, Raw, *const c_void, usize, usize, usize, u32, *const Raw, *mut Raw) -> i32;
    103 enqueue_fill_image(Raw, Raw, *const c_void, *const usize, *const usize, u32, *const Raw, *mut Raw) -> i32;
    105 enqueue_marker_with_wait_list(Raw, u32, *const Raw, *mut Raw) -> i32;
    106 enqueue_barrier_with_wait_list(Raw, u32, *const Raw, *mut Raw) -> i32;
}

/// Entry points of OpenCL 2.1: a table of an older implementation ends before them.
#[derive(Clone, Copy)]
pub struct Api21 {
    pub clone_kernel: unsafe extern "C" fn(Raw, *mut i32) -> Raw,
    pub create_program_with_il: unsafe extern "C" fn(Raw, *const c_void, usize, *mut i32) -> Raw,
    pub get_device_and_host_timer: unsafe extern "C" fn(Raw, *mut u64, *mut u64) -> i32,
    pub get_kernel_sub_group_info:
        unsafe extern "C" fn(Raw, Raw, u32, usize, *const c_void, usize, Raw, *mut usize) -> i32,
}

/// `clSetProgramSpecializationConstant`, of OpenCL 2.2.
pub type Specialize = unsafe extern "C" fn(Raw, u32, usize, *const c_void) -> i32;

/// `clSetKernelArgSVMPointer`, of OpenCL 2.0.
pub type SetAddress = unsafe extern "C" fn(Raw, u32, *const c_void) -> i32;

/// Finds it in a table.
///
/// # Safety
/// `table` must be the dispatch table of a live platform of OpenCL 2.0 or newer.
pub unsafe fn set_address(table: *const *const c_void) -> Option<SetAddress> {
    // SAFETY: the caller vouches for the table; a slot that the implementation left empty is null.
    let entry = unsafe { table.add(134).read() };
    // SAFETY: slot 134 holds a function of this type (cl_icd.h).
    (!entry.is_null()).then(|| unsafe { core::mem::transmute::<*const c_void, SetAddress>(entry) })
}

/// Finds it in a table.
///
/// # Safety
/// `table` must be the dispatch table of a live platform of OpenCL 2.2 or newer.
pub unsafe fn specialize(table: *const *const c_void) -> Option<Specialize> {
    // SAFETY: the caller vouches for the table; a slot that the implementation left empty is null.
    let entry = unsafe { table.add(145).read() };
    // SAFETY: slot 145 holds a function of this type (cl_icd.h).
    (!entry.is_null()).then(|| unsafe { core::mem::transmute::<*const c_void, Specialize>(entry) })
}

impl Api21 {
    /// # Safety
    /// `table` must be the dispatch table of a live platform of OpenCL 2.1 or newer.
    pub unsafe fn read(table: *const *const c_void) -> Option<Self> {
        // SAFETY: the caller vouches for the table; a slot that the implementation left empty is null.
        let (clone, il, timer, sub_group) =
            unsafe { (table.add(137).read(), table.add(138).read(), table.add(140).read(), table.add(142).read()) };
        if clone.is_null() || il.is_null() || timer.is_null() || sub_group.is_null() {
            return None;
        }
        // SAFETY: slots 137, 138, 140 and 142 hold functions of these types (cl_icd.h).
        unsafe {
            Some(Self {
                clone_kernel: core::mem::transmute::<*const c_void, unsafe extern "C" fn(Raw, *mut i32) -> Raw>(clone),
                create_program_with_il: core::mem::transmute::<
                    *const c_void,
                    unsafe extern "C" fn(Raw, *const c_void, usize, *mut i32) -> Raw,
                >(il),
                get_device_and_host_timer: core::mem::transmute::<
                    *const c_void,
                    unsafe extern "C" fn(Raw, *mut u64, *mut u64) -> i32,
                >(timer),
                get_kernel_sub_group_info: core::mem::transmute::<
                    *const c_void,
                    unsafe extern "C" fn(Raw, Raw, u32, usize, *const c_void, usize, Raw, *mut usize) -> i32,
                >(sub_group),
            })
        }
    }
}
