//! The code of the vDSO: functions that programs call without leaving themselves. It runs as a program's own code, from a
//! copy at another address, so it reaches the clocks (the page before its own, [`Clocks`]) relative to itself.
use core::mem::offset_of;

/// What the clock functions read, one page before the code's. Even `sequence`s mark a state without a writer.
#[repr(C)]
pub struct Clocks {
    pub sequence: u64,
    /// As `time` keeps them: TSC, the clocks at that moment, ns a tick as a 32.32 fixed-point factor.
    pub tsc: u64,
    pub monotonic_ns: u64,
    pub realtime_ns: u64,
    pub ns_per_tick: u64,
    /// Where a call goes that only the library OS can answer.
    pub system_call: u64,
}

/// Where the code begins in its page; before it lie the headers that loaders read.
pub const CODE: usize = 0x600;

/// The clock functions' bytes and where each function begins in them.
pub fn code() -> (&'static [u8], [(&'static str, usize); 5]) {
    unsafe extern "C" {
        static kasoku_vdso_start: u8;
        static kasoku_vdso_end: u8;
        static kasoku_vdso_clock_gettime: u8;
        static kasoku_vdso_clock_getres: u8;
        static kasoku_vdso_gettimeofday: u8;
        static kasoku_vdso_time: u8;
        static kasoku_vdso_getcpu: u8;
    }
    let start = &raw const kasoku_vdso_start;
    let offset = |symbol: *const u8| symbol as usize - start as usize;
    // SAFETY: the bytes between two labels of the block below.
    let bytes = unsafe { core::slice::from_raw_parts(start, offset(&raw const kasoku_vdso_end)) };
    let functions = [
        ("__vdso_clock_gettime", offset(&raw const kasoku_vdso_clock_gettime)),
        ("__vdso_clock_getres", offset(&raw const kasoku_vdso_clock_getres)),
        ("__vdso_gettimeofday", offset(&raw const kasoku_vdso_gettimeofday)),
        ("__vdso_time", offset(&raw const kasoku_vdso_time)),
        ("__vdso_getcpu", offset(&raw const kasoku_vdso_getcpu)),
    ];
    (bytes, functions)
}

core::arch::global_asm!(
    // The clock whose base lies at `base`, ns in rax; rcx, rdx and r9 are lost. `lfence` keeps the counter from being read
    // early: a clock must not seem to go back from one processor to another.
    ".macro read_clock base",
    "97: mov kasoku_vdso_start - {page} + {sequence}(%rip), %r9",
    "test $1, %r9b",
    "jnz 98f",
    "lfence",
    "rdtsc",
    "shl $32, %rdx",
    "or %rdx, %rax",
    "sub kasoku_vdso_start - {page} + {tsc}(%rip), %rax",
    "jae 99f",
    "xor %eax, %eax",
    "99: mulq kasoku_vdso_start - {page} + {ns_per_tick}(%rip)",
    "shrd $32, %rdx, %rax",
    "add \\base, %rax",
    "cmp kasoku_vdso_start - {page} + {sequence}(%rip), %r9",
    "je 96f",
    "98: pause",
    "jmp 97b",
    "96:",
    ".endm",
    // Nanoseconds in rax: seconds to rdx, the rest to rcx. (x / 10^9 = (x / 2^9) * m / 2^75.)
    ".macro split_seconds",
    "mov %rax, %rcx",
    "shr $9, %rax",
    "movabs $0x44b82fa09b5a53, %rdx",
    "mul %rdx",
    "shr $11, %rdx",
    "imul $1000000000, %rdx, %rax",
    "sub %rax, %rcx",
    ".endm",
    ".macro call_libos number",
    "mov $\\number, %eax",
    "lea 95f(%rip), %rcx",
    "jmp *kasoku_vdso_start - {page} + {system_call}(%rip)",
    "95: ret",
    ".endm",
    ".global kasoku_vdso_start, kasoku_vdso_end, kasoku_vdso_clock_gettime, kasoku_vdso_clock_getres",
    ".global kasoku_vdso_gettimeofday, kasoku_vdso_time, kasoku_vdso_getcpu",
    ".balign 64",
    "kasoku_vdso_start:",
    // int clock_gettime(clockid_t, struct timespec *). Bits of the clocks: REALTIME, REALTIME_COARSE and TAI; MONOTONIC,
    // its RAW and COARSE, and BOOTTIME.
    "kasoku_vdso_clock_gettime:",
    "cmp $11, %edi",
    "ja 3f",
    "lea kasoku_vdso_start - {page} + {realtime}(%rip), %r8",
    "mov $0x821, %eax",
    "bt %edi, %eax",
    "jc 2f",
    "lea kasoku_vdso_start - {page} + {monotonic}(%rip), %r8",
    "mov $0xd2, %eax",
    "bt %edi, %eax",
    "jnc 3f",
    "2: read_clock (%r8)",
    "split_seconds",
    "mov %rdx, (%rsi)",
    "mov %rcx, 8(%rsi)",
    "xor %eax, %eax",
    "ret",
    "3: call_libos 228",
    // int clock_getres(clockid_t, struct timespec *)
    ".balign 16",
    "kasoku_vdso_clock_getres:",
    "cmp $11, %edi",
    "ja 5f",
    "mov $0x8f3, %eax",
    "bt %edi, %eax",
    "jnc 5f",
    "test %rsi, %rsi",
    "jz 4f",
    "movq $0, (%rsi)",
    "movq $1, 8(%rsi)",
    "4: xor %eax, %eax",
    "ret",
    "5: call_libos 229",
    // int gettimeofday(struct timeval *, struct timezone *). (x / 1000 = x * m / 2^38 for x < 10^9.)
    ".balign 16",
    "kasoku_vdso_gettimeofday:",
    "test %rdi, %rdi",
    "jz 6f",
    "read_clock kasoku_vdso_start-{page}+{realtime}(%rip)",
    "split_seconds",
    "imul $274877907, %rcx, %rcx",
    "shr $38, %rcx",
    "mov %rdx, (%rdi)",
    "mov %rcx, 8(%rdi)",
    "6: test %rsi, %rsi",
    "jz 7f",
    "movq $0, (%rsi)",
    "7: xor %eax, %eax",
    "ret",
    // time_t time(time_t *)
    ".balign 16",
    "kasoku_vdso_time:",
    "read_clock kasoku_vdso_start-{page}+{realtime}(%rip)",
    "split_seconds",
    "mov %rdx, %rax",
    "test %rdi, %rdi",
    "jz 8f",
    "mov %rax, (%rdi)",
    "8: ret",
    // int getcpu(unsigned *, unsigned *, void *): gs always points at the vCPU's own page.
    ".balign 16",
    "kasoku_vdso_getcpu:",
    "mov %gs:{number}, %eax",
    "test %rdi, %rdi",
    "jz 9f",
    "mov %eax, (%rdi)",
    "9: test %rsi, %rsi",
    "jz 10f",
    "movl $0, (%rsi)",
    "10: xor %eax, %eax",
    "ret",
    "kasoku_vdso_end:",
    page = const 4096 + CODE,
    sequence = const offset_of!(Clocks, sequence),
    tsc = const offset_of!(Clocks, tsc),
    monotonic = const offset_of!(Clocks, monotonic_ns),
    realtime = const offset_of!(Clocks, realtime_ns),
    ns_per_tick = const offset_of!(Clocks, ns_per_tick),
    system_call = const offset_of!(Clocks, system_call),
    number = const super::cpu::NUMBER,
    options(att_syntax)
);
