//! How much memory files may take: half of RAM for pages, as Linux's tmpfs has it, and one inode for two pages of RAM.
use crate::errno::{Errno, Result};
use crate::mm::frame::{Frame, memory};
use core::sync::atomic::{AtomicUsize, Ordering};

static PAGES: AtomicUsize = AtomicUsize::new(0);
static INODES: AtomicUsize = AtomicUsize::new(0);

/// Memory below which no further file is made, so that the library OS's own heap can still grow (4 MiB).
const KEEP_FREE_FRAMES: usize = 1024;

/// Pages that files may hold altogether.
pub fn page_limit() -> usize {
    memory().total_frames() / 2
}

/// Pages that files hold.
pub fn pages_used() -> usize {
    PAGES.load(Ordering::Relaxed)
}

/// Inodes that may exist in memory.
pub fn inode_limit() -> usize {
    memory().total_frames() / 2
}

pub fn inodes_used() -> usize {
    INODES.load(Ordering::Relaxed)
}

/// A page of a file: a frame that counts.
pub struct FilePage(Frame);

impl FilePage {
    /// A page of zeroes: ENOSPC when files hold all they may, or memory is out.
    pub fn zeroed() -> Result<FilePage> {
        Self::charge()?;
        match Frame::zeroed() {
            Ok(frame) => Ok(FilePage(frame)),
            Err(_) => {
                PAGES.fetch_sub(1, Ordering::Relaxed);
                Err(Errno::ENOSPC)
            }
        }
    }

    /// Counts a frame that is there already.
    pub fn adopt(frame: Frame) -> Result<FilePage> {
        Self::charge()?;
        Ok(FilePage(frame))
    }

    fn charge() -> Result<()> {
        if PAGES.fetch_add(1, Ordering::Relaxed) >= page_limit() {
            PAGES.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    pub fn frame(&self) -> &Frame {
        &self.0
    }
}

impl Drop for FilePage {
    fn drop(&mut self) {
        PAGES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to one inode in memory.
pub struct InodeCharge(());

impl InodeCharge {
    /// ENOSPC when there are too many, or memory is nearly out.
    pub fn new() -> Result<InodeCharge> {
        let full = INODES.load(Ordering::Relaxed) >= inode_limit() || memory().free_frames() < KEEP_FREE_FRAMES;
        if full {
            return Err(Errno::ENOSPC);
        }
        INODES.fetch_add(1, Ordering::Relaxed);
        Ok(InodeCharge(()))
    }
}

impl Drop for InodeCharge {
    fn drop(&mut self) {
        INODES.fetch_sub(1, Ordering::Relaxed);
    }
}
