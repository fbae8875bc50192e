//! What the VMM tells the library OS at its first instruction.
use crate::{Gpa, assert_layout};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `BootInfo.magic`: "kasokuVM".
pub const BOOT_MAGIC: u64 = u64::from_le_bytes(*b"kasokuVM");
/// `LibosHeader.magic`: "kasokuOS".
pub const LIBOS_MAGIC: u64 = u64::from_le_bytes(*b"kasokuOS");
/// Most image layers of one guest.
pub const MAX_LAYERS: usize = 32;
/// Most shared regions of one guest.
pub const MAX_REGIONS: usize = 16;
/// Most channels (host descriptors) of one guest.
pub const MAX_CHANNELS: usize = 32;

/// First bytes of the library OS's image (section `.header`, at `LIBOS_BASE`): what the VMM must know to start it.
/// All addresses are guest-virtual.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LibosHeader {
    pub magic: u64,
    pub abi_version: u32,
    pub reserved: u32,
    /// First instruction of the boot vCPU; rdi = its number. rsp is `BootInfo.boot_stack`.
    pub boot_entry: u64,
    /// First LSTAR: runs at whatever ring `syscall` leads to and reports it (see `hypercall::SET_SYSCALL_ENTRY`).
    pub syscall_probe: u64,
    /// Where a preempted vCPU continues; the interrupted rip, rsp and rflags are in `CpuPage.preempt`.
    pub preempt_entry: u64,
    /// The library OS's code, `[text_start, text_end)`: a vCPU is never preempted in it.
    pub text_start: u64,
    pub text_end: u64,
    /// First instruction of every further vCPU; rdi = its number.
    pub secondary_entry: u64,
}
assert_layout!(LibosHeader, size 64, align 8);

/// One image layer, mapped read-only.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Layer {
    pub gpa: Gpa,
    /// Bytes of the EROFS image; the slot is rounded up to 2 MiB.
    pub len: u64,
}
assert_layout!(Layer, size 16, align 8);

/// An accelerator session: command ring and arena, shared with a broker.
pub const REGION_ACCEL: u32 = 1;
/// A file-system window (`fs`), shared with a file-system proxy.
pub const REGION_FS: u32 = 2;

/// Memory shared with a companion process. The guest rings it by writing to port `hypercall::DOORBELL_PORT + index`; the
/// companion's answer sets bit `cpu::PENDING_REGION + index`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Region {
    pub gpa: Gpa,
    pub len: u64,
    /// `REGION_*`; 0 ends the list.
    pub kind: u32,
    pub reserved: u32,
}
assert_layout!(Region, size 24, align 8);

/// What a channel's descriptor is on the host, so that `fstat` and `isatty` answer as they would there.
pub const CHANNEL_NONE: u8 = 0;
pub const CHANNEL_PIPE: u8 = 1;
pub const CHANNEL_FILE: u8 = 2;
pub const CHANNEL_TTY: u8 = 3;
pub const CHANNEL_SOCKET: u8 = 4;
pub const CHANNEL_CHAR: u8 = 5;

/// Channel numbers with a fixed meaning. Others are free.
pub const CHANNEL_STDIN: usize = 0;
pub const CHANNEL_STDOUT: usize = 1;
pub const CHANNEL_STDERR: usize = 2;
/// A stream socket between the node agent and the function runner (`/dev/kasoku/invoke`).
pub const CHANNEL_INVOKE: usize = 3;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootInfo {
    pub magic: u64,
    pub abi_version: u32,
    pub cpu_count: u32,
    /// Bytes of RAM, from guest-physical 0.
    pub ram_len: u64,
    /// First free byte of RAM, page aligned: everything below is in use, but for what `tables` names.
    pub free: Gpa,
    /// First free byte for page tables, page aligned, up to `layout::TABLES_END`.
    pub tables: Gpa,
    /// Guest-virtual top of the boot stack (in the direct map, 64 KiB).
    pub boot_stack: u64,
    /// Root of the initial page tables.
    pub root: Gpa,
    /// Configuration blob (`config`).
    pub config: Gpa,
    pub config_len: u64,
    /// The host's clocks, read together: TSC ticks, CLOCK_MONOTONIC ns, CLOCK_REALTIME ns.
    pub clock_tsc: u64,
    pub clock_monotonic_ns: u64,
    pub clock_realtime_ns: u64,
    /// TSC rate.
    pub tsc_hz: u64,
    /// Random bytes from the host: the library OS's generator starts from them.
    pub seed: [u8; 32],
    pub layers: [Layer; MAX_LAYERS],
    pub regions: [Region; MAX_REGIONS],
    /// `CHANNEL_*` kind of each channel.
    pub channels: [u8; MAX_CHANNELS],
    /// Terminal size of the tty channels: rows << 16 | columns; 0 when unknown.
    pub terminal: u32,
    pub reserved: u32,
}
assert_layout!(BootInfo, size 1072, align 8);
