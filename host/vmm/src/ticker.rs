//! The ticker: looks at running processors every few milliseconds and interrupts those for which something is there.
//!
//! A guest that computes makes no exits, so nobody else would notice that a channel became readable, that a companion rang,
//! or that its time slice is over. While no processor runs guest code, the ticker sleeps.
use crate::guest::Guest;
use kasoku_abi::boot::MAX_REGIONS;
use kasoku_abi::cpu::{PENDING_CHANNEL, PENDING_KICK};
use rustix::event::{PollFd, poll};
use rustix::fs::Timespec;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(5);
/// An interruption costs 40 us on software KVM: more of them than this would be felt.
const MIN_TICK: Duration = Duration::from_micros(500);

/// Where the ticker sleeps while there is nothing to look at.
#[derive(Default)]
pub struct Parking {
    parked: std::sync::atomic::AtomicBool,
    lock: Mutex<()>,
    condition: Condvar,
}

impl Parking {
    /// Called by a processor that begins to run; one load unless the ticker sleeps.
    pub fn unpark(&self) {
        use std::sync::atomic::Ordering::SeqCst;
        if self.parked.load(SeqCst) {
            let _guard = self.lock.lock().expect("no panic holds this lock");
            self.parked.store(false, SeqCst);
            self.condition.notify_one();
        }
    }

    fn park(&self, may_sleep: impl Fn() -> bool) {
        use std::sync::atomic::Ordering::SeqCst;
        let mut guard = self.lock.lock().expect("no panic holds this lock");
        self.parked.store(true, SeqCst);
        // Set before asking: a processor that begins to run after the question sees it and wakes us.
        while self.parked.load(SeqCst) && may_sleep() {
            guard = self.condition.wait(guard).expect("no panic holds this lock");
        }
        self.parked.store(false, SeqCst);
    }
}

/// Runs until the guest stops.
pub fn run(guest: &Guest) {
    let mut last = Instant::now();
    while !guest.is_stopping() {
        let idle = || !guest.is_stopping() && !guest.cpus.iter().any(|cpu| cpu.is_running());
        if idle() {
            guest.ticker.park(idle);
            last = Instant::now();
            continue;
        }
        sleep(guest, next_tick(guest));
        // Descriptors may have cut the sleep short; the guest is not interrupted more often for that.
        std::thread::sleep(MIN_TICK.saturating_sub(last.elapsed()));
        last = Instant::now();
        for cpu in 0..guest.cpus.len() {
            let bits = look(guest, cpu);
            if bits != 0 {
                guest.notify(cpu, bits);
            }
        }
    }
}

/// Time until some processor wants to be looked at.
fn next_tick(guest: &Guest) -> Duration {
    let running = guest.cpus.iter().enumerate().filter(|(_, cpu)| cpu.is_running());
    running.fold(TICK, |tick, (index, _)| {
        let page = guest.page(index);
        let at = page.preempt_at_ns();
        // One that has been told and has not reacted yet (it is inside its library OS) is told again at leisure.
        if at <= 1 || page.pending() & PENDING_KICK != 0 {
            return tick;
        }
        guest.clock.until(at).map_or(tick, |time| time.clamp(MIN_TICK, tick))
    })
}

/// Sleeps until the time has passed or something that a running processor watches is ready.
fn sleep(guest: &Guest, time: Duration) {
    let mut fds: Vec<PollFd<'_>> = Vec::new();
    for (index, cpu) in guest.cpus.iter().enumerate() {
        let page = guest.page(index);
        let pending = page.pending();
        if !cpu.is_running() {
            continue;
        }
        fds.extend(guest.regions.watched(page.watch_region()));
        // Channels stay ready until the guest acts; one that knows already must not keep us from sleeping.
        if pending & PENDING_CHANNEL == 0 {
            fds.extend(guest.channels.watched(page.watch_read(), page.watch_write()));
        }
    }
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
    // Whatever it returns, the caller looks at everything itself.
    let _ = poll(&mut fds, Some(&timeout));
}

/// What a processor should be interrupted for, as pending bits.
fn look(guest: &Guest, cpu: usize) -> u64 {
    if !guest.cpus[cpu].is_running() {
        return 0;
    }
    let page = guest.page(cpu);
    let pending = page.pending();
    let mut bits = guest.regions.take_wakes(page.watch_region() & ((1 << MAX_REGIONS) - 1));
    let mut fds: Vec<PollFd<'_>> = guest.channels.watched(page.watch_read(), page.watch_write()).collect();
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    if !fds.is_empty() && poll(&mut fds, Some(&none)).is_ok_and(|ready| ready > 0) {
        bits |= PENDING_CHANNEL;
    }
    let at = page.preempt_at_ns();
    if at == 1 || (at != 0 && guest.clock.now_ns() >= at) {
        bits |= PENDING_KICK;
    }
    // Bits that came while the guest was inside its library OS and that it has not taken since.
    bits | pending
}
