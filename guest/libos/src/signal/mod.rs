//! Signals (signal(7)): who has which pending, what a program wants done with them, and their delivery.
//!
//! A signal is only recorded when it is sent; the receiving thread deals with it on its next return to its program
//! (`deliver`), and waits end early for it (`has_deliverable`).
mod deliver;
mod frame;
mod info;

pub use deliver::{deliver, force};
pub use frame::{RFLAGS_CHANGEABLE, restore, shadow_len};
pub use info::SigInfo;

use crate::process::Process;
use crate::sched::thread::Thread;
use crate::sched::{self, wait::WaitQueue};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use linux_raw_sys::general::*;

/// Number of signals.
pub const COUNT: u32 = 64;
/// Real-time signals that may queue for one receiver.
const QUEUE_MAX: usize = 1024;

/// Bit of a signal in a set.
pub const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// Signals that can be neither caught, blocked nor ignored.
pub const UNSTOPPABLE: u64 = bit(SIGKILL) | bit(SIGSTOP);

/// What a program wants done with a signal (`struct sigaction` of the kernel).
#[derive(Clone, Copy, Debug, Default, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct Action {
    pub handler: u64,
    pub flags: u64,
    pub restorer: u64,
    pub mask: u64,
}

impl Action {
    /// `SIG_DFL`, `SIG_IGN`.
    pub const DEFAULT: u64 = 0;
    pub const IGNORE: u64 = 1;

    pub fn has(&self, flag: u32) -> bool {
        self.flags & u64::from(flag) != 0
    }
}

/// A program's actions.
#[derive(Clone)]
pub struct Actions(pub [Action; COUNT as usize]);

impl Default for Actions {
    fn default() -> Self {
        Actions([Action::default(); COUNT as usize])
    }
}

impl Actions {
    pub fn get(&self, signal: u32) -> Action {
        self.0[signal as usize - 1]
    }

    /// After an exec: handlers are gone, ignored signals stay ignored.
    pub fn reset_handlers(&mut self) {
        for action in &mut self.0 {
            if action.handler != Action::IGNORE {
                *action = Action::default();
            }
        }
    }

    /// Whether the signal would do nothing at all.
    pub fn ignores(&self, signal: u32) -> bool {
        match self.get(signal).handler {
            Action::IGNORE => true,
            Action::DEFAULT => matches!(signal, SIGCHLD | SIGURG | SIGWINCH | SIGCONT),
            _ => false,
        }
    }
}

/// Signals that have been sent and not yet dealt with.
#[derive(Default)]
pub struct Pending {
    set: u64,
    infos: VecDeque<SigInfo>,
}

impl Pending {
    pub fn set(&self) -> u64 {
        self.set
    }

    /// Records a signal. A standard signal that is pending already is not recorded twice; real-time ones queue.
    fn add(&mut self, info: SigInfo) {
        let signal = info.signal();
        if signal < SIGRTMIN && self.set & bit(signal) != 0 {
            return;
        }
        self.set |= bit(signal);
        if self.infos.len() < QUEUE_MAX {
            self.infos.push_back(info);
        }
    }

    /// Takes the lowest pending signal of `wanted`.
    pub fn take(&mut self, wanted: u64) -> Option<SigInfo> {
        let ready = self.set & wanted;
        if ready == 0 {
            return None;
        }
        let signal = ready.trailing_zeros() + 1;
        let at = self.infos.iter().position(|i| i.signal() == signal);
        let info = at.and_then(|at| self.infos.remove(at)).unwrap_or_else(|| SigInfo::kernel(signal));
        if !self.infos.iter().any(|i| i.signal() == signal) {
            self.set &= !bit(signal);
        }
        Some(info)
    }

    /// Counts expiries of a POSIX timer whose signal waits here; how many it stands for then, but for the first.
    pub fn timer_again(&mut self, timer: u32, count: u32) -> Option<u32> {
        self.infos.iter_mut().find_map(|info| info.add_overrun(timer, count))
    }

    /// Forgets the signals of the set.
    pub fn discard(&mut self, set: u64) {
        self.set &= !set;
        self.infos.retain(|info| bit(info.signal()) & set == 0);
    }
}

/// An alternate stack (`stack_t`).
#[derive(Clone, Copy, Debug, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct AltStack {
    pub base: u64,
    pub flags: u32,
    pub padding: u32,
    pub size: u64,
}

impl AltStack {
    pub const NONE: AltStack = AltStack { base: 0, flags: SS_DISABLE, padding: 0, size: 0 };

    pub fn contains(&self, rsp: u64) -> bool {
        self.flags & SS_DISABLE == 0 && rsp > self.base && rsp - self.base <= self.size
    }
}

/// A thread's part of the signal state.
pub struct ThreadSignals {
    /// Blocked signals.
    pub mask: u64,
    pub pending: Pending,
    pub alt_stack: AltStack,
    /// The mask to go back to after a handler that ended `sigsuspend`, `ppoll` and the like.
    pub saved_mask: Option<u64>,
}

impl ThreadSignals {
    pub fn new(mask: u64) -> ThreadSignals {
        ThreadSignals { mask, pending: Pending::default(), alt_stack: AltStack::NONE, saved_mask: None }
    }
}

/// Woken whenever a signal is sent to anybody: `sigtimedwait` and signalfd look again.
pub static SENT: WaitQueue = WaitQueue::new();

/// Whether a signal waits that the thread does not block (and does not ignore).
pub fn has_deliverable(thread: &Thread) -> bool {
    let signals = thread.signals.lock();
    let shared = thread.process.pending.lock().set();
    let ready = (signals.pending.set() | shared) & !signals.mask;
    drop(signals);
    if ready == 0 {
        return false;
    }
    // A tracer sees those that are ignored, too.
    let traced = thread.is_traced();
    let actions = thread.process.actions.lock();
    (1..=COUNT).any(|signal| ready & bit(signal) != 0 && (traced || !actions.ignores(signal)))
}

/// Whether SIGKILL waits for the thread: nothing else keeps it then.
pub fn is_killed(thread: &Thread) -> bool {
    thread.is_to_end() || pending_set(thread) & bit(SIGKILL) != 0
}

/// Signals that the thread blocks or not and that are pending (sigpending).
pub fn pending_set(thread: &Thread) -> u64 {
    thread.signals.lock().pending.set() | thread.process.pending.lock().set()
}

/// Takes a pending signal of the set, the thread's own first (sigtimedwait, signalfd).
pub fn take(thread: &Thread, wanted: u64) -> Option<SigInfo> {
    let own = thread.signals.lock().pending.take(wanted);
    own.or_else(|| thread.process.pending.lock().take(wanted))
}

/// Sends a signal to a program: any of its threads that does not block it will deal with it.
pub fn send_to_process(process: &Arc<Process>, info: SigInfo) {
    start_or_stop(process, info.signal());
    process.pending.lock().add(info);
    for thread in process.threads.lock().values() {
        thread.call_attention();
    }
    SENT.wake_all();
}

/// Signals that stop a program.
const STOPS: u64 = bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU);

/// What stop signals, SIGCONT and SIGKILL do when they are sent, blocked or not: the one takes back the other.
fn start_or_stop(process: &Process, signal: u32) {
    let taken_back = match signal {
        SIGCONT => STOPS,
        _ if bit(signal) & STOPS != 0 => bit(SIGCONT),
        SIGKILL => 0,
        _ => return,
    };
    process.pending.lock().discard(taken_back);
    for thread in process.threads.lock().values() {
        thread.signals.lock().pending.discard(taken_back);
    }
    if matches!(signal, SIGCONT | SIGKILL) {
        process.resume(signal);
    }
}

/// Sends a signal to one thread.
pub fn send_to_thread(thread: &Arc<Thread>, info: SigInfo) {
    start_or_stop(&thread.process, info.signal());
    thread.signals.lock().pending.add(info);
    thread.call_attention();
    SENT.wake_all();
}

/// Sends a signal of the kernel's to the calling thread (SIGPIPE).
pub fn send_self(signal: u32) {
    send_to_thread(&sched::current_arc(), SigInfo::kernel(signal));
}

/// Signals that the VMM passes on to the first program, bit n-1 for signal n.
pub fn from_outside(set: u64) {
    if let Some(first) = crate::process::find(1) {
        for signal in (1..=COUNT).filter(|signal| set & bit(*signal) != 0) {
            send_to_process(&first, SigInfo::user(signal, 0, 0));
        }
    }
}

/// Runs a wait under another mask (`ppoll`, `pselect`, `epoll_pwait`, `sigsuspend`). When a signal ends it, the old mask
/// comes back after the handler; else at once.
pub fn with_mask<T>(mask: Option<u64>, wait: impl FnOnce() -> crate::errno::Result<T>) -> crate::errno::Result<T> {
    use crate::errno::Errno;
    let Some(mask) = mask else { return wait() };
    let thread = sched::current();
    let old = {
        let mut signals = thread.signals.lock();
        core::mem::replace(&mut signals.mask, mask & !UNSTOPPABLE)
    };
    // What the new mask lets through may be pending already.
    thread.keep_attention();
    let result = wait();
    let mut signals = thread.signals.lock();
    if matches!(result, Err(Errno::RESTART | Errno::RESTART_NO_HANDLER | Errno::EINTR)) {
        signals.saved_mask = Some(old);
    } else {
        signals.mask = old;
    }
    drop(signals);
    thread.keep_attention();
    result
}
