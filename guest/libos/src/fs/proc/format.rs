//! The formats of `/proc/PID/*` (proc(5)).
use super::process::View;
use super::{Area, Facts};
use crate::fs::mount::Mount;
use crate::fs::setup;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;

const PAGE: u64 = 4096;
/// Clock ticks of `stat`: 100 a second.
const TICK_NS: u64 = 10_000_000;

/// Strings, each with a NUL after it.
pub(super) fn with_nuls(strings: &[Vec<u8>]) -> Vec<u8> {
    strings.iter().flat_map(|string| string.iter().copied().chain([0])).collect()
}

pub(super) fn auxv(view: &View) -> Vec<u8> {
    view.process.auxv().iter().flat_map(|(key, value)| [key.to_le_bytes(), value.to_le_bytes()].concat()).collect()
}

/// Appends to a text; writing to a `String` does not fail.
macro_rules! put {
    ($text:expr, $($format:tt)*) => { let _ = writeln!($text, $($format)*); };
}

fn facts(view: &View) -> Facts {
    view.process.facts(view.thread)
}

fn name(facts: &Facts) -> String {
    String::from_utf8_lossy(&facts.name).into_owned()
}

pub(super) fn stat(view: &View) -> Vec<u8> {
    let facts = facts(view);
    let threads = view.process.threads().len();
    let mut fields: Vec<String> = alloc::vec![
        view.thread.to_string(),
        format!("({})", name(&facts)),
        facts.state.to_string(),
        facts.parent.to_string(),
        facts.group.to_string(),
        facts.session.to_string(),
        "0 -1 4194304 0 0 0 0".into(),
        (facts.ran_ns / TICK_NS).to_string(),
        format!("0 0 0 {} {}", 20 + facts.nice, facts.nice),
        threads.to_string(),
        "0".into(),
        (facts.started_ns / TICK_NS).to_string(),
        facts.mapped_bytes.to_string(),
        (facts.resident_bytes / PAGE).to_string(),
        u64::MAX.to_string(),
        "0 0".into(),
        facts.stack_top.to_string(),
        "0 0".into(),
    ];
    let signals = [facts.pending | facts.thread_pending, facts.blocked, facts.ignored, facts.caught];
    fields.extend(signals.map(|set| (set & 0x7fff_ffff).to_string()));
    fields.push("0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0".into());
    (fields.join(" ") + "\n").into_bytes()
}

pub(super) fn statm(view: &View) -> Vec<u8> {
    let facts = facts(view);
    let (mapped, resident) = (facts.mapped_bytes / PAGE, facts.resident_bytes / PAGE);
    let (text, data) = split(view);
    format!("{mapped} {resident} 0 {text} 0 {data} 0\n").into_bytes()
}

/// Pages of code, and of private writable memory.
fn split(view: &View) -> (u64, u64) {
    let areas = view.process.areas();
    let pages = |which: fn(&&Area) -> bool| -> u64 {
        areas.iter().filter(which).map(|area| (area.end - area.start) / PAGE).sum()
    };
    (pages(|area| area.execute && area.is_file), pages(|area| area.write && !area.shared))
}

pub(super) fn status(view: &View) -> Vec<u8> {
    let facts = facts(view);
    let state = match facts.state {
        'R' => "R (running)",
        'Z' => "Z (zombie)",
        'T' => "T (stopped)",
        't' => "t (tracing stop)",
        _ => "S (sleeping)",
    };
    let (code, data) = split(view);
    let four = |ids: [u32; 3]| format!("{}\t{}\t{}\t{}", ids[0], ids[1], ids[2], ids[1]);
    let groups: String = facts.groups.iter().map(|group| format!("{group} ")).collect();
    let cpus = super::machine().cpus.max(1);
    let all_cpus = (1u64 << cpus) - 1;
    let sets = &facts.capabilities;
    let (mapped, resident) = (facts.mapped_bytes / 1024, facts.resident_bytes / 1024);
    let mut text = String::new();
    put!(text, "Name:\t{}\nUmask:\t{:04o}\nState:\t{state}", name(&facts), view.process.fs().umask);
    put!(text, "Tgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{}", view.process.pid(), view.thread, facts.parent);
    put!(text, "TracerPid:\t{}\nUid:\t{}\nGid:\t{}", facts.tracer, four(facts.uids), four(facts.gids));
    put!(text, "FDSize:\t{}\nGroups:\t{groups}", view.process.files().capacity().max(64));
    put!(text, "NStgid:\t{}\nNSpid:\t{}", view.process.pid(), view.thread);
    put!(text, "NSpgid:\t{}\nNSsid:\t{}", facts.group, facts.session);
    put!(text, "VmPeak:\t{mapped:8} kB\nVmSize:\t{mapped:8} kB\nVmLck:\t       0 kB\nVmPin:\t       0 kB");
    put!(text, "VmHWM:\t{resident:8} kB\nVmRSS:\t{resident:8} kB");
    put!(text, "RssAnon:\t{resident:8} kB\nRssFile:\t       0 kB\nRssShmem:\t       0 kB");
    put!(text, "VmData:\t{:8} kB\nVmStk:\t     132 kB\nVmExe:\t{:8} kB", data * 4, code * 4);
    put!(text, "VmLib:\t       0 kB\nVmPTE:\t       0 kB\nVmSwap:\t       0 kB\nHugetlbPages:\t       0 kB");
    put!(text, "CoreDumping:\t0\nTHP_enabled:\t1\nThreads:\t{}\nSigQ:\t0/1024", view.process.threads().len());
    put!(text, "SigPnd:\t{:016x}\nShdPnd:\t{:016x}", facts.thread_pending, facts.pending);
    put!(text, "SigBlk:\t{:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{:016x}", facts.blocked, facts.ignored, facts.caught);
    put!(text, "CapInh:\t{:016x}\nCapPrm:\t{:016x}", sets.inheritable, sets.permitted);
    put!(text, "CapEff:\t{:016x}\nCapBnd:\t{:016x}", sets.effective, sets.bounding);
    put!(text, "CapAmb:\t{:016x}\nNoNewPrivs:\t{}", sets.ambient, u32::from(sets.no_new_privileges));
    put!(text, "Seccomp:\t0\nSeccomp_filters:\t0");
    put!(text, "Cpus_allowed:\t{all_cpus:x}\nCpus_allowed_list:\t{}", cpu_list(cpus));
    put!(text, "Mems_allowed:\t1\nMems_allowed_list:\t0");
    put!(text, "voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0");
    text.into_bytes()
}

/// `0-3`, or `0`.
pub(super) fn cpu_list(cpus: u32) -> String {
    if cpus <= 1 { "0".into() } else { format!("0-{}", cpus - 1) }
}

fn area_line(area: &Area) -> Vec<u8> {
    let flag = |on: bool, letter: char| if on { letter } else { '-' };
    let (device, inode) = if area.is_file { ("00:21", 1) } else { ("00:00", 0) };
    let mut line = format!(
        "{:08x}-{:08x} {}{}{}{} {:08x} {device} {inode} ",
        area.start,
        area.end,
        flag(area.read, 'r'),
        flag(area.write, 'w'),
        flag(area.execute, 'x'),
        if area.shared { 's' } else { 'p' },
        area.offset,
    )
    .into_bytes();
    if !area.name.is_empty() {
        // Linux aligns the names at this column.
        const NAME_COLUMN: usize = 73;
        line.resize(line.len().max(NAME_COLUMN), b' ');
        line.extend(
            area.name.iter().flat_map(|byte| if *byte == b'\n' { &b"\\012"[..] } else { core::slice::from_ref(byte) }),
        );
    }
    line.push(b'\n');
    line
}

pub(super) fn maps(view: &View) -> Vec<u8> {
    view.process.areas().iter().flat_map(area_line).collect()
}

pub(super) fn smaps(view: &View) -> Vec<u8> {
    let one = |area: &Area| {
        let size = (area.end - area.start) / 1024;
        let mut lines = area_line(area);
        let mut text = String::new();
        put!(text, "Size:           {size:8} kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB");
        for field in ["Rss", "Pss", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty", "Referenced"] {
            let colon = format!("{field}:");
            put!(text, "{colon:<16}{:8} kB", 0);
        }
        put!(text, "Anonymous:             0 kB\nSwap:                  0 kB\nLocked:                0 kB");
        lines.extend_from_slice(text.as_bytes());
        lines
    };
    view.process.areas().iter().flat_map(one).collect()
}

/// As `smaps`, of all areas together; what is resident counts as the program's own.
pub(super) fn smaps_rollup(view: &View) -> Vec<u8> {
    let (areas, resident) = (view.process.areas(), view.process.facts(view.thread).resident_bytes / 1024);
    let (start, end) = (areas.first().map_or(0, |area| area.start), areas.last().map_or(0, |area| area.end));
    let mut text = String::new();
    put!(text, "{start:08x}-{end:08x} ---p 00000000 00:00 0                          [rollup]");
    for (field, size) in [("Rss", resident), ("Pss", resident), ("Shared_Clean", 0), ("Shared_Dirty", 0)] {
        put!(text, "{:<16}{size:8} kB", format!("{field}:"));
    }
    for (field, size) in [("Private_Clean", 0), ("Private_Dirty", resident), ("Referenced", resident), ("Swap", 0)] {
        put!(text, "{:<16}{size:8} kB", format!("{field}:"));
    }
    text.into_bytes()
}

/// Nanoseconds that it ran and waited to run, and how often: only the first is counted.
pub(super) fn schedstat(view: &View) -> Vec<u8> {
    format!("{} 0 0\n", view.process.facts(view.thread).ran_ns).into_bytes()
}

pub(super) fn io(_view: &View) -> Vec<u8> {
    const NAMES: [&str; 7] = ["rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"];
    NAMES.iter().map(|name| format!("{name}: 0\n")).collect::<String>().into_bytes()
}

/// Name and unit by RLIMIT_* number.
const LIMITS: [(&str, &str); 16] = [
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
];

pub(super) fn limits(view: &View) -> Vec<u8> {
    let mut text = String::new();
    put!(text, "{:<26}{:<21}{:<21}{:<10}", "Limit", "Soft Limit", "Hard Limit", "Units");
    let show = |value: u64| if value == u64::MAX { "unlimited".into() } else { value.to_string() };
    for ((name, unit), (soft, hard)) in LIMITS.iter().zip(view.process.limits()) {
        put!(text, "{name:<26}{:<21}{:<21}{unit:<10}", show(soft), show(hard));
    }
    text.into_bytes()
}

/// A path as mount tables show it: blanks in octal.
fn escaped(path: &[u8]) -> Vec<u8> {
    path.iter()
        .flat_map(|byte| match byte {
            b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
            _ => alloc::vec![*byte],
        })
        .collect()
}

pub(super) fn mounts() -> Vec<u8> {
    let one = |(path, mount): &(Vec<u8>, Arc<Mount>)| {
        let fs_type = mount.fs_type.name();
        [mount.source.as_bytes(), b" ", &escaped(path), format!(" {fs_type} {} 0 0\n", mount.options()).as_bytes()]
            .concat()
    };
    setup::mounts().iter().flat_map(one).collect()
}

pub(super) fn mountinfo() -> Vec<u8> {
    let mounts = setup::mounts();
    let parent_of = |path: &[u8]| {
        let above =
            |other: &[u8]| other == b"/" || path.strip_prefix(other).is_some_and(|rest| rest.first() == Some(&b'/'));
        let holders = mounts.iter().filter(|(other, _)| other != path && above(other));
        holders.max_by_key(|(other, _)| other.len()).map_or(0, |(_, mount)| mount.id)
    };
    let one = |(path, mount): &(Vec<u8>, Arc<Mount>)| {
        let (minor, options, fs_type) = (mount.device & 0xff, mount.options(), mount.fs_type.name());
        let access = if mount.read_only { "ro" } else { "rw" };
        let mut line = format!("{} {} 0:{minor} / ", mount.id, parent_of(path)).into_bytes();
        line.extend(escaped(path));
        line.extend(format!(" {options} - {fs_type} {} {access}\n", mount.source).bytes());
        line
    };
    mounts.iter().flat_map(one).collect()
}
