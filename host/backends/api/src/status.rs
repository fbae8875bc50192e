//! Status codes: numbers of the API that the guest's library speaks.

/// A failure code, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub i32);

impl core::fmt::Display for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "status {}", self.0)
    }
}

/// The codes that the broker itself needs, in the backend's API.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    /// A descriptor or a range that makes no sense.
    pub bad_value: Status,
    pub bad_operation: Status,
    // An id that names nothing, or something of another type, where the named type is expected.
    pub bad_context: Status,
    pub bad_queue: Status,
    pub bad_buffer: Status,
    pub bad_program: Status,
    pub bad_kernel: Status,
    pub bad_event: Status,
    pub bad_wait_list: Status,
    pub bad_argument_index: Status,
    pub bad_kernel_name: Status,
    pub bad_binary: Status,
    pub bad_build_options: Status,
    /// The program has not been built, or its build failed.
    pub not_executable: Status,
    pub build_failed: Status,
    pub compile_failed: Status,
    pub link_failed: Status,
    /// An event of the wait list has failed.
    pub wait_failed: Status,
    /// The quota of device memory is used up.
    pub no_device_memory: Status,
    pub no_host_memory: Status,
    pub no_resources: Status,
    pub no_profile: Status,
}
