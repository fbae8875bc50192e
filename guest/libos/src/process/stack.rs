//! The stack that a program finds at its start (System V x86-64 ABI, section 3.4.1): arguments, environment, auxiliary vector.
use super::elf::Loaded;
use super::{Credentials, Image};
use crate::arch::fpu;
use crate::errno::{Errno, Result};
use crate::mm::space::{Backing, Fixed, MapRequest, READ_WRITE, Space};
use alloc::vec::Vec;
use kasoku_abi::layout::LARGE_PAGE;
use linux_raw_sys::auxvec::*;

/// Top of the main thread's stack: a large page's boundary, near the place that Linux uses.
const TOP: u64 = 0x7fff_ff60_0000;
/// Bytes of the main thread's stack (RLIMIT_STACK's default).
const LEN: u64 = 8 << 20;
/// Most bytes of arguments and environment together.
pub const ARGUMENTS_MAX: usize = 1 << 20;

/// AT_HWCAP on x86 is CPUID 1 edx; AT_HWCAP2 bit 1 says that FSGSBASE instructions may be used.
const HWCAP2_FSGSBASE: u64 = 2;

/// Maps and fills the stack; the stack pointer for the program's first instruction.
pub fn build(
    space: &Space,
    image: &mut Image,
    program: &Loaded,
    interpreter_base: u64,
    credentials: &Credentials,
) -> Result<u64> {
    space.map(MapRequest {
        address: TOP - LEN,
        len: LEN,
        access: READ_WRITE,
        shared: false,
        fixed: Fixed::Replace,
        backing: Backing::Anonymous,
        populate: false,
        label: "[stack]",
    })?;
    const { assert!(TOP.is_multiple_of(LARGE_PAGE)) };

    // From the top down: strings, then the vectors that point at them.
    let mut strings = Vec::new();
    let mut place = |bytes: &[u8]| {
        let at = strings.len() as u64;
        strings.extend_from_slice(bytes);
        strings.push(0);
        at
    };
    let args: Vec<u64> = image.args.iter().map(|s| place(s)).collect();
    let env: Vec<u64> = image.env.iter().map(|s| place(s)).collect();
    let name = place(&image.exe);
    let platform = place(b"x86_64");
    let mut random = [0; 16];
    crate::random::fill(&mut random);
    let random_at = place(&random);
    if strings.len() > ARGUMENTS_MAX {
        return Err(Errno::E2BIG);
    }
    let strings_at = (TOP - 16 - strings.len() as u64) & !15;

    image.auxv = alloc::vec![
        (u64::from(AT_SYSINFO_EHDR), super::vdso::map(space)?),
        (u64::from(AT_HWCAP), u64::from(core::arch::x86_64::__cpuid(1).edx)),
        (u64::from(AT_PAGESZ), 4096),
        (u64::from(AT_CLKTCK), 100),
        (u64::from(AT_PHDR), program.headers),
        (u64::from(AT_PHENT), 56),
        (u64::from(AT_PHNUM), program.header_count),
        (u64::from(AT_BASE), interpreter_base),
        (u64::from(AT_FLAGS), 0),
        (u64::from(AT_ENTRY), program.entry),
        (u64::from(AT_UID), u64::from(credentials.uid)),
        (u64::from(AT_EUID), u64::from(credentials.euid)),
        (u64::from(AT_GID), u64::from(credentials.gid)),
        (u64::from(AT_EGID), u64::from(credentials.egid)),
        (u64::from(AT_SECURE), u64::from(credentials.are_lent())),
        (u64::from(AT_RANDOM), strings_at + random_at),
        (u64::from(AT_HWCAP2), HWCAP2_FSGSBASE),
        (u64::from(AT_EXECFN), strings_at + name),
        (u64::from(AT_PLATFORM), strings_at + platform),
        (u64::from(AT_MINSIGSTKSZ), (crate::signal::shadow_len() + fpu::size() as u64).next_multiple_of(64)),
        (u64::from(AT_NULL), 0),
    ];
    let mut words = alloc::vec![args.len() as u64];
    words.extend(args.iter().map(|at| strings_at + at));
    words.push(0);
    words.extend(env.iter().map(|at| strings_at + at));
    words.push(0);
    words.extend(image.auxv.iter().flat_map(|(kind, value)| [*kind, *value]));

    let rsp = (strings_at - words.len() as u64 * 8) & !15;
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    space.write(rsp, &bytes)?;
    space.write(strings_at, &strings)?;
    image.stack_top = TOP;
    Ok(rsp)
}
