//! Open files of the tree: regular files, directories, generated files, and handles made with O_PATH.
use super::access::{Caller, check_size};
use super::entry::Entry;
use super::file::{DirEntry, File, OpenFile};
use super::live::{self, Handle, View};
use super::locks::Owner;
use super::node::Content;
use super::notify;
use super::stat::{Kind, Stat};
use super::views;
use crate::errno::{Errno, Result};
use crate::mm::source::{MapSource, Page};
use crate::user::{Reader, Writer};
use alloc::sync::Arc;
use alloc::vec::Vec;
use kasoku_abi::Gpa;
use kasoku_abi::layout::PAGE;
use linux_raw_sys::general::{
    F_ADD_SEALS, F_GET_SEALS, F_GETPIPE_SZ, F_SETPIPE_SZ, IN_ACCESS, IN_CLOSE_NOWRITE, IN_CLOSE_WRITE, IN_MODIFY,
    O_NOATIME, SEEK_DATA, SEEK_HOLE,
};
use linux_raw_sys::ioctl::FIONREAD;

/// F_SEAL_* that exist.
const ALL_SEALS: u64 = 0x3f;

/// An entry that was opened.
pub struct TreeFile {
    entry: Arc<Entry>,
    /// What a generated file said when it was opened.
    text: Option<Vec<u8>>,
    /// Opened by somebody else than root: writes take set-id bits away.
    drops_privileges: bool,
    /// A file of the host, open there.
    live: Option<Arc<Handle>>,
}

impl TreeFile {
    pub fn new(entry: Arc<Entry>) -> TreeFile {
        TreeFile { entry, text: None, drops_privileges: false, live: None }
    }

    /// As opened by `caller`.
    pub fn opened_by(entry: Arc<Entry>, caller: &Caller) -> TreeFile {
        TreeFile { drops_privileges: !caller.is_root(), ..TreeFile::new(entry) }
    }

    pub fn with_text(entry: Arc<Entry>, text: Vec<u8>) -> TreeFile {
        TreeFile { text: Some(text), ..TreeFile::new(entry) }
    }

    /// A file of the host that `caller` opened there.
    pub fn live(entry: Arc<Entry>, caller: &Caller, handle: Arc<Handle>) -> TreeFile {
        TreeFile { live: Some(handle), ..Self::opened_by(entry, caller) }
    }

    /// Where the file ends now.
    fn end(&self) -> Result<u64> {
        match &self.live {
            Some(_) => self.stat().map(|stat| stat.size),
            None => Ok(self.entry.node.data().map_or(0, |data| data.size())),
        }
    }

    fn write_live(&self, handle: &Handle, offset: Option<u64>, from: &mut Reader<'_>) -> Result<(usize, u64)> {
        let at = match offset {
            Some(at) => at,
            None => self.end()?,
        };
        from.limit(check_size(at, from.remaining())?);
        self.settle(at, from.remaining())?;
        let (n, attributes) = handle.write(offset, from, |of, at, bytes| {
            // Whoever maps it while the bytes are on their way sees them, too.
            if let Some(view) = self.view() {
                view.resize(of.size);
                view.put(at.unwrap_or(of.size.saturating_sub(bytes.len() as u64)), bytes);
            }
        })?;
        let Some(attributes) = attributes else { return Ok((0, at)) };
        self.entry.node.refresh(&attributes);
        notify::happened(&self.entry, IN_MODIFY);
        Ok((n, attributes.size))
    }

    /// What mappings show of the host's file, where it is mapped.
    fn view(&self) -> Option<Arc<View>> {
        match &self.entry.node.content {
            Content::Live(file) => file.view(),
            _ => None,
        }
    }

    /// What mappings have written to these bytes of the host's file reaches it before a system call reads or writes them.
    fn settle(&self, offset: u64, len: usize) -> Result<()> {
        let end = offset.saturating_add(len as u64).div_ceil(PAGE);
        self.view().map_or(Ok(()), |view| view.write_back(offset / PAGE..end))
    }

    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// `SEEK_SET` and the like on contents of a known size.
    fn seek_data(&self, offset: i64, data: bool) -> Option<Result<u64>> {
        let bytes = self.entry.node.data()?;
        Some(u64::try_from(offset).map_err(|_| Errno::ENXIO).and_then(|at| bytes.seek(at, data)))
    }
}

impl File for TreeFile {
    fn read(&self, open: &OpenFile, offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        let node = &self.entry.node;
        if let Some(text) = &self.text {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
            return to.write(&text[from..]);
        }
        if let Some(handle) = &self.live {
            self.settle(offset, to.remaining())?;
            let n = handle.read(offset, to)?;
            if n > 0 {
                notify::happened(&self.entry, IN_ACCESS);
            }
            return Ok(n);
        }
        match &node.content {
            Content::Regular(data) => {
                let n = data.read(offset, to)?;
                if open.flags() & O_NOATIME == 0 {
                    node.touch_accessed();
                }
                if n > 0 {
                    notify::happened(&self.entry, IN_ACCESS);
                }
                Ok(n)
            }
            Content::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    fn write(&self, _open: &OpenFile, offset: u64, from: &mut Reader<'_>) -> Result<usize> {
        if let Some(handle) = &self.live {
            return self.write_live(handle, Some(offset), from).map(|(n, _)| n);
        }
        let node = &self.entry.node;
        match &node.content {
            Content::Regular(data) => {
                from.limit(check_size(offset, from.remaining())?);
                let n = data.write(offset, from)?;
                views::follow(data);
                if n > 0 {
                    node.drop_privileges(!self.drops_privileges);
                    node.touch_modified();
                    notify::happened(&self.entry, IN_MODIFY);
                }
                Ok(n)
            }
            Content::Pseudo(pseudo) => {
                const LONGEST: usize = 4096;
                let mut bytes = alloc::vec![0; from.remaining().min(LONGEST)];
                let n = from.read(&mut bytes)?;
                pseudo.write(&bytes[..n])?;
                Ok(n)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn append(&self, open: &OpenFile, from: &mut Reader<'_>) -> Result<(usize, u64)> {
        if let Some(handle) = &self.live {
            return self.write_live(handle, None, from);
        }
        let end = self.end()?;
        self.write(open, end, from).map(|n| (n, end + n as u64))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, current: u64, offset: i64, whence: u32) -> Result<u64> {
        if matches!(whence, SEEK_DATA | SEEK_HOLE)
            && let Some(result) = self.seek_data(offset, whence == SEEK_DATA)
        {
            return result;
        }
        if matches!(whence, SEEK_DATA | SEEK_HOLE) && self.live.is_some() {
            // What holes the host's file has is the host's business: all of it is data.
            let end = self.end()?;
            return match u64::try_from(offset).ok().filter(|at| *at < end) {
                None => Err(Errno::ENXIO),
                Some(at) => Ok(if whence == SEEK_DATA { at } else { end }),
            };
        }
        let base = match whence {
            linux_raw_sys::general::SEEK_SET => 0,
            linux_raw_sys::general::SEEK_CUR => current,
            linux_raw_sys::general::SEEK_END if self.entry.node.kind != Kind::Directory => self.end()?,
            _ => return Err(Errno::EINVAL),
        };
        let target = (base as i64).checked_add(offset).ok_or(Errno::EOVERFLOW)?;
        u64::try_from(target).map_err(|_| Errno::EINVAL)
    }

    fn stat(&self) -> Result<Stat> {
        match (&self.live, &self.entry.node.mount.live) {
            (Some(handle), _) => self.entry.node.refresh(&handle.attributes()?),
            (None, Some(live)) => live.refresh(&self.entry)?,
            _ => {}
        }
        self.entry.node.stat()
    }

    fn ioctl(&self, open: &OpenFile, request: u32, argument: u64) -> Result<usize> {
        match (request, self.entry.node.data()) {
            (FIONREAD, Some(data)) => {
                let left = data.size().saturating_sub(open.offset()).min(i32::MAX as u64);
                crate::user::write(argument, &(left as i32))?;
                Ok(0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn fcntl(&self, open: &OpenFile, command: u32, argument: u64) -> Result<usize> {
        let data = self.entry.node.data();
        match (command, data) {
            (F_SETPIPE_SZ | F_GETPIPE_SZ, _) => Err(Errno::EBADF),
            (F_GET_SEALS, Some(data)) => Ok(data.seals() as usize),
            (F_ADD_SEALS, _) if !open.writable() => Err(Errno::EPERM),
            (F_ADD_SEALS, _) if argument & !ALL_SEALS != 0 => Err(Errno::EINVAL),
            (F_ADD_SEALS, Some(data)) => data.add_seals(argument as u32).map(|()| 0),
            _ => Err(Errno::EINVAL),
        }
    }

    fn map_source(&self, writable: bool) -> Result<Arc<dyn MapSource>> {
        let node = &self.entry.node;
        match (&node.content, &node.mount.live) {
            (Content::Regular(_), _) => Ok(Arc::new(NodeSource { entry: self.entry.clone(), writable })),
            (Content::Live(_), Some(live)) => {
                // A program that is executed was not opened by anybody.
                let handle = self.live.clone().map_or_else(|| live.open(&self.entry, false), Ok)?;
                live::map(node, &handle)
            }
            _ => Err(Errno::ENODEV),
        }
    }

    fn truncate(&self, len: u64) -> Result<()> {
        if let Some(handle) = &self.live {
            super::access::check_length(self.end()?, len)?;
            self.entry.node.refresh(&handle.truncate(len)?);
            if let Some(view) = self.view() {
                view.resize(len);
            }
            notify::happened(&self.entry, IN_MODIFY);
            return Ok(());
        }
        let data = self.entry.node.data().ok_or(Errno::EINVAL)?;
        super::access::check_length(data.size(), len)?;
        views::truncate(data, len)?;
        self.entry.node.drop_privileges(!self.drops_privileges);
        self.entry.node.touch_modified();
        notify::happened(&self.entry, IN_MODIFY);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        match self.entry.node.kind {
            Kind::Regular | Kind::Directory => self.live.as_ref().map_or(Ok(()), |handle| {
                self.view().map_or(Ok(()), |view| view.write_back(0..u64::MAX))?;
                handle.sync()
            }),
            _ => Err(Errno::EINVAL),
        }
    }

    fn read_dir(&self, position: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<u64> {
        let directory = self.entry.node.directory()?;
        if self.entry.is_removed() {
            return Err(Errno::ENOENT);
        }
        self.entry.node.touch_accessed();
        notify::happened(&self.entry, IN_ACCESS);
        directory.list(&self.entry, position, emit)
    }

    fn release(&self, open: &OpenFile) {
        if !open.is_path_only() {
            notify::happened(&self.entry, if open.writable() { IN_CLOSE_WRITE } else { IN_CLOSE_NOWRITE });
        }
        if let Some(locks) = self.entry.node.locks_if_any() {
            locks.unlock_whole(open.id());
            locks.release(Owner::Open(open.id()));
        }
    }

    fn path(&self) -> Vec<u8> {
        self.entry.display_path()
    }
}

/// What a mapping of a regular file keeps: the entry, so that `/proc/self/maps` can name it.
struct NodeSource {
    entry: Arc<Entry>,
    writable: bool,
}

impl MapSource for NodeSource {
    fn page(&self, index: u64, write: bool) -> Result<Page> {
        let page = self.entry.node.data().ok_or(Errno::EIO)?.page(index, write)?;
        if write {
            self.entry.node.touch_modified();
        }
        Ok(page)
    }

    fn file(&self) -> Option<usize> {
        self.entry.node.data().map(views::identity)
    }

    fn follow(&self) {
        if let Some(data) = self.entry.node.data() {
            views::follow(data);
        }
    }

    fn takes_writes(&self) -> bool {
        self.writable
    }

    fn run(&self, index: u64, write: bool) -> Option<(Gpa, u64)> {
        // Layers are read-only: a shared writable mapping takes the file's own pages, one by one.
        if write {
            return None;
        }
        self.entry.node.data()?.run(index)
    }
}
