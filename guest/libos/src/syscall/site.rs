//! Rewriting of system-call sites: from a trap of a microsecond to a jump of a nanosecond.
//!
//! A site that has trapped is known to be a real `syscall`. Where `mov $number, %eax` stands right before it (four in five),
//! those five bytes become a jump to an island of the site's own, which loads the number, puts the return address into rcx
//! (as `syscall` does) and jumps to the entry code, which comes back by a jump: nothing is written to the stack, so the red
//! zone is safe. `read` has number 0 and therefore `xor %eax, %eax`, two bytes: they become a short jump to a long one in the
//! padding behind the function's `ret`, where there is some. The two bytes of `syscall` stay: a jump to the middle of the old
//! pair, a thread that was preempted there, and a restarted call all find what they expect. Only code of files, mapped private
//! and read-only, is rewritten.
use crate::mm::space::{ISLAND_LEN, Space};
use crate::sync::Mutex;

/// Traps of a site before it is rewritten: a copied page and a flush cost what ten traps cost.
const THRESHOLD: u8 = 3;
/// Sites that are being counted; a collision forgets the older one.
const COUNTED: usize = 256;

#[derive(Clone, Copy)]
struct Count {
    site: u64,
    traps: u8,
}

static COUNTS: Mutex<[Count; COUNTED]> = Mutex::new([Count { site: 0, traps: 0 }; COUNTED]);

const MOV_EAX: u8 = 0xb8;
const JMP_REL32: u8 = 0xe9;
/// Length of `mov $number, %eax`, and of `syscall`.
const MOV_LEN: u64 = 5;
const SYSCALL_LEN: u64 = 2;
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// A system call has trapped that returns to `back`: counts the site, and rewrites it when it is worth it.
pub fn trapped(space: &Space, back: u64, number: u64) {
    let due = {
        let mut counts = COUNTS.lock();
        let count = &mut counts[(back as usize >> 1) % COUNTED];
        if count.site != back {
            *count = Count { site: back, traps: 0 };
        }
        count.traps = count.traps.saturating_add(1);
        count.traps == THRESHOLD
    };
    if due {
        rewrite(space, back, number);
    }
}

fn rewrite(space: &Space, back: u64, number: u64) -> Option<()> {
    rewrite_move(space, back, number).or_else(|| if number == 0 { rewrite_clearing(space, back) } else { None })
}

/// The five bytes of a jump that lies at `at`.
fn jump(at: u64, target: u64) -> [u8; 5] {
    let mut bytes = [JMP_REL32, 0, 0, 0, 0];
    bytes[1..].copy_from_slice(&(target.wrapping_sub(at + 5) as u32).to_le_bytes());
    bytes
}

/// A REX prefix makes another instruction of what follows it.
fn is_prefix(byte: u8) -> bool {
    (0x40..0x50).contains(&byte)
}

fn island(space: &Space, site: u64, back: u64, number: u32) -> Option<u64> {
    let target = crate::arch::entry::island_entry();
    space
        .place_island(site, |at| {
            let mut code = [0xcc; ISLAND_LEN as usize];
            // mov $number, %eax
            code[0] = MOV_EAX;
            code[1..5].copy_from_slice(&number.to_le_bytes());
            // lea back(%rip), %rcx
            code[5..8].copy_from_slice(&[0x48, 0x8d, 0x0d]);
            code[8..12].copy_from_slice(&(back.wrapping_sub(at + 12) as u32).to_le_bytes());
            // movabs $target, %r11; jmp *%r11
            code[12..14].copy_from_slice(&[0x49, 0xbb]);
            code[14..22].copy_from_slice(&target.to_le_bytes());
            code[22..25].copy_from_slice(&[0x41, 0xff, 0xe3]);
            code
        })
        .ok()
}

/// `mov $number, %eax; syscall`
fn rewrite_move(space: &Space, back: u64, number: u64) -> Option<()> {
    let site = back.checked_sub(MOV_LEN + SYSCALL_LEN)?;
    let bytes = space.code(site - 1, 8)?;
    let loaded = u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
    if is_prefix(bytes[0]) || bytes[1] != MOV_EAX || bytes[6..8] != SYSCALL || u64::from(loaded) != number {
        return None;
    }
    space.write_code(site, &jump(site, island(space, site, back, loaded)?)).ok()
}

/// `xor %eax, %eax; syscall`, by way of the padding behind the function.
fn rewrite_clearing(space: &Space, back: u64) -> Option<()> {
    const CLEAR: [u8; 2] = [0x31, 0xc0];
    const JMP_REL8: u8 = 0xeb;
    let site = back.checked_sub(CLEAR.len() as u64 + SYSCALL_LEN)?;
    let bytes = space.code(site - 1, 5)?;
    if is_prefix(bytes[0]) || bytes[1..3] != CLEAR || bytes[3..5] != SYSCALL {
        return None;
    }
    let padding = padding_after(space, back)?;
    let reach = i8::try_from(padding - (site + 2)).ok()?;
    let island = island(space, site, back, 0)?;
    space.write_code(padding, &jump(padding, island)).ok()?;
    space.write_code(site, &[JMP_REL8, reach as u8]).ok()
}

/// Five bytes of padding behind the `ret` that the code at `at` runs on to. Code does not run on behind a `ret`, and nothing
/// jumps into padding. The instructions up to there must be some of those that the C library has there: each is known by its
/// first bytes and its length, any other ends the search.
fn padding_after(space: &Space, mut at: u64) -> Option<u64> {
    const RET: u8 = 0xc3;
    const KNOWN: [(&[u8], u64); 7] = [
        (&[0x48, 0x3d, 0x00, 0xf0, 0xff, 0xff], 6), // cmp $-4096, %rax
        (&[0x77], 2),                               // ja rel8
        (&[0x44, 0x89, 0xc7], 3),                   // mov %r8d, %edi
        (&[0x48, 0x89, 0x44, 0x24], 5),             // mov %rax, disp8(%rsp)
        (&[0xe8], 5),                               // call rel32
        (&[0x48, 0x8b, 0x44, 0x24], 5),             // mov disp8(%rsp), %rax
        (&[0x48, 0x83, 0xc4], 4),                   // add $imm8, %rsp
    ];
    /// First bytes of the no-operations of five bytes and more that assemblers fill gaps with.
    const PADDING: [[u8; 5]; 6] = [
        [0x0f, 0x1f, 0x44, 0x00, 0x00],
        [0x66, 0x0f, 0x1f, 0x44, 0x00],
        [0x0f, 0x1f, 0x80, 0x00, 0x00],
        [0x0f, 0x1f, 0x84, 0x00, 0x00],
        [0x66, 0x0f, 0x1f, 0x84, 0x00],
        [0x66, 0x2e, 0x0f, 0x1f, 0x84],
    ];
    let end = at + i8::MAX as u64;
    while at < end {
        let bytes = space.code(at, 6)?;
        if bytes[0] == RET {
            return PADDING.iter().any(|fill| bytes[1..6] == *fill).then_some(at + 1);
        }
        at += KNOWN.iter().find(|(first, _)| bytes.starts_with(first))?.1;
    }
    None
}
