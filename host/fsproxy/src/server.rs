//! One request, one reply.
use crate::Window;
use crate::directory::{Listing, list};
use crate::handles::Handles;
use crate::path::GuestPath;
use crate::rules::{Rules, Visibility};
use kasoku_abi::fs::{Attributes, CLOSE, DATA_LEN, OPEN, PATH_MAX, READ, READ_DIR, READ_LINK, Reply, Request, STAT};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp, makedev, openat2, readlinkat,
    statx,
};
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

    fn stat(&self, path: &GuestPath) -> Result<(OwnedFd, Statx), Errno> {
        let file = self.open(path, OFlags::PATH)?;
        let attributes = statx(&file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        Ok((file, attributes))
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
        Ok(Reply { attributes: convert(&attributes), ..Reply::default() })
    }

    fn read_dir(&self, request: &Request, window: &Window) -> Result<Reply, Errno> {
        let (root, path, visibility) = self.place(request, window)?;
        let directory = root.open(&path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let listing = match visibility {
            Visibility::Empty => Listing::default(),
            _ => list(&directory, &path, request.offset, &root.rules)?,
        };
        window.set_data(&listing.bytes);
        Ok(Reply { len: listing.bytes.len() as u32, value: listing.next, ..Reply::default() })
    }

    fn read_link(&self, request: &Request, window: &Window) -> Result<Reply, Errno> {
        let (root, path, _) = self.place(request, window)?;
        let (link, attributes) = root.stat(&path)?;
        if FileType::from_raw_mode(attributes.stx_mode.into()) != FileType::Symlink {
            return Err(Errno::INVAL);
        }
        let target = readlinkat(&link, c"", Vec::with_capacity(256))?.into_bytes();
        window.set_data(&target);
        Ok(Reply { len: target.len() as u32, attributes: convert(&attributes), ..Reply::default() })
    }

    fn open(&mut self, request: &Request, window: &Window) -> Result<Reply, Errno> {
        if OFlags::from_bits_retain(request.flags).intersects(OFlags::ACCMODE | OFlags::CREATE | OFlags::TRUNC) {
            return Err(Errno::ROFS);
        }
        let (root, path, _) = self.place(request, window)?;
        // Looked at before it is opened: opening a device can have effects, and a FIFO would wait for a writer.
        let (_, attributes) = root.stat(&path)?;
        match FileType::from_raw_mode(attributes.stx_mode.into()) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Errno::ISDIR),
            FileType::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::NXIO),
        }
        let file = root.open(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let attributes = statx(&file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        if FileType::from_raw_mode(attributes.stx_mode.into()) != FileType::RegularFile {
            return Err(Errno::NXIO);
        }
        let handle = self.handles.insert(file)?;
        Ok(Reply { value: handle, attributes: convert(&attributes), ..Reply::default() })
    }

    fn read(&self, request: &Request, window: &Window) -> Result<Reply, Errno> {
        let file = self.handles.get(request.handle)?;
        if u64::from(request.len) > DATA_LEN {
            return Err(Errno::INVAL);
        }
        let offset = i64::try_from(request.offset).map_err(|_| Errno::INVAL)?;
        let len = window.read_file(file.as_fd(), request.len as usize, offset)?;
        Ok(Reply { len: len as u32, ..Reply::default() })
    }
}

fn convert(statx: &Statx) -> Attributes {
    let ns = |time: &StatxTimestamp| {
        u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.into())
    };
    Attributes {
        inode: statx.stx_ino,
        size: statx.stx_size,
        blocks: statx.stx_blocks,
        modified_ns: ns(&statx.stx_mtime),
        changed_ns: ns(&statx.stx_ctime),
        accessed_ns: ns(&statx.stx_atime),
        mode: statx.stx_mode.into(),
        links: statx.stx_nlink,
        uid: statx.stx_uid,
        gid: statx.stx_gid,
        device: makedev(statx.stx_dev_major, statx.stx_dev_minor),
    }
}
