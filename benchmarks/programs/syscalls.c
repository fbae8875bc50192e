/* Costs of system calls, one at a time: a line "NAME REPETITIONS" in, a line "NANOSECONDS RESULT" out. The nanoseconds are
 * those of all repetitions; the result is what the calls gave, so that both sides can be compared. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char *self;

static void fail(const char *what) {
    fprintf(stderr, "syscalls: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The number in a register that the compiler cannot see through: a site that cannot be rewritten. */
static long trapped(long number) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number) : "rcx", "r11", "memory");
    return result;
}

/* `mov $number, %eax; syscall`, as the C library has it in four of five places. */
static long patched_getpid(void) {
    long result;
    __asm__ volatile("mov %1, %%eax\n\tsyscall" : "=a"(result) : "i"(SYS_getpid) : "rcx", "r11", "memory");
    return result;
}

static uint64_t getpid_patched(uint64_t n) {
    uint64_t good = 0;
    long pid = getpid();
    for (uint64_t i = 0; i < n; i++) good += patched_getpid() == pid;
    return good;
}

static uint64_t getpid_trapped(uint64_t n) {
    uint64_t good = 0;
    long pid = getpid();
    volatile long number = SYS_getpid;
    for (uint64_t i = 0; i < n; i++) good += trapped(number) == pid;
    return good;
}

static uint64_t clock_gettime_(uint64_t n) {
    uint64_t good = 0;
    struct timespec t;
    for (uint64_t i = 0; i < n; i++) good += clock_gettime(CLOCK_MONOTONIC, &t) == 0;
    return good;
}

static uint64_t gettimeofday_(uint64_t n) {
    uint64_t good = 0;
    struct timeval t;
    for (uint64_t i = 0; i < n; i++) good += gettimeofday(&t, NULL) == 0;
    return good;
}

static uint64_t getcpu_(uint64_t n) {
    uint64_t good = 0;
    for (uint64_t i = 0; i < n; i++) good += sched_getcpu() >= 0;
    return good;
}

static uint64_t read_zero_1(uint64_t n) {
    static int fd = -1;
    char byte;
    uint64_t sum = 0;
    if (fd < 0 && (fd = open("/dev/zero", O_RDONLY)) < 0) fail("/dev/zero");
    for (uint64_t i = 0; i < n; i++) sum += (uint64_t)read(fd, &byte, 1);
    return sum;
}

static uint64_t write_null_1(uint64_t n) {
    static int fd = -1;
    uint64_t sum = 0;
    if (fd < 0 && (fd = open("/dev/null", O_WRONLY)) < 0) fail("/dev/null");
    for (uint64_t i = 0; i < n; i++) sum += (uint64_t)write(fd, "x", 1);
    return sum;
}

static uint64_t pread_4k_image(uint64_t n) {
    static int fd = -1;
    static char page[4096];
    uint64_t sum = 0;
    if (fd < 0 && (fd = open(self, O_RDONLY)) < 0) fail(self);
    for (uint64_t i = 0; i < n; i++) {
        sum += (uint64_t)pread(fd, page, sizeof page, (off_t)(i % 16) * 4096);
        sum += (unsigned char)page[1234];
    }
    return sum;
}

static int there[2], back[2];

static void *echo(void *count) {
    char byte;
    for (uint64_t i = 0; i < *(uint64_t *)count; i++)
        if (read(there[0], &byte, 1) != 1 || write(back[1], &byte, 1) != 1) fail("pipe");
    return NULL;
}

static uint64_t pipe_pingpong(uint64_t n) {
    pthread_t thread;
    char byte = 1;
    uint64_t sum = 0;
    if (!there[1] && (pipe(there) || pipe(back))) fail("pipe");
    if (pthread_create(&thread, NULL, echo, &n)) fail("pthread_create");
    for (uint64_t i = 0; i < n; i++) {
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) fail("pipe");
        sum += (uint64_t)byte;
    }
    pthread_join(thread, NULL);
    return sum;
}

static uint64_t mmap_touch_munmap_1M(uint64_t n) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        volatile char *at = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) fail("mmap");
        for (size_t page = 0; page < 1 << 20; page += 4096) {
            sum += (uint64_t)at[page];
            at[page] = 1;
        }
        if (munmap((void *)at, 1 << 20)) fail("munmap");
    }
    return sum;
}

static void *nothing(void *argument) { return argument; }

static uint64_t thread_create_join(uint64_t n) {
    uint64_t good = 0;
    for (uint64_t i = 0; i < n; i++) {
        pthread_t thread;
        void *result = NULL;
        if (pthread_create(&thread, NULL, nothing, (void *)self)) fail("pthread_create");
        pthread_join(thread, &result);
        good += result == self;
    }
    return good;
}

static _Atomic uint32_t turn;

/* As the C library makes it, and not by syscall(2), whose one site serves every number. */
static long futex(long operation, long value) {
    register long timeout __asm__("r10") = 0;
    long result;
    __asm__ volatile("mov %1, %%eax\n\tsyscall"
                     : "=a"(result)
                     : "i"(SYS_futex), "D"(&turn), "S"(operation), "d"(value), "r"(timeout)
                     : "rcx", "r11", "memory");
    return result;
}

static void hand_over(uint32_t to) {
    atomic_store(&turn, to);
    futex(FUTEX_WAKE_PRIVATE, 1);
    while (atomic_load(&turn) == to) futex(FUTEX_WAIT_PRIVATE, to);
}

static void *other(void *count) {
    while (atomic_load(&turn) != 1) futex(FUTEX_WAIT_PRIVATE, 0);
    for (uint64_t i = 1; i < *(uint64_t *)count; i++) hand_over(0);
    atomic_store(&turn, 0);
    futex(FUTEX_WAKE_PRIVATE, 1);
    return NULL;
}

/* Two threads that wake each other in turn: a repetition is a wake-up there and one back. */
static uint64_t futex_wake(uint64_t n) {
    pthread_t thread;
    atomic_store(&turn, 0);
    if (pthread_create(&thread, NULL, other, &n)) fail("pthread_create");
    for (uint64_t i = 0; i < n; i++) hand_over(1);
    pthread_join(thread, NULL);
    return n;
}

static uint64_t nanosleep_1ms(uint64_t n) {
    const struct timespec millisecond = {0, 1000000};
    uint64_t good = 0;
    for (uint64_t i = 0; i < n; i++) good += nanosleep(&millisecond, NULL) == 0;
    return good;
}

static const struct {
    const char *name;
    uint64_t (*run)(uint64_t);
} CASES[] = {
    {"getpid/patched", getpid_patched},
    {"getpid/trapped", getpid_trapped},
    {"clock_gettime", clock_gettime_},
    {"gettimeofday", gettimeofday_},
    {"getcpu", getcpu_},
    {"read_zero_1", read_zero_1},
    {"write_null_1", write_null_1},
    {"pread_4k_image", pread_4k_image},
    {"pipe_pingpong", pipe_pingpong},
    {"mmap_touch_munmap_1M", mmap_touch_munmap_1M},
    {"thread_create_join", thread_create_join},
    {"futex_wake", futex_wake},
    {"nanosleep_1ms", nanosleep_1ms},
};

int main(int argc, char **argv) {
    char line[128], name[64];
    (void)argc;
    self = argv[0];
    while (fgets(line, sizeof line, stdin)) {
        unsigned long long repetitions;
        size_t i = 0;
        if (sscanf(line, "%63s %llu", name, &repetitions) != 2) return 2;
        while (i < sizeof CASES / sizeof *CASES && strcmp(CASES[i].name, name)) i++;
        if (i == sizeof CASES / sizeof *CASES) return 2;
        uint64_t begin = now();
        uint64_t result = CASES[i].run(repetitions);
        printf("%llu %llu\n", (unsigned long long)(now() - begin), (unsigned long long)result);
        fflush(stdout);
    }
    return 0;
}
