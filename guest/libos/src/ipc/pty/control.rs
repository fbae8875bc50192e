//! Requests that both sides of a pair answer, and what a terminal does to sessions and process groups.
use super::{Pty, TERMIOS_LEN, Termios};
use crate::errno::{Errno, Result};
use crate::user;
use linux_raw_sys::general::{SIGWINCH, TCIFLUSH, TCIOFLUSH, TCOFLUSH};
use linux_raw_sys::ioctl::{
    TCFLSH, TCGETS, TCGETS2, TCSBRK, TCSBRKP, TCSETS, TCSETS2, TCSETSF, TCSETSF2, TCSETSW, TCSETSW2, TCXONC, TIOCEXCL,
    TIOCGPGRP, TIOCGSID, TIOCGWINSZ, TIOCNOTTY, TIOCNXCL, TIOCOUTQ, TIOCSCTTY, TIOCSPGRP, TIOCSWINSZ,
};

const TCOOFF: u64 = 0;
const TCOON: u64 = 1;
/// Asking the other side to stop and to go on: there is no line to ask by.
const TCIOFF: u64 = 2;
const TCION: u64 = 3;
/// Input and output speed of a pseudo-terminal, as `struct termios2` has them.
const SPEEDS: [u32; 2] = [38400; 2];

pub(super) fn ioctl(pty: &Pty, is_master: bool, request: u32, argument: u64) -> Result<usize> {
    match request {
        TCGETS | TCGETS2 => {
            let termios = pty.state.lock().discipline.termios;
            user::write(argument, &termios)?;
            if request == TCGETS2 {
                user::write(argument + TERMIOS_LEN as u64, &SPEEDS)?;
            }
        }
        TCSETS | TCSETSW | TCSETSF | TCSETS2 | TCSETSW2 | TCSETSF2 => {
            let termios: Termios = user::read(argument)?;
            let mut state = pty.state.lock();
            if matches!(request, TCSETSF | TCSETSF2) {
                state.discipline.flush_input();
            }
            state.discipline.termios = termios;
            drop(state);
            pty.queue.wake_all();
        }
        TIOCGWINSZ => {
            let window = pty.state.lock().window;
            user::write(argument, &window)?;
        }
        TIOCSWINSZ => {
            let window: [u16; 4] = user::read(argument)?;
            let changed = core::mem::replace(&mut pty.state.lock().window, window) != window;
            if changed {
                pty.signal_foreground(SIGWINCH);
            }
        }
        TCFLSH => flush(pty, is_master, argument as u32)?,
        TCXONC => {
            match argument {
                TCOOFF => pty.state.lock().discipline.set_stopped(true),
                TCOON => pty.state.lock().discipline.set_stopped(false),
                TCIOFF | TCION => {}
                _ => return Err(Errno::EINVAL),
            }
            pty.queue.wake_all();
        }
        TIOCOUTQ => {
            let waiting = if is_master { 0 } else { pty.state.lock().output.len() as i32 };
            user::write(argument, &waiting)?;
        }
        TIOCGPGRP => {
            let state = pty.state.lock();
            let foreground = state.foreground;
            let own = is_master || is_session(state.session);
            drop(state);
            if !own {
                return Err(Errno::ENOTTY);
            }
            user::write(argument, &foreground)?;
        }
        TIOCSPGRP => {
            let group: u32 = user::read(argument)?;
            let mut state = pty.state.lock();
            if !is_session(state.session) {
                return Err(Errno::ENOTTY);
            }
            state.foreground = group;
        }
        TIOCGSID => {
            let session = pty.state.lock().session;
            if session == 0 {
                return Err(Errno::ENOTTY);
            }
            user::write(argument, &session)?;
        }
        TIOCSCTTY if !is_master => become_controlling(pty)?,
        TIOCNOTTY if !is_master => {
            let mut state = pty.state.lock();
            if !is_session(state.session) {
                return Err(Errno::ENOTTY);
            }
            state.session = 0;
            state.foreground = 0;
        }
        // There is no line to drain, break or lock.
        TCSBRK | TCSBRKP | TIOCEXCL | TIOCNXCL => {}
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

fn flush(pty: &Pty, is_master: bool, what: u32) -> Result<()> {
    let mut state = pty.state.lock();
    let (input, output) = match what {
        TCIFLUSH => (true, false),
        TCOFLUSH => (false, true),
        TCIOFLUSH => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    // The master's input is the terminal's output.
    let (input, output) = if is_master { (output, input) } else { (input, output) };
    if input {
        state.discipline.flush_input();
    }
    if output {
        state.output.clear();
    }
    drop(state);
    pty.queue.wake_all();
    Ok(())
}

#[cfg(target_os = "none")]
mod caller {
    use super::super::{PAIRS, Pty};
    use crate::errno::{Errno, Result};
    use crate::fs::OpenFile;
    use crate::process;
    use crate::sched;
    use crate::signal::{self, SigInfo};
    use alloc::sync::{Arc, Weak};
    use alloc::vec::Vec;
    use core::sync::atomic::Ordering;

    /// Whether the caller belongs to that session.
    pub fn is_session(session: u32) -> bool {
        session != 0 && sched::current().process.session.load(Ordering::Relaxed) == session
    }

    /// TIOCSCTTY: EPERM for who is no session leader, or when the terminal belongs to another session.
    pub fn become_controlling(pty: &Pty) -> Result<()> {
        let process = &sched::current().process;
        let session = process.session.load(Ordering::Relaxed);
        if session != process.pid {
            return Err(Errno::EPERM);
        }
        let mut state = pty.state.lock();
        if state.session != 0 && state.session != session {
            return Err(Errno::EPERM);
        }
        state.session = session;
        state.foreground = process.group.load(Ordering::Relaxed);
        Ok(())
    }

    /// `open` without O_NOCTTY: a session leader without a terminal gets this one, if it is free.
    pub fn take_if_leader(pty: &Pty) {
        let session = sched::current().process.session.load(Ordering::Relaxed);
        let others: Vec<Arc<Pty>> = PAIRS.lock().values().filter_map(Weak::upgrade).collect();
        let has_one = others.iter().any(|other| other.state.lock().session == session);
        if !has_one && pty.state.lock().session == 0 {
            // Who is no leader just does not get it.
            let _ = become_controlling(pty);
        }
    }

    /// A signal of the terminal's to all of a process group.
    pub fn signal_group(group: u32, signal: u32) {
        if group == 0 {
            return;
        }
        for process in process::all().iter().filter(|process| process.group.load(Ordering::Relaxed) == group) {
            signal::send_to_process(process, SigInfo::kernel(signal));
        }
    }

    /// The terminal has gone: its session's leader and foreground group hear of it.
    pub fn hang_up(session: u32, foreground: u32, signal: u32) {
        signal_group(foreground, signal);
        let leader = process::find(session).filter(|leader| leader.group.load(Ordering::Relaxed) != foreground);
        if let Some(leader) = leader.filter(|_| session != 0) {
            signal::send_to_process(&leader, SigInfo::kernel(signal));
        }
    }

    /// Gives the caller a descriptor for an open file.
    pub fn install(open: Arc<OpenFile>, close_on_exec: bool) -> Result<usize> {
        let files = sched::current().process.files.lock().clone();
        files.install(open, close_on_exec).map(|descriptor| descriptor as usize)
    }
}

/// On the host (tests) there are no sessions and no descriptors.
#[cfg(not(target_os = "none"))]
mod caller {
    use super::super::Pty;
    use crate::errno::{Errno, Result};
    use crate::fs::OpenFile;
    use alloc::sync::Arc;

    pub fn is_session(_session: u32) -> bool {
        false
    }

    pub fn become_controlling(_pty: &Pty) -> Result<()> {
        Err(Errno::EPERM)
    }

    pub fn take_if_leader(_pty: &Pty) {}

    pub fn signal_group(_group: u32, _signal: u32) {}

    pub fn hang_up(_session: u32, _foreground: u32, _signal: u32) {}

    pub fn install(_open: Arc<OpenFile>, _close_on_exec: bool) -> Result<usize> {
        Err(Errno::EMFILE)
    }
}

pub(super) use caller::*;
