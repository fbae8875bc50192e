//! Why a machine could not be started: who is wrong, and what to do.
use crate::boot::BootError;
use crate::loader::LoadError;
use crate::memory::MappingError;
use crate::regions::RegionError;
use crate::snapshot::SnapshotError;
use crate::tender::TenderError;
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller asked for something impossible.
    #[error("{0}")]
    Request(String),
    #[error(transparent)]
    Tender(#[from] TenderError),
    #[error(transparent)]
    Memory(#[from] MappingError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error(transparent)]
    Region(#[from] RegionError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("layer {index} cannot be used: {reason}")]
    Layer { index: usize, reason: String },
    #[error("a blob cannot be used: {0}")]
    Blob(String),
    #[error("a standard stream or channel cannot be used: {0}")]
    Channels(io::Error),
    #[error(transparent)]
    Jail(#[from] kasoku_jail::JailError),
    #[error("cannot set up a thread: {0}")]
    Thread(io::Error),
}
