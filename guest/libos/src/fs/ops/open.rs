//! `open`.
use super::super::access::{Caller, Want};
use super::super::data::Data;
use super::super::entry::Entry;
use super::super::file::{File, OpenFile};
use super::super::mount::FsType;
use super::super::node::{Content, Node};
use super::super::notify;
use super::super::opened::TreeFile;
use super::super::stat::Kind;
use super::super::walk::{Last, Walk};
use super::super::{devices, entry};
use super::make::node_in;
use super::{attributes, check_alive, check_changeable, touch_directory};
use crate::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use linux_raw_sys::general::{
    __O_TMPFILE, F_SEAL_SEAL, IN_OPEN, O_ACCMODE, O_CREAT, O_DIRECTORY, O_EXCL, O_NOATIME, O_NOFOLLOW, O_PATH,
    O_RDONLY, O_TRUNC, O_WRONLY,
};

/// How to open; `mode` has the umask applied.
#[derive(Clone, Copy, Debug)]
pub struct How {
    pub flags: u32,
    pub mode: u32,
}

/// Whether the flags make sense together, which Linux says before it looks at the path.
pub fn check_flags(flags: u32) -> Result<()> {
    let tmpfile = flags & __O_TMPFILE != 0;
    let writes = flags & O_ACCMODE != O_RDONLY;
    let refused = flags & O_PATH == 0
        && (tmpfile && (flags & O_DIRECTORY == 0 || flags & O_CREAT != 0 || !writes)
            || flags & O_CREAT != 0 && flags & O_DIRECTORY != 0);
    if refused { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Opens `path` from `start`; the flags have been checked.
pub fn open(walk: &mut Walk<'_>, start: &Arc<Entry>, path: &[u8], how: How) -> Result<Arc<OpenFile>> {
    if how.flags & O_PATH != 0 {
        return open_path(walk, start, path, how.flags);
    }
    if how.flags & __O_TMPFILE != 0 {
        return open_nameless(walk, start, path, how);
    }
    if how.flags & O_CREAT != 0 {
        return open_or_create(walk, start, path, how);
    }
    let entry = walk.find(start, path, how.flags & O_NOFOLLOW == 0)?;
    open_entry(&entry, how.flags, walk.caller)
}

/// O_PATH: a handle on the entry, nothing is opened.
fn open_path(walk: &mut Walk<'_>, start: &Arc<Entry>, path: &[u8], flags: u32) -> Result<Arc<OpenFile>> {
    let entry = walk.find(start, path, flags & O_NOFOLLOW == 0)?;
    if flags & O_DIRECTORY != 0 && entry.node.kind != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    let file: Arc<dyn File> = Arc::new(TreeFile::new(entry));
    Ok(OpenFile::new(file, flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW)))
}

/// O_TMPFILE.
fn open_nameless(walk: &mut Walk<'_>, start: &Arc<Entry>, path: &[u8], how: How) -> Result<Arc<OpenFile>> {
    let directory = walk.find(start, path, how.flags & O_NOFOLLOW == 0)?;
    if directory.node.kind != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    directory.node.check_writable_mount()?;
    walk.caller.check_create(&directory.node)?;
    if check_changeable(&directory.node).is_err() {
        return Err(Errno::EOPNOTSUPP);
    }
    if let Some(live) = &directory.node.mount.live {
        let for_ever = how.flags & O_EXCL != 0;
        let (node, handle) = live.create_nameless(&directory.node.mount, &directory, how.mode, for_ever)?;
        let entry = entry::Entry::nameless(node.clone(), &label_in(&directory, &node));
        return Ok(OpenFile::new(Arc::new(TreeFile::live(entry, walk.caller, handle)), how.flags));
    }
    let content = Content::Regular(Data::empty(F_SEAL_SEAL));
    let node = node_in(&directory.node, content, Kind::Regular, how.mode & 0o7777, walk.caller)?;
    {
        let mut meta = node.meta();
        meta.links = 0;
        meta.linkable = how.flags & O_EXCL == 0;
    }
    let label = label_in(&directory, &node);
    let entry = entry::Entry::nameless(node, &label);
    Ok(OpenFile::new(Arc::new(TreeFile::new(entry)), how.flags))
}

/// What `/proc/self/fd` shows of a file without a name.
fn label_in(directory: &Arc<Entry>, node: &Node) -> Vec<u8> {
    let (mut label, _) = directory.path_from(&top_of(directory));
    label.remove(0);
    [&label[..], if label.is_empty() { b"#" } else { b"/#" }, alloc::format!("{}", node.inode).as_bytes()].concat()
}

fn top_of(entry: &Arc<Entry>) -> Arc<Entry> {
    let mut top = entry.clone();
    while let Some(parent) = top.parent() {
        top = parent;
    }
    top
}

/// O_CREAT.
fn open_or_create(walk: &mut Walk<'_>, start: &Arc<Entry>, path: &[u8], how: How) -> Result<Arc<OpenFile>> {
    let exclusive = how.flags & O_EXCL != 0;
    let mut start = start.clone();
    let mut path = alloc::borrow::Cow::Borrowed(path);
    loop {
        let parent = walk.parent(&start, &path)?;
        let Last::Name(name) = parent.last else {
            return Err(if exclusive { Errno::EEXIST } else { Errno::EISDIR });
        };
        if parent.slash {
            return Err(Errno::EISDIR);
        }
        let directory = &parent.directory;
        let Some(found) = walk.child(directory, name)? else {
            return match create(walk, directory, name, how) {
                Err(Errno::EEXIST) if !exclusive => continue,
                other => other,
            };
        };
        if exclusive {
            return Err(Errno::EEXIST);
        }
        let follow = found.node.kind == Kind::Symlink && how.flags & O_NOFOLLOW == 0;
        match &found.node.content {
            // The link's target is what is opened, or made.
            Content::Symlink(target) if follow => {
                walk.count_link()?;
                let (directory, target) = (directory.clone(), target.to_vec());
                start = directory;
                path = alloc::borrow::Cow::Owned(target);
            }
            _ if follow => {
                let target = walk.follow(directory, &found)?;
                return open_existing(&target, how, walk.caller);
            }
            _ => return open_existing(&found, how, walk.caller),
        }
    }
}

fn open_existing(entry: &Arc<Entry>, how: How, caller: &Caller) -> Result<Arc<OpenFile>> {
    if entry.node.kind == Kind::Directory {
        return Err(Errno::EISDIR);
    }
    open_entry(entry, how.flags, caller)
}

fn create(walk: &Walk<'_>, directory: &Arc<Entry>, name: &[u8], how: How) -> Result<Arc<OpenFile>> {
    directory.node.check_writable_mount()?;
    if matches!(directory.node.mount.fs_type, FsType::Proc | FsType::Sysfs) {
        return Err(if directory.node.mount.fs_type == FsType::Proc { Errno::ENOENT } else { Errno::EACCES });
    }
    check_alive(directory)?;
    walk.caller.check_create(&directory.node)?;
    if let Some(live) = &directory.node.mount.live {
        let handle = live.create(directory, name, how.mode)?;
        let entry = walk.child(directory, name)?.ok_or(Errno::ENOENT)?;
        notify::created(&entry);
        notify::happened(&entry, IN_OPEN);
        return Ok(OpenFile::new(Arc::new(TreeFile::live(entry, walk.caller, handle)), how.flags));
    }
    let content = Content::Regular(Data::empty(F_SEAL_SEAL));
    let node = node_in(&directory.node, content, Kind::Regular, how.mode & 0o7777, walk.caller)?;
    let entry = directory.node.directory()?.insert(directory, name, node)?;
    touch_directory(&directory.node, 0);
    notify::created(&entry);
    notify::happened(&entry, IN_OPEN);
    // Whoever makes a file may open it as asked, whatever its mode says.
    Ok(OpenFile::new(Arc::new(TreeFile::opened_by(entry, walk.caller)), how.flags))
}

/// Opens what an entry names, with the checks that follow the walk.
pub fn open_entry(entry: &Arc<Entry>, flags: u32, caller: &Caller) -> Result<Arc<OpenFile>> {
    let node = &entry.node;
    if flags & O_DIRECTORY != 0 && node.kind != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    let access = flags & O_ACCMODE;
    let mut want = match access {
        O_RDONLY => Want::READ,
        O_WRONLY => Want::WRITE,
        _ => Want::READ | Want::WRITE,
    };
    if flags & O_TRUNC != 0 {
        want |= Want::WRITE;
    }
    match node.kind {
        Kind::Symlink => return Err(Errno::ELOOP),
        Kind::Directory if want.contains(Want::WRITE) => return Err(Errno::EISDIR),
        Kind::Regular | Kind::Directory if want.contains(Want::WRITE) => node.check_writable_mount()?,
        _ => {}
    }
    caller.check(node, want)?;
    if flags & O_NOATIME != 0 {
        caller.must_own(&node.meta())?;
    }
    // A file of the host behind a standard stream (`>/dev/stderr`) goes on where it is: it was truncated there, if at all.
    if flags & O_TRUNC != 0 && node.kind == Kind::Regular && !matches!(node.content, Content::Opened(_)) {
        attributes::truncate(entry, 0, caller)?;
    }
    let file = match &node.content {
        Content::Opened(open) => return open.file().reopen(flags),
        Content::Device(number, opener) => devices::open(entry, *number, opener.as_ref(), flags)?,
        Content::Slot(_) if node.kind == Kind::Fifo => devices::open_fifo(entry, flags)?,
        Content::Slot(_) => return Err(Errno::ENXIO),
        Content::Live(_) => {
            let live = node.mount.live.as_ref().ok_or(Errno::EIO)?;
            let handle = live.open(entry, want.contains(Want::WRITE))?;
            Arc::new(TreeFile::live(entry.clone(), caller, handle))
        }
        _ => tree_file(entry, caller)?,
    };
    notify::happened(entry, IN_OPEN);
    Ok(OpenFile::new(file, flags))
}

fn tree_file(entry: &Arc<Entry>, caller: &Caller) -> Result<Arc<dyn File>> {
    Ok(Arc::new(match &entry.node.content {
        Content::Pseudo(pseudo) => TreeFile::with_text(entry.clone(), pseudo.read()?),
        _ => TreeFile::opened_by(entry.clone(), caller),
    }))
}

/// A nameless file in memory on the given mount (`memfd_create`).
pub fn nameless(node: Arc<Node>, label: &[u8], flags: u32) -> Arc<OpenFile> {
    OpenFile::new(Arc::new(TreeFile::new(Entry::nameless(node, label))), flags)
}
