//! A process that holds this one's memory a moment longer than it lives.
//!
//! Taking a virtual machine apart means waiting for grace periods of the kernel, about a millisecond, and whoever waits for
//! this process would wait with it. The holder shares the memory, and with it the machine's processors, which are mapped
//! there: this process ends without them, and the holder, which dies with it, takes them apart with nobody waiting.
use kasoku_jail::{Filter, JailError, policies};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr;

const STACK_LEN: usize = 16 << 10;

struct Start {
    filter: Filter,
    parent: libc::pid_t,
}

/// Starts the holder, called by the main thread. Where the kernel refuses, this process's end takes longer.
pub fn hold_memory() -> Result<(), JailError> {
    let start = Box::new(Start { filter: Filter::new(&policies::HOLDER)?, parent: std::process::id() as libc::pid_t });
    let flags = MapFlags::PRIVATE | MapFlags::STACK;
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
    let stack = unsafe { mmap_anonymous(ptr::null_mut(), STACK_LEN, ProtFlags::READ | ProtFlags::WRITE, flags) };
    let Ok(stack) = stack else { return Ok(()) };
    // SAFETY: the new process runs `hold` on a stack of its own, with all signals blocked, and touches nothing but that
    // stack and `start`, both of which live as long as the memory does. It shares this thread's thread-local storage, which
    // it does not touch, because it calls no library.
    unsafe {
        let (mut all, mut before) = (MaybeUninit::<libc::sigset_t>::uninit(), MaybeUninit::<libc::sigset_t>::uninit());
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        libc::clone(hold, stack.byte_add(STACK_LEN), libc::CLONE_VM, Box::into_raw(start).cast());
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
    }
    Ok(())
}

/// The holder's only function: gives up everything else, and waits to be killed with its parent.
extern "C" fn hold(start: *mut c_void) -> libc::c_int {
    // SAFETY: `hold_memory` passes it, and nobody frees it.
    let start = unsafe { &*start.cast::<Start>() };
    let program = start.filter.program();
    // SAFETY: plain system calls with constants, and one with a filter that `start` keeps.
    unsafe {
        call(libc::SYS_close_range, [0, u32::MAX as usize, 0]);
        call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize, 0]);
        call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0]);
        let filtered =
            call(libc::SYS_seccomp, [libc::SECCOMP_SET_MODE_FILTER as usize, 0, &raw const program as usize]) == 0;
        // A parent that ended before the line above will not kill it any more.
        while filtered && call(libc::SYS_getppid, [0; 3]) == start.parent as isize {
            call(libc::SYS_pause, [0; 3]);
        }
    }
    0
}

/// A system call without libc, which would write `errno` into the storage of the thread that this process shares it with.
///
/// # Safety
/// As the system call demands.
unsafe fn call(number: libc::c_long, [a, b, c]: [usize; 3]) -> isize {
    let result: isize;
    // SAFETY: by contract; the further arguments of the calls above are zero.
    unsafe {
        std::arch::asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") 0, in("r8") 0, out("rcx") _, out("r11") _, options(nostack));
    }
    result
}
