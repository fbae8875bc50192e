//! Clocks that count processor time (clock_getcpuclockid(3)).
use super::{find, find_thread};
use crate::sched;
use linux_raw_sys::general::{CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};

/// Whose processor time counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuClock {
    Process(u32),
    Thread(u32),
}

impl CpuClock {
    /// The clock with this number, as the calling thread means it. A negative one names somebody: the number is in the upper
    /// bits, inverted, and bit 2 says that it is a thread's; 0 is the caller.
    pub fn of(id: u32) -> Option<CpuClock> {
        let me = sched::current();
        let own_or = |number: u32, own: u32| if number == 0 { own } else { number };
        match id {
            CLOCK_PROCESS_CPUTIME_ID => Some(CpuClock::Process(me.process.pid)),
            CLOCK_THREAD_CPUTIME_ID => Some(CpuClock::Thread(me.tid)),
            id if (id as i32) >= 0 => None,
            id => {
                let number = !((id as i32) >> 3) as u32;
                match id & 4 {
                    0 => Some(CpuClock::Process(own_or(number, me.process.pid))),
                    _ => Some(CpuClock::Thread(own_or(number, me.tid))),
                }
            }
        }
    }

    /// What it shows, ns; nothing when nobody has that number.
    pub fn used_ns(self) -> Option<u64> {
        match self {
            CpuClock::Process(pid) => find(pid).map(|process| process.cpu_time_ns()),
            CpuClock::Thread(tid) => find_thread(tid).map(|thread| thread.cpu_time_ns()),
        }
    }
}
