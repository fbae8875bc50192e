//! From the first instruction to the first program.
use crate::arch::{cpu, descriptors, entry, hypercall};
use crate::errno::Errno;
use crate::fs::FileTable;
use crate::mm::frame;
use crate::mm::space::Space;
use crate::process::{Credentials, Image, Limits, Process, exec};
use crate::signal::Actions;
use crate::sync::{Mutex, Once};
use crate::{random, sched, stats, time};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use kasoku_abi::Gpa;
use kasoku_abi::boot::{BOOT_MAGIC, BootInfo};
use kasoku_abi::hypercall::{SET_SYSCALL_ENTRY, START_CPU};
use kasoku_abi::layout;
use kasoku_abi::snapshot::{RESUME_INFO, ResumeInfo};

static INFO: Once<BootInfo> = Once::new();
static HOSTNAME: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static STARTED_NS: AtomicU64 = AtomicU64::new(0);

/// Bytes of the stack of a vCPU that has no thread.
const RESTING_STACK: usize = 32 << 10;

/// Exit statuses of a program that could not be started, as shells give them.
const NOT_EXECUTABLE: u32 = 126 << 8;
const NOT_FOUND: u32 = 127 << 8;

/// What the VMM said at the start.
pub fn info() -> &'static BootInfo {
    INFO.get().expect("set first thing at boot")
}

/// What the VMM says to a guest that was restored.
pub fn resume_info() -> ResumeInfo {
    // SAFETY: the VMM has written the structure before this vCPU went on; the page is mapped in the direct map.
    unsafe { ((layout::DIRECT_MAP + RESUME_INFO) as *const ResumeInfo).read() }
}

/// Root of the initial page tables, from which every program's take the library OS's part.
pub fn root() -> Gpa {
    info().root
}

/// An address space with nothing in it: for programs that have not begun, and for those that have ended.
pub fn empty_space() -> Arc<Space> {
    static EMPTY: Once<Arc<Space>> = Once::new();
    EMPTY.call_once(|| Arc::new(Space::new(root()).expect("made at boot, when there is memory"))).clone()
}

pub fn cpu_count() -> u32 {
    info().cpu_count
}

pub fn hostname() -> Vec<u8> {
    HOSTNAME.lock().clone()
}

pub fn set_hostname(name: Vec<u8>) {
    *HOSTNAME.lock() = name;
}

/// When the guest started, on the monotonic clock.
pub fn started_ns() -> u64 {
    STARTED_NS.load(Ordering::Relaxed)
}

/// The first program has ended, and with it the VM.
pub fn end(status: u32) -> ! {
    crate::fs::live::write_back_all();
    let lifetime_us = (time::monotonic_ns() - started_ns()) / 1000;
    if let Some(report) = stats::report(lifetime_us, crate::syscall::name) {
        crate::console::line(&report);
    }
    hypercall::exit(status)
}

/// The boot vCPU's first Rust function.
pub extern "C" fn boot(number: u64) -> ! {
    let begin = time::ticks();
    // SAFETY: the VMM puts the structure there and maps it in the direct map.
    let info = unsafe { ((layout::DIRECT_MAP + layout::BOOT_INFO) as *const BootInfo).read() };
    assert!(info.magic == BOOT_MAGIC && info.abi_version == kasoku_abi::ABI_VERSION, "started by another VMM");
    // SAFETY: the VMM says what is free and maps all RAM in the direct map.
    unsafe {
        frame::initialise(layout::DIRECT_MAP as usize, info.free, info.ram_len, info.tables..Gpa(layout::TABLES_END))
    };
    cpu::initialise(number, info.root.0);
    descriptors::initialise(number);
    time::set_clocks(info.clock_tsc, info.clock_monotonic_ns, info.clock_realtime_ns, info.tsc_hz);
    STARTED_NS.store(time::monotonic_ns(), Ordering::Relaxed);
    random::seed(&info.seed);
    INFO.call_once(|| info);
    set_syscall_entry(number);
    start_program();
    stats::add(stats::Kind::Start, time::ticks().wrapping_sub(begin));
    start_others(number);
    sched::rest_for_ever()
}

/// Sends `syscall` of this vCPU to the entry that fits the ring that it leads to.
fn set_syscall_entry(number: u64) {
    let target = match entry::probe_syscall_ring() {
        3 => entry::syscall_entry(),
        _ => cpu::area(number) + layout::CPU_STUBS + descriptors::SYSCALL,
    };
    hypercall::call(SET_SYSCALL_ENTRY, &[target, layout::SFMASK]).expect("the VMM accepts any address");
}

/// Starts the other vCPUs: they rest until there is a thread for them.
fn start_others(number: u64) {
    if cpu_count() > 1 {
        sched::lock::begin();
    }
    for other in (0..u64::from(cpu_count())).filter(|other| *other != number) {
        cpu::initialise(other, info().root.0);
        descriptors::initialise(other);
        let stack = alloc::vec![0u128; RESTING_STACK / 16].leak();
        let top = stack.as_ptr_range().end as u64;
        hypercall::call(START_CPU, &[other, top]).expect("a vCPU that has not been started");
    }
}

/// The first Rust function of every other vCPU.
pub extern "C" fn boot_secondary(number: u64) -> ! {
    set_syscall_entry(number);
    sched::lock::acquire();
    sched::rest_for_ever()
}

fn start_program() {
    let config = crate::config::read(info());
    set_hostname(config.hostname.clone());
    if config.strace {
        crate::syscall::trace::enable();
    }
    if config.stats {
        stats::enable();
    }
    let fs = crate::fs::setup::mount(info(), &config);
    let files = Arc::new(FileTable::new());
    crate::ipc::initialise(info());
    crate::ipc::channel::install_standard(&files);
    let process = Process::new(crate::process::Start {
        pid: crate::process::new_id(),
        parent: 0,
        group: 1,
        session: 1,
        space: empty_space(),
        files,
        fs: Arc::new(Mutex::new(fs)),
        actions: Actions::default(),
        credentials: Credentials::new(config.uid, config.gid),
        limits: Limits::default(),
        image: Image::default(),
        exit_signal: 0,
    });
    let name = config.args.first().cloned().unwrap_or_default();
    let prepared = crate::config::search(&config, &name, |path| {
        exec::prepare(&process, path, config.args.clone(), config.env.clone())
    });
    match prepared {
        Ok(prepared) => exec::start_first(&process, prepared),
        Err(errno) => {
            let name = alloc::string::String::from_utf8_lossy(&name);
            crate::console!("kasoku: cannot run {name}: {errno:?}");
            end(if errno == Errno::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE });
        }
    }
}
