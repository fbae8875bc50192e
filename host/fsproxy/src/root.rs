//! A directory of the host, and how names beneath it are reached.
use crate::attributes;
use crate::path::GuestPath;
use crate::rules::Rules;
use kasoku_abi::fs::Attributes;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A directory that the guest may read, and perhaps change.
pub struct Root {
    directory: OwnedFd,
    rules: Rules,
    writable: bool,
}

impl Root {
    pub fn new(directory: OwnedFd, rules: Rules, writable: bool) -> Self {
        Self { directory, rules, writable }
    }

    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    pub fn is_writable(&self) -> bool {
        self.writable
    }

    pub fn check_writable(&self) -> Result<(), Errno> {
        if self.writable { Ok(()) } else { Err(Errno::ROFS) }
    }

    /// Opens `path` beneath this root, following no symbolic link. A final one is opened itself.
    pub fn open(&self, path: &GuestPath, flags: OFlags) -> Result<OwnedFd, Errno> {
        open_beneath(&self.directory, path.to_c_string(), flags, Mode::empty())
    }

    /// The directory that holds `path`, and its name there: what changes a name takes a descriptor and one component, so
    /// that there is nothing to follow on the way. The root itself has no name.
    pub fn parent(&self, path: &GuestPath) -> Result<(OwnedFd, CString), Errno> {
        let (parent, name) = path.split().ok_or(Errno::BUSY)?;
        Ok((self.open(&parent, OFlags::PATH | OFlags::DIRECTORY)?, name))
    }

    pub fn stat(&self, path: &GuestPath) -> Result<(OwnedFd, Attributes), Errno> {
        let file = self.open(path, OFlags::PATH)?;
        let attributes = attributes::of_file(&file)?;
        Ok((file, attributes))
    }

    /// Opens a regular file, and nothing else: opening a device can have effects, and a FIFO would wait for a writer.
    pub fn open_regular(&self, path: &GuestPath, access: OFlags) -> Result<(OwnedFd, Attributes), Errno> {
        let file = self.open(path, access | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        // Again: it may be another file than the one that was looked at.
        let attributes = attributes::of_file(&file)?;
        match kind(&attributes) {
            // The kernel does not take set-id bits away where root writes: what runs as its owner is not a guest's to change.
            FileType::RegularFile if access != OFlags::RDONLY && attributes.mode & 0o6000 != 0 => Err(Errno::PERM),
            FileType::RegularFile => Ok((file, attributes)),
            _ => Err(Errno::NXIO),
        }
    }
}

/// Opens a path beneath a directory, following no symbolic link.
pub fn open_beneath(directory: &OwnedFd, path: CString, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // A rename on the host during the walk makes the kernel ask for another try.
    for _ in 0..8 {
        match openat2(directory, &path, flags, mode, resolve) {
            Err(Errno::AGAIN) => continue,
            // Out of the root, or through a link: to the guest such a path does not exist.
            Err(Errno::XDEV | Errno::LOOP) => return Err(Errno::NOENT),
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

pub fn kind(attributes: &Attributes) -> FileType {
    FileType::from_raw_mode(attributes.mode)
}
