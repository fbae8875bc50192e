//! Directories: children in memory, filled from the lower layers as they are asked for.
//!
//! A look-up brings one name up from below; a listing brings all of them (as names: their nodes follow when they are looked
//! up). From then on, and in directories that have nothing below, memory alone answers.
use super::entry::Entry;
use super::file::DirEntry;
use super::lower::Lower;
use super::node::Node;
use super::stat::Kind;
use super::union;
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, MutexGuard};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Names whose absence is remembered, at most, in one directory.
const MAX_ABSENT: usize = 4096;
/// Positions of `.` and `..` in a listing; entries follow.
const FIRST_POSITION: u64 = 2;

/// A generator of children that exist beside those in memory (`/proc/PID`, `/proc/self/fd/N`).
pub trait Dynamic: Send + Sync {
    fn find(&self, directory: &Arc<Entry>, name: &[u8]) -> Result<Option<Arc<Node>>>;

    /// Children from `position` on (0 = the first), until `emit` says false; each with the position after it.
    fn list(&self, position: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool);

    /// Called before a listing begins, for children that are asked for elsewhere.
    fn begin_list(&self, directory: &Arc<Entry>) -> Result<()> {
        let _ = directory;
        Ok(())
    }
}

pub struct Directory {
    dynamic: Option<Arc<dyn Dynamic>>,
    /// What the lower layer says of its size.
    lower_size: Option<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// The directories of the lower layers that are merged here, top first.
    lowers: Vec<Arc<dyn Lower>>,
    /// All names of the lower layers are in `children`.
    complete: bool,
    children: BTreeMap<Arc<[u8]>, Child>,
    absent: usize,
    order: Option<Order>,
    /// The directory was removed: nothing may be made in it any more.
    dead: bool,
}

struct Child {
    what: What,
    /// Its position in listings, once there was one.
    position: u64,
}

enum What {
    Entry(Arc<Entry>),
    /// In a lower layer, not looked up yet.
    Listed {
        inode: u64,
        kind: Kind,
    },
    /// Not in any layer (remembered).
    Absent,
    /// Removed, though a lower layer has it.
    Whiteout,
}

/// Listing order: positions are given once and never again, so that a listing goes on where it was whatever happened since.
#[derive(Default)]
struct Order {
    by_position: BTreeMap<u64, Arc<[u8]>>,
    next: u64,
}

impl What {
    fn is_there(&self) -> bool {
        matches!(self, What::Entry(_) | What::Listed { .. })
    }
}

impl Directory {
    /// An empty directory in memory.
    pub fn empty() -> Directory {
        Self::over(Vec::new(), None)
    }

    /// The union of directories of lower layers, top first, and the size of the topmost.
    pub fn over(lowers: Vec<Arc<dyn Lower>>, lower_size: Option<u64>) -> Directory {
        let complete = lowers.is_empty();
        Directory { dynamic: None, lower_size, state: Mutex::new(State { lowers, complete, ..State::default() }) }
    }

    /// A directory with generated children.
    pub fn generated(dynamic: Arc<dyn Dynamic>) -> Directory {
        Directory { dynamic: Some(dynamic), ..Self::empty() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Whether programs may make and remove entries here.
    pub fn is_generated(&self) -> bool {
        self.dynamic.is_some()
    }

    /// `st_size`: the lower layer's, or as tmpfs computes it.
    pub fn size(&self) -> u64 {
        const PER_ENTRY: u64 = 20;
        if let Some(size) = self.lower_size {
            return size;
        }
        let state = self.state.lock();
        (2 + (state.children.len() - state.absent) as u64) * PER_ENTRY
    }

    /// The child of that name. `this` is the directory's own entry.
    pub fn find(&self, this: &Arc<Entry>, name: &[u8]) -> Result<Option<Arc<Entry>>> {
        if let Some(found) = self.state.lock().find(this, name)? {
            return Ok(Some(found));
        }
        let Some(dynamic) = &self.dynamic else { return Ok(None) };
        let node = dynamic.find(this, name)?;
        Ok(node.map(|node| Entry::new(this, Arc::from(name), node)))
    }

    /// Adds a child: EEXIST when the name is there, ENOENT in a directory that was removed.
    pub fn insert(&self, this: &Arc<Entry>, name: &[u8], node: Arc<Node>) -> Result<Arc<Entry>> {
        let mut state = self.state.lock();
        if state.dead {
            return Err(Errno::ENOENT);
        }
        if state.find(this, name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        let name: Arc<[u8]> = Arc::from(name);
        let entry = Entry::new(this, name.clone(), node);
        state.put(name, entry.clone());
        Ok(entry)
    }

    /// Entries from `position` on, `.` and `..` first; see `File::read_dir`.
    pub fn list(&self, this: &Arc<Entry>, position: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<u64> {
        let mut at = position;
        if at == 0 {
            if !emit(DirEntry { inode: this.node.inode, kind: Kind::Directory.dirent_type(), name: b".", next: 1 }) {
                return Ok(at);
            }
            at = 1;
        }
        if at == 1 {
            let parent = this.parent().map_or(this.node.inode, |parent| parent.node.inode);
            let entry =
                DirEntry { inode: parent, kind: Kind::Directory.dirent_type(), name: b"..", next: FIRST_POSITION };
            if !emit(entry) {
                return Ok(at);
            }
            at = FIRST_POSITION;
        }
        if at == FIRST_POSITION
            && let Some(dynamic) = &self.dynamic
        {
            dynamic.begin_list(this)?;
        }
        // Generated children have the upper half of the positions.
        const GENERATED: u64 = 1 << 62;
        if at < GENERATED {
            let mut state = self.state.lock();
            state.complete()?;
            state.number();
            let mut refused = false;
            let order = state.order.as_ref().expect("numbered");
            for (here, name) in order.by_position.range(at..) {
                let Some(child) = state.children.get(name) else { continue };
                let (inode, kind) = match &child.what {
                    What::Entry(entry) => (entry.node.inode, entry.node.kind),
                    What::Listed { inode, kind } => (*inode, *kind),
                    What::Absent | What::Whiteout => continue,
                };
                if !emit(DirEntry { inode, kind: kind.dirent_type(), name, next: here + 1 }) {
                    refused = true;
                    break;
                }
                at = here + 1;
            }
            if refused || self.dynamic.is_none() {
                return Ok(at);
            }
            at = GENERATED;
        }
        if let Some(dynamic) = &self.dynamic {
            dynamic.list(at - GENERATED, &mut |mut entry| {
                entry.next += GENERATED;
                let taken = emit(entry);
                if taken {
                    at = entry.next;
                }
                taken
            });
        }
        Ok(at)
    }
}

impl State {
    pub(super) fn find(&mut self, this: &Arc<Entry>, name: &[u8]) -> Result<Option<Arc<Entry>>> {
        match self.children.get(name).map(|child| &child.what) {
            Some(What::Entry(entry)) => return Ok(Some(entry.clone())),
            Some(What::Absent | What::Whiteout) => return Ok(None),
            Some(What::Listed { .. }) => {}
            None if self.complete => return Ok(None),
            None => {}
        }
        let node = union::find(&self.lowers, &this.node.mount, name)?;
        let name: Arc<[u8]> = Arc::from(name);
        let Some(node) = node else {
            self.remember_absent(name);
            return Ok(None);
        };
        let entry = Entry::new(this, name.clone(), node);
        self.put(name, entry.clone());
        Ok(Some(entry))
    }

    fn remember_absent(&mut self, name: Arc<[u8]>) {
        if self.absent >= MAX_ABSENT {
            self.children.retain(|_, child| !matches!(child.what, What::Absent));
            self.absent = 0;
        }
        self.absent += 1;
        let old = self.children.insert(name, Child { what: What::Absent, position: 0 });
        if let (Some(old), Some(order)) = (old, &mut self.order) {
            order.by_position.remove(&old.position);
        }
    }

    /// Puts an entry under a name, in place of whatever was there.
    pub(super) fn put(&mut self, name: Arc<[u8]>, entry: Arc<Entry>) {
        if let Some(child) = self.children.get_mut(&name) {
            let was_there = child.what.is_there();
            self.absent -= usize::from(matches!(child.what, What::Absent));
            child.what = What::Entry(entry);
            if was_there || self.order.is_none() {
                return;
            }
        } else {
            self.children.insert(name.clone(), Child { what: What::Entry(entry), position: 0 });
        }
        if let Some(order) = &mut self.order {
            let position = order.take(name.clone());
            self.children.get_mut(&name).expect("just put").position = position;
        }
    }

    /// Takes a name away for good.
    pub(super) fn take(&mut self, name: &[u8]) {
        let Some((key, child)) = self.children.remove_entry(name) else { return };
        if let Some(order) = &mut self.order {
            order.by_position.remove(&child.position);
        }
        if !self.complete {
            self.children.insert(key, Child { what: What::Whiteout, position: 0 });
        }
    }

    pub(super) fn kill(&mut self) {
        self.dead = true;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    pub(super) fn is_empty(&mut self) -> Result<bool> {
        if self.children.values().any(|child| child.what.is_there()) {
            return Ok(false);
        }
        self.complete()?;
        Ok(!self.children.values().any(|child| child.what.is_there()))
    }

    /// Brings all names up from below.
    fn complete(&mut self) -> Result<()> {
        if self.complete {
            return Ok(());
        }
        for listed in union::list(&self.lowers)? {
            let what = What::Listed { inode: listed.inode, kind: listed.kind };
            self.children.entry(Arc::from(listed.name)).or_insert(Child { what, position: 0 });
        }
        self.children.retain(|_, child| child.what.is_there());
        self.absent = 0;
        self.complete = true;
        Ok(())
    }

    /// Gives every child its position.
    fn number(&mut self) {
        if self.order.is_some() {
            return;
        }
        let mut order = Order { next: FIRST_POSITION, ..Order::default() };
        for (name, child) in &mut self.children {
            child.position = order.take(name.clone());
        }
        self.order = Some(order);
    }
}

impl Order {
    fn take(&mut self, name: Arc<[u8]>) -> u64 {
        let position = self.next;
        self.next += 1;
        self.by_position.insert(position, name);
        position
    }
}
