//! timerfd: a timer as a file.
//!
//! The timer is kept as the next expiry on the monotonic clock, so nothing runs while nobody asks: expiries are counted
//! from the clock when the file is read, looked at, or set. A wake-up is armed for the next expiry only, and again after a
//! read, as on Linux.
use crate::errno::{Errno, Result};
use crate::fs::file::{File, OpenFile, PollEvents};
use crate::fs::stat::{Kind, Stat};
use crate::ipc::READABLE;
use crate::sched::wait::{WaitQueue, Wake};
use crate::sync::Mutex;
use crate::time::{self, TimerId};
use crate::user::Writer;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// Which clock absolute times mean. Relative times are the same on all of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    Realtime,
    /// Also CLOCK_BOOTTIME: a guest is never suspended as a machine is.
    Monotonic,
}

impl Clock {
    fn now_ns(self) -> u64 {
        match self {
            Clock::Realtime => time::realtime_ns(),
            Clock::Monotonic => time::monotonic_ns(),
        }
    }
}

/// When a timer goes off first, and then at which distance (0: never again); nanoseconds. A first time of 0 disarms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    pub first_ns: u64,
    pub interval_ns: u64,
}

pub struct TimerFd {
    clock: Clock,
    state: Mutex<State>,
    /// Separate from the file, so that an armed wake-up does not keep the file alive.
    queue: Arc<Alarm>,
}

struct Alarm(WaitQueue);

impl Wake for Alarm {
    fn wake(&self) {
        self.0.wake_for(READABLE);
    }
}

#[derive(Default)]
struct State {
    /// Next expiry, CLOCK_MONOTONIC ns.
    next_ns: Option<u64>,
    interval_ns: u64,
    /// Expiries that no read has taken.
    ticks: u64,
    armed: Option<TimerId>,
}

impl State {
    /// Counts the expiries up to now.
    fn advance(&mut self, now_ns: u64) {
        let Some(next) = self.next_ns.filter(|next| *next <= now_ns) else { return };
        // Expiries after the first one; `None` for a timer that goes off once.
        let more = (now_ns - next).checked_div(self.interval_ns);
        self.ticks = self.ticks.saturating_add(more.unwrap_or(0)).saturating_add(1);
        self.next_ns = more.and_then(|more| next.checked_add((more + 1).checked_mul(self.interval_ns)?));
    }

    fn setting(&self, now_ns: u64) -> Setting {
        // An armed timer never reads as 0, which would mean disarmed.
        let first_ns = self.next_ns.map_or(0, |next| next.saturating_sub(now_ns).max(1));
        Setting { first_ns, interval_ns: self.interval_ns }
    }
}

impl TimerFd {
    pub fn new(clock: Clock) -> TimerFd {
        TimerFd { clock, state: Mutex::default(), queue: Arc::new(Alarm(WaitQueue::new())) }
    }

    /// `timerfd_settime`; gives what was set before. `absolute`: `first_ns` is a time of this timer's clock.
    pub fn set(&self, setting: Setting, absolute: bool) -> Setting {
        let now = time::monotonic_ns();
        let next = match setting.first_ns {
            0 => None,
            first if !absolute => Some(now.saturating_add(first)),
            first => Some(first.saturating_add(now).saturating_sub(self.clock.now_ns())),
        };
        let mut state = self.state.lock();
        state.advance(now);
        let old = state.setting(now);
        state.next_ns = next;
        state.interval_ns = setting.interval_ns;
        state.ticks = 0;
        self.arm(&mut state);
        drop(state);
        self.queue.wake();
        old
    }

    /// `timerfd_gettime`.
    pub fn get(&self) -> Setting {
        let now = time::monotonic_ns();
        let mut state = self.state.lock();
        state.advance(now);
        self.arm(&mut state);
        state.setting(now)
    }

    fn arm(&self, state: &mut State) {
        if let Some(id) = state.armed.take() {
            time::cancel(id);
        }
        if let Some(next) = state.next_ns {
            let alarm: Weak<Alarm> = Arc::downgrade(&self.queue);
            state.armed = Some(time::wake_at(next, Arc::new(Ring(alarm))));
        }
    }
}

/// What the clock wakes; it may fire after the file has gone.
struct Ring(Weak<Alarm>);

impl Wake for Ring {
    fn wake(&self) {
        if let Some(alarm) = self.0.upgrade() {
            alarm.wake();
        }
    }
}

impl Drop for TimerFd {
    fn drop(&mut self) {
        if let Some(id) = self.state.lock().armed.take() {
            time::cancel(id);
        }
    }
}

impl File for TimerFd {
    fn ignores_seek(&self) -> bool {
        true
    }

    fn read(&self, _open: &OpenFile, _offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        if to.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let ticks = {
            let mut state = self.state.lock();
            state.advance(time::monotonic_ns());
            if state.ticks == 0 {
                return Err(Errno::EAGAIN);
            }
            self.arm(&mut state);
            core::mem::take(&mut state.ticks)
        };
        to.write(&ticks.to_ne_bytes())
    }

    fn poll(&self) -> PollEvents {
        let mut state = self.state.lock();
        state.advance(time::monotonic_ns());
        if state.ticks > 0 { PollEvents::IN } else { PollEvents::empty() }
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.queue.0)
    }

    fn stat(&self) -> Result<Stat> {
        Ok(Stat::new(Kind::Anonymous, 0o600, super::ANONYMOUS_INODE))
    }

    fn path(&self) -> Vec<u8> {
        b"anon_inode:[timerfd]".to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiries_are_counted_from_the_clock() {
        let mut state = State { next_ns: Some(100), interval_ns: 10, ..State::default() };
        state.advance(99);
        assert_eq!(state.ticks, 0);
        state.advance(100);
        assert_eq!((state.ticks, state.next_ns), (1, Some(110)));
        state.advance(135);
        assert_eq!((state.ticks, state.next_ns), (4, Some(140)));
        assert_eq!(state.setting(138), Setting { first_ns: 2, interval_ns: 10 });
    }

    #[test]
    fn a_timer_without_interval_goes_off_once() {
        let mut state = State { next_ns: Some(100), ..State::default() };
        state.advance(1000);
        state.advance(2000);
        assert_eq!((state.ticks, state.next_ns), (1, None));
        assert_eq!(state.setting(2000), Setting::default());
    }
}
