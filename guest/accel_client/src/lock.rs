//! A mutex and a wait queue on futexes.
use core::sync::atomic::{AtomicU32, Ordering};

use crate::sys;

const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;
/// Tries before a contended lock sleeps: holders keep it for less than a microsecond, except while the ring is full.
const SPINS: u32 = 100;

/// The classic three-state futex lock (Drepper, "Futexes are tricky").
#[derive(Debug)]
pub struct RawMutex(AtomicU32);

// SAFETY: only the thread that moved the word away from FREE is inside.
unsafe impl lock_api::RawMutex for RawMutex {
    #[allow(clippy::declare_interior_mutable_const, reason = "the trait's way to make an initial value")]
    const INIT: Self = Self(AtomicU32::new(FREE));
    type GuardMarker = lock_api::GuardNoSend;

    #[inline]
    fn lock(&self) {
        if !self.try_lock() {
            self.lock_slow();
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.0.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    unsafe fn unlock(&self) {
        if self.0.swap(FREE, Ordering::Release) == CONTENDED {
            sys::futex_wake(&self.0, 1);
        }
    }
}

impl RawMutex {
    #[cold]
    fn lock_slow(&self) {
        for _ in 0..SPINS {
            if self.0.load(Ordering::Relaxed) == FREE && lock_api::RawMutex::try_lock(self) {
                return;
            }
            core::hint::spin_loop();
        }
        while self.0.swap(CONTENDED, Ordering::Acquire) != FREE {
            sys::futex_wait(&self.0, CONTENDED);
        }
    }
}

pub type Mutex<T> = lock_api::Mutex<RawMutex, T>;
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;

/// A counter that threads wait to see change. Take [`Signal::now`] before looking at the condition, then
/// [`Signal::wait`] with it: a change in between is not slept through.
#[derive(Debug, Default)]
pub struct Signal(AtomicU32, AtomicU32);

impl Signal {
    pub const fn new() -> Self {
        Self(AtomicU32::new(0), AtomicU32::new(0))
    }

    pub fn now(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// Sleeps until the counter differs from `seen`; may return early.
    pub fn wait(&self, seen: u32) {
        self.1.fetch_add(1, Ordering::SeqCst);
        sys::futex_wait(&self.0, seen);
        self.1.fetch_sub(1, Ordering::SeqCst);
    }

    /// As [`Signal::wait`], for at most `timeout_ns`.
    pub fn wait_for(&self, seen: u32, timeout_ns: u64) {
        self.1.fetch_add(1, Ordering::SeqCst);
        sys::futex_wait_for(&self.0, seen, timeout_ns);
        self.1.fetch_sub(1, Ordering::SeqCst);
    }

    /// Counts and wakes everybody; without a sleeper it costs no system call.
    pub fn notify(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        if self.1.load(Ordering::SeqCst) != 0 {
            sys::futex_wake(&self.0, u32::MAX >> 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn counts_from_many_threads_add_up() {
        let total = Arc::new(Mutex::new(0u64));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let total = Arc::clone(&total);
                std::thread::spawn(move || (0..20_000).for_each(|_| *total.lock() += 1))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*total.lock(), 80_000);
    }

    #[test]
    fn a_signal_before_the_wait_is_not_lost() {
        let signal = Signal::new();
        let seen = signal.now();
        signal.notify();
        signal.wait(seen);
    }
}
