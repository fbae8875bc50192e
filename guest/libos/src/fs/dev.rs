//! `/dev`.
use super::entry::Entry;
use super::mount::{FsType, Mount};
use super::node::{Content, DeviceOpener, Node, fresh_inode};
use super::setup::{add, add_directory, mount_node};
use super::stat::Kind;
use super::{devices, special};
use crate::errno::Result;
use crate::sync::Once;
use alloc::boxed::Box;
use alloc::sync::Arc;

/// The directory `/dev`, for drivers that come later.
static DEV: Once<Arc<Entry>> = Once::new();

/// Links that programs expect.
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
];

/// Fills the directory that is mounted at `/dev`.
pub fn fill(dev: &Arc<Entry>) -> Result<()> {
    let mount = &dev.node.mount;
    for (name, number) in special::register() {
        add_device(dev, name, number, 0o666, None)?;
    }
    for (name, target) in LINKS {
        let content = Content::Symlink(Box::from(target.as_bytes()));
        add(dev, name, Node::system(mount, content, Kind::Symlink, 0o777, fresh_inode()))?;
    }
    add_directory(dev, "kasoku", 0o755)?;
    mount_node(dev, "shm", empty(FsType::Tmpfs, "shm", 0o1777))?;
    mount_node(dev, "pts", terminals())?;
    DEV.call_once(|| dev.clone());
    Ok(())
}

/// The root of `/dev/pts`.
fn terminals() -> Arc<Node> {
    let content = Content::Directory(super::directory::Directory::generated(Arc::new(crate::ipc::pty::Terminals)));
    Node::system(crate::ipc::pty::mount(), content, Kind::Directory, 0o755, fresh_inode())
}

/// The root of an empty mount.
pub(super) fn empty(fs_type: FsType, source: &str, mode: u32) -> Arc<Node> {
    let mount = Mount::new(fs_type, false, source);
    let content = Content::Directory(super::directory::Directory::empty());
    Node::system(&mount, content, Kind::Directory, mode, fresh_inode())
}

fn add_device(
    directory: &Arc<Entry>,
    name: &str,
    number: u64,
    mode: u32,
    opener: Option<DeviceOpener>,
) -> Result<Arc<Entry>> {
    let content = Content::Device(number, opener);
    add(directory, name, Node::system(&directory.node.mount, content, Kind::CharDevice, mode, fresh_inode()))
}

/// Adds the character device `/dev/PATH`; `opener` answers for it, and for other nodes of that number.
pub fn register(path: &str, number: u64, mode: u32, opener: DeviceOpener) -> Result<()> {
    devices::register(number, opener);
    let mut directory = DEV.get().ok_or(crate::errno::Errno::ENODEV)?.clone();
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            add_device(&directory, part, number, mode, None)?;
        } else {
            directory = match directory.node.directory()?.find(&directory, part.as_bytes())? {
                Some(found) => found,
                None => add_directory(&directory, part, 0o755)?,
            };
        }
    }
    Ok(())
}
