//! The end of threads and programs (exit(2)).
use super::{Process, tracing, wait};
use crate::fs::FileTable;
use crate::sched::{self, futex, futex_pi, thread::Thread};
use crate::signal::{self, Action, SigInfo};
use crate::user;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::*;

/// Bits of a futex word that name its owner, and say that it died.
const FUTEX_TID: u32 = FUTEX_TID_MASK;
/// Longest list of robust futexes that is walked.
const ROBUST_MAX: usize = 2048;

/// Ends all threads of the caller's program; `status` as wait gives it.
pub fn exit_group(status: u32) -> ! {
    let thread = sched::current();
    let process = &thread.process;
    if !process.ending.swap(true, Ordering::AcqRel) {
        process.status.store(status, Ordering::Release);
        for other in process.threads.lock().values() {
            other.call_attention();
        }
    }
    exit_thread()
}

/// Ends the calling thread, and the program when it was the last; `status` counts then.
pub fn exit_one(status: u32) -> ! {
    let process = &sched::current().process;
    if process.threads.lock().len() == 1 && !process.is_ending() {
        process.status.store(status, Ordering::Release);
    }
    exit_thread()
}

/// Ends the calling thread because its program ends (or executes another).
pub fn exit_thread() -> ! {
    let me = sched::current_arc();
    let process = me.process.clone();
    futex_pi::owner_died(me.tid);
    wake_robust(&me);
    let clear = me.clear_tid.load(Ordering::Relaxed);
    if clear != 0 && user::write(clear, &0u32).is_ok() {
        wake_word(clear);
    }
    let last = {
        let mut threads = process.threads.lock();
        threads.remove(&me.tid);
        process.ran_ns.fetch_add(me.cpu_time_ns(), Ordering::Relaxed);
        threads.is_empty()
    };
    process.child_changed.wake_all();
    tracing::end_tracee(&me, process.status.load(Ordering::Acquire));
    if last {
        end_process(&process);
    }
    drop(process);
    Thread::end(me)
}

fn wake_word(address: u64) {
    for shared in [false, true] {
        if let Ok(key) = futex::key(address, shared) {
            futex::wake(key, 1, !0);
        }
    }
}

/// Hands over the robust futexes that the thread still holds (set_robust_list(2)).
fn wake_robust(thread: &Thread) {
    let head = thread.robust_list.load(Ordering::Relaxed);
    if head == 0 {
        return;
    }
    let Ok([first, offset, pending]) = user::read::<[u64; 3]>(head) else { return };
    let give_up = |entry: u64| {
        let word_at = entry.wrapping_add(offset);
        let is_ours = |word: u32| word & FUTEX_TID == thread.tid;
        let died = |word: u32| is_ours(word).then_some(word & FUTEX_WAITERS | FUTEX_OWNER_DIED);
        if word_at.is_multiple_of(4) && thread.space().update_word(word_at, died).is_ok_and(is_ours) {
            wake_word(word_at);
        }
    };
    let mut entry = first;
    for _ in 0..ROBUST_MAX {
        if entry & !1 == head {
            break;
        }
        let Ok(next) = user::read::<u64>(entry & !1) else { break };
        if entry != pending {
            give_up(entry & !1);
        }
        entry = next;
    }
    if pending != 0 {
        give_up(pending & !1);
    }
}

/// Ends the other threads of the caller's program and waits until they have.
pub fn end_other_threads(me: &Thread) {
    let process = &me.process;
    loop {
        {
            let threads = process.threads.lock();
            let others = threads.values().filter(|t| t.tid != me.tid);
            let mut any = false;
            for other in others {
                other.doomed.store(true, Ordering::Release);
                other.call_attention();
                any = true;
            }
            if !any {
                return;
            }
        }
        // Woken by each that ends. A caller that is to end itself does not wait: it looks again and again.
        sched::block_whatever(&process.child_changed, || process.threads.lock().len() == 1);
        if me.is_to_end() {
            sched::yield_now();
        }
    }
}

fn end_process(process: &Arc<Process>) {
    process.ending.store(true, Ordering::Release);
    let status = process.status.load(Ordering::Acquire);
    // Files close now: whoever reads from a pipe must see its end before the parent is told.
    let files = core::mem::replace(&mut *process.files.lock(), Arc::new(FileTable::new()));
    drop(files);
    process.timers.clear();
    crate::ipc::sysv::sem::undo(process.pid);
    process.release_parent();
    // Whether or not anybody asks for its status: the memory goes with the last thread.
    *process.space.lock() = crate::boot::empty_space();
    if process.pid == 1 {
        crate::boot::end(status);
    }
    tracing::end_tracer(process);
    let parent = super::find(process.parent_pid());
    let orphans = core::mem::take(&mut *process.children.lock());
    super::job::release_orphans(process, parent.as_deref(), &orphans);
    give_away(process, orphans);
    process.zombie.store(true, Ordering::Release);
    process.ended.wake_all();
    if let Some(parent) = parent {
        let action = parent.actions.lock().get(SIGCHLD);
        let forgotten = action.handler == Action::IGNORE || action.has(SA_NOCLDWAIT);
        if process.exit_signal == SIGCHLD && forgotten {
            wait::collect(&parent, process.pid);
        }
        if process.exit_signal != 0 {
            let (code, value) =
                if status & 0x7f == 0 { (CLD_EXITED, status >> 8) } else { (CLD_KILLED, status & 0x7f) };
            let uid = process.credentials.lock().uid;
            let info = SigInfo::child(process.pid, uid, code, value).with_signal(process.exit_signal);
            signal::send_to_process(&parent, info);
        }
        parent.child_changed.wake_all();
    }
}

/// The children of a program that ends get another parent: the nearest ancestor that adopts, or else the first program.
fn give_away(process: &Process, orphans: Vec<Arc<Process>>) {
    let mut heir = super::find(process.parent_pid());
    while let Some(ancestor) = heir.take_if(|ancestor| !ancestor.adopts.load(Ordering::Relaxed) && ancestor.pid != 1) {
        heir = super::find(ancestor.parent_pid());
    }
    let Some(heir) = heir else { return };
    for orphan in orphans {
        orphan.parent.store(heir.pid, Ordering::Relaxed);
        let death_signal = orphan.death_signal.load(Ordering::Relaxed);
        heir.children.lock().push(orphan.clone());
        if death_signal != 0 {
            signal::send_to_process(&orphan, SigInfo::user(death_signal, heir.pid, 0));
        }
    }
    heir.child_changed.wake_all();
}
