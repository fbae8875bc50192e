//! The line to whoever asked for the lease: JSON lines go out, its end ends the lease.
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub struct Control {
    file: File,
}

impl Control {
    pub fn new(descriptor: OwnedFd) -> Self {
        Self { file: File::from(descriptor) }
    }

    /// One line; an owner that is gone does not matter here, its end is seen by `is_open`.
    pub fn say(&mut self, value: &Value) {
        let _ = self.file.write_all(format!("{value}\n").as_bytes());
    }

    pub fn fail(&mut self, kind: &str, message: &str) {
        self.say(&serde_json::json!({ "error": kind, "message": message }));
    }

    /// Called when the descriptor is readable or hung up: whether the owner is still there. What it says is not looked at.
    pub fn is_open(&mut self) -> bool {
        let mut bytes = [0u8; 256];
        match self.file.read(&mut bytes) {
            Ok(count) => count > 0,
            Err(error) => matches!(error.kind(), std::io::ErrorKind::Interrupted | std::io::ErrorKind::WouldBlock),
        }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
