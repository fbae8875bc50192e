//! Stopping and continuing programs, and what their parents are told of it (signal(7), "job control").
use super::{Process, all, find, tracing};
use crate::arch::regs::Regs;
use crate::sched::{self, wait::WaitQueue};
use crate::signal::{self, SigInfo};
use crate::sync::Mutex;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::*;

/// Whether a program is stopped, and what a wait for it has not been told yet.
#[derive(Default)]
pub struct Job {
    state: Mutex<State>,
    /// Woken when it may run again.
    resumed: WaitQueue,
}

#[derive(Clone, Copy, Default)]
struct State {
    stopped: bool,
    /// What stopped it.
    signal: u32,
    news: Option<News>,
}

/// A change that waits tell (WUNTRACED, WCONTINUED).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Stopped(u32),
    Continued,
}

impl Process {
    pub fn is_stopped(&self) -> bool {
        self.job.state.lock().stopped
    }

    /// What has not been told yet, if it is something that the caller asks for; `keep` leaves it to be told again.
    pub(super) fn news(&self, stops: bool, continues: bool, keep: bool) -> Option<News> {
        let mut state = self.job.state.lock();
        let wanted = match state.news? {
            News::Stopped(_) => stops,
            News::Continued => continues,
        };
        match wanted {
            false => None,
            true if keep => state.news,
            true => state.news.take(),
        }
    }

    /// Stops all threads: each rests where it would return to its program.
    pub fn stop(&self, signal: u32) {
        *self.job.state.lock() = State { stopped: true, signal, news: Some(News::Stopped(signal)) };
        for thread in self.threads.lock().values() {
            thread.call_attention();
        }
        self.tell_parent(CLD_STOPPED, signal);
    }

    /// SIGCONT was sent, or SIGKILL, which is no news.
    pub fn resume(&self, signal: u32) {
        {
            let mut state = self.job.state.lock();
            if !state.stopped {
                return;
            }
            *state = State { stopped: false, signal, news: (signal == SIGCONT).then_some(News::Continued) };
        }
        self.job.resumed.wake_all();
        if signal == SIGCONT {
            self.tell_parent(CLD_CONTINUED, SIGCONT);
        }
    }

    fn tell_parent(&self, code: u32, signal: u32) {
        let Some(parent) = find(self.parent_pid()) else { return };
        let quiet = parent.actions.lock().get(SIGCHLD).has(SA_NOCLDSTOP);
        if !quiet {
            let uid = self.credentials.lock().uid;
            signal::send_to_process(&parent, SigInfo::child(self.pid, uid, code, signal));
        }
        parent.child_changed.wake_all();
    }

    fn is_in(&self, group: u32) -> bool {
        self.group.load(Ordering::Relaxed) == group
    }
}

impl Job {
    /// The calling thread waits until something is so that may be so when the program goes on, or when a tracer comes.
    pub(super) fn wait(&self, ready: impl FnMut() -> bool) {
        sched::block_whatever(&self.resumed, ready);
    }

    /// Somebody begins to trace threads that may wait here.
    pub(super) fn look_again(&self) {
        self.resumed.wake_all();
    }
}

/// The calling thread waits while its program is stopped; one that is traced stops for its tracer, which may make it go on.
pub fn rest(regs: &mut Regs) {
    let thread = sched::current();
    let process = &thread.process;
    loop {
        process.job.wait(|| !process.is_stopped() || thread.is_traced());
        let state = *process.job.state.lock();
        if !state.stopped || thread.is_to_end() {
            return;
        }
        if tracing::group_stop(regs, state.signal) && thread.is_traced() {
            // It runs, and with it what it belongs to.
            process.job.state.lock().stopped = false;
            process.job.resumed.wake_all();
        } else if signal::is_killed(thread) {
            return;
        }
        tracing::trap_if_wanted(regs);
    }
}

/// Whether `parent` can continue what terminals stop in the group of `child`: it is of the same session, outside the group.
fn keeps(parent: &Process, child: &Process) -> bool {
    !parent.is_in(child.group.load(Ordering::Relaxed))
        && parent.session.load(Ordering::Relaxed) == child.session.load(Ordering::Relaxed)
}

/// Whether nobody is left who could continue the group: terminals do not stop such groups.
pub fn is_orphaned(group: u32) -> bool {
    is_orphaned_without(group, 0)
}

fn is_orphaned_without(group: u32, ended: u32) -> bool {
    let members = all().into_iter().filter(|member| member.is_in(group) && member.pid != ended && !member.is_zombie());
    let parents = members.filter_map(|member| Some((find(member.parent_pid())?, member)));
    !parents.into_iter().any(|(parent, member)| parent.pid != ended && keeps(&parent, &member))
}

/// A program ends: stopped programs that it alone could have continued are told to end or to go on.
pub(super) fn release_orphans(process: &Process, parent: Option<&Process>, children: &[Arc<Process>]) {
    let kept = children.iter().filter(|child| keeps(process, child));
    let mut groups: Vec<u32> = kept.map(|child| child.group.load(Ordering::Relaxed)).collect();
    if parent.is_some_and(|parent| keeps(parent, process)) {
        groups.push(process.group.load(Ordering::Relaxed));
    }
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        let members: Vec<_> =
            all().into_iter().filter(|other| other.is_in(group) && other.pid != process.pid).collect();
        if members.iter().any(|member| member.is_stopped()) && is_orphaned_without(group, process.pid) {
            for member in members {
                signal::send_to_process(&member, SigInfo::kernel(SIGHUP));
                signal::send_to_process(&member, SigInfo::kernel(SIGCONT));
            }
        }
    }
}
