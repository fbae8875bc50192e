//! The file-system proxy.
use super::{
    BRK, CLOSE, EXIT_GROUP, FCNTL, FUTEX, MADVISE, MMAP, MPROTECT, MREMAP, MUNMAP, POLL, READ, SIGALTSTACK,
    SIGPROCMASK, SIGRETURN, WRITE,
};
use crate::{Policy, Rule, allow};

/// Serves one guest's requests about files beneath descriptors that were open before.
pub const FSPROXY: Policy = Policy { name: "fsproxy", rules: &READING };

/// The same where the guest may change files beneath some of them.
pub const FSPROXY_WRITING: Policy = Policy { name: "fsproxy-writing", rules: &READING_AND_WRITING };

const READING: [Rule; 22] = [
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
];

/// None of them follows a symbolic link at the end of its path, and each takes one name in a directory that was opened
/// beneath its root; but for the file that is open and gets a name: `/proc/self/fd` leads to it.
const WRITING: [Rule; 10] = [
    allow(libc::SYS_pwritev2, "file contents, with a flag that appends"),
    allow(libc::SYS_ftruncate, "length of an open file"),
    allow(libc::SYS_fsync, "what fsync in the guest asks for"),
    allow(libc::SYS_mkdirat, "make a directory"),
    allow(libc::SYS_unlinkat, "remove a file or a directory"),
    allow(libc::SYS_renameat2, "rename within a root"),
    allow(libc::SYS_linkat, "another name within a root, or the first one of an open file"),
    allow(libc::SYS_symlinkat, "make a symbolic link; nothing on this side follows it"),
    allow(libc::SYS_fchmod, "permissions of an open file, without set-id bits"),
    allow(libc::SYS_utimensat, "times of a name in a directory, or of an open file"),
];

const READING_AND_WRITING: [Rule; READING.len() + WRITING.len()] = {
    let mut rules = [READING[0]; READING.len() + WRITING.len()];
    let mut i = 0;
    while i < READING.len() {
        rules[i] = READING[i];
        i += 1;
    }
    while i < rules.len() {
        rules[i] = WRITING[i - READING.len()];
        i += 1;
    }
    rules
};
