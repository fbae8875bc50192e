//! Files: open files and descriptor tables (`file`, `table`).
pub mod file;
pub mod stat;
pub mod table;

pub use file::{DirEntry, File, OpenFile, PollEvents};
pub use stat::{Kind, Stat, Time};
pub use table::FileTable;
