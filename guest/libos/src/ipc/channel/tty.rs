//! Terminal requests on a channel that is a terminal of the host. Line discipline, echo and control characters are the
//! host's: a control-C there arrives as a forwarded signal.
use super::host;
use crate::errno::{Errno, Result};
use crate::user;
use core::sync::atomic::{AtomicU32, Ordering};
use kasoku_abi::hypercall::{CHANNEL_CTL_GET_TERMIOS, CHANNEL_CTL_GET_WINSIZE, CHANNEL_CTL_SET_TERMIOS};
use linux_raw_sys::ioctl::{
    TCFLSH, TCGETS, TCSBRK, TCSBRKP, TCSETS, TCSETSF, TCSETSW, TCXONC, TIOCGPGRP, TIOCGSID, TIOCGWINSZ, TIOCNOTTY,
    TIOCSCTTY, TIOCSPGRP, TIOCSWINSZ,
};

/// Bytes of the kernel's `struct termios`.
const TERMIOS_LEN: usize = 36;
/// Bytes of `struct winsize`.
const WINSIZE_LEN: usize = 8;
/// Process group and session of the first program.
const FIRST: u32 = 1;

/// The foreground process group.
static FOREGROUND: AtomicU32 = AtomicU32::new(FIRST);

pub(super) fn ioctl(channel: u32, request: u32, argument: u64) -> Result<usize> {
    match request {
        TCGETS => {
            let mut termios = [0; TERMIOS_LEN];
            host::control(channel, CHANNEL_CTL_GET_TERMIOS, &mut termios)?;
            user::copy_out(argument, &termios)?;
        }
        TCSETS | TCSETSW | TCSETSF => {
            let mut termios = [0; TERMIOS_LEN];
            user::copy_in(&mut termios, argument)?;
            host::control(channel, CHANNEL_CTL_SET_TERMIOS, &mut termios)?;
        }
        TIOCGWINSZ => {
            let mut size = [0; WINSIZE_LEN];
            host::control(channel, CHANNEL_CTL_GET_WINSIZE, &mut size)?;
            user::copy_out(argument, &size)?;
        }
        TIOCGPGRP => user::write(argument, &FOREGROUND.load(Ordering::Relaxed))?,
        TIOCSPGRP => FOREGROUND.store(user::read(argument)?, Ordering::Relaxed),
        TIOCGSID => user::write(argument, &FIRST)?,
        // The host's terminal decides its own size; flow control and draining have nothing to act on here.
        TIOCSWINSZ | TCSBRK | TCSBRKP | TCXONC | TCFLSH | TIOCSCTTY | TIOCNOTTY => {}
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}
