//! What the broker's processes may ask of the kernel, as data: every allowed call has a reason.
//!
//! These policies are looser than those of `kasoku-jail`, because vendors' libraries run under them: they make threads and
//! executable memory. They still end a process that opens a socket, traces, mounts or signals another.
use kasoku_jail::{Refusal, Rule, allow, allow_values, allow_with};

const PR_SET_NAME: u32 = 15;
const MEMFD_CALLS: &[u32] = &[
    libc::F_GETFD as u32,
    libc::F_SETFD as u32,
    libc::F_GETFL as u32,
    libc::F_SETFL as u32,
    libc::F_ADD_SEALS as u32,
    libc::F_GET_SEALS as u32,
    libc::F_DUPFD_CLOEXEC as u32,
];

/// Serving commands and running kernels.
pub const SERVE: &[Rule] = &[
    allow(libc::SYS_read, "compile results, eventfds"),
    allow(libc::SYS_pread64, "compile results"),
    allow(libc::SYS_write, "wake-ups, kernel printf to the function's log, compile jobs"),
    allow(libc::SYS_writev, "kernel printf and assertion messages of the C library"),
    allow(libc::SYS_close, "descriptors of finished compile jobs"),
    allow(libc::SYS_fstat, "size of compile results; state of standard output"),
    allow(libc::SYS_lseek, "the C library flushes standard streams with it"),
    allow(libc::SYS_sendmsg, "requests to the supervisor"),
    allow(libc::SYS_recvmsg, "answers of the supervisor"),
    allow(libc::SYS_epoll_create1, "places to sleep, for the session that comes"),
    allow(libc::SYS_epoll_wait, "sleeping on the doorbell"),
    allow(libc::SYS_epoll_pwait, "sleeping on the doorbell"),
    allow(libc::SYS_epoll_ctl, "who hears the doorbell"),
    allow(libc::SYS_ftruncate, "session files get their size"),
    allow(libc::SYS_poll, "sleeping with a deadline"),
    allow(libc::SYS_ppoll, "sleeping with a deadline"),
    allow(libc::SYS_memfd_create, "compile jobs are handed over in anonymous files"),
    allow_values(
        libc::SYS_fcntl,
        1,
        MEMFD_CALLS,
        "sealing compile jobs, state and seals of what a session consists of",
    ),
    allow(libc::SYS_mmap, "buffers, thread stacks, code of loaded binaries"),
    allow(libc::SYS_munmap, "releasing them"),
    allow(libc::SYS_mremap, "growing allocations"),
    allow(libc::SYS_mprotect, "code of loaded binaries becomes executable"),
    allow(libc::SYS_madvise, "freed memory goes back"),
    allow(libc::SYS_brk, "the C library's heap"),
    allow(libc::SYS_mlock, "runtimes pin small pages"),
    allow(libc::SYS_get_mempolicy, "runtimes look for memory nodes"),
    allow(libc::SYS_futex, "locks and sleeping threads"),
    allow(libc::SYS_sched_yield, "runtimes' idle workers"),
    allow(libc::SYS_sched_getaffinity, "number of processors"),
    allow(libc::SYS_sched_setaffinity, "runtimes pin their own threads"),
    allow(libc::SYS_getcpu, "runtimes look where they run"),
    allow_with(libc::SYS_clone, 0, libc::CLONE_THREAD as u64, "threads, never processes"),
    allow(libc::SYS_set_robust_list, "start of a thread"),
    allow(libc::SYS_rseq, "start of a thread"),
    allow(libc::SYS_set_tid_address, "start of a thread"),
    allow(libc::SYS_gettid, "threads name themselves"),
    allow(libc::SYS_getpid, "threads name themselves"),
    allow_values(libc::SYS_prctl, 0, &[PR_SET_NAME], "threads' names"),
    allow(libc::SYS_sigaltstack, "stacks for crash handlers of threads"),
    allow(libc::SYS_rt_sigprocmask, "start and end of a thread"),
    allow(libc::SYS_rt_sigreturn, "end of a signal handler"),
    allow(libc::SYS_restart_syscall, "sleeping after a stop"),
    allow(libc::SYS_clock_gettime, "times of events where the vDSO has no clock"),
    allow(libc::SYS_clock_getres, "resolution of timers"),
    allow(libc::SYS_clock_nanosleep, "runtimes' idle workers"),
    allow(libc::SYS_nanosleep, "runtimes' idle workers"),
    allow(libc::SYS_gettimeofday, "times where the vDSO has no clock"),
    allow(libc::SYS_getrandom, "seeds of hash tables"),
    allow(libc::SYS_sysinfo, "size of memory"),
    allow(libc::SYS_uname, "version of the kernel"),
    allow(libc::SYS_getrusage, "compilers' own times"),
    allow(libc::SYS_exit, "end of a thread"),
    allow(libc::SYS_exit_group, "end of the process"),
];

/// Also for reading and writing files, as far as the file rules go.
pub const FILES: &[Rule] = &[
    allow(libc::SYS_rt_sigaction, "signals of compilers and of the programs that they start"),
    allow(libc::SYS_open, "the runtime's own files and its scratch directory"),
    allow(libc::SYS_openat, "the runtime's own files and its scratch directory"),
    allow(libc::SYS_stat, "looking for files"),
    allow(libc::SYS_lstat, "looking for files"),
    allow(libc::SYS_newfstatat, "looking for files"),
    allow(libc::SYS_statx, "looking for files"),
    allow(libc::SYS_statfs, "kind of a file system"),
    allow(libc::SYS_fstatfs, "kind of a file system"),
    allow(libc::SYS_access, "looking for files"),
    allow(libc::SYS_faccessat, "looking for files"),
    allow(libc::SYS_faccessat2, "looking for files"),
    allow(libc::SYS_readlink, "canonical names"),
    allow(libc::SYS_readlinkat, "canonical names"),
    allow(libc::SYS_getdents64, "looking for files"),
    allow(libc::SYS_getcwd, "canonical names"),
    allow(libc::SYS_readv, "reading files"),
    allow(libc::SYS_pwrite64, "writing temporary files"),
    allow(libc::SYS_fallocate, "writing temporary files"),
    allow(libc::SYS_fsync, "writing temporary files"),
    allow(libc::SYS_fdatasync, "writing temporary files"),
    allow(libc::SYS_flock, "the runtime's cache"),
    allow(libc::SYS_mkdir, "temporary directories"),
    allow(libc::SYS_mkdirat, "temporary directories"),
    allow(libc::SYS_rmdir, "temporary directories"),
    allow(libc::SYS_unlink, "temporary files"),
    allow(libc::SYS_unlinkat, "temporary files"),
    allow(libc::SYS_rename, "temporary files"),
    allow(libc::SYS_renameat, "temporary files"),
    allow(libc::SYS_chmod, "temporary files"),
    allow(libc::SYS_fchmod, "temporary files"),
    allow(libc::SYS_umask, "temporary files"),
    allow(libc::SYS_getuid, "compilers look who they are"),
    allow(libc::SYS_geteuid, "compilers look who they are"),
    allow(libc::SYS_getgid, "compilers look who they are"),
    allow(libc::SYS_getegid, "compilers look who they are"),
];

/// Also for running the linker: its start, its end, its pipes. Which program is for the file rules.
pub const LINKER: &[Rule] = &[
    allow(libc::SYS_clone, "the linker's process"),
    allow(libc::SYS_vfork, "the linker's process"),
    allow(libc::SYS_execve, "the linker, by the file rules nothing else"),
    allow(libc::SYS_wait4, "end of the linker"),
    allow(libc::SYS_waitid, "end of the linker"),
    allow(libc::SYS_pipe2, "the linker's messages"),
    allow(libc::SYS_dup2, "the linker's messages"),
    allow(libc::SYS_dup, "the linker's messages"),
    allow(libc::SYS_arch_prctl, "start of a program"),
    allow(libc::SYS_prlimit64, "compilers look at their stack"),
];

/// Also for a driver that talks to its device through device nodes.
pub const DEVICE_NODES: &[Rule] = &[
    allow(libc::SYS_ioctl, "requests to the device nodes that the file rules leave"),
    allow(libc::SYS_eventfd2, "the driver's own notifications"),
    allow(libc::SYS_pipe2, "the driver's own notifications"),
    allow(libc::SYS_fcntl, "state of descriptors"),
    allow(libc::SYS_dup, "a further context opens its device by it"),
    allow(libc::SYS_prlimit64, "the driver looks at its limits"),
    allow(libc::SYS_munlock, "undoes mlock"),
    allow(libc::SYS_mincore, "the driver looks at its own memory"),
    allow(libc::SYS_sched_get_priority_max, "priorities of the driver's threads"),
    allow(libc::SYS_sched_get_priority_min, "priorities of the driver's threads"),
];

/// What such a driver tries and goes on without: daemons of its vendor, and special memory.
pub const NO_DAEMONS: &[Refusal] = &[
    Refusal {
        errno: libc::EACCES,
        calls: &[
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_execve,
            libc::SYS_vfork,
            libc::SYS_mknod,
            libc::SYS_mknodat,
        ],
        reason: "it looks for daemons and would start a helper that makes device nodes",
    },
    Refusal {
        errno: libc::EPERM,
        calls: &[
            libc::SYS_mbind,
            libc::SYS_set_mempolicy,
            libc::SYS_move_pages,
            libc::SYS_membarrier,
            libc::SYS_sched_setscheduler,
            libc::SYS_sched_getscheduler,
            libc::SYS_sched_getparam,
            libc::SYS_setpriority,
            libc::SYS_getpriority,
            libc::SYS_tgkill,
        ],
        reason: "hints to the kernel, and abort's signal to itself: what follows ends the process as well",
    },
    Refusal {
        errno: libc::ENOSYS,
        calls: &[libc::SYS_clone3],
        reason: "its flags lie in memory: the C library uses clone",
    },
];

/// Beside `FILES`, for drivers that ask for their limits.
pub const LIMITS: [Rule; 1] = [allow(libc::SYS_prlimit64, "compilers look at their stack")];

/// What the C library and drivers try and go on without.
pub const REFUSED: &[Refusal] = &[
    Refusal {
        errno: libc::ENOSYS,
        calls: &[libc::SYS_clone3],
        reason: "its flags lie in memory: the C library uses clone",
    },
    Refusal {
        errno: libc::EPERM,
        calls: &[
            libc::SYS_ioctl,
            libc::SYS_mbind,
            libc::SYS_set_mempolicy,
            libc::SYS_move_pages,
            libc::SYS_membarrier,
            libc::SYS_sched_setscheduler,
            libc::SYS_sched_getscheduler,
            libc::SYS_sched_getparam,
            libc::SYS_setpriority,
            libc::SYS_getpriority,
            libc::SYS_tgkill,
        ],
        reason: "hints to the kernel, and abort's signal to itself: what follows ends the process as well",
    },
];

/// Files, for a process that has no business with any, and handlers of signals.
pub const NO_FILES: &[Refusal] = &[
    Refusal {
        errno: libc::EPERM,
        calls: &[libc::SYS_rt_sigaction],
        reason: "compilers would put back their crash handlers",
    },
    Refusal {
        errno: libc::EACCES,
        calls: &[
            libc::SYS_open,
            libc::SYS_openat,
            libc::SYS_stat,
            libc::SYS_lstat,
            libc::SYS_newfstatat,
            libc::SYS_statx,
            libc::SYS_access,
            libc::SYS_faccessat,
            libc::SYS_faccessat2,
            libc::SYS_readlink,
            libc::SYS_getcwd,
            libc::SYS_prlimit64,
        ],
        reason: "drivers look for configuration files at every call, and live without",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_reason_and_nothing_escapes_the_jail() {
        let forbidden = [
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_kill,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setuid,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_keyctl,
        ];
        for rule in SERVE.iter().chain(FILES).chain(LINKER) {
            assert!(rule.reason.len() > 8, "{}", rule.call);
            assert!(!forbidden.contains(&rule.call), "{}", rule.call);
        }
        assert!(REFUSED.iter().chain(NO_FILES).all(|refusal| refusal.reason.len() > 8));
    }

    #[test]
    fn a_sealed_process_neither_opens_nor_executes() {
        for call in [libc::SYS_open, libc::SYS_openat, libc::SYS_execve, libc::SYS_execveat, libc::SYS_vfork] {
            assert!(SERVE.iter().all(|rule| rule.call != call));
        }
    }
}
