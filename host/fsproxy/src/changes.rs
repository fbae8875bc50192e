//! Requests that change files. Every name is one component in a directory that was opened beneath the root, links are never
//! followed, and what is opened for writing is a regular file.
use crate::Window;
use crate::attributes;
use crate::path::GuestPath;
use crate::root::{Root, kind, open_beneath};
use crate::rules::Visibility;
use crate::server::Server;
use kasoku_abi::fs::{
    APPEND, CREATE, DATA_LEN, FOR_EVER, LINK, MAKE_DIR, NAMELESS, PATH_MAX, REMOVE_DIR, RENAME, Reply, Request,
    SET_MODE, SET_TIMES, SYMLINK, SYNC, TRUNCATE, Times, UNLINK, WRITE,
};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, fchmod, fsync, ftruncate, futimens, linkat,
    mkdirat, renameat_with, symlinkat, unlinkat, utimensat,
};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};
use std::ffi::CString;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use zerocopy::FromBytes;

/// Permissions that a guest may give: never to run a file as somebody else.
const MODE_MASK: u32 = 0o1777;

pub fn answer(server: &mut Server, request: &Request, window: &Window) -> Result<Reply, Errno> {
    match request.operation {
        WRITE => write(server, request, window),
        TRUNCATE if request.handle != 0 => {
            let file = server.handles.get_changeable(request.handle)?;
            truncate(file, request)
        }
        SYNC => fsync(server.handles.get_changeable(request.handle)?).map(|()| Reply::default()),
        CREATE => {
            let (root, path) = place(server, request, window)?;
            let file = create(root, &path, request)?;
            let attributes = attributes::of_file(&file)?;
            Ok(Reply { value: server.handles.insert(file, true)?, attributes, ..Reply::default() })
        }
        SET_MODE | SET_TIMES | LINK if request.handle != 0 => change_open(server, request, window),
        TRUNCATE | MAKE_DIR | UNLINK | REMOVE_DIR | RENAME | LINK | SYMLINK | SET_MODE | SET_TIMES => {
            let (root, path) = place(server, request, window)?;
            change(root, &path, request, window)
        }
        _ => Err(Errno::NOSYS),
    }
}

/// The root and the path, where the guest may change something.
fn place<'s>(server: &'s Server, request: &Request, window: &Window) -> Result<(&'s Root, GuestPath), Errno> {
    let (root, path, visibility) = server.place(request, window)?;
    root.check_writable()?;
    if visibility == Visibility::Visible { Ok((root, path)) } else { Err(Errno::ROFS) }
}

fn change(root: &Root, path: &GuestPath, request: &Request, window: &Window) -> Result<Reply, Errno> {
    match request.operation {
        TRUNCATE => return truncate(&root.open_regular(path, OFlags::WRONLY)?.0, request),
        SET_MODE => return set_mode(root, path, request.mode).map(|()| Reply::default()),
        _ => {}
    }
    let (parent, name) = root.parent(path)?;
    match request.operation {
        MAKE_DIR => mkdirat(&parent, &name, permissions(request.mode)),
        UNLINK => unlinkat(&parent, &name, AtFlags::empty()),
        REMOVE_DIR => unlinkat(&parent, &name, AtFlags::REMOVEDIR),
        SYMLINK => symlinkat(target(&behind(request, window)?)?, &parent, &name),
        SET_TIMES => set_times(&parent, &name, &behind(request, window)?),
        _ => {
            let other = GuestPath::new(behind(request, window)?)?;
            if root.rules().visibility(&other) != Visibility::Visible {
                return Err(Errno::ROFS);
            }
            let (other_parent, other_name) = root.parent(&other)?;
            if request.operation == LINK {
                linkat(&parent, &name, &other_parent, &other_name, AtFlags::empty())
            } else {
                let flags = RenameFlags::from_bits(request.flags).filter(|f| !f.contains(RenameFlags::WHITEOUT));
                renameat_with(&parent, &name, &other_parent, &other_name, flags.ok_or(Errno::INVAL)?)
            }
        }
    }
    .map(|()| Reply::default())
}

/// Changes an open file that has no name, or need not have the one it was opened by.
fn change_open(server: &Server, request: &Request, window: &Window) -> Result<Reply, Errno> {
    let file = server.handles.get_changeable(request.handle)?;
    if request.path_len != 0 {
        return Err(Errno::INVAL);
    }
    match request.operation {
        SET_MODE => fchmod(file, allowed(request.mode)?),
        SET_TIMES => futimens(file, &times(&behind(request, window)?)?),
        _ => {
            // The other path, as the one path of a request, is checked like any.
            let (root, path) = place(server, &Request { path_len: request.len, len: 0, ..*request }, window)?;
            let (parent, name) = root.parent(&path)?;
            let (directory, number) = server.descriptor(file)?;
            linkat(directory, number, &parent, &name, AtFlags::SYMLINK_FOLLOW)
        }
    }
    .map(|()| Reply::default())
}

/// The bytes behind the request's path.
fn behind(request: &Request, window: &Window) -> Result<Vec<u8>, Errno> {
    let begin = request.path_len as usize;
    // The path's length was checked: it is less than PATH_MAX.
    if u64::from(request.len) >= PATH_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    Ok(window.data(begin + request.len as usize).split_off(begin))
}

fn target(bytes: &[u8]) -> Result<CString, Errno> {
    if bytes.is_empty() { Err(Errno::NOENT) } else { CString::new(bytes).map_err(|_| Errno::INVAL) }
}

fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & MODE_MASK)
}

fn create(root: &Root, path: &GuestPath, request: &Request) -> Result<OwnedFd, Errno> {
    let mode = permissions(request.mode);
    let nameless = match request.flags {
        0 => {
            let (parent, name) = root.parent(path)?;
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOCTTY;
            return open_beneath(&parent, name, flags, mode);
        }
        NAMELESS => OFlags::empty(),
        flags if flags == NAMELESS | FOR_EVER => OFlags::EXCL,
        _ => return Err(Errno::INVAL),
    };
    let directory = root.open(path, OFlags::PATH | OFlags::DIRECTORY)?;
    open_beneath(&directory, c".".into(), OFlags::RDWR | OFlags::TMPFILE | nameless, mode)
}

fn write(server: &Server, request: &Request, window: &Window) -> Result<Reply, Errno> {
    let file = server.handles.get_changeable(request.handle)?;
    if request.path_len != 0 || u64::from(request.len) > DATA_LEN {
        return Err(Errno::INVAL);
    }
    let data = window.data(request.len as usize);
    let (offset, flags) = match request.flags {
        0 => (request.offset, ReadWriteFlags::empty()),
        APPEND => (0, ReadWriteFlags::APPEND),
        _ => return Err(Errno::INVAL),
    };
    if i64::try_from(offset).is_err() {
        return Err(Errno::INVAL);
    }
    let written = pwritev2(file, &[IoSlice::new(&data)], offset, flags)?;
    Ok(Reply { value: written as u64, attributes: attributes::of_file(file)?, ..Reply::default() })
}

fn truncate(file: &OwnedFd, request: &Request) -> Result<Reply, Errno> {
    if i64::try_from(request.offset).is_err() {
        return Err(Errno::INVAL);
    }
    ftruncate(file, request.offset)?;
    Ok(Reply { attributes: attributes::of_file(file)?, ..Reply::default() })
}

/// Changes a file or directory that this process may open; a link's permissions mean nothing.
fn set_mode(root: &Root, path: &GuestPath, mode: u32) -> Result<(), Errno> {
    let permissions = allowed(mode)?;
    let (_, attributes) = root.stat(path)?;
    let file = match kind(&attributes) {
        FileType::RegularFile => match root.open_regular(path, OFlags::RDONLY) {
            Err(Errno::ACCESS) => root.open_regular(path, OFlags::WRONLY)?.0,
            other => other?.0,
        },
        FileType::Directory => root.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?,
        FileType::Symlink => return Err(Errno::OPNOTSUPP),
        _ => return Err(Errno::PERM),
    };
    fchmod(&file, permissions)
}

/// Permissions that may be asked for.
fn allowed(mode: u32) -> Result<Mode, Errno> {
    match mode {
        mode if mode & !0o7777 != 0 => Err(Errno::INVAL),
        mode if mode & !MODE_MASK != 0 => Err(Errno::PERM),
        mode => Ok(permissions(mode)),
    }
}

fn set_times(parent: &OwnedFd, name: &CString, bytes: &[u8]) -> Result<(), Errno> {
    utimensat(parent, name, &times(bytes)?, AtFlags::SYMLINK_NOFOLLOW)
}

fn times(bytes: &[u8]) -> Result<Timestamps, Errno> {
    let times = Times::read_from_bytes(bytes).map_err(|_| Errno::INVAL)?;
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    Ok(Timestamps {
        last_access: time(times.accessed_s, times.accessed_ns),
        last_modification: time(times.modified_s, times.modified_ns),
    })
}
