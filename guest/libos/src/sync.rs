//! Locks of the library OS.
//!
//! One vCPU at a time is inside the library OS (`sched::lock`) and is never preempted there, so a lock is never contended; it
//! is there for Rust, and finds mistakes: a guard must not be held across a call that may switch threads (`sched::wait`).
pub use spin::Once;
/// Mutual exclusion by spinning.
pub type Mutex<T> = spin::mutex::SpinMutex<T>;
pub type MutexGuard<'a, T> = spin::mutex::SpinMutexGuard<'a, T>;
