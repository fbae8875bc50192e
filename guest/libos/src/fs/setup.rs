//! The tree as the first program finds it: the union of layers and host directories, and what is mounted in it.
use super::Caller;
use super::dev;
use super::directory::Directory;
use super::entry::Entry;
use super::erofs::Image;
use super::host::{HostFile, Window};
use super::live::Live;
use super::lower::Lower;
use super::mount::{FsType, Mount};
use super::node::{Content, Node, fresh_inode};
use super::stat::Kind;
use super::union;
use super::walk::{FsContext, Walk};
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, Once};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Default umask of the first program.
const UMASK: u32 = 0o022;

/// A host tree to mount.
pub struct HostMount {
    pub window: Arc<Window>,
    pub root: u32,
    pub path: Vec<u8>,
    pub writable: bool,
}

/// What the tree is made of.
#[derive(Default)]
pub struct Plan {
    /// Layers of the root, bottom first.
    pub layers: Vec<Arc<Image>>,
    /// One at "/" lies below the layers; the others appear at their paths.
    pub host: Vec<HostMount>,
    /// Volumes and their places.
    pub volumes: Vec<(Arc<Image>, Vec<u8>)>,
    pub hostname: String,
}

/// Everything that is mounted, with its path, in order.
static MOUNTS: Mutex<Vec<(Vec<u8>, Arc<Mount>)>> = Mutex::new(Vec::new());

/// All mounts with their paths, for `/proc/mounts`.
pub fn mounts() -> Vec<(Vec<u8>, Arc<Mount>)> {
    MOUNTS.lock().clone()
}

/// The mount that nameless files in memory belong to.
pub fn memory_mount() -> Arc<Mount> {
    static MEMORY: Once<Arc<Mount>> = Once::new();
    MEMORY.call_once(|| Mount::new(FsType::Tmpfs, false, "memfd")).clone()
}

/// Builds the tree. A layer that cannot be read is an error; a host directory that cannot is named on the console and left out.
pub fn build(plan: Plan) -> Result<Arc<Entry>> {
    let mut lowers: Vec<Arc<dyn Lower>> = Vec::new();
    for layer in plan.layers.iter().rev() {
        lowers.push(layer.root()?);
    }
    // Of a host's root these are another machine's business: the guest gets its own.
    let over_host = plan.host.iter().any(|mount| mount.path == b"/");
    let (at_root, elsewhere): (Vec<_>, Vec<_>) = plan.host.into_iter().partition(|mount| mount.path == b"/");
    for mount in at_root {
        match HostFile::root(mount.window, mount.root) {
            Ok(root) => lowers.push(root),
            Err(errno) => crate::console!("kasoku: the host's directories cannot be read: {errno:?}"),
        }
    }
    lowers.push(super::builtin::root(&plan.hostname));
    let root_mount = Mount::new(FsType::Overlay, false, "kasoku");
    let root = Entry::root(union::root(lowers, &root_mount)?);
    MOUNTS.lock().push((b"/".to_vec(), root_mount));

    for (name, source, mode) in [("tmp", FsType::Tmpfs, 0o1777), ("run", FsType::Tmpfs, 0o755)] {
        if over_host || find(&root, name.as_bytes())?.is_none() {
            mount_node(&root, name, dev::empty(source, "tmpfs", mode))?;
        }
    }
    let dev = mount_node(&root, "dev", dev::empty(FsType::DevTmpfs, "devtmpfs", 0o755))?;
    dev::fill(&dev)?;
    super::proc::mount(&root)?;
    super::sys::mount(&root)?;
    for mount in elsewhere {
        let path = String::from_utf8_lossy(&mount.path).into_owned();
        if let Err(errno) = mount_host(&root, mount) {
            crate::console!("kasoku: the host directory for {path} cannot be mounted: {errno:?}");
        }
    }
    for (index, (image, path)) in plan.volumes.into_iter().enumerate() {
        let node = union::root([image.root()?].into(), &Mount::new(FsType::Erofs, true, &format!("volume{index}")))?;
        mount_at(&root, &path, node)?;
    }
    Ok(root)
}

fn mount_host(root: &Arc<Entry>, mount: HostMount) -> Result<()> {
    let source = format!("host{}", mount.root);
    let node = if mount.writable {
        let live = Mount::live(Live::new(mount.window, mount.root), &source);
        live.live.as_ref().ok_or(Errno::EIO)?.top(&live)?
    } else {
        let lower = HostFile::root(mount.window, mount.root)?;
        union::root([lower].into(), &Mount::new(FsType::Virtiofs, true, &source))?
    };
    mount_at(root, &mount.path, node)
}

/// Mounts a node at a path, making the directories that lead there.
fn mount_at(root: &Arc<Entry>, path: &[u8], node: Arc<Node>) -> Result<()> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let split = path.iter().rposition(|byte| *byte == b'/').ok_or(Errno::EINVAL)?;
    let parent = directory_at(root, &path[..split])?;
    let name = core::str::from_utf8(&path[split + 1..]).map_err(|_| Errno::EINVAL)?;
    mount_node(&parent, name, node).map(|_| ())
}

/// The working directory, root and umask of the first program.
pub fn context(root: &Arc<Entry>, cwd: &[u8]) -> FsContext {
    let found = Walk::new(root, &Caller::default()).find(root, cwd, true);
    let cwd = match found {
        Ok(entry) if entry.node.kind == Kind::Directory => entry,
        _ => {
            crate::console!("kasoku: there is no directory {}: starting in /", String::from_utf8_lossy(cwd));
            root.clone()
        }
    };
    FsContext { root: root.clone(), cwd, umask: UMASK }
}

fn find(directory: &Arc<Entry>, name: &[u8]) -> Result<Option<Arc<Entry>>> {
    directory.node.directory()?.find(directory, name)
}

/// The directory at a path below `root`; what is missing of it is made.
fn directory_at(root: &Arc<Entry>, path: &[u8]) -> Result<Arc<Entry>> {
    let mut at = root.clone();
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        at = match Walk::new(root, &Caller::default()).find(&at, name, true) {
            Ok(found) => found,
            Err(Errno::ENOENT) => add_directory(&at, core::str::from_utf8(name).map_err(|_| Errno::EINVAL)?, 0o755)?,
            Err(errno) => return Err(errno),
        };
    }
    Ok(at)
}

/// Adds an entry, in place of what is there.
pub(super) fn add(directory: &Arc<Entry>, name: &str, node: Arc<Node>) -> Result<Arc<Entry>> {
    let name: Arc<[u8]> = Arc::from(name.as_bytes());
    let is_directory = node.kind == Kind::Directory;
    let entry = Entry::new(directory, name.clone(), node);
    directory.node.directory()?.lock().put(name, entry.clone());
    directory.node.meta().links += u32::from(is_directory);
    Ok(entry)
}

pub(super) fn add_directory(directory: &Arc<Entry>, name: &str, mode: u32) -> Result<Arc<Entry>> {
    let content = Content::Directory(Directory::empty());
    add(directory, name, Node::system(&directory.node.mount, content, Kind::Directory, mode, fresh_inode()))
}

/// Mounts a node with a mount of its own.
pub(super) fn mount_node(directory: &Arc<Entry>, name: &str, node: Arc<Node>) -> Result<Arc<Entry>> {
    let mount = node.mount.clone();
    let entry = add(directory, name, node)?;
    MOUNTS.lock().push((entry.display_path(), mount));
    Ok(entry)
}

#[cfg(target_os = "none")]
pub use boot::mount;

/// From what the VMM says.
#[cfg(target_os = "none")]
mod boot {
    use super::*;
    use crate::arch::hypercall;
    use crate::config::Config;
    use crate::mm::frame::memory;
    use alloc::boxed::Box;
    use kasoku_abi::boot::{BootInfo, Layer, REGION_FS};
    use kasoku_abi::config::MOUNT_READ_ONLY;
    use kasoku_abi::fs::WINDOW_LEN;
    use kasoku_abi::hypercall::REGION_CALL;

    /// Mounts everything that the VMM names.
    pub fn mount(info: &BootInfo, config: &Config) -> FsContext {
        crate::fs::proc::set_processes(&crate::process::view::Table);
        let mut plan = Plan { hostname: String::from_utf8_lossy(&config.hostname).into_owned(), ..Plan::default() };
        for index in &config.root_layers {
            plan.layers.push(layer(info, *index, "of the image cannot be used", "image"));
        }
        for (index, path) in &config.volumes {
            plan.volumes.push((layer(info, *index, "is a volume that cannot be used", "volume"), path.clone()));
        }
        let mut windows: Vec<(u32, Arc<Window>)> = Vec::new();
        for request in &config.mounts {
            let region = request.mount.region;
            let known = windows.iter().find(|(index, _)| *index == region).map(|(_, window)| window.clone());
            let Some(window) = known.or_else(|| open_window(info, region)) else {
                crate::console!("kasoku: region {region} is no file-system window");
                continue;
            };
            windows.push((region, window.clone()));
            let writable = request.mount.flags & MOUNT_READ_ONLY == 0;
            plan.host.push(HostMount { window, root: request.mount.root, path: request.path.clone(), writable });
        }
        let root = build(plan).unwrap_or_else(|errno| {
            crate::dump::fatal(&format!("the image's files cannot be put together: {errno:?} (kasoku image inspect)"))
        });
        context(&root, &config.cwd)
    }

    /// The layer of that number: a program must not run on half of its files.
    fn layer(info: &BootInfo, index: u32, trouble: &str, command: &str) -> Arc<Image> {
        let Some(layer) = info.layers.get(index as usize).filter(|layer| layer.len > 0) else {
            crate::dump::fatal(&format!("there is no layer {index}"))
        };
        open_layer(layer, index).unwrap_or_else(|why| {
            crate::dump::fatal(&format!(
                "layer {index} {trouble}: {why} (kasoku {command} inspect says what is damaged)"
            ))
        })
    }

    fn open_layer(layer: &Layer, index: u32) -> core::result::Result<Arc<Image>, String> {
        // SAFETY: the VMM maps the layer there, read-only and for good.
        let bytes = unsafe { core::slice::from_raw_parts(memory().pointer(layer.gpa), layer.len as usize) };
        Image::open(bytes, layer.gpa, index as usize)
    }

    fn open_window(info: &BootInfo, region: u32) -> Option<Arc<Window>> {
        let found = info.regions.get(region as usize)?;
        if found.kind != REGION_FS || found.len < WINDOW_LEN {
            return None;
        }
        let call: super::super::host::Call = Box::new(move || match hypercall::call(REGION_CALL, &[region.into()]) {
            Ok(_) => 0,
            Err(errno) => -i64::from(errno.0),
        });
        // SAFETY: the VMM maps the region there for good, and nobody else uses this window.
        Some(Arc::new(unsafe { Window::new(memory().pointer(found.gpa), call) }))
    }
}
