//! A session's objects as one file: written at a point where nothing runs, read on another device of the same kind.
//!
//! ```text
//! 0        seal::Header    magic, version, kind of device, lengths, tag: the supervisor's page
//! 4096     records         one per object, in the order in which they can be made again (`format`)
//! BULK     contents        of buffers that do not lie in the session's memory; parts of that memory, if wanted
//! ```
//! The worker, which has run a guest's kernels, writes records and contents (`save`); the supervisor, which knows the node's
//! key, seals them. Reading (`restore`) trusts no field of a record more than a descriptor of a guest: objects are made by
//! the same checked calls, and program binaries carry tags of their own.
pub mod format;
mod restore;
mod save;
pub mod seal;

pub use restore::{RestoreError, Restored};
pub use save::{SaveError, Saved, Waiting};
