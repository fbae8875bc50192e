//! Directories of a layer: blocks of entries, sorted by name over all blocks.
use super::layout::{BLOCK, DIRENT, Dirent};
use super::{Image, Inode};
use crate::errno::{Errno, Result};
use crate::fs::lower::ListedName;
use crate::fs::stat::Kind;
use crate::fs::walk::NAME_MAX;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cmp::Ordering;
use zerocopy::FromBytes;

pub(super) struct Directory<'a> {
    pub image: &'a Image,
    pub inode: &'a Inode,
}

/// One block of entries.
struct Block {
    bytes: &'static [u8],
    count: usize,
}

impl Directory<'_> {
    fn block_count(&self) -> u64 {
        self.inode.size.div_ceil(BLOCK)
    }

    fn block(&self, index: u64) -> Result<Block> {
        let from = index * BLOCK;
        let len = (self.inode.size - from).min(BLOCK);
        Block::new(self.image.data(self.inode, from, len)?)
    }

    /// The inode number under that name.
    pub fn find(&self, name: &[u8]) -> Result<Option<u64>> {
        if self.inode.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        // The last block whose first name is not greater.
        let (mut low, mut high) = (0, self.block_count());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.block(middle)?.name(0)?.cmp(name) {
                Ordering::Greater => high = middle,
                _ => low = middle + 1,
            }
        }
        if low == 0 { Ok(None) } else { self.block(low - 1)?.find(name) }
    }

    /// All entries but `.` and `..`.
    pub fn list(&self) -> Result<Vec<ListedName>> {
        if self.inode.kind != Kind::Directory {
            return Err(Errno::ENOTDIR);
        }
        let mut names = Vec::new();
        for index in 0..self.block_count() {
            let block = self.block(index)?;
            for i in 0..block.count {
                let name = block.name(i)?;
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let entry = block.entry(i)?;
                let kind = match entry.kind {
                    1 => Kind::Regular,
                    2 => Kind::Directory,
                    3 => Kind::CharDevice,
                    4 => Kind::BlockDevice,
                    5 => Kind::Fifo,
                    6 => Kind::Socket,
                    7 => Kind::Symlink,
                    _ => return Err(Errno::EIO),
                };
                names.push(ListedName { name: Box::from(name), inode: entry.inode, kind });
            }
        }
        Ok(names)
    }
}

impl Block {
    fn new(bytes: &'static [u8]) -> Result<Block> {
        let (first, _) = Dirent::read_from_prefix(bytes).map_err(|_| Errno::EIO)?;
        let names = usize::from(first.name_offset);
        if names % DIRENT != 0 || names < DIRENT || names >= bytes.len() {
            return Err(Errno::EIO);
        }
        Ok(Block { bytes, count: names / DIRENT })
    }

    fn entry(&self, index: usize) -> Result<Dirent> {
        let bytes = self.bytes.get(index * DIRENT..).ok_or(Errno::EIO)?;
        Dirent::read_from_prefix(bytes).map(|(entry, _)| entry).map_err(|_| Errno::EIO)
    }

    fn name(&self, index: usize) -> Result<&'static [u8]> {
        let from = usize::from(self.entry(index)?.name_offset);
        let is_last = index + 1 == self.count;
        let end = if is_last { self.bytes.len() } else { usize::from(self.entry(index + 1)?.name_offset) };
        let mut name = self.bytes.get(from..end).ok_or(Errno::EIO)?;
        if is_last {
            // Padded with NULs up to the end of the block.
            name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        }
        let sound = !name.is_empty() && name.len() <= NAME_MAX && !name.iter().any(|byte| matches!(byte, 0 | b'/'));
        if sound { Ok(name) } else { Err(Errno::EIO) }
    }

    fn find(&self, name: &[u8]) -> Result<Option<u64>> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.name(middle)?.cmp(name) {
                Ordering::Equal => return self.entry(middle).map(|entry| Some(entry.inode)),
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }
}
