//! What programs that map a host file share: its pages, fetched when they are first touched.
//!
//! The guest's programs see each other's writes at once. The host sees them when they are written back: at msync, fsync and
//! munmap, before a system call reads or writes the same bytes, and when the program or the guest ends. Written back are the
//! bytes that differ from a copy of the page (its twin) that was made before it could be written to, so that what the host
//! has written elsewhere in the page meanwhile stays.
use super::{Handle, LiveFile};
use crate::errno::{Errno, Result};
use crate::fs::cache::PageCache;
use crate::fs::lower::Attributes;
use crate::fs::node::{Content, Node};
use crate::fs::stat::Time;
use crate::fs::views;
use crate::mm::copy_of;
use crate::mm::frame::Frame;
use crate::mm::source::{MapSource, Page};
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use kasoku_abi::layout::PAGE;

const PAGE_BYTES: usize = PAGE as usize;
/// Bytes that go to the host, or come from it, in one request, at most.
const PIECE: usize = 256 << 10;
/// Unchanged bytes between changed ones that are written with them: a request costs more than that.
const GAP: usize = 64;

/// All views, for what concerns the whole guest.
static VIEWS: Mutex<Vec<Weak<View>>> = Mutex::new(Vec::new());

/// Writes back whatever programs have written through mappings (sync(2), the guest's end).
pub fn write_back_all() {
    let views: Vec<_> = VIEWS.lock().iter().filter_map(Weak::upgrade).collect();
    for view in views {
        // Nobody is there who could be told; msync and fsync tell theirs.
        let _ = view.write_back(0..u64::MAX);
    }
}

/// The pages of one host file that is mapped.
pub struct View {
    node: Arc<Node>,
    reader: Arc<Handle>,
    /// The host's file open for writing, once somebody has mapped it so.
    writer: Mutex<Option<Arc<Handle>>>,
    /// Bytes that the mappings show.
    size: AtomicU64,
    /// Pages that nobody was given to write to.
    cache: Arc<PageCache>,
    written: Mutex<BTreeMap<u64, Written>>,
    /// Size and time of the host's file when all pages were last known to be as there.
    seen: Mutex<(u64, Time)>,
}

/// A page that programs may have written to, and how it was on the host.
struct Written {
    frame: Frame,
    twin: Frame,
}

/// What a mapping keeps of the view.
struct Mapping {
    view: Arc<View>,
    writable: bool,
}

/// What a mapping of a host file takes its pages from; `handle` is what the program has mapped.
pub fn map(node: &Arc<Node>, handle: &Arc<Handle>) -> Result<Arc<dyn MapSource>> {
    let Content::Live(file) = &node.content else { return Err(Errno::ENODEV) };
    let view = match file.view() {
        Some(view) => {
            view.renew()?;
            view
        }
        None => View::create(node, file, handle)?,
    };
    if handle.is_writable() {
        view.writer.lock().get_or_insert_with(|| handle.clone());
    }
    Ok(Arc::new(Mapping { view, writable: handle.is_writable() }))
}

impl View {
    fn create(node: &Arc<Node>, file: &LiveFile, handle: &Arc<Handle>) -> Result<Arc<View>> {
        let of = handle.attributes()?;
        node.refresh(&of);
        let view = Arc::new(View {
            node: node.clone(),
            reader: handle.clone(),
            writer: Mutex::new(None),
            size: AtomicU64::new(of.size),
            cache: PageCache::new(handle.clone(), of.size),
            written: Mutex::default(),
            seen: Mutex::new((of.size, of.modified)),
        });
        file.set_view(&view);
        let mut views = VIEWS.lock();
        views.retain(|view| view.strong_count() > 0);
        views.push(Arc::downgrade(&view));
        Ok(view)
    }

    /// What tells its mappings from those of other files.
    fn identity(&self) -> usize {
        core::ptr::from_ref(&self.node.content) as usize
    }

    fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Asks the host how long the file is now.
    fn ask(&self) -> Result<Attributes> {
        let of = self.reader.attributes()?;
        self.node.refresh(&of);
        self.resize(of.size);
        Ok(of)
    }

    /// The file ends elsewhere now: what lies beyond is nobody's, and what a mapping has left behind the old end is not the
    /// file's.
    pub fn resize(&self, size: u64) {
        let old = self.size.swap(size, Ordering::Relaxed);
        self.cache.set_len(size);
        if size == old {
            return;
        }
        let end = size.div_ceil(PAGE);
        if size < old {
            let gone = self.written.lock().split_off(&end);
            let cached = self.cache.cut(end);
            views::revoke(self.identity(), end..u64::MAX, None);
            drop((gone, cached));
        }
        let last = old.min(size);
        let tail = (last % PAGE) as usize;
        if tail != 0 {
            self.put(last, &[0; PAGE_BYTES][tail..]);
        }
    }

    fn page(&self, index: u64, write: bool) -> Result<Frame> {
        if let Some(written) = self.written.lock().get(&index) {
            return Ok(written.frame.clone());
        }
        if index >= self.size().div_ceil(PAGE) {
            self.ask()?;
        }
        if index >= self.size().div_ceil(PAGE) {
            return Err(Errno::EFAULT);
        }
        if !write {
            return self.cache.page(index);
        }
        let twin = copy_of(self.cache.page(index)?.gpa())?;
        // The frame stays, so that those who have mapped it go on seeing the file.
        let frame = self.cache.take(index)?;
        self.written.lock().insert(index, Written { frame: frame.clone(), twin });
        Ok(frame)
    }

    /// Bytes of the host's file that are known here become these.
    pub fn put(&self, offset: u64, mut bytes: &[u8]) {
        let mut at = offset;
        while !bytes.is_empty() {
            let in_page = (at % PAGE) as usize;
            let (here, rest) = bytes.split_at(bytes.len().min(PAGE_BYTES - in_page));
            if let Some(written) = self.written.lock().get(&(at / PAGE)) {
                written.frame.write(in_page, here);
                written.twin.write(in_page, here);
            } else if let Some(frame) = self.cache.present(at / PAGE) {
                frame.write(in_page, here);
            }
            at += here.len() as u64;
            bytes = rest;
        }
    }

    /// Shows what has changed on the host since the pages were fetched, under what programs have written here.
    fn renew(&self) -> Result<()> {
        let of = self.ask()?;
        let now = (of.size, of.modified);
        if *self.seen.lock() == now {
            return Ok(());
        }
        let mut known = self.cache.all_present();
        known.extend(self.written.lock().keys());
        known.sort_unstable();
        let mut rest = &known[..];
        while let Some(first) = rest.first().copied() {
            let run = rest.iter().zip(first..).take(PIECE / PAGE_BYTES).take_while(|(index, at)| *index == at).count();
            let mut bytes = self.reader.piece(first * PAGE, run * PAGE_BYTES)?;
            bytes.resize(run * PAGE_BYTES, 0);
            for (index, page) in (first..).zip(bytes.chunks_exact(PAGE_BYTES)) {
                self.renew_page(index, page);
            }
            rest = &rest[run..];
        }
        *self.seen.lock() = now;
        Ok(())
    }

    fn renew_page(&self, index: u64, host: &[u8]) {
        let all = self.written.lock();
        let Some(Written { frame, twin }) = all.get(&index) else {
            drop(all);
            if let Some(frame) = self.cache.present(index) {
                frame.write(0, host);
            }
            return;
        };
        let (ours, old) = (bytes_of(frame), bytes_of(twin));
        for at in (0..PAGE_BYTES).filter(|at| host[*at] != old[*at] && ours[*at] == old[*at]) {
            frame.write(at, &host[at..=at]);
        }
        twin.write(0, host);
    }

    /// Writes to the host what programs have written to these pages, and have not taken back.
    pub fn write_back(&self, pages: Range<u64>) -> Result<()> {
        if self.written.lock().range(pages.clone()).next().is_none() {
            return Ok(());
        }
        self.ask()?;
        self.send(pages)
    }

    fn send(&self, pages: Range<u64>) -> Result<()> {
        let Some(writer) = self.writer.lock().clone() else { return Ok(()) };
        let indices: Vec<u64> = self.written.lock().range(pages).map(|(index, _)| *index).collect();
        let mut pending = (0, Vec::new());
        for index in indices {
            let Some((ours, old)) =
                self.written.lock().get(&index).map(|page| (bytes_of(&page.frame), bytes_of(&page.twin)))
            else {
                continue;
            };
            let begin = index * PAGE;
            let len = self.size().saturating_sub(begin).min(PAGE) as usize;
            for span in differences(&ours[..len], &old[..len]) {
                let at = begin + span.start as u64;
                if at != pending.0 + pending.1.len() as u64 || pending.1.len() + span.len() > PIECE {
                    self.send_piece(&writer, core::mem::replace(&mut pending, (at, Vec::new())))?;
                }
                pending.1.extend_from_slice(&ours[span]);
            }
        }
        self.send_piece(&writer, pending)
    }

    fn send_piece(&self, writer: &Handle, (offset, bytes): (u64, Vec<u8>)) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        writer.write_all(offset, &bytes)?;
        let mut at = offset;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let in_page = (at % PAGE) as usize;
            let (here, next) = rest.split_at(rest.len().min(PAGE_BYTES - in_page));
            if let Some(written) = self.written.lock().get(&(at / PAGE)) {
                written.twin.write(in_page, here);
            }
            at += here.len() as u64;
            rest = next;
        }
        Ok(())
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // The last mapping has gone, and with it whoever could be told that it fails.
        if let Ok(of) = self.reader.attributes() {
            self.size.store(of.size, Ordering::Relaxed);
            let _ = self.send(0..u64::MAX);
        }
    }
}

fn bytes_of(frame: &Frame) -> Vec<u8> {
    let mut bytes = alloc::vec![0; PAGE_BYTES];
    frame.read(0, &mut bytes);
    bytes
}

/// Where two pages differ, from the first differing byte to the last before at least [`GAP`] equal ones.
fn differences(ours: &[u8], old: &[u8]) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    if ours == old {
        return spans;
    }
    for at in (0..ours.len()).filter(|at| ours[*at] != old[*at]) {
        match spans.last_mut() {
            Some(span) if at < span.end + GAP => span.end = at + 1,
            _ => spans.push(at..at + 1),
        }
    }
    spans
}

impl MapSource for Mapping {
    fn page(&self, index: u64, write: bool) -> Result<Page> {
        self.view.page(index, write && self.writable).map(Page::Frame)
    }

    fn file(&self) -> Option<usize> {
        Some(self.view.identity())
    }

    fn write_back(&self, pages: Range<u64>) -> Result<()> {
        self.view.write_back(pages)
    }

    fn renew(&self) -> Result<()> {
        self.view.renew()
    }

    fn takes_writes(&self) -> bool {
        self.writable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_found_and_what_lies_close_goes_together() {
        let old = [0u8; 1000];
        let mut ours = old;
        assert_eq!(differences(&ours, &old), []);
        for at in [0, 3, 64, 200, 999] {
            ours[at] = 1;
        }
        assert_eq!(differences(&ours, &old), [0..65, 200..201, 999..1000]);
    }
}
