// Two threads, one of which changes the mappings that the other uses. What the kernel has promised when a call returns
// must hold at once on every processor: a stale translation shows as a write that came too late.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 8

static char *area;
static _Atomic int stop, faults;
static _Atomic uint64_t writes;
static __thread sigjmp_buf back;

static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info, (void)context;
    atomic_fetch_add(&faults, 1);
    siglongjmp(back, 1);
}

// Counts in the first word of each page, for ever; a fault is an answer like any other.
static void *writer(void *unused) {
    (void)unused;
    while (!stop) {
        if (sigsetjmp(back, 1)) sched_yield();
        for (int i = 0; i < PAGES && !stop; i++) {
            volatile uint64_t *word = (volatile uint64_t *)(area + i * PAGE);
            for (int k = 0; k < 200; k++) ++*word;
            atomic_fetch_add(&writes, 1);
        }
    }
    return 0;
}

// Time in which a stale translation would show: long enough for the writer to go round, whoever runs when.
static void linger(void) {
    for (int i = 0; i < 3; i++) sched_yield();
    for (volatile int i = 0; i < 2000; i++) {
    }
}

static void settle(void) {
    uint64_t seen = writes;
    for (int i = 0; i < 10000 && writes == seen; i++) sched_yield();
}

static uint64_t word(const char *page) { return *(volatile const uint64_t *)page; }

static void fail(const char *what, int round) {
    printf("%s failed in round %d\n", what, round);
    exit(1);
}

static void protect(int rounds) {
    for (int r = 0; r < rounds; r++) {
        settle();
        mprotect(area, PAGES * PAGE, PROT_READ);
        uint64_t before[PAGES];
        for (int i = 0; i < PAGES; i++) before[i] = word(area + i * PAGE);
        linger();
        for (int i = 0; i < PAGES; i++)
            if (word(area + i * PAGE) != before[i]) fail("mprotect", r);
        mprotect(area, PAGES * PAGE, PROT_READ | PROT_WRITE);
    }
    puts("mprotect ok");
}

// Frames of the unmapped pages come back for other uses, and nobody else may write to them then.
static void unmap(int rounds) {
    for (int r = 0; r < rounds; r++) {
        settle();
        munmap(area, PAGES * PAGE);
        char *other = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (other != area) {
            for (int i = 0; i < PAGES; i++)
                if (word(other + i * PAGE)) fail("munmap (not zero)", r);
            linger();
            for (int i = 0; i < PAGES; i++)
                if (word(other + i * PAGE)) fail("munmap", r);
        }
        munmap(other, PAGES * PAGE);
        char *again = mmap(area, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (again != area) fail("mmap", r);
    }
    puts("munmap ok");
}

static void discard(int rounds) {
    for (int r = 0; r < rounds; r++) {
        settle();
        uint64_t before = word(area);
        madvise(area, PAGE, MADV_DONTNEED);
        // It counts from 0 again: what it counted before is gone.
        linger();
        uint64_t after = word(area);
        if (before > 1000 && after >= before && after - before < 100) fail("madvise", r);
    }
    puts("madvise ok");
}

// After fork() both have copies: the child's does not move while the parent's goes on.
static void copy_on_write(int rounds) {
    for (int r = 0; r < rounds; r++) {
        settle();
        pid_t child = fork();
        if (child == 0) {
            uint64_t before[PAGES];
            for (int i = 0; i < PAGES; i++) before[i] = word(area + i * PAGE);
            linger();
            for (int i = 0; i < PAGES; i++)
                if (word(area + i * PAGE) != before[i]) _exit(1);
            for (int i = 0; i < PAGES; i++) memset(area + i * PAGE, 0xff, PAGE);
            _exit(0);
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child) fail("fork", r);
        if (status) fail("copy on write (child)", r);
        for (int i = 0; i < PAGES; i++)
            if (word(area + i * PAGE) == ~0ull) fail("copy on write (parent)", r);
    }
    puts("copy on write ok");
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 100;
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &action, 0);
    setvbuf(stdout, 0, _IOLBF, 0);
    area = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_t thread;
    if (pthread_create(&thread, 0, writer, 0)) return 2;
    protect(rounds);
    unmap(rounds);
    discard(rounds);
    copy_on_write(rounds / 4 + 1);
    stop = 1;
    pthread_join(thread, 0);
    puts(faults ? "faults were seen" : "no fault was seen");
    return 0;
}
