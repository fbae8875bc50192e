//! The file-system proxy.
use super::{
    BRK, CLOSE, EXIT_GROUP, FCNTL, FUTEX, MADVISE, MMAP, MPROTECT, MREMAP, MUNMAP, POLL, READ, SIGALTSTACK,
    SIGPROCMASK, SIGRETURN, WRITE,
};
use crate::{Policy, allow};

/// Serves one guest's requests about files beneath descriptors that were open before.
pub const FSPROXY: Policy = Policy {
    name: "fsproxy",
    rules: &[
        POLL,
        READ,
        WRITE,
        CLOSE,
        FCNTL,
        allow(libc::SYS_openat2, "files beneath a root; RESOLVE_BENEATH and landlock bound it"),
        allow(libc::SYS_statx, "attributes"),
        allow(libc::SYS_getdents64, "directory entries"),
        allow(libc::SYS_lseek, "continue a directory"),
        allow(libc::SYS_readlinkat, "symbolic links are read, never followed"),
        allow(libc::SYS_pread64, "file contents, straight into the window"),
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
        EXIT_GROUP,
    ],
};
