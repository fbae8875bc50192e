//! A guest small enough to be read: hand-written images with a `LibosHeader` of their own, for tests that boot it on real KVM.
use kasoku_abi::ABI_VERSION;
use kasoku_abi::boot::{LIBOS_MAGIC, LibosHeader};
use kasoku_abi::layout::LIBOS_BASE;
use zerocopy::IntoBytes;

/// Image offset of the code.
pub const CODE: u64 = 0x1000;
/// Image offset of the preemption entry: every image has one there.
pub const PREEMPT: u64 = 0x1800;
/// Image offset of the secondary processors' entry.
pub const SECONDARY: u64 = 0x1c00;
const IMAGE_LEN: usize = 0x3000;

/// Defines `fn $name() -> &'static [u8]`: machine code that runs at `LIBOS_BASE + CODE`. It is position independent and
/// addresses its CpuPage by gs.
#[macro_export]
macro_rules! guest_code {
    ($name:ident, $($line:literal),+ $(,)?) => {
        core::arch::global_asm!(
            concat!(".pushsection .rodata.guest.", stringify!($name), ",\"a\""),
            concat!("guest_", stringify!($name), "_begin:"),
            $($line),+,
            concat!("guest_", stringify!($name), "_end:"),
            ".popsection",
        );

        fn $name() -> &'static [u8] {
            unsafe extern "C" {
                #[link_name = concat!("guest_", stringify!($name), "_begin")]
                static BEGIN: u8;
                #[link_name = concat!("guest_", stringify!($name), "_end")]
                static END: u8;
            }
            let (begin, end) = (&raw const BEGIN, &raw const END);
            // SAFETY: both labels lie in one read-only section, BEGIN first.
            unsafe { core::slice::from_raw_parts(begin, end.offset_from(begin) as usize) }
        }
    };
}

/// A library OS file of one segment that holds the header and `code`.
pub fn image(code: &[u8]) -> Vec<u8> {
    let at = |offset| LIBOS_BASE + offset;
    let header = LibosHeader {
        magic: LIBOS_MAGIC,
        abi_version: ABI_VERSION,
        reserved: 0,
        boot_entry: at(CODE),
        syscall_probe: at(CODE),
        preempt_entry: at(PREEMPT),
        text_start: at(CODE),
        text_end: at(IMAGE_LEN as u64),
        secondary_entry: at(SECONDARY),
    };
    let mut segment = vec![0u8; IMAGE_LEN];
    segment[..64].copy_from_slice(header.as_bytes());
    segment[CODE as usize..CODE as usize + code.len()].copy_from_slice(code);
    let mut file = Vec::new();
    file.extend_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for half in [2u16, 62] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    file.extend_from_slice(&1u32.to_le_bytes());
    for word in [at(CODE), 64, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        file.extend_from_slice(&half.to_le_bytes());
    }
    file.extend_from_slice(&1u32.to_le_bytes());
    file.extend_from_slice(&7u32.to_le_bytes());
    for word in [0x1000, LIBOS_BASE, LIBOS_BASE, IMAGE_LEN as u64, IMAGE_LEN as u64, 0x1000] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.resize(0x1000, 0);
    file.extend_from_slice(&segment);
    file
}
