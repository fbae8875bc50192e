//! EROFS on disk (Linux `fs/erofs/erofs_fs.h`), as far as layers use it. Little-endian throughout.
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// Where the superblock lies.
pub const SUPERBLOCK: usize = 1024;
pub const MAGIC: u32 = 0xe0f5_e1e2;
/// Bytes of a block, the only size that a page can be mapped from.
pub const BLOCK: u64 = 4096;
pub const BLOCK_BITS: u8 = 12;
/// Unit of inode numbers.
pub const INODE_SLOT: u64 = 32;
/// `feature_incompat` bits that say nothing about uncompressed files: padding of compressed data, prefixes of attributes.
pub const HARMLESS_FEATURES: u32 = 0x1 | 0x40;

/// `i_format`: bit 0 = extended inode, bits 1 to 3 = where the data lies.
pub const FORMAT_EXTENDED: u16 = 1;
pub const LAYOUT_PLAIN: u16 = 0;
pub const LAYOUT_INLINE: u16 = 2;

#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Superblock {
    pub magic: u32,
    pub checksum: u32,
    pub feature_compat: u32,
    pub block_bits: u8,
    pub extension_slots: u8,
    pub root: u16,
    pub inodes: u64,
    pub build_time: u64,
    pub build_time_nsec: u32,
    pub blocks: u32,
    pub metadata_block: u32,
    pub xattr_block: u32,
    pub uuid: [u8; 16],
    pub volume_name: [u8; 16],
    pub feature_incompat: u32,
    pub rest: [u8; 44],
}

#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CompactInode {
    pub format: u16,
    pub xattr_count: u16,
    pub mode: u16,
    pub links: u16,
    pub size: u32,
    pub reserved: u32,
    /// First block of the data, or the device number.
    pub place: u32,
    pub number: u32,
    pub uid: u16,
    pub gid: u16,
    pub reserved2: u32,
}

#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExtendedInode {
    pub format: u16,
    pub xattr_count: u16,
    pub mode: u16,
    pub reserved: u16,
    pub size: u64,
    pub place: u32,
    pub number: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified: u64,
    pub modified_nsec: u32,
    pub links: u32,
    pub reserved2: [u8; 16],
}

/// An entry of a directory block; the names follow all entries.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub struct Dirent {
    pub inode: u64,
    pub name_offset: u16,
    pub kind: u8,
    pub reserved: u8,
}
pub const DIRENT: usize = size_of::<Dirent>();

const _: () = assert!(size_of::<Superblock>() == 128);
const _: () = assert!(size_of::<CompactInode>() == 32);
const _: () = assert!(size_of::<ExtendedInode>() == 64);
const _: () = assert!(DIRENT == 12);
