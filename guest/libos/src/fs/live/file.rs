//! Regular files of the host: read and written there, call by call.
use super::{Live, path_of, translate};
use crate::errno::{Errno, Result};
use crate::fs::cache::PageCache;
use crate::fs::entry::Entry;
use crate::fs::host::{Window, to_frames};
use crate::fs::lower::{Attributes, Fetch};
use crate::mm::frame::Frame;
use crate::mm::source::{MapSource, Page};
use crate::user::{Reader, Writer};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use kasoku_abi::fs as wire;
use kasoku_abi::layout::PAGE;

/// Bytes of one request, at most: copies go through memory of the library OS.
const PIECE: usize = 256 << 10;

/// What the host said last about a regular file.
#[derive(Default)]
pub struct LiveFile {
    size: AtomicU64,
    /// 512-byte units.
    blocks: AtomicU64,
}

impl LiveFile {
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    pub fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    pub fn set(&self, size: u64) {
        self.size.store(size, Ordering::Relaxed);
        self.blocks.store(size.div_ceil(512), Ordering::Relaxed);
    }
}

/// A file that is open at the host.
pub struct Handle {
    window: Arc<Window>,
    number: u64,
}

impl Live {
    /// Opens an entry's file.
    pub fn open(&self, entry: &Arc<Entry>, writing: bool) -> Result<Handle> {
        let flags = if writing { wire::FOR_WRITING } else { 0 };
        let request = wire::Request { flags, ..self.request(wire::OPEN) };
        self.opened(request, &path_of(entry)?)
    }

    pub(super) fn opened(&self, request: wire::Request, path: &[u8]) -> Result<Handle> {
        let number = self.window.request(request, path, |reply, _| Ok(reply.value))?;
        Ok(Handle { window: self.window.clone(), number })
    }

    /// What a mapping takes its pages from: the file as it is when they are touched first.
    pub fn map_source(&self, entry: &Arc<Entry>) -> Result<Arc<dyn MapSource>> {
        let handle = self.open(entry, false)?;
        let size = handle.attributes()?.size;
        Ok(Arc::new(Mapped { cache: PageCache::new(Arc::new(handle), size), size }))
    }
}

impl Handle {
    fn request(&self, operation: u32) -> wire::Request {
        wire::Request { operation, handle: self.number, ..Default::default() }
    }

    pub fn attributes(&self) -> Result<Attributes> {
        self.window.request(self.request(wire::STAT_HANDLE), b"", |reply, _| translate(reply.attributes))
    }

    /// Bytes to whoever reads; 0 at the end.
    pub fn read(&self, offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        let mut done = 0;
        while to.remaining() > 0 {
            let len = to.remaining().min(PIECE);
            let request = wire::Request { offset: offset + done as u64, len: len as u32, ..self.request(wire::READ) };
            // The program's memory may fault, which the window's lock must not see.
            let piece = self.window.request(request, b"", |_, data| Ok(Vec::from(&data[..data.len().min(len)])));
            let result = piece.and_then(|piece| Ok((to.write(&piece)?, piece.len())));
            match result {
                Ok((copied, got)) => {
                    done += copied;
                    if got < len || copied < got {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Bytes from whoever writes, to an offset or (`None`) to the end; what the host says of the file afterwards.
    pub fn write(&self, offset: Option<u64>, from: &mut Reader<'_>) -> Result<(usize, Option<Attributes>)> {
        let (mut done, mut last) = (0, None);
        while from.remaining() > 0 {
            let mut piece = alloc::vec![0; from.remaining().min(PIECE)];
            let result = from.read(&mut piece).and_then(|n| {
                let request = match offset {
                    Some(offset) => wire::Request { offset: offset + done as u64, ..self.request(wire::WRITE) },
                    None => wire::Request { flags: wire::APPEND, ..self.request(wire::WRITE) },
                };
                self.window.exchange(request, b"", &piece[..n], |reply, _| {
                    Ok((n, (reply.value as usize).min(n), translate(reply.attributes)?))
                })
            });
            match result {
                Ok((given, taken, attributes)) => {
                    done += taken;
                    last = Some(attributes);
                    if taken < given || taken == 0 {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok((done, last))
    }

    pub fn truncate(&self, len: u64) -> Result<Attributes> {
        let request = wire::Request { offset: len, ..self.request(wire::TRUNCATE) };
        self.window.request(request, b"", |reply, _| translate(reply.attributes))
    }

    pub fn sync(&self) -> Result<()> {
        self.window.request(self.request(wire::SYNC), b"", |_, _| Ok(()))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // A proxy that cannot close a handle has died, and its handles with it.
        let _ = self.window.request(self.request(wire::CLOSE), b"", |_, _| Ok(()));
    }
}

impl Fetch for Handle {
    fn fetch(&self, index: u64, count: usize) -> Result<Vec<Frame>> {
        let len = (count as u64 * PAGE).min(wire::DATA_LEN) as u32;
        let request = wire::Request { offset: index * PAGE, len, ..self.request(wire::READ) };
        self.window.request(request, b"", |_, data| to_frames(data, len))
    }
}

/// A mapping of a host file. Nobody writes through it: the host would not see that.
struct Mapped {
    cache: Arc<PageCache>,
    size: u64,
}

impl MapSource for Mapped {
    fn page(&self, index: u64, write: bool) -> Result<Page> {
        if write || index >= self.size.div_ceil(PAGE) {
            return Err(Errno::EFAULT);
        }
        self.cache.page(index).map(Page::Frame)
    }

    fn takes_writes(&self) -> bool {
        false
    }
}
