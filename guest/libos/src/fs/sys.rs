//! `/sys`: what the C library and thread pools look up about processors and memory.
use super::dev::empty;
use super::entry::Entry;
use super::mount::FsType;
use super::proc::{Text, cpus, directory, file, generated, machine};
use super::setup::mount_node;
use crate::errno::Result;
use crate::ipc::socket::inet::interface;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

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
    ("devices/system/node/node0/cpumap", all_cpus_mask),
    ("class/net/lo/address", || b"00:00:00:00:00:00\n".to_vec()),
    ("class/net/lo/flags", || format!("{:#x}\n", interface::FLAGS & !interface::FOUND_OUT).into_bytes()),
    ("class/net/lo/ifindex", || format!("{}\n", interface::INDEX).into_bytes()),
    ("class/net/lo/mtu", || format!("{}\n", interface::MTU).into_bytes()),
    ("class/net/lo/operstate", || b"unknown\n".to_vec()),
    ("class/net/lo/type", || format!("{}\n", interface::HARDWARE).into_bytes()),
    ("kernel/mm/transparent_hugepage/enabled", || b"[always] madvise never\n".to_vec()),
    ("kernel/mm/transparent_hugepage/defrag", || b"always defer defer+madvise [madvise] never\n".to_vec()),
    ("kernel/mm/transparent_hugepage/hpage_pmd_size", || b"2097152\n".to_vec()),
    ("kernel/mm/transparent_hugepage/shmem_enabled", || b"always within_size advise [never] deny force\n".to_vec()),
];

/// Files of each processor's directory: what it shares with all others, as one socket of cores without siblings has it.
const CPU_FILES: &[(&str, Text)] = &[
    ("topology/physical_package_id", || b"0\n".to_vec()),
    ("topology/die_id", || b"0\n".to_vec()),
    ("topology/core_siblings", all_cpus_mask),
    ("topology/core_siblings_list", cpus),
    ("topology/package_cpus", all_cpus_mask),
    ("topology/package_cpus_list", cpus),
    ("topology/die_cpus", all_cpus_mask),
    ("topology/die_cpus_list", cpus),
];

/// Files of each processor's directory that name the processor: a mask, or its number.
const OWN_FILES: &[(&str, bool)] = &[
    ("topology/core_id", false),
    ("topology/core_cpus", true),
    ("topology/core_cpus_list", false),
    ("topology/thread_siblings", true),
    ("topology/thread_siblings_list", false),
];

fn all_cpus_mask() -> Vec<u8> {
    format!("{:x}\n", (1u64 << machine().cpus.max(1)) - 1).into_bytes()
}

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
        for (path, mask) in OWN_FILES {
            let text = if *mask { format!("{:x}\n", 1u64 << cpu) } else { format!("{cpu}\n") };
            let text = move || text.clone().into_bytes();
            generated(&sys, &format!("devices/system/cpu/cpu{cpu}/{path}"), 0o444, Arc::new(text))?;
        }
    }
    for path in ["class/block", "class/power_supply", "block", "bus", "fs"] {
        directory(&sys, path)?;
    }
    Ok(())
}
