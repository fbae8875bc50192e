//! What is known about a file besides its bytes.
use linux_raw_sys::general::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK};

/// A point in time as files carry it: seconds since 1970 and nanoseconds (below 1e9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    pub sec: i64,
    pub nsec: u32,
}

impl Time {
    /// From nanoseconds since 1970, as the clock gives them.
    pub fn from_ns(ns: u64) -> Time {
        Time { sec: (ns / 1_000_000_000) as i64, nsec: (ns % 1_000_000_000) as u32 }
    }
}

/// What a file is. It never changes during the file's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Regular,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
    /// Files without a type in their mode: eventfd, epoll and the like ("anon_inode").
    Anonymous,
}

impl Kind {
    /// The type bits of `st_mode`.
    pub fn mode_bits(self) -> u32 {
        match self {
            Kind::Regular => S_IFREG,
            Kind::Directory => S_IFDIR,
            Kind::Symlink => S_IFLNK,
            Kind::CharDevice => S_IFCHR,
            Kind::BlockDevice => S_IFBLK,
            Kind::Fifo => S_IFIFO,
            Kind::Socket => S_IFSOCK,
            Kind::Anonymous => 0,
        }
    }

    /// From the type bits of `st_mode`; `None` for a value that names no type.
    pub fn from_mode(mode: u32) -> Option<Kind> {
        Some(match mode & S_IFMT {
            S_IFREG => Kind::Regular,
            S_IFDIR => Kind::Directory,
            S_IFLNK => Kind::Symlink,
            S_IFCHR => Kind::CharDevice,
            S_IFBLK => Kind::BlockDevice,
            S_IFIFO => Kind::Fifo,
            S_IFSOCK => Kind::Socket,
            _ => return None,
        })
    }

    /// `DT_*` of `getdents64`.
    pub fn dirent_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }

    /// From `DT_*`; `None` for DT_UNKNOWN and values that name no type.
    pub fn from_dirent_type(kind: u8) -> Option<Kind> {
        Kind::from_mode(u32::from(kind) << 12)
    }
}

/// The answer of `fstat`, before it is laid out for one of the system calls that give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub device: u64,
    pub inode: u64,
    pub kind: Kind,
    /// Permission bits, set-id and sticky bits (0o7777).
    pub permissions: u32,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    /// Device number of a device file.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// Bytes of a good I/O unit.
    pub block_size: u32,
    /// Memory or disk in use, in 512-byte units.
    pub blocks: u64,
    pub accessed: Time,
    pub modified: Time,
    pub changed: Time,
    pub born: Time,
}

impl Stat {
    /// An empty file of root's, for the fields that most files leave at their usual values.
    pub fn new(kind: Kind, permissions: u32, inode: u64) -> Stat {
        let epoch = Time::default();
        Stat {
            device: DEVICE_ANONYMOUS,
            inode,
            kind,
            permissions,
            links: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 0,
            block_size: 4096,
            blocks: 0,
            accessed: epoch,
            modified: epoch,
            changed: epoch,
            born: epoch,
        }
    }

    /// `st_mode`.
    pub fn mode(&self) -> u32 {
        self.kind.mode_bits() | self.permissions
    }
}

/// `st_dev` of pipes, sockets and anonymous files.
pub const DEVICE_ANONYMOUS: u64 = 0xe;

/// A device number as `st_rdev` and `st_dev` encode it.
pub const fn device_number(major: u64, minor: u64) -> u64 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12 | (major & !0xfff) << 32
}
