//! Hypercalls: `out %eax, $HYPERCALL_PORT` from ring 3 with the number in eax, arguments and result in the vCPU's
//! [`crate::cpu::CpuPage`]. An exit costs 25 us on software KVM, so none lies on a data path.
//!
//! Memory arguments are guest-physical ranges inside RAM; the VMM answers -EFAULT for any other.

/// I/O port of hypercalls.
pub const HYPERCALL_PORT: u16 = 0x4b0;
/// I/O port of the first region's doorbell; a write of any value to `DOORBELL_PORT + index` signals the companion without
/// an exit to user space (ioeventfd).
pub const DOORBELL_PORT: u16 = 0x4c0;

/// The first program ended. args: exit status as `wait` encodes it (status << 8, or the number of the fatal signal).
/// Does not return.
pub const EXIT: u32 = 1;
/// The guest cannot go on (library OS panic). args: gpa, len of a report in UTF-8. Does not return.
pub const PANIC: u32 = 2;
/// A line for whoever watches the guest (missing system calls, strace, fault dumps). args: gpa, len.
pub const CONSOLE: u32 = 3;
/// Nothing to run. args: deadline (CLOCK_MONOTONIC ns of the guest's clock; u64::MAX = none). Returns when `pending` is
/// not zero, a watched channel is ready, a watched region was woken, or the deadline has passed.
pub const WAIT: u32 = 4;
/// args: channel, gpa, len. Bytes read; 0 = end; -EAGAIN when nothing is there.
pub const CHANNEL_READ: u32 = 5;
/// args: channel, gpa, len. Bytes written; -EAGAIN when it would block; -EPIPE when nobody reads.
pub const CHANNEL_WRITE: u32 = 6;
/// args: channel. Readiness as `poll` gives it (POLLIN 1, POLLOUT 4, POLLERR 8, POLLHUP 16).
pub const CHANNEL_POLL: u32 = 7;
/// args: guest-virtual address that LSTAR shall hold from now on, SFMASK.
pub const SET_SYSCALL_ENTRY: u32 = 8;
/// args: region. Rings the companion and waits for its answer (file-system windows); -EIO when it has died.
pub const REGION_CALL: u32 = 9;
/// args: gpa of three u64: TSC, CLOCK_MONOTONIC ns, CLOCK_REALTIME ns, read together.
pub const CLOCK: u32 = 10;
/// args: gpa, len (at most 256): random bytes of the host.
pub const RANDOM: u32 = 11;
/// args: vCPU number, guest-virtual stack top. Starts a further vCPU at `LibosHeader.secondary_entry`.
pub const START_CPU: u32 = 12;
/// args: vCPU number. Sets its PENDING_KICK and interrupts it if it runs or waits.
pub const KICK_CPU: u32 = 13;
/// args: channel. Moves a FILE channel: args: channel, offset (i64), whence. The new offset.
pub const CHANNEL_SEEK: u32 = 14;
/// args: channel, operation (`CHANNEL_CTL_*`), gpa, len. Terminal settings of a TTY channel.
pub const CHANNEL_CTL: u32 = 15;
/// The answer to `PENDING_SNAPSHOT`: this vCPU is at rest. args: `SNAPSHOT_*` flags, `snapshot::MAX_HOT` guest-physical
/// addresses of large pages that every clone will use much of, 0 where there is none. Returns `RESUMED_*`, or -EAGAIN when
/// no snapshot is wanted.
pub const SNAPSHOT: u32 = 16;

/// The library OS cannot even say why it cannot go on: its own way in and out of exceptions is destroyed. No args. Does not
/// return.
pub const LOST: u32 = 17;

/// `SNAPSHOT`, argument: the program has opened an accelerator, so the session would have to be saved with the guest.
pub const SNAPSHOT_ACCELERATOR: u64 = 1;
/// `SNAPSHOT`, result: this is still the guest that was saved, and nothing has changed.
pub const RESUMED_SAME: u64 = 0;
/// `SNAPSHOT`, result: this is a restored guest, and this vCPU takes over what `snapshot::ResumeInfo` says.
pub const RESUMED_LEADER: u64 = 1;
/// `SNAPSHOT`, result: this is a restored guest; another vCPU takes over.
pub const RESUMED_FOLLOWER: u64 = 2;

/// `CHANNEL_CTL`: read the kernel's `struct termios` (36 bytes) / write it.
pub const CHANNEL_CTL_GET_TERMIOS: u64 = 1;
pub const CHANNEL_CTL_SET_TERMIOS: u64 = 2;
/// `CHANNEL_CTL`: read `struct winsize` (8 bytes).
pub const CHANNEL_CTL_GET_WINSIZE: u64 = 3;
