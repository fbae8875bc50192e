//! Roots that the guest may change: what it can do there, and that it can do nothing anywhere else.
use crate::{Proxy, tree};
use kasoku_abi::fs::{
    APPEND, CREATE, FOR_EVER, FOR_WRITING, LINK, MAKE_DIR, NAMELESS, OPEN, READ, REMOVE_DIR, RENAME, Reply, Request,
    SET_MODE, SET_TIMES, STAT, STAT_HANDLE, SYMLINK, SYNC, TRUNCATE, Times, UNLINK, WRITE,
};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use zerocopy::IntoBytes;

/// Operations that change what `path` names, each with bytes behind the path that would do.
pub const CHANGES: [(u32, &[u8]); 10] = [
    (CREATE, b""),
    (TRUNCATE, b""),
    (MAKE_DIR, b""),
    (UNLINK, b""),
    (REMOVE_DIR, b""),
    (RENAME, b"elsewhere"),
    (LINK, b"elsewhere"),
    (SYMLINK, b"target"),
    (SET_MODE, b""),
    (SET_TIMES, &[0; 32]),
];

impl Proxy {
    fn change(&self, request: Request, path: &[u8], more: &[u8]) -> Reply {
        let request = Request { path_len: path.len() as u32, len: more.len() as u32, ..request };
        self.call(request, &[path, more].concat()).expect("the proxy is alive").0
    }

    fn ask(&self, operation: u32, path: &str, more: &[u8]) -> i32 {
        self.change(Request { operation, mode: 0o640, ..Request::default() }, path.as_bytes(), more).status
    }
}

fn writable() -> (PathBuf, Proxy) {
    let root = tree();
    let proxy = Proxy::start(&[("--writable-root-fd", &root.join("served"))]);
    (root, proxy)
}

fn end(root: &Path, proxy: Proxy) {
    assert!(proxy.stop().success());
    std::fs::remove_dir_all(root).unwrap();
}

/// Names, types, modes and contents of everything but what is served.
fn outside(root: &Path) -> Vec<String> {
    let mut seen: Vec<String> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let of = path.symlink_metadata().unwrap();
            let contents = if of.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            format!("{path:?} {:o} {} {contents:?}", of.mode(), of.nlink())
        })
        .filter(|line| !line.contains("served"))
        .collect();
    seen.sort();
    seen
}

#[test]
fn files_are_made_written_and_removed() {
    let (root, proxy) = writable();
    let served = root.join("served");
    let made = proxy.change(Request { operation: CREATE, mode: 0o6755, ..Request::default() }, b"new", b"");
    assert_eq!((made.status, made.attributes.mode), (0, 0o100755), "no set-id bits, and no umask of the proxy's");
    let on = |operation| Request { operation, handle: made.value, ..Request::default() };
    assert_eq!(proxy.change(on(WRITE), b"", b"hello").value, 5);
    assert_eq!(proxy.change(Request { offset: 1, ..on(WRITE) }, b"", b"u").attributes.size, 5);
    assert_eq!(std::fs::read(served.join("new")).unwrap(), b"hullo");
    std::fs::write(served.join("new"), "longer than before").unwrap();
    let appended = proxy.change(Request { flags: APPEND, ..on(WRITE) }, b"", b"!");
    assert_eq!((appended.value, appended.attributes.size), (1, 19));
    assert_eq!(proxy.change(Request { offset: 6, ..on(TRUNCATE) }, b"", b"").attributes.size, 6);
    assert_eq!(proxy.change(on(SYNC), b"", b"").status, 0);
    assert_eq!(proxy.change(on(STAT_HANDLE), b"", b"").attributes.size, 6);
    assert_eq!(proxy.call(Request { len: 9, ..on(READ) }, b"").unwrap().1, b"longer");
    assert_eq!(proxy.ask(CREATE, "new", b""), -libc::EEXIST);
    assert_eq!(proxy.ask(MAKE_DIR, "dir", b""), 0);
    assert_eq!(served.join("dir").metadata().unwrap().mode(), 0o040640);
    assert_eq!(proxy.ask(RENAME, "new", b"dir/moved"), 0);
    assert_eq!(proxy.ask(LINK, "dir/moved", b"again"), 0);
    assert_eq!(served.join("again").metadata().unwrap().nlink(), 2);
    assert_eq!(proxy.ask(SYMLINK, "link", b"../secret"), 0);
    assert_eq!(std::fs::read_link(served.join("link")).unwrap(), Path::new("../secret"));
    assert_eq!(proxy.ask(SET_MODE, "again", b""), 0);
    assert_eq!(served.join("again").metadata().unwrap().mode(), 0o100640);
    let times = Times { accessed_s: 5, accessed_ns: 6, modified_s: 7, modified_ns: 8 };
    assert_eq!(proxy.ask(SET_TIMES, "again", times.as_bytes()), 0);
    let of = served.join("again").metadata().unwrap();
    assert_eq!((of.atime(), of.atime_nsec(), of.mtime(), of.mtime_nsec()), (5, 6, 7, 8));
    assert_eq!(proxy.ask(REMOVE_DIR, "dir", b""), -libc::ENOTEMPTY);
    assert_eq!(proxy.ask(UNLINK, "dir", b""), -libc::EISDIR);
    assert_eq!(proxy.ask(UNLINK, "dir/moved", b""), 0);
    assert_eq!(proxy.ask(REMOVE_DIR, "dir", b""), 0);
    assert_eq!(proxy.ask(TRUNCATE, "again", b""), 0);
    assert_eq!(served.join("again").metadata().unwrap().size(), 0);
    let flags = |flags| Request { operation: RENAME, flags, ..Request::default() };
    assert_eq!(proxy.change(flags(1), b"again", b"file").status, -libc::EEXIST);
    assert_eq!(proxy.change(flags(2), b"again", b"file").status, 0);
    assert_eq!(std::fs::read(served.join("again")).unwrap(), b"contents");
    assert_eq!(proxy.change(flags(4), b"again", b"file").status, -libc::EINVAL);
    end(&root, proxy);
}

#[test]
fn a_root_for_reading_refuses_every_change() {
    let root = tree();
    let proxy = Proxy::start(&[("--root-fd", &root.join("served")), ("--writable-root-fd", &root.join("served/sub"))]);
    for (operation, more) in CHANGES {
        for path in ["file", "sub", "new"] {
            assert_eq!(proxy.ask(operation, path, more), -libc::EROFS, "{operation} {path}");
        }
    }
    let open = Request { operation: OPEN, flags: FOR_WRITING, ..Request::default() };
    assert_eq!(proxy.change(open, b"file", b"").status, -libc::EROFS);
    // A handle for reading does not write, in either root.
    for (root, path) in [(0, "file"), (1, "deep")] {
        let open = Request { operation: OPEN, root, ..Request::default() };
        let handle = proxy.change(open, path.as_bytes(), b"").value;
        let on = |operation| Request { operation, handle, root: 1, ..Request::default() };
        let refused = [proxy.change(on(WRITE), b"", b"x").status, proxy.change(on(TRUNCATE), b"", b"").status];
        assert_eq!(refused, if root == 0 { [-libc::EROFS; 2] } else { [-libc::EBADF, -libc::EINVAL] });
        assert_eq!(proxy.change(on(SYNC), b"", b"").status, if root == 0 { -libc::EROFS } else { 0 });
    }
    end(&root, proxy);
}

#[test]
fn an_open_file_is_changed_by_its_handle_whatever_its_name() {
    let (root, proxy) = writable();
    let served = root.join("served");
    let make = |flags, path: &[u8]| {
        let request = Request { operation: CREATE, mode: 0o600, flags, ..Request::default() };
        proxy.change(request, path, b"")
    };
    let made = make(NAMELESS, b"sub");
    assert_eq!((made.status, made.attributes.mode, made.attributes.links), (0, 0o100600, 0));
    let on = |operation| Request { operation, handle: made.value, mode: 0o640, ..Request::default() };
    assert_eq!(proxy.change(on(WRITE), b"", b"hello").value, 5);
    assert_eq!(proxy.change(on(SET_MODE), b"", b"").status, 0);
    assert_eq!(proxy.change(Request { mode: 0o4640, ..on(SET_MODE) }, b"", b"").status, -libc::EPERM);
    let times = Times { accessed_s: 5, accessed_ns: 6, modified_s: 7, modified_ns: 8 };
    assert_eq!(proxy.change(on(SET_TIMES), b"", times.as_bytes()).status, 0);
    assert_eq!(proxy.change(on(SET_TIMES), b"", b"short").status, -libc::EINVAL);
    for bad in ["../named", "file", "sub/../named", "/named", "out/named", ""] {
        assert!(proxy.change(on(LINK), b"", bad.as_bytes()).status < 0, "{bad:?}");
    }
    assert_eq!(proxy.change(on(LINK), b"file", b"named").status, -libc::EINVAL);
    assert_eq!(proxy.change(on(LINK), b"", b"named").status, 0);
    let of = served.join("named").metadata().unwrap();
    assert_eq!((of.mode(), of.atime(), of.mtime_nsec(), of.nlink()), (0o100640, 5, 8, 1));
    assert_eq!(std::fs::read(served.join("named")).unwrap(), b"hello");

    let hidden = make(NAMELESS | FOR_EVER, b"");
    assert_eq!(hidden.status, 0);
    let link = Request { operation: LINK, handle: hidden.value, ..Request::default() };
    assert_eq!(proxy.change(link, b"", b"never").status, -libc::ENOENT);
    assert_eq!(make(FOR_EVER, b"sub").status, -libc::EINVAL);
    assert_eq!(make(NAMELESS, b"file").status, -libc::ENOTDIR);
    assert!(make(NAMELESS, b"..").status < 0);
    for operation in [SET_MODE, SET_TIMES, LINK] {
        let unknown = Request { operation, handle: 99, ..Request::default() };
        assert_eq!(proxy.change(unknown, b"", times.as_bytes()).status, -libc::EBADF);
    }
    end(&root, proxy);
}

#[test]
fn without_a_root_for_changes_none_is_tried() {
    let root = tree();
    let proxy = Proxy::start(&[("--root-fd", &root.join("served"))]);
    let handle = proxy.change(Request { operation: OPEN, ..Request::default() }, b"file", b"").value;
    for operation in [WRITE, TRUNCATE, SYNC, SET_MODE, SET_TIMES, LINK] {
        let request = Request { operation, handle, ..Request::default() };
        assert_eq!(proxy.change(request, b"", b"").status, -libc::EROFS);
    }
    for (operation, more) in CHANGES {
        assert_eq!(proxy.ask(operation, "file", more), -libc::EROFS, "{operation}");
    }
    end(&root, proxy);
}

#[test]
fn nothing_outside_the_root_can_be_changed() {
    let (root, proxy) = writable();
    symlink("..", root.join("served/up")).unwrap();
    symlink(&root, root.join("served/top")).unwrap();
    let before = outside(&root);
    let long = "x".repeat(256);
    let hostile = [
        "..",
        "../secret",
        "../new",
        "sub/../../secret",
        "/etc/passwd",
        "./file",
        "sub//deep",
        "file\0",
        "sub/",
        ".",
        "up/secret",
        "up/new",
        "top/secret",
        "top/new",
        "out/new",
        "absolute/new",
        &long,
    ];
    for (operation, more) in CHANGES {
        for path in hostile {
            assert!(proxy.ask(operation, path, more) < 0, "{operation} {path:?}");
            if matches!(operation, RENAME | LINK) {
                assert!(proxy.ask(operation, "file", path.as_bytes()) < 0, "{operation} to {path:?}");
            }
        }
        // The root itself, and links: they are what is changed, not what they lead to.
        assert!(operation == SET_MODE || proxy.ask(operation, "", more) < 0, "{operation}");
    }
    for operation in [TRUNCATE, SET_MODE] {
        assert!(proxy.ask(operation, "out", b"") < 0);
    }
    assert_eq!(proxy.ask(LINK, "out", b"out2"), 0);
    assert_eq!(std::fs::read_link(root.join("served/out2")).unwrap(), Path::new("../secret"));
    assert_eq!(proxy.ask(UNLINK, "out", b""), 0);
    for bytes in [&b""[..], b"a\0b"] {
        assert!(proxy.ask(SYMLINK, "bad", bytes) < 0);
    }
    assert_eq!(outside(&root), before);
    end(&root, proxy);
}

#[test]
fn links_that_come_and_go_lead_nowhere() {
    let (root, proxy) = writable();
    let (inside, aside) = (root.join("served/flip"), root.join("served/aside"));
    std::fs::create_dir(&inside).unwrap();
    let target = root.join("target");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("victim"), "victim").unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                std::fs::rename(&inside, &aside).unwrap();
                symlink(&target, &inside).unwrap();
                std::fs::remove_file(&inside).unwrap();
                std::fs::rename(&aside, &inside).unwrap();
            }
        });
        for i in 0..3000 {
            for operation in [CREATE, MAKE_DIR, UNLINK, TRUNCATE, SET_MODE] {
                let path = if i % 2 == 0 { "flip/victim" } else { "flip/new" };
                let reply =
                    proxy.change(Request { operation, mode: 0o600, ..Request::default() }, path.as_bytes(), b"");
                if reply.value != 0 {
                    let close = Request { operation: kasoku_abi::fs::CLOSE, handle: reply.value, ..Request::default() };
                    proxy.change(close, b"", b"");
                }
            }
        }
        stop.store(true, Relaxed);
    });
    let left: Vec<_> = std::fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["victim"]);
    assert_eq!(std::fs::read(target.join("victim")).unwrap(), b"victim");
    assert_ne!(target.join("victim").metadata().unwrap().mode() & 0o777, 0o600);
    end(&root, proxy);
}

#[test]
fn only_regular_files_are_written_and_never_as_somebody_else() {
    let (root, proxy) = writable();
    let served = root.join("served");
    let fifo = std::ffi::CString::new(served.join("fifo").to_str().unwrap()).unwrap();
    let device = std::ffi::CString::new(served.join("device").to_str().unwrap()).unwrap();
    // SAFETY: NUL-terminated paths, plain numbers. The device (null) needs root; without, the name is not there.
    unsafe {
        assert_eq!(libc::mkfifo(fifo.as_ptr(), 0o600), 0);
        libc::mknod(device.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3));
    }
    std::fs::set_permissions(served.join("file"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    let open = Request { operation: OPEN, flags: FOR_WRITING, ..Request::default() };
    assert_eq!(proxy.change(open, b"fifo", b"").status, -libc::ENXIO);
    assert!([-libc::ENXIO, -libc::ENOENT].contains(&proxy.change(open, b"device", b"").status));
    assert_eq!(proxy.change(open, b"sub", b"").status, -libc::EISDIR);
    assert_eq!(proxy.change(open, b"out", b"").status, -libc::ELOOP);
    assert_eq!(proxy.change(open, b"file", b"").status, -libc::EPERM);
    for name in ["fifo", "device", "file"] {
        assert!(proxy.ask(TRUNCATE, name, b"") < 0, "{name}");
    }
    let set = |path: &str, mode| {
        proxy.change(Request { operation: SET_MODE, mode, ..Request::default() }, path.as_bytes(), b"").status
    };
    assert_eq!([set("sub/deep", 0o4755), set("sub", 0o2755), set("sub", 0o10000)], [-1, -1, -22]);
    assert_eq!(set("fifo", 0o600), -libc::EPERM);
    assert_eq!(std::fs::read(served.join("file")).unwrap(), b"contents");
    end(&root, proxy);
}

#[test]
fn magic_links_are_not_followed() {
    let proxy = Proxy::start(&[("--writable-root-fd", Path::new("/proc/self"))]);
    for path in ["cwd/new", "root/tmp/new", "fd/0", "exe"] {
        // The link's own times are nobody's business.
        for (operation, more) in CHANGES.into_iter().filter(|(operation, _)| *operation != SET_TIMES) {
            assert!(proxy.ask(operation, path, more) < 0, "{operation} {path}");
        }
        let open = Request { operation: OPEN, flags: FOR_WRITING, ..Request::default() };
        assert!(proxy.change(open, path.as_bytes(), b"").status < 0);
    }
    assert_eq!(proxy.status(STAT, "status"), 0);
    assert!(proxy.stop().success());
}

#[test]
fn a_rename_stays_in_its_root() {
    let root = tree();
    let (one, two) = (root.join("served"), root.join("served/sub"));
    let proxy = Proxy::start(&[("--writable-root-fd", &one), ("--writable-root-fd", &two)]);
    let rename = Request { operation: RENAME, root: 1, ..Request::default() };
    assert_eq!(proxy.change(rename, b"deep", b"file").status, 0);
    assert_eq!(std::fs::read(two.join("file")).unwrap(), b"deep");
    assert_eq!(std::fs::read(one.join("file")).unwrap(), b"contents");
    end(&root, proxy);
}
