//! Clocks and timers.
//!
//! A clock is a pair read on the host (TSC, time) plus the TSC since: no exit, no host address, and one place that a restore
//! rewrites. Timers are deadlines on the monotonic clock; the idle loop and the VMM's tick look at the earliest.
use crate::sched::wait::Wake;
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// The host's clocks, read together, and the rate of the TSC as a 32.32 fixed-point factor.
struct Base {
    tsc: AtomicU64,
    monotonic_ns: AtomicU64,
    realtime_ns: AtomicU64,
    ns_per_tick: AtomicU64,
}

static BASE: Base = Base {
    tsc: AtomicU64::new(0),
    monotonic_ns: AtomicU64::new(0),
    realtime_ns: AtomicU64::new(0),
    ns_per_tick: AtomicU64::new(0),
};

/// Sets the clocks from a pair read on the host.
pub fn set_clocks(tsc: u64, monotonic_ns: u64, realtime_ns: u64, tsc_hz: u64) {
    BASE.tsc.store(tsc, Ordering::Relaxed);
    BASE.monotonic_ns.store(monotonic_ns, Ordering::Relaxed);
    BASE.realtime_ns.store(realtime_ns, Ordering::Relaxed);
    let ns_per_tick = ((u128::from(SECOND_NS) << 32) / u128::from(tsc_hz.max(1))) as u64;
    BASE.ns_per_tick.store(ns_per_tick, Ordering::Relaxed);
    #[cfg(target_os = "none")]
    crate::process::vdso::publish(tsc, monotonic_ns, realtime_ns, ns_per_tick);
}

#[cfg(target_os = "none")]
pub fn ticks() -> u64 {
    crate::arch::cpu::tsc()
}

#[cfg(not(target_os = "none"))]
pub fn ticks() -> u64 {
    0
}

fn since_base_ns() -> u64 {
    ticks_to_ns(ticks().saturating_sub(BASE.tsc.load(Ordering::Relaxed)))
}

/// How long so many ticks of the TSC take.
pub fn ticks_to_ns(ticks: u64) -> u64 {
    ((u128::from(ticks) * u128::from(BASE.ns_per_tick.load(Ordering::Relaxed))) >> 32) as u64
}

/// CLOCK_MONOTONIC (and CLOCK_BOOTTIME): the host's.
pub fn monotonic_ns() -> u64 {
    BASE.monotonic_ns.load(Ordering::Relaxed) + since_base_ns()
}

/// CLOCK_REALTIME.
pub fn realtime_ns() -> u64 {
    BASE.realtime_ns.load(Ordering::Relaxed) + since_base_ns()
}

/// A point of the realtime clock on the monotonic one.
pub fn realtime_to_monotonic_ns(realtime: u64) -> u64 {
    let offset = i128::from(monotonic_ns()) - i128::from(realtime_ns());
    (i128::from(realtime) + offset).clamp(0, i128::from(u64::MAX)) as u64
}

/// Names a timer, to cancel it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId {
    deadline_ns: u64,
    number: u64,
}

static TIMERS: Mutex<BTreeMap<TimerId, Arc<dyn Wake>>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Wakes `whom` once the monotonic clock has reached `deadline_ns`.
pub fn wake_at(deadline_ns: u64, whom: Arc<dyn Wake>) -> TimerId {
    let id = TimerId { deadline_ns, number: NEXT.fetch_add(1, Ordering::Relaxed) };
    TIMERS.lock().insert(id, whom);
    crate::sched::deadlines_changed();
    id
}

/// Forgets a timer; no harm when it has fired.
pub fn cancel(id: TimerId) {
    TIMERS.lock().remove(&id);
}

/// The earliest deadline.
pub fn next_deadline_ns() -> Option<u64> {
    TIMERS.lock().first_key_value().map(|(id, _)| id.deadline_ns)
}

/// Fires what is due.
pub fn run_expired() {
    let now = monotonic_ns();
    let due: Vec<Arc<dyn Wake>> = {
        let mut timers = TIMERS.lock();
        let mut due = Vec::new();
        while let Some(entry) = timers.first_entry() {
            if entry.key().deadline_ns > now {
                break;
            }
            due.push(entry.remove());
        }
        due
    };
    for whom in due {
        whom.wake();
    }
}
