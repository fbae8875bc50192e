//! The system calls: number, name, arguments, how far each is supported, who handles it.
//!
//! Data: `dispatch`, `--strace` and `docs/linux.md` (`document`) all come from here. A call that has no handler answers
//! the errno in its line; one that is not here at all answers ENOSYS and is named once on the console.
#[cfg(target_os = "none")]
use super::{
    Handler, attributes, between, descriptor, directory, epoll, event, identity, inotify, memory, message, names, open,
    pipe, poll, prctl, priority, process, ptrace, signal, socket, stat, system, sysv, thread, time, timer, transfer,
    xattr,
};
use crate::errno::Errno;

/// How much of a call is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// As on Linux, as far as we know.
    Full,
    /// The note says what is missing.
    Partial,
    /// Answers with the errno.
    Absent(Errno),
}

/// One system call.
pub struct Entry {
    pub number: u64,
    pub name: &'static str,
    /// Kinds of its arguments, for `--strace`: fd path string int len octal flags pointer.
    pub arguments: &'static str,
    pub support: Support,
    pub note: &'static str,
    #[cfg(target_os = "none")]
    pub handler: Option<Handler>,
}

macro_rules! calls {
    ($($number:literal $name:ident ($arguments:literal) $support:ident $note:literal => $handler:path;)*) => {
        &[$(Entry {
            number: $number,
            name: stringify!($name),
            arguments: $arguments,
            support: Support::$support,
            note: $note,
            #[cfg(target_os = "none")]
            handler: Some($handler),
        }),*]
    };
}

macro_rules! absent_calls {
    ($($number:literal $name:ident $errno:ident $note:literal;)*) => {
        &[$(Entry {
            number: $number,
            name: stringify!($name),
            arguments: "",
            support: Support::Absent(Errno::$errno),
            note: $note,
            #[cfg(target_os = "none")]
            handler: None,
        }),*]
    };
}

/// Calls with a handler, by area.
static AREAS: &[&[Entry]] =
    &[MEMORY, THREADS, PROCESSES, SIGNALS, EVENTS, SYSTEM_V, SOCKETS, TIME, IDENTITY, SYSTEM, FILES, TREE];

static MEMORY: &[Entry] = calls! {
    9 mmap ("pointer len flags flags fd len") Partial "MAP_HUGETLB is ENOMEM; MAP_GROWSDOWN does not grow; a first write to a private mapping of an image file copies its neighbours too" => memory::mmap;
    10 mprotect ("pointer len flags") Full "" => memory::mprotect;
    11 munmap ("pointer len") Full "" => memory::munmap;
    12 brk ("pointer") Full "" => memory::brk;
    25 mremap ("pointer len len flags pointer") Partial "MREMAP_DONTUNMAP is EINVAL" => memory::mremap;
    26 msync ("pointer len flags") Full "" => memory::msync;
    27 mincore ("pointer len pointer") Full "everything mapped is resident" => memory::mincore;
    28 madvise ("pointer len int") Full "MADV_FREE keeps the contents" => memory::madvise;
    149 mlock ("pointer len") Full "" => memory::mlock;
    150 munlock ("pointer len") Full "" => memory::accept;
    151 mlockall ("flags") Full "" => memory::accept;
    152 munlockall ("") Full "" => memory::accept;
    237 mbind ("pointer len int pointer len flags") Full "one memory node" => memory::accept;
    238 set_mempolicy ("int pointer len") Full "one memory node" => memory::accept;
    239 get_mempolicy ("pointer pointer len pointer flags") Full "one memory node" => memory::get_mempolicy;
    324 membarrier ("int flags int") Full "" => memory::membarrier;
    325 mlock2 ("pointer len flags") Full "" => memory::mlock;
    329 pkey_mprotect ("pointer len flags int") Partial "no protection keys" => memory::pkey_mprotect;
    330 pkey_alloc ("flags flags") Partial "no protection keys: ENOSPC" => memory::pkey_alloc;
};

static THREADS: &[Entry] = calls! {
    24 sched_yield ("") Full "" => thread::sched_yield;
    142 sched_setparam ("int pointer") Partial "only SCHED_OTHER" => thread::sched_setparam;
    143 sched_getparam ("int pointer") Full "" => thread::sched_getparam;
    144 sched_setscheduler ("int int pointer") Partial "only SCHED_OTHER" => thread::sched_setscheduler;
    145 sched_getscheduler ("int") Full "" => thread::sched_getscheduler;
    146 sched_get_priority_max ("int") Full "" => thread::sched_priority_max;
    147 sched_get_priority_min ("int") Full "" => thread::sched_priority_min;
    148 sched_rr_get_interval ("int pointer") Full "" => thread::sched_rr_get_interval;
    158 arch_prctl ("flags pointer") Partial "ARCH_SET_GS is EINVAL: gs belongs to the library OS" => thread::arch_prctl;
    202 futex ("pointer int int pointer pointer int") Partial "no requeueing to locks that know their owner" => thread::futex;
    203 sched_setaffinity ("int len pointer") Full "" => thread::sched_setaffinity;
    204 sched_getaffinity ("int len pointer") Full "" => thread::sched_getaffinity;
    218 set_tid_address ("pointer") Full "" => thread::set_tid_address;
    273 set_robust_list ("pointer len") Full "" => thread::set_robust_list;
    274 get_robust_list ("int pointer pointer") Full "" => thread::get_robust_list;
    309 getcpu ("pointer pointer") Full "" => thread::getcpu;
    314 sched_setattr ("int pointer int") Partial "only SCHED_OTHER" => thread::sched_setattr;
    315 sched_getattr ("int pointer len int") Full "" => thread::sched_getattr;
};

static PROCESSES: &[Entry] = calls! {
    56 clone ("flags pointer pointer pointer pointer") Partial "no namespaces" => process::clone;
    57 fork ("") Full "" => process::fork;
    58 vfork ("") Full "" => process::vfork;
    59 execve ("path pointer pointer") Full "" => process::execve;
    60 exit ("int") Full "" => process::exit;
    61 wait4 ("int pointer flags pointer") Full "" => process::wait4;
    231 exit_group ("int") Full "" => process::exit_group;
    101 ptrace ("int int pointer pointer") Partial "no seccomp, no breakpoints of the processor" => ptrace::ptrace;
    310 process_vm_readv ("int pointer int pointer int int") Full "" => ptrace::process_vm_readv;
    311 process_vm_writev ("int pointer int pointer int int") Full "" => ptrace::process_vm_writev;
    247 waitid ("int int pointer flags pointer") Full "" => process::waitid;
    322 execveat ("fd path pointer pointer flags") Full "" => process::execveat;
    435 clone3 ("pointer len") Partial "no namespaces, no set_tid" => process::clone3;
};

static SIGNALS: &[Entry] = calls! {
    13 rt_sigaction ("int pointer pointer len") Full "" => signal::rt_sigaction;
    14 rt_sigprocmask ("int pointer pointer len") Full "" => signal::rt_sigprocmask;
    15 rt_sigreturn ("") Full "" => signal::rt_sigreturn;
    34 pause ("") Full "" => signal::pause;
    62 kill ("int int") Full "" => signal::kill;
    127 rt_sigpending ("pointer len") Full "" => signal::rt_sigpending;
    128 rt_sigtimedwait ("pointer pointer pointer len") Full "" => signal::rt_sigtimedwait;
    129 rt_sigqueueinfo ("int int pointer") Full "" => signal::rt_sigqueueinfo;
    130 rt_sigsuspend ("pointer len") Full "" => signal::rt_sigsuspend;
    131 sigaltstack ("pointer pointer") Full "" => signal::sigaltstack;
    200 tkill ("int int") Full "" => signal::tkill;
    234 tgkill ("int int int") Full "" => signal::tgkill;
    297 rt_tgsigqueueinfo ("int int int pointer") Full "" => signal::rt_tgsigqueueinfo;
};

static EVENTS: &[Entry] = calls! {
    7 poll ("pointer len int") Full "" => poll::poll;
    22 pipe ("pointer") Full "" => pipe::pipe;
    23 select ("int pointer pointer pointer pointer") Full "" => poll::select;
    213 epoll_create ("int") Full "" => epoll::epoll_create;
    232 epoll_wait ("fd pointer int int") Full "" => epoll::epoll_wait;
    233 epoll_ctl ("fd int fd pointer") Full "" => epoll::epoll_ctl;
    270 pselect6 ("int pointer pointer pointer pointer pointer") Full "" => poll::pselect6;
    271 ppoll ("pointer len pointer pointer len") Full "" => poll::ppoll;
    253 inotify_init ("") Full "" => inotify::inotify_init;
    254 inotify_add_watch ("fd path flags") Full "changes by others on the host are not seen" => inotify::inotify_add_watch;
    255 inotify_rm_watch ("fd int") Full "" => inotify::inotify_rm_watch;
    294 inotify_init1 ("flags") Full "" => inotify::inotify_init1;
    281 epoll_pwait ("fd pointer int int pointer len") Full "" => epoll::epoll_pwait;
    282 signalfd ("fd pointer len") Full "" => event::signalfd;
    283 timerfd_create ("int flags") Full "" => event::timerfd_create;
    284 eventfd ("int") Full "" => event::eventfd;
    286 timerfd_settime ("fd flags pointer pointer") Partial "the clock is never set, so nothing is cancelled" => event::timerfd_settime;
    287 timerfd_gettime ("fd pointer") Full "" => event::timerfd_gettime;
    289 signalfd4 ("fd pointer len flags") Full "" => event::signalfd4;
    290 eventfd2 ("int flags") Full "" => event::eventfd2;
    291 epoll_create1 ("flags") Full "" => epoll::epoll_create1;
    293 pipe2 ("pointer flags") Full "" => pipe::pipe2;
    424 pidfd_send_signal ("fd int pointer flags") Full "" => event::pidfd_send_signal;
    434 pidfd_open ("int flags") Full "" => event::pidfd_open;
    438 pidfd_getfd ("fd fd flags") Full "" => event::pidfd_getfd;
    441 epoll_pwait2 ("fd pointer int pointer pointer len") Full "" => epoll::epoll_pwait2;
};

static SYSTEM_V: &[Entry] = calls! {
    29 shmget ("int len flags") Partial "no huge pages" => sysv::shmget;
    30 shmat ("int pointer flags") Full "" => sysv::shmat;
    31 shmctl ("int int pointer") Full "" => sysv::shmctl;
    64 semget ("int int flags") Full "" => sysv::semget;
    65 semop ("int pointer len") Full "" => sysv::semop;
    66 semctl ("int int int pointer") Full "" => sysv::semctl;
    67 shmdt ("pointer") Full "" => sysv::shmdt;
    68 msgget ("int flags") Full "" => sysv::msgget;
    69 msgsnd ("int pointer len flags") Full "" => sysv::msgsnd;
    70 msgrcv ("int pointer len int flags") Full "" => sysv::msgrcv;
    71 msgctl ("int int pointer") Full "" => sysv::msgctl;
    220 semtimedop ("int pointer len pointer") Full "" => sysv::semtimedop;
};

static SOCKETS: &[Entry] = calls! {
    41 socket ("int flags int") Partial "unix, internet over the guest's loopback, netlink for getifaddrs" => socket::socket;
    42 connect ("fd pointer len") Partial "ENETUNREACH for what is not the loopback" => socket::connect;
    43 accept ("fd pointer pointer") Full "" => socket::accept;
    44 sendto ("fd pointer len flags pointer len") Full "" => message::sendto;
    45 recvfrom ("fd pointer len flags pointer pointer") Full "" => message::recvfrom;
    46 sendmsg ("fd pointer flags") Full "" => message::sendmsg;
    47 recvmsg ("fd pointer flags") Partial "no time stamps" => message::recvmsg;
    48 shutdown ("fd int") Full "" => socket::shutdown;
    49 bind ("fd pointer len") Full "" => socket::bind;
    50 listen ("fd int") Full "" => socket::listen;
    51 getsockname ("fd pointer pointer") Full "" => socket::getsockname;
    52 getpeername ("fd pointer pointer") Full "" => socket::getpeername;
    53 socketpair ("int flags int pointer") Full "" => socket::socketpair;
    54 setsockopt ("fd int int pointer len") Partial "what a loopback has no use for is remembered only" => socket::setsockopt;
    55 getsockopt ("fd int int pointer pointer") Full "" => socket::getsockopt;
    288 accept4 ("fd pointer pointer flags") Full "" => socket::accept4;
    299 recvmmsg ("fd pointer int flags pointer") Full "" => message::recvmmsg;
    307 sendmmsg ("fd pointer int flags") Full "" => message::sendmmsg;
};

static TIME: &[Entry] = calls! {
    35 nanosleep ("pointer pointer") Full "" => time::nanosleep;
    36 getitimer ("int pointer") Full "" => timer::getitimer;
    37 alarm ("int") Full "" => timer::alarm;
    38 setitimer ("int pointer pointer") Full "" => timer::setitimer;
    96 gettimeofday ("pointer pointer") Full "" => time::gettimeofday;
    98 getrusage ("int pointer") Partial "user time and memory" => time::getrusage;
    100 times ("pointer") Partial "user time" => time::times;
    201 time ("pointer") Full "" => time::time;
    222 timer_create ("int pointer pointer") Full "" => timer::timer_create;
    223 timer_settime ("int flags pointer pointer") Full "" => timer::timer_settime;
    224 timer_gettime ("int pointer") Full "" => timer::timer_gettime;
    225 timer_getoverrun ("int") Full "" => timer::timer_getoverrun;
    226 timer_delete ("int") Full "" => timer::timer_delete;
    227 clock_settime ("int pointer") Full "EPERM: the clock is the host's" => time::clock_settime;
    228 clock_gettime ("int pointer") Full "" => time::clock_gettime;
    229 clock_getres ("int pointer") Full "" => time::clock_getres;
    230 clock_nanosleep ("int flags pointer pointer") Full "" => time::clock_nanosleep;
};

static IDENTITY: &[Entry] = calls! {
    39 getpid ("") Full "" => identity::getpid;
    97 getrlimit ("int pointer") Full "" => identity::getrlimit;
    102 getuid ("") Full "" => identity::getuid;
    104 getgid ("") Full "" => identity::getgid;
    105 setuid ("int") Full "" => identity::setuid;
    106 setgid ("int") Full "" => identity::setgid;
    107 geteuid ("") Full "" => identity::geteuid;
    108 getegid ("") Full "" => identity::getegid;
    109 setpgid ("int int") Full "" => identity::setpgid;
    110 getppid ("") Full "" => identity::getppid;
    111 getpgrp ("") Full "" => identity::getpgrp;
    112 setsid ("") Full "" => identity::setsid;
    113 setreuid ("int int") Full "" => identity::setreuid;
    114 setregid ("int int") Full "" => identity::setregid;
    115 getgroups ("int pointer") Full "" => identity::getgroups;
    116 setgroups ("len pointer") Full "" => identity::setgroups;
    117 setresuid ("int int int") Full "" => identity::setresuid;
    118 getresuid ("pointer pointer pointer") Full "" => identity::getresuid;
    119 setresgid ("int int int") Full "" => identity::setresgid;
    120 getresgid ("pointer pointer pointer") Full "" => identity::getresgid;
    121 getpgid ("int") Full "" => identity::getpgid;
    122 setfsuid ("int") Partial "follows the effective id" => identity::setfsuid;
    123 setfsgid ("int") Partial "follows the effective id" => identity::setfsgid;
    124 getsid ("int") Full "" => identity::getsid;
    125 capget ("pointer pointer") Full "" => identity::capget;
    126 capset ("pointer pointer") Full "few calls ask for them" => identity::capset;
    140 getpriority ("int int") Full "" => priority::getpriority;
    141 setpriority ("int int int") Full "told, not obeyed" => priority::setpriority;
    160 setrlimit ("int pointer") Partial "NOFILE, AS, CPU, FSIZE, NPROC are enforced" => identity::setrlimit;
    251 ioprio_set ("int int int") Full "told, not obeyed" => priority::ioprio_set;
    252 ioprio_get ("int int") Full "" => priority::ioprio_get;
    186 gettid ("") Full "" => identity::gettid;
    302 prlimit64 ("int int pointer pointer") Partial "NOFILE, AS, CPU, FSIZE, NPROC are enforced" => identity::prlimit64;
};

static SYSTEM: &[Entry] = calls! {
    63 uname ("pointer") Full "" => system::uname;
    99 sysinfo ("pointer") Partial "no load averages" => system::sysinfo;
    135 personality ("flags") Partial "only Linux" => system::personality;
    157 prctl ("int pointer pointer pointer pointer") Partial "names, dumpable, capabilities, death signal, subreaper" => prctl::prctl;
    170 sethostname ("string len") Full "" => system::sethostname;
    318 getrandom ("pointer len flags") Full "" => system::getrandom;
    103 syslog ("int pointer len") Partial "EPERM" => system::forbidden;
    155 pivot_root ("path path") Partial "EPERM" => system::forbidden;
    165 mount ("path path string flags pointer") Partial "EPERM: mounts are given at the start" => system::forbidden;
    166 umount2 ("path flags") Partial "EPERM" => system::forbidden;
    169 reboot ("int int int") Partial "EPERM" => system::forbidden;
    162 sync ("") Full "" => attributes::sync;
    272 unshare ("flags") Partial "EPERM" => system::forbidden;
    308 setns ("fd int") Partial "EPERM" => system::forbidden;
};

static FILES: &[Entry] = calls! {
    0 read ("fd pointer len") Full "" => transfer::read;
    1 write ("fd string len") Full "" => transfer::write;
    2 open ("path flags octal") Full "" => open::open;
    3 close ("fd") Full "" => open::close;
    8 lseek ("fd int int") Full "" => transfer::lseek;
    16 ioctl ("fd flags pointer") Partial "what the kind of file knows" => descriptor::ioctl;
    17 pread64 ("fd pointer len int") Full "" => transfer::pread64;
    18 pwrite64 ("fd string len int") Full "" => transfer::pwrite64;
    19 readv ("fd pointer int") Full "" => transfer::readv;
    20 writev ("fd pointer int") Full "" => transfer::writev;
    32 dup ("fd") Full "" => descriptor::dup;
    33 dup2 ("fd fd") Full "" => descriptor::dup2;
    40 sendfile ("fd fd pointer len") Full "" => between::sendfile;
    72 fcntl ("fd int pointer") Partial "no leases, no notification" => descriptor::fcntl;
    73 flock ("fd int") Full "" => descriptor::flock;
    74 fsync ("fd") Full "" => attributes::fsync;
    75 fdatasync ("fd") Full "" => attributes::fsync;
    77 ftruncate ("fd len") Full "" => attributes::ftruncate;
    85 creat ("path octal") Full "" => open::creat;
    187 readahead ("fd int len") Full "" => attributes::readahead;
    221 fadvise64 ("fd int len int") Full "" => attributes::fadvise64;
    257 openat ("fd path flags octal") Full "" => open::openat;
    275 splice ("fd pointer fd pointer len flags") Full "" => between::splice;
    276 tee ("fd fd len flags") Full "" => between::tee;
    277 sync_file_range ("fd int len flags") Full "" => attributes::sync_file_range;
    278 vmsplice ("fd pointer len flags") Full "copies" => between::vmsplice;
    285 fallocate ("fd flags int len") Partial "as tmpfs: no collapse, insert or zero range" => attributes::fallocate;
    292 dup3 ("fd fd flags") Full "" => descriptor::dup3;
    295 preadv ("fd pointer int int") Full "" => transfer::preadv;
    296 pwritev ("fd pointer int int") Full "" => transfer::pwritev;
    306 syncfs ("fd") Full "" => attributes::syncfs;
    319 memfd_create ("string flags") Partial "no huge pages" => open::memfd_create;
    326 copy_file_range ("fd pointer fd pointer len flags") Full "" => between::copy_file_range;
    327 preadv2 ("fd pointer int int int flags") Full "" => transfer::preadv2;
    328 pwritev2 ("fd pointer int int int flags") Full "" => transfer::pwritev2;
    436 close_range ("fd fd flags") Full "" => descriptor::close_range;
    437 openat2 ("fd path pointer len") Full "RESOLVE_CACHED is EAGAIN" => open::openat2;
};

static TREE: &[Entry] = calls! {
    4 stat ("path pointer") Full "" => stat::stat_path;
    5 fstat ("fd pointer") Full "" => stat::fstat;
    6 lstat ("path pointer") Full "" => stat::lstat;
    21 access ("path int") Full "" => stat::access;
    76 truncate ("path len") Full "" => attributes::truncate;
    78 getdents ("fd pointer len") Full "" => directory::getdents;
    79 getcwd ("pointer len") Full "" => directory::getcwd;
    80 chdir ("path") Full "" => directory::chdir;
    81 fchdir ("fd") Full "" => directory::fchdir;
    82 rename ("path path") Full "" => names::rename;
    83 mkdir ("path octal") Full "" => names::mkdir;
    84 rmdir ("path") Full "" => names::rmdir;
    86 link ("path path") Full "" => names::link;
    87 unlink ("path") Full "" => names::unlink;
    88 symlink ("path path") Full "" => names::symlink;
    89 readlink ("path pointer len") Full "" => stat::readlink;
    90 chmod ("path octal") Full "" => attributes::chmod;
    91 fchmod ("fd octal") Full "" => attributes::fchmod;
    92 chown ("path int int") Full "" => attributes::chown;
    93 fchown ("fd int int") Full "" => attributes::fchown;
    94 lchown ("path int int") Full "" => attributes::lchown;
    95 umask ("octal") Full "" => attributes::umask;
    132 utime ("path pointer") Full "" => attributes::utime;
    133 mknod ("path octal int") Full "" => names::mknod;
    137 statfs ("path pointer") Full "" => stat::statfs_path;
    138 fstatfs ("fd pointer") Full "" => stat::fstatfs;
    161 chroot ("path") Full "" => directory::chroot;
    188 setxattr ("path string pointer len flags") Partial "kept in memory; user., trusted. and security. names" => xattr::setxattr;
    189 lsetxattr ("path string pointer len flags") Partial "kept in memory; user., trusted. and security. names" => xattr::lsetxattr;
    190 fsetxattr ("fd string pointer len flags") Partial "kept in memory; user., trusted. and security. names" => xattr::fsetxattr;
    191 getxattr ("path string pointer len") Full "" => xattr::getxattr;
    192 lgetxattr ("path string pointer len") Full "" => xattr::lgetxattr;
    193 fgetxattr ("fd string pointer len") Full "" => xattr::fgetxattr;
    194 listxattr ("path pointer len") Full "" => xattr::listxattr;
    195 llistxattr ("path pointer len") Full "" => xattr::llistxattr;
    196 flistxattr ("fd pointer len") Full "" => xattr::flistxattr;
    197 removexattr ("path string") Full "" => xattr::removexattr;
    198 lremovexattr ("path string") Full "" => xattr::lremovexattr;
    199 fremovexattr ("fd string") Full "" => xattr::fremovexattr;
    217 getdents64 ("fd pointer len") Full "" => directory::getdents64;
    235 utimes ("path pointer") Full "" => attributes::utimes;
    258 mkdirat ("fd path octal") Full "" => names::mkdirat;
    259 mknodat ("fd path octal int") Full "" => names::mknodat;
    260 fchownat ("fd path int int flags") Full "" => attributes::fchownat;
    261 futimesat ("fd path pointer") Full "" => attributes::futimesat;
    262 newfstatat ("fd path pointer flags") Full "" => stat::newfstatat;
    263 unlinkat ("fd path flags") Full "" => names::unlinkat;
    264 renameat ("fd path fd path") Full "" => names::renameat;
    265 linkat ("fd path fd path flags") Full "" => names::linkat;
    266 symlinkat ("path fd path") Full "" => names::symlinkat;
    267 readlinkat ("fd path pointer len") Full "" => stat::readlinkat;
    268 fchmodat ("fd path octal") Full "" => attributes::fchmodat;
    269 faccessat ("fd path int") Full "" => stat::faccessat;
    280 utimensat ("fd path pointer flags") Full "" => attributes::utimensat;
    316 renameat2 ("fd path fd path flags") Full "" => names::renameat2;
    332 statx ("fd path flags flags pointer") Full "" => stat::statx;
    439 faccessat2 ("fd path int flags") Full "" => stat::faccessat2;
    452 fchmodat2 ("fd path octal flags") Full "" => attributes::fchmodat2;
};

/// Calls that programs are known to try, and what they get.
static ABSENT: &[Entry] = absent_calls! {
    216 remap_file_pages ENOSYS "";
    300 fanotify_init ENOSYS "";
    256 migrate_pages ENOSYS "one memory node";
    279 move_pages ENOSYS "one memory node";
    298 perf_event_open EACCES "no performance counters";
    317 seccomp EINVAL "the VM is the sandbox";
    321 bpf EPERM "";
    323 userfaultfd ENOSYS "";
    334 rseq ENOSYS "glibc does without";
    425 io_uring_setup ENOSYS "";
    426 io_uring_enter ENOSYS "";
    427 io_uring_register ENOSYS "";
    444 landlock_create_ruleset EOPNOTSUPP "";
    446 landlock_restrict_self EOPNOTSUPP "";
};

/// All entries, area by area.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    AREAS.iter().copied().chain(core::iter::once(ABSENT)).flatten()
}
