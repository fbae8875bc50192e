//! Image layers: uncompressed EROFS (docs/protocols/image.md), read where they lie.
//!
//! A layer is data from outside: every number in it is checked before it is used, and what does not fit is EIO for whoever
//! asked, never a fault of the library OS.
mod directory;
mod layout;

use super::lower::{Attributes, Bytes, ListedName, Lower};
use super::stat::{Kind, Time, device_number};
use super::walk::PATH_MAX;
use crate::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use directory::Directory;
use kasoku_abi::Gpa;
use layout::*;
use zerocopy::FromBytes;

/// Minor device number of the first layer.
const FIRST_MINOR: u64 = 0x100;

/// A layer in memory.
pub struct Image {
    bytes: &'static [u8],
    /// Guest-physical address of its first byte, for mappings.
    at: Gpa,
    device: u64,
    root: u64,
    /// Byte offset of inode 0.
    metadata: u64,
    build_time: Time,
}

/// An inode of a layer.
#[derive(Clone, Copy)]
struct Inode {
    number: u64,
    kind: Kind,
    permissions: u32,
    links: u32,
    uid: u32,
    gid: u32,
    rdev: u64,
    size: u64,
    modified: Time,
    /// First byte of the whole blocks of the data.
    data: u64,
    /// First byte of the rest, where it follows the inode.
    tail: Option<u64>,
}

impl Image {
    /// Checks the superblock. The error says what is wrong with the layer.
    pub fn open(bytes: &'static [u8], at: Gpa, index: usize) -> core::result::Result<Arc<Image>, String> {
        let superblock = bytes.get(SUPERBLOCK..).and_then(|rest| Superblock::read_from_prefix(rest).ok());
        let Some((superblock, _)) = superblock else { return Err("it is too short".into()) };
        if superblock.magic != MAGIC {
            return Err("it is not an EROFS image".into());
        }
        if superblock.block_bits != BLOCK_BITS {
            return Err(alloc::format!("its blocks are not of {BLOCK} bytes"));
        }
        let unknown = superblock.feature_incompat & !HARMLESS_FEATURES;
        if unknown != 0 {
            return Err(alloc::format!("it uses EROFS features {unknown:#x} (layers are uncompressed and unchunked)"));
        }
        let image = Arc::new(Image {
            bytes,
            at,
            device: device_number(0, FIRST_MINOR + index as u64),
            root: superblock.root.into(),
            metadata: u64::from(superblock.metadata_block) * BLOCK,
            build_time: Time { sec: superblock.build_time as i64, nsec: superblock.build_time_nsec.min(999_999_999) },
        });
        match image.inode(image.root) {
            Ok(Inode { kind: Kind::Directory, .. }) => Ok(image),
            _ => Err("its root directory cannot be read".into()),
        }
    }

    /// The root directory.
    pub fn root(self: &Arc<Self>) -> Result<Arc<dyn Lower>> {
        self.file(self.root)
    }

    fn file(self: &Arc<Self>, number: u64) -> Result<Arc<dyn Lower>> {
        let inode = self.inode(number)?;
        Ok(Arc::new(LayerFile { image: self.clone(), inode }))
    }

    /// A part of the image: EIO when it is not all there.
    fn slice(&self, from: u64, len: u64) -> Result<&'static [u8]> {
        let end = from.checked_add(len).ok_or(Errno::EIO)?;
        let range = usize::try_from(from).ok().zip(usize::try_from(end).ok());
        range.and_then(|(from, end)| self.bytes.get(from..end)).ok_or(Errno::EIO)
    }

    fn inode(&self, number: u64) -> Result<Inode> {
        let at = number.checked_mul(INODE_SLOT).and_then(|at| at.checked_add(self.metadata)).ok_or(Errno::EIO)?;
        let bytes = self.slice(at, size_of::<CompactInode>() as u64)?;
        let compact = CompactInode::read_from_bytes(bytes).map_err(|_| Errno::EIO)?;
        let layout = compact.format >> 1;
        let (len, size, links, uid, gid, modified) = if compact.format & FORMAT_EXTENDED == 0 {
            let owner = (u32::from(compact.uid), u32::from(compact.gid));
            (size_of::<CompactInode>(), compact.size.into(), compact.links.into(), owner.0, owner.1, self.build_time)
        } else {
            let bytes = self.slice(at, size_of::<ExtendedInode>() as u64)?;
            let full = ExtendedInode::read_from_bytes(bytes).map_err(|_| Errno::EIO)?;
            let modified = Time { sec: full.modified as i64, nsec: full.modified_nsec.min(999_999_999) };
            (size_of::<ExtendedInode>(), full.size, full.links, full.uid, full.gid, modified)
        };
        let xattrs = match u64::from(compact.xattr_count) {
            0 => 0,
            count => 12 + 4 * (count - 1),
        };
        let tail = match layout {
            LAYOUT_PLAIN => None,
            LAYOUT_INLINE => Some(at + len as u64 + xattrs),
            _ => return Err(Errno::EIO),
        };
        let kind = Kind::from_mode(compact.mode.into()).ok_or(Errno::EIO)?;
        let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        let inode = Inode {
            number,
            kind,
            permissions: u32::from(compact.mode) & 0o7777,
            links,
            uid,
            gid,
            rdev: if is_device { compact.place.into() } else { 0 },
            size: if is_device { 0 } else { size },
            modified,
            data: u64::from(compact.place) * BLOCK,
            tail,
        };
        self.check_data(&inode)?;
        Ok(inode)
    }

    /// Whether the data lies within the image.
    fn check_data(&self, inode: &Inode) -> Result<()> {
        if !matches!(inode.kind, Kind::Regular | Kind::Directory | Kind::Symlink) {
            return Ok(());
        }
        let (blocks, rest) = inode.parts();
        if blocks > 0 {
            self.slice(inode.data, blocks)?;
        }
        if let Some(tail) = inode.tail {
            self.slice(tail, rest)?;
        }
        Ok(())
    }

    /// Bytes `[from, from + len)` of the data, which must not cross into the inline rest.
    fn data(&self, inode: &Inode, from: u64, len: u64) -> Result<&'static [u8]> {
        let (blocks, _) = inode.parts();
        match inode.tail {
            Some(tail) if from >= blocks => self.slice(tail + (from - blocks), len),
            _ => self.slice(inode.data + from, len),
        }
    }
}

impl Inode {
    /// Bytes that lie at `data`, and bytes that lie at `tail`.
    fn parts(&self) -> (u64, u64) {
        match self.tail {
            Some(_) => (self.size / BLOCK * BLOCK, self.size % BLOCK),
            None => (self.size, 0),
        }
    }
}

/// A file of a layer.
struct LayerFile {
    image: Arc<Image>,
    inode: Inode,
}

impl Lower for LayerFile {
    fn attributes(&self) -> Result<Attributes> {
        let inode = &self.inode;
        Ok(Attributes {
            device: self.image.device,
            inode: inode.number,
            kind: inode.kind,
            permissions: inode.permissions,
            links: inode.links,
            uid: inode.uid,
            gid: inode.gid,
            rdev: inode.rdev,
            size: inode.size,
            accessed: inode.modified,
            modified: inode.modified,
            changed: inode.modified,
        })
    }

    fn find(&self, name: &[u8]) -> Result<Option<Arc<dyn Lower>>> {
        let directory = Directory { image: &self.image, inode: &self.inode };
        directory.find(name)?.map(|number| self.image.file(number)).transpose()
    }

    fn list(&self) -> Result<Vec<ListedName>> {
        Directory { image: &self.image, inode: &self.inode }.list()
    }

    fn read_link(&self) -> Result<Box<[u8]>> {
        if self.inode.size == 0 || self.inode.size > PATH_MAX as u64 {
            return Err(Errno::EIO);
        }
        self.image.data(&self.inode, 0, self.inode.size).map(Box::from)
    }

    fn bytes(&self) -> Result<Bytes> {
        let (blocks, rest) = self.inode.parts();
        let tail = match self.inode.tail {
            Some(tail) if rest > 0 => Some(self.image.slice(tail, rest)?),
            _ => None,
        };
        if blocks > 0 {
            self.image.slice(self.inode.data, blocks)?;
        }
        Ok(Bytes::Fixed { at: Gpa(self.image.at.0 + self.inode.data), len: self.inode.size, tail })
    }

    fn has_whiteouts(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
