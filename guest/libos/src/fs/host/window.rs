//! One request at a time through shared memory. The proxy on the other side is trusted less than the library OS trusts
//! itself: a reply is copied once, and its lengths are checked.
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use alloc::boxed::Box;
use kasoku_abi::fs::{Attributes, DATA, DATA_LEN, DirEntry, PATH_MAX, REPLY, Reply, Request};
use zerocopy::{FromBytes, IntoBytes};

/// Rings the proxy and waits for its answer: 0 or a negative errno.
pub type Call = Box<dyn Fn() -> i64 + Send + Sync>;

/// A file-system window.
pub struct Window {
    memory: Mutex<*mut u8>,
    call: Call,
}

// SAFETY: the pointer leads to memory that is mapped for good and used under the lock alone.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// # Safety
    /// `memory` is valid for reads and writes of `abi::fs::WINDOW_LEN` bytes for good, and only this window uses it.
    pub unsafe fn new(memory: *mut u8, call: Call) -> Window {
        Window { memory: Mutex::new(memory), call }
    }

    /// Makes a request about `path`, and hands the reply with its data to `then`. The proxy may change the data while
    /// `then` looks at it.
    pub fn request<T>(
        &self,
        request: Request,
        path: &[u8],
        then: impl FnOnce(&Reply, &[u8]) -> Result<T>,
    ) -> Result<T> {
        self.exchange(request, path, b"", then)
    }

    /// As [`Self::request`], with `more` bytes behind the path.
    pub fn exchange<T>(
        &self,
        mut request: Request,
        path: &[u8],
        more: &[u8],
        then: impl FnOnce(&Reply, &[u8]) -> Result<T>,
    ) -> Result<T> {
        if path.len() as u64 > PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if (path.len() + more.len()) as u64 > DATA_LEN {
            return Err(Errno::EINVAL);
        }
        request.path_len = path.len() as u32;
        if !more.is_empty() {
            request.len = more.len() as u32;
        }
        let memory = self.memory.lock();
        let at = |offset: u64| memory.wrapping_add(offset as usize);
        // SAFETY: request, path and reply lie within the window (its layout's constants), which is ours under the lock.
        let reply = unsafe {
            core::ptr::copy_nonoverlapping(path.as_ptr(), at(DATA), path.len());
            core::ptr::copy_nonoverlapping(more.as_ptr(), at(DATA + path.len() as u64), more.len());
            core::ptr::copy_nonoverlapping(request.as_bytes().as_ptr(), at(0), size_of::<Request>());
            let status = (self.call)();
            if status < 0 {
                return Err(Errno::EIO);
            }
            core::ptr::read_unaligned(at(REPLY).cast::<[u8; size_of::<Reply>()]>())
        };
        let reply = Reply::read_from_bytes(&reply).map_err(|_| Errno::EIO)?;
        if reply.status != 0 {
            let errno = reply.status.checked_neg().filter(|errno| (1..4096).contains(errno)).ok_or(Errno::EIO)?;
            return Err(Errno(errno));
        }
        if u64::from(reply.len) > DATA_LEN {
            return Err(Errno::EIO);
        }
        // SAFETY: within the window, by the check; plain bytes, which `then` does not trust to stay the same.
        let data = unsafe { core::slice::from_raw_parts(at(DATA), reply.len as usize) };
        then(&reply, data)
    }
}

/// Takes a copied listing with attributes apart; EIO when it does not add up.
pub(super) fn parse_listing(mut data: &[u8], mut emit: impl FnMut(Box<[u8]>, Attributes)) -> Result<()> {
    while !data.is_empty() {
        let (entry, rest) = DirEntry::read_from_prefix(data).map_err(|_| Errno::EIO)?;
        let (attributes, rest) = Attributes::read_from_prefix(rest).map_err(|_| Errno::EIO)?;
        let len = entry.name_len as usize;
        let name = rest.get(..len).ok_or(Errno::EIO)?;
        let sound = (1..=crate::fs::walk::NAME_MAX).contains(&len)
            && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
            && !matches!(name, b"." | b"..");
        if sound {
            emit(Box::from(name), attributes);
        }
        let padded = (size_of::<DirEntry>() + size_of::<Attributes>() + len).next_multiple_of(8);
        data = data.get(padded..).unwrap_or_default();
    }
    Ok(())
}
