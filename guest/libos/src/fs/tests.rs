//! The tree as programs use it.
use super::testing::*;
use super::*;
use crate::errno::{Errno, Result};
use crate::mm::source::Page;
use linux_raw_sys::general::*;

fn file(text: &str) -> Item {
    Item::File(text.as_bytes().to_vec())
}

/// Two layers: the upper one hides, replaces and adds.
fn layered() -> Program {
    let lower = layer(&[
        ("etc", Item::Directory),
        ("etc/gone", file("gone")),
        ("etc/kept", file("kept")),
        ("etc/replaced", file("old")),
        ("opaque", Item::Directory),
        ("opaque/below", file("below")),
        ("tree", Item::Directory),
        ("tree/leaf", file("leaf")),
        ("was-a-tree", Item::Directory),
        ("was-a-tree/x", file("x")),
    ]);
    let upper = layer(&[
        ("etc", Item::Directory),
        ("etc/.wh.gone", file("")),
        ("etc/replaced", file("new")),
        ("opaque", Item::Directory),
        ("opaque/.wh..wh..opq", file("")),
        ("opaque/above", file("above")),
        ("was-a-tree", file("a file now")),
    ]);
    Program::new(tree(&[lower, upper]))
}

#[test]
fn layers_hide_replace_and_add() {
    let program = layered();
    assert_eq!(program.read("/etc/kept").unwrap(), b"kept");
    assert_eq!(program.read("/etc/replaced").unwrap(), b"new");
    assert_eq!(program.find("/etc/gone").err(), Some(Errno::ENOENT));
    assert_eq!(program.find("/etc/.wh.gone").err(), Some(Errno::ENOENT));
    assert_eq!(program.list("/etc").unwrap(), ["kept", "replaced"]);
    assert_eq!(program.list("/opaque").unwrap(), ["above"]);
    assert_eq!(program.find("/opaque/below").err(), Some(Errno::ENOENT));
    assert_eq!(program.read("/was-a-tree").unwrap(), b"a file now");
    assert_eq!(program.find("/was-a-tree/x").err(), Some(Errno::ENOTDIR));
}

#[test]
fn layers_never_change() {
    let program = layered();
    program.unlink("/etc/kept").unwrap();
    assert_eq!(program.find("/etc/kept").err(), Some(Errno::ENOENT));
    program.write("/etc/kept", b"mine").unwrap();
    assert_eq!(program.read("/etc/kept").unwrap(), b"mine");
    assert_eq!(program.list("/etc").unwrap(), ["kept", "replaced"]);
    assert_eq!(program.rmdir("/tree").err(), Some(Errno::ENOTEMPTY));
    program.unlink("/tree/leaf").unwrap();
    program.rmdir("/tree").unwrap();
    program.mkdir("/tree").unwrap();
    assert!(program.list("/tree").unwrap().is_empty(), "a new directory shows nothing of the removed one");
    program.rename("/opaque", "/moved", 0).unwrap();
    assert_eq!(program.read("/moved/above").unwrap(), b"above");
    assert_eq!(program.find("/opaque").err(), Some(Errno::ENOENT));
}

#[test]
fn writing_copies_up_one_page() {
    let contents: Vec<u8> = (0..20_000u32).map(|i| (i / 4096) as u8 + b'a').collect();
    let program = Program::new(tree(&[layer(&[("data", Item::File(contents.clone()))])]));
    let open = program.open("/data", O_RDWR).unwrap();
    let source = open.file().map_source(true).unwrap();
    let Page::Fixed(first) = source.page(0, false).unwrap() else { panic!("the layer's own page") };
    assert_eq!(source.run(0, false), Some((first, 5)));
    write_at(&open, 5000, b"XYZ").unwrap();
    let mut expected = contents.clone();
    expected[5000..5003].copy_from_slice(b"XYZ");
    assert_eq!(program.read("/data").unwrap(), expected);
    assert_eq!(source.run(0, false), Some((first, 1)));
    assert_eq!(source.run(1, false), None);
    let Page::Frame(frame) = source.page(1, false).unwrap() else { panic!("a page of the file's own") };
    frame.write(0, b"by mapping");
    assert_eq!(read_at(&open, 4096, 10).unwrap(), b"by mapping");
    assert!(source.page(5, false).is_err(), "beyond the end");
}

#[test]
fn truncation_forgets_what_was_beyond() {
    let program = Program::new(tree(&[layer(&[("data", Item::File(vec![7; 10_000]))])]));
    let open = program.open("/data", O_RDWR).unwrap();
    open.file().truncate(5000).unwrap();
    open.file().truncate(9000).unwrap();
    let bytes = program.read("/data").unwrap();
    assert_eq!(bytes.len(), 9000);
    assert!(bytes[..5000].iter().all(|byte| *byte == 7) && bytes[5000..].iter().all(|byte| *byte == 0));
    assert_eq!(program.open("/data", O_WRONLY | O_TRUNC).unwrap().file().stat().unwrap().size, 0);
}

#[test]
fn sparse_files_have_holes() {
    let program = Program::new(tree(&[]));
    let open = program.open("/sparse", O_CREAT | O_RDWR).unwrap();
    write_at(&open, 1 << 40, b"far").unwrap();
    let stat = open.file().stat().unwrap();
    assert_eq!((stat.size, stat.blocks), ((1 << 40) + 3, 8));
    assert_eq!(open.seek(0, SEEK_DATA), Ok(1 << 40));
    assert_eq!(open.seek(0, SEEK_HOLE), Ok(0));
    assert_eq!(open.seek(1 << 40, SEEK_HOLE), Ok((1 << 40) + 3));
    assert_eq!(open.seek(1 << 41, SEEK_DATA), Err(Errno::ENXIO));
    assert_eq!(read_at(&open, 12345, 3).unwrap(), [0; 3]);
    assert_eq!(write_at(&open, i64::MAX as u64, b"x"), Err(Errno::EFBIG));
}

#[test]
fn an_unlinked_file_lives_while_it_is_open() {
    let program = Program::new(tree(&[]));
    program.write("/file", b"contents").unwrap();
    let open = program.open("/file", O_RDWR).unwrap();
    program.link("/file", "/other").unwrap();
    program.unlink("/file").unwrap();
    program.unlink("/other").unwrap();
    assert_eq!(read_at(&open, 0, 100).unwrap(), b"contents");
    assert_eq!(open.file().stat().unwrap().links, 0);
    assert_eq!(open.file().path(), b"/file (deleted)");
}

#[test]
fn a_hundred_thousand_entries_and_a_listing_that_goes_on() -> Result<()> {
    let program = Program::new(tree(&[]));
    // Links: tests have 64 MiB for everything.
    program.write("/one", b"")?;
    program.mkdir("/many")?;
    for i in 0..100_000 {
        program.link("/one", &format!("/many/{i:06}"))?;
    }
    let open = program.open("/many", O_RDONLY)?;
    let mut names = Vec::new();
    let mut position = list_from(open.file(), 0, 50_000, &mut names)?;
    // What was listed goes, something new comes: the rest is listed all the same, once each.
    for i in 0..40_000 {
        program.unlink(&format!("/many/{i:06}"))?;
    }
    program.write("/many/new", b"")?;
    loop {
        let before = names.len();
        position = list_from(open.file(), position, 1000, &mut names)?;
        if names.len() == before {
            break;
        }
    }
    assert_eq!(names.len(), 2 + 100_000 + 1);
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
    Ok(())
}

#[test]
fn renames_replace_exchange_and_refuse() {
    let program = Program::new(tree(&[]));
    program.mkdir("/a").unwrap();
    program.mkdir("/a/b").unwrap();
    program.write("/f", b"f").unwrap();
    program.write("/g", b"g").unwrap();
    assert_eq!(program.rename("/a", "/a/b/c", 0), Err(Errno::EINVAL));
    assert_eq!(program.rename("/a/b", "/a", 0), Err(Errno::ENOTEMPTY));
    assert_eq!(program.rename("/f", "/a", 0), Err(Errno::EISDIR));
    assert_eq!(program.rename("/a", "/f", 0), Err(Errno::ENOTDIR));
    assert_eq!(program.rename("/f", "/g", RENAME_NOREPLACE), Err(Errno::EEXIST));
    program.rename("/f", "/a/b", RENAME_EXCHANGE).unwrap();
    assert_eq!(program.read("/a/b").unwrap(), b"f");
    assert_eq!(program.find("/f").unwrap().node.kind, Kind::Directory);
    program.rename("/g", "/a/b", 0).unwrap();
    assert_eq!(program.read("/a/b").unwrap(), b"g");
    assert_eq!(program.list("/").unwrap(), ["a", "f"]);
}

#[test]
fn links_are_followed_but_not_for_ever() {
    let program = Program::new(tree(&[]));
    program.mkdir("/d").unwrap();
    program.write("/d/f", b"f").unwrap();
    program.symlink("d", "/l").unwrap();
    program.symlink("../d/./f", "/d/up").unwrap();
    program.symlink("loop", "/loop").unwrap();
    assert_eq!(program.read("/l/up").unwrap(), b"f");
    assert_eq!(program.read("/loop").err(), Some(Errno::ELOOP));
    assert_eq!(program.open("/l", O_NOFOLLOW).err(), Some(Errno::ELOOP));
    assert_eq!(program.open("/l", O_NOFOLLOW | O_DIRECTORY).err(), Some(Errno::ENOTDIR));
    program.symlink("d/made", "/dangling").unwrap();
    program.open("/dangling", O_CREAT | O_WRONLY).unwrap();
    assert!(program.find("/d/made").is_ok());
    assert_eq!(program.read("/../../d/../l/f").unwrap(), b"f");
    assert_eq!(program.find("/d/f/").err(), Some(Errno::ENOTDIR));
    assert_eq!(program.find(&format!("/{}", "x".repeat(256))).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(program.find(&"/x".repeat(2048)).err(), Some(Errno::ENAMETOOLONG));
}

#[test]
fn modes_count_for_everybody_but_root() {
    let mut program = Program::new(tree(&[]));
    program.write("/secret", b"s").unwrap();
    program.find("/secret").unwrap().node.meta().permissions = 0o600;
    program.mkdir("/sticky").unwrap();
    program.find("/sticky").unwrap().node.meta().permissions = 0o1777;
    program.write("/sticky/roots", b"").unwrap();
    program.caller = Caller { uid: 1000, gid: 1000, groups: [50].into() };
    assert_eq!(program.open("/secret", O_RDONLY).err(), Some(Errno::EACCES));
    assert_eq!(program.write("/new", b"").err(), Some(Errno::EACCES));
    assert_eq!(program.unlink("/sticky/roots"), Err(Errno::EPERM));
    program.write("/sticky/mine", b"").unwrap();
    program.unlink("/sticky/mine").unwrap();
    program.find("/secret").unwrap().node.meta().gid = 50;
    program.find("/secret").unwrap().node.meta().permissions = 0o640;
    assert!(program.open("/secret", O_RDONLY).is_ok());
    assert_eq!(program.open("/secret", O_RDWR).err(), Some(Errno::EACCES));
}

#[test]
fn a_nameless_file_may_get_a_name() {
    let program = Program::new(tree(&[]));
    let open = program.open("/", O_TMPFILE | O_RDWR).unwrap();
    write_at(&open, 0, b"now seen").unwrap();
    let entry = open.file().downcast::<opened::TreeFile>().unwrap().entry().clone();
    let mut walk = Walk::new(&program.root, &program.caller);
    let parent = walk.parent(&program.root, b"/named").unwrap();
    ops::make::link(&mut walk, &entry, &parent).unwrap();
    assert_eq!(program.read("/named").unwrap(), b"now seen");
    assert!(program.list("/").unwrap() == ["named"]);
}

#[test]
fn seals_hold() {
    let data = data::Data::empty(0);
    data.write_from(0, b"sealed").unwrap();
    data.add_seals(F_SEAL_SHRINK | F_SEAL_WRITE).unwrap();
    assert_eq!(data.truncate(3), Err(Errno::EPERM));
    assert_eq!(data.write_from(0, b"x"), Err(Errno::EPERM));
    data.truncate(100).unwrap();
    data.add_seals(F_SEAL_SEAL).unwrap();
    assert_eq!(data.add_seals(F_SEAL_GROW), Err(Errno::EPERM));
}
