//! The bytes of regular files: pages of memory over what a lower layer holds.
//!
//! A page that was written is the file's own; until then it is a hole, or the lower layer's. Whatever is mapped or read is
//! the same memory. No lock is held while bytes go to or come from a program: a piece is looked up, kept alive by its
//! reference count, and copied with the file unlocked, because the copy may fault on a page of this very file.
use super::cache::PageCache;
use super::lower::{Bytes, Lower};
use super::pages::FilePage;
use crate::errno::{Errno, Result};
use crate::mm::frame::{Frame, memory};
use crate::mm::source::Page;
use crate::sync::Mutex;
use crate::user::{Reader, Writer};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kasoku_abi::Gpa;
use kasoku_abi::layout::PAGE;
use linux_raw_sys::general::{F_SEAL_FUTURE_WRITE, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE};

/// Largest offset of a file, as on Linux.
pub const MAX_SIZE: u64 = i64::MAX as u64;

/// The contents of a regular file.
pub struct Data(Mutex<Inner>);

struct Inner {
    size: u64,
    base: Base,
    /// Bytes of the base that still count: its length, or where a truncation cut it (then a multiple of a page).
    base_len: u64,
    pages: BTreeMap<u64, FilePage>,
    seals: u32,
    /// Somebody has mapped pages of it.
    mapped: bool,
    /// Pages that were where they are told to have been when they were mapped, and are not any more.
    moved: Vec<(u64, Gpa)>,
}

/// What lies under the file's own pages.
enum Base {
    Nothing,
    /// Not asked for its bytes yet.
    Unread(Arc<dyn Lower>),
    Fixed {
        at: Gpa,
        tail: Option<&'static [u8]>,
    },
    Cached(Arc<PageCache>),
}

/// Contiguous bytes at an offset.
enum Piece {
    Frame(Frame, usize),
    Fixed(Gpa, usize),
    Zeroes(usize),
}

impl Piece {
    fn len(&self) -> usize {
        match self {
            Piece::Frame(_, len) | Piece::Fixed(_, len) | Piece::Zeroes(len) => *len,
        }
    }
}

/// Size and memory of a file.
pub struct Usage {
    pub size: u64,
    /// 512-byte units.
    pub blocks: u64,
}

impl Data {
    /// An empty file that `memfd_create` seals as told, or F_SEAL_SEAL where nothing may ever be sealed.
    pub fn empty(seals: u32) -> Data {
        Data(Mutex::new(Inner::new(0, Base::Nothing, seals)))
    }

    /// A file of a lower layer with `size` bytes.
    pub fn over(lower: Arc<dyn Lower>, size: u64) -> Data {
        Data(Mutex::new(Inner::new(size.min(MAX_SIZE), Base::Unread(lower), F_SEAL_SEAL)))
    }

    pub fn size(&self) -> u64 {
        self.0.lock().size
    }

    pub fn usage(&self) -> Usage {
        let inner = self.0.lock();
        Usage { size: inner.size, blocks: inner.pages.len() as u64 * 8 + inner.base_len.div_ceil(512) }
    }

    /// Bytes to whoever reads; 0 at the end.
    pub fn read(&self, offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        let mut done = 0;
        while to.remaining() > 0 {
            let at = offset.saturating_add(done as u64);
            let piece = {
                let mut inner = self.0.lock();
                let Some(left) = inner.size.checked_sub(at).filter(|left| *left > 0) else { break };
                inner.piece(at, left.min(to.remaining() as u64) as usize)
            };
            let in_page = (at % PAGE) as usize;
            let result = piece.and_then(|piece| {
                let len = piece.len();
                let copied = match &piece {
                    // SAFETY: the piece lies within the frame, which this reference keeps.
                    Piece::Frame(frame, len) => unsafe { to.write_raw(frame.pointer().add(in_page), *len) },
                    // SAFETY: the piece lies within the layer, which is mapped for good.
                    Piece::Fixed(gpa, len) => unsafe { to.write_raw(memory().pointer(*gpa), *len) },
                    Piece::Zeroes(len) => to.write_zeroes(*len),
                };
                copied.map(|copied| (copied, len))
            });
            match result {
                Ok((copied, len)) => {
                    done += copied;
                    if copied < len {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Bytes from whoever writes. EFBIG beyond the largest offset, ENOSPC when memory for files is used up.
    pub fn write(&self, offset: u64, from: &mut Reader<'_>) -> Result<usize> {
        if from.remaining() == 0 {
            return Ok(0);
        }
        let room = MAX_SIZE.checked_sub(offset).filter(|room| *room > 0).ok_or(Errno::EFBIG)?;
        from.limit(room.min(usize::MAX as u64) as usize);
        self.0.lock().prepare_write(offset, from.remaining() as u64)?;
        let mut done = 0;
        while from.remaining() > 0 {
            let at = offset + done as u64;
            let in_page = (at % PAGE) as usize;
            let wanted = from.remaining().min(PAGE as usize - in_page);
            let frame = self.0.lock().writable(at / PAGE).map(|page| page.frame().clone());
            // SAFETY: the range lies within the frame, which this reference keeps.
            let result = frame.and_then(|frame| unsafe { from.read_raw(frame.pointer().add(in_page), wanted) });
            match result {
                Ok(copied) => {
                    done += copied;
                    let mut inner = self.0.lock();
                    inner.size = inner.size.max(at + copied as u64);
                    if copied < wanted {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Bytes into memory of the library OS.
    pub fn read_into(&self, offset: u64, to: &mut [u8]) -> Result<usize> {
        crate::user::with_kernel_writer(to, |writer| self.read(offset, writer))
    }

    /// Bytes from memory of the library OS.
    pub fn write_from(&self, offset: u64, from: &[u8]) -> Result<usize> {
        crate::user::with_kernel_reader(from, |reader| self.write(offset, reader))
    }

    /// `ftruncate`.
    pub fn truncate(&self, len: u64) -> Result<()> {
        if len > MAX_SIZE {
            return Err(Errno::EINVAL);
        }
        let mut inner = self.0.lock();
        let sealed = if len < inner.size { F_SEAL_SHRINK } else { F_SEAL_GROW };
        if len != inner.size && inner.seals & sealed != 0 {
            return Err(Errno::EPERM);
        }
        if len <= inner.size {
            return inner.shrink(len);
        }
        inner.clear_tail();
        inner.size = len;
        Ok(())
    }

    /// `fallocate`: memory for a range (holes become pages), and the file at least that long unless `keep_size`.
    pub fn allocate(&self, offset: u64, len: u64, keep_size: bool) -> Result<()> {
        let end = offset.checked_add(len).filter(|end| *end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        let mut inner = self.0.lock();
        if !keep_size && end > inner.size && inner.seals & F_SEAL_GROW != 0 {
            return Err(Errno::EPERM);
        }
        for index in offset / PAGE..end.div_ceil(PAGE) {
            if index * PAGE >= inner.base_len {
                inner.writable(index)?;
            }
        }
        if !keep_size && end > inner.size {
            inner.clear_tail();
            inner.size = end;
        }
        Ok(())
    }

    /// `fallocate` FALLOC_FL_PUNCH_HOLE: the range reads as zeroes.
    pub fn punch(&self, offset: u64, len: u64) -> Result<()> {
        let end = offset.checked_add(len).filter(|end| *end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        let mut inner = self.0.lock();
        if inner.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM);
        }
        let end = end.min(inner.size.next_multiple_of(PAGE));
        let mut at = offset;
        while at < end {
            let index = at / PAGE;
            let in_page = (at % PAGE) as usize;
            let here = (end - at).min(PAGE - in_page as u64) as usize;
            let in_base = index * PAGE < inner.base_len;
            if here == PAGE as usize && !in_base {
                if let Some(page) = inner.pages.remove(&index) {
                    inner.has_moved(index, page.frame().gpa());
                }
            } else if in_base || inner.pages.contains_key(&index) {
                zero(inner.writable(index)?, in_page, here);
            }
            at += here as u64;
        }
        Ok(())
    }

    /// SEEK_DATA (`data`) and SEEK_HOLE: where the next byte of that sort is. ENXIO beyond the end.
    pub fn seek(&self, offset: u64, data: bool) -> Result<u64> {
        let inner = self.0.lock();
        if offset >= inner.size {
            return Err(Errno::ENXIO);
        }
        let is_data = |index: u64| index * PAGE < inner.base_len || inner.pages.contains_key(&index);
        let mut index = offset / PAGE;
        if data && !is_data(index) {
            let next = inner.pages.range(index..).next().map(|(index, _)| *index).ok_or(Errno::ENXIO)?;
            return if next * PAGE < inner.size { Ok(next * PAGE) } else { Err(Errno::ENXIO) };
        }
        if data {
            return Ok(offset);
        }
        while is_data(index) && index * PAGE < inner.size {
            index += 1;
        }
        Ok((index * PAGE).clamp(offset, inner.size))
    }

    /// F_GET_SEALS.
    pub fn seals(&self) -> u32 {
        self.0.lock().seals
    }

    /// F_ADD_SEALS. EPERM when sealed against that.
    pub fn add_seals(&self, seals: u32) -> Result<()> {
        let mut inner = self.0.lock();
        if inner.seals & F_SEAL_SEAL != 0 {
            return Err(Errno::EPERM);
        }
        inner.seals |= seals;
        Ok(())
    }

    /// Whether somebody may have pages of it mapped.
    pub fn was_mapped(&self) -> bool {
        self.0.lock().mapped
    }

    /// Which pages have moved since they were mapped, and from where; each is told once.
    pub fn take_moved(&self) -> Vec<(u64, Gpa)> {
        core::mem::take(&mut self.0.lock().moved)
    }

    /// The page for a mapping (`MapSource::page`).
    pub fn page(&self, index: u64, write: bool) -> Result<Page> {
        let mut inner = self.0.lock();
        inner.mapped = true;
        if index >= inner.size.div_ceil(PAGE) {
            return Err(Errno::EFAULT);
        }
        if write {
            if inner.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) != 0 {
                return Err(Errno::EPERM);
            }
            return inner.writable(index).map(|page| Page::Frame(page.frame().clone()));
        }
        match inner.piece(index * PAGE, PAGE as usize)? {
            Piece::Frame(frame, _) => Ok(Page::Frame(frame)),
            Piece::Fixed(gpa, _) => Ok(Page::Fixed(gpa)),
            // A page of the file's own from the start: a later write by anybody is then seen by the mapping.
            Piece::Zeroes(_) => inner.writable(index).map(|page| Page::Frame(page.frame().clone())),
        }
    }

    /// The run of contiguous layer pages at `index` (`MapSource::run`).
    pub fn run(&self, index: u64) -> Option<(Gpa, u64)> {
        let mut inner = self.0.lock();
        inner.resolve().ok()?;
        inner.mapped = true;
        let Base::Fixed { at, tail } = inner.base else { return None };
        let whole = if tail.is_some() { inner.base_len / PAGE } else { inner.base_len.div_ceil(PAGE) };
        let end = inner.pages.range(index..).next().map_or(whole, |(own, _)| whole.min(*own));
        let end = end.min(inner.size.div_ceil(PAGE));
        (index < end).then(|| (Gpa(at.0 + index * PAGE), end - index))
    }
}

fn zero(page: &FilePage, from: usize, len: usize) {
    page.frame().write(from, &[0; PAGE as usize][..len]);
}

impl Inner {
    fn new(size: u64, base: Base, seals: u32) -> Inner {
        Inner { size, base, base_len: size, pages: BTreeMap::new(), seals, mapped: false, moved: Vec::new() }
    }

    fn has_moved(&mut self, index: u64, from: Gpa) {
        if self.mapped {
            self.moved.push((index, from));
        }
    }

    fn prepare_write(&mut self, offset: u64, len: u64) -> Result<()> {
        let grows = offset.saturating_add(len) > self.size;
        if self.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) != 0 || grows && self.seals & F_SEAL_GROW != 0 {
            return Err(Errno::EPERM);
        }
        if offset > self.size {
            self.clear_tail();
        }
        Ok(())
    }

    /// Zeroes what a mapping may have left behind the end in the last page, before the file grows over it.
    fn clear_tail(&mut self) {
        let in_page = (self.size % PAGE) as usize;
        if in_page != 0
            && let Some(page) = self.pages.get(&(self.size / PAGE))
        {
            zero(page, in_page, PAGE as usize - in_page);
        }
    }

    /// Asks the lower file for its bytes, once.
    fn resolve(&mut self) -> Result<()> {
        let Base::Unread(lower) = &self.base else { return Ok(()) };
        match lower.bytes()? {
            Bytes::Fixed { at, len, tail } => {
                self.base_len = self.base_len.min(len);
                self.base = Base::Fixed { at, tail };
            }
            Bytes::Fetched(fetch) => self.base = Base::Cached(PageCache::new(fetch, self.base_len)),
        }
        Ok(())
    }

    /// Up to `max` contiguous bytes at `offset`.
    fn piece(&mut self, offset: u64, max: usize) -> Result<Piece> {
        let index = offset / PAGE;
        let in_page = (offset % PAGE) as usize;
        let here = max.min(PAGE as usize - in_page);
        if let Some(page) = self.pages.get(&index) {
            return Ok(Piece::Frame(page.frame().clone(), here));
        }
        if offset < self.base_len {
            self.resolve()?;
        }
        let next_own = self.pages.range(index..).next().map_or(u64::MAX, |(own, _)| own * PAGE);
        if offset >= self.base_len {
            return Ok(Piece::Zeroes(max.min((next_own - offset).min(usize::MAX as u64) as usize)));
        }
        match &self.base {
            Base::Fixed { at, tail } => {
                let whole = if tail.is_some() { self.base_len / PAGE * PAGE } else { self.base_len };
                if offset >= whole {
                    let page = self.writable(index)?;
                    return Ok(Piece::Frame(page.frame().clone(), here));
                }
                Ok(Piece::Fixed(Gpa(at.0 + offset), max.min((whole.min(next_own) - offset) as usize)))
            }
            Base::Cached(cache) => Ok(Piece::Frame(cache.page(index)?, here)),
            Base::Nothing | Base::Unread(_) => Err(Errno::EIO),
        }
    }

    /// The file's own page at `index`, copied up from below where it is not there yet.
    fn writable(&mut self, index: u64) -> Result<&FilePage> {
        if !self.pages.contains_key(&index) {
            let page = self.copied_up(index)?;
            self.pages.insert(index, page);
        }
        Ok(&self.pages[&index])
    }

    fn copied_up(&mut self, index: u64) -> Result<FilePage> {
        let offset = index * PAGE;
        if offset >= self.base_len {
            return FilePage::zeroed();
        }
        self.resolve()?;
        let len = (self.base_len - offset).min(PAGE) as usize;
        match &self.base {
            Base::Fixed { at, tail } => {
                let page = FilePage::zeroed()?;
                match tail {
                    Some(tail) if len < PAGE as usize => {
                        page.frame().write(0, tail.get(..len).ok_or(Errno::EIO)?);
                    }
                    _ => {
                        // SAFETY: within the layer, which is mapped for good and which nobody writes.
                        let from = unsafe { core::slice::from_raw_parts(memory().pointer(Gpa(at.0 + offset)), len) };
                        page.frame().write(0, from);
                    }
                }
                let from = Gpa(at.0 + offset);
                self.has_moved(index, from);
                Ok(page)
            }
            // The cached frame itself becomes the file's own, so that mappings of it go on seeing the file.
            Base::Cached(cache) => FilePage::adopt(cache.take(index)?),
            Base::Nothing | Base::Unread(_) => Err(Errno::EIO),
        }
    }

    fn shrink(&mut self, len: u64) -> Result<()> {
        let in_page = (len % PAGE) as usize;
        let index = len / PAGE;
        if in_page != 0 && (self.pages.contains_key(&index) || len < self.base_len) {
            zero(self.writable(index)?, in_page, PAGE as usize - in_page);
        }
        drop(self.pages.split_off(&len.div_ceil(PAGE)));
        if len < self.base_len {
            self.base_len = index * PAGE;
        }
        if self.base_len == 0 {
            self.base = Base::Nothing;
        }
        self.size = len;
        Ok(())
    }
}
