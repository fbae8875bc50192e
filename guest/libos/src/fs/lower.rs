//! What lies under the tree of nodes and is never changed: image layers and host directories.
use super::stat::{Kind, Time};
use crate::errno::Result;
use crate::mm::frame::Frame;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kasoku_abi::Gpa;

/// Metadata of a lower file.
#[derive(Clone, Debug)]
pub struct Attributes {
    pub device: u64,
    pub inode: u64,
    pub kind: Kind,
    pub permissions: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size: u64,
    pub accessed: Time,
    pub modified: Time,
    pub changed: Time,
}

/// One name of a lower directory.
pub struct ListedName {
    pub name: Box<[u8]>,
    pub inode: u64,
    pub kind: Kind,
}

/// The bytes of a lower regular file.
pub enum Bytes {
    /// In memory that is mapped for good: whole pages at `at`, the rest (less than a page) in `tail` where it is not
    /// right behind them.
    Fixed { at: Gpa, len: u64, tail: Option<&'static [u8]> },
    /// To be fetched.
    Fetched(Arc<dyn Fetch>),
}

/// Bytes that are fetched from elsewhere on first use.
pub trait Fetch: Send + Sync {
    /// Pages from `index` on, at least one and at most `count`; a page that reaches beyond the end has zeroes there.
    fn fetch(&self, index: u64, count: usize) -> Result<Vec<Frame>>;
}

/// A file of a lower layer.
pub trait Lower: Send + Sync {
    fn attributes(&self) -> Result<Attributes>;

    /// The entry of that name in this directory.
    fn find(&self, name: &[u8]) -> Result<Option<Arc<dyn Lower>>>;

    /// All entries of this directory but `.` and `..`.
    fn list(&self) -> Result<Vec<ListedName>>;

    /// The target of this symbolic link.
    fn read_link(&self) -> Result<Box<[u8]>>;

    /// The contents of this regular file.
    fn bytes(&self) -> Result<Bytes>;

    /// Whether names `.wh.*` have a meaning here (image layers), rather than being files like others.
    fn has_whiteouts(&self) -> bool;
}
