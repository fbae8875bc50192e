//! Pages of files that are fetched from elsewhere (host directories), kept while memory allows.
//!
//! All caches together may hold a quarter of RAM; beyond that the pieces that were fetched first go, except for pages that
//! a program has mapped.
use super::lower::Fetch;
use crate::errno::{Errno, Result};
use crate::mm::frame::{Frame, memory};
use crate::sync::Mutex;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use kasoku_abi::layout::PAGE;

/// A file up to this size is fetched whole on first touch.
const WHOLE_PAGES: u64 = (4 << 20) / PAGE;
/// Pieces of larger files.
const PIECE_PAGES: u64 = (1 << 20) / PAGE;

/// The fetched pages of one file.
pub struct PageCache {
    fetch: Arc<dyn Fetch>,
    pages: Mutex<BTreeMap<u64, Frame>>,
    page_count: AtomicU64,
}

/// Fetched pieces, oldest first.
static PIECES: Mutex<Pieces> = Mutex::new(Pieces { queue: VecDeque::new(), pages: 0 });

struct Pieces {
    queue: VecDeque<Piece>,
    /// Pages that were fetched and not evicted again (an upper bound of what the caches hold).
    pages: usize,
}

struct Piece {
    cache: Weak<PageCache>,
    first: u64,
    count: u64,
}

impl PageCache {
    pub fn new(fetch: Arc<dyn Fetch>, len: u64) -> Arc<PageCache> {
        let page_count = AtomicU64::new(len.div_ceil(PAGE));
        Arc::new(PageCache { fetch, pages: Mutex::new(BTreeMap::new()), page_count })
    }

    /// The page at `index`, fetched if need be.
    pub fn page(self: &Arc<Self>, index: u64) -> Result<Frame> {
        if let Some(frame) = self.pages.lock().get(&index) {
            return Ok(frame.clone());
        }
        // A piece that could be fetched in part may have brought what is asked for.
        let fetched = self.fetch_around(index);
        self.pages.lock().get(&index).cloned().ok_or(fetched.err().unwrap_or(Errno::EIO))
    }

    /// The page at `index`, if it is here.
    pub fn present(&self, index: u64) -> Option<Frame> {
        self.pages.lock().get(&index).cloned()
    }

    /// All pages that are here.
    pub fn all_present(&self) -> Vec<u64> {
        self.pages.lock().keys().copied().collect()
    }

    /// The file has another length: what is fetched from now on goes by it.
    pub fn set_len(&self, len: u64) {
        self.page_count.store(len.div_ceil(PAGE), Ordering::Relaxed);
    }

    /// Takes out the pages from `index` on.
    pub fn cut(&self, index: u64) -> BTreeMap<u64, Frame> {
        self.pages.lock().split_off(&index)
    }

    /// Removes the page from the cache, for a file that makes it its own.
    pub fn take(self: &Arc<Self>, index: u64) -> Result<Frame> {
        self.page(index)?;
        self.pages.lock().remove(&index).ok_or(Errno::EIO)
    }

    fn fetch_around(self: &Arc<Self>, index: u64) -> Result<()> {
        let page_count = self.page_count.load(Ordering::Relaxed);
        let (mut at, end) = if page_count <= WHOLE_PAGES {
            (0, page_count)
        } else {
            let first = index / PIECE_PAGES * PIECE_PAGES;
            (first, (first + PIECE_PAGES).min(page_count))
        };
        make_room((end - at) as usize);
        while at < end {
            let frames = match self.fetch.fetch(at, (end - at).min(PIECE_PAGES) as usize) {
                // Out of memory: what the caches hold is the first to go.
                Err(Errno::ENOMEM) if evict_all() => self.fetch.fetch(at, 1)?,
                other => other?,
            };
            let count = frames.len() as u64;
            if count == 0 {
                return Err(Errno::EIO);
            }
            let mut pages = self.pages.lock();
            for (i, frame) in frames.into_iter().enumerate() {
                pages.entry(at + i as u64).or_insert(frame);
            }
            drop(pages);
            let mut pieces = PIECES.lock();
            pieces.queue.push_back(Piece { cache: Arc::downgrade(self), first: at, count });
            pieces.pages += count as usize;
            at += count;
        }
        Ok(())
    }

    fn evict(&self, first: u64, count: u64) {
        let mut pages = self.pages.lock();
        for index in first..first + count {
            if pages.get(&index).is_some_and(|frame| memory().is_exclusive(frame.gpa())) {
                pages.remove(&index);
            }
        }
    }
}

/// Lets the oldest pieces go until `wanted` more pages fit.
fn make_room(wanted: usize) {
    let limit = memory().total_frames() / 4;
    loop {
        let piece = {
            let mut pieces = PIECES.lock();
            if pieces.pages + wanted <= limit {
                return;
            }
            let Some(piece) = pieces.queue.pop_front() else { return };
            pieces.pages -= piece.count as usize;
            piece
        };
        if let Some(cache) = piece.cache.upgrade() {
            cache.evict(piece.first, piece.count);
        }
    }
}

/// Lets everything go that no program has mapped; whether there was anything.
pub fn evict_all() -> bool {
    let had = PIECES.lock().pages > 0;
    make_room(usize::MAX / 2);
    had
}

/// Pages that the caches hold, at most.
pub fn pages_cached() -> usize {
    PIECES.lock().pages
}
