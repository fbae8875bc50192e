//! Host directories for the guest, through a file-system proxy.
use super::args::HostMount;
use super::companion::Companion;
use super::{Failure, NativeFiles};
use crate::config::MountPoint;
use crate::regions::{RegionFds, RegionKind};
use kasoku_abi::fs::WINDOW_LEN;
use rustix::fs::{Mode, OFlags, open};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;

/// Name of the proxy's executable.
const PROXY: &str = "kasoku-fsproxy";

/// A proxy that serves `mounts`, and the system root at "/" when `system` asks for it. None when there is nothing to serve.
pub fn serve(
    native: &NativeFiles,
    mounts: &[HostMount],
    system: bool,
    region_index: u32,
) -> Result<Option<(Companion, RegionFds, Vec<MountPoint>)>, Failure> {
    let mut roots: Vec<(OwnedFd, String)> = Vec::new();
    if system {
        roots.push((open_directory(Path::new("/"))?, "/".to_owned()));
    }
    for mount in mounts {
        roots.push((open_directory(&mount.host)?, mount.guest.clone()));
    }
    if roots.is_empty() {
        return Ok(None);
    }
    let descriptors: Vec<_> = roots
        .iter()
        .enumerate()
        .map(|(i, (fd, _))| (if system && i == 0 { "--system-root-fd" } else { "--root-fd" }, fd.as_fd()))
        .collect();
    let proxy = native.required(PROXY)?;
    let (companion, region) = Companion::spawn(&proxy, RegionKind::Fs, WINDOW_LEN, &[], &descriptors, |command| {
        command.env_clear().stdout(Stdio::null());
    })?;
    let points = roots
        .iter()
        .enumerate()
        .map(|(root, (_, path))| MountPoint {
            region: region_index,
            root: root as u32,
            path: path.clone(),
            read_only: true,
        })
        .collect();
    Ok(Some((companion, region, points)))
}

fn open_directory(path: &Path) -> Result<OwnedFd, Failure> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Failure::new(format!("cannot open the directory {}: {e}", path.display())))
}
