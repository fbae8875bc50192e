//! How long to look for the next command before sleeping.
//!
//! A ring of the doorbell costs the guest ten microseconds and waking up costs as much again, so a command that follows soon
//! is waited for by polling. The budget grows while polling pays off and shrinks when it does not; a device that computes on
//! the same processors leaves only a moment, unless what it computes is shorter than the sleep.
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::LocalKey;
use std::time::{Duration, Instant};

const LEAST: Duration = Duration::from_micros(4);
const FIRST: Duration = Duration::from_micros(30);
const MOST: Duration = Duration::from_micros(60);
/// A sleep of up to this length is one that polling would have been better than: about what going to sleep and waking up take,
/// more than [`MOST`].
const SHORT_SLEEP: Duration = Duration::from_micros(120);
/// With a device at work on the same processors.
const BESIDE_DEVICE: Duration = Duration::from_micros(3);
/// Looks between two readings of the clock.
const BATCH: u32 = 32;

/// After an answer that woke the guest: it needs about so long to be back with its next command.
const RETURN: Duration = Duration::from_micros(150);

thread_local! {
    static BUDGET: Cell<Duration> = const { Cell::new(FIRST) };
    static RETURN_BUDGET: Cell<Duration> = const { Cell::new(RETURN) };
}

/// One period of polling.
pub struct Spin {
    since: Option<Instant>,
    looks: u32,
    /// The guest has just been woken.
    guest_returns: bool,
}

impl Spin {
    /// `guest_returns`: the last answer found the guest asleep.
    pub fn new(guest_returns: bool) -> Self {
        Self { since: None, looks: 0, guest_returns }
    }

    fn budget(&self) -> &'static LocalKey<Cell<Duration>> {
        if self.guest_returns { &RETURN_BUDGET } else { &BUDGET }
    }

    /// An answer found the guest asleep.
    pub fn woke_guest(&mut self) {
        self.guest_returns = true;
    }

    /// This thread slept for `slept` on a device that had nothing to do. Polling that was given up too early grows again: nobody
    /// finds out by polling for a moment only.
    pub fn learn_from_sleep(slept: Duration) {
        if slept <= SHORT_SLEEP {
            BUDGET.set((BUDGET.get() * 2).clamp(FIRST, MOST));
        }
    }

    /// A command came.
    pub fn found_work(&mut self) {
        if self.since.take().is_some() {
            let (budget, most) = (self.budget(), if self.guest_returns { RETURN } else { MOST });
            budget.set((budget.get() * 2).min(most));
        }
        (self.looks, self.guest_returns) = (0, false);
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
        let budget = if beside_device { BESIDE_DEVICE } else { self.budget().get() };
        if now - since < budget {
            return true;
        }
        if !beside_device {
            self.budget().set((self.budget().get() / 2).max(LEAST));
        }
        false
    }
}

/// How long waits for the device have been of late.
pub struct Waits {
    /// Expected nanoseconds; 0 = nothing is known.
    expected: AtomicU64,
}

/// Waits up to this long are shorter than sleeping and waking up.
const SHORT_NS: u64 = 60_000;
/// A longer wait counts as this long: a few short ones outweigh it.
const CLIP_NS: u64 = 8 * SHORT_NS;

impl Waits {
    pub const fn new() -> Self {
        Self { expected: AtomicU64::new(0) }
    }

    pub fn learn(&self, ns: u64) {
        let ns = ns.clamp(1, CLIP_NS);
        let expected = match self.expected.load(Ordering::Relaxed) {
            0 => ns,
            expected => expected - expected / 4 + ns / 4,
        };
        // A concurrent wait's lesson may be lost: there will be others.
        self.expected.store(expected.max(1), Ordering::Relaxed);
    }

    /// Whether what the device computes at a time is shorter than a sleep of ours.
    pub fn are_short(&self) -> bool {
        (1..=SHORT_NS).contains(&self.expected.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_long_until_short_ones_were_seen_and_again_after_long_ones() {
        let waits = Waits::new();
        assert!(!waits.are_short());
        waits.learn(10_000);
        assert!(waits.are_short());
        (0..3).for_each(|_| waits.learn(10_000_000));
        assert!(!waits.are_short());
        (0..12).for_each(|_| waits.learn(0));
        assert!(waits.are_short());
    }
}
