//! Runs the real proxy, jail and all, and plays its guest: a friendly one and hostile ones.
mod changes;
#[path = "../../vmm/tests/random/mod.rs"]
mod random;
mod requests;

use kasoku_abi::fs::{
    Attributes, CLOSE, DATA, DATA_LEN, DirEntry, FETCH, OPEN, PATH_MAX, READ, READ_DIR, READ_LINK, REPLY, Reply,
    Request, STAT, WINDOW_LEN, WITH_ATTRIBUTES,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, Timespec, fcntl_add_seals, ftruncate, memfd_create, open};
use rustix::io::{FdFlags, fcntl_setfd};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Descriptors are inheritable for a moment: tests of one process must not spawn meanwhile.
static SPAWN: Mutex<()> = Mutex::new(());

struct Proxy {
    child: Child,
    control: UnixStream,
    memory: File,
    doorbell: OwnedFd,
    wake: OwnedFd,
}

impl Proxy {
    fn start(roots: &[(&str, &Path)]) -> Self {
        let memory = memfd_create("window", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&memory, WINDOW_LEN).unwrap();
        fcntl_add_seals(&memory, SealFlags::SHRINK).unwrap();
        let [doorbell, wake] =
            [0, 0].map(|_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("eventfd"));
        let (control, theirs) = UnixStream::pair().unwrap();
        let directory = |path: &Path| open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let roots: Vec<(&str, OwnedFd)> = roots.iter().map(|(option, path)| (*option, directory(path))).collect();
        let mut passed = vec![
            ("--memory-fd", memory.as_raw_fd()),
            ("--doorbell-fd", doorbell.as_raw_fd()),
            ("--wake-fd", wake.as_raw_fd()),
            ("--control-fd", theirs.as_raw_fd()),
        ];
        passed.extend(roots.iter().map(|(option, fd)| (*option, fd.as_raw_fd())));
        let mut command = Command::new(env!("CARGO_BIN_EXE_kasoku-fsproxy"));
        command.args(passed.iter().flat_map(|(option, fd)| [option.to_string(), fd.to_string()]));
        let guard = SPAWN.lock().unwrap();
        let all = || [&memory, &doorbell, &wake].into_iter().chain(roots.iter().map(|(_, fd)| fd));
        all().for_each(|fd| fcntl_setfd(fd, FdFlags::empty()).unwrap());
        fcntl_setfd(&theirs, FdFlags::empty()).unwrap();
        let child = command.spawn().unwrap();
        all().for_each(|fd| fcntl_setfd(fd, FdFlags::CLOEXEC).unwrap());
        drop(theirs);
        drop(guard);
        Self { child, control, memory: memory.into(), doorbell, wake }
    }

    /// One round trip; None when the proxy has died of it.
    fn call(&self, request: Request, path: &[u8]) -> Option<(Reply, Vec<u8>)> {
        self.memory.write_all_at(path, DATA).unwrap();
        self.memory.write_all_at(request.as_bytes(), 0).unwrap();
        rustix::io::write(&self.doorbell, &1u64.to_ne_bytes()).unwrap();
        let mut fds = [PollFd::new(&self.wake, PollFlags::IN), PollFd::new(&self.control, PollFlags::empty())];
        poll(&mut fds, Some(&Timespec { tv_sec: 30, tv_nsec: 0 })).unwrap();
        if !fds[1].revents().is_empty() {
            return None;
        }
        rustix::io::read(&self.wake, &mut [0; 8]).unwrap();
        let mut reply = [0; size_of::<Reply>()];
        self.memory.read_exact_at(&mut reply, REPLY).unwrap();
        let reply = Reply::read_from_bytes(&reply).unwrap();
        let mut data = vec![0; reply.len as usize];
        self.memory.read_exact_at(&mut data, DATA).unwrap();
        Some((reply, data))
    }

    fn on(&self, operation: u32, path: &str) -> (Reply, Vec<u8>) {
        let request = Request { operation, path_len: path.len() as u32, ..Request::default() };
        self.call(request, path.as_bytes()).expect("the proxy is alive")
    }

    fn status(&self, operation: u32, path: &str) -> i32 {
        self.on(operation, path).0.status
    }

    fn stop(self) -> ExitStatus {
        let Self { mut child, control, .. } = self;
        drop(control);
        child.wait().unwrap()
    }
}

fn tree() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let root = std::env::temp_dir().join(format!("kasoku-fsproxy-test-{}-{number}", std::process::id()));
    std::fs::create_dir_all(root.join("served/sub")).unwrap();
    std::fs::write(root.join("secret"), "SECRET").unwrap();
    std::fs::write(root.join("served/file"), "contents").unwrap();
    symlink("../secret", root.join("served/out")).unwrap();
    symlink("/etc/passwd", root.join("served/absolute")).unwrap();
    symlink("sub", root.join("served/inside")).unwrap();
    std::fs::write(root.join("served/sub/deep"), "deep").unwrap();
    root
}

fn names(data: &[u8]) -> Vec<(String, u32)> {
    let mut names = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let (entry, after) = DirEntry::read_from_prefix(rest).unwrap();
        let name = &after[..entry.name_len as usize];
        names.push((String::from_utf8(name.to_vec()).unwrap(), entry.kind));
        rest = &rest[(16 + name.len()).next_multiple_of(8)..];
    }
    names.sort();
    names
}

#[test]
fn serves_files_directories_and_links() {
    let root = tree();
    let proxy = Proxy::start(&[("--root-fd", &root.join("served"))]);
    let (reply, _) = proxy.on(STAT, "file");
    assert_eq!((reply.status, reply.attributes.size, reply.attributes.mode & 0o170_000), (0, 8, 0o100_000));
    assert_eq!(proxy.on(STAT, "").0.attributes.mode & 0o170_000, 0o040_000);
    let (reply, data) = proxy.on(READ_DIR, "");
    let expected = [("absolute", 10), ("file", 8), ("inside", 10), ("out", 10), ("sub", 4)];
    assert_eq!(names(&data), expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert_eq!((reply.status, reply.value), (0, 0));
    assert_eq!(proxy.on(READ_LINK, "out").1, b"../secret");
    let (reply, _) = proxy.on(OPEN, "sub/deep");
    assert_eq!((reply.status, reply.attributes.size), (0, 4));
    let read = |offset, len| {
        let request = Request { operation: READ, handle: reply.value, offset, len, ..Request::default() };
        proxy.call(request, b"").unwrap()
    };
    assert_eq!(read(1, 100).1, b"eep");
    assert_eq!(read(4, 100).0.len, 0);
    let close = Request { operation: CLOSE, handle: reply.value, ..Request::default() };
    assert_eq!(proxy.call(close, b"").unwrap().0.status, 0);
    assert_eq!(read(0, 1).0.status, -libc::EBADF);
    assert!(proxy.stop().success());
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_fetch_brings_what_is_asked_next() {
    let root = tree();
    let proxy = Proxy::start(&[("--root-fd", &root.join("served"))]);
    let fetch = |path: &str, len| {
        let request = Request { operation: FETCH, path_len: path.len() as u32, len, ..Request::default() };
        proxy.call(request, path.as_bytes()).unwrap()
    };
    let (reply, data) = fetch("file", 8);
    assert_eq!((reply.status, reply.value, reply.attributes.size, data.as_slice()), (0, 0, 8, &b"contents"[..]));
    let (reply, data) = fetch("file", 0);
    assert_eq!(
        (reply.attributes.mode & libc::S_IFMT, reply.value, data.len()),
        (libc::S_IFREG, 0, 0),
        "nothing is opened"
    );
    let (reply, data) = fetch("file", 3);
    assert_eq!((reply.status, data.as_slice()), (0, &b"con"[..]));
    let rest = Request { operation: READ, handle: reply.value, offset: 3, len: 100, ..Request::default() };
    assert_eq!(proxy.call(rest, b"").unwrap().1, b"tents");
    assert_eq!(fetch("inside", 0).1, b"sub");
    let (reply, data) = fetch("sub", 100);
    assert_eq!((reply.status, reply.attributes.mode & 0o170_000, data.len()), (0, 0o040_000, 0));
    assert_eq!(fetch("file", u32::MAX).0.status, -libc::EINVAL);
    assert_eq!(fetch("missing", 1).0.status, -libc::ENOENT);
    assert!(proxy.stop().success());
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_listing_may_bring_attributes() {
    let root = tree();
    let proxy = Proxy::start(&[("--root-fd", &root.join("served"))]);
    let request = Request { operation: READ_DIR, flags: WITH_ATTRIBUTES, path_len: 3, ..Request::default() };
    let (reply, data) = proxy.call(request, b"sub").unwrap();
    assert_eq!((reply.status, reply.value), (0, 0));
    let (entry, rest) = DirEntry::read_from_prefix(&data).unwrap();
    let (attributes, name) = Attributes::read_from_prefix(rest).unwrap();
    assert_eq!((entry.name_len, entry.kind, attributes.size, &name[..4]), (4, 8, 4, &b"deep"[..]));
    assert_eq!(proxy.call(Request { flags: 2, ..request }, b"sub").unwrap().0.status, -libc::EINVAL);
    assert!(proxy.stop().success());
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn a_directory_too_large_for_one_reply_comes_in_parts() {
    let root = tree();
    let long = "x".repeat(240);
    for i in 0..6000 {
        std::fs::write(root.join(format!("served/sub/{long}{i}")), "").unwrap();
    }
    let proxy = Proxy::start(&[("--root-fd", &root.join("served"))]);
    let mut request = Request { operation: READ_DIR, path_len: 3, ..Request::default() };
    let (mut all, mut parts) = (Vec::new(), 0);
    loop {
        let (reply, data) = proxy.call(request, b"sub").unwrap();
        assert_eq!(reply.status, 0);
        all.extend(names(&data));
        parts += 1;
        request.offset = reply.value;
        if reply.value == 0 {
            break;
        }
    }
    all.sort();
    all.dedup();
    assert_eq!((all.len(), parts), (6001, 2));
    assert!(proxy.stop().success());
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn nothing_outside_the_root_can_be_named() {
    let root = tree();
    let proxy = Proxy::start(&[("--root-fd", &root.join("served"))]);
    for operation in [STAT, READ_DIR, READ_LINK, OPEN] {
        for path in ["..", "../secret", "sub/../../secret", "/etc/passwd", "./file", "sub//deep", "file\0", "sub/"] {
            assert_eq!(proxy.status(operation, path), -libc::EINVAL, "{operation} {path:?}");
        }
        // Links are read, never followed.
        assert_eq!(proxy.status(operation, "inside/deep"), -libc::ENOENT);
        assert!(proxy.status(operation, "file/x") < 0);
    }
    for link in ["out", "absolute", "inside"] {
        assert_eq!(proxy.status(OPEN, link), -libc::ELOOP);
        assert!(proxy.status(READ_DIR, link) < 0);
        assert_eq!(proxy.on(STAT, link).0.attributes.mode & 0o170_000, 0o120_000);
    }
    assert!(proxy.stop().success());
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn only_regular_files_open_and_only_for_reading() {
    let root = tree();
    let _listener = UnixListener::bind(root.join("served/socket")).unwrap();
    let fifo = std::ffi::CString::new(root.join("served/fifo").to_str().unwrap()).unwrap();
    // SAFETY: a NUL-terminated path and a mode.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    let proxy = Proxy::start(&[("--root-fd", &root.join("served"))]);
    assert_eq!(proxy.status(OPEN, "socket"), -libc::ENXIO);
    assert_eq!(proxy.status(OPEN, "fifo"), -libc::ENXIO);
    assert_eq!(proxy.status(OPEN, "sub"), -libc::EISDIR);
    for (flags, status) in [(1, -libc::EROFS), (2, -libc::EINVAL), (u32::MAX, -libc::EINVAL)] {
        let request = Request { operation: OPEN, path_len: 4, flags, ..Request::default() };
        assert_eq!(proxy.call(request, b"file").unwrap().0.status, status);
    }
    assert_eq!(std::fs::read(root.join("served/file")).unwrap(), b"contents");
    assert!(proxy.stop().success());
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn every_wrong_field_is_an_error_and_the_proxy_lives() {
    let root = tree();
    let proxy = Proxy::start(&[("--root-fd", &root.join("served"))]);
    let good = Request { operation: STAT, path_len: 4, ..Request::default() };
    let handle = proxy.on(OPEN, "file").0.value;
    let read = Request { operation: READ, handle, len: 8, ..Request::default() };
    let wrong = [
        (Request { operation: 0, ..good }, -libc::ENOSYS),
        (Request { operation: u32::MAX, ..good }, -libc::ENOSYS),
        (Request { root: 1, ..good }, -libc::ENODEV),
        (Request { root: u32::MAX, ..good }, -libc::ENODEV),
        (Request { path_len: PATH_MAX as u32, ..good }, -libc::ENAMETOOLONG),
        (Request { path_len: u32::MAX, ..good }, -libc::ENAMETOOLONG),
        (Request { operation: CLOSE, handle: u64::MAX, ..good }, -libc::EBADF),
        (Request { operation: READ_LINK, ..good }, -libc::EINVAL),
        (Request { operation: READ_DIR, ..good }, -libc::ENOTDIR),
        (Request { operation: READ_DIR, path_len: 0, offset: u64::MAX, ..good }, -libc::EINVAL),
        (Request { handle: 0, ..read }, -libc::EBADF),
        (Request { handle: handle + 1, ..read }, -libc::EBADF),
        (Request { handle: u64::MAX, ..read }, -libc::EBADF),
        (Request { offset: u64::MAX, ..read }, -libc::EINVAL),
        (Request { offset: 1 << 63, ..read }, -libc::EINVAL),
        (Request { len: DATA_LEN as u32 + 1, ..read }, -libc::EINVAL),
        (Request { len: u32::MAX, ..read }, -libc::EINVAL),
    ];
    for (request, status) in wrong {
        assert_eq!(proxy.call(request, b"file").unwrap().0.status, status, "{request:?}");
    }
    // Fields that an operation does not use may hold anything.
    let noise = Request { handle: u64::MAX, offset: u64::MAX, len: u32::MAX, flags: u32::MAX, mode: u32::MAX, ..good };
    assert_eq!(proxy.call(noise, b"file").unwrap().0.status, 0);
    assert_ne!(proxy.on(STAT, "file").0.attributes.as_bytes(), Attributes::new_zeroed().as_bytes());
    assert!(proxy.stop().success());
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn more_open_files_than_allowed_is_an_error() {
    let root = tree();
    let proxy = Proxy::start(&[("--root-fd", &root.join("served"))]);
    let opened = (0..1000).take_while(|_| proxy.status(OPEN, "file") == 0).count();
    assert_eq!(opened, 512);
    assert_eq!(proxy.status(OPEN, "file"), -libc::EMFILE);
    assert_eq!(proxy.status(STAT, "file"), 0);
    assert!(proxy.stop().success());
    std::fs::remove_dir_all(root).unwrap();
}

#[test]
fn the_system_root_hides_what_is_the_machines_own() {
    let proxy = Proxy::start(&[("--system-root-fd", Path::new("/"))]);
    assert_eq!(proxy.status(STAT, "etc/passwd"), 0);
    for path in ["etc/shadow", "proc/self/environ", "run/x"] {
        assert_eq!(proxy.status(STAT, path), -libc::ENOENT, "{path}");
        assert_eq!(proxy.status(OPEN, path), -libc::ENOENT, "{path}");
    }
    let (reply, data) = proxy.on(READ_DIR, "proc");
    assert_eq!((reply.status, data.len()), (0, 0));
    let (_, data) = proxy.on(READ_DIR, "etc");
    assert!(names(&data).iter().any(|(name, _)| name == "passwd"));
    assert!(!names(&data).iter().any(|(name, _)| name == "shadow"));
    assert!(proxy.stop().success());
}

#[test]
fn roots_keep_apart() {
    let root = tree();
    let (one, two) = (root.join("served"), root.join("served/sub"));
    let proxy = Proxy::start(&[("--root-fd", &one), ("--root-fd", &two)]);
    let second = Request { operation: STAT, root: 1, path_len: 4, ..Request::default() };
    assert_eq!(proxy.call(second, b"deep").unwrap().0.status, 0);
    assert_eq!(proxy.call(second, b"file").unwrap().0.status, -libc::ENOENT);
    assert!(proxy.stop().success());
    std::fs::remove_dir_all(root).unwrap();
}
