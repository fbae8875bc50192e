//! Open files: what every kind of file can do, and the open file description that `open` makes and `dup` shares.
//!
//! A [`File`] never blocks: it answers EAGAIN, and the system call waits on the file's queue and tries again (unless
//! O_NONBLOCK is set). It never holds a lock while it copies to or from a program's memory: the copy may fault, and the
//! fault may need that very file's pages.
use super::locks::{Locks, Owner};
use super::opened::TreeFile;
use super::stat::Stat;
use crate::errno::{Errno, Result};
use crate::mm::source::MapSource;
use crate::sched::wait::WaitQueue;
use crate::sync::{Mutex, Once};
use crate::user::{Reader, Writer};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general::{
    F_GETPIPE_SZ, F_SETPIPE_SZ, O_ACCMODE, O_APPEND, O_CLOEXEC, O_CREAT, O_DIRECT, O_EXCL, O_NOATIME, O_NOCTTY,
    O_NONBLOCK, O_PATH, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE, SEEK_SET,
};

bitflags::bitflags! {
    /// Readiness as `poll` and `epoll` name it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct PollEvents: u32 {
        const IN = 0x1;
        const PRI = 0x2;
        const OUT = 0x4;
        const ERR = 0x8;
        const HUP = 0x10;
        const NVAL = 0x20;
        const RDNORM = 0x40;
        const RDBAND = 0x80;
        const WRNORM = 0x100;
        const WRBAND = 0x200;
        const RDHUP = 0x2000;
    }
}

impl PollEvents {
    /// A file that never makes anybody wait.
    pub const ALWAYS: PollEvents = Self::IN.union(Self::OUT).union(Self::RDNORM).union(Self::WRNORM);
}

/// One entry of a directory listing.
#[derive(Clone, Copy, Debug)]
pub struct DirEntry<'a> {
    pub inode: u64,
    /// `DT_*`.
    pub kind: u8,
    pub name: &'a [u8],
    /// Where the listing goes on after this entry (`d_off`).
    pub next: u64,
}

/// What stands behind a descriptor. Every method has the answer of a file that cannot do it.
pub trait File: Send + Sync + Any {
    /// Bytes from `offset` (meaningless where not [`Self::seekable`]) to the program. 0 = end of file.
    fn read(&self, open: &OpenFile, offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        let _ = (open, offset, to);
        Err(Errno::EINVAL)
    }

    /// Bytes from the program to `offset`.
    fn write(&self, open: &OpenFile, offset: u64, from: &mut Reader<'_>) -> Result<usize> {
        let _ = (open, offset, from);
        Err(Errno::EINVAL)
    }

    /// As [`Self::write`], at the end of the file (O_APPEND); also gives the offset after the last byte written.
    fn append(&self, open: &OpenFile, from: &mut Reader<'_>) -> Result<(usize, u64)> {
        let end = self.stat()?.size;
        self.write(open, end, from).map(|n| (n, end + n as u64))
    }

    /// Whether `lseek`, `pread` and `pwrite` mean something, and `read` and `write` move an offset.
    fn seekable(&self) -> bool {
        false
    }

    /// Whether `lseek` succeeds and does nothing, as it does for event files.
    fn ignores_seek(&self) -> bool {
        false
    }

    /// The new offset for `lseek`, given the current one.
    fn seek(&self, current: u64, offset: i64, whence: u32) -> Result<u64> {
        match self.seekable() {
            false if self.ignores_seek() => return Ok(current),
            false => return Err(Errno::ESPIPE),
            true => {}
        }
        let size = || self.stat().map(|stat| stat.size);
        let base = match whence {
            SEEK_SET => 0,
            SEEK_CUR => current,
            SEEK_END => size()?,
            SEEK_DATA | SEEK_HOLE => {
                let size = size()?;
                let inside = u64::try_from(offset).is_ok_and(|at| at < size);
                return match inside {
                    false => Err(Errno::ENXIO),
                    true if whence == SEEK_DATA => Ok(offset as u64),
                    true => Ok(size),
                };
            }
            _ => return Err(Errno::EINVAL),
        };
        let target = (base as i64).checked_add(offset).ok_or(Errno::EOVERFLOW)?;
        u64::try_from(target).map_err(|_| Errno::EINVAL)
    }

    /// What is ready now. A change of it wakes [`Self::queue`].
    fn poll(&self) -> PollEvents {
        PollEvents::ALWAYS
    }

    /// Where to wait for a change of readiness; `None` where it never changes (such a file cannot be put into an epoll).
    fn queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// Where to wait until a write makes sense, when that is another queue than for reads.
    fn write_queue(&self) -> Option<&WaitQueue> {
        self.queue()
    }

    /// Longest wait of a read or a write that blocks, ns; `None`: for ever (all but sockets with SO_RCVTIMEO, SO_SNDTIMEO).
    fn wait_limit_ns(&self, for_write: bool) -> Option<u64> {
        let _ = for_write;
        None
    }

    fn stat(&self) -> Result<Stat>;

    /// `ioctl`, as far as it is not answered for every file alike (FIOCLEX, FIONCLEX, FIONBIO, FIOASYNC).
    fn ioctl(&self, open: &OpenFile, request: u32, argument: u64) -> Result<usize> {
        let _ = (open, request, argument);
        Err(Errno::ENOTTY)
    }

    /// The `fcntl` commands that only some files know (pipe sizes, seals).
    fn fcntl(&self, open: &OpenFile, command: u32, argument: u64) -> Result<usize> {
        let _ = (open, argument);
        Err(if matches!(command, F_SETPIPE_SZ | F_GETPIPE_SZ) { Errno::EBADF } else { Errno::EINVAL })
    }

    /// What `mmap` of the file, open for writing or not, takes its pages from.
    fn map_source(&self, writable: bool) -> Result<Arc<dyn MapSource>> {
        let _ = writable;
        Err(Errno::ENODEV)
    }

    /// `ftruncate`.
    fn truncate(&self, len: u64) -> Result<()> {
        let _ = len;
        Err(Errno::EINVAL)
    }

    /// `fchmod` of what is no file of the tree.
    fn set_mode(&self, mode: u32) -> Result<()> {
        let _ = mode;
        Err(Errno::EOPNOTSUPP)
    }

    /// `fsync` and `fdatasync`.
    fn sync(&self) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// Directory entries from `position` on, until `emit` says false (the entry it refused is not consumed). Gives the
    /// position for the next call.
    fn read_dir(&self, position: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<u64> {
        let _ = (position, emit);
        Err(Errno::ENOTDIR)
    }

    /// A descriptor that leads here was closed; `owner` is the descriptor table it was in (POSIX locks end then). The last
    /// reference's end is the value's `Drop`.
    fn flush(&self, owner: u64) {
        let _ = owner;
    }

    /// The last descriptor and the last user of the open file are gone (`flock` and OFD locks end).
    fn release(&self, open: &OpenFile) {
        let _ = open;
    }

    /// Opens the same thing once more through `/proc/self/fd/N`.
    fn reopen(&self, flags: u32) -> Result<Arc<OpenFile>> {
        let _ = flags;
        Err(Errno::ENXIO)
    }

    /// The path that `/proc/self/fd/N` shows, e.g. `/etc/passwd`, `pipe:[17]`.
    fn path(&self) -> Vec<u8>;
}

impl dyn File {
    /// The file as the type it was made as.
    pub fn downcast<T: File>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// Status flags that `F_SETFL` may change.
const SETTABLE: u32 = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | linux_raw_sys::general::FASYNC;

/// An open file description: what `open` makes, and what descriptors made by `dup` and `fork` share.
pub struct OpenFile {
    file: Arc<dyn File>,
    offset: Mutex<u64>,
    /// Access mode and status flags, as F_GETFL gives them.
    flags: AtomicU32,
    /// `F_SETOWN`.
    owner: AtomicU32,
    /// Woken when the last reference goes: epoll entries for this description end then.
    released: WaitQueue,
    /// Locks on a file outside the tree, which no other open file shares.
    locks: Once<Box<Locks>>,
}

impl OpenFile {
    /// `flags`: those of `open`; flags that only matter while opening are dropped.
    pub fn new(file: Arc<dyn File>, flags: u32) -> Arc<OpenFile> {
        let kept = flags & !(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC);
        Arc::new(OpenFile {
            file,
            offset: Mutex::new(0),
            flags: AtomicU32::new(kept),
            owner: AtomicU32::new(0),
            released: WaitQueue::new(),
            locks: Once::new(),
        })
    }

    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Locks taken on the file.
    pub fn locks(&self) -> &Locks {
        match self.file.downcast::<TreeFile>() {
            Some(file) => file.entry().node.locks(),
            None => self.locks.call_once(Box::default),
        }
    }

    /// As [`Self::locks`], without making room for them where there are none.
    pub fn locks_if_any(&self) -> Option<&Locks> {
        match self.file.downcast::<TreeFile>() {
            Some(file) => file.entry().node.locks_if_any(),
            None => self.locks.get().map(|locks| &**locks),
        }
    }

    /// A descriptor of the table `owner` that led here was closed.
    pub fn flush(&self, owner: u64) {
        self.file.flush(owner);
        if let Some(locks) = self.locks_if_any() {
            locks.release(Owner::Table(owner));
        }
    }

    /// Woken when the last reference to the description goes.
    pub fn released(&self) -> &WaitQueue {
        &self.released
    }

    /// Access mode and status flags.
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// F_SETFL: changes the status flags and leaves the access mode alone.
    pub fn set_flags(&self, flags: u32) {
        let kept = self.flags() & !SETTABLE;
        self.flags.store(kept | flags & SETTABLE, Ordering::Relaxed);
    }

    /// FIONBIO.
    pub fn set_nonblocking(&self, on: bool) {
        let flags = self.flags();
        self.set_flags(if on { flags | O_NONBLOCK } else { flags & !O_NONBLOCK });
    }

    pub fn nonblocking(&self) -> bool {
        self.flags() & O_NONBLOCK != 0
    }

    pub fn is_path_only(&self) -> bool {
        self.flags() & O_PATH != 0
    }

    pub fn readable(&self) -> bool {
        matches!(self.flags() & O_ACCMODE, O_RDONLY | O_RDWR) && !self.is_path_only()
    }

    pub fn writable(&self) -> bool {
        matches!(self.flags() & O_ACCMODE, O_WRONLY | O_RDWR) && !self.is_path_only()
    }

    /// Tells this open file from all others while it lives (locks are held by it).
    pub fn id(&self) -> u64 {
        core::ptr::from_ref(self) as u64
    }

    /// `F_SETOWN` value (a process, or minus a group).
    pub fn owner(&self) -> i32 {
        self.owner.load(Ordering::Relaxed) as i32
    }

    pub fn set_owner(&self, owner: i32) {
        self.owner.store(owner as u32, Ordering::Relaxed);
    }

    /// `read`: at the offset, which moves. EBADF when not open for reading.
    pub fn read(&self, to: &mut Writer<'_>) -> Result<usize> {
        if !self.readable() {
            return Err(Errno::EBADF);
        }
        if !self.file.seekable() {
            return self.file.read(self, 0, to);
        }
        let at = *self.offset.lock();
        let n = self.file.read(self, at, to)?;
        *self.offset.lock() = at + n as u64;
        Ok(n)
    }

    /// `write`: at the offset, which moves, or at the end (O_APPEND). EBADF when not open for writing.
    pub fn write(&self, from: &mut Reader<'_>) -> Result<usize> {
        if !self.writable() {
            return Err(Errno::EBADF);
        }
        if !self.file.seekable() {
            return self.file.write(self, 0, from);
        }
        let (n, end) = if self.flags() & O_APPEND != 0 {
            self.file.append(self, from)?
        } else {
            let at = *self.offset.lock();
            let n = self.file.write(self, at, from)?;
            (n, at + n as u64)
        };
        *self.offset.lock() = end;
        Ok(n)
    }

    /// `pread`. ESPIPE where there is no offset.
    pub fn read_at(&self, offset: u64, to: &mut Writer<'_>) -> Result<usize> {
        match () {
            _ if !self.file.seekable() => Err(Errno::ESPIPE),
            _ if !self.readable() => Err(Errno::EBADF),
            _ => self.file.read(self, offset, to),
        }
    }

    /// `pwrite`. With O_APPEND it appends, as on Linux.
    pub fn write_at(&self, offset: u64, from: &mut Reader<'_>) -> Result<usize> {
        match () {
            _ if !self.file.seekable() => Err(Errno::ESPIPE),
            _ if !self.writable() => Err(Errno::EBADF),
            _ if self.flags() & O_APPEND != 0 => self.file.append(self, from).map(|(n, _)| n),
            _ => self.file.write(self, offset, from),
        }
    }

    /// `lseek`.
    pub fn seek(&self, offset: i64, whence: u32) -> Result<u64> {
        if self.is_path_only() {
            return Err(Errno::EBADF);
        }
        let current = *self.offset.lock();
        let target = self.file.seek(current, offset, whence)?;
        *self.offset.lock() = target;
        Ok(target)
    }

    /// The offset, and a way to set it (`getdents`, `sendfile`).
    pub fn offset(&self) -> u64 {
        *self.offset.lock()
    }

    pub fn set_offset(&self, offset: u64) {
        *self.offset.lock() = offset;
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.released.wake_all();
        self.file.release(self);
    }
}
