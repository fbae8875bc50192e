//! Threads: who runs, who waits, and for what.
//!
//! The library OS is never preempted, so scheduling decisions fall at well-defined places: a thread waits (`block_on`),
//! yields, ends, or is about to return to its program when the VMM's tick says that others want to run. One vCPU at a time is
//! inside the library OS (`lock`); each has a run queue (`cpu`).
#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
pub mod futex;
#[cfg(target_os = "none")]
pub mod futex_pi;
#[cfg(target_os = "none")]
pub mod lock;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
pub mod thread;
pub mod wait;

#[cfg(target_os = "none")]
pub use cpu::make_runnable;
#[cfg(target_os = "none")]
pub use run::{
    block_on, block_whatever, current, current_arc, deadlines_changed, handle_events, reap, rest_for_ever, schedule,
    yield_now,
};

/// On the host (tests) nothing waits for a deadline.
#[cfg(not(target_os = "none"))]
pub fn deadlines_changed() {}

/// On the host (tests) only what is ready already can be waited for; anything else is a test that would hang.
#[cfg(not(target_os = "none"))]
pub fn block_on<T>(
    _queues: &[&wait::WaitQueue],
    deadline_ns: Option<u64>,
    mut ready: impl FnMut() -> Option<T>,
) -> crate::errno::Result<T> {
    match (ready(), deadline_ns) {
        (Some(value), _) => Ok(value),
        (None, Some(_)) => Err(crate::errno::Errno::ETIMEDOUT),
        (None, None) => panic!("this would wait for ever"),
    }
}
