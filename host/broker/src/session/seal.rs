//! The first page of a session file: whose it is, and that nobody changed it.
//!
//! The tag is by the node's key and holds for the kind of device. It is made over digests of equal pieces, so that all
//! processors can work on a large file.
use super::format::RECORDS;
use crate::signature::Key;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// "kasokuSE".
const MAGIC: u64 = u64::from_le_bytes(*b"kasokuSE");
pub const VERSION: u32 = 3;
/// Bytes that are digested in one piece.
const PIECE: usize = 4 << 20;
/// Longest name of a kind of device.
const IDENTITY_MAX: usize = 1024;
/// Most bytes of a session file that is read from a descriptor without seals, which is copied.
pub const COPY_MAX: u64 = 64 << 30;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: u64,
    version: u32,
    identity_len: u32,
    file_len: u64,
    records_len: u64,
    tag: [u8; 32],
    identity: [u8; IDENTITY_MAX],
}

const _: () = assert!(size_of::<Header>() as u64 <= RECORDS);

/// Why a file is no session of this node.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the session file cannot be read: {0}")]
    Read(std::io::Error),
    #[error("this is no session file")]
    NoSession,
    #[error("the session file has version {0}, this broker reads version {VERSION}")]
    Version(u32),
    #[error("the session file is cut short or too long: it has {found} bytes and says {said}")]
    Length { found: u64, said: u64 },
    #[error("the session file was changed, or is not of this node: its tag is wrong")]
    Tag,
}

/// What the header says, once it is known to be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub identity: String,
    pub records_len: u64,
}

/// Writes the header of `file`, which the worker filled and nobody writes any more, and makes it unchangeable.
pub fn seal(file: &OwnedFd, identity: &str, records_len: u64, secret: &[u8]) -> std::io::Result<()> {
    let len = rustix::fs::fstat(file)?.st_size as u64;
    let mut header = Header { magic: MAGIC, version: VERSION, file_len: len, records_len, ..Header::new_zeroed() };
    let name = identity.as_bytes().get(..IDENTITY_MAX).unwrap_or(identity.as_bytes());
    header.identity_len = name.len() as u32;
    header.identity[..name.len()].copy_from_slice(name);
    header.tag = key(secret, identity).tag(&digest(file, &header)?);
    let page = File::from(file.try_clone()?);
    page.write_all_at(header.as_bytes(), 0)?;
    drop(page);
    let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    Ok(rustix::fs::fcntl_add_seals(file, all)?)
}

/// Checks a file from outside. What comes back with the header is unchangeable: the file, or a copy of it. `verified`: the
/// owner has checked these very bytes since they became unchangeable, and the tag is not computed again.
pub fn open(file: OwnedFd, secret: &[u8], verified: bool) -> Result<(OwnedFd, Sealed), SealError> {
    let io = |error: rustix::io::Errno| SealError::Read(error.into());
    let wanted = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    let sealed = rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(wanted));
    let verified = verified && sealed;
    let file = if sealed { file } else { copy(file)? };
    let found = rustix::fs::fstat(&file).map_err(io)?.st_size as u64;
    let mut page = [0u8; size_of::<Header>()];
    if found < RECORDS || rustix::io::pread(&file, &mut page, 0).map_err(io)? != page.len() {
        return Err(SealError::NoSession);
    }
    let header: Header = zerocopy::transmute!(page);
    if header.magic != MAGIC {
        return Err(SealError::NoSession);
    }
    if header.version != VERSION {
        return Err(SealError::Version(header.version));
    }
    if header.file_len != found || header.records_len > found - RECORDS {
        return Err(SealError::Length { found, said: header.file_len });
    }
    let name = header.identity.get(..header.identity_len as usize).ok_or(SealError::NoSession)?;
    let identity = core::str::from_utf8(name).map_err(|_| SealError::NoSession)?.to_owned();
    if !verified {
        let digest = digest(&file, &header).map_err(SealError::Read)?;
        if !key(secret, &identity).verify(&header.tag, &digest) {
            return Err(SealError::Tag);
        }
    }
    Ok((file, Sealed { identity, records_len: header.records_len }))
}

/// Another key than that of program binaries.
fn key(secret: &[u8], identity: &str) -> Key {
    Key::new(secret, &format!("session file: {identity}"))
}

/// Digests of the header without its tag and of all pieces behind it.
fn digest(file: &OwnedFd, header: &Header) -> std::io::Result<Vec<u8>> {
    let mut digests = Sha256::digest(Header { tag: [0; 32], ..*header }.as_bytes()).to_vec();
    let len = header.file_len.saturating_sub(RECORDS) as usize;
    if len == 0 {
        return Ok(digests);
    }
    // SAFETY: a fresh mapping of a file that cannot shrink, removed below; the bytes are only read, and what a worker that
    // still had it mapped changed meanwhile would make the tag wrong, nothing else.
    let bytes = unsafe {
        let mapping = rustix::mm::mmap(core::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, RECORDS)?;
        core::slice::from_raw_parts(mapping.cast::<u8>().cast_const(), len)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let share = len.div_ceil(PIECE).div_ceil(threads) * PIECE;
    std::thread::scope(|scope| {
        let parts: Vec<_> = bytes
            .chunks(share)
            .map(|part| scope.spawn(move || part.chunks(PIECE).flat_map(Sha256::digest).collect::<Vec<u8>>()))
            .collect();
        for part in parts {
            digests.extend(part.join().expect("digesting does not panic"));
        }
    });
    // SAFETY: the mapping made above; no reference into it is left.
    unsafe { rustix::mm::munmap(bytes.as_ptr().cast_mut().cast(), len)? };
    Ok(digests)
}

/// An unchangeable copy.
fn copy(file: OwnedFd) -> Result<OwnedFd, SealError> {
    let too_long = |len| SealError::Length { found: len, said: COPY_MAX };
    let mut source = File::from(file);
    let len = source.metadata().map_err(SealError::Read)?.len();
    if len > COPY_MAX {
        return Err(too_long(len));
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let target = rustix::fs::memfd_create(c"kasoku-session", flags).map_err(|error| SealError::Read(error.into()))?;
    let mut target = File::from(target);
    std::io::copy(&mut std::io::Read::take(&mut source, COPY_MAX), &mut target).map_err(SealError::Read)?;
    let target = OwnedFd::from(target);
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(target.as_fd(), seals).map_err(|error| SealError::Read(error.into()))?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(contents: &[u8]) -> OwnedFd {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create(c"test", flags).unwrap());
        file.write_all_at(&[&[0; RECORDS as usize][..], contents].concat(), 0).unwrap();
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        file.into()
    }

    fn bytes_of(file: &OwnedFd) -> Vec<u8> {
        let mut bytes = vec![0; rustix::fs::fstat(file).unwrap().st_size as usize];
        File::from(file.try_clone().unwrap()).read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn opened(bytes: &[u8], secret: &[u8]) -> Result<Sealed, String> {
        let file = File::from(rustix::fs::memfd_create(c"test", MemfdFlags::CLOEXEC).unwrap());
        file.write_all_at(bytes, 0).unwrap();
        open(file.into(), secret, false).map(|(_, sealed)| sealed).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_known_again_and_every_change_is_refused() {
        let contents: Vec<u8> = (0..PIECE + 5000).map(|n| n as u8).collect();
        let made = file(&contents);
        seal(&made, "intel|x|1", 64, b"secret").unwrap();
        let whole = bytes_of(&made);
        let (_, sealed) = open(made, b"secret", false).unwrap();
        assert_eq!((sealed.identity.as_str(), sealed.records_len), ("intel|x|1", 64));
        assert_eq!(opened(&whole, b"secret").unwrap(), sealed, "by a copy");
        assert!(opened(&whole, b"other").unwrap_err().contains("not of this node"));
        assert!(opened(&whole[..whole.len() - 1], b"secret").unwrap_err().contains("cut short"));
        assert!(opened(&whole[..100], b"secret").unwrap_err().contains("no session file"));
        assert!(opened(b"", b"secret").unwrap_err().contains("no session file"));
        for at in [20, 24, 70, 100, RECORDS as usize, RECORDS as usize + PIECE, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(opened(&changed, b"secret").is_err(), "{at}");
        }
        // What its owner has verified is not digested again, if nobody can have changed it since.
        let mut changed = whole.clone();
        changed[RECORDS as usize] ^= 1;
        let known = file(&changed[RECORDS as usize..]);
        File::from(known.try_clone().unwrap()).write_all_at(&changed[..RECORDS as usize], 0).unwrap();
        assert!(open(known.try_clone().unwrap(), b"secret", true).is_err(), "it is not sealed");
        rustix::fs::fcntl_add_seals(&known, SealFlags::WRITE).unwrap();
        assert!(open(known.try_clone().unwrap(), b"secret", true).is_ok());
        assert!(open(known, b"secret", false).is_err());
        let mut later = whole;
        later[8] = 9;
        assert!(opened(&later, b"secret").unwrap_err().contains("version 9"));
    }
}
