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

/// Its option for a directory that the guest may change.
const WRITABLE: &str = "--writable-root-fd";
/// Name of the proxy's executable.
const PROXY: &str = "kasoku-fsproxy";

/// A proxy that serves `mounts`, and the system root at "/" when `system` asks for it. None when there is nothing to serve.
pub fn serve(
    native: &NativeFiles,
    mounts: &[HostMount],
    system: bool,
    region_index: u32,
) -> Result<Option<(Companion, RegionFds, Vec<MountPoint>)>, Failure> {
    let mut roots: Vec<(OwnedFd, &'static str, String)> = Vec::new();
    if system {
        roots.push((open_directory(Path::new("/"))?, "--system-root-fd", "/".to_owned()));
    }
    for mount in mounts {
        let option = if mount.writable { WRITABLE } else { "--root-fd" };
        roots.push((open_directory(&mount.host)?, option, mount.guest.clone()));
    }
    if roots.is_empty() {
        return Ok(None);
    }
    let descriptors: Vec<_> = roots.iter().map(|(fd, option, _)| (*option, fd.as_fd())).collect();
    let proxy = native.required(PROXY)?;
    let (companion, region) = Companion::spawn(&proxy, RegionKind::Fs, WINDOW_LEN, &[], &descriptors, |command| {
        command.env_clear().stdout(Stdio::null());
    })?;
    let points = roots
        .iter()
        .enumerate()
        .map(|(root, (_, option, path))| MountPoint {
            region: region_index,
            root: root as u32,
            path: path.clone(),
            read_only: *option != WRITABLE,
        })
        .collect();
    Ok(Some((companion, region, points)))
}

fn open_directory(path: &Path) -> Result<OwnedFd, Failure> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Failure::new(format!("cannot open the directory {}: {e}", path.display())))
}
