//! What `/proc/mounts` and `statfs` say about parts of the tree. There is one tree; a mount is a part of it whose nodes
//! name the same [`Mount`].
use super::live::Live;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

/// What kind of file system a part of the tree claims to be: name and `f_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsType {
    /// Image layers (or the host's directories) with memory over them.
    Overlay,
    Tmpfs,
    Proc,
    Sysfs,
    DevTmpfs,
    DevPts,
    /// A host directory.
    Virtiofs,
    /// A volume.
    Erofs,
}

impl FsType {
    pub fn name(self) -> &'static str {
        match self {
            FsType::Overlay => "overlay",
            FsType::Tmpfs => "tmpfs",
            FsType::Proc => "proc",
            FsType::Sysfs => "sysfs",
            FsType::DevTmpfs => "devtmpfs",
            FsType::DevPts => "devpts",
            FsType::Virtiofs => "virtiofs",
            FsType::Erofs => "erofs",
        }
    }

    /// `f_type` of `statfs`.
    pub fn magic(self) -> u64 {
        match self {
            FsType::Overlay => 0x794c_7630,
            FsType::Tmpfs | FsType::DevTmpfs => 0x0102_1994,
            FsType::Proc => 0x9fa0,
            FsType::Sysfs => 0x6265_6572,
            FsType::DevPts => 0x1cd1,
            FsType::Virtiofs => 0x6573_5546,
            FsType::Erofs => 0xe0f5_e1e2,
        }
    }

    /// Whether `df` shows a size for it.
    pub fn is_storage(self) -> bool {
        !matches!(self, FsType::Proc | FsType::Sysfs | FsType::DevPts)
    }

    /// Whether reads move the access time ("relatime").
    pub fn keeps_access_times(self) -> bool {
        matches!(self, FsType::Tmpfs | FsType::DevTmpfs)
    }
}

/// A mounted part of the tree.
pub struct Mount {
    pub id: u32,
    /// `st_dev` of nodes that were made in memory here.
    pub device: u64,
    pub fs_type: FsType,
    pub read_only: bool,
    /// First field of `/proc/mounts`.
    pub source: String,
    /// The host's side of a directory that the guest may change.
    pub live: Option<Live>,
}

static NEXT: AtomicU32 = AtomicU32::new(1);

impl Mount {
    pub fn new(fs_type: FsType, read_only: bool, source: &str) -> Arc<Mount> {
        Self::build(fs_type, read_only, source, None)
    }

    /// A host directory that the guest may change.
    pub fn live(live: Live, source: &str) -> Arc<Mount> {
        Self::build(FsType::Virtiofs, false, source, Some(live))
    }

    fn build(fs_type: FsType, read_only: bool, source: &str, live: Option<Live>) -> Arc<Mount> {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let device = super::stat::device_number(0, 0x20 + u64::from(id));
        Arc::new(Mount { id, device, fs_type, read_only, source: source.into(), live })
    }

    /// Options as `/proc/mounts` shows them.
    pub fn options(&self) -> &'static str {
        match (self.read_only, self.fs_type.keeps_access_times()) {
            (true, true) => "ro,relatime",
            (true, false) => "ro,noatime",
            (false, true) => "rw,relatime",
            (false, false) => "rw,noatime",
        }
    }
}
