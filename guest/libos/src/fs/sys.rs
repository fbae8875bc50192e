//! `/sys`: what the C library and thread pools look up about processors and memory.
use super::dev::empty;
use super::entry::Entry;
use super::mount::FsType;
use super::proc::{Text, cpus, directory, file, machine};
use super::setup::mount_node;
use crate::errno::Result;
use alloc::format;
use alloc::sync::Arc;

/// Files by path.
const FILES: &[(&str, Text)] = &[
    ("devices/system/cpu/possible", cpus),
    ("devices/system/cpu/present", cpus),
    ("devices/system/cpu/online", cpus),
    ("devices/system/cpu/offline", || b"\n".to_vec()),
    ("devices/system/cpu/isolated", || b"\n".to_vec()),
    ("devices/system/cpu/kernel_max", || b"7\n".to_vec()),
    ("devices/system/node/online", || b"0\n".to_vec()),
    ("devices/system/node/possible", || b"0\n".to_vec()),
    ("devices/system/node/node0/cpulist", cpus),
    ("kernel/mm/transparent_hugepage/enabled", || b"[always] madvise never\n".to_vec()),
    ("kernel/mm/transparent_hugepage/defrag", || b"always defer defer+madvise [madvise] never\n".to_vec()),
    ("kernel/mm/transparent_hugepage/hpage_pmd_size", || b"2097152\n".to_vec()),
    ("kernel/mm/transparent_hugepage/shmem_enabled", || b"always within_size advise [never] deny force\n".to_vec()),
];

/// Files of each processor's directory.
const CPU_FILES: &[(&str, Text)] = &[
    ("topology/physical_package_id", || b"0\n".to_vec()),
    ("topology/die_id", || b"0\n".to_vec()),
    ("topology/core_siblings_list", cpus),
    ("topology/package_cpus_list", cpus),
];

/// Mounts `/sys` in the root.
pub fn mount(root: &Arc<Entry>) -> Result<()> {
    let sys = mount_node(root, "sys", empty(FsType::Sysfs, "sysfs", 0o555))?;
    for (path, text) in FILES {
        file(&sys, path, *text)?;
    }
    for cpu in 0..machine().cpus.max(1) {
        for (path, text) in CPU_FILES {
            file(&sys, &format!("devices/system/cpu/cpu{cpu}/{path}"), *text)?;
        }
    }
    for path in ["class", "block", "bus", "fs"] {
        directory(&sys, path)?;
    }
    Ok(())
}
