// Destroys the library OS from inside, one part after the other: program and library OS share an address space. No guest
// survives it, and no other guest notices.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIRECT_MAP ((volatile unsigned char *)0x408000000000)
#define CPU_AREA 0x10000

static void fill(uintptr_t from, uintptr_t to, int byte) {
    for (uintptr_t at = from; at < to; at++) DIRECT_MAP[at] = byte;
}

static void hypercall(uint32_t number, uint64_t a, uint64_t b, uint64_t c) {
    volatile uint64_t *page = (volatile uint64_t *)(DIRECT_MAP + CPU_AREA);
    page[0] = a, page[1] = b, page[2] = c;
    __asm__ volatile("out %0, %1" : : "a"(number), "d"((uint16_t)0x4b0) : "memory");
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    puts("begins"), fflush(stdout);
    if (!strcmp(what, "image")) fill(0x200000, 0x800000, 0);
    if (!strcmp(what, "code")) fill(0x200000, 0x800000, 0xcc);
    if (!strcmp(what, "processor")) fill(CPU_AREA, CPU_AREA + 0x10000, 0xff);
    if (!strcmp(what, "low")) fill(0, 0x200000, 0xa5);
    if (!strcmp(what, "everything")) fill(0, 64 << 20, 0x5a);
    if (!strcmp(what, "hypercalls"))
        // But for those that end the guest whatever they are given: 1, 2 and 17.
        for (uint32_t i = 20; i < 5000; i++)
            hypercall(i % 20 < 3 || i % 20 == 17 ? i : i % 20, i * 0x9e3779b97f4a7c15ull, ~0ull >> i % 64, i);
    if (!strcmp(what, "chance")) {
        uint64_t state = argc > 2 ? strtoull(argv[2], 0, 0) : 1;
        for (int i = 0; i < 200000; i++) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            DIRECT_MAP[state % (64 << 20)] = state >> 32;
            if (i % 64 == 0) getppid();
        }
    }
    getpid(), getppid(), puts("still here");
    return 0;
}
