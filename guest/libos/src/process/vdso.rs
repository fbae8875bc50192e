//! The vDSO: a small shared object that every program finds mapped (vdso(7)), whose functions read the clocks without a
//! system call. Two pages, the same frames in all programs: what the clocks are computed from, and headers with code.
use crate::arch::entry;
use crate::arch::vdso::{CODE, Clocks, code};
use crate::errno::{Errno, Result};
use crate::mm::frame::Frame;
use crate::mm::source::{MapSource, Page};
use crate::mm::space::{Backing, Fixed, MapRequest, Space};
use crate::mm::table::Access;
use crate::sync::Once;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering, fence};
use kasoku_abi::layout::PAGE;

/// Where it is mapped, the clocks' page first: above the main thread's stack, as on Linux.
const ADDRESS: u64 = 0x7fff_ffc0_0000;
const SONAME: &str = "linux-vdso.so.1";
/// The version that loaders ask for.
const VERSION: &str = "LINUX_2.6";

struct Vdso {
    clocks: Frame,
    image: Frame,
}

impl MapSource for Vdso {
    fn page(&self, index: u64, _write: bool) -> Result<Page> {
        match index {
            0 => Ok(Page::Frame(self.clocks.clone())),
            1 => Ok(Page::Frame(self.image.clone())),
            _ => Err(Errno::EFAULT),
        }
    }
}

fn vdso() -> &'static Arc<Vdso> {
    static VDSO: Once<Arc<Vdso>> = Once::new();
    VDSO.call_once(|| {
        let frame = || Frame::zeroed_for_tables().expect("made at boot, when there is memory");
        let (clocks, image) = (frame(), frame());
        image.write(0, &build());
        Arc::new(Vdso { clocks, image })
    })
}

/// Tells all programs from what the clocks are computed.
pub fn publish(tsc: u64, monotonic_ns: u64, realtime_ns: u64, ns_per_tick: u64) {
    let words = vdso().clocks.pointer().cast::<AtomicU64>();
    // SAFETY: `Clocks` consists of such words and lies at the beginning of a frame of ours, which is never freed.
    let word = |offset: usize| unsafe { &*words.byte_add(offset) };
    let sequence = word(core::mem::offset_of!(Clocks, sequence));
    let before = sequence.load(Ordering::Relaxed);
    sequence.store(before + 1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    word(core::mem::offset_of!(Clocks, tsc)).store(tsc, Ordering::Relaxed);
    word(core::mem::offset_of!(Clocks, monotonic_ns)).store(monotonic_ns, Ordering::Relaxed);
    word(core::mem::offset_of!(Clocks, realtime_ns)).store(realtime_ns, Ordering::Relaxed);
    word(core::mem::offset_of!(Clocks, ns_per_tick)).store(ns_per_tick, Ordering::Relaxed);
    word(core::mem::offset_of!(Clocks, system_call)).store(entry::island_entry(), Ordering::Relaxed);
    sequence.store(before + 2, Ordering::Release);
}

/// Maps it into a program's address space; where its headers are (AT_SYSINFO_EHDR).
pub fn map(space: &Space) -> Result<u64> {
    let read = Access { read: true, write: false, execute: false };
    for (index, access, name) in [(0, read, "[vvar]"), (1, Access { execute: true, ..read }, "[vdso]")] {
        space.map(MapRequest {
            address: ADDRESS + index * PAGE,
            len: PAGE,
            access,
            shared: false,
            fixed: Fixed::Replace,
            backing: Backing::File { source: vdso().clone(), offset: index * PAGE, path: Some(name.as_bytes().into()) },
            populate: true,
            label: "",
        })?;
    }
    Ok(ADDRESS + PAGE)
}

/// Collects 16-, 32- and 64-bit words.
#[derive(Default)]
struct Words(Vec<u8>);

impl Words {
    fn half(mut self, values: &[u16]) -> Words {
        self.0.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self
    }
    fn word(mut self, values: &[u32]) -> Words {
        self.0.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self
    }
    fn long(mut self, values: &[u64]) -> Words {
        self.0.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self
    }
}

/// The System V ABI's hash of a symbol's name.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0u32, |h, byte| {
        let h = (h << 4).wrapping_add(u32::from(byte));
        let high = h & 0xf000_0000;
        (h ^ high >> 24) & !high
    })
}

/// The shared object: what a loader looks for (System V ABI chapters 4 and 5, and symbol versions as GNU defines them).
fn build() -> Vec<u8> {
    const HEADERS: usize = 64 + 2 * 56;
    let (text, functions) = code();
    let mut strings = alloc::vec![0u8];
    let mut string = |text: &str| {
        let at = strings.len() as u32;
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    let (soname, version) = (string(SONAME), string(VERSION));
    let mut symbols = Words::default().long(&[0; 3]);
    let mut versions = Words::default().half(&[0]);
    for (name, offset) in functions {
        // Global function in section 1 (any but 0: sections themselves are not described).
        const KIND: u32 = 0x12 | 1 << 16;
        symbols = symbols.word(&[string(name), KIND]).long(&[(CODE + offset) as u64, 0]);
        versions = versions.half(&[2]);
    }
    // One bucket whose chain holds all symbols.
    let count = functions.len() as u32 + 1;
    let mut table = Words::default().word(&[1, count, 1, 0]);
    for next in 2..=count {
        table = table.word(&[if next == count { 0 } else { next }]);
    }
    // The object's own version, and the functions'.
    let definitions = Words::default()
        .half(&[1, 1, 1, 1])
        .word(&[hash(SONAME), 20, 28, soname, 0])
        .half(&[1, 0, 2, 1])
        .word(&[hash(VERSION), 20, 0, version, 0]);

    let mut bytes = alloc::vec![0u8; HEADERS];
    let mut place = |part: &[u8]| {
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let at = bytes.len() as u64;
        bytes.extend_from_slice(part);
        at
    };
    let dynamic = [
        (14, u64::from(soname)),              // DT_SONAME
        (4, place(&table.0)),                 // DT_HASH
        (6, place(&symbols.0)),               // DT_SYMTAB
        (11, 24),                             // DT_SYMENT
        (5, place(&strings)),                 // DT_STRTAB
        (10, strings.len() as u64),           // DT_STRSZ
        (0x6fff_fff0, place(&versions.0)),    // DT_VERSYM
        (0x6fff_fffc, place(&definitions.0)), // DT_VERDEF
        (0x6fff_fffd, 2),                     // DT_VERDEFNUM
        (0, 0),                               // DT_NULL
    ];
    let dynamic = dynamic.iter().fold(Words::default(), |words, (tag, value)| words.long(&[*tag, *value]));
    let dynamic_at = place(&dynamic.0);
    assert!(bytes.len() <= CODE && CODE + text.len() <= PAGE as usize);
    bytes.resize(CODE, 0);
    bytes.extend_from_slice(text);

    const LOAD: u32 = 1;
    const DYNAMIC: u32 = 2;
    let (length, dynamic_len) = (bytes.len() as u64, dynamic.0.len() as u64);
    let header = Words(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec())
        // A shared object for x86-64, version 1; entry, program headers' place, no sections; flags; sizes and counts.
        .half(&[3, 62])
        .word(&[1])
        .long(&[0, 64, 0])
        .word(&[0])
        .half(&[64, 56, 2, 64, 0, 0])
        .word(&[LOAD, 5])
        .long(&[0, 0, 0, length, length, PAGE])
        .word(&[DYNAMIC, 4])
        .long(&[dynamic_at, dynamic_at, dynamic_at, dynamic_len, dynamic_len, 8]);
    bytes[..HEADERS].copy_from_slice(&header.0);
    bytes
}
