//! Entry points: every way into the library OS, and the two ways back.
//!
//! All save the program's registers as [`Regs`] at the top of the thread's stack and call Rust. A system call returns by a
//! jump to rcx, as `sysret` would; everything else by `iretq`, which does not leave ring 3 either.
//!
//! Exceptions arrive on the IST1 stack, page faults and `int3` by way of a stub that has left the processor's frame on the
//! RSP0 stack (at fixed offsets from gs); the common code moves the frame to the thread's stack at once, so that neither
//! stack is in use while Rust runs and a page fault inside a copy routine can nest.
use super::cpu::{FAULT_ADDRESS, SCRATCH, STACK_TOP, STEPPED, VECTOR};
use super::regs::Regs;
use core::arch::global_asm;
use core::mem::offset_of;
use kasoku_abi::boot::{LIBOS_MAGIC, LibosHeader};
use kasoku_abi::cpu::{CpuPage, PreemptFrame};
use kasoku_abi::layout::{CPU_RSP0_TOP, USER_CS, USER_SS};

/// Pseudo vector of a preemption by the VMM.
pub const VECTOR_PREEMPT: u64 = 256;

unsafe extern "C" {
    fn kasoku_boot();
    fn kasoku_boot_secondary();
    fn kasoku_syscall_probe();
    fn kasoku_syscall_entry();
    fn kasoku_island_entry();
    fn kasoku_syscall_entry_ring0();
    fn kasoku_preempt_entry();
    fn kasoku_page_fault_entry();
    fn kasoku_breakpoint_entry();
    static kasoku_exception_entries: [u8; 0];
    static kasoku_text_start: [u8; 0];
    static kasoku_text_end: [u8; 0];
}

/// A header with pointers, which the linker resolves; the layout is `LibosHeader`'s.
#[repr(C)]
struct Header {
    magic: u64,
    abi_version: u32,
    reserved: u32,
    boot_entry: unsafe extern "C" fn(),
    syscall_probe: unsafe extern "C" fn(),
    preempt_entry: unsafe extern "C" fn(),
    text_start: &'static [u8; 0],
    text_end: &'static [u8; 0],
    secondary_entry: unsafe extern "C" fn(),
}
const _: () = assert!(size_of::<Header>() == size_of::<LibosHeader>());
const _: () = assert!(offset_of!(Header, secondary_entry) == offset_of!(LibosHeader, secondary_entry));

#[used]
#[unsafe(link_section = ".header")]
static HEADER: Header = Header {
    magic: LIBOS_MAGIC,
    abi_version: kasoku_abi::ABI_VERSION,
    reserved: 0,
    boot_entry: kasoku_boot,
    syscall_probe: kasoku_syscall_probe,
    preempt_entry: kasoku_preempt_entry,
    // SAFETY: symbols of the linker script, used as addresses only.
    text_start: unsafe { &kasoku_text_start },
    // SAFETY: as above.
    text_end: unsafe { &kasoku_text_end },
    secondary_entry: kasoku_boot_secondary,
};

/// Addresses for the descriptor tables and the stubs.
pub fn syscall_entry() -> u64 {
    kasoku_syscall_entry as *const () as u64
}
/// Where rewritten system-call sites come in.
pub fn island_entry() -> u64 {
    kasoku_island_entry as *const () as u64
}
pub fn syscall_entry_ring0() -> u64 {
    kasoku_syscall_entry_ring0 as *const () as u64
}
pub fn page_fault_entry() -> u64 {
    kasoku_page_fault_entry as *const () as u64
}
pub fn breakpoint_entry() -> u64 {
    kasoku_breakpoint_entry as *const () as u64
}
/// Entry of exception `vector`: entries lie 32 bytes apart.
pub fn exception_entry(vector: usize) -> u64 {
    (&raw const kasoku_exception_entries) as u64 + vector as u64 * 32
}
/// Whether an address is in the code of the library OS.
pub fn is_libos_text(address: u64) -> bool {
    ((&raw const kasoku_text_start) as u64..(&raw const kasoku_text_end) as u64).contains(&address)
}

/// Makes `syscall` once and returns the ring it led to (0 on hardware, 3 on software KVM).
pub fn probe_syscall_ring() -> u64 {
    let cs: u64;
    // SAFETY: LSTAR is `kasoku_syscall_probe`, which changes rax, rcx, rdx and r11 only.
    unsafe {
        core::arch::asm!("syscall", out("rax") cs, out("rcx") _, out("rdx") _, out("r11") _);
    }
    cs & 3
}

global_asm!(
    // rax .. r15 below `origin` and the iretq frame.
    ".macro save_registers",
    "push %rdi",
    "push %rsi",
    "push %rdx",
    "push %rcx",
    "push %rax",
    "push %r8",
    "push %r9",
    "push %r10",
    "push %r11",
    "push %rbx",
    "push %rbp",
    "push %r12",
    "push %r13",
    "push %r14",
    "push %r15",
    ".endm",
    ".macro restore_registers",
    "pop %r15",
    "pop %r14",
    "pop %r13",
    "pop %r12",
    "pop %rbp",
    "pop %rbx",
    "pop %r11",
    "pop %r10",
    "pop %r9",
    "pop %r8",
    "pop %rax",
    "pop %rcx",
    "pop %rdx",
    "pop %rsi",
    "pop %rdi",
    ".endm",
    ".global kasoku_boot, kasoku_boot_secondary",
    "kasoku_boot:",
    "xor %ebp, %ebp",
    "call {boot}",
    "ud2",
    "kasoku_boot_secondary:",
    "xor %ebp, %ebp",
    "call {boot_secondary}",
    "ud2",
    // LSTAR at boot: reports cs in rax and returns to ring 3.
    ".global kasoku_syscall_probe",
    "kasoku_syscall_probe:",
    "mov %cs, %eax",
    "test $3, %al",
    "jnz 1f",
    "mov %rsp, %rdx",
    "push ${user_ss}",
    "push %rdx",
    "push $2",
    "push ${user_cs}",
    "push %rcx",
    "iretq",
    "1: jmp *%rcx",
    // Where `syscall` enters ring 0, the stub has kept the program's rsp in r11.
    ".macro save_call flags",
    "mov %rsp, %gs:{scratch}",
    "mov %gs:{stack_top}, %rsp",
    "push ${user_ss}",
    "push %gs:{scratch}",
    "push \\flags",
    "push ${user_cs}",
    "push %rcx",
    "push %rax",
    "save_registers",
    "cld",
    "mov %rsp, %rdi",
    "sub $8, %rsp",
    ".endm",
    ".global kasoku_syscall_entry, kasoku_syscall_entry_ring0, kasoku_island_entry",
    ".balign 64",
    "kasoku_syscall_entry_ring0:",
    "mov %r11, %rsp",
    "mov $0x202, %r11d",
    "kasoku_syscall_entry:",
    "save_call %r11",
    "mov $1, %esi",
    "jmp 4f",
    // Rewritten sites: flags are not kept by `syscall` either, beyond what every function call may assume of them.
    ".balign 64",
    "kasoku_island_entry:",
    "save_call $0x202",
    "xor %esi, %esi",
    "4:",
    "call {syscall}",
    "add $8, %rsp",
    "test %eax, %eax",
    "jnz 2f",
    "restore_registers",
    "mov 8(%rsp), %rcx",
    "mov 24(%rsp), %r11",
    "mov 32(%rsp), %rsp",
    "jmp *%rcx",
    // The full way back: every register as it was.
    "2:",
    "restore_registers",
    "add $8, %rsp",
    "iretq",
    // A new thread's first switch lands here with Regs on its stack.
    ".global kasoku_thread_start",
    "kasoku_thread_start:",
    "mov %rsp, %rdi",
    "sub $8, %rsp",
    "call {thread_start}",
    "add $8, %rsp",
    "jmp 2b",
    // The VMM has stored rip, rsp and rflags in the vCPU's page; everything else is the program's.
    ".global kasoku_preempt_entry",
    "kasoku_preempt_entry:",
    "mov %gs:{stack_top}, %rsp",
    "push ${user_ss}",
    "push %gs:{preempt_rsp}",
    "push %gs:{preempt_rflags}",
    "push ${user_cs}",
    "push %gs:{preempt_rip}",
    "push $0",
    "save_registers",
    "cld",
    "mov %rsp, %rdi",
    "mov ${preempt}, %esi",
    "sub $8, %rsp",
    "call {exception}",
    "add $8, %rsp",
    "jmp 2b",
    // By the stub: rax = cr2, the frame and the program's rax on the RSP0 stack.
    ".global kasoku_page_fault_entry",
    "kasoku_page_fault_entry:",
    "mov %rax, %gs:{fault_address}",
    "movl $14, %gs:{vector}",
    "push %gs:{rsp0} - 8",
    "push %gs:{rsp0} - 16",
    "push %gs:{rsp0} - 24",
    "push %gs:{rsp0} - 32",
    "push %gs:{rsp0} - 40",
    "push %gs:{rsp0} - 48",
    "mov %gs:{rsp0} - 56, %rax",
    "jmp kasoku_exception_common",
    // By the stub: the frame on the RSP0 stack.
    ".global kasoku_breakpoint_entry",
    "kasoku_breakpoint_entry:",
    "movl $3, %gs:{vector}",
    "push %gs:{rsp0} - 8",
    "push %gs:{rsp0} - 16",
    "push %gs:{rsp0} - 24",
    "push %gs:{rsp0} - 32",
    "push %gs:{rsp0} - 40",
    "push $0",
    "jmp kasoku_exception_common",
    // One small entry for each vector; those with an error code do not push a zero.
    ".balign 32",
    ".global kasoku_exception_entries",
    "kasoku_exception_entries:",
    ".set n, 0",
    ".rept 32",
    ".balign 32",
    ".if (n != 8) && (n != 10) && (n != 11) && (n != 12) && (n != 13) && (n != 14) && (n != 17) && (n != 21) && (n != 29) && (n != 30)",
    "push $0",
    ".endif",
    ".if n == 1",
    "jmp kasoku_debug_entry",
    ".endif",
    "movl $n, %gs:{vector}",
    "jmp kasoku_exception_common",
    ".set n, n + 1",
    ".endr",
    // A program that is debugged, or debugs itself, brings its trap flag along when it comes in by a jump: the library OS goes
    // on without, and remembers.
    "kasoku_debug_entry:",
    "cmpb $0x40, 13(%rsp)",
    "jne 5f",
    "andl $~0x100, 24(%rsp)",
    "movl $1, %gs:{stepped}",
    "add $8, %rsp",
    "iretq",
    "5:",
    "movl $1, %gs:{vector}",
    // Moves the frame to the thread's stack: below what the library OS was using, if it was the library OS that faulted.
    "kasoku_exception_common:",
    "save_registers",
    "cld",
    "mov 128(%rsp), %rax",
    "mov 152(%rsp), %rdx",
    "shr $40, %rax",
    "cmp $0x40, %eax",
    "je 3f",
    "mov %gs:{stack_top}, %rdx",
    "3:",
    "sub $168, %rdx",
    "and $-16, %rdx",
    "mov %rsp, %rsi",
    "mov %rdx, %rdi",
    "mov $21, %ecx",
    "rep movsq",
    "mov %rdx, %rsp",
    "mov %rdx, %rdi",
    "mov %gs:{vector}, %esi",
    "call {exception}",
    "jmp 2b",
    boot = sym crate::boot::boot,
    boot_secondary = sym crate::boot::boot_secondary,
    syscall = sym crate::syscall::enter,
    exception = sym crate::arch::exception::enter,
    thread_start = sym crate::sched::thread::first_run,
    user_ss = const USER_SS,
    user_cs = const USER_CS,
    scratch = const SCRATCH,
    stack_top = const STACK_TOP,
    vector = const VECTOR,
    fault_address = const FAULT_ADDRESS,
    stepped = const STEPPED,
    rsp0 = const CPU_RSP0_TOP,
    preempt = const VECTOR_PREEMPT,
    preempt_rip = const offset_of!(CpuPage, preempt) + offset_of!(PreemptFrame, rip),
    preempt_rsp = const offset_of!(CpuPage, preempt) + offset_of!(PreemptFrame, rsp),
    preempt_rflags = const offset_of!(CpuPage, preempt) + offset_of!(PreemptFrame, rflags),
    options(att_syntax)
);

/// Where a program's registers lie when it is inside the library OS: at the top of its thread's stack.
pub const REGS_LEN: u64 = size_of::<Regs>() as u64;
