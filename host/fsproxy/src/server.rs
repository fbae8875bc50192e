//! One request, one reply.
use crate::Window;
use crate::directory::{Listing, list};
use crate::handles::Handles;
use crate::path::GuestPath;
use crate::root::{Root, kind};
use crate::rules::Visibility;
use crate::{attributes, changes};
use kasoku_abi::fs::{
    CLOSE, DATA_LEN, FETCH, FOR_WRITING, OPEN, PATH_MAX, READ, READ_DIR, READ_LINK, Reply, Request, STAT, STAT_HANDLE,
    WITH_ATTRIBUTES,
};
use rustix::fs::{FileType, OFlags, readlinkat};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

pub struct Server {
    roots: Vec<Root>,
    pub(crate) handles: Handles,
    /// This process's open files as the kernel shows them, by which one without a name gets one.
    descriptors: Option<OwnedFd>,
}

impl Server {
    /// `descriptors` is `/proc/self/fd`, where the guest may change files.
    pub fn new(roots: Vec<Root>, descriptors: Option<OwnedFd>) -> Self {
        Self { roots, handles: Handles::default(), descriptors }
    }

    /// The directory and the name that lead to an open file of this process.
    pub fn descriptor(&self, file: &OwnedFd) -> Result<(&OwnedFd, String), Errno> {
        let directory = self.descriptors.as_ref().ok_or(Errno::OPNOTSUPP)?;
        Ok((directory, file.as_raw_fd().to_string()))
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
            STAT_HANDLE => {
                let attributes = attributes::of_file(self.handles.get(request.handle)?)?;
                Ok(Reply { attributes, ..Reply::default() })
            }
            _ => changes::answer(self, request, window),
        }
    }

    /// The request's root and path, once they are acceptable.
    pub fn place(&self, request: &Request, window: &Window) -> Result<(&Root, GuestPath, Visibility), Errno> {
        let root = self.roots.get(request.root as usize).ok_or(Errno::NODEV)?;
        if u64::from(request.path_len) >= PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let path = GuestPath::new(window.data(request.path_len as usize))?;
        match root.rules().visibility(&path) {
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
            _ => list(&directory, request.offset, with_attributes, &root.rules().entries_of(&path))?,
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
        let access = match request.flags {
            0 => OFlags::RDONLY,
            FOR_WRITING => OFlags::RDWR,
            _ => return Err(Errno::INVAL),
        };
        let (root, path, _) = self.place(request, window)?;
        if access != OFlags::RDONLY {
            root.check_writable()?;
        }
        let (_, attributes) = root.stat(&path)?;
        match kind(&attributes) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Errno::ISDIR),
            FileType::Symlink => return Err(Errno::LOOP),
            _ => return Err(Errno::NXIO),
        }
        let (file, attributes) = root.open_regular(&path, access)?;
        let changeable = root.is_writable();
        let handle = self.handles.insert(file, changeable)?;
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
                let Ok((file, attributes)) = root.open_regular(&path, OFlags::RDONLY) else { return Ok(bare) };
                let len = window.read_file(file.as_fd(), wanted, 0)?;
                let more = attributes.size > len as u64;
                let changeable = root.is_writable();
                let value = if more { self.handles.insert(file, changeable).unwrap_or(0) } else { 0 };
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
