//! What a file mapping takes its pages from.
use super::frame::Frame;
use crate::errno::Result;
use core::ops::Range;
use kasoku_abi::Gpa;

/// One page of a file.
pub enum Page {
    /// Counted memory: tmpfs, or the cache of a host file.
    Frame(Frame),
    /// A page of an image layer or a shared region; never freed.
    Fixed(Gpa),
}

impl Page {
    pub fn gpa(&self) -> Gpa {
        match self {
            Page::Frame(frame) => frame.gpa(),
            Page::Fixed(gpa) => *gpa,
        }
    }
}

/// A file, or a device, that can be mapped into memory.
pub trait MapSource: Send + Sync {
    /// The page at `index` (in pages from the beginning of the file). `write` says that a shared, writable mapping wants
    /// it: the file then copies up what lies in a read-only layer. EFAULT beyond the end (the program gets SIGBUS).
    fn page(&self, index: u64, write: bool) -> Result<Page>;

    /// The run of physically contiguous pages that begins at page `index` (image layers, regions): where it is, and how
    /// many pages. Large pages and cheap bulk mapping come from it; `None` where pages are scattered, or where `write` is
    /// wanted and the pages are read-only.
    fn run(&self, index: u64, write: bool) -> Option<(Gpa, u64)> {
        let _ = (index, write);
        None
    }

    /// What tells whether two sources show the same file; nothing for one whose pages stay where they are.
    fn file(&self) -> Option<usize> {
        None
    }

    /// A shared mapping has asked for pages to write to, and its address space is unlocked again: whoever else maps pages that
    /// have moved for that is told.
    fn follow(&self) {}

    /// What programs have written to these pages through shared mappings reaches whoever has the file elsewhere.
    fn write_back(&self, pages: Range<u64>) -> Result<()> {
        let _ = pages;
        Ok(())
    }

    /// What others have written to the file elsewhere is seen from now on.
    fn renew(&self) -> Result<()> {
        Ok(())
    }

    /// Whether a shared mapping may be written to: the file was open for that when it was mapped.
    fn takes_writes(&self) -> bool {
        true
    }

    /// Whether the library OS sees the pages as well: a private copy of one can be made. Such files can only be mapped shared.
    fn is_shown(&self) -> bool {
        true
    }
}
