//! The few host calls that no safe wrapper offers. FFI: `unsafe` is allowed here.
use crate::memory::Mapping;
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

/// The kernel's `struct termios`, as TCGETS gives it.
pub const TERMIOS_LEN: usize = 36;
/// The kernel's `struct winsize`.
pub const WINSIZE_LEN: usize = 8;

/// This process, so that its threads need not ask for it.
static PROCESS: AtomicI32 = AtomicI32::new(0);

extern "C" fn interrupted(_: libc::c_int) {}

fn interrupt_signal() -> libc::c_int {
    libc::SIGRTMIN()
}

/// Makes the signal that interrupts KVM_RUN do nothing else. Once per process, before any thread is interrupted.
pub fn install_interrupt_handler() -> io::Result<()> {
    // SAFETY: all fields of a zeroed sigaction are valid; the handler is an empty function.
    let result = unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = interrupted as *const () as usize;
        libc::sigaction(interrupt_signal(), &action, std::ptr::null_mut())
    };
    PROCESS.store(std::process::id() as i32, Relaxed);
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub fn thread_id() -> i32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::gettid() }
}

/// Sends the interrupting signal to thread `id` of this process. A thread that has ended meanwhile is nobody's loss.
pub fn interrupt_thread(id: i32) {
    // SAFETY: plain integers; `install_interrupt_handler` made the signal harmless.
    unsafe { libc::syscall(libc::SYS_tgkill, PROCESS.load(Relaxed), id, interrupt_signal()) };
}

/// Blocks `signals` in the calling thread (and those it creates later) and gives a descriptor that reads them.
pub fn signal_descriptor(signals: &[libc::c_int]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use; the new descriptor is owned by nobody else.
    unsafe {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        let error = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Signal numbers that have arrived at a [`signal_descriptor`].
pub fn read_signals(fd: BorrowedFd<'_>) -> Vec<i32> {
    const SIZE: usize = size_of::<libc::signalfd_siginfo>();
    let mut bytes = [0; 8 * SIZE];
    let Ok(len) = rustix::io::read(fd, &mut bytes) else { return Vec::new() };
    bytes[..len]
        .chunks_exact(SIZE)
        .map(|info| i32::from_ne_bytes(info[..4].try_into().expect("ssi_signo is the first four bytes")))
        .collect()
}

fn terminal_control<const N: usize>(
    fd: BorrowedFd<'_>,
    request: libc::Ioctl,
    value: &mut [u8; N],
) -> Result<(), Errno> {
    // SAFETY: every request passed below reads or writes exactly the structure whose length its array has.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, value.as_mut_ptr()) };
    if result == 0 {
        return Ok(());
    }
    Err(Errno::from_raw_os_error(io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOTTY)))
}

pub fn terminal_settings(fd: BorrowedFd<'_>) -> Result<[u8; TERMIOS_LEN], Errno> {
    let mut value = [0; TERMIOS_LEN];
    terminal_control(fd, libc::TCGETS, &mut value)?;
    Ok(value)
}

pub fn set_terminal_settings(fd: BorrowedFd<'_>, mut value: [u8; TERMIOS_LEN]) -> Result<(), Errno> {
    terminal_control(fd, libc::TCSETS, &mut value)
}

pub fn terminal_size(fd: BorrowedFd<'_>) -> Result<[u8; WINSIZE_LEN], Errno> {
    let mut value = [0; WINSIZE_LEN];
    terminal_control(fd, libc::TIOCGWINSZ, &mut value)?;
    Ok(value)
}

/// Makes an open descriptor another open file: whoever uses its number from here on uses that one.
pub fn replace_descriptor(number: BorrowedFd<'_>, with: &OwnedFd) -> io::Result<()> {
    // SAFETY: plain integers of two open descriptors; the one that is replaced stays its owner's.
    let result = unsafe { libc::dup3(with.as_raw_fd(), number.as_raw_fd(), libc::O_CLOEXEC) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks the kernel which pages of a private mapping of a file are this process's own, because it wrote them.
pub struct PrivatePages {
    pagemap: OwnedFd,
}

/// The kernel's `struct pm_scan_arg`.
#[repr(C)]
struct ScanArguments {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// The kernel's `struct page_region`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::Ioctl = 0xc060_6610;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
/// Runs of pages that one call tells.
const RUNS: usize = 512;

impl PrivatePages {
    pub fn open() -> Result<Self, Errno> {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open("/proc/self/pagemap", flags, rustix::fs::Mode::empty()).map(|pagemap| Self { pagemap })
    }

    /// Calls `visit` with offset and length of each run of such pages of `mapping`; false where the kernel cannot tell (before
    /// Linux 6.7), and nothing was visited.
    pub fn each<E>(&self, mapping: &Mapping, mut visit: impl FnMut(u64, u64) -> Result<(), E>) -> Result<bool, E> {
        let (base, end) = (mapping.host_address(), mapping.host_address() + mapping.len());
        let mut runs = [PageRegion::default(); RUNS];
        let mut at = base;
        while at < end {
            let mut arguments = ScanArguments {
                size: size_of::<ScanArguments>() as u64,
                flags: 0,
                start: at,
                end,
                walk_end: 0,
                vec: runs.as_mut_ptr() as u64,
                vec_len: RUNS as u64,
                max_pages: 0,
                category_inverted: PAGE_IS_FILE,
                category_mask: PAGE_IS_FILE,
                category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                return_mask: PAGE_IS_PRESENT,
            };
            // SAFETY: the kernel reads and writes the structure, whose size it is told, and writes at most RUNS elements.
            let found = unsafe { libc::ioctl(self.pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut arguments) };
            let Ok(found) = usize::try_from(found) else { return Ok(false) };
            for run in &runs[..found.min(RUNS)] {
                visit(run.start - base, run.end - run.start)?;
            }
            at = arguments.walk_end.max(at + 1);
        }
        Ok(true)
    }
}

pub fn time_stamp_counter() -> u64 {
    // SAFETY: every x86-64 processor has `rdtsc`.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// No core dumps and no tracing by processes of the same user: guest memory may hold secrets.
pub fn forbid_dumps() -> io::Result<()> {
    // SAFETY: plain integers.
    let result = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Most memory that this process has had resident, guest memory included, MiB.
pub fn peak_memory_mib() -> f64 {
    // SAFETY: an all-zero rusage is valid, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = MaybeUninit::zeroed().assume_init();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    usage.ru_maxrss as f64 / 1024.0
}

/// Takes over descriptor `number`, which the parent passed for this process to own. Once for each number.
pub fn inherited_descriptor(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: reads a descriptor's flags; a number that is not open is an error.
    if number < 3 || unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{number} is not an open descriptor")));
    }
    // SAFETY: it is open, is none of the standard streams, and the caller asks once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Keeps the allocator from system calls that no jailed thread may make. By itself it asks how many processors there are when
/// threads become many, and how the machine commits memory when a thread's heap could shrink: it opens files for both.
pub fn tame_the_allocator() {
    const MORE_THAN_THREADS: libc::c_int = 64;
    // SAFETY: sets a number in the allocator.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, MORE_THAN_THREADS) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use kasoku_abi::layout::{LARGE_PAGE, PAGE};
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    #[test]
    fn written_pages_are_found_and_put_back_either_way() {
        let file = File::from(rustix::fs::memfd_create("snapshot", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        file.write_all_at(&vec![7; 2 * LARGE_PAGE as usize], 0).unwrap();
        let map = || Mapping::copy_on_write(file.as_fd(), 0, 2 * LARGE_PAGE).unwrap();
        let (changed, original) = (map(), map());
        // SAFETY: the offsets that the test uses lie inside the mapping, which is readable and writable.
        let at = |mapping: &Mapping, offset: u64| unsafe { mapping.base().as_ptr().add(offset as usize) };
        let read = |offset| {
            // SAFETY: as above.
            unsafe { at(&changed, offset).read_volatile() }
        };
        assert_eq!(read(5 * PAGE), 7, "reading makes no page its own");
        for offset in [3 * PAGE, 4 * PAGE + 9, LARGE_PAGE + PAGE] {
            // SAFETY: as above.
            unsafe { at(&changed, offset).write_volatile(1) };
        }
        let pages = PrivatePages::open().unwrap();
        let mut runs = Vec::new();
        let known = pages.each(&changed, |offset, len| {
            runs.push((offset, len));
            Ok::<_, ()>(())
        });
        if known == Ok(true) {
            assert_eq!(runs, [(3 * PAGE, 2 * PAGE), (LARGE_PAGE + PAGE, PAGE)]);
        }
        changed.copy_from(&original, 3 * PAGE, 2 * PAGE);
        changed.forget_changes(LARGE_PAGE + PAGE, PAGE).unwrap();
        assert_eq!([3 * PAGE, 4 * PAGE + 9, LARGE_PAGE + PAGE].map(read), [7; 3]);
    }
}
