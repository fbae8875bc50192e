//! Directory listings as the window carries them.
use crate::attributes::of_entry;
use crate::rules::EntryFilter;
use kasoku_abi::fs::{DATA_LEN, DirEntry};
use rustix::fs::{FileType, RawDir, SeekFrom, seek};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use zerocopy::IntoBytes;

/// Bytes that the kernel fills at once.
const BUFFER: usize = 32 << 10;

/// Part of a listing.
#[derive(Debug, Default)]
pub struct Listing {
    pub bytes: Vec<u8>,
    /// Where the next part begins; 0 when there is none.
    pub next: u64,
}

/// Entries of `directory` from `offset` on, as many as fit. `.` and `..` are left out: the guest knows
/// its own tree. With attributes, an entry that cannot be looked at (gone meanwhile, not permitted) is left out too.
pub fn list(directory: &OwnedFd, offset: u64, with_attributes: bool, filter: &EntryFilter) -> Result<Listing, Errno> {
    if offset != 0 {
        seek(directory, SeekFrom::Start(offset))?;
    }
    let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut listing = Listing::default();
    let mut last = 0;
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let hidden = matches!(name, b"." | b"..") || filter.hides(name);
        let attributes = match with_attributes && !hidden {
            true => of_entry(directory, entry.file_name()).ok(),
            false => None,
        };
        if !hidden && attributes.is_some() == with_attributes {
            let head = DirEntry { inode: entry.ino(), kind: kind(entry.file_type()), name_len: name.len() as u32 };
            let attributes = attributes.as_ref().map_or(&[][..], |attributes| attributes.as_bytes());
            let len = (size_of::<DirEntry>() + attributes.len() + name.len()).next_multiple_of(8);
            if listing.bytes.len() + len > DATA_LEN as usize {
                listing.next = last;
                return Ok(listing);
            }
            let end = listing.bytes.len() + len;
            listing.bytes.extend_from_slice(head.as_bytes());
            listing.bytes.extend_from_slice(attributes);
            listing.bytes.extend_from_slice(name);
            listing.bytes.resize(end, 0);
        }
        last = entry.next_entry_cookie();
    }
    Ok(listing)
}

/// DT_* of `getdents64`.
fn kind(file_type: FileType) -> u32 {
    match file_type {
        FileType::Fifo => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 4,
        FileType::BlockDevice => 6,
        FileType::RegularFile => 8,
        FileType::Symlink => 10,
        FileType::Socket => 12,
        _ => 0,
    }
}
