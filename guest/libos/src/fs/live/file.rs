//! Regular files of the host: read and written there, call by call.
use super::view::View;
use super::{Live, path_of, translate};
use crate::errno::{Errno, Result};
use crate::fs::entry::Entry;
use crate::fs::host::{Window, to_frames};
use crate::fs::lower::{Attributes, Fetch};
use crate::fs::node::Content;
use crate::mm::frame::Frame;
use crate::sync::Mutex;
use crate::user::{Reader, Writer};
use alloc::sync::{Arc, Weak};
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
    /// The file as it is open there: reached by it whatever its name is by now.
    open: Mutex<Weak<Handle>>,
    /// Its pages, while it is mapped.
    view: Mutex<Weak<View>>,
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

    pub fn view(&self) -> Option<Arc<View>> {
        self.view.lock().upgrade()
    }

    pub(super) fn set_view(&self, view: &Arc<View>) {
        *self.view.lock() = Arc::downgrade(view);
    }

    /// The file as somebody has it open; for writing, if anybody does.
    pub(super) fn handle(&self) -> Option<Arc<Handle>> {
        self.open.lock().upgrade()
    }

    /// Somebody has opened it.
    pub(super) fn set_handle(&self, handle: &Arc<Handle>) {
        let mut open = self.open.lock();
        if handle.writable || open.strong_count() == 0 {
            *open = Arc::downgrade(handle);
        }
    }
}

/// A file that is open at the host.
pub struct Handle {
    window: Arc<Window>,
    number: u64,
    writable: bool,
}

impl Live {
    /// Opens an entry's file.
    pub fn open(&self, entry: &Arc<Entry>, writing: bool) -> Result<Arc<Handle>> {
        let Content::Live(file) = &entry.node.content else { return Err(Errno::EIO) };
        if entry.is_removed() {
            // Through /proc/self/fd: the host knows no name for it.
            return file.handle().filter(|handle| handle.writable || !writing).ok_or(Errno::ENOENT);
        }
        let flags = if writing { wire::FOR_WRITING } else { 0 };
        let request = wire::Request { flags, ..self.request(wire::OPEN) };
        let (handle, _) = self.opened(request, &path_of(entry)?)?;
        file.set_handle(&handle);
        Ok(handle)
    }

    /// What the host has opened, and what it says of it.
    pub(super) fn opened(&self, request: wire::Request, path: &[u8]) -> Result<(Arc<Handle>, Attributes)> {
        let writable = request.operation == wire::CREATE || request.flags & wire::FOR_WRITING != 0;
        let (number, of) = self.window.request(request, path, |reply, _| Ok((reply.value, reply.attributes)))?;
        let handle = Arc::new(Handle { window: self.window.clone(), number, writable });
        Ok((handle, translate(of)?))
    }
}

impl Handle {
    /// A request about this open file.
    pub(super) fn request(&self, operation: u32) -> wire::Request {
        wire::Request { operation, handle: self.number, ..Default::default() }
    }

    /// Whether it was opened for writing, too.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    pub fn attributes(&self) -> Result<Attributes> {
        self.window.request(self.request(wire::STAT_HANDLE), b"", |reply, _| translate(reply.attributes))
    }

    /// Bytes to whoever reads; 0 at the end.
    pub fn read(&self, offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        let mut done = 0;
        while to.remaining() > 0 {
            let len = to.remaining().min(PIECE);
            // The program's memory may fault, which the window's lock must not see.
            let piece = self.piece(offset + done as u64, len);
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

    /// At most `len` bytes (no more than one request has), fewer at the end.
    pub(super) fn piece(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let request = wire::Request { offset, len: len as u32, ..self.request(wire::READ) };
        self.window.request(request, b"", |_, data| Ok(Vec::from(&data[..data.len().min(len)])))
    }

    /// All of the bytes (no more than one request has).
    pub(super) fn write_all(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let request = wire::Request { offset: offset + done as u64, ..self.request(wire::WRITE) };
            let taken = self.window.exchange(request, b"", &bytes[done..], |reply, _| Ok(reply.value as usize))?;
            if taken == 0 || taken > bytes.len() - done {
                return Err(Errno::EIO);
            }
            done += taken;
        }
        Ok(())
    }

    /// Bytes from whoever writes, to an offset or (`None`) to the end; what the host says of the file afterwards. `wrote` gets
    /// each piece, and what the host says of the file then.
    pub fn write(
        &self,
        offset: Option<u64>,
        from: &mut Reader<'_>,
        mut wrote: impl FnMut(&Attributes, Option<u64>, &[u8]),
    ) -> Result<(usize, Option<Attributes>)> {
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
                    wrote(&attributes, offset.map(|offset| offset + done as u64), &piece[..taken]);
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
        // The host's file may have become shorter: a page of which nothing is left is not there.
        self.window.request(request, b"", |_, data| match data.len() as u32 {
            0 => Err(Errno::EFAULT),
            got => to_frames(data, got.min(len)),
        })
    }
}
