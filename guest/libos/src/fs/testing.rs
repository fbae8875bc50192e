//! For the tests of this part: small layers, and a tree over them.
use super::erofs::Image;
use super::file::{File, OpenFile};
use super::lower::Lower;
use super::mount::{FsType, Mount};
use super::ops::open::{self, How};
use super::ops::{make, remove, rename};
use super::walk::Walk;
use super::{Caller, Entry, union};
use crate::errno::Result;
use crate::mm::frame::{memory, take_large_zeroed, tests::test_memory};
use crate::user::{IoVec, Reader, Writer};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use kasoku_abi::Gpa;

const BLOCK: usize = 4096;
/// Where the inodes begin, and how many bytes each has here (a link's target follows its inode).
const INODES: usize = 4096;
const SLOT: usize = 128;

/// What a test layer holds under a path.
#[derive(Clone)]
pub enum Item {
    Directory,
    File(Vec<u8>),
    Link(&'static str),
    /// Another name of the file at that path.
    Same(&'static str),
}

fn parent(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Writes a layer as docs/protocols/image.md says, with the inodes of `items` in order (parents first; "" is the root).
pub fn layer_bytes(items: &[(&'static str, Item)]) -> Vec<u8> {
    let mut all = vec![("", Item::Directory)];
    all.extend(items.iter().cloned());
    let number = |path: &str| -> u64 {
        let index = all.iter().position(|(known, _)| *known == path).expect("a path of the layer");
        let index = match all[index].1 {
            Item::Same(other) => all.iter().position(|(known, _)| *known == other).expect("a path of the layer"),
            _ => index,
        };
        ((INODES + index * SLOT) / 32) as u64
    };
    let mut bytes = vec![0u8; (INODES + all.len() * SLOT).next_multiple_of(BLOCK)];
    for (index, (path, item)) in all.iter().enumerate() {
        let (mode, data, inline) = match item {
            Item::Directory => (0o40755u16, directory_bytes(path, &all, &number), false),
            Item::File(data) => (0o100644, data.clone(), false),
            Item::Link(target) => (0o120777, target.as_bytes().to_vec(), true),
            Item::Same(_) => continue,
        };
        let links = 1 + all.iter().filter(|(_, other)| matches!(other, Item::Same(to) if to == path)).count();
        let at = INODES + index * SLOT;
        let format: u16 = if inline { 2 << 1 } else { 0 };
        bytes[at..at + 2].copy_from_slice(&format.to_le_bytes());
        bytes[at + 4..at + 6].copy_from_slice(&mode.to_le_bytes());
        bytes[at + 6..at + 8].copy_from_slice(&(links as u16).to_le_bytes());
        bytes[at + 8..at + 12].copy_from_slice(&(data.len() as u32).to_le_bytes());
        if inline {
            bytes[at + 32..at + 32 + data.len()].copy_from_slice(&data);
        } else if !data.is_empty() {
            let block = (bytes.len() / BLOCK) as u32;
            bytes[at + 16..at + 20].copy_from_slice(&block.to_le_bytes());
            bytes.extend_from_slice(&data);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
    }
    bytes[1024..1028].copy_from_slice(&0xe0f5_e1e2u32.to_le_bytes());
    bytes[1036] = 12;
    bytes[1038..1040].copy_from_slice(&((INODES / 32) as u16).to_le_bytes());
    bytes
}

fn directory_bytes(path: &str, all: &[(&'static str, Item)], number: &dyn Fn(&str) -> u64) -> Vec<u8> {
    let mut names: BTreeMap<Vec<u8>, (u64, u8)> = BTreeMap::new();
    names.insert(b".".to_vec(), (number(path), 2));
    names.insert(b"..".to_vec(), (number(parent(path).0), 2));
    for (child, item) in all.iter().filter(|(child, _)| !child.is_empty() && parent(child).0 == path) {
        let kind = match item {
            Item::Directory => 2,
            Item::File(_) | Item::Same(_) => 1,
            Item::Link(_) => 7,
        };
        names.insert(parent(child).1.as_bytes().to_vec(), (number(child), kind));
    }
    let mut blocks = Vec::new();
    let mut rest: Vec<_> = names.into_iter().collect();
    while !rest.is_empty() {
        let mut size = 0;
        let fit = rest.iter().take_while(|(name, _)| {
            size += 12 + name.len();
            size <= BLOCK
        });
        let here: Vec<_> = rest.drain(..fit.count()).collect();
        let mut block = Vec::new();
        let mut offset = here.len() * 12;
        for (name, (inode, kind)) in &here {
            block.extend_from_slice(&inode.to_le_bytes());
            block.extend_from_slice(&(offset as u16).to_le_bytes());
            block.extend_from_slice(&[*kind, 0]);
            offset += name.len();
        }
        for (name, _) in &here {
            block.extend_from_slice(name);
        }
        if !rest.is_empty() {
            block.resize(BLOCK, 0);
        }
        blocks.extend(block);
    }
    blocks
}

/// Puts bytes where a layer would lie.
pub fn place(bytes: &[u8]) -> (&'static [u8], Gpa) {
    test_memory();
    let gpa = take_large_zeroed().expect("memory for a test layer");
    assert!(bytes.len() <= 2 << 20);
    // SAFETY: the large page was just taken, is never freed, and holds the bytes.
    let slice = unsafe {
        let at = memory().pointer(gpa);
        core::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len());
        core::slice::from_raw_parts(at, bytes.len())
    };
    (slice, gpa)
}

pub fn layer(items: &[(&'static str, Item)]) -> Arc<Image> {
    let (bytes, at) = place(&layer_bytes(items));
    Image::open(bytes, at, 0).expect("a sound layer")
}

/// A tree over layers, bottom first.
pub fn tree(layers: &[Arc<Image>]) -> Arc<Entry> {
    test_memory();
    let lowers: Vec<Arc<dyn Lower>> = layers.iter().rev().map(|layer| layer.root().expect("a root")).collect();
    Entry::root(union::root(lowers, &Mount::new(FsType::Overlay, false, "test")).expect("a root"))
}

/// A program in a tree: root's permissions, paths from the root.
pub struct Program {
    pub root: Arc<Entry>,
    pub caller: Caller,
}

impl Program {
    pub fn new(root: Arc<Entry>) -> Program {
        Program { root, caller: Caller::default() }
    }

    pub fn find(&self, path: &str) -> Result<Arc<Entry>> {
        Walk::new(&self.root, &self.caller).find(&self.root, path.as_bytes(), false)
    }

    pub fn open(&self, path: &str, flags: u32) -> Result<Arc<OpenFile>> {
        open::check_flags(flags)?;
        let mut walk = Walk::new(&self.root, &self.caller);
        open::open(&mut walk, &self.root, path.as_bytes(), How { flags, mode: 0o644 })
    }

    fn with<T>(
        &self,
        path: &str,
        then: impl FnOnce(&mut Walk<'_>, &super::walk::Parent<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut walk = Walk::new(&self.root, &self.caller);
        let parent = walk.parent(&self.root, path.as_bytes())?;
        then(&mut walk, &parent)
    }

    pub fn mkdir(&self, path: &str) -> Result<()> {
        self.with(path, |walk, parent| make::directory(walk, parent, 0o755))
    }

    pub fn symlink(&self, target: &str, path: &str) -> Result<()> {
        self.with(path, |walk, parent| make::symlink(walk, parent, target.as_bytes()))
    }

    pub fn link(&self, old: &str, path: &str) -> Result<()> {
        let old = self.find(old)?;
        self.with(path, |walk, parent| make::link(walk, &old, parent))
    }

    pub fn unlink(&self, path: &str) -> Result<()> {
        self.with(path, remove::file)
    }

    pub fn rmdir(&self, path: &str) -> Result<()> {
        self.with(path, remove::directory)
    }

    pub fn rename(&self, from: &str, to: &str, flags: u32) -> Result<()> {
        rename::check_flags(flags)?;
        let mut walk = Walk::new(&self.root, &self.caller);
        let from = walk.parent(&self.root, from.as_bytes())?;
        let to = walk.parent(&self.root, to.as_bytes())?;
        rename::rename(&mut walk, &from, &to, flags)
    }

    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let open = self.open(path, 0)?;
        let size = open.file().stat()?.size as usize;
        read_at(&open, 0, size)
    }

    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<usize> {
        use linux_raw_sys::general::{O_CREAT, O_TRUNC, O_WRONLY};
        write_at(&*self.open(path, O_CREAT | O_TRUNC | O_WRONLY)?, 0, bytes)
    }

    /// Names in the order of the listing, without `.` and `..`.
    pub fn list(&self, path: &str) -> Result<Vec<String>> {
        let open = self.open(path, 0)?;
        let mut names = Vec::new();
        list_from(open.file(), 0, usize::MAX, &mut names)?;
        names.retain(|name| name != "." && name != "..");
        Ok(names)
    }
}

/// Lists at most `count` names from a position on; the position after them.
pub fn list_from(file: &Arc<dyn File>, position: u64, count: usize, names: &mut Vec<String>) -> Result<u64> {
    let before = names.len();
    file.read_dir(position, &mut |entry| {
        let room = names.len() - before < count;
        if room {
            names.push(String::from_utf8_lossy(entry.name).into_owned());
        }
        room
    })
}

pub fn read_at(open: &OpenFile, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let parts = [IoVec { base: bytes.as_mut_ptr() as u64, len: len as u64 }];
    let n = open.read_at(offset, &mut Writer::new(&parts))?;
    bytes.truncate(n);
    Ok(bytes)
}

pub fn write_at(open: &OpenFile, offset: u64, bytes: &[u8]) -> Result<usize> {
    let parts = [IoVec { base: bytes.as_ptr() as u64, len: bytes.len() as u64 }];
    open.write_at(offset, &mut Reader::new(&parts))
}
