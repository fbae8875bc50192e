//! The caller's terminal, which the guest may switch to raw mode and which must be itself again afterwards.
use crate::sys;
use std::os::fd::{AsFd, OwnedFd};

/// Remembers a terminal's settings and restores them when dropped.
pub struct SavedTerminal(Option<(OwnedFd, [u8; sys::TERMIOS_LEN])>);

impl SavedTerminal {
    /// Saves those of standard input; does nothing where that is no terminal.
    pub fn save() -> Self {
        let stdin = std::io::stdin();
        let settings = sys::terminal_settings(stdin.as_fd()).ok();
        let copy = stdin.as_fd().try_clone_to_owned().ok();
        Self(copy.zip(settings))
    }
}

impl Drop for SavedTerminal {
    fn drop(&mut self) {
        if let Some((terminal, settings)) = &self.0 {
            // Only when something changed: a background process that sets a terminal is stopped for it.
            if sys::terminal_settings(terminal.as_fd()) != Ok(*settings) {
                let _ = sys::set_terminal_settings(terminal.as_fd(), *settings);
            }
        }
    }
}
