use super::*;
use crate::fs::testing::{Item, layer, layer_bytes, place};

fn sample() -> Vec<(&'static str, Item)> {
    let mut items = vec![
        ("bin", Item::Directory),
        ("bin/tool", Item::File(b"#!tool".repeat(3000))),
        ("bin/again", Item::Same("bin/tool")),
        ("empty", Item::File(Vec::new())),
        ("link", Item::Link("bin/tool")),
        ("many", Item::Directory),
    ];
    // Several blocks of entries.
    items.extend((0..600).map(|i| {
        let path: &'static str = Box::leak(format!("many/file-number-{i:04}").into_boxed_str());
        (path, Item::File(Vec::new()))
    }));
    items
}

fn find(directory: &Arc<dyn Lower>, name: &str) -> Arc<dyn Lower> {
    directory.find(name.as_bytes()).unwrap().unwrap()
}

#[test]
fn files_are_found_and_their_data_is_where_it_lies() {
    let root = layer(&sample()).root().unwrap();
    let tool = find(&find(&root, "bin"), "tool");
    let attributes = tool.attributes().unwrap();
    assert_eq!((attributes.kind, attributes.size, attributes.links), (Kind::Regular, 18000, 2));
    assert_eq!(find(&find(&root, "bin"), "again").attributes().unwrap().inode, attributes.inode);
    let Bytes::Fixed { at, len, tail: None } = tool.bytes().unwrap() else { panic!("layers are in memory") };
    assert_eq!((at.0 % BLOCK, len), (0, 18000));
    assert_eq!(&*find(&root, "link").read_link().unwrap(), b"bin/tool");
    assert_eq!(find(&root, "empty").attributes().unwrap().size, 0);
    assert!(root.find(b"nothing").unwrap().is_none());
    assert!(tool.find(b"x").is_err());
}

#[test]
fn directories_of_many_blocks_are_searched_and_listed() {
    let many = find(&layer(&sample()).root().unwrap(), "many");
    let names = many.list().unwrap();
    assert_eq!(names.len(), 600);
    assert!(names.is_sorted_by_key(|listed| listed.name.clone()));
    for listed in &names {
        assert_eq!(many.find(&listed.name).unwrap().unwrap().attributes().unwrap().inode, listed.inode);
    }
    assert!(many.find(b"file-number-0600").unwrap().is_none());
    assert!(many.find(b"a").unwrap().is_none());
    assert!(many.find(b"z").unwrap().is_none());
}

#[test]
fn what_is_no_layer_is_refused_by_name() {
    let open = |change: fn(&mut Vec<u8>)| {
        let mut bytes = layer_bytes(&[]);
        change(&mut bytes);
        let (bytes, at) = place(&bytes);
        Image::open(bytes, at, 0).err().expect("refused")
    };
    assert!(open(|bytes| bytes.truncate(1100)).contains("short"));
    assert!(open(|bytes| bytes[1024] = 0).contains("not an EROFS"));
    assert!(open(|bytes| bytes[1036] = 9).contains("blocks"));
    assert!(open(|bytes| bytes[1104] = 4).contains("features"));
    assert!(open(|bytes| bytes[1038] = 255).contains("root"));
}

/// Looks at everything below a directory, errors and all; a corrupt layer may lead in circles.
fn visit(file: &Arc<dyn Lower>, budget: &mut usize) {
    if *budget == 0 {
        return;
    }
    *budget -= 1;
    let _ = file.read_link();
    if let Ok(Bytes::Fixed { at, len, tail }) = file.bytes() {
        // What is promised is there: the last byte can be read.
        if let Some(last) = len.checked_sub(tail.map_or(0, |tail| tail.len() as u64) + 1) {
            // SAFETY: the layer promised these bytes.
            let _ = unsafe { crate::mm::frame::memory().pointer(Gpa(at.0 + last)).read() };
        }
    }
    for listed in file.list().unwrap_or_default() {
        if let Ok(Some(found)) = file.find(&listed.name) {
            visit(&found, budget);
        }
    }
}

#[test]
fn a_corrupt_layer_gives_errors_and_no_panic() {
    let sound = layer_bytes(&sample()[..12]);
    let (bytes, at) = place(&sound);
    // A generator of its own, so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..4000 {
        let flips: Vec<(usize, u8)> = (0..1 + random() % 4)
            .map(|_| {
                // Superblock, inodes and directories, rather than the contents of files.
                let from = if random() % 8 == 0 { 1024 } else { 4096 };
                (from + random() as usize % 2048.min(sound.len() - from), random() as u8)
            })
            .collect();
        let mut corrupt = sound.clone();
        for (index, value) in &flips {
            corrupt[*index] ^= value;
        }
        // SAFETY: the large page of this test's layer; nobody else reads it.
        unsafe { core::ptr::copy_nonoverlapping(corrupt.as_ptr(), bytes.as_ptr().cast_mut(), corrupt.len()) };
        if let Ok(image) = Image::open(bytes, at, 0)
            && let Ok(root) = image.root()
        {
            visit(&root, &mut 200);
        }
    }
}
