//! The process table as `/proc` sees it.
use super::{Process, tracing};
use crate::errno::{Errno, Result};
use crate::fs::proc::{self, Area, Facts, Machine};
use crate::fs::{FileTable, FsContext};
use crate::mm::space::{Backing, Space};
use crate::sched::{self, thread::State};
use crate::signal::{Action, COUNT, bit};
use crate::time::SECOND_NS;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// All processes of the guest.
pub struct Table;

impl proc::Processes for Table {
    fn current(&self) -> (u32, u32) {
        let thread = sched::current();
        (thread.process.pid, thread.tid)
    }

    fn all(&self) -> Vec<u32> {
        super::all().iter().map(|process| process.pid).collect()
    }

    fn find(&self, pid: u32) -> Option<Arc<dyn proc::Process>> {
        super::find(pid).map(|process| process as Arc<dyn proc::Process>)
    }

    fn machine(&self) -> Machine {
        let info = crate::boot::info();
        let uptime_ns = crate::time::monotonic_ns().saturating_sub(crate::boot::started_ns());
        Machine {
            cpus: info.cpu_count,
            uptime_ns,
            idle_ns: crate::arch::cpu::idle_ns(),
            boot_time: crate::time::realtime_ns().saturating_sub(uptime_ns) / SECOND_NS,
            hostname: crate::boot::hostname(),
            release: crate::syscall::RELEASE,
            version: crate::syscall::VERSION,
            tsc_hz: info.tsc_hz,
            max_threads: super::max_tasks(),
            threads: super::task_count(),
            last_pid: super::NEXT_ID.load(Ordering::Relaxed) - 1,
        }
    }

    fn set_hostname(&self, name: &[u8]) {
        crate::boot::set_hostname(name.to_vec());
    }
}

/// Up to the first NUL.
fn text(name: &[u8; 16]) -> Vec<u8> {
    name.iter().copied().take_while(|byte| *byte != 0).collect()
}

impl proc::Process for Process {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn facts(&self, thread: u32) -> Facts {
        let thread = self.threads.lock().get(&thread).cloned();
        let credentials = self.credentials.lock().clone();
        let (mapped_bytes, resident_bytes) = self.space().sizes();
        let actions = self.actions.lock().clone();
        let set = |which: fn(&Action) -> bool| {
            (1..=COUNT).filter(|signal| which(&actions.get(*signal))).fold(0, |set, signal| set | bit(signal))
        };
        let state = match thread.as_ref().map(|thread| thread.state()) {
            None => 'Z',
            Some(_) if thread.as_ref().is_some_and(|thread| thread.is_in_tracer_stop()) => 't',
            Some(_) if self.is_stopped() => 'T',
            Some(State::Blocked) => 'S',
            Some(_) => 'R',
        };
        let signals = thread.as_ref().map(|thread| {
            let signals = thread.signals.lock();
            (signals.pending.set(), signals.mask)
        });
        Facts {
            parent: self.parent_pid(),
            group: self.group.load(Ordering::Relaxed),
            session: self.session.load(Ordering::Relaxed),
            name: thread.as_ref().map_or_else(Vec::new, |thread| text(&thread.name.lock())),
            state,
            tracer: thread.as_ref().and_then(|thread| thread.tracee().as_ref().map(|of| of.tracer)).unwrap_or(0),
            uids: [credentials.uid, credentials.euid, credentials.suid],
            gids: [credentials.gid, credentials.egid, credentials.sgid],
            groups: credentials.groups,
            capabilities: credentials.capabilities,
            ran_ns: self.cpu_time_ns(),
            nice: thread.as_ref().map_or(0, |thread| thread.nice.load(Ordering::Relaxed)),
            started_ns: self.started_ns.saturating_sub(crate::boot::started_ns()),
            mapped_bytes,
            resident_bytes,
            stack_top: self.image.lock().stack_top,
            pending: self.pending.lock().set(),
            thread_pending: signals.map_or(0, |(pending, _)| pending),
            blocked: signals.map_or(0, |(_, mask)| mask),
            ignored: set(|action| action.handler == Action::IGNORE),
            caught: set(|action| action.handler != Action::IGNORE && action.handler != Action::DEFAULT),
        }
    }

    fn exe(&self) -> Vec<u8> {
        self.image.lock().exe.clone()
    }

    fn args(&self) -> Vec<Vec<u8>> {
        self.image.lock().args.clone()
    }

    fn env(&self) -> Vec<Vec<u8>> {
        self.image.lock().env.clone()
    }

    fn auxv(&self) -> Vec<(u64, u64)> {
        self.image.lock().auxv.clone()
    }

    fn areas(&self) -> Vec<Area> {
        let mut areas = Vec::new();
        self.space().for_each_area(|start, area| {
            let (offset, name, is_file) = match &area.backing {
                Backing::Anonymous => (0, area.label.as_bytes().to_vec(), false),
                Backing::File { offset, path, .. } => (*offset, path.as_deref().unwrap_or_default().to_vec(), true),
            };
            areas.push(Area {
                start,
                end: area.end,
                read: area.access.read,
                write: area.access.write,
                execute: area.access.execute,
                shared: area.shared,
                offset,
                name,
                is_file,
            });
        });
        areas
    }

    fn threads(&self) -> Vec<u32> {
        self.threads.lock().keys().copied().collect()
    }

    fn files(&self) -> Arc<FileTable> {
        self.files.lock().clone()
    }

    fn fs(&self) -> FsContext {
        self.fs.lock().lock().clone()
    }

    fn limits(&self) -> Vec<(u64, u64)> {
        self.limits.lock().0.to_vec()
    }

    fn oom_score_adj(&self) -> i32 {
        self.oom_score_adj.load(Ordering::Relaxed)
    }

    fn set_oom_score_adj(&self, value: i32) {
        self.oom_score_adj.store(value, Ordering::Relaxed);
    }

    fn memory(&self) -> Result<Arc<Space>> {
        let caller = &sched::current().process;
        if caller.pid == self.pid || tracing::may_trace(caller, self) { Ok(self.space()) } else { Err(Errno::EACCES) }
    }

    fn set_name(&self, thread: u32, name: &[u8]) {
        let Some(thread) = self.threads.lock().get(&thread).cloned() else { return };
        let mut bytes = [0; 16];
        let len = name.len().min(bytes.len() - 1);
        bytes[..len].copy_from_slice(&name[..len]);
        *thread.name.lock() = bytes;
    }
}
