//! Layers over one another: which of them a name comes from.
//!
//! As in OCI images: `.wh.NAME` in a layer hides NAME of the layers below it, `.wh..wh..opq` hides everything below.
use super::data::Data;
use super::directory::Directory;
use super::lower::{Attributes, ListedName, Lower};
use super::mount::Mount;
use super::node::{Content, Node, fresh_inode};
use super::stat::Kind;
use crate::errno::Result;
use crate::sync::Mutex;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Nodes of lower files with several names, so that all names lead to one node. Keyed by device and inode.
static LINKED: Mutex<BTreeMap<(u64, u64, u32), Weak<Node>>> = Mutex::new(BTreeMap::new());

fn is_opaque(directory: &Arc<dyn Lower>) -> Result<bool> {
    Ok(directory.has_whiteouts() && directory.find(OPAQUE)?.is_some())
}

/// The node of that name in the union of directories (top first).
pub fn find(lowers: &[Arc<dyn Lower>], mount: &Arc<Mount>, name: &[u8]) -> Result<Option<Arc<Node>>> {
    let mut directories: Vec<Arc<dyn Lower>> = Vec::new();
    let mut top: Option<Attributes> = None;
    for (depth, lower) in lowers.iter().enumerate() {
        if lower.has_whiteouts() && name.starts_with(WHITEOUT) {
            continue;
        }
        if let Some(found) = lower.find(name)? {
            let attributes = found.attributes()?;
            if attributes.kind != Kind::Directory {
                // It hides whatever lies below; a directory above it is merged with nothing of it.
                if top.is_none() {
                    return over(found, &attributes, mount).map(Some);
                }
                break;
            }
            let last = is_opaque(&found)?;
            directories.push(found);
            top.get_or_insert(attributes);
            if last {
                break;
            }
        }
        let is_bottom = depth + 1 == lowers.len();
        if !is_bottom && lower.has_whiteouts() {
            let marker = [WHITEOUT, name].concat();
            if lower.find(&marker)?.is_some() {
                break;
            }
        }
    }
    Ok(top.map(|top| Node::over_lower(mount, Content::Directory(Directory::over(directories, Some(top.size))), &top)))
}

/// The node over one lower file that is not a directory.
fn over(lower: Arc<dyn Lower>, attributes: &Attributes, mount: &Arc<Mount>) -> Result<Arc<Node>> {
    let key = (attributes.device, attributes.inode, mount.id);
    let linked = attributes.links > 1;
    if linked && let Some(node) = LINKED.lock().get(&key).and_then(Weak::upgrade) {
        return Ok(node);
    }
    let content = match attributes.kind {
        Kind::Regular => Content::Regular(Data::over(lower, attributes.size)),
        Kind::Symlink => Content::Symlink(lower.read_link()?),
        Kind::CharDevice | Kind::BlockDevice => Content::Device(attributes.rdev, None),
        _ => Content::Slot(Mutex::new(None)),
    };
    let node = Node::over_lower(mount, content, attributes);
    if linked {
        LINKED.lock().insert(key, Arc::downgrade(&node));
    }
    Ok(node)
}

/// The names of the union of directories (top first).
pub fn list(lowers: &[Arc<dyn Lower>]) -> Result<Vec<ListedName>> {
    let mut names: BTreeMap<Box<[u8]>, ListedName> = BTreeMap::new();
    let mut hidden: BTreeSet<Box<[u8]>> = BTreeSet::new();
    for lower in lowers {
        let mut hides: Vec<Box<[u8]>> = Vec::new();
        for listed in lower.list()? {
            match listed.name.strip_prefix(WHITEOUT) {
                Some(victim) if lower.has_whiteouts() => hides.push(Box::from(victim)),
                _ if hidden.contains(&listed.name) => {}
                _ => {
                    names.entry(listed.name.clone()).or_insert(listed);
                }
            }
        }
        hidden.extend(hides);
    }
    Ok(names.into_values().collect())
}

/// The root of a union (top first), as a node of the mount.
pub fn root(lowers: Vec<Arc<dyn Lower>>, mount: &Arc<Mount>) -> Result<Arc<Node>> {
    let mut used = Vec::new();
    for lower in lowers {
        let last = is_opaque(&lower)?;
        used.push(lower);
        if last {
            break;
        }
    }
    let Some(top) = used.first().map(|top| top.attributes()).transpose()? else {
        let content = Content::Directory(Directory::empty());
        return Ok(Node::system(mount, content, Kind::Directory, 0o755, fresh_inode()));
    };
    let content = Content::Directory(Directory::over(used, Some(top.size)));
    Ok(Node::over_lower(mount, content, &top))
}
