//! Locks of the library OS.
//!
//! Code of the library OS is never preempted, so on one vCPU a lock is never contended; the locks are real because more
//! vCPUs are to come. A guard must not be held across a call that may switch threads (`sched::wait`).
pub use spin::Once;
/// Mutual exclusion by spinning.
pub type Mutex<T> = spin::mutex::SpinMutex<T>;
pub type MutexGuard<'a, T> = spin::mutex::SpinMutexGuard<'a, T>;
