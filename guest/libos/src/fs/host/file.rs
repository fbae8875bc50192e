//! Contents of host files: fetched in large pieces into frames.
use super::Window;
use crate::errno::{Errno, Result};
use crate::fs::generation;
use crate::fs::lower::Fetch;
use crate::mm::frame::Frame;
use crate::sync::Mutex;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kasoku_abi::fs as wire;
use kasoku_abi::layout::PAGE;

/// The bytes of one host file.
pub struct HostBytes {
    window: Arc<Window>,
    root: u32,
    path: Box<[u8]>,
    /// The proxy's handle, while more of the file may be wanted.
    handle: Mutex<Option<Handle>>,
}

/// What a proxy calls an open file. A restored guest has another proxy, which knows nothing of it.
#[derive(Clone, Copy)]
struct Handle {
    value: u64,
    clones: u64,
}

impl Handle {
    fn new(value: u64) -> Handle {
        Handle { value, clones: generation::clones() }
    }

    fn is_current(&self) -> bool {
        self.clones == generation::clones()
    }
}

impl HostBytes {
    pub fn fetch_from(window: Arc<Window>, root: u32, path: Box<[u8]>) -> Arc<dyn Fetch> {
        Arc::new(HostBytes { window, root, path, handle: Mutex::new(None) })
    }

    fn request(&self, operation: u32) -> wire::Request {
        wire::Request { operation, root: self.root, ..Default::default() }
    }

    /// The first pages; a file that is longer stays open at the proxy.
    fn fetch_first(&self, len: u32) -> Result<Vec<Frame>> {
        let request = wire::Request { len, ..self.request(wire::FETCH) };
        let (frames, handle) =
            self.window.request(request, &self.path, |reply, data| Ok((to_frames(data, len)?, reply.value)))?;
        if handle != 0 {
            *self.handle.lock() = Some(Handle::new(handle));
        }
        Ok(frames)
    }

    fn opened(&self) -> Result<u64> {
        let mut handle = self.handle.lock();
        if let Some(handle) = handle.filter(Handle::is_current) {
            return Ok(handle.value);
        }
        let fresh = self.window.request(self.request(wire::OPEN), &self.path, |reply, _| Ok(reply.value))?;
        *handle = Some(Handle::new(fresh));
        Ok(fresh)
    }
}

impl Fetch for HostBytes {
    fn fetch(&self, index: u64, count: usize) -> Result<Vec<Frame>> {
        let len = (count as u64 * PAGE).min(wire::DATA_LEN) as u32;
        if index == 0 && self.handle.lock().is_none() {
            return self.fetch_first(len);
        }
        let request = wire::Request { handle: self.opened()?, offset: index * PAGE, len, ..self.request(wire::READ) };
        self.window.request(request, b"", |_, data| to_frames(data, len))
    }
}

impl Drop for HostBytes {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.lock().take().filter(Handle::is_current) {
            let request = wire::Request { handle: handle.value, ..self.request(wire::CLOSE) };
            // A proxy that cannot close a handle has died, and its handles with it.
            let _ = self.window.request(request, b"", |_, _| Ok(()));
        }
    }
}

/// Pages for `len` bytes; what the proxy did not give (the file has become shorter) is zero.
pub fn to_frames(data: &[u8], len: u32) -> Result<Vec<Frame>> {
    let data = &data[..data.len().min(len as usize)];
    let count = u64::from(len).div_ceil(PAGE) as usize;
    let mut frames = Vec::with_capacity(count);
    for index in 0..count {
        let part = data.get(index * PAGE as usize..).unwrap_or_default();
        let part = &part[..part.len().min(PAGE as usize)];
        let frame = if part.len() == PAGE as usize { Frame::unspecified() } else { Frame::zeroed() };
        match frame {
            Ok(frame) => {
                frame.write(0, part);
                frames.push(frame);
            }
            Err(Errno::ENOMEM) if !frames.is_empty() => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(frames)
}
