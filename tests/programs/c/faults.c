// Every exception that a program can cause, with what its signal handler sees. Native and guest must print the same.
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static const char *name;
static uintptr_t fault_rip, base;

// The address of the faulting instruction, and registers that must arrive as they were.
static uint64_t seeds[16];

static void handler(int signal, siginfo_t *info, void *context) {
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    uintptr_t address = (uintptr_t)info->si_addr;
    char where[64];
    if (address == (uintptr_t)regs[REG_RIP]) strcpy(where, "rip");
    else if (base && address - base < 1 << 20) sprintf(where, "mapping+%lx", address - base);
    else sprintf(where, "%lx", address);
    int kept = 1;
    static const int order[] = {REG_RBX, REG_R8, REG_R9, REG_R10, REG_R12, REG_R13, REG_R14, REG_R15};
    for (int i = 0; i < 8; i++) kept &= (uint64_t)regs[order[i]] == seeds[i];
    printf("%-22s signal %d code %d at %s trap %lld error %llx rip%+ld registers %s flags %llx cs %llx\n", name, signal,
           info->si_code, where, regs[REG_TRAPNO], regs[REG_ERR], (long)(regs[REG_RIP] - fault_rip),
           kept ? "kept" : "LOST", regs[REG_EFL] & 0x8d5, regs[REG_CSGSFS] & 0xffff);
    // A handler that returns would fault again: single steps and alignment checks end here as well.
    siglongjmp(back, 1);
}

// Loads the seeds, notes where it is and executes `code` with rax = a, rdx = d.
#define FAULT(label, code, a, d)                                                                                       \
    do {                                                                                                               \
        name = label;                                                                                                  \
        if (!sigsetjmp(back, 1)) {                                                                                     \
            __asm__ volatile("lea 1f(%%rip), %%rcx; mov %%rcx, %2\n\t"                                                 \
                             "mov (%%rsi), %%rbx; mov 8(%%rsi), %%r8; mov 16(%%rsi), %%r9; mov 24(%%rsi), %%r10\n\t"   \
                             "mov 32(%%rsi), %%r12; mov 40(%%rsi), %%r13; mov 48(%%rsi), %%r14; mov 56(%%rsi), %%r15\n\t" \
                             "xor %%ecx, %%ecx\n\t"                                                                    \
                             "1: " code                                                                                \
                             : : "a"((uint64_t)(a)), "d"((uint64_t)(d)), "m"(fault_rip), "S"(seeds)                    \
                             : "rbx", "rcx", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc"); \
            printf("%-22s no fault\n", name);                                                                          \
        }                                                                                                              \
    } while (0)

int main(void) {
    setvbuf(stdout, 0, _IOLBF, 0);
    for (int i = 0; i < 16; i++) seeds[i] = 0x0123456789abcdefull * (2 * i + 1);
    stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
    sigaltstack(&stack, 0);
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    for (int i = 0; i < 6; i++) sigaction(signals[i], &action, 0);

    char *pages = mmap(0, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(pages, 0xc3, 1 << 16);
    mprotect(pages + 0x1000, 0x1000, PROT_READ);
    mprotect(pages + 0x2000, 0x1000, PROT_NONE);
    mprotect(pages + 0x3000, 0x1000, PROT_READ | PROT_EXEC);
    munmap(pages + 0x5000, 0x1000);
    base = (uintptr_t)pages;

    FAULT("read of null", "mov (%%rax), %%rax", 0, 0);
    FAULT("write of null", "mov %%rax, 0x18(%%rax)", 0, 0);
    FAULT("write to read-only", "mov %%rdx, (%%rax)", pages + 0x1008, 1);
    FAULT("read without access", "mov (%%rax), %%rax", pages + 0x2010, 0);
    FAULT("read of unmapped", "mov (%%rax), %%rax", pages + 0x5ff8, 0);
    FAULT("read across the end", "mov (%%rax), %%rax", pages + 0x4ffc, 0);
    FAULT("write to code", "movb $1, (%%rax)", pages + 0x3000, 0);
    FAULT("kernel address", "mov (%%rax), %%rax", 0xffffffff81000000, 0);
    FAULT("non-canonical", "mov (%%rax), %%rax", 0x8000000000000000, 0);
    FAULT("non-canonical stack", "mov %%rsp, %%rdi; mov %%rax, %%rsp; pop %%rax; mov %%rdi, %%rsp", 0x8000000000000000, 0);
    FAULT("misaligned SSE", "movaps (%%rax), %%xmm0", pages + 8, 0);
    name = "execute data", fault_rip = (uintptr_t)pages;
    if (!sigsetjmp(back, 1)) ((void (*)(void))pages)();
    name = "execute null", fault_rip = 0;
    if (!sigsetjmp(back, 1)) ((void (*)(void))0)();
    name = "execute unmapped", fault_rip = base + 0x5000;
    if (!sigsetjmp(back, 1)) ((void (*)(void))(pages + 0x5000))();
    ((void (*)(void))(pages + 0x3000))(); // and what may be executed is

    FAULT("divide by zero", "div %%rcx", 1, 0);
    FAULT("divide overflow", "mov $1, %%ecx; div %%rcx", 0, 2);
    FAULT("ud2", "ud2", 0, 0);
    FAULT("breakpoint", "int3", 0, 0);
    FAULT("int 5", "int $5", 0, 0);
    FAULT("hlt", "hlt", 0, 0);
    FAULT("cli", "cli", 0, 0);
    FAULT("in", "in %%dx, %%al", 0, 0x80);
    FAULT("wrmsr", "wrmsr", 0, 0);
    FAULT("load cr3", "mov %%cr3, %%rax", 0, 0);
    FAULT("bad selector", "mov %%eax, %%fs", 0x1234, 0);
    FAULT("single step", "pushfq; orq $0x100, (%%rsp); popfq; nop; nop", 0, 0);
    FAULT("unmasked SSE division",
          "push $0x1d80; ldmxcsr (%%rsp); movq $0x1f80, (%%rsp); pxor %%xmm0, %%xmm0; mov $1, %%ecx; cvtsi2sd %%ecx, %%xmm1; "
          "divsd %%xmm0, %%xmm1; ldmxcsr (%%rsp); pop %%rcx", 0, 0);
    FAULT("unmasked x87 division",
          "fninit; push $0x37b; fldcw (%%rsp); pop %%rcx; fld1; fldz; fdivrp; fwait; fninit", 0, 0);

    int fd = memfd_create("faults", 0);
    if (ftruncate(fd, 0x1800)) return 1;
    char *file = mmap(0, 0x4000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    base = (uintptr_t)file;
    FAULT("past the file's end", "mov (%%rax), %%rax", file + 0x2000, 0);
    FAULT("in its last page", "mov (%%rax), %%rax", file + 0x1ff0, 0);

    // A system call gets EFAULT for the same places, and no signal.
    errno = 0;
    int n = write(1, pages + 0x2000, 1);
    printf("write from no access: %d %d\n", n, errno);
    n = read(fd, pages + 0x1000, 1);
    printf("read to read-only: %d %d\n", n, errno);
    return 0;
}
