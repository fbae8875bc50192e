//! Rewriting of system-call sites: from a trap of a microsecond to a jump of a nanosecond.
//!
//! A site that has trapped is known to be a real `syscall`. Where `mov $number, %eax` stands right before it (four in five),
//! those five bytes become a jump to an island of the site's own, which loads the number, puts the return address into rcx
//! (as `syscall` does) and jumps to the entry code, which comes back by a jump: nothing is written to the stack, so the red
//! zone is safe. The two bytes of `syscall` stay: a jump to the middle of the old pair, a thread that was preempted there,
//! and a restarted call all find what they expect. Only code of files, mapped private and read-only, is rewritten.
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
    // More vCPUs would need to be stopped first.
    if due && crate::boot::cpu_count() == 1 {
        rewrite(space, back, number);
    }
}

fn rewrite(space: &Space, back: u64, number: u64) -> Option<()> {
    let site = back.checked_sub(MOV_LEN + SYSCALL_LEN)?;
    // One byte before it too: a REX prefix would make it a move to another register.
    let bytes = space.code(site - 1, 8)?;
    let is_prefix = (0x40..0x50).contains(&bytes[0]);
    let loaded = u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
    if is_prefix || bytes[1] != MOV_EAX || bytes[6..8] != [0x0f, 0x05] || u64::from(loaded) != number {
        return None;
    }
    let target = crate::arch::entry::island_entry();
    let island = space
        .place_island(site, |at| {
            let mut code = [0xcc; ISLAND_LEN as usize];
            // mov $number, %eax
            code[0] = MOV_EAX;
            code[1..5].copy_from_slice(&loaded.to_le_bytes());
            // lea back(%rip), %rcx
            code[5..8].copy_from_slice(&[0x48, 0x8d, 0x0d]);
            code[8..12].copy_from_slice(&(back.wrapping_sub(at + 12) as u32).to_le_bytes());
            // movabs $target, %r11; jmp *%r11
            code[12..14].copy_from_slice(&[0x49, 0xbb]);
            code[14..22].copy_from_slice(&target.to_le_bytes());
            code[22..25].copy_from_slice(&[0x41, 0xff, 0xe3]);
            code
        })
        .ok()?;
    let mut jump = [JMP_REL32, 0, 0, 0, 0];
    jump[1..].copy_from_slice(&(island.wrapping_sub(site + MOV_LEN) as u32).to_le_bytes());
    space.write_code(site, &jump).ok()
}
