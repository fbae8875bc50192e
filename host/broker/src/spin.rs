//! How long to look for the next command before sleeping.
//!
//! A ring of the doorbell costs the guest ten microseconds and waking up costs as much again, so a command that follows soon
//! is waited for by polling. The budget grows while polling pays off and shrinks when it does not; a device that computes on
//! the same processors leaves only a moment.
use std::time::{Duration, Instant};

const LEAST: Duration = Duration::from_micros(4);
const FIRST: Duration = Duration::from_micros(30);
const MOST: Duration = Duration::from_micros(60);
/// With a device at work on the same processors.
const BESIDE_DEVICE: Duration = Duration::from_micros(3);
/// Looks between two readings of the clock.
const BATCH: u32 = 32;

thread_local! {
    static BUDGET: core::cell::Cell<Duration> = const { core::cell::Cell::new(FIRST) };
}

/// One period of polling.
pub struct Spin {
    since: Option<Instant>,
    looks: u32,
}

impl Spin {
    pub fn new() -> Self {
        Self { since: None, looks: 0 }
    }

    /// A command came.
    pub fn found_work(&mut self) {
        if self.since.take().is_some() {
            BUDGET.set((BUDGET.get() * 2).min(MOST));
        }
        self.looks = 0;
    }

    /// Whether to look again; `beside_device`: a device is computing on these processors.
    pub fn another_round(&mut self, beside_device: bool) -> bool {
        core::hint::spin_loop();
        self.looks += 1;
        if !self.looks.is_multiple_of(BATCH) {
            return true;
        }
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let budget = if beside_device { BESIDE_DEVICE } else { BUDGET.get() };
        if now - since < budget {
            return true;
        }
        if !beside_device {
            BUDGET.set((BUDGET.get() / 2).max(LEAST));
        }
        false
    }
}
