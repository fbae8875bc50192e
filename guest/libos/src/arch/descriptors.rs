//! The interrupt descriptor table and the ring-0 stubs of a vCPU (the VMM has filled GDT and TSS).
//!
//! Exceptions go straight to ring-3 code through trap gates on the IST1 stack. Two need ring 0: a page fault
//! (only ring 0 can read cr2) and `int3`, with which the library OS asks for cr3 and `invlpg`. Their gates lead to stubs in
//! the vCPU's only supervisor page. A stub must not fault: on hardware an exception at ring 0 cannot use a ring-3 gate.
//!
//! A program can destroy the library OS. What is left of it then faults where faults are handled, again and again; the stubs,
//! which no program can write, see that and end the guest.
use super::{cpu, entry, privileged};
use crate::mm::frame::memory;
use alloc::vec::Vec;
use kasoku_abi::Gpa;
use kasoku_abi::hypercall::{HYPERCALL_PORT, LOST};
use kasoku_abi::layout::*;

/// Of privilege 0: exceptions pass, a program's `int n` is a fault.
const TRAP_GATE: u8 = 0x8f;
const INTERRUPT_GATE_RING0: u8 = 0x8e;
const INTERRUPT_GATE_RING3: u8 = 0xee;

// Offsets in the stub page.
const PAGE_FAULT: u64 = 0x000;
const BREAKPOINT: u64 = 0x100;
/// LSTAR where `syscall` enters ring 0.
pub const SYSCALL: u64 = 0x200;
const FRAMES: u64 = 0x800;
const FRAME_LEN: u64 = 0x40;

/// Page-fault and breakpoint entry code begins on the lower half of the IST1 stack: the upper half may hold an exception's
/// frame that is being moved when the move itself faults.
const STUB_STACK: u64 = CPU_IST1_TOP - 0x4000;

fn put_gate(table: *mut u8, vector: usize, target: u64, selector: u16, ist: u8, kind: u8) {
    let low = (target & 0xffff)
        | u64::from(selector) << 16
        | u64::from(ist) << 32
        | u64::from(kind) << 40
        | (target >> 16 & 0xffff) << 48;
    // SAFETY: the table is the vCPU's IDT page, 256 entries of 16 bytes; vector < 256.
    unsafe {
        table.add(vector * 16).cast::<u64>().write(low);
        table.add(vector * 16 + 8).cast::<u64>().write(target >> 32);
    }
}

/// `mov $frame, %rsp; iretq`: continues at the frame's target in ring 3.
fn leave(code: &mut Vec<u8>, frame: u64) {
    code.extend_from_slice(&[0x48, 0xbc]);
    code.extend_from_slice(&frame.to_le_bytes());
    code.extend_from_slice(&[0x48, 0xcf]);
}

/// The hypercall that says that the library OS is destroyed.
fn give_up() -> Vec<u8> {
    let mut code = alloc::vec![0xb8];
    code.extend_from_slice(&LOST.to_le_bytes()); // mov $LOST, %eax
    code.push(0xba);
    code.extend_from_slice(&u32::from(HYPERCALL_PORT).to_le_bytes()); // mov $HYPERCALL_PORT, %edx
    code.push(0xef); // out %eax, (%dx)
    code
}

/// Gives up where the interrupted rip, at `offset` from rsp, is the one of all addresses.
fn give_up_at(code: &mut Vec<u8>, offset: u8, address: u64) {
    let give_up = give_up();
    let (low, high) = (address as u32, (address >> 32) as u32);
    for (at, half, skip) in [(offset, low, 10 + give_up.len()), (offset + 4, high, give_up.len())] {
        code.extend_from_slice(&[0x81, 0x7c, 0x24, at]); // cmpl $half, at(%rsp)
        code.extend_from_slice(&half.to_le_bytes());
        code.extend_from_slice(&[0x75, skip as u8]); // jne
    }
    code.extend_from_slice(&give_up);
}

/// Fills the vCPU's IDT and stub page.
pub fn initialise(number: u64) {
    let area = cpu::area(number);
    let pointer = |offset: u64| memory().pointer(Gpa(CPU_AREA + number * CPU_AREA_STRIDE + offset));
    let stubs = pointer(CPU_STUBS);
    let put = |offset: u64, bytes: &[u8]| {
        assert!(offset as usize + bytes.len() <= PAGE as usize);
        // SAFETY: inside the stub page, which nothing executes yet.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), stubs.add(offset as usize), bytes.len()) };
    };
    let frame = |index: u64, rip: u64| {
        let words = [rip, u64::from(USER_CS), 2, area + STUB_STACK, u64::from(USER_SS)];
        for (i, word) in words.iter().enumerate() {
            put(FRAMES + index * FRAME_LEN + i as u64 * 8, &word.to_le_bytes());
        }
        area + CPU_STUBS + FRAMES + index * FRAME_LEN
    };

    // A page fault on the way to where page faults are handled. Else push %rax; mov %cr2, %rax
    let mut code = Vec::new();
    give_up_at(&mut code, 8, entry::page_fault_entry());
    code.extend_from_slice(&[0x50, 0x0f, 0x20, 0xd0]);
    leave(&mut code, frame(0, entry::page_fault_entry()));
    put(PAGE_FAULT, &code);

    // From the library OS (bits 40 to 47 of the interrupted rip are its own)? Else it is a program's breakpoint.
    const { assert!(privileged::OP_LOAD_ROOT == 0 && privileged::OP_INVALIDATE == 1) };
    let give_up = give_up();
    let mut code = alloc::vec![
        0x80,
        0x7c,
        0x24,
        0x05,
        0x40, // cmpb $0x40, 5(%rsp)
        0x75,
        23 + give_up.len() as u8, // jne 1f
        0x81,
        0x3c,
        0x24, // cmpl $asked, (%rsp)
    ];
    code.extend_from_slice(&(privileged::asked() as u32).to_le_bytes());
    code.extend_from_slice(&[0x74, give_up.len() as u8]); // je 3f
    code.extend_from_slice(&give_up);
    code.extend_from_slice(&[
        0x85, 0xc0, // 3: test %eax, %eax
        0x75, 0x05, // jne 2f
        0x0f, 0x22, 0xdf, // mov %rdi, %cr3
        0x48, 0xcf, // iretq
        0x0f, 0x01, 0x3f, // 2: invlpg (%rdi)
        0x48, 0xcf, // iretq
    ]);
    leave(&mut code, frame(1, entry::breakpoint_entry())); // 1:
    put(BREAKPOINT, &code);

    // mov %rsp, %r11
    let mut code = alloc::vec![0x49, 0x89, 0xe3];
    leave(&mut code, frame(2, entry::syscall_entry_ring0()));
    put(SYSCALL, &code);

    let table = pointer(CPU_IDT);
    for vector in 0..32 {
        put_gate(table, vector, entry::exception_entry(vector), USER_CS, 1, TRAP_GATE);
    }
    let stub = |offset| area + CPU_STUBS + offset;
    put_gate(table, 14, stub(PAGE_FAULT), KERNEL_CS, 0, INTERRUPT_GATE_RING0);
    put_gate(table, 3, stub(BREAKPOINT), KERNEL_CS, 0, INTERRUPT_GATE_RING3);
}
