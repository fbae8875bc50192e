//! Where things lie: guest-physical memory (chosen by the VMM), guest-virtual memory (one page-table root per program,
//! the library OS mapped in all of them) and the x86 segment selectors that ring-3 code sees.
//!
//! Guest-physical:
//! ```text
//! 0                    page 0, never mapped
//! BOOT_INFO            boot::BootInfo
//! CPU_AREA + n * CPU_AREA_STRIDE   one area per vCPU (offsets CPU_* below)
//! TABLES               page tables, the initial ones first
//! LIBOS_IMAGE          the library OS, loaded by its ELF program headers relative to LIBOS_BASE
//! ... BootInfo.free    configuration blob and boot stack end here; free RAM begins
//! LAYERS               read-only image layers, each on a 2 MiB boundary
//! REGIONS              memory shared with companion processes (accelerator sessions, file-system windows)
//! BLOBS                read-only data that a running guest is lent, each on a 2 MiB boundary
//! ```
//! Guest-virtual: everything below [`LIBOS_BASE`] and everything from [`LIBOS_END`] up belongs to the program.

/// Base page size, bytes.
pub const PAGE: u64 = 4096;
/// Large page size, bytes; RAM, layers and regions are aligned to it and mapped with it.
pub const LARGE_PAGE: u64 = 2 << 20;

/// Guest-physical address of [`crate::boot::BootInfo`].
pub const BOOT_INFO: u64 = 0x1000;
/// Guest-physical address of the first vCPU's area.
pub const CPU_AREA: u64 = 0x1_0000;
/// Bytes from one vCPU's area to the next.
pub const CPU_AREA_STRIDE: u64 = 0x1_0000;
/// Most vCPUs that a guest may have.
pub const MAX_CPUS: u64 = 8;

// Offsets inside a vCPU's area. The VMM fills GDT and TSS (they belong to the segment registers that it loads); the
// library OS fills the IDT and the stub page before anything can fault.
/// [`crate::cpu::CpuPage`].
pub const CPU_PAGE: u64 = 0x0000;
/// Global descriptor table.
pub const CPU_GDT: u64 = 0x1000;
/// Interrupt descriptor table, 256 gates.
pub const CPU_IDT: u64 = 0x2000;
/// Task state segment with an I/O bitmap that opens the ports of `hypercall` and no other, `TSS_LIMIT + 1` bytes.
pub const CPU_TSS: u64 = 0x3000;
/// Ring-0 stubs: the only supervisor page, read-only to the stubs themselves.
pub const CPU_STUBS: u64 = 0x6000;
/// Top of the ring-0 stack (TSS.RSP0); it grows down from here, 4 KiB.
pub const CPU_RSP0_TOP: u64 = 0x8000;
/// Top of the exception stack (TSS.IST1), 32 KiB.
pub const CPU_IST1_TOP: u64 = 0x1_0000;

/// TSS limit: 0x68 bytes of TSS, the I/O bitmap, its final 0xff byte. Ports beyond the bitmap are closed.
pub const TSS_LIMIT: u64 = TSS_IO_BITMAP + IO_BITMAP_LEN;
/// Offset of the I/O bitmap in the TSS.
pub const TSS_IO_BITMAP: u64 = 0x68;
/// Bytes of the I/O bitmap: a bit for each port up to the last doorbell's.
pub const IO_BITMAP_LEN: u64 = 0x9c;

/// Guest-physical address of the first page tables. They share a large page with nothing that wants to be mapped as one:
/// KVM maps a range in small pages that holds a page table.
pub const TABLES: u64 = CPU_AREA + MAX_CPUS * CPU_AREA_STRIDE;
/// End of the room for them; later ones lie anywhere in RAM.
pub const TABLES_END: u64 = LIBOS_IMAGE;
/// Guest-physical address at which the library OS's image begins.
pub const LIBOS_IMAGE: u64 = 0x20_0000;
/// Guest-physical address of the first image layer.
pub const LAYERS: u64 = 0x20_0000_0000;
/// Guest-physical address of the first shared region.
pub const REGIONS: u64 = 0x60_0000_0000;
/// Guest-physical address of the first blob. Not in the direct map: programs map it, the library OS never looks.
pub const BLOBS: u64 = 0x70_0000_0000;
/// End of guest-physical memory that a guest has.
pub const GPA_END: u64 = TENDER;
/// Guest-physical address of two pages that a tender keeps for itself; nobody maps them. They end with the smallest physical
/// address width of the machines we support (39 bits).
pub const TENDER: u64 = 0x80_0000_0000 - 2 * PAGE;

/// Guest-virtual address at which the library OS is linked; its PML4 slot (128) is shared by all programs.
pub const LIBOS_BASE: u64 = 0x4000_0000_0000;
/// Guest-virtual address of the vCPU areas: `CPU_AREA_VA + (gpa - CPU_AREA)`, mapped with 4 KiB pages.
pub const CPU_AREA_VA: u64 = 0x4000_4000_0000;
/// Guest-virtual address of guest-physical 0: all RAM (writable), layers (read-only) and regions (writable), in 2 MiB
/// pages, never executable. PML4 slot 129.
pub const DIRECT_MAP: u64 = 0x4080_0000_0000;
/// First address after the library OS's part.
pub const LIBOS_END: u64 = 0x4100_0000_0000;

/// End of the program's part of the address space, as on Linux with four-level tables.
pub const USER_END: u64 = 0x7fff_ffff_f000;

/// Ring-0 code selector, reached by the stubs only.
pub const KERNEL_CS: u16 = 0x10;
/// Ring-0 data selector.
pub const KERNEL_SS: u16 = 0x18;
/// Ring-3 data selector; also in ds, es, fs, gs.
pub const USER_SS: u16 = 0x2b;
/// Ring-3 code selector.
pub const USER_CS: u16 = 0x33;
/// Task register.
pub const TSS_SELECTOR: u16 = 0x40;

/// Initial control registers of a vCPU.
pub const CR0: u64 = 0x8005_0033;
/// PAE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE; SMEP and SMAP stay off (frame stacks are user pages).
pub const CR4: u64 = 0x5_0620;
/// SCE, LME, LMA, NXE.
pub const EFER: u64 = 0xd01;
/// `syscall` and `sysret` selectors: kernel 0x10, user 0x23 + 0x10.
pub const STAR: u64 = 0x0023_0010_0000_0000;
/// RFLAGS bits cleared by `syscall`: TF, DF, NT, AC; IF is added where `syscall` enters ring 0.
pub const SFMASK: u64 = 0x4_4500;
