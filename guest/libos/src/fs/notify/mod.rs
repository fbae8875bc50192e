//! Who is told of what happens to files (inotify(7)).
//!
//! A watch hangs on a node; the operations of the tree report here what they did. As long as nobody watches anything that
//! costs one load.
pub mod inotify;

pub use inotify::{Inotify, InotifyFile};

use super::entry::Entry;
use super::node::Node;
use super::stat::Kind;
use crate::sync::Mutex;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use linux_raw_sys::general::{
    IN_ATTRIB, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_EXCL_UNLINK, IN_ISDIR, IN_MOVE_SELF, IN_MOVED_FROM, IN_MOVED_TO,
};

/// The watches on a node.
#[derive(Default)]
pub struct Watches(Mutex<Vec<Watch>>);

#[derive(Clone)]
struct Watch {
    instance: Weak<Inotify>,
    number: i32,
    mask: u32,
}

/// Watches in the guest.
static WATCHES: AtomicUsize = AtomicUsize::new(0);
/// What joins the two events of a move.
static COOKIE: AtomicU32 = AtomicU32::new(1);

fn nobody_watches() -> bool {
    WATCHES.load(Ordering::Relaxed) == 0
}

/// Tells those who watch the node.
fn tell(node: &Node, events: u32, cookie: u32, name: &[u8], unlinked: bool) {
    let Some(watches) = node.watches_if_any() else { return };
    // On a copy: a watch may end by being told.
    let watches: Vec<Watch> = watches.0.lock().clone();
    for watch in watches.iter().filter(|watch| watch.mask & events != 0) {
        if unlinked && watch.mask & IN_EXCL_UNLINK != 0 {
            continue;
        }
        if let Some(instance) = watch.instance.upgrade() {
            instance.happened(watch.number, events & (watch.mask | IN_ISDIR), cookie, name);
        }
    }
}

fn directory_bit(node: &Node) -> u32 {
    if node.kind == Kind::Directory { IN_ISDIR } else { 0 }
}

/// Something was done to an entry: those are told who watch it, and those who watch its directory.
pub fn happened(entry: &Entry, events: u32) {
    if nobody_watches() {
        return;
    }
    let events = events | directory_bit(&entry.node);
    if let Some(parent) = entry.parent() {
        tell(&parent.node, events, 0, &entry.name(), entry.is_removed());
    }
    tell(&entry.node, events, 0, b"", false);
}

/// An entry was made.
pub fn created(entry: &Entry) {
    if nobody_watches() {
        return;
    }
    if let Some(parent) = entry.parent() {
        tell(&parent.node, IN_CREATE | directory_bit(&entry.node), 0, &entry.name(), false);
    }
}

/// A node has another name.
pub fn linked(entry: &Entry) {
    if !nobody_watches() {
        tell(&entry.node, IN_ATTRIB, 0, b"", false);
        created(entry);
    }
}

/// An entry was removed from its directory; its node has lost a name.
pub fn removed(directory: &Entry, entry: &Entry) {
    if nobody_watches() {
        return;
    }
    if entry.node.kind != Kind::Directory {
        tell(&entry.node, IN_ATTRIB, 0, b"", false);
    }
    lost_last_name(&entry.node);
    tell(&directory.node, IN_DELETE | directory_bit(&entry.node), 0, &entry.name(), false);
}

/// A node without names is gone, as far as its watchers are told: also where it is still open, which Linux waits for.
fn lost_last_name(node: &Node) {
    if node.meta().links > 0 {
        return;
    }
    tell(node, IN_DELETE_SELF, 0, b"", false);
    let Some(watches) = node.watches_if_any() else { return };
    let watches: Vec<Watch> = watches.0.lock().clone();
    for watch in watches {
        if let Some(instance) = watch.instance.upgrade() {
            instance.end(watch.number);
        }
    }
}

/// An entry got another name, in place of `replaced`.
pub fn moved(from: (&Entry, &[u8]), to: (&Entry, &[u8]), node: &Node, replaced: Option<&Node>) {
    if nobody_watches() {
        return;
    }
    let cookie = COOKIE.fetch_add(1, Ordering::Relaxed);
    let directory = directory_bit(node);
    tell(&from.0.node, IN_MOVED_FROM | directory, cookie, from.1, false);
    tell(&to.0.node, IN_MOVED_TO | directory, cookie, to.1, false);
    if let Some(replaced) = replaced {
        tell(replaced, IN_ATTRIB, 0, b"", false);
    }
    tell(node, IN_MOVE_SELF, 0, b"", false);
    if let Some(replaced) = replaced {
        lost_last_name(replaced);
    }
}

impl Watches {
    /// Sets the mask of the instance's watch on this node, which is made where there is none yet.
    fn set(&self, instance: &Arc<Inotify>, number: i32, mask: u32) {
        let mut watches = self.0.lock();
        let own = |watch: &&mut Watch| core::ptr::eq(watch.instance.as_ptr(), Arc::as_ptr(instance));
        if let Some(watch) = watches.iter_mut().find(own) {
            watch.mask = mask;
            return;
        }
        watches.push(Watch { instance: Arc::downgrade(instance), number, mask });
        WATCHES.fetch_add(1, Ordering::Relaxed);
    }

    fn remove(&self, instance: *const Inotify) {
        let mut watches = self.0.lock();
        let before = watches.len();
        watches.retain(|watch| !core::ptr::eq(watch.instance.as_ptr(), instance));
        WATCHES.fetch_sub(before - watches.len(), Ordering::Relaxed);
    }
}
