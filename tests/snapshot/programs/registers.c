/* Keeps vector registers, rounding mode and x87 state live across whatever happens until its standard input ends. */
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BYTES 64
static uint8_t before[32][BYTES], after[32][BYTES];

/* One more look at a system call that blocks: nothing of the C library runs between loading and storing. */
static long wait_for_end(void) {
    static char byte;
    long result;
    do
        asm volatile("syscall" : "=a"(result) : "a"(0), "D"(0), "S"(&byte), "d"(1) : "rcx", "r11", "memory");
    while (result > 0);
    return result;
}

__attribute__((target("avx512f"), noinline)) static void with_512(void) {
#define LOAD(n) asm volatile("vmovdqu64 %0, %%zmm" #n : : "m"(before[n]) : "memory");
#define STORE(n) asm volatile("vmovdqu64 %%zmm" #n ", %0" : "=m"(after[n]) : : "memory");
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define MORE(X) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31)
    uint64_t mask = 0x123456789abcdef0, masked;
    asm volatile("kmovw %k0, %%k3" : : "r"(mask));
    ALL(LOAD) MORE(LOAD)
    wait_for_end();
    ALL(STORE) MORE(STORE)
    asm volatile("kmovw %%k3, %k0" : "=r"(masked));
    printf("512 %d %x\n", memcmp(before, after, sizeof before), (unsigned)masked & 0xffff);
}

__attribute__((target("avx2"), noinline)) static void with_256(void) {
#undef LOAD
#undef STORE
#define LOAD(n) asm volatile("vmovdqu %0, %%ymm" #n : : "m"(before[n]) : "memory");
#define STORE(n) asm volatile("vmovdqu %%ymm" #n ", %0" : "=m"(after[n]) : : "memory");
    ALL(LOAD)
    wait_for_end();
    ALL(STORE)
    int different = 0;
    for (int n = 0; n < 16; n++)
        different |= memcmp(before[n], after[n], 32);
    printf("256 %d\n", different);
}

int main(void) {
    for (int n = 0; n < 32; n++)
        for (int at = 0; at < BYTES; at++)
            before[n][at] = (uint8_t)(n * 37 + at * 11 + 1);
    unsigned rounding = (_mm_getcsr() & ~0x6000u) | 0x4000, status;
    _mm_setcsr(rounding);
    uint16_t control = 0x0e7f, found;
    asm volatile("fldcw %0" : : "m"(control));
    asm volatile("fldpi");
    puts("ready");
    fflush(stdout);
    if (__builtin_cpu_supports("avx512f"))
        with_512();
    else if (__builtin_cpu_supports("avx2"))
        with_256();
    long double pi;
    asm volatile("fstpt %0" : "=m"(pi));
    asm volatile("fnstcw %0" : "=m"(found));
    status = _mm_getcsr();
    printf("%.15Lf %x %d\n", pi, found, (status & 0x6000) == 0x4000);
    return 0;
}
