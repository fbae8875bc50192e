//! Files.
//!
//! There is one tree of nodes in memory, filled lazily from what lies below it (image layers, host directories), and what
//! lies below is never changed: making, removing and renaming happen in memory alone. `node`, `entry`, `directory` and
//! `data` are the tree; `lower`, `union`, `erofs` and `host` what lies below; `walk` leads from paths to entries; `ops` is
//! what system calls do to the tree; `file`, `opened` and `table` are open files and descriptors.
pub mod access;
pub mod builtin;
pub mod cache;
pub mod data;
pub mod dev;
pub mod devices;
pub mod directory;
pub mod entry;
pub mod erofs;
pub mod file;
pub mod generation;
pub mod host;
pub mod live;
pub mod locks;
pub mod lower;
pub mod mount;
pub mod node;
pub mod notify;
pub mod opened;
pub mod ops;
pub mod pages;
pub mod proc;
pub mod setup;
pub mod special;
pub mod stat;
pub mod sys;
pub mod table;
pub mod touched;
pub mod union;
pub mod views;
pub mod walk;
pub mod xattr;

pub use access::{Caller, Want};
pub use entry::Entry;
pub use file::{DirEntry, File, OpenFile, PollEvents};
pub use node::{Content, Node};
pub use stat::{Kind, Stat, Time};
pub use table::FileTable;
pub use walk::{FsContext, Walk};

/// The time that files get.
pub fn now() -> Time {
    Time::from_ns(crate::time::realtime_ns())
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
