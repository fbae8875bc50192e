//! Waiting for children that end, stop or go on (wait4(2), waitid(2)).
use super::job::News;
use super::{PROCESSES, Process, tracing};
use crate::errno::{Errno, Result};
use crate::sched::{self, thread::Thread};
use core::sync::atomic::Ordering;

/// Which children a wait is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Any,
    Process(u32),
    Group(u32),
}

impl Which {
    fn fits(self, child: &Process) -> bool {
        self.fits_number(child.pid, || child.group.load(Ordering::Relaxed))
    }

    fn fits_number(self, id: u32, group: impl FnOnce() -> u32) -> bool {
        match self {
            Which::Any => true,
            Which::Process(pid) => id == pid,
            Which::Group(wanted) => group() == wanted,
        }
    }
}

/// What a wait is for, and how.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub which: Which,
    pub ends: bool,
    pub stops: bool,
    pub continues: bool,
    /// WNOHANG.
    pub at_once: bool,
    /// WNOWAIT: the next wait is told the same.
    pub keep: bool,
}

/// What has become of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Exited(u32),
    Killed(u32),
    Stopped(u32),
    Continued,
    /// A traced thread: the signal, and an event above it.
    Trapped(u32),
}

impl Fate {
    /// As `wait4` gives it.
    pub fn status(self) -> u32 {
        match self {
            Fate::Exited(status) => status << 8,
            Fate::Killed(signal) => signal,
            Fate::Stopped(signal) | Fate::Trapped(signal) => signal << 8 | 0x7f,
            Fate::Continued => 0xffff,
        }
    }

    pub fn of_status(status: u32) -> Fate {
        if status & 0x7f == 0 { Fate::Exited(status >> 8) } else { Fate::Killed(status & 0x7f) }
    }

    fn has_ended(self) -> bool {
        matches!(self, Fate::Exited(_) | Fate::Killed(_))
    }
}

impl From<News> for Fate {
    fn from(news: News) -> Fate {
        match news {
            News::Stopped(signal) => Fate::Stopped(signal),
            News::Continued => Fate::Continued,
        }
    }
}

/// A child about which there is something to tell.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub pid: u32,
    pub uid: u32,
    pub fate: Fate,
    /// Processor time that it used, ns.
    pub ran_ns: u64,
    /// It was told to a tracer, which may not be the parent.
    pub traced: bool,
}

/// Takes an ended child out of all tables.
pub(super) fn collect(parent: &Process, pid: u32) {
    parent.children.lock().retain(|child| child.pid != pid);
    if let Some(child) = PROCESSES.lock().remove(&pid) {
        let used = child.ran_ns.load(Ordering::Relaxed) + child.children_ran_ns.load(Ordering::Relaxed);
        parent.children_ran_ns.fetch_add(used, Ordering::Relaxed);
    }
}

fn fate_of(child: &Process, wanted: &Wanted) -> Option<Fate> {
    if child.is_zombie() {
        return wanted.ends.then(|| Fate::of_status(child.status.load(Ordering::Acquire)));
    }
    // Whoever traces a child is told of its stops as a tracer.
    let traced = child.first_thread().is_some_and(|thread| thread.is_traced());
    child.news(wanted.stops && !traced, wanted.continues, wanted.keep).map(Fate::from)
}

fn traced_fits(wanted: &Wanted, thread: &Thread) -> bool {
    wanted.which.fits_number(thread.tid, || thread.process.group.load(Ordering::Relaxed))
}

/// What a tracer is to be told of a thread, as [`wait`] looks for it.
fn traced(process: &Process, wanted: &Wanted) -> Option<Result<Change>> {
    if wanted.ends {
        let mut departed = process.departed.lock();
        if let Some(at) = departed.iter().position(|(tid, ..)| wanted.which.fits_number(*tid, || 0)) {
            let (pid, uid, status) = departed[at];
            if !wanted.keep {
                departed.remove(at);
            }
            return Some(Ok(Change { pid, uid, fate: Fate::of_status(status), ran_ns: 0, traced: true }));
        }
    }
    let (pid, uid, status) = tracing::untold(process, |thread| traced_fits(wanted, thread), wanted.keep)?;
    Some(Ok(Change { pid, uid, fate: Fate::Trapped(status), ran_ns: 0, traced: true }))
}

/// Waits for a change. `None` when `at_once` and there is none; ECHILD when there is no such child.
pub fn wait(wanted: &Wanted) -> Result<Option<Change>> {
    let process = &sched::current().process;
    let look = || -> Option<Result<Change>> {
        if let Some(change) = traced(process, wanted) {
            return Some(change);
        }
        let children = process.children.lock();
        let mut any = tracing::traces(process, |thread| traced_fits(wanted, thread));
        for child in children.iter().filter(|child| wanted.which.fits(child)) {
            any = true;
            if let Some(fate) = fate_of(child, wanted) {
                let uid = child.credentials.lock().uid;
                let ran_ns = child.cpu_time_ns() + child.children_ran_ns.load(Ordering::Relaxed);
                return Some(Ok(Change { pid: child.pid, uid, fate, ran_ns, traced: false }));
            }
        }
        if any { None } else { Some(Err(Errno::ECHILD)) }
    };
    let change = match look() {
        None if wanted.at_once => return Ok(None),
        None => sched::block_on(&[&process.child_changed], None, look)??,
        Some(found) => found?,
    };
    if change.fate.has_ended() && !wanted.keep && !change.traced {
        collect(process, change.pid);
    }
    Ok(Some(change))
}
