//! Timers that send signals: `setitimer` and POSIX timers (timer_create(2)). One list per program.
use crate::errno::{Errno, Result};
use crate::process;
use crate::sched::wait::Wake;
use crate::signal::{self, SigInfo};
use crate::sync::Mutex;
use crate::time::{self, TimerId, monotonic_ns};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use linux_raw_sys::general::SIGALRM;

/// Most POSIX timers of a program.
const MAX: usize = 1024;
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

/// The timers of a program.
pub struct Timers {
    pid: u32,
    list: Mutex<BTreeMap<u32, Timer>>,
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
        Timers { pid, list: Mutex::new(BTreeMap::new()) }
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

    /// Forgets all of them (exec, exit).
    pub fn clear(&self) {
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
