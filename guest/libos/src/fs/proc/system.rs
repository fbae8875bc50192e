//! `/proc/*` about the machine, and `/proc/sys`.
use super::format::cpu_list;
use super::{Text, directory, file, machine, processes, writable_file};
use crate::errno::{Errno, Result};
use crate::fs::entry::Entry;
use crate::fs::node::{Content, Node, fresh_inode};
use crate::fs::notify::inotify;
use crate::fs::setup::add;
use crate::fs::stat::Kind;
use crate::fs::{cache, pages};
use crate::mm::frame::memory;
use crate::sync::Mutex;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

const SECOND_NS: u64 = 1_000_000_000;
const TICK_NS: u64 = 10_000_000;

/// Files by path.
const FILES: &[(&str, Text)] = &[
    ("cpuinfo", cpuinfo),
    ("meminfo", meminfo),
    ("stat", stat),
    ("uptime", || {
        let machine = machine();
        let show = |ns: u64| format!("{}.{:02}", ns / SECOND_NS, ns % SECOND_NS / TICK_NS);
        format!("{} {}\n", show(machine.uptime_ns), show(machine.idle_ns)).into_bytes()
    }),
    ("loadavg", || {
        let machine = machine();
        format!("0.00 0.00 0.00 1/{} {}\n", machine.threads, machine.last_pid).into_bytes()
    }),
    ("version", || {
        let machine = machine();
        format!("Linux version {} (kasoku) {}\n", machine.release, machine.version).into_bytes()
    }),
    ("cmdline", || b"\n".to_vec()),
    ("filesystems", || {
        b"nodev\ttmpfs\nnodev\tproc\nnodev\tsysfs\nnodev\tdevtmpfs\nnodev\tdevpts\nnodev\toverlay\nnodev\tvirtiofs\n\terofs\n".to_vec()
    }),
    ("devices", || b"Character devices:\n  1 mem\n  5 /dev/tty\n136 pts\n\nBlock devices:\n".to_vec()),
    ("diskstats", Vec::new),
    ("modules", Vec::new),
    ("partitions", || b"major minor  #blocks  name\n\n".to_vec()),
    ("swaps", || b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_vec()),
    ("vmstat", || format!("nr_free_pages {}\npswpin 0\npswpout 0\n", memory().free_frames()).into_bytes()),
    ("sys/kernel/osrelease", || line(machine().release)),
    ("sys/kernel/version", || line(machine().version)),
    ("sys/kernel/ostype", || line("Linux")),
    ("sys/kernel/domainname", || line("(none)")),
    ("sys/kernel/pid_max", || line("4194304")),
    ("sys/kernel/threads-max", || line(&machine().max_threads.to_string())),
    ("sys/kernel/ngroups_max", || line("65536")),
    ("sys/kernel/cap_last_cap", || line("40")),
    ("sys/kernel/overflowuid", || line("65534")),
    ("sys/kernel/overflowgid", || line("65534")),
    ("sys/kernel/core_pattern", || line("core")),
    ("sys/kernel/randomize_va_space", || line("0")),
    ("sys/kernel/yama/ptrace_scope", || line("1")),
    ("sys/kernel/sched_rr_timeslice_ms", || line("100")),
    ("sys/kernel/shmmax", || line("18446744073692774399")),
    ("sys/kernel/msgmax", || line("8192")),
    ("sys/kernel/perf_event_paranoid", || line("4")),
    ("sys/kernel/random/uuid", || line(&random_uuid())),
    ("sys/kernel/random/boot_id", boot_id),
    ("sys/kernel/random/entropy_avail", || line("256")),
    ("sys/kernel/random/poolsize", || line("256")),
    ("sys/vm/overcommit_memory", || line("0")),
    ("sys/vm/overcommit_ratio", || line("50")),
    ("sys/vm/max_map_count", || line("65530")),
    ("sys/vm/mmap_min_addr", || line("65536")),
    ("sys/vm/swappiness", || line("60")),
    ("sys/fs/file-max", || line("9223372036854775807")),
    ("sys/fs/inotify/max_queued_events", || line(&inotify::QUEUE_MAX.to_string())),
    ("sys/fs/inotify/max_user_instances", || line(&crate::fs::table::MAX_DESCRIPTORS.to_string())),
    ("sys/fs/inotify/max_user_watches", || line(&inotify::WATCHES_MAX.to_string())),
    ("sys/fs/nr_open", || line(&crate::fs::table::MAX_DESCRIPTORS.to_string())),
    ("sys/fs/pipe-max-size", || line("1048576")),
    ("sys/fs/protected_hardlinks", || line("1")),
    ("sys/fs/protected_symlinks", || line("0")),
    ("sys/net/core/somaxconn", || line("4096")),
    ("sys/net/ipv4/ip_local_port_range", || line("32768\t60999")),
    ("sys/net/ipv6/conf/all/disable_ipv6", || line("1")),
];

/// Links in `/proc` beside `self`.
const LINKS: &[(&str, &str)] = &[("mounts", "self/mounts"), ("net", "self/net")];

/// Fills `/proc`.
pub(super) fn fill(proc: &Arc<Entry>) -> Result<()> {
    for (path, text) in FILES {
        file(proc, path, *text)?;
    }
    writable_file(proc, "sys/kernel/hostname", hostname, |bytes| {
        const LONGEST: usize = 64;
        let name = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if name.len() > LONGEST {
            return Err(Errno::EINVAL);
        }
        processes().ok_or(Errno::EIO)?.set_hostname(name);
        Ok(())
    })?;
    for (name, target) in LINKS {
        let content = Content::Symlink(Box::from(target.as_bytes()));
        add(proc, name, Node::system(&proc.node.mount, content, Kind::Symlink, 0o777, fresh_inode()))?;
    }
    directory(proc, "fs").map(|_| ())
}

fn line(text: &str) -> Vec<u8> {
    format!("{text}\n").into_bytes()
}

fn hostname() -> Vec<u8> {
    let mut name = machine().hostname;
    name.push(b'\n');
    name
}

fn random_uuid() -> String {
    let mut bytes = [0u8; 16];
    crate::random::fill(&mut bytes);
    // Version 4, variant 1 (RFC 4122).
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::new();
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        // Writing to a `String` does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn boot_id() -> Vec<u8> {
    static BOOT_ID: Mutex<Option<String>> = Mutex::new(None);
    line(BOOT_ID.lock().get_or_insert_with(random_uuid))
}

fn meminfo() -> Vec<u8> {
    const FRAME_KIB: usize = 4;
    let memory = memory();
    let (total, free) = (memory.total_frames() * FRAME_KIB, memory.free_frames() * FRAME_KIB);
    let cached = cache::pages_cached() * FRAME_KIB;
    let shared = pages::pages_used() * FRAME_KIB;
    let used = total - free.min(total);
    let fields: [(&str, usize); 29] = [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", (free + cached).min(total)),
        ("Buffers", 0),
        ("Cached", cached + shared),
        ("SwapCached", 0),
        ("Active", used),
        ("Inactive", 0),
        ("Active(anon)", used.saturating_sub(cached)),
        ("Inactive(anon)", 0),
        ("Active(file)", cached),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", used.saturating_sub(cached + shared)),
        ("Mapped", 0),
        ("Shmem", shared),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("KernelStack", 0),
        ("PageTables", 0),
        ("CommitLimit", total / 2),
        ("Committed_AS", used),
        ("Hugepagesize", 2048),
    ];
    let mut text = String::new();
    for (name, kib) in fields {
        let colon = format!("{name}:");
        let _ = writeln!(text, "{colon:<16}{kib:8} kB");
    }
    text.into_bytes()
}

fn stat() -> Vec<u8> {
    let machine = machine();
    let cpus = u64::from(machine.cpus.max(1));
    let busy = (machine.uptime_ns * cpus).saturating_sub(machine.idle_ns) / TICK_NS;
    let idle = machine.idle_ns / TICK_NS;
    let mut text = format!("cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n");
    for cpu in 0..cpus {
        let _ = writeln!(text, "cpu{cpu} {} 0 0 {} 0 0 0 0 0 0", busy / cpus, idle / cpus);
    }
    let _ = writeln!(text, "intr 0\nctxt 0\nbtime {}\nprocesses {}", machine.boot_time, machine.last_pid);
    let _ = writeln!(text, "procs_running 1\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0");
    text.into_bytes()
}

fn cpuinfo() -> Vec<u8> {
    let machine = machine();
    let cpus = machine.cpus.max(1);
    let cpu = crate::arch::identity::identity();
    let mhz = machine.tsc_hz / 1000;
    let mut text = String::new();
    for index in 0..cpus {
        let _ = writeln!(text, "processor\t: {index}\nvendor_id\t: {}", cpu.vendor);
        let _ = writeln!(text, "cpu family\t: {}\nmodel\t\t: {}", cpu.family, cpu.model);
        let _ = writeln!(text, "model name\t: {}\nstepping\t: {}", cpu.name, cpu.stepping);
        let _ = writeln!(text, "cpu MHz\t\t: {}.{:03}\nphysical id\t: 0", mhz / 1000, mhz % 1000);
        let _ = writeln!(text, "siblings\t: {cpus}\ncore id\t\t: {index}\ncpu cores\t: {cpus}");
        let _ = writeln!(text, "apicid\t\t: {index}\ninitial apicid\t: {index}");
        let _ = writeln!(text, "fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {}", cpu.level);
        let _ = writeln!(text, "wp\t\t: yes\nflags\t\t: {}\nbugs\t\t:", cpu.flags.join(" "));
        let _ = writeln!(text, "bogomips\t: {}.{:02}", mhz * 2 / 1000, mhz * 2 % 1000 / 10);
        let _ = writeln!(text, "clflush size\t: 64\ncache_alignment\t: 64");
        let _ = writeln!(text, "address sizes\t: 48 bits physical, 48 bits virtual\npower management:\n");
    }
    text.into_bytes()
}

/// Lists of processors, for `/sys` too.
pub(crate) fn cpus() -> Vec<u8> {
    line(&cpu_list(machine().cpus))
}
