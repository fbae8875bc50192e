//! Resource limits (getrlimit(2)).
use linux_raw_sys::general::{RLIMIT_CORE, RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_STACK};

/// No limit.
pub const INFINITY: u64 = u64::MAX;
/// Number of resources.
pub const COUNT: usize = 16;

/// Soft and hard limit of each resource.
#[derive(Clone, Debug)]
pub struct Limits(pub [(u64, u64); COUNT]);

impl Default for Limits {
    fn default() -> Self {
        let mut limits = [(INFINITY, INFINITY); COUNT];
        limits[RLIMIT_STACK as usize] = (8 << 20, INFINITY);
        limits[RLIMIT_CORE as usize] = (0, INFINITY);
        limits[RLIMIT_NOFILE as usize] = (1024, 1 << 20);
        limits[RLIMIT_NPROC as usize] = (super::MAX_TASKS as u64, super::MAX_TASKS as u64);
        Limits(limits)
    }
}
