//! Timers that send signals: `setitimer` and POSIX timers (timer_create(2)). One list per program.
use crate::errno::{Errno, Result};
use crate::process;
use crate::sched::wait::Wake;
use crate::signal::{self, SigInfo};
use crate::sync::Mutex;
use crate::time::{self, SECOND_NS, TimerId, monotonic_ns};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
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

struct Timer {
    notify: Notify,
    clock: u32,
    armed: Option<Armed>,
    overrun: u32,
}

/// A timer that counts processor time: when it is due on the program's processor clock.
#[derive(Clone, Copy, Default)]
struct CpuTimer {
    due_ns: u64,
    interval_ns: u64,
}

/// Timers that count processor time, in all programs: while there are any, the VMM ticks.
static CPU_TIMERS: AtomicUsize = AtomicUsize::new(0);

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
    pub fn create(&self, clock: u32, notify: impl FnOnce(u32) -> Notify) -> Result<u32> {
        let mut list = self.list.lock();
        if list.len() >= MAX {
            return Err(Errno::EAGAIN);
        }
        let number = (0..).find(|n| !list.contains_key(n)).ok_or(Errno::EAGAIN)?;
        list.insert(number, Timer { notify: notify(number), clock, armed: None, overrun: 0 });
        Ok(number)
    }

    pub fn clock(&self, number: u32) -> Result<u32> {
        self.list.lock().get(&number).map(|t| t.clock).ok_or(Errno::EINVAL)
    }

    /// Arms (deadline on the monotonic clock) or disarms (`None`); what it was: ns left, interval.
    pub fn set(&self, number: u32, deadline_ns: Option<u64>, interval_ns: u64) -> Result<(u64, u64)> {
        let mut list = self.list.lock();
        if number == INTERVAL {
            let notify = Notify::Process { signal: SIGALRM, value: 0 };
            list.entry(number).or_insert(Timer { notify, clock: 0, armed: None, overrun: 0 });
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

    fn arm(&self, number: u32, deadline_ns: u64, interval_ns: u64) -> Armed {
        let id = time::wake_at(deadline_ns, Arc::new(Expiry { pid: self.pid, number }));
        Armed { deadline_ns, interval_ns, id }
    }

    /// Nanoseconds left and interval.
    pub fn get(&self, number: u32) -> Result<(u64, u64)> {
        match self.list.lock().get(&number) {
            Some(timer) => Ok(timer.armed.as_ref().map_or((0, 0), |a| (left(a), a.interval_ns))),
            None if number == INTERVAL => Ok((0, 0)),
            None => Err(Errno::EINVAL),
        }
    }

    pub fn overrun(&self, number: u32) -> Result<u32> {
        self.list.lock().get(&number).map(|t| t.overrun).ok_or(Errno::EINVAL)
    }

    pub fn delete(&self, number: u32) -> Result<()> {
        let timer = self.list.lock().remove(&number).ok_or(Errno::EINVAL)?;
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
        match (had, cpu[which].is_some()) {
            (false, true) => CPU_TIMERS.fetch_add(1, Ordering::Relaxed),
            (true, false) => CPU_TIMERS.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
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
        if self.cpu.lock().iter().all(Option::is_none) {
            return;
        }
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
        for armed in list.into_values().filter_map(|timer| timer.armed) {
            time::cancel(armed.id);
        }
    }

    fn expire(&self, number: u32) {
        let notify = {
            let mut list = self.list.lock();
            let Some(timer) = list.get_mut(&number) else { return };
            let Some(armed) = timer.armed.take() else { return };
            let late = monotonic_ns().saturating_sub(armed.deadline_ns).checked_div(armed.interval_ns);
            if let Some(late) = late {
                timer.overrun = late as u32;
                let next = armed.deadline_ns + (late + 1) * armed.interval_ns;
                timer.armed = Some(self.arm(number, next, armed.interval_ns));
            }
            timer.notify
        };
        match notify {
            Notify::Nothing => {}
            Notify::Process { signal, value } => {
                if let Some(process) = process::find(self.pid) {
                    let info = if number == INTERVAL {
                        SigInfo::kernel(signal)
                    } else {
                        SigInfo::timer(signal, number, 0, value)
                    };
                    signal::send_to_process(&process, info);
                }
            }
            Notify::Thread { signal, value, tid } => {
                if let Some(thread) = process::find_thread(tid) {
                    signal::send_to_thread(&thread, SigInfo::timer(signal, number, 0, value));
                }
            }
        }
    }
}

fn left(armed: &Armed) -> u64 {
    armed.deadline_ns.saturating_sub(monotonic_ns()).max(1)
}
