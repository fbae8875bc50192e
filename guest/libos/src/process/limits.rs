//! Resource limits (getrlimit(2)).
use crate::capabilities::Capability;
use crate::errno::{Errno, Result};
use crate::sched;
use crate::time::SECOND_NS;
use linux_raw_sys::general::{
    RLIMIT_AS, RLIMIT_CORE, RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_STACK, SIGXFSZ,
};

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
        limits[RLIMIT_NPROC as usize] = (super::max_tasks() as u64, super::max_tasks() as u64);
        Limits(limits)
    }
}

impl Limits {
    /// The soft limit of a resource, which is the one that counts.
    pub fn soft(&self, resource: u32) -> u64 {
        self.0[resource as usize].0
    }

    /// Soft and hard limit of processor time, ns.
    pub fn cpu_ns(&self) -> (u64, u64) {
        let (soft, hard) = self.0[RLIMIT_CPU as usize];
        (soft.saturating_mul(SECOND_NS), hard.saturating_mul(SECOND_NS))
    }
}

/// ENOMEM when the caller's program may not map so many bytes more (RLIMIT_AS).
pub fn check_memory(more: u64) -> Result<()> {
    let process = &sched::current().process;
    let limit = process.limits.lock().soft(RLIMIT_AS);
    if limit != INFINITY && process.space().sizes().0.saturating_add(more) > limit {
        Err(Errno::ENOMEM)
    } else {
        Ok(())
    }
}

/// EAGAIN when the caller's user has as many tasks as it may (RLIMIT_NPROC).
pub fn check_tasks() -> Result<()> {
    let process = &sched::current().process;
    let limit = process.limits.lock().soft(RLIMIT_NPROC);
    let own = process.credentials.lock().clone();
    if own.can(Capability::SysResource) || own.can(Capability::SysAdmin) || own.uid == 0 {
        return Ok(());
    }
    let same_user = super::all().into_iter().filter(|other| other.credentials.lock().uid == own.uid);
    let tasks: usize = same_user.map(|other| other.threads.lock().len().max(1)).sum();
    if tasks as u64 >= limit { Err(Errno::EAGAIN) } else { Ok(()) }
}

/// How many of `len` bytes may be written at an offset of a regular file (RLIMIT_FSIZE). EFBIG, and SIGXFSZ, when it is none.
pub fn check_file_size(offset: u64, len: usize) -> Result<usize> {
    let limit = sched::current().process.limits.lock().soft(RLIMIT_FSIZE);
    if len == 0 || offset.saturating_add(len as u64) <= limit {
        return Ok(len);
    }
    if offset >= limit {
        crate::signal::send_self(SIGXFSZ);
        return Err(Errno::EFBIG);
    }
    Ok((limit - offset) as usize)
}
