//! A snapshot: a guest at rest, in one memory file.
//!
//! ```text
//! 0                      SnapshotHeader
//! CPUS + n * CPU_STRIDE  SavedCpu of vCPU n
//! RAM                    the guest's RAM, byte for byte; pages of zeroes are holes
//! ```
//! Image layers and shared regions are not in it: they are mapped again, at the same addresses. The VMM writes a snapshot
//! and reads it back; nobody else looks inside. What protects the bytes (encryption, verification, seals) is the node
//! agent's business; the VMM checks the header against itself, the host and the request.
use crate::assert_layout;
use crate::boot::{Layer, LibosHeader, MAX_CHANNELS, MAX_LAYERS, MAX_REGIONS, Region};
use crate::layout::LARGE_PAGE;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `SnapshotHeader.magic`: "kasokuSN".
pub const SNAPSHOT_MAGIC: u64 = u64::from_le_bytes(*b"kasokuSN");
/// Version of this format; raise it with every change of a structure here.
pub const SNAPSHOT_VERSION: u32 = 2;
/// Offset of the first [`SavedCpu`].
pub const CPUS: u64 = 0x1_0000;
/// Bytes from one [`SavedCpu`] to the next.
pub const CPU_STRIDE: u64 = 0x2000;
/// Offset of RAM: a multiple of the large page size, so that large pages of the file are large pages of the guest.
pub const RAM: u64 = LARGE_PAGE;

/// Guest-physical address of [`ResumeInfo`], in the page of the boot information.
pub const RESUME_INFO: u64 = 0x1800;

/// Bytes of a library OS's build id (the SHA-1 that the linker makes of it).
pub const BUILD_ID: usize = 20;

/// Most large pages that a snapshot may name as hot.
pub const MAX_HOT: usize = 2;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SnapshotHeader {
    pub magic: u64,
    pub version: u32,
    pub abi_version: u32,
    /// Which library OS runs in it.
    pub build_id: [u8; BUILD_ID],
    pub cpu_count: u32,
    /// Bit per vCPU that had been started.
    pub started: u64,
    /// Bytes of RAM.
    pub ram_len: u64,
    /// What the host's processor offers to a guest: a guest uses what it once found.
    pub cpu_features: [u32; 32],
    /// TSC ticks a second.
    pub tsc_hz: u64,
    /// The guest's CLOCK_MONOTONIC when it came to rest.
    pub monotonic_ns: u64,
    pub libos: LibosHeader,
    pub layers: [Layer; MAX_LAYERS],
    pub regions: [Region; MAX_REGIONS],
    /// `CHANNEL_*` kind of each channel.
    pub channels: [u8; MAX_CHANNELS],
    /// Guest-physical addresses of large pages that a restored guest uses much of, so that copying them ahead costs less
    /// than faults; 0 = none. Hints of the guest.
    pub hot: [u64; MAX_HOT],
}
assert_layout!(SnapshotHeader, size 1208, align 8);

/// A vCPU that has made the hypercall `SNAPSHOT` and waits behind its `out`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SavedCpu {
    pub rip: u64,
    pub rsp: u64,
    pub rflags: u64,
    /// rax rbx rcx rdx rsi rdi rbp r8 .. r15
    pub general: [u64; 15],
    /// Root of the page tables, guest-physical.
    pub root: u64,
    /// Thread-local storage of the running program.
    pub fs_base: u64,
    /// Where `syscall` leads, and which flags it clears.
    pub syscall_entry: u64,
    pub syscall_flags: u64,
    pub reserved: [u64; 2],
    /// Extended state in the standard format of `xsave`.
    pub xsave: [u32; 1024],
}
assert_layout!(SavedCpu, size 4288, align 8);

/// What the VMM tells a restored guest, before it goes on.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ResumeInfo {
    /// As in `BootInfo`: TSC ticks of now, the guest's CLOCK_MONOTONIC (which continues), CLOCK_REALTIME, and the TSC's rate.
    pub clock_tsc: u64,
    pub clock_monotonic_ns: u64,
    pub clock_realtime_ns: u64,
    pub tsc_hz: u64,
    /// Random bytes from the host, of this clone alone.
    pub seed: [u8; 32],
    /// Names this clone: random, never 0.
    pub generation: u64,
}
assert_layout!(ResumeInfo, size 72, align 8);
