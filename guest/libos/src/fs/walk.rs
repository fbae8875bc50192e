//! From a path to an entry.
use super::access::{Caller, Want};
use super::entry::Entry;
use super::node::{Content, Jump, Node};
use super::stat::Kind;
use crate::errno::{Errno, Result};
use alloc::sync::Arc;

/// Longest path, without the NUL.
pub const PATH_MAX: usize = 4095;
/// Longest name in a path.
pub const NAME_MAX: usize = 255;
/// Symbolic links followed in one walk.
const MAX_LINKS: u32 = 40;

bitflags::bitflags! {
    /// Limits on a walk (`openat2`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Resolve: u64 {
        const NO_XDEV = 0x1;
        const NO_MAGICLINKS = 0x2;
        const NO_SYMLINKS = 0x4;
        const BENEATH = 0x8;
        const IN_ROOT = 0x10;
        const CACHED = 0x20;
    }
}

/// Where a process stands in the tree.
#[derive(Clone)]
pub struct FsContext {
    pub root: Arc<Entry>,
    pub cwd: Arc<Entry>,
    pub umask: u32,
}

/// One walk: who walks, and within which bounds.
pub struct Walk<'a> {
    root: Arc<Entry>,
    pub caller: &'a Caller,
    resolve: Resolve,
    links: u32,
}

/// The last component of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last<'p> {
    Name(&'p [u8]),
    Dot,
    DotDot,
    /// The path was slashes only.
    Root,
}

/// All of a path but its last component, walked.
pub struct Parent<'p> {
    pub directory: Arc<Entry>,
    pub last: Last<'p>,
    /// The path ends with a slash.
    pub slash: bool,
}

impl<'a> Walk<'a> {
    pub fn new(root: &Arc<Entry>, caller: &'a Caller) -> Walk<'a> {
        Walk { root: root.clone(), caller, resolve: Resolve::empty(), links: 0 }
    }

    /// A walk that starts at `top` and is bound by `resolve`.
    pub fn bounded(root: &Arc<Entry>, top: &Arc<Entry>, caller: &'a Caller, resolve: Resolve) -> Walk<'a> {
        let scoped = resolve.intersects(Resolve::BENEATH | Resolve::IN_ROOT);
        Walk { root: if scoped { top.clone() } else { root.clone() }, caller, resolve, links: 0 }
    }

    /// The entry that the path leads to; a last component that is a symbolic link is followed if `follow` says so.
    pub fn find(&mut self, start: &Arc<Entry>, path: &[u8], follow: bool) -> Result<Arc<Entry>> {
        let parent = self.parent(start, path)?;
        self.last(&parent, follow)
    }

    /// Walks all but the last component.
    pub fn parent<'p>(&mut self, start: &Arc<Entry>, path: &'p [u8]) -> Result<Parent<'p>> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.len() > PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut at = start.clone();
        let mut rest = path;
        if path[0] == b'/' {
            if self.resolve.contains(Resolve::BENEATH) {
                return Err(Errno::EXDEV);
            }
            at = self.root.clone();
            rest = skip_slashes(rest);
            if rest.is_empty() {
                return Ok(Parent { directory: at, last: Last::Root, slash: true });
            }
        }
        loop {
            self.check_search(&at.node)?;
            let end = rest.iter().position(|b| *b == b'/').unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            let next = skip_slashes(after);
            let last = match name {
                b"." => Last::Dot,
                b".." => Last::DotDot,
                _ => Last::Name(name),
            };
            let parent = Parent { directory: at, last, slash: !after.is_empty() };
            if next.is_empty() {
                return Ok(parent);
            }
            at = self.last(&parent, true)?;
            rest = next;
        }
    }

    /// Walks the last component.
    pub fn last(&mut self, parent: &Parent<'_>, follow: bool) -> Result<Arc<Entry>> {
        let at = &parent.directory;
        let found = match parent.last {
            Last::Root | Last::Dot => at.clone(),
            Last::DotDot => self.up(at)?,
            Last::Name(name) => {
                let entry = self.child(at, name)?.ok_or(Errno::ENOENT)?;
                if entry.node.kind == Kind::Symlink && (follow || parent.slash) {
                    self.follow(at, &entry)?
                } else {
                    entry
                }
            }
        };
        if parent.slash && found.node.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(found)
    }

    /// The child of that name, links not followed.
    pub fn child(&self, at: &Arc<Entry>, name: &[u8]) -> Result<Option<Arc<Entry>>> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let child = at.node.directory()?.find(at, name)?;
        if let Some(child) = &child {
            self.check_crossing(at, child)?;
        }
        Ok(child)
    }

    fn check_search(&self, node: &Node) -> Result<()> {
        if node.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        self.caller.check(node, Want::EXECUTE)
    }

    fn check_crossing(&self, from: &Arc<Entry>, to: &Arc<Entry>) -> Result<()> {
        let crossing = from.node.mount.id != to.node.mount.id;
        if crossing && self.resolve.contains(Resolve::NO_XDEV) { Err(Errno::EXDEV) } else { Ok(()) }
    }

    fn up(&self, at: &Arc<Entry>) -> Result<Arc<Entry>> {
        if Arc::ptr_eq(at, &self.root) {
            return if self.resolve.contains(Resolve::BENEATH) { Err(Errno::EXDEV) } else { Ok(at.clone()) };
        }
        let parent = at.parent().unwrap_or_else(|| at.clone());
        self.check_crossing(at, &parent)?;
        Ok(parent)
    }

    /// Follows the symbolic link `link`, which lies in `directory`.
    pub fn follow(&mut self, directory: &Arc<Entry>, link: &Arc<Entry>) -> Result<Arc<Entry>> {
        self.count_link()?;
        match &link.node.content {
            Content::Symlink(target) => self.find(directory, target, true),
            Content::Magic(magic) => {
                let forbidden = Resolve::NO_MAGICLINKS | Resolve::BENEATH | Resolve::IN_ROOT;
                if self.resolve.intersects(forbidden) {
                    return Err(if self.resolve.contains(Resolve::NO_MAGICLINKS) {
                        Errno::ELOOP
                    } else {
                        Errno::EXDEV
                    });
                }
                Ok(match magic.jump()? {
                    Jump::Entry(entry) => entry,
                    Jump::Open(open) => {
                        let stat = open.file().stat()?;
                        let node = Node::system(
                            &link.node.mount,
                            Content::Opened(open),
                            stat.kind,
                            stat.permissions,
                            stat.inode,
                        );
                        Entry::nameless(node, b"")
                    }
                })
            }
            _ => Ok(link.clone()),
        }
    }

    /// One more link on the way: ELOOP after too many, or where none is wanted.
    pub fn count_link(&mut self) -> Result<()> {
        self.links += 1;
        if self.links > MAX_LINKS || self.resolve.contains(Resolve::NO_SYMLINKS) { Err(Errno::ELOOP) } else { Ok(()) }
    }
}

fn skip_slashes(path: &[u8]) -> &[u8] {
    let slashes = path.iter().take_while(|b| **b == b'/').count();
    &path[slashes..]
}
