//! Memory that several mappings share and no file stands for: shared anonymous mappings, System V segments.
use super::frame::Frame;
use super::source::{MapSource, Page};
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use kasoku_abi::layout::PAGE;

pub struct SharedMemory {
    pages: Mutex<BTreeMap<u64, Frame>>,
    /// Pages beyond this do not exist.
    limit: u64,
}

impl SharedMemory {
    /// As long as its mappings happen to be.
    pub fn unbounded() -> SharedMemory {
        SharedMemory { pages: Mutex::default(), limit: u64::MAX }
    }

    /// Of that many bytes, rounded up to pages.
    pub fn of_bytes(bytes: u64) -> SharedMemory {
        SharedMemory { pages: Mutex::default(), limit: bytes.div_ceil(PAGE) }
    }
}

impl MapSource for SharedMemory {
    fn page(&self, index: u64, _write: bool) -> Result<Page> {
        if index >= self.limit {
            return Err(Errno::EFAULT);
        }
        let mut pages = self.pages.lock();
        if let Some(frame) = pages.get(&index) {
            return Ok(Page::Frame(frame.clone()));
        }
        let frame = Frame::zeroed()?;
        pages.insert(index, frame.clone());
        Ok(Page::Frame(frame))
    }
}
