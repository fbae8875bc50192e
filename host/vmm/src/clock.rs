//! The guest's clock: a reading of the host's clocks, taken together, and the TSC's rate. The guest computes its time from
//! the same numbers, so a deadline means the same on both sides however the host's clock is slewed meanwhile.
use rustix::time::{ClockId, clock_gettime};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const NS_PER_SECOND: u64 = 1_000_000_000;

/// TSC ticks, CLOCK_MONOTONIC ns and CLOCK_REALTIME ns of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    pub tsc: u64,
    pub monotonic_ns: u64,
    pub realtime_ns: u64,
}

pub struct GuestClock {
    tsc_hz: u64,
    /// What the guest's CLOCK_MONOTONIC is ahead of the host's, ns; modulo 2^64. Not zero in a restored guest.
    ahead_ns: AtomicU64,
    reading: Mutex<ClockReading>,
}

impl GuestClock {
    pub fn new(tsc_hz: u64) -> Self {
        Self { tsc_hz, ahead_ns: AtomicU64::new(0), reading: Mutex::new(read_host_clocks()) }
    }

    /// A clock whose CLOCK_MONOTONIC goes on from `monotonic_ns`: for a guest, no time has passed while it was saved.
    pub fn continuing(tsc_hz: u64, monotonic_ns: u64) -> Self {
        let clock = Self::new(tsc_hz);
        clock.go_back(monotonic_ns);
        clock
    }

    /// Sets CLOCK_MONOTONIC to go on from `monotonic_ns`; nothing of the guest runs.
    pub fn go_back(&self, monotonic_ns: u64) {
        let mut reading = read_host_clocks();
        self.ahead_ns.store(monotonic_ns.wrapping_sub(reading.monotonic_ns), Relaxed);
        reading.monotonic_ns = monotonic_ns;
        *self.reading.lock().expect("no panic holds this lock") = reading;
    }

    pub fn tsc_hz(&self) -> u64 {
        self.tsc_hz
    }

    pub fn reading(&self) -> ClockReading {
        *self.reading.lock().expect("no panic holds this lock")
    }

    /// Reads the host's clocks again; the guest continues from here.
    pub fn resynchronise(&self) -> ClockReading {
        let mut reading = read_host_clocks();
        reading.monotonic_ns = reading.monotonic_ns.wrapping_add(self.ahead_ns.load(Relaxed));
        *self.reading.lock().expect("no panic holds this lock") = reading;
        reading
    }

    /// CLOCK_MONOTONIC ns on the guest's clock.
    pub fn now_ns(&self) -> u64 {
        at(self.reading(), self.tsc_hz, tsc())
    }

    /// Time until `deadline_ns` on the guest's clock; none when it lies too far ahead to matter.
    pub fn until(&self, deadline_ns: u64) -> Option<Duration> {
        if deadline_ns == u64::MAX {
            return None;
        }
        Some(Duration::from_nanos(deadline_ns.saturating_sub(self.now_ns())))
    }
}

fn at(reading: ClockReading, tsc_hz: u64, tsc: u64) -> u64 {
    let ticks = u128::from(tsc.saturating_sub(reading.tsc));
    reading.monotonic_ns.saturating_add((ticks * u128::from(NS_PER_SECOND) / u128::from(tsc_hz.max(1))) as u64)
}

fn tsc() -> u64 {
    crate::sys::time_stamp_counter()
}

fn read_clock(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    time.tv_sec as u64 * NS_PER_SECOND + time.tv_nsec as u64
}

/// The reading of a few that was disturbed least: an interrupt between two clocks would shift them against each other.
fn read_host_clocks() -> ClockReading {
    (0..4)
        .map(|_| {
            let before = tsc();
            let monotonic_ns = read_clock(ClockId::Monotonic);
            let realtime_ns = read_clock(ClockId::Realtime);
            let after = tsc();
            (after - before, ClockReading { tsc: before + (after - before) / 2, monotonic_ns, realtime_ns })
        })
        .min_by_key(|(spread, _)| *spread)
        .map(|(_, reading)| reading)
        .expect("the range is not empty")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advances_with_the_tsc() {
        let reading = ClockReading { tsc: 1_000, monotonic_ns: 5_000_000_000, realtime_ns: 0 };
        assert_eq!(at(reading, 2_000_000_000, 1_000), 5_000_000_000);
        assert_eq!(at(reading, 2_000_000_000, 4_000_001_000), 7_000_000_000);
        // Years of uptime do not overflow, and a TSC that is slightly behind does not go back.
        assert_eq!(at(reading, 3_000_000_000, 1_000 + 3_000_000_000 * 86_400 * 3_650), 315_360_005_000_000_000);
        assert_eq!(at(reading, 2_000_000_000, 0), 5_000_000_000);
    }

    #[test]
    fn a_restored_clock_goes_on_from_where_it_was() {
        for saved in [5, u64::MAX / 2] {
            let clock = GuestClock::continuing(1_000_000_000, saved);
            assert!(clock.now_ns() >= saved && clock.now_ns() < saved + 10_000_000_000);
            assert!(clock.resynchronise().monotonic_ns < saved + 10_000_000_000);
        }
    }

    #[test]
    fn far_deadlines_are_none() {
        let clock = GuestClock::new(1_000_000_000);
        assert_eq!(clock.until(u64::MAX), None);
        assert_eq!(clock.until(0), Some(Duration::ZERO));
    }
}
