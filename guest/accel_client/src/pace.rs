//! Whether to poll for an answer or to sleep until it comes: what has been faster of late.
//!
//! Sleeping costs tens of microseconds on each side, polling a processor that the device may need for the very work that is
//! waited for. Which is cheaper depends on the call, the device, and how many processors there are; so both are measured, for
//! each kind of call on each queue. Calls that the broker has for long are slept through without trying: it says with each
//! answer how long it had it, so that a guest that sleeps still notices that its calls have become short.
use core::sync::atomic::{AtomicU32, Ordering};

/// Expectations kept at a time: queues and kinds of calls share them by hash.
const ENTRIES: usize = 64;
/// One answer counts for this part of an expectation.
const WEIGHT: u32 = 4;
/// Looking a moment longer than not at all: an answer may be on its way already.
const GLANCE_NS: u32 = 2_000;
/// While sleeping is faster, one call in so many tries whether it still is.
const TRY_EVERY: u32 = 128;

/// How an answer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Poll,
    Sleep,
}

/// What is known of one kind of call on one queue, in nanoseconds; 0 = nothing.
#[derive(Debug, Default)]
pub struct Expectation {
    /// From submission to answer.
    polled: AtomicU32,
    slept: AtomicU32,
    /// The broker's part of it, when slept through.
    served: AtomicU32,
    /// Calls slept through since polling was tried.
    untried: AtomicU32,
}

impl Expectation {
    /// How to wait. `limit_ns`: about what sleeping costs; a call that is polled for in less is not slept through.
    pub fn choose(&self, limit_ns: u32) -> Mode {
        let [polled, slept, served] =
            [&self.polled, &self.slept, &self.served].map(|word| word.load(Ordering::Relaxed));
        let long = served > limit_ns.saturating_mul(2);
        if polled <= limit_ns || (!long && slept != 0 && polled < slept) {
            return Mode::Poll;
        }
        if !long && slept != 0 && self.untried.fetch_add(1, Ordering::Relaxed) >= TRY_EVERY {
            self.untried.store(0, Ordering::Relaxed);
            return Mode::Poll;
        }
        Mode::Sleep
    }

    /// For how long to poll before sleeping after all.
    pub fn budget_ns(mode: Mode, limit_ns: u32) -> u32 {
        match mode {
            Mode::Poll => limit_ns.saturating_mul(2),
            Mode::Sleep => GLANCE_NS.min(limit_ns),
        }
    }

    /// A call waited for that way took `waited_ns`, and the broker had it for `served_ns`.
    pub fn learn(&self, mode: Mode, waited_ns: u64, served_ns: u64) {
        match mode {
            Mode::Poll => average(&self.polled, waited_ns),
            Mode::Sleep => {
                average(&self.slept, waited_ns);
                average(&self.served, served_ns);
            }
        }
    }
}

/// Moves an expectation towards what was seen. Whatever is half of it or less is believed at once: it is what the call can take.
/// A concurrent call's lesson may be lost: there will be others.
fn average(word: &AtomicU32, ns: u64) {
    let ns = u32::try_from(ns).unwrap_or(u32::MAX).max(1);
    let known = word.load(Ordering::Relaxed);
    let expected = if known == 0 || ns <= known / 2 { ns } else { known - known / WEIGHT + ns / WEIGHT };
    word.store(expected.max(1), Ordering::Relaxed);
}

/// The expectations of a session.
#[derive(Debug)]
pub struct Pace([Expectation; ENTRIES]);

impl Pace {
    pub fn new() -> Self {
        Self(core::array::from_fn(|_| Expectation::default()))
    }

    /// That of `operation` on `target`.
    pub fn of(&self, operation: u32, target: u64) -> &Expectation {
        let hash = (target ^ u64::from(operation) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.0[(hash >> 58) as usize]
    }
}

const _: () = assert!(ENTRIES == 1 << (64 - 58), "the hash above has six bits");

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 60_000;

    /// Makes `count` calls that take `polled` or `slept` ns; how many were polled for.
    fn calls(expectation: &Expectation, count: usize, polled: u64, slept: u64, served: u64) -> usize {
        (0..count)
            .filter(|_| {
                let mode = expectation.choose(LIMIT);
                expectation.learn(mode, if mode == Mode::Poll { polled } else { slept }, served);
                mode == Mode::Poll
            })
            .count()
    }

    #[test]
    fn short_calls_are_polled_for_from_the_first_on() {
        assert_eq!(calls(&Expectation::default(), 1000, 10_000, 150_000, 10_000), 1000);
    }

    #[test]
    fn long_calls_are_slept_through_from_the_second_on() {
        let expectation = Expectation::default();
        assert_eq!(calls(&expectation, 1000, 10_000_000, 10_000_000, 10_000_000), 1);
        // They become short: that is tried soon.
        assert!(calls(&expectation, 1000, 5_000, 150_000, 5_000) > 800);
    }

    #[test]
    fn the_faster_way_is_taken_where_polling_slows_the_device_down() {
        let expectation = Expectation::default();
        assert!(calls(&expectation, 10_000, 250_000, 100_000, 20_000) < 100);
        // Further processors are free from here on.
        assert!(calls(&expectation, 10_000, 20_000, 100_000, 20_000) > 9_500);
    }

    #[test]
    fn a_rare_long_call_changes_nothing_for_long() {
        let expectation = Expectation::default();
        calls(&expectation, 100, 10_000, 100_000, 10_000);
        calls(&expectation, 1, 3_000_000, 3_000_000, 3_000_000);
        assert!(calls(&expectation, 1000, 10_000, 100_000, 10_000) > 800);
    }

    #[test]
    fn absurd_times_do_no_harm() {
        for limit in [0, 1, LIMIT, u32::MAX] {
            let expectation = Expectation::default();
            for ns in [0, u64::MAX, 1, u64::from(u32::MAX)] {
                let mode = expectation.choose(limit);
                let _ = Expectation::budget_ns(mode, limit);
                expectation.learn(mode, ns, ns);
            }
        }
    }
}
