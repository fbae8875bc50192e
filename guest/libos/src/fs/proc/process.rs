//! `/proc/PID`, `/proc/PID/task/TID`, `/proc/self`, `/proc/thread-self`.
use super::descriptors::Descriptors;
use super::namespaces::Namespaces;
use super::net::Net;
use super::tree::pseudo_node;
use super::{Process, format, processes};
use crate::errno::{Errno, Result};
use crate::fs::Caller;
use crate::fs::directory::{Directory, Dynamic};
use crate::fs::entry::Entry;
use crate::fs::file::DirEntry;
use crate::fs::mount::{FsType, Mount};
use crate::fs::node::{Content, Jump, Magic, Node, Pseudo};
use crate::fs::stat::Kind;
use crate::fs::walk::Walk;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The root of a `/proc`.
pub(super) fn root(fs_type: FsType) -> Arc<Node> {
    let mount = Mount::new(fs_type, false, "proc");
    let content = Content::Directory(Directory::generated(Arc::new(Root)));
    Node::system(&mount, content, Kind::Directory, 0o555, 1)
}

/// A thread of a process, as its directory shows it.
#[derive(Clone)]
pub(super) struct View {
    pub process: Arc<dyn Process>,
    pub thread: u32,
}

impl View {
    /// An inode number that stays the same for the thread's file number `index`.
    pub fn inode(&self, index: u64) -> u64 {
        1 << 62 | u64::from(self.thread) << 24 | index
    }

    /// Whether the caller may look at what is not for everybody's eyes. Programs of one guest trust each other.
    fn owner(&self) -> (u32, u32) {
        let facts = self.process.facts(self.thread);
        (facts.uids[1], facts.gids[1])
    }
}

fn number(name: &[u8]) -> Option<u32> {
    let text = core::str::from_utf8(name).ok()?;
    let canonical = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if canonical { text.parse().ok() } else { None }
}

fn link(mount: &Arc<Mount>, target: String, inode: u64) -> Arc<Node> {
    let content = Content::Symlink(target.into_bytes().into_boxed_slice());
    Node::system(mount, content, Kind::Symlink, 0o777, inode)
}

struct Root;

impl Dynamic for Root {
    fn find(&self, directory: &Arc<Entry>, name: &[u8]) -> Result<Option<Arc<Node>>> {
        let mount = &directory.node.mount;
        let Some(processes) = processes() else { return Ok(None) };
        let (pid, tid) = processes.current();
        Ok(match name {
            b"self" => Some(link(mount, pid.to_string(), 2)),
            b"thread-self" => Some(link(mount, format!("{pid}/task/{tid}"), 3)),
            _ => number(name)
                .and_then(|pid| processes.find(pid))
                .map(|process| View { thread: process.pid(), process }.directory(mount, true)),
        })
    }

    fn list(&self, position: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) {
        let Some(processes) = processes() else { return };
        let links = [(&b"self"[..], 2), (b"thread-self", 3)];
        for (at, (name, inode)) in (0..).zip(links) {
            let entry = DirEntry { inode, kind: Kind::Symlink.dirent_type(), name, next: at + 1 };
            if at >= position && !emit(entry) {
                return;
            }
        }
        for pid in processes.all() {
            let at = u64::from(pid) + 2;
            let name = pid.to_string();
            let inode = 1 << 62 | u64::from(pid) << 24;
            let entry = DirEntry { inode, kind: Kind::Directory.dirent_type(), name: name.as_bytes(), next: at + 1 };
            if at >= position && !emit(entry) {
                return;
            }
        }
    }
}

impl View {
    fn directory(self, mount: &Arc<Mount>, whole: bool) -> Arc<Node> {
        let (inode, owner) = (self.inode(0), self.owner());
        let content = Content::Directory(Directory::generated(Arc::new(Files { view: self, whole })));
        owned(Node::system(mount, content, Kind::Directory, 0o555, inode), owner)
    }
}

fn owned(node: Arc<Node>, (uid, gid): (u32, u32)) -> Arc<Node> {
    {
        let mut meta = node.meta();
        meta.uid = uid;
        meta.gid = gid;
    }
    node
}

/// The files of one process, or of one thread.
struct Files {
    view: View,
    /// A process: it has a directory of threads.
    whole: bool,
}

/// What a name leads to.
#[derive(Clone, Copy)]
enum What {
    Text(fn(&View) -> Vec<u8>),
    Name,
    Link(fn(&View) -> Jumper),
    Descriptors { info: bool },
    Threads,
    Net,
    Namespaces,
    OomScoreAdj,
    Memory,
}

/// Name, mode, contents.
const FILES: &[(&str, u32, What)] = &[
    ("auxv", 0o400, What::Text(format::auxv)),
    ("cgroup", 0o444, What::Text(|_| b"0::/\n".to_vec())),
    ("cmdline", 0o444, What::Text(|view| format::with_nuls(&view.process.args()))),
    ("comm", 0o644, What::Name),
    ("cpuset", 0o444, What::Text(|_| b"/\n".to_vec())),
    ("cwd", 0o777, What::Link(|view| Jumper::Entry(view.process.fs().cwd))),
    ("environ", 0o400, What::Text(|view| format::with_nuls(&view.process.env()))),
    ("exe", 0o777, What::Link(|view| Jumper::Path(view.process.exe(), view.process.fs().root))),
    ("fd", 0o500, What::Descriptors { info: false }),
    ("fdinfo", 0o555, What::Descriptors { info: true }),
    ("gid_map", 0o644, What::Text(|_| b"         0          0 4294967295\n".to_vec())),
    ("io", 0o400, What::Text(format::io)),
    ("limits", 0o444, What::Text(format::limits)),
    ("loginuid", 0o644, What::Text(|_| b"4294967295".to_vec())),
    ("maps", 0o444, What::Text(format::maps)),
    ("mem", 0o600, What::Memory),
    ("mountinfo", 0o444, What::Text(|_| format::mountinfo())),
    ("mounts", 0o444, What::Text(|_| format::mounts())),
    ("net", 0o555, What::Net),
    ("ns", 0o511, What::Namespaces),
    ("oom_score", 0o444, What::Text(|_| b"0\n".to_vec())),
    ("oom_score_adj", 0o644, What::OomScoreAdj),
    ("personality", 0o400, What::Text(|_| b"00000000\n".to_vec())),
    ("projid_map", 0o644, What::Text(|_| b"         0          0 4294967295\n".to_vec())),
    ("root", 0o777, What::Link(|view| Jumper::Entry(view.process.fs().root))),
    ("schedstat", 0o444, What::Text(format::schedstat)),
    ("sessionid", 0o444, What::Text(|_| b"4294967295".to_vec())),
    ("setgroups", 0o644, What::Text(|_| b"allow\n".to_vec())),
    ("smaps", 0o444, What::Text(format::smaps)),
    ("smaps_rollup", 0o444, What::Text(format::smaps_rollup)),
    ("stat", 0o444, What::Text(format::stat)),
    ("statm", 0o444, What::Text(format::statm)),
    ("status", 0o444, What::Text(format::status)),
    ("task", 0o555, What::Threads),
    ("uid_map", 0o644, What::Text(|_| b"         0          0 4294967295\n".to_vec())),
    ("wchan", 0o444, What::Text(|_| b"0".to_vec())),
];

impl What {
    fn kind(self) -> Kind {
        match self {
            What::Text(_) | What::Name | What::OomScoreAdj | What::Memory => Kind::Regular,
            What::Link(_) => Kind::Symlink,
            What::Descriptors { .. } | What::Threads | What::Net | What::Namespaces => Kind::Directory,
        }
    }

    fn node(self, view: &View, mount: &Arc<Mount>, mode: u32, inode: u64) -> Arc<Node> {
        let view = view.clone();
        let content = match self {
            What::Text(text) => return pseudo_node(mount, mode, Arc::new(ProcessText { view, text }), inode),
            What::Name => return pseudo_node(mount, mode, Arc::new(Name(view)), inode),
            What::OomScoreAdj => return pseudo_node(mount, mode, Arc::new(OomScoreAdj(view)), inode),
            What::Memory => Content::Device(0, Some(super::memory::opener(view))),
            What::Link(jumper) => Content::Magic(Arc::new(ProcessLink { view, jumper })),
            What::Descriptors { info } => {
                Content::Directory(Directory::generated(Arc::new(Descriptors { view, info })))
            }
            What::Threads => Content::Directory(Directory::generated(Arc::new(Threads(view)))),
            What::Net => Content::Directory(Directory::generated(Arc::new(Net(view)))),
            What::Namespaces => Content::Directory(Directory::generated(Arc::new(Namespaces(view)))),
        };
        Node::system(mount, content, self.kind(), mode, inode)
    }
}

impl Files {
    fn entries(&self) -> impl Iterator<Item = (u64, &'static (&'static str, u32, What))> {
        let whole = self.whole;
        (1..).zip(FILES).filter(move |(_, (_, _, what))| whole || !matches!(what, What::Threads))
    }
}

impl Dynamic for Files {
    fn find(&self, directory: &Arc<Entry>, name: &[u8]) -> Result<Option<Arc<Node>>> {
        let found = self.entries().find(|(_, (known, ..))| known.as_bytes() == name);
        let Some((index, (_, mode, what))) = found else { return Ok(None) };
        let node = what.node(&self.view, &directory.node.mount, *mode, self.view.inode(index));
        Ok(Some(owned(node, self.view.owner())))
    }

    fn list(&self, position: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) {
        for (index, (name, _, what)) in self.entries().filter(|(index, _)| *index > position) {
            let inode = self.view.inode(index);
            let kind = what.kind().dirent_type();
            if !emit(DirEntry { inode, kind, name: name.as_bytes(), next: index }) {
                return;
            }
        }
    }
}

struct ProcessText {
    view: View,
    text: fn(&View) -> Vec<u8>,
}

impl Pseudo for ProcessText {
    fn read(&self) -> Result<Vec<u8>> {
        Ok((self.text)(&self.view))
    }
}

/// `comm`.
struct Name(View);

impl Pseudo for Name {
    fn read(&self) -> Result<Vec<u8>> {
        let mut name = self.0.process.facts(self.0.thread).name;
        name.push(b'\n');
        Ok(name)
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        self.0.process.set_name(self.0.thread, bytes.strip_suffix(b"\n").unwrap_or(bytes));
        Ok(())
    }
}

/// `oom_score_adj`.
struct OomScoreAdj(View);

impl Pseudo for OomScoreAdj {
    fn read(&self) -> Result<Vec<u8>> {
        Ok(format!("{}\n", self.0.process.oom_score_adj()).into_bytes())
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        const RANGE: core::ops::RangeInclusive<i32> = -1000..=1000;
        let text = core::str::from_utf8(bytes.trim_ascii()).map_err(|_| Errno::EINVAL)?;
        let value = text.parse().ok().filter(|value| RANGE.contains(value)).ok_or(Errno::EINVAL)?;
        self.0.process.set_oom_score_adj(value);
        Ok(())
    }
}

/// Where a process's link leads.
enum Jumper {
    Entry(Arc<Entry>),
    /// A path, from the process's root.
    Path(Vec<u8>, Arc<Entry>),
}

struct ProcessLink {
    view: View,
    jumper: fn(&View) -> Jumper,
}

impl Magic for ProcessLink {
    fn text(&self) -> Result<Vec<u8>> {
        match (self.jumper)(&self.view) {
            Jumper::Entry(entry) => Ok(entry.display_path()),
            Jumper::Path(path, _) if path.is_empty() => Err(Errno::ENOENT),
            Jumper::Path(path, _) => Ok(path),
        }
    }

    fn jump(&self) -> Result<Jump> {
        match (self.jumper)(&self.view) {
            Jumper::Entry(entry) => Ok(Jump::Entry(entry)),
            Jumper::Path(path, root) => Walk::new(&root, &Caller::default()).find(&root, &path, true).map(Jump::Entry),
        }
    }
}

/// `task`.
struct Threads(View);

impl Threads {
    fn view(&self, thread: u32) -> View {
        View { process: self.0.process.clone(), thread }
    }
}

impl Dynamic for Threads {
    fn find(&self, directory: &Arc<Entry>, name: &[u8]) -> Result<Option<Arc<Node>>> {
        let found = number(name).filter(|tid| self.0.process.threads().contains(tid));
        Ok(found.map(|tid| self.view(tid).directory(&directory.node.mount, false)))
    }

    fn list(&self, position: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) {
        for tid in self.0.process.threads().into_iter().filter(|tid| u64::from(*tid) > position) {
            let name = tid.to_string();
            let inode = self.view(tid).inode(0);
            let kind = Kind::Directory.dirent_type();
            if !emit(DirEntry { inode, kind, name: name.as_bytes(), next: tid.into() }) {
                return;
            }
        }
    }
}
