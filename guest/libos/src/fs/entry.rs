//! Entries: names in directories, and the way back up. (Linux calls them dentries.)
use super::node::Node;
use crate::sync::Mutex;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A name of a node. A directory has exactly one; a file with hard links has several.
pub struct Entry {
    pub node: Arc<Node>,
    place: Mutex<Place>,
}

#[derive(Clone)]
struct Place {
    name: Arc<[u8]>,
    /// `None` at the root of a tree and for what has no name (memfd, O_TMPFILE).
    parent: Option<Arc<Entry>>,
    removed: bool,
}

impl Entry {
    pub fn new(parent: &Arc<Entry>, name: Arc<[u8]>, node: Arc<Node>) -> Arc<Entry> {
        let place = Place { name, parent: Some(parent.clone()), removed: false };
        Arc::new(Entry { node, place: Mutex::new(place) })
    }

    /// The root of a tree.
    pub fn root(node: Arc<Node>) -> Arc<Entry> {
        Arc::new(Entry { node, place: Mutex::new(Place { name: Arc::from(&b""[..]), parent: None, removed: false }) })
    }

    /// An entry of a node without a name; `label` is what `/proc/self/fd` shows.
    pub fn nameless(node: Arc<Node>, label: &[u8]) -> Arc<Entry> {
        Arc::new(Entry { node, place: Mutex::new(Place { name: Arc::from(label), parent: None, removed: true }) })
    }

    pub fn name(&self) -> Arc<[u8]> {
        self.place.lock().name.clone()
    }

    pub fn parent(&self) -> Option<Arc<Entry>> {
        self.place.lock().parent.clone()
    }

    /// Whether the name was removed (the node may live on while it is open or has other names).
    pub fn is_removed(&self) -> bool {
        self.place.lock().removed
    }

    pub(super) fn mark_removed(&self) {
        self.place.lock().removed = true;
    }

    pub(super) fn move_to(&self, parent: &Arc<Entry>, name: Arc<[u8]>) {
        let old =
            core::mem::replace(&mut *self.place.lock(), Place { name, parent: Some(parent.clone()), removed: false });
        drop(old);
    }

    /// Whether this entry lies below `ancestor`, or is it.
    pub fn is_below(self: &Arc<Entry>, ancestor: &Arc<Entry>) -> bool {
        let mut at = self.clone();
        loop {
            if Arc::ptr_eq(&at, ancestor) {
                return true;
            }
            match at.parent() {
                Some(parent) => at = parent,
                None => return false,
            }
        }
    }

    /// The path from `root` ("/" for itself), and whether the entry is reachable from there.
    pub fn path_from(self: &Arc<Entry>, root: &Arc<Entry>) -> (Vec<u8>, bool) {
        let mut names = Vec::new();
        let mut at = self.clone();
        let reachable = loop {
            if Arc::ptr_eq(&at, root) {
                break true;
            }
            let Place { name, parent, .. } = at.place.lock().clone();
            let Some(parent) = parent else {
                if !name.is_empty() {
                    names.push(name);
                }
                break false;
            };
            names.push(name);
            at = parent;
        };
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        (path, reachable)
    }

    /// The path as links in `/proc` show it: from the tree's root, with " (deleted)" after a name that is gone.
    pub fn display_path(self: &Arc<Entry>) -> Vec<u8> {
        let mut path = self.path_from(self).0;
        // From its own root: walk up by hand, because the root of the tree is whatever has no parent.
        let mut top = self.clone();
        while let Some(parent) = top.parent() {
            top = parent;
        }
        if !Arc::ptr_eq(&top, self) {
            path = self.path_from(&top).0;
        } else if self.is_removed() {
            path = Vec::from(&b"/"[..]);
            path.extend_from_slice(&self.name());
        }
        if self.is_removed() {
            path.extend_from_slice(b" (deleted)");
        }
        path
    }
}
