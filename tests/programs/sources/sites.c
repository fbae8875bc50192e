/* System calls made often enough to be rewritten, from sites of every shape that the C library has: results, errors, the
 * registers that a call must keep, and a call that a signal interrupts and that is made again. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define CHECK(what)                                           \
    do {                                                      \
        if (!(what)) {                                        \
            printf("line %d: not so: %s\n", __LINE__, #what); \
            exit(1);                                          \
        }                                                     \
    } while (0)

/* A call must keep every register but rax, rcx and r11, and the 128 bytes below the stack pointer. */
static long keeps_everything(long number) {
    long result, kept;
    uint64_t zone = 0x1122334455667788;
    __asm__ volatile(
        "mov %3, -8(%%rsp)\n\tmov %3, -128(%%rsp)\n\t"
        "mov $1, %%ebx\n\tmov $8, %%r8d\n\tmov $9, %%r9d\n\tmov $10, %%r10d\n\tmov $12, %%r12d\n\tmov $13, %%r13d\n\t"
        "mov $14, %%r14d\n\tmov $15, %%r15d\n\t"
        "mov $39, %%eax\n\tsyscall\n\t"
        "lea (%%rbx, %%r8), %1\n\tadd %%r9, %1\n\tadd %%r10, %1\n\tadd %%r12, %1\n\tadd %%r13, %1\n\tadd %%r14, %1\n\t"
        "add %%r15, %1\n\tcmp %3, -8(%%rsp)\n\tjne 1f\n\tcmp %3, -128(%%rsp)\n\tje 2f\n\t1: xor %1, %1\n\t2:"
        : "=&a"(result), "=&d"(kept)
        : "D"(number), "S"(zone)
        : "rbx", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
    CHECK(kept == 1 + 8 + 9 + 10 + 12 + 13 + 14 + 15);
    return result;
}

static volatile int alarms;
static int ends[2];

static void on_alarm(int signal) {
    (void)signal;
    /* The second ends the wait. */
    if (++alarms == 2) CHECK(write(ends[1], "!", 1) == 1);
}

static void reads(void) {
    char byte;
    int zero = open("/dev/zero", O_RDONLY);
    CHECK(zero >= 0);
    for (int i = 0; i < 100; i++) {
        byte = 1;
        CHECK(read(zero, &byte, 1) == 1 && byte == 0);
        errno = 0;
        CHECK(read(-1, &byte, 1) == -1 && errno == EBADF);
        CHECK(syscall(SYS_getpid) == getpid());
        CHECK(keeps_everything(i) == getpid());
        CHECK(write(-1, &byte, 1) == -1 && errno == EBADF);
    }
    CHECK(!close(zero));
    /* Interrupted twice: the call goes on (SA_RESTART) from a site that has been rewritten. */
    alarms = 0;
    CHECK(!pipe(ends));
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    CHECK(!sigaction(SIGALRM, &action, NULL));
    struct itimerval timer = {{0, 20000}, {0, 20000}};
    CHECK(!setitimer(ITIMER_REAL, &timer, NULL));
    CHECK(read(ends[0], &byte, 1) == 1 && byte == '!' && alarms >= 2);
    CHECK(!setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL));
    close(ends[0]);
    close(ends[1]);
}

static void *idle(void *argument) { return argument; }

int main(void) {
    reads();
    /* The C library takes other paths, with other sites, once there has been a second thread. */
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, idle, NULL));
    reads();
    CHECK(!pthread_join(thread, NULL));
    reads();
    puts("good");
    return 0;
}
