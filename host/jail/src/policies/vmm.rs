//! The VMM's threads.
use super::{
    BRK, CLOSE, EXIT, EXIT_GROUP, FCNTL, FUTEX, MADVISE, MMAP, MPROTECT, MREMAP, MUNMAP, POLL, POLL_PLAIN, READ,
    SIGALTSTACK, SIGPROCMASK, SIGRETURN, WRITE,
};
use crate::{Policy, allow, allow_values};

/// First real-time signal that libc leaves to programs.
const INTERRUPT: u32 = 34;

const KVM_RUN: u32 = 0xae80;
const KVM_GET_REGS: u32 = 0x8090_ae81;
const KVM_GET_SREGS: u32 = 0x8138_ae83;
const KVM_GET_MSRS: u32 = 0xc008_ae88;
const KVM_SET_MSRS: u32 = 0x4008_ae89;
const KVM_GET_XSAVE: u32 = 0x9000_aea4;
const KVM_SET_REGS: u32 = 0x4090_ae82;
const KVM_SET_SREGS: u32 = 0x4138_ae84;
const KVM_SET_XSAVE: u32 = 0x5000_aea5;
const KVM_SET_VCPU_EVENTS: u32 = 0x4040_aea0;
const KVM_SET_DEBUGREGS: u32 = 0x4080_aea2;
const KVM_SET_USER_MEMORY_REGION: u32 = 0x4020_ae46;
const PAGEMAP_SCAN: u32 = 0xc060_6610;
const TCGETS: u32 = 0x5401;
const TCSETS: u32 = 0x5402;
const TIOCGWINSZ: u32 = 0x5413;

/// A virtual processor's thread, from before the guest's first instruction.
pub const VCPU: Policy = Policy {
    name: "vcpu",
    rules: &[
        allow_values(
            libc::SYS_ioctl,
            1,
            &[
                KVM_RUN,
                KVM_GET_REGS,
                KVM_GET_SREGS,
                KVM_GET_MSRS,
                KVM_SET_MSRS,
                KVM_GET_XSAVE,
                KVM_SET_REGS,
                KVM_SET_SREGS,
                KVM_SET_XSAVE,
                KVM_SET_VCPU_EVENTS,
                KVM_SET_DEBUGREGS,
                TCGETS,
                TCSETS,
                TIOCGWINSZ,
            ],
            "run the guest, report a fault, save it, put it back, set the system-call entry; a terminal channel's settings",
        ),
        POLL,
        READ,
        WRITE,
        allow(libc::SYS_recvfrom, "a socket channel, without blocking"),
        allow(libc::SYS_sendto, "a socket channel, without blocking"),
        allow(libc::SYS_lseek, "a file channel's position"),
        allow(libc::SYS_getrandom, "random bytes for the guest"),
        allow_values(libc::SYS_tgkill, 2, &[INTERRUPT], "interrupt another processor's thread"),
        FUTEX,
        SIGRETURN,
        SIGPROCMASK,
        SIGALTSTACK,
        MMAP,
        MPROTECT,
        MUNMAP,
        MADVISE,
        EXIT,
        allow(libc::SYS_clock_gettime, "clocks, where the vDSO cannot read them"),
    ],
};

/// The thread that interrupts processors.
pub const TICKER: Policy = Policy {
    name: "ticker",
    rules: &[
        POLL,
        READ,
        WRITE,
        allow(libc::SYS_clock_nanosleep, "keep interruptions apart"),
        allow(libc::SYS_restart_syscall, "a sleep goes on after SIGCONT"),
        allow_values(libc::SYS_tgkill, 2, &[INTERRUPT], "interrupt a processor's thread"),
        allow(libc::SYS_clock_gettime, "clocks, where the vDSO cannot read them"),
        FUTEX,
        SIGRETURN,
        SIGPROCMASK,
        SIGALTSTACK,
        MMAP,
        MPROTECT,
        MUNMAP,
        MADVISE,
        EXIT,
    ],
};

/// The control thread, once the machine runs: control socket, signals, companions, the end.
pub const CONTROL: Policy = Policy {
    name: "control",
    rules: &[
        POLL,
        POLL_PLAIN,
        READ,
        WRITE,
        CLOSE,
        FCNTL,
        allow(libc::SYS_recvmsg, "frames of the control socket"),
        allow(libc::SYS_recvfrom, "frames of the control socket"),
        allow(libc::SYS_sendto, "frames of the control socket"),
        allow(libc::SYS_shutdown, "companions end when their socket does"),
        allow(libc::SYS_wait4, "companions are waited for"),
        allow(libc::SYS_waitid, "companions are waited for"),
        allow(libc::SYS_getrusage, "memory statistics"),
        allow(libc::SYS_fstat, "the length of a blob's file"),
        allow(libc::SYS_pwrite64, "a snapshot, into a memory file that came with the request"),
        allow(libc::SYS_pread64, "where the snapshot under a guest's memory holds zeroes"),
        allow_values(
            libc::SYS_ioctl,
            1,
            &[TCGETS, TCSETS, PAGEMAP_SCAN, KVM_SET_USER_MEMORY_REGION],
            "the terminal's settings are restored at the end; a guest is put back to its snapshot, or lent a blob",
        ),
        allow(libc::SYS_dup3, "a guest that is put back gets a new invocation channel"),
        allow(libc::SYS_getrandom, "a guest that is put back gets a new seed"),
        allow_values(libc::SYS_tgkill, 2, &[INTERRUPT], "interrupt a processor's thread"),
        allow(libc::SYS_clock_gettime, "clocks, where the vDSO cannot read them"),
        allow(libc::SYS_restart_syscall, "a wait goes on after SIGCONT"),
        FUTEX,
        SIGRETURN,
        SIGPROCMASK,
        SIGALTSTACK,
        MMAP,
        MPROTECT,
        MUNMAP,
        MREMAP,
        MADVISE,
        BRK,
        EXIT,
        EXIT_GROUP,
    ],
};
