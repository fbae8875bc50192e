//! Requests made for doing harm. Whatever a guest asks, the proxy lives, tells nothing from outside its root and changes
//! nothing there.
use crate::random::{Random, fuzz};
use crate::{Proxy, tree};
use kasoku_abi::fs::{Request, STAT, STAT_HANDLE};
use std::time::Duration;

/// Requests of one case.
const REQUESTS: u64 = 2000;

fn name(random: &mut Random) -> &'static [u8] {
    random.pick(&[
        b"file",
        b"sub",
        b"deep",
        b"out",
        b"absolute",
        b"inside",
        b"a",
        b"b",
        b"c",
        b"..",
        b".",
        b"",
        b"\0",
        b"\xff",
        b"secret",
        &[b'x'; 256],
    ])
}

fn path(random: &mut Random) -> Vec<u8> {
    let parts: Vec<_> = (0..random.below(4)).map(|_| name(random)).collect();
    parts.join(&b'/')
}

fn request(random: &mut Random) -> (Request, Vec<u8>) {
    let first = if random.below(4) == 0 { Vec::new() } else { path(random) };
    let second = match random.below(3) {
        0 => Vec::new(),
        1 => path(random),
        _ => vec![7; random.below(64) as usize],
    };
    let mut request = Request {
        operation: random.below(u64::from(STAT_HANDLE) + 2) as u32,
        root: 0,
        handle: random.below(8),
        offset: random.below(100),
        len: second.len() as u32,
        path_len: first.len() as u32,
        flags: random.below(4) as u32,
        mode: random.next() as u32 & 0o17777,
    };
    match random.below(20) {
        0 => request.root = random.odd() as u32,
        1 => request.handle = random.odd(),
        2 => request.offset = random.odd(),
        3 => request.len = random.odd() as u32,
        4 => request.path_len = random.odd() as u32,
        5 => request.flags = random.odd() as u32,
        6 => request.operation = random.odd() as u32,
        _ => {}
    }
    (request, [first, second].concat())
}

#[test]
fn requests_of_every_kind() {
    fuzz(Duration::from_secs(6), &[], |random| {
        let root = tree();
        let option = random.pick(&["--root-fd", "--writable-root-fd"]);
        let proxy = Proxy::start(&[(option, &root.join("served"))]);
        for _ in 0..REQUESTS {
            let (request, data) = request(random);
            let (reply, data) = proxy.call(request, &data).unwrap_or_else(|| panic!("{request:?} ended the proxy"));
            assert!((-4095..=0).contains(&reply.status), "{request:?} gave {reply:?}");
            assert!(!data.windows(6).any(|bytes| bytes == b"SECRET"), "{request:?} told a secret");
        }
        assert_eq!(proxy.status(STAT, ""), 0);
        assert!(proxy.stop().success());
        let names: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(std::fs::read(root.join("secret")).unwrap(), b"SECRET");
        if option == "--root-fd" {
            assert_eq!(std::fs::read(root.join("served/file")).unwrap(), b"contents");
        }
        // Directories may have lost every permission.
        rustix::fs::chmod(root.join("served"), rustix::fs::Mode::from_raw_mode(0o700)).unwrap();
        let _ = std::process::Command::new("chmod").args(["-R", "u+rwx"]).arg(&root).status();
        std::fs::remove_dir_all(root).unwrap();
    });
}
