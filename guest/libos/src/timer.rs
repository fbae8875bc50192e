//! Timers that send signals: `setitimer` and POSIX timers (timer_create(2)). One list per program.
use crate::errno::{Errno, Result};
use crate::process::{self, clock::CpuClock};
use crate::sched::wait::Wake;
use crate::signal::{self, SigInfo};
use crate::sync::Mutex;
use crate::time::{self, SECOND_NS, TimerId, monotonic_ns};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use linux_raw_sys::general::{SIGALRM, SIGKILL, SIGPROF, SIGVTALRM, SIGXCPU};

/// Most POSIX timers of a program.
const MAX: usize = 1024;
/// Place of RLIMIT_CPU among the timers of processor time.
const LIMIT: usize = 2;
/// Number that stands for the interval timer (`setitimer`).
pub const INTERVAL: u32 = u32::MAX;

/// What an expiry does.
#[derive(Clone, Copy, Debug)]
pub enum Notify {
    Nothing,
    Process { signal: u32, value: u64 },
    Thread { signal: u32, value: u64, tid: u32 },
}

struct Armed {
    deadline_ns: u64,
    interval_ns: u64,
    id: TimerId,
}

/// What a timer goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    Monotonic,
    /// As [`Clock::Monotonic`], but that points in time are on the realtime clock.
    Realtime,
    Processor(CpuClock),
}

struct Timer {
    notify: Notify,
    clock: Clock,
    armed: Option<Armed>,
    /// Armed, on a clock of processor time.
    counting: Option<CpuTimer>,
    /// Expiries that the last signal stands for, but for the first.
    overrun: u32,
}

impl Timer {
    fn new(notify: Notify, clock: Clock) -> Timer {
        Timer { notify, clock, armed: None, counting: None, overrun: 0 }
    }

    /// Arms or disarms a timer of processor time; what it was.
    fn count(&mut self, timer: Option<CpuTimer>) -> Option<CpuTimer> {
        let old = core::mem::replace(&mut self.counting, timer);
        count_timers(old.is_some(), timer.is_some());
        old
    }
}

/// A timer that counts processor time: when it is due on the program's processor clock.
#[derive(Clone, Copy, Default)]
struct CpuTimer {
    due_ns: u64,
    interval_ns: u64,
}

/// Timers that count processor time, in all programs: while there are any, the VMM ticks.
static CPU_TIMERS: AtomicUsize = AtomicUsize::new(0);

/// One of them was armed before, and is now, or not.
fn count_timers(before: bool, now: bool) {
    match (before, now) {
        (false, true) => CPU_TIMERS.fetch_add(1, Ordering::Relaxed),
        (true, false) => CPU_TIMERS.fetch_sub(1, Ordering::Relaxed),
        _ => 0,
    };
}

/// Whether any timer counts processor time.
pub fn counts_processor_time() -> bool {
    CPU_TIMERS.load(Ordering::Relaxed) != 0
}

/// The timers of a program.
pub struct Timers {
    pid: u32,
    list: Mutex<BTreeMap<u32, Timer>>,
    /// ITIMER_VIRTUAL and ITIMER_PROF, which are the same here: a library OS has no system time of its own; RLIMIT_CPU.
    cpu: Mutex<[Option<CpuTimer>; 3]>,
}

struct Expiry {
    pid: u32,
    number: u32,
}

impl Wake for Expiry {
    fn wake(&self) {
        if let Some(process) = process::find(self.pid) {
            process.timers.expire(self.number);
        }
    }
}

impl Timers {
    pub fn new(pid: u32) -> Timers {
        Timers { pid, list: Mutex::new(BTreeMap::new()), cpu: Mutex::new([None; 3]) }
    }

    /// A new, unarmed timer; its number.
    pub fn create(&self, clock: Clock, notify: impl FnOnce(u32) -> Notify) -> Result<u32> {
        let mut list = self.list.lock();
        if list.len() >= MAX {
            return Err(Errno::EAGAIN);
        }
        let number = (0..).find(|n| !list.contains_key(n)).ok_or(Errno::EAGAIN)?;
        list.insert(number, Timer::new(notify(number), clock));
        Ok(number)
    }

    pub fn clock(&self, number: u32) -> Result<Clock> {
        self.list.lock().get(&number).map(|t| t.clock).ok_or(Errno::EINVAL)
    }

    /// Arms (deadline on the monotonic clock) or disarms (`None`); what it was: ns left, interval.
    pub fn set(&self, number: u32, deadline_ns: Option<u64>, interval_ns: u64) -> Result<(u64, u64)> {
        let mut list = self.list.lock();
        if number == INTERVAL {
            let notify = Notify::Process { signal: SIGALRM, value: 0 };
            list.entry(number).or_insert(Timer::new(notify, Clock::Monotonic));
        }
        let timer = list.get_mut(&number).ok_or(Errno::EINVAL)?;
        let old = timer.armed.take();
        let left = old.as_ref().map_or((0, 0), |a| (left(a), a.interval_ns));
        timer.armed = deadline_ns.map(|at| self.arm(number, at, interval_ns));
        timer.overrun = 0;
        drop(list);
        if let Some(old) = old {
            time::cancel(old.id);
        }
        Ok(left)
    }

    /// The same for a timer of processor time, due at a point of its clock.
    pub fn set_counting(&self, number: u32, due_ns: Option<u64>, interval_ns: u64) -> Result<(u64, u64)> {
        let old = self.get(number)?;
        {
            let mut list = self.list.lock();
            let timer = list.get_mut(&number).ok_or(Errno::EINVAL)?;
            timer.count(due_ns.map(|due_ns| CpuTimer { due_ns, interval_ns }));
            timer.overrun = 0;
        }
        crate::sched::deadlines_changed();
        Ok(old)
    }

    fn arm(&self, number: u32, deadline_ns: u64, interval_ns: u64) -> Armed {
        let id = time::wake_at(deadline_ns, Arc::new(Expiry { pid: self.pid, number }));
        Armed { deadline_ns, interval_ns, id }
    }

    /// Nanoseconds left and interval.
    pub fn get(&self, number: u32) -> Result<(u64, u64)> {
        match self.list.lock().get(&number) {
            Some(timer) => match (timer.counting, timer.clock) {
                (Some(counting), Clock::Processor(clock)) => {
                    let used = clock.used_ns().unwrap_or(0);
                    Ok((counting.due_ns.saturating_sub(used).max(1), counting.interval_ns))
                }
                _ => Ok(timer.armed.as_ref().map_or((0, 0), |a| (left(a), a.interval_ns))),
            },
            None if number == INTERVAL => Ok((0, 0)),
            None => Err(Errno::EINVAL),
        }
    }

    pub fn overrun(&self, number: u32) -> Result<u32> {
        self.list.lock().get(&number).map(|t| t.overrun).ok_or(Errno::EINVAL)
    }

    pub fn delete(&self, number: u32) -> Result<()> {
        let mut timer = self.list.lock().remove(&number).ok_or(Errno::EINVAL)?;
        timer.count(None);
        if let Some(armed) = timer.armed {
            time::cancel(armed.id);
        }
        Ok(())
    }

    /// Sets ITIMER_VIRTUAL (0) or ITIMER_PROF (1): `value_ns` of processor time from now, 0 to disarm; what it was.
    pub fn set_cpu(&self, which: usize, used_ns: u64, value_ns: u64, interval_ns: u64) -> (u64, u64) {
        let old = self.get_cpu(which, used_ns);
        let mut cpu = self.cpu.lock();
        let had = cpu[which].is_some();
        cpu[which] = (value_ns > 0).then(|| CpuTimer { due_ns: used_ns.saturating_add(value_ns), interval_ns });
        count_timers(had, cpu[which].is_some());
        drop(cpu);
        crate::sched::deadlines_changed();
        old
    }

    /// Nanoseconds left and interval of ITIMER_VIRTUAL (0) or ITIMER_PROF (1).
    pub fn get_cpu(&self, which: usize, used_ns: u64) -> (u64, u64) {
        self.cpu.lock()[which].map_or((0, 0), |timer| (timer.due_ns.saturating_sub(used_ns).max(1), timer.interval_ns))
    }

    /// RLIMIT_CPU: SIGXCPU every second from this on, and SIGKILL at the hard limit.
    pub fn limit_cpu(&self, soft_ns: u64) {
        let limited = soft_ns != u64::MAX;
        self.set_cpu(LIMIT, 0, if limited { soft_ns.max(1) } else { 0 }, SECOND_NS);
    }

    /// Sends the signals of processor-time timers that are due (at a tick).
    pub fn check_cpu(&self, process: &Arc<process::Process>) {
        if !counts_processor_time() {
            return;
        }
        self.expire_counting();
        let used = process.cpu_time_ns();
        for (which, signal) in [SIGVTALRM, SIGPROF, SIGXCPU].into_iter().enumerate() {
            let timer = self.cpu.lock()[which];
            if let Some(timer) = timer.filter(|timer| timer.due_ns <= used) {
                self.set_cpu(which, used, timer.interval_ns, timer.interval_ns);
                let beyond = which == LIMIT && used >= process.limits.lock().cpu_ns().1;
                let signal = if beyond { SIGKILL } else { signal };
                signal::send_to_process(process, SigInfo::kernel(signal));
            }
        }
    }

    /// Forgets all of them (exit).
    pub fn clear(&self) {
        self.set_cpu(LIMIT, 0, 0, 0);
        self.clear_own();
    }

    /// Forgets those that the program asked for (exec).
    pub fn clear_own(&self) {
        for which in 0..LIMIT {
            self.set_cpu(which, 0, 0, 0);
        }
        let list = core::mem::take(&mut *self.list.lock());
        for mut timer in list.into_values() {
            timer.count(None);
            if let Some(armed) = timer.armed {
                time::cancel(armed.id);
            }
        }
    }

    /// Fires the POSIX timers of processor time that are due.
    fn expire_counting(&self) {
        let mut due = Vec::new();
        for (number, timer) in self.list.lock().iter_mut() {
            let (Some(counting), Clock::Processor(clock)) = (timer.counting, timer.clock) else { continue };
            let Some(beyond) = clock.used_ns().and_then(|used| used.checked_sub(counting.due_ns)) else { continue };
            let missed = beyond.checked_div(counting.interval_ns);
            timer.count(
                missed.map(|missed| CpuTimer {
                    due_ns: counting.due_ns + (missed + 1) * counting.interval_ns,
                    ..counting
                }),
            );
            due.push((*number, missed.unwrap_or(0) as u32));
        }
        for (number, missed) in due {
            self.notify(number, missed);
        }
    }

    fn expire(&self, number: u32) {
        let missed = {
            let mut list = self.list.lock();
            let Some(timer) = list.get_mut(&number) else { return };
            let Some(armed) = timer.armed.take() else { return };
            let late = monotonic_ns().saturating_sub(armed.deadline_ns).checked_div(armed.interval_ns);
            if let Some(late) = late {
                let next = armed.deadline_ns + (late + 1) * armed.interval_ns;
                timer.armed = Some(self.arm(number, next, armed.interval_ns));
            }
            late.unwrap_or(0) as u32
        };
        self.notify(number, missed);
    }

    /// Sends the signal of an expiry, which `missed` others were too late for. A signal that still waits stands for this one too.
    fn notify(&self, number: u32, missed: u32) {
        let Some(notify) = self.list.lock().get(&number).map(|timer| timer.notify) else { return };
        let (signal, value, thread) = match notify {
            Notify::Nothing => return,
            Notify::Process { signal, value } => (signal, value, None),
            Notify::Thread { signal, value, tid } => match process::find_thread(tid) {
                Some(thread) => (signal, value, Some(thread)),
                None => return,
            },
        };
        let Some(process) = process::find(self.pid) else { return };
        if number == INTERVAL {
            return signal::send_to_process(&process, SigInfo::kernel(signal));
        }
        let waiting = match &thread {
            Some(thread) => thread.signals.lock().pending.timer_again(number, missed + 1),
            None => process.pending.lock().timer_again(number, missed + 1),
        };
        if let Some(timer) = self.list.lock().get_mut(&number) {
            timer.overrun = waiting.unwrap_or(missed);
        }
        if waiting.is_none() {
            let info = SigInfo::timer(signal, number, missed, value);
            match &thread {
                Some(thread) => signal::send_to_thread(thread, info),
                None => signal::send_to_process(&process, info),
            }
        }
    }
}

fn left(armed: &Armed) -> u64 {
    armed.deadline_ns.saturating_sub(monotonic_ns()).max(1)
}
