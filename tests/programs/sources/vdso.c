/* Finds the vDSO as a loader does and compares its functions with the system calls that they stand for. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define CHECK(what)                                            \
    do {                                                       \
        if (!(what)) {                                         \
            printf("line %d: not so: %s\n", __LINE__, #what);  \
            exit(1);                                           \
        }                                                      \
    } while (0)

static const char *base;

static void *find(const char *wanted) {
    const ElfW(Ehdr) *header = (const void *)base;
    const ElfW(Phdr) *segments = (const void *)(base + header->e_phoff);
    const ElfW(Dyn) *dynamic = NULL;
    intptr_t slide = 0;
    for (int i = 0; i < header->e_phnum; i++) {
        if (segments[i].p_type == PT_LOAD) slide = (intptr_t)base + segments[i].p_offset - segments[i].p_vaddr;
        if (segments[i].p_type == PT_DYNAMIC) dynamic = (const void *)(base + segments[i].p_offset);
    }
    CHECK(dynamic);
    const ElfW(Sym) *symbols = NULL;
    const char *strings = NULL;
    const uint32_t *hash = NULL;
    const uint32_t *gnu_hash = NULL;
    for (; dynamic->d_tag != DT_NULL; dynamic++) {
        const void *at = (const void *)(slide + dynamic->d_un.d_ptr);
        if (dynamic->d_tag == DT_SYMTAB) symbols = at;
        if (dynamic->d_tag == DT_STRTAB) strings = at;
        if (dynamic->d_tag == DT_HASH) hash = at;
        if (dynamic->d_tag == DT_GNU_HASH) gnu_hash = at;
    }
    CHECK(symbols && strings && (hash || gnu_hash));
    /* Without the older table: more symbols than any vDSO has, as their names end the search. */
    uint32_t count = hash ? hash[1] : 32;
    for (uint32_t i = 1; i < count; i++)
        if (symbols[i].st_name && !strcmp(strings + symbols[i].st_name, wanted)) return (void *)(slide + symbols[i].st_value);
    printf("%s is not there\n", wanted);
    exit(1);
}

static int64_t ns(struct timespec t) { return t.tv_sec * 1000000000ll + t.tv_nsec; }

int main(void) {
    base = (const char *)getauxval(AT_SYSINFO_EHDR);
    CHECK(base && !memcmp(base, ELFMAG, SELFMAG));
    int (*gettime)(clockid_t, struct timespec *) = find("__vdso_clock_gettime");
    int (*getres)(clockid_t, struct timespec *) = find("__vdso_clock_getres");
    int (*timeofday)(struct timeval *, void *) = find("__vdso_gettimeofday");
    time_t (*seconds)(time_t *) = find("__vdso_time");
    int (*cpu)(unsigned *, unsigned *, void *) = find("__vdso_getcpu");

    const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW, CLOCK_TAI,
                                CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        struct timespec before, between, after;
        for (int turn = 0; turn < 1000; turn++) {
            CHECK(!syscall(SYS_clock_gettime, clocks[i], &before));
            CHECK(!gettime(clocks[i], &between));
            CHECK(!syscall(SYS_clock_gettime, clocks[i], &after));
            CHECK(between.tv_nsec >= 0 && between.tv_nsec < 1000000000);
            CHECK(ns(before) <= ns(between) && ns(between) <= ns(after));
        }
        CHECK(!getres(clocks[i], &between) && ns(between) == 1);
    }
    CHECK(gettime(99, &(struct timespec){0}) == -EINVAL);
    CHECK(gettime(-9999, &(struct timespec){0}) == -EINVAL);
    CHECK(!getres(CLOCK_MONOTONIC, NULL));

    struct timespec now;
    struct timeval day;
    time_t whole;
    clock_gettime(CLOCK_REALTIME, &now);
    CHECK(!timeofday(&day, NULL) && day.tv_usec >= 0 && day.tv_usec < 1000000);
    int64_t difference = day.tv_sec * 1000000ll + day.tv_usec - ns(now) / 1000;
    CHECK(difference >= 0 && difference < 10000000);
    CHECK(seconds(&whole) == whole && whole - now.tv_sec >= 0 && whole - now.tv_sec < 10);
    CHECK(seconds(NULL) >= whole);
    unsigned number = ~0u, node = ~0u;
    CHECK(!cpu(&number, &node, NULL) && number < (unsigned)sysconf(_SC_NPROCESSORS_CONF) && node == 0);
    CHECK(!cpu(NULL, NULL, NULL));
    puts("good");
    return 0;
}
