//! Linux system calls without a libc, as the library must load under any of them. Results are the kernel's: a negative
//! value is an errno.
use core::arch::asm;

pub const EINTR: isize = -4;
pub const ENXIO: isize = -6;
pub const EAGAIN: isize = -11;

pub const O_RDONLY: usize = 0;
pub const O_RDWR: usize = 2;
pub const O_CLOEXEC: usize = 0o2_000_000;
pub const O_NONBLOCK: usize = 0o4_000;

pub const PROT_NONE: usize = 0;
pub const PROT_READ: usize = 1;
pub const PROT_WRITE: usize = 2;
pub const MAP_SHARED: usize = 1;
pub const MAP_PRIVATE: usize = 2;
pub const MAP_ANONYMOUS: usize = 0x20;
pub const MAP_NORESERVE: usize = 0x4000;
const MAP_FIXED_NOREPLACE: usize = 0x10_0000;

pub const POLLIN: i16 = 1;
pub const POLLERR: i16 = 8;
pub const POLLHUP: i16 = 16;
pub const POLLNVAL: i16 = 32;

const SYS_READ: usize = 0;
const SYS_WRITE: usize = 1;
const SYS_CLOSE: usize = 3;
const SYS_FSTAT: usize = 5;
const SYS_POLL: usize = 7;
const SYS_MMAP: usize = 9;
const SYS_MUNMAP: usize = 11;
const SYS_EXIT_GROUP: usize = 231;
const SYS_FUTEX: usize = 202;
const SYS_CLOCK_GETTIME: usize = 228;
const SYS_OPENAT: usize = 257;

const AT_FDCWD: isize = -100;
const FUTEX_WAIT_PRIVATE: usize = 128;
const FUTEX_WAKE_PRIVATE: usize = 129;

/// `struct pollfd`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct PollFd {
    pub fd: i32,
    pub events: i16,
    pub revents: i16,
}

/// The system call itself. `mov $number, %eax; syscall` in one piece is what the library OS turns into a jump when it has
/// met the site once (60 ns instead of microseconds).
///
/// # Safety
/// As the system call named: pointers among the arguments must be valid for what the kernel does with them.
#[inline(always)]
unsafe fn syscall<const NUMBER: usize>(a: [usize; 6]) -> isize {
    let result;
    // SAFETY: the caller vouches for the arguments; rcx and r11 are the only further registers that `syscall` clobbers.
    unsafe {
        asm!("mov eax, {number}", "syscall", number = const NUMBER, lateout("rax") result, in("rdi") a[0],
             in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5], lateout("rcx") _,
             lateout("r11") _, options(nostack));
    }
    result
}

/// Opens `path`, which must end in a zero byte.
#[inline(never)]
pub fn open(path: &[u8], flags: usize) -> isize {
    assert!(path.last() == Some(&0), "a path for the kernel ends in a zero byte");
    // SAFETY: the path is a readable, terminated string.
    unsafe { syscall::<SYS_OPENAT>([AT_FDCWD as usize, path.as_ptr() as usize, flags, 0, 0, 0]) }
}

#[inline(never)]
pub fn close(fd: i32) {
    // SAFETY: no memory is passed.
    unsafe { syscall::<SYS_CLOSE>([fd as usize, 0, 0, 0, 0, 0]) };
}

#[inline(never)]
pub fn read(fd: i32, buffer: &mut [u8]) -> isize {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    unsafe { syscall::<SYS_READ>([fd as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0]) }
}

#[inline(never)]
pub fn write(fd: i32, bytes: &[u8]) -> isize {
    // SAFETY: the kernel reads `bytes.len()` bytes from `bytes`.
    unsafe { syscall::<SYS_WRITE>([fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) }
}

/// Mode and size of an open file, from `fstat`.
pub fn file_status(fd: i32) -> Option<(u32, u64)> {
    let mut stat = [0u64; 18];
    // SAFETY: `struct stat` of x86-64 has 144 bytes.
    let result = unsafe { syscall::<SYS_FSTAT>([fd as usize, stat.as_mut_ptr() as usize, 0, 0, 0, 0]) };
    // st_mode is the low half of the word at 24, st_size the word at 48.
    (result == 0).then_some((stat[3] as u32, stat[6]))
}

/// Waits for events on `fds`; `timeout_ms` below 0 waits for ever.
#[inline(never)]
pub fn poll(fds: &mut [PollFd], timeout_ms: i32) -> isize {
    // SAFETY: the kernel reads and writes `fds.len()` pollfd structures.
    unsafe { syscall::<SYS_POLL>([fds.as_mut_ptr() as usize, fds.len(), timeout_ms as usize, 0, 0, 0]) }
}

/// Maps `len` bytes where the kernel likes; never replaces a mapping.
#[inline(never)]
pub fn map(len: usize, protection: usize, flags: usize, fd: i32) -> Result<*mut u8, isize> {
    // SAFETY: without an address hint and MAP_FIXED no existing memory changes.
    let result = unsafe { syscall::<SYS_MMAP>([0, len, protection, flags, fd as usize, 0]) };
    if (-4095..0).contains(&result) { Err(result) } else { Ok(result as *mut u8) }
}

/// As [`map`], at `address`; fails when something is there.
#[inline(never)]
pub fn map_at(address: usize, len: usize, protection: usize, flags: usize, fd: i32) -> Result<*mut u8, isize> {
    let flags = flags | MAP_FIXED_NOREPLACE;
    // SAFETY: an old kernel takes the address for a hint, a newer one fails: no existing memory changes.
    let result = unsafe { syscall::<SYS_MMAP>([address, len, protection, flags, fd as usize, 0]) };
    if (-4095..0).contains(&result) { Err(result) } else { Ok(result as *mut u8) }
}

/// Unmaps what [`map`] or [`map_at`] returned.
///
/// # Safety
/// Nothing may use the range any more.
pub unsafe fn unmap(address: *mut u8, len: usize) {
    // SAFETY: the caller gives the range up.
    unsafe { syscall::<SYS_MUNMAP>([address as usize, len, 0, 0, 0, 0]) };
}

/// Sleeps while `*word == expected`; may return early.
#[inline(never)]
pub fn futex_wait(word: &core::sync::atomic::AtomicU32, expected: u32) {
    // SAFETY: the word outlives the call; no timeout is passed.
    unsafe { syscall::<SYS_FUTEX>([word.as_ptr() as usize, FUTEX_WAIT_PRIVATE, expected as usize, 0, 0, 0]) };
}

/// As [`futex_wait`], for at most `timeout_ns`.
#[inline(never)]
pub fn futex_wait_for(word: &core::sync::atomic::AtomicU32, expected: u32, timeout_ns: u64) {
    let limit = [timeout_ns / 1_000_000_000, timeout_ns % 1_000_000_000];
    // SAFETY: word and timespec outlive the call.
    unsafe {
        syscall::<SYS_FUTEX>([
            word.as_ptr() as usize,
            FUTEX_WAIT_PRIVATE,
            expected as usize,
            limit.as_ptr() as usize,
            0,
            0,
        ])
    };
}

/// Wakes at most `count` sleepers of `word`.
#[inline(never)]
pub fn futex_wake(word: &core::sync::atomic::AtomicU32, count: u32) {
    // SAFETY: the kernel only uses the address as a key.
    unsafe { syscall::<SYS_FUTEX>([word.as_ptr() as usize, FUTEX_WAKE_PRIVATE, count as usize, 0, 0, 0]) };
}

/// CLOCK_MONOTONIC, nanoseconds.
#[inline(never)]
pub fn monotonic_ns() -> u64 {
    let mut time = [0u64; 2];
    // SAFETY: the kernel writes one timespec.
    unsafe { syscall::<SYS_CLOCK_GETTIME>([1, time.as_mut_ptr() as usize, 0, 0, 0, 0]) };
    time[0] * 1_000_000_000 + time[1]
}

/// Ends the process: what a library without a runtime does about its own bugs.
pub fn abort() -> ! {
    loop {
        // SAFETY: no memory is passed; 134 is what a shell reports for SIGABRT.
        unsafe { syscall::<SYS_EXIT_GROUP>([134, 0, 0, 0, 0, 0]) };
    }
}
