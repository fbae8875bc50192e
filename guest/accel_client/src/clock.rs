//! A clock for polling: the processor's time-stamp counter, because a system call costs more than many looks at memory.
use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::sys;

/// Ticks in 1,024 ns; 0 until [`calibrate`]. The guess before that is a counter of 2 GHz.
static RATE: AtomicU32 = AtomicU32::new(0);
const GUESS: u32 = 2048;
/// How long the counter is compared with the monotonic clock: an error of 1 in 50 does not matter for polling.
const COMPARED_NS: u64 = 50_000;

/// The counter.
pub fn now() -> u64 {
    // SAFETY: every x86-64 processor has it, and Linux lets programs read it.
    unsafe { _rdtsc() }
}

/// Ticks of `ns`.
pub fn ticks(ns: u32) -> u64 {
    let rate = match RATE.load(Ordering::Relaxed) {
        0 => GUESS,
        rate => rate,
    };
    (u64::from(ns) * u64::from(rate)) >> 10
}

/// Nanoseconds of `ticks`.
pub fn nanoseconds(ticks: u64) -> u64 {
    let rate = match RATE.load(Ordering::Relaxed) {
        0 => GUESS,
        rate => rate,
    };
    ticks.saturating_mul(1024) / u64::from(rate)
}

/// Measures the counter once per process; takes 50 microseconds.
pub fn calibrate() {
    if RATE.load(Ordering::Relaxed) != 0 {
        return;
    }
    let (began, counter) = (sys::monotonic_ns(), now());
    loop {
        core::hint::spin_loop();
        let (elapsed, ticks) = (sys::monotonic_ns().saturating_sub(began), now().wrapping_sub(counter));
        if elapsed >= COMPARED_NS {
            let rate = (ticks << 10).checked_div(elapsed).unwrap_or(0);
            // Counters run at 0.1 to 10 GHz; whatever says otherwise (a clock that stepped) is not believed.
            let believable = (100..=10_240).contains(&rate);
            RATE.store(if believable { rate as u32 } else { GUESS }, Ordering::Relaxed);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_follow_the_monotonic_clock() {
        calibrate();
        let (began, counter) = (sys::monotonic_ns(), now());
        std::thread::sleep(core::time::Duration::from_millis(20));
        let (elapsed, passed) = (sys::monotonic_ns() - began, now() - counter);
        let expected = ticks(elapsed as u32);
        assert!(nanoseconds(passed).abs_diff(elapsed) < elapsed / 10, "{} ns of {elapsed}", nanoseconds(passed));
        assert!((expected / 2..expected * 2).contains(&passed), "{passed} ticks in {elapsed} ns, expected {expected}");
    }
}
