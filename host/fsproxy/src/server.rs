//! One request, one reply.
use crate::Window;
use crate::attributes;
use crate::directory::{Listing, list};
use crate::handles::Handles;
use crate::path::GuestPath;
use crate::rules::{Rules, Visibility};
use kasoku_abi::fs::{
    Attributes, CLOSE, DATA_LEN, FETCH, OPEN, PATH_MAX, READ, READ_DIR, READ_LINK, Reply, Request, STAT,
    WITH_ATTRIBUTES,
};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2, readlinkat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A directory that the guest may read.
pub struct Root {
    directory: OwnedFd,
    rules: Rules,
}

pub struct Server {
    roots: Vec<Root>,
    handles: Handles,
}

impl Root {
    pub fn new(directory: OwnedFd, rules: Rules) -> Self {
        Self { directory, rules }
    }

    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Opens `path` beneath this root, following no symbolic link. A final one is opened itself.
    fn open(&self, path: &GuestPath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A rename on the host during the walk makes the kernel ask for another try.
        for _ in 0..8 {
            match openat2(&self.directory, path.to_c_string(), flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => continue,
                // Out of the root, or through a link: to the guest such a path does not exist.
                Err(Errno::XDEV | Errno::LOOP) => return Err(Errno::NOENT),
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }

    fn stat(&self, path: &GuestPath) -> Result<(OwnedFd, Attributes), Errno> {
        let file = self.open(path, OFlags::PATH)?;
        let attributes = attributes::of_file(&file)?;
        Ok((file, attributes))
    }

    /// Opens a regular file, and nothing else: opening a device can have effects, and a FIFO would wait for a writer.
    fn open_regular(&self, path: &GuestPath) -> Result<(OwnedFd, Attributes), Errno> {
        let file = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        // Again: it may be another file than the one that was looked at.
        let attributes = attributes::of_file(&file)?;
        if kind(&attributes) == FileType::RegularFile { Ok((file, attributes)) } else { Err(Errno::NXIO) }
    }
}

impl Server {
    pub fn new(roots: Vec<Root>) -> Self {
        Self { roots, handles: Handles::default() }
    }

    /// Serves the request that lies in the window.
    pub fn serve(&mut self, window: &Window) {
        // The one copy: the guest may change the original as it likes from here on.
        let request = window.request();
        let reply = self
            .answer(&request, window)
            .unwrap_or_else(|errno| Reply { status: -errno.raw_os_error(), ..Reply::default() });
        window.set_reply(&reply);
    }

    fn answer(&mut self, request: &Request, window: &Window) -> Result<Reply, Errno> {
        match request.operation {
            STAT => self.stat(request, window),
            READ_DIR => self.read_dir(request, window),
            READ_LINK => self.read_link(request, window),
            OPEN => self.open(request, window),
            READ => self.read(request, window),
            FETCH => self.fetch(request, window),
            CLOSE => self.handles.close(request.handle).map(|()| Reply::default()),
            _ => Err(Errno::NOSYS),
        }
    }

    /// The request's root and path, once they are acceptable.
    fn place(&self, request: &Request, window: &Window) -> Result<(&Root, GuestPath, Visibility), Errno> {
        let root = self.roots.get(request.root as usize).ok_or(Errno::NODEV)?;
        if u64::from(request.path_len) >= PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let path = GuestPath::new(window.data(request.path_len as usize))?;
        match root.rules.visibility(&path) {
            Visibility::Hidden => Err(Errno::NOENT),
            visibility => Ok((root, path, visibility)),
        }
    }

    fn stat(&self, request: &Request, window: &Window) -> Result<Reply, Errno> {
        let (root, path, _) = self.place(request, window)?;
        let (_, attributes) = root.stat(&path)?;
        Ok(Reply { attributes, ..Reply::default() })
    }

    fn read_dir(&self, request: &Request, window: &Window) -> Result<Reply, Errno> {
        let with_attributes = match request.flags {
            0 => false,
            WITH_ATTRIBUTES => true,
            _ => return Err(Errno::INVAL),
        };
        let (root, path, visibility) = self.place(request, window)?;
        let directory = root.open(&path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let listing = match visibility {
            Visibility::Empty => Listing::default(),
            _ => list(&directory, request.offset, with_attributes, &root.rules.entries_of(&path))?,
        };
        window.set_data(&listing.bytes);
        Ok(Reply { len: listing.bytes.len() as u32, value: listing.next, ..Reply::default() })
    }

    fn read_link(&self, request: &Request, window: &Window) -> Result<Reply, Errno> {
        let (root, path, _) = self.place(request, window)?;
        let (link, attributes) = root.stat(&path)?;
        if kind(&attributes) != FileType::Symlink {
            return Err(Errno::INVAL);
        }
        let len = send_target(&link, window)?;
        Ok(Reply { len, attributes, ..Reply::default() })
    }

    fn open(&mut self, request: &Request, window: &Window) -> Result<Reply, Errno> {
        if OFlags::from_bits_retain(request.flags).intersects(OFlags::ACCMODE | OFlags::CREATE | OFlags::TRUNC) {
            return Err(Errno::ROFS);
        }
        let (root, path, _) = self.place(request, window)?;
        let (_, attributes) = root.stat(&path)?;
        match kind(&attributes) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Errno::ISDIR),
            FileType::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::NXIO),
        }
        let (file, attributes) = root.open_regular(&path)?;
        let handle = self.handles.insert(file)?;
        Ok(Reply { value: handle, attributes, ..Reply::default() })
    }

    fn fetch(&mut self, request: &Request, window: &Window) -> Result<Reply, Errno> {
        let wanted = data_len(request)?;
        let (root, path, _) = self.place(request, window)?;
        let (file, attributes) = root.stat(&path)?;
        let bare = Reply { attributes, ..Reply::default() };
        match kind(&attributes) {
            FileType::Symlink => Ok(Reply { len: send_target(&file, window)?, ..bare }),
            FileType::RegularFile if wanted > 0 => {
                let Ok((file, attributes)) = root.open_regular(&path) else { return Ok(bare) };
                let len = window.read_file(file.as_fd(), wanted, 0)?;
                let value = if attributes.size > len as u64 { self.handles.insert(file).unwrap_or(0) } else { 0 };
                Ok(Reply { len: len as u32, value, attributes, ..Reply::default() })
            }
            _ => Ok(bare),
        }
    }

    fn read(&self, request: &Request, window: &Window) -> Result<Reply, Errno> {
        let file = self.handles.get(request.handle)?;
        let wanted = data_len(request)?;
        let offset = i64::try_from(request.offset).map_err(|_| Errno::INVAL)?;
        let len = window.read_file(file.as_fd(), wanted, offset)?;
        Ok(Reply { len: len as u32, ..Reply::default() })
    }
}

fn kind(attributes: &Attributes) -> FileType {
    FileType::from_raw_mode(attributes.mode)
}

/// How much data a request asks for, once that fits into the window.
fn data_len(request: &Request) -> Result<usize, Errno> {
    if u64::from(request.len) > DATA_LEN { Err(Errno::INVAL) } else { Ok(request.len as usize) }
}

/// Puts a link's target into the window.
fn send_target(link: &OwnedFd, window: &Window) -> Result<u32, Errno> {
    let target = readlinkat(link, c"", Vec::with_capacity(256))?.into_bytes();
    window.set_data(&target);
    Ok(target.len() as u32)
}
