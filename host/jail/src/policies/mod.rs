//! The policies, one file per process.
mod fsproxy;
mod vmm;

pub use fsproxy::{FSPROXY, FSPROXY_WRITING};
pub use vmm::{CONTROL, TICKER, VCPU};

use crate::{Policy, Rule, allow, allow_values, allow_without};

/// All of them, for tests and documents.
pub const ALL: &[&Policy] = &[&VCPU, &TICKER, &CONTROL, &FSPROXY, &FSPROXY_WRITING];

const EXECUTABLE: u64 = libc::PROT_EXEC as u64;

// What the Rust runtime and the allocator need in every thread.
const MMAP: Rule = allow_without(libc::SYS_mmap, 2, EXECUTABLE, "the allocator grows; never executable");
const MPROTECT: Rule =
    allow_without(libc::SYS_mprotect, 2, EXECUTABLE, "the allocator grows an arena; never executable");
const MUNMAP: Rule = allow(libc::SYS_munmap, "the allocator shrinks; a thread's signal stack goes");
const MADVISE: Rule = allow(libc::SYS_madvise, "the allocator gives memory back; a thread's stack goes");
const BRK: Rule = allow(libc::SYS_brk, "the allocator grows in the main thread");
const MREMAP: Rule = allow(libc::SYS_mremap, "the allocator enlarges a big block");
const FUTEX: Rule = allow(libc::SYS_futex, "locks and condition variables");
const SIGRETURN: Rule = allow(libc::SYS_rt_sigreturn, "return from a signal handler");
const SIGPROCMASK: Rule = allow(libc::SYS_rt_sigprocmask, "a thread blocks signals while it ends");
const SIGALTSTACK: Rule = allow(libc::SYS_sigaltstack, "the runtime takes its signal stack down at a thread's end");
const EXIT: Rule = allow(libc::SYS_exit, "a thread ends");
const EXIT_GROUP: Rule = allow(libc::SYS_exit_group, "the process ends");
const POLL: Rule = allow(libc::SYS_ppoll, "wait for descriptors and deadlines");
const POLL_PLAIN: Rule = allow(libc::SYS_poll, "wait for descriptors");
const READ: Rule = allow(libc::SYS_read, "event counters and descriptors that were open before");
const WRITE: Rule = allow(libc::SYS_write, "event counters and descriptors that were open before");
const CLOSE: Rule = allow(libc::SYS_close, "descriptors go with their owners");
const FCNTL: Rule = allow_values(
    libc::SYS_fcntl,
    1,
    &[libc::F_GETFD as u32],
    "builds with assertions check descriptors before they close",
);
