//! Nodes: the inodes of the tree.
use super::access::Caller;
use super::data::Data;
use super::directory::Directory;
use super::entry::Entry;
use super::file::{File, OpenFile};
use super::live::LiveFile;
use super::locks::Locks;
use super::lower::Attributes;
use super::mount::Mount;
use super::notify::Watches;
use super::pages::InodeCharge;
use super::stat::{Kind, Stat, Time};
use super::xattr;
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, MutexGuard, Once};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

/// What of a node's metadata may change.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// Permission bits, set-id and sticky bits.
    pub permissions: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    /// Made by O_TMPFILE: may get a name although it has none.
    pub linkable: bool,
    pub accessed: Time,
    pub modified: Time,
    pub changed: Time,
    pub born: Time,
}

impl Meta {
    fn of(of: &Attributes) -> Meta {
        Meta {
            permissions: of.permissions,
            uid: of.uid,
            gid: of.gid,
            links: of.links,
            linkable: false,
            accessed: of.accessed,
            modified: of.modified,
            changed: of.changed,
            born: of.changed,
        }
    }
}

/// What a node holds.
pub enum Content {
    Directory(Directory),
    Regular(Data),
    /// A file of the host that is read and written there.
    Live(LiveFile),
    Symlink(Box<[u8]>),
    /// A device file: its number, and who answers for it where that is not looked up by number.
    Device(u64, Option<DeviceOpener>),
    /// A named pipe, or a socket's name: what `ipc` has hung on it.
    Slot(Slot),
    /// A file whose contents are made when it is opened.
    Pseudo(Arc<dyn Pseudo>),
    /// A link that leads to an object rather than to a path.
    Magic(Arc<dyn Magic>),
    /// Not in the tree: the end of a magic link that leads to an open pipe, socket or the like.
    Opened(Arc<OpenFile>),
}

/// Opens a device: the entry it was found by, and the flags of `open`.
pub type DeviceOpener = Arc<dyn Fn(&Arc<Entry>, u32) -> Result<Arc<dyn File>> + Send + Sync>;

/// A place for the object behind a named pipe or a socket's name.
pub type Slot = Mutex<Option<Arc<dyn Any + Send + Sync>>>;

/// A file of `/proc` or `/sys`.
pub trait Pseudo: Send + Sync {
    /// Its contents now.
    fn read(&self) -> Result<Vec<u8>>;

    /// What a program wrote in one call; by default nobody may.
    fn write(&self, bytes: &[u8]) -> Result<()> {
        let _ = bytes;
        Err(Errno::EACCES)
    }
}

impl<F: Fn() -> Vec<u8> + Send + Sync> Pseudo for F {
    fn read(&self) -> Result<Vec<u8>> {
        Ok(self())
    }
}

/// Where a magic link leads.
pub enum Jump {
    Entry(Arc<Entry>),
    Open(Arc<OpenFile>),
}

/// A link like `/proc/self/exe`.
pub trait Magic: Send + Sync {
    /// The text that `readlink` gives.
    fn text(&self) -> Result<Vec<u8>>;
    /// Where opening it leads.
    fn jump(&self) -> Result<Jump>;
}

/// An inode.
pub struct Node {
    pub inode: u64,
    pub device: u64,
    pub kind: Kind,
    pub mount: Arc<Mount>,
    pub content: Content,
    meta: Mutex<Meta>,
    locks: Once<Box<Locks>>,
    watches: Once<Box<Watches>>,
    xattrs: Once<Box<xattr::Attributes>>,
    /// `None` for what a lower layer or a generator holds.
    _charge: Option<InodeCharge>,
}

static NEXT_INODE: AtomicU64 = AtomicU64::new(1 << 32);

/// An inode number that no other node in memory has.
pub fn fresh_inode() -> u64 {
    NEXT_INODE.fetch_add(1, Ordering::Relaxed)
}

impl Node {
    /// A new node in memory, made now by `caller`. ENOSPC when there are too many.
    pub fn create(
        mount: &Arc<Mount>,
        content: Content,
        kind: Kind,
        permissions: u32,
        caller: &Caller,
    ) -> Result<Arc<Node>> {
        let charge = Some(InodeCharge::new()?);
        Ok(Self::build(mount, content, kind, permissions, (caller.uid, caller.gid), fresh_inode(), charge))
    }

    /// A node of root's that does not count: mount roots, generated files.
    pub fn system(mount: &Arc<Mount>, content: Content, kind: Kind, permissions: u32, inode: u64) -> Arc<Node> {
        Self::build(mount, content, kind, permissions, (0, 0), inode, None)
    }

    fn build(
        mount: &Arc<Mount>,
        content: Content,
        kind: Kind,
        permissions: u32,
        owner: (u32, u32),
        inode: u64,
        charge: Option<InodeCharge>,
    ) -> Arc<Node> {
        let now = super::now();
        Arc::new(Node {
            inode,
            device: mount.device,
            kind,
            mount: mount.clone(),
            content,
            meta: Mutex::new(Meta {
                permissions,
                uid: owner.0,
                gid: owner.1,
                links: if kind == Kind::Directory { 2 } else { 1 },
                linkable: false,
                accessed: now,
                modified: now,
                changed: now,
                born: now,
            }),
            locks: Once::new(),
            watches: Once::new(),
            xattrs: Once::new(),
            _charge: charge,
        })
    }

    /// The node over a lower file.
    pub fn over_lower(mount: &Arc<Mount>, content: Content, of: &Attributes) -> Arc<Node> {
        Arc::new(Node {
            inode: of.inode,
            device: of.device,
            kind: of.kind,
            mount: mount.clone(),
            content,
            meta: Mutex::new(Meta::of(of)),
            locks: Once::new(),
            watches: Once::new(),
            xattrs: Once::new(),
            _charge: None,
        })
    }

    /// Takes over what the host says now of a file that lives there.
    pub fn refresh(&self, of: &Attributes) {
        let mut meta = self.meta();
        *meta = Meta { born: meta.born, ..Meta::of(of) };
        drop(meta);
        if let Content::Live(file) = &self.content {
            file.set(of.size);
        }
    }

    pub fn meta(&self) -> MutexGuard<'_, Meta> {
        self.meta.lock()
    }

    pub fn directory(&self) -> Result<&Directory> {
        match &self.content {
            Content::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub fn data(&self) -> Option<&Data> {
        match &self.content {
            Content::Regular(data) => Some(data),
            _ => None,
        }
    }

    /// Locks taken on the file.
    pub fn locks(&self) -> &Locks {
        self.locks.call_once(Box::default)
    }

    /// As [`Self::locks`], without making room for them where there are none.
    pub fn locks_if_any(&self) -> Option<&Locks> {
        self.locks.get().map(|locks| &**locks)
    }

    /// Those who want to know what happens to it.
    pub fn watches(&self) -> &Watches {
        self.watches.call_once(Box::default)
    }

    pub fn watches_if_any(&self) -> Option<&Watches> {
        self.watches.get().map(|watches| &**watches)
    }

    /// Extended attributes.
    pub fn xattrs(&self) -> &xattr::Attributes {
        self.xattrs.call_once(Box::default)
    }

    pub fn xattrs_if_any(&self) -> Option<&xattr::Attributes> {
        self.xattrs.get().map(|xattrs| &**xattrs)
    }

    pub fn stat(&self) -> Result<Stat> {
        if let Content::Opened(open) = &self.content {
            return open.file().stat();
        }
        let (size, blocks, rdev) = match &self.content {
            Content::Regular(data) => {
                let usage = data.usage();
                (usage.size, usage.blocks, 0)
            }
            Content::Live(file) => (file.size(), file.blocks(), 0),
            Content::Directory(directory) => (directory.size(), 0, 0),
            Content::Symlink(target) => (target.len() as u64, 0, 0),
            Content::Device(rdev, _) => (0, 0, *rdev),
            _ => (0, 0, 0),
        };
        let meta = *self.meta();
        Ok(Stat {
            device: self.device,
            inode: self.inode,
            kind: self.kind,
            permissions: meta.permissions,
            links: meta.links,
            uid: meta.uid,
            gid: meta.gid,
            rdev,
            size,
            block_size: 4096,
            blocks,
            accessed: meta.accessed,
            modified: meta.modified,
            changed: meta.changed,
            born: meta.born,
        })
    }

    /// EROFS where the mount may not be written.
    pub fn check_writable_mount(&self) -> Result<()> {
        if self.mount.read_only { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// The contents changed.
    pub fn touch_modified(&self) {
        let now = super::now();
        let mut meta = self.meta();
        meta.modified = now;
        meta.changed = now;
    }

    /// The metadata changed.
    pub fn touch_changed(&self) {
        self.meta().changed = super::now();
    }

    /// The contents were read: moves the access time where the mount keeps it, by the rule "relatime".
    pub fn touch_accessed(&self) {
        const DAY: i64 = 24 * 3600;
        if !self.mount.fs_type.keeps_access_times() || self.mount.read_only {
            return;
        }
        let now = super::now();
        let mut meta = self.meta();
        if meta.accessed <= meta.modified || meta.accessed <= meta.changed || now.sec - meta.accessed.sec >= DAY {
            meta.accessed = now;
        }
    }

    /// What a write by somebody else than root takes away: set-id bits.
    pub fn drop_privileges(&self, caller_is_root: bool) {
        if caller_is_root {
            return;
        }
        let mut meta = self.meta();
        meta.permissions &= !0o4000;
        if meta.permissions & 0o010 != 0 {
            meta.permissions &= !0o2000;
        }
    }
}
