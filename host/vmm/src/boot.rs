//! Everything the guest finds in its RAM at the first instruction: boot information, configuration, descriptor tables,
//! page tables, a stack.
use crate::clock::GuestClock;
use crate::config::{ConfigError, Program, encode};
use crate::loader::Loaded;
use crate::memory::{BadAddress, GuestMemory};
use crate::page_tables::{Allocator, NO_EXECUTE, OutOfRam, PRESENT, PageTables, USER, WRITABLE};
use kasoku_abi::boot::{BOOT_MAGIC, BootInfo, Layer, MAX_CHANNELS, MAX_REGIONS, Region};
use kasoku_abi::hypercall::{DOORBELL_PORT, HYPERCALL_PORT};
use kasoku_abi::layout::{
    BOOT_INFO, CPU_AREA, CPU_AREA_STRIDE, CPU_AREA_VA, CPU_GDT, CPU_IST1_TOP, CPU_RSP0_TOP, CPU_STUBS, CPU_TSS,
    DIRECT_MAP, IO_BITMAP_LEN, LARGE_PAGE, LIBOS_BASE, LIBOS_IMAGE, PAGE, TABLES, TABLES_END, TSS_IO_BITMAP, TSS_LIMIT,
};
use kasoku_abi::{ABI_VERSION, Gpa};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use zerocopy::FromZeros;

/// Bytes of the boot processor's first stack.
const BOOT_STACK: u64 = 64 << 10;
/// Flags of everything that ring 3 may write.
const USER_DATA: u64 = PRESENT | WRITABLE | USER | NO_EXECUTE;

/// Selectors 0x10 kernel code, 0x18 kernel data, 0x28 user data, 0x30 user code; the task segment takes 0x40 and 0x48.
pub const GDT_CODE_AND_DATA: [u64; 8] =
    [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0, 0x00cf_f300_0000_ffff, 0x00af_fb00_0000_ffff, 0];
/// Bytes of a processor's descriptor table, less one.
pub const GDT_LIMIT: u16 = (GDT_CODE_AND_DATA.len() as u16 + 2) * 8 - 1;

#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    OutOfRam(#[from] OutOfRam),
    #[error(transparent)]
    Address(#[from] BadAddress),
    #[error("the host gives no random bytes: {0}")]
    Random(Errno),
}

/// What the guest consists of besides its RAM.
pub struct Parts<'a> {
    pub cpus: usize,
    pub layers: &'a [Layer],
    pub regions: &'a [Region],
    pub channels: [u8; MAX_CHANNELS],
    /// Rows << 16 | columns; 0 = unknown.
    pub terminal: u32,
    pub program: &'a Program,
}

/// What has been written, all but the clocks.
pub struct Prepared {
    info: BootInfo,
}

/// Writes all of it but [`BootInfo`] itself. RAM holds the library OS and zeros otherwise.
pub fn prepare(memory: &GuestMemory, loaded: &Loaded, parts: &Parts<'_>) -> Result<Prepared, BootError> {
    let mut allocator = Allocator::new(loaded.end, memory.ram().len());
    let blob = encode(parts.program)?;
    let config = allocator.take(blob.len() as u64)?;
    memory.write(config, blob.as_slice())?;
    let stack_top = DIRECT_MAP + allocator.take(BOOT_STACK)?.0 + BOOT_STACK;
    for cpu in 0..parts.cpus as u64 {
        write_descriptors(memory, cpu * CPU_AREA_STRIDE)?;
    }
    let mut tables = Allocator::new(TABLES, TABLES_END);
    let root = map_everything(memory, [&mut tables, &mut allocator], loaded, parts)?;
    let mut info = BootInfo::new_zeroed();
    info.magic = BOOT_MAGIC;
    info.abi_version = ABI_VERSION;
    info.cpu_count = parts.cpus as u32;
    info.ram_len = memory.ram().len();
    info.free = Gpa(allocator.next());
    info.tables = Gpa(tables.next());
    info.boot_stack = stack_top;
    info.root = root;
    info.config = config;
    info.config_len = blob.len() as u64;
    info.layers[..parts.layers.len()].copy_from_slice(parts.layers);
    info.regions[..parts.regions.len()].copy_from_slice(parts.regions);
    info.channels = parts.channels;
    info.terminal = parts.terminal;
    getrandom(&mut info.seed, GetRandomFlags::empty()).map_err(BootError::Random)?;
    Ok(Prepared { info })
}

impl Prepared {
    /// Root of the page tables, guest-physical.
    pub fn root(&self) -> u64 {
        self.info.root.0
    }

    /// The boot processor's rsp. A function finds its return address on the stack: entered by a jump, that is 8 bytes
    /// below the top.
    pub fn stack(&self) -> u64 {
        self.info.boot_stack - 8
    }

    /// Tells the guest the time and hands everything over.
    pub fn finish(mut self, memory: &GuestMemory, clock: &GuestClock) -> Result<(), BadAddress> {
        let reading = clock.reading();
        self.info.clock_tsc = reading.tsc;
        self.info.clock_monotonic_ns = reading.monotonic_ns;
        self.info.clock_realtime_ns = reading.realtime_ns;
        self.info.tsc_hz = clock.tsc_hz();
        memory.write(Gpa(BOOT_INFO), &self.info)
    }
}

/// GDT and TSS of the processor whose area begins at `offset`.
fn write_descriptors(memory: &GuestMemory, offset: u64) -> Result<(), BadAddress> {
    let (area, area_va) = (CPU_AREA + offset, CPU_AREA_VA + offset);
    memory.write(Gpa(area + CPU_GDT), &GDT_CODE_AND_DATA)?;
    let tss_va = area_va + CPU_TSS;
    let (low, high) = (tss_va & 0xff_ffff, tss_va >> 24 & 0xff);
    let descriptor = [TSS_LIMIT | low << 16 | 0x89 << 40 | high << 56, tss_va >> 32];
    memory.write(Gpa(area + CPU_GDT + size_of_val(&GDT_CODE_AND_DATA) as u64), &descriptor)?;
    let tss = area + CPU_TSS;
    memory.write(Gpa(tss + 0x04), &(area_va + CPU_RSP0_TOP))?;
    memory.write(Gpa(tss + 0x24), &(area_va + CPU_IST1_TOP))?;
    memory.write(Gpa(tss + 0x66), &(TSS_IO_BITMAP as u16))?;
    memory.write(Gpa(tss + TSS_IO_BITMAP), &IO_BITMAP)
}

/// A set bit closes a port: what a program does with any other than these is a fault of its own. The byte behind the ports'
/// is set, as the processor wants it.
const IO_BITMAP: [u8; IO_BITMAP_LEN as usize + 1] = {
    let mut bitmap = [0xff; IO_BITMAP_LEN as usize + 1];
    let mut port = HYPERCALL_PORT;
    while port < HYPERCALL_PORT + 4 {
        bitmap[port as usize / 8] &= !(1 << (port % 8));
        port += 1;
    }
    let mut port = DOORBELL_PORT;
    // A doorbell is rung by four bytes: the last one's touch the three ports behind it.
    while port < DOORBELL_PORT + MAX_REGIONS as u16 + 3 {
        bitmap[port as usize / 8] &= !(1 << (port % 8));
        port += 1;
    }
    bitmap
};

fn map_everything(
    memory: &GuestMemory,
    allocators: [&mut Allocator; 2],
    loaded: &Loaded,
    parts: &Parts<'_>,
) -> Result<Gpa, OutOfRam> {
    let mut tables = PageTables::new(memory, allocators)?;
    let image_len = (loaded.end - LIBOS_IMAGE).next_multiple_of(LARGE_PAGE);
    tables.map_large(LIBOS_BASE, LIBOS_IMAGE, image_len, PRESENT | WRITABLE | USER)?;
    for cpu in 0..parts.cpus as u64 {
        let area = CPU_AREA + cpu * CPU_AREA_STRIDE;
        let area_va = CPU_AREA_VA + cpu * CPU_AREA_STRIDE;
        tables.map_small(area_va, area, CPU_AREA_STRIDE, USER_DATA)?;
        // The stubs run in ring 0, where a page of ring 3's would do too, but software KVM must find them supervisor.
        tables.map_small(area_va + CPU_STUBS, area + CPU_STUBS, PAGE, PRESENT)?;
    }
    tables.map_large(DIRECT_MAP, 0, memory.ram().len(), USER_DATA)?;
    for layer in parts.layers {
        let len = layer.len.next_multiple_of(LARGE_PAGE);
        tables.map_large(DIRECT_MAP + layer.gpa.0, layer.gpa.0, len, PRESENT | USER | NO_EXECUTE)?;
    }
    for region in parts.regions {
        let len = region.len.next_multiple_of(LARGE_PAGE);
        tables.map_large(DIRECT_MAP + region.gpa.0, region.gpa.0, len, USER_DATA)?;
    }
    Ok(tables.root())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page_tables::translate;
    use kasoku_abi::boot::LibosHeader;
    use kasoku_abi::layout::{LAYERS, REGIONS};

    fn prepared() -> (GuestMemory, u64, u64) {
        let memory = GuestMemory::new(64 << 20).unwrap();
        let loaded = Loaded { header: LibosHeader::new_zeroed(), end: LIBOS_IMAGE + 0x30_1234 };
        let program = Program { args: vec![b"/init".to_vec()], cwd: "/".into(), ..Program::default() };
        let parts = Parts {
            cpus: 2,
            layers: &[Layer { gpa: Gpa(LAYERS), len: 5000 }],
            regions: &[Region { gpa: Gpa(REGIONS), len: 4 << 20, kind: 1, reserved: 0 }],
            channels: [0; MAX_CHANNELS],
            terminal: 0,
            program: &program,
        };
        let prepared = prepare(&memory, &loaded, &parts).unwrap();
        let (root, stack) = (prepared.root(), prepared.stack());
        prepared.finish(&memory, &GuestClock::new(2_000_000_000)).unwrap();
        (memory, root, stack)
    }

    #[test]
    fn maps_what_the_layout_promises_and_nothing_else() {
        let (memory, root, _) = prepared();
        let at = |va| translate(&memory, root, va).unwrap().map(|(gpa, e)| (gpa, e & 7, e & NO_EXECUTE != 0));
        assert_eq!(at(LIBOS_BASE + 0x1000), Some((LIBOS_IMAGE + 0x1000, 7, false)));
        assert_eq!(at(LIBOS_BASE + 2 * LARGE_PAGE), None);
        assert_eq!(at(CPU_AREA_VA + CPU_TSS), Some((CPU_AREA + CPU_TSS, 7, true)));
        assert_eq!(at(CPU_AREA_VA + CPU_STUBS), Some((CPU_AREA + CPU_STUBS, 1, false)));
        assert_eq!(at(CPU_AREA_VA + CPU_AREA_STRIDE), Some((CPU_AREA + CPU_AREA_STRIDE, 7, true)));
        assert_eq!(at(CPU_AREA_VA + 2 * CPU_AREA_STRIDE), None);
        assert_eq!(at(DIRECT_MAP + 0x1000), Some((0x1000, 7, true)));
        assert_eq!(at(DIRECT_MAP + LAYERS), Some((LAYERS, 5, true)));
        assert_eq!(at(DIRECT_MAP + REGIONS + LARGE_PAGE), Some((REGIONS + LARGE_PAGE, 7, true)));
        assert_eq!(at(DIRECT_MAP + REGIONS + 2 * LARGE_PAGE), None);
        assert_eq!((at(0), at(0x40_0000)), (None, None));
    }

    #[test]
    fn leaves_free_memory_above_all_it_wrote() {
        let (memory, root, stack) = prepared();
        let info: BootInfo = memory.read(Gpa(BOOT_INFO)).unwrap();
        assert_eq!((info.magic, info.cpu_count, info.ram_len), (BOOT_MAGIC, 2, 64 << 20));
        assert_eq!(info.free.0 % PAGE, 0);
        assert!(info.free.0 > info.config.0 + info.config_len);
        assert!((TABLES..info.tables.0).contains(&root) && info.tables.0 <= TABLES_END);
        assert!(info.boot_stack - DIRECT_MAP <= info.free.0);
        assert_eq!(stack % 16, 8);
        assert_ne!(info.seed, [0; 32]);
        assert_eq!(info.tsc_hz, 2_000_000_000);
        assert!(info.clock_realtime_ns > info.clock_monotonic_ns);
        let rest = memory.slice(info.free, memory.ram().len() - info.free.0).unwrap().to_vec();
        assert!(rest.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn the_task_segment_names_its_stacks_and_opens_the_ports_of_hypercalls_alone() {
        let (memory, ..) = prepared();
        let tss = CPU_AREA + CPU_AREA_STRIDE + CPU_TSS;
        let area_va = CPU_AREA_VA + CPU_AREA_STRIDE;
        assert_eq!(memory.read::<u64>(Gpa(tss + 4)).unwrap(), area_va + CPU_RSP0_TOP);
        assert_eq!(memory.read::<u64>(Gpa(tss + 0x24)).unwrap(), area_va + CPU_IST1_TOP);
        let bitmap = memory.slice(Gpa(tss + TSS_IO_BITMAP), IO_BITMAP_LEN + 1).unwrap().to_vec();
        let open = |port: u64| bitmap[port as usize / 8] >> (port % 8) & 1 == 0;
        let ports: Vec<u64> = (0..IO_BITMAP_LEN * 8 + 8).filter(|&port| open(port)).collect();
        assert_eq!(ports, (0x4b0..0x4b4).chain(0x4c0..0x4d3).collect::<Vec<_>>());
        assert_eq!(tss & 0xfff, 0);
        assert_eq!(memory.read::<u64>(Gpa(CPU_AREA + CPU_GDT + 0x30)).unwrap(), 0x00af_fb00_0000_ffff);
    }
}
