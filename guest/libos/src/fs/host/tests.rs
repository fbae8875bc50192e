use super::*;
use crate::fs::mount::{FsType, Mount};
use crate::fs::testing::Program;
use crate::fs::{Entry, union};
use crate::mm::frame::tests::test_memory;
use alloc::collections::BTreeMap;
use core::cell::Cell;
use wire::{DATA, DATA_LEN, REPLY, Reply, Request, WINDOW_LEN};
use zerocopy::{FromBytes, IntoBytes};

/// A proxy's answer to one request: its reply, and the data with it.
type Answer = fn(&Request, &[u8]) -> (Reply, Vec<u8>);

std::thread_local! {
    /// Requests by operation: a test runs on a thread of its own, and its proxy with it.
    static REQUESTS: [Cell<usize>; 8] = const { [const { Cell::new(0) }; 8] };
}

fn window(answer: Answer) -> Arc<Window> {
    test_memory();
    let memory = vec![0u8; WINDOW_LEN as usize].leak();
    let base = memory.as_mut_ptr() as usize;
    let call: Call = Box::new(move || {
        // SAFETY: the leaked window; the library OS waits while its proxy works.
        let memory = unsafe { core::slice::from_raw_parts_mut(base as *mut u8, WINDOW_LEN as usize) };
        let (request, _) = Request::read_from_prefix(memory).unwrap();
        let path = memory[DATA as usize..][..request.path_len as usize].to_vec();
        REQUESTS.with(|counts| counts[request.operation as usize].update(|count| count + 1));
        let (reply, data) = answer(&request, &path);
        memory[DATA as usize..][..data.len()].copy_from_slice(&data);
        memory[REPLY as usize..][..size_of::<Reply>()].copy_from_slice(reply.as_bytes());
        0
    });
    // SAFETY: the leaked memory has the length of a window, and only this window uses it.
    Arc::new(unsafe { Window::new(base as *mut u8, call) })
}

const CONTENTS: usize = 5_000_000;

fn attributes(path: &[u8]) -> Option<wire::Attributes> {
    let (mode, size) = match path {
        b"" | b"dir" => (0o40755, 4096),
        b"dir/big" => (0o100644, CONTENTS as u64),
        b"dir/small" => (0o100600, 5),
        b"dir/link" => (0o120777, 5),
        _ => return None,
    };
    let inode = path.len() as u64;
    Some(wire::Attributes { inode, size, mode, links: 1, device: 7, ..Default::default() })
}

fn contents(from: u64, len: u32) -> Vec<u8> {
    let end = CONTENTS.min(from as usize + len as usize);
    (from as usize..end).map(|i| (i % 251) as u8).collect()
}

fn honest(request: &Request, path: &[u8]) -> (Reply, Vec<u8>) {
    let missing = Reply { status: -2, ..Default::default() };
    let (value, data) = match request.operation {
        wire::FETCH if request.len == 0 && path == b"dir/link" => (0, b"small".to_vec()),
        wire::FETCH if request.len == 0 => (0, Vec::new()),
        wire::READ_DIR => {
            let mut data = Vec::new();
            let names: &[&[u8]] = if path == b"dir" { &[b"big", b"link", b"small"] } else { &[b"dir"] };
            for name in names {
                let full = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
                let entry = wire::DirEntry { inode: 1, kind: 0, name_len: name.len() as u32 };
                data.extend_from_slice(entry.as_bytes());
                data.extend_from_slice(attributes(&full).unwrap().as_bytes());
                data.extend_from_slice(name);
                data.resize(data.len().next_multiple_of(8), 0);
            }
            (0, data)
        }
        wire::READ_LINK => (0, b"small".to_vec()),
        wire::FETCH if path == b"dir/small" => (0, b"small".to_vec()),
        wire::FETCH => (9, contents(0, request.len)),
        wire::READ if request.handle == 9 => (0, contents(request.offset, request.len)),
        wire::CLOSE | wire::OPEN => (9, Vec::new()),
        _ => return (missing, Vec::new()),
    };
    let found = attributes(path);
    if found.is_none() && request.path_len > 0 {
        return (missing, Vec::new());
    }
    let reply = Reply { status: 0, len: data.len() as u32, value, attributes: found.unwrap_or_default() };
    (reply, data)
}

fn program(answer: Answer) -> Result<Program> {
    let root = HostFile::root(window(answer), 0)?;
    let node = union::root([root].into(), &Mount::new(FsType::Virtiofs, true, "host"))?;
    Ok(Program::new(Entry::root(node)))
}

#[test]
fn a_host_directory_is_read_once() {
    let program = program(honest).unwrap();
    assert_eq!(program.list("/dir").unwrap(), ["big", "link", "small"]);
    assert_eq!(program.read("/dir/link").unwrap(), b"small");
    let big = program.read("/dir/big").unwrap();
    assert_eq!(big, contents(0, CONTENTS as u32));
    let count = || REQUESTS.with(|counts| counts.each_ref().map(Cell::get));
    let before = count();
    for _ in 0..3 {
        assert!(program.read("/dir/big").is_ok());
        assert_eq!(program.find("/dir/nothing").err(), Some(Errno::ENOENT));
        assert!(program.find("/dir/small").is_ok());
    }
    assert_eq!(count(), before, "everything was known");
    assert_eq!(program.write("/dir/small", b"x").err(), Some(Errno::EROFS));
}

#[test]
fn a_proxy_that_lies_is_an_error() {
    let lie = |answer: Answer| program(answer).and_then(|program| program.list("/").map(|_| ())).err();
    // More data than the window has.
    assert_eq!(lie(|_, _| (Reply { len: DATA_LEN as u32 + 1, ..Default::default() }, Vec::new())), Some(Errno::EIO));
    // No errno at all, an impossible one, the smallest number.
    for (status, expected) in [(1, Errno::EIO), (-5000, Errno::EIO), (i32::MIN, Errno::EIO)] {
        let answer: Answer = match status {
            1 => |_, _| (Reply { status: 1, ..Default::default() }, Vec::new()),
            -5000 => |_, _| (Reply { status: -5000, ..Default::default() }, Vec::new()),
            _ => |_, _| (Reply { status: i32::MIN, ..Default::default() }, Vec::new()),
        };
        assert_eq!(lie(answer), Some(expected));
    }
    // A root that is a file, and one without a type.
    let typed = |mode| wire::Attributes { mode, ..Default::default() };
    assert_eq!(
        lie(|_, _| (
            Reply { attributes: wire::Attributes { mode: 0o100644, ..Default::default() }, ..Default::default() },
            Vec::new()
        )),
        Some(Errno::ENOTDIR)
    );
    assert!(translate(typed(0)).is_err());
}

#[test]
fn listings_that_do_not_add_up_are_refused_or_skipped() {
    let parse = |data: &[u8]| {
        let mut names = BTreeMap::new();
        window::parse_listing(data, |name, attributes| {
            names.insert(name, attributes);
        })
        .map(|()| names.len())
    };
    let record = |name: &[u8], name_len: u32| {
        let mut data = wire::DirEntry { inode: 1, kind: 0, name_len }.as_bytes().to_vec();
        data.extend_from_slice(attributes(b"").unwrap().as_bytes());
        data.extend_from_slice(name);
        data.resize(data.len().next_multiple_of(8), 0);
        data
    };
    assert_eq!(parse(&record(b"name", 4)), Ok(1));
    assert_eq!(parse(&record(b"name", 400)), Err(Errno::EIO));
    assert_eq!(parse(&record(b"name", u32::MAX)), Err(Errno::EIO));
    assert_eq!(parse(&record(b"name", 4)[..40]), Err(Errno::EIO));
    for bad in [&b"a/b"[..], b"..", b".", b"a\0b", b""] {
        assert_eq!(parse(&record(bad, bad.len() as u32)), Ok(0), "{bad:?}");
    }
}
