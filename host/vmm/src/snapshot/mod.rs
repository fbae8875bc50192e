//! Snapshots: a guest at rest in a memory file (`kasoku_abi::snapshot`), and back.
//!
//! `parking` brings a guest's processors to rest, `image` writes and reads the file. What protects a snapshot's bytes is the
//! node agent's business; here its header is held against the host and the request, each refusal with its reason.
mod image;
mod parking;

pub use image::{Host, Saved, read, write};
pub use parking::{Cpus, Parking, Rest};

use std::time::Duration;

/// How long a guest may take to come to rest. It does so at its next system call or tick; only one that is broken or
/// hostile does not.
pub const REST_TIMEOUT: Duration = Duration::from_secs(5);

/// What a snapshot was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Pages of RAM that are not zero.
    pub pages: u64,
}

/// Why there is no snapshot, or why one is not used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the guest has opened an accelerator, and its session is not saved with it")]
    Accelerator,
    #[error("the guest did not come to rest within {} s", REST_TIMEOUT.as_secs())]
    Restless,
    #[error("the guest ended before it could be saved")]
    Ended,
    #[error("the library OS has no build id, so nobody could tell which one the snapshot needs")]
    NoBuildId,
    #[error("the snapshot cannot be written: {0}")]
    Write(rustix::io::Errno),
    #[error("the snapshot cannot be read: {0}")]
    Read(rustix::io::Errno),
    #[error("the snapshot's memory file is not sealed against writing and shrinking")]
    Unsealed,
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    #[error("the snapshot was taken with another {0}")]
    Other(&'static str),
}
