/* Threads on several processors: what one takes away the others must not see any more, and each makes progress. The argument
 * names the test; every test says "good" or the line that is not. */
#define _GNU_SOURCE
#include <errno.h>
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
#include <time.h>
#include <unistd.h>

#define CHECK(what)                                           \
    do {                                                      \
        if (!(what)) {                                        \
            printf("line %d: not so: %s\n", __LINE__, #what); \
            fflush(stdout);                                   \
            _exit(1);                                         \
        }                                                     \
    } while (0)

#define PAGE 4096
#define TURNS 300

static pthread_t start(void *(*body)(void *), void *argument) {
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, body, argument));
    return thread;
}

/* A thread that touches what it is told to until it faults. */
static __thread sigjmp_buf on_fault;
static volatile char *_Atomic target;
static atomic_int phase, writes;

static void fault(int number) {
    (void)number;
    siglongjmp(on_fault, 1);
}

static int faults(volatile char *at, int write) {
    if (sigsetjmp(on_fault, 1)) return 1;
    if (write)
        *at = 7;
    else
        (void)*at;
    return 0;
}

enum { IDLE, TOUCH, GONE, QUIT };

static void *toucher(void *unused) {
    (void)unused;
    for (;;) {
        int now = atomic_load(&phase);
        if (now == QUIT) return NULL;
        if (now == TOUCH) {
            faults(target, atomic_load(&writes));
        } else if (now == GONE) {
            /* The call that took it away has returned. */
            CHECK(faults(target, atomic_load(&writes)));
            atomic_store(&phase, IDLE);
        } else {
            sched_yield();
        }
    }
}

static char *pages(size_t count) {
    char *at = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    memset(at, 1, count * PAGE);
    return at;
}

static void pause_a_moment(int turn) {
    for (volatile int i = 0; i < turn % 7 * 2000; i++) {
    }
}

static void takes_away(void) {
    struct sigaction action = {.sa_handler = fault};
    CHECK(!sigaction(SIGSEGV, &action, NULL));
    pthread_t thread = start(toucher, NULL);
    for (int turn = 0; turn < TURNS; turn++) {
        size_t count = (size_t)(1 + turn % 3 * 300);
        char *at = pages(count), *moved = NULL;
        int how = turn % 5;
        target = at + (count - 1) * PAGE;
        atomic_store(&writes, how == 1 || how == 4);
        atomic_store(&phase, TOUCH);
        pause_a_moment(turn);
        switch (how) {
            case 0: CHECK(!munmap(at, count * PAGE)); break;
            case 1: CHECK(!mprotect(at, count * PAGE, PROT_READ)); break;
            case 2: CHECK(!mprotect(at, count * PAGE, PROT_NONE)); break;
            case 3:
                moved = mremap(at, count * PAGE, (count + 1) * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at - (2ull << 30));
                CHECK(moved != MAP_FAILED);
                break;
            case 4: CHECK(mmap(at, count * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at); break;
        }
        atomic_store(&phase, GONE);
        /* Memory that was given back is used again at once: whoever still writes to the old address would show here. */
        char *other = mmap(at - (1ull << 30), count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(other != MAP_FAILED);
        for (size_t i = 0; i < count * PAGE; i += 64) CHECK(other[i] == 0);
        while (atomic_load(&phase) != IDLE) sched_yield();
        for (size_t i = 0; i < count * PAGE; i += 64) CHECK(other[i] == 0);
        CHECK(!munmap(other, count * PAGE));
        if (moved) {
            for (size_t i = 0; i < count; i++) CHECK(moved[i * PAGE] == 1);
            CHECK(!munmap(moved, (count + 1) * PAGE));
        } else if (how != 0) {
            CHECK(!munmap(at, count * PAGE));
        }
    }
    atomic_store(&phase, QUIT);
    CHECK(!pthread_join(thread, NULL));
}

/* Threads that map, fill, check and unmap, all at once. */
static void *maps(void *argument) {
    uintptr_t me = (uintptr_t)argument;
    for (uint64_t turn = 0; turn < TURNS; turn++) {
        size_t count = 1 + (size_t)(turn * 7 + me) % 40;
        uint64_t *at = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(at != MAP_FAILED);
        for (size_t i = 0; i < count * PAGE / 8; i += 16) {
            CHECK(at[i] == 0);
            at[i] = me << 48 | turn << 24 | i;
        }
        if (turn % 3 == 0) CHECK(!madvise(at, PAGE, MADV_DONTNEED));
        if (turn % 4 == 0) CHECK(!mprotect(at, count * PAGE, PROT_READ));
        for (size_t i = 0; i < count * PAGE / 8; i += 16)
            CHECK(at[i] == (turn % 3 == 0 && i < PAGE / 8 ? 0 : me << 48 | turn << 24 | i));
        CHECK(!munmap(at, count * PAGE));
    }
    return NULL;
}

static void maps_at_once(void) {
    pthread_t threads[4];
    for (uintptr_t i = 0; i < 4; i++) threads[i] = start(maps, (void *)(i + 1));
    for (int i = 0; i < 4; i++) CHECK(!pthread_join(threads[i], NULL));
}

/* What a child got by a fork does not change while a thread of its parent goes on writing to it. */
static volatile uint64_t *counters;
static atomic_int stop;

static void *counts(void *argument) {
    size_t which = (size_t)argument;
    uint64_t n = 0;
    while (!atomic_load(&stop)) {
        n++;
        for (size_t page = 0; page < 16; page++) counters[page * PAGE / 8 + which] = n;
    }
    return NULL;
}

static void forks(void) {
    counters = (volatile uint64_t *)pages(16);
    pthread_t threads[2] = {start(counts, (void *)0), start(counts, (void *)1)};
    for (int turn = 0; turn < 40; turn++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            uint64_t seen[16][2];
            for (int page = 0; page < 16; page++)
                for (int i = 0; i < 2; i++) seen[page][i] = counters[page * PAGE / 8 + i];
            for (volatile int i = 0; i < 300000; i++) {
            }
            for (int page = 0; page < 16; page++)
                for (int i = 0; i < 2; i++)
                    if (seen[page][i] != counters[page * PAGE / 8 + i]) _exit(1);
            for (int page = 0; page < 16; page++) counters[page * PAGE / 8 + 5] = (uint64_t)turn + 100;
            for (int page = 0; page < 16; page++)
                if (counters[page * PAGE / 8 + 5] != (uint64_t)turn + 100) _exit(2);
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        for (int page = 0; page < 16; page++) CHECK(counters[page * PAGE / 8 + 5] != (uint64_t)turn + 100);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < 2; i++) CHECK(!pthread_join(threads[i], NULL));
}

/* Locks, conditions and barriers under contention. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static uint64_t shared, token;

static void *contends(void *argument) {
    uint64_t me = (uintptr_t)argument;
    for (int turn = 0; turn < 2000; turn++) {
        pthread_mutex_lock(&mutex);
        shared++;
        pthread_mutex_unlock(&mutex);
        if (turn % 20 == 0) {
            pthread_mutex_lock(&mutex);
            while (token % 4 != me) pthread_cond_wait(&changed, &mutex);
            token++;
            pthread_cond_broadcast(&changed);
            pthread_mutex_unlock(&mutex);
        }
        if (turn % 50 == 0) pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static void futexes(void) {
    pthread_t threads[4];
    CHECK(!pthread_barrier_init(&barrier, NULL, 4));
    for (uintptr_t i = 0; i < 4; i++) threads[i] = start(contends, (void *)i);
    for (int i = 0; i < 4; i++) CHECK(!pthread_join(threads[i], NULL));
    CHECK(shared == 4 * 2000 && token == 4 * 100);
}

/* Signals to threads that spin, and to threads that wait. */
static atomic_int handled;

static void handle(int number) {
    (void)number;
    atomic_fetch_add(&handled, 1);
}

static void *spins(void *counter) {
    while (!atomic_load(&stop)) atomic_fetch_add((atomic_ullong *)counter, 1);
    return NULL;
}

static int ends[2];

static void *waits(void *unused) {
    char byte;
    (void)unused;
    while (!atomic_load(&stop)) CHECK(read(ends[0], &byte, 1) == -1 && errno == EINTR);
    return NULL;
}

static void signals(void) {
    static atomic_ullong count;
    struct sigaction action = {.sa_handler = handle};
    CHECK(!sigaction(SIGUSR1, &action, NULL) && !pipe(ends));
    pthread_t threads[2] = {start(spins, &count), start(waits, NULL)};
    for (int turn = 0; turn < 200; turn++) {
        int before = atomic_load(&handled);
        CHECK(!pthread_kill(threads[turn % 2], SIGUSR1));
        while (atomic_load(&handled) == before) sched_yield();
    }
    CHECK(atomic_load(&count) > 0);
    atomic_store(&stop, 1);
    pthread_kill(threads[1], SIGUSR1);
    for (int i = 0; i < 2; i++) CHECK(!pthread_join(threads[i], NULL));
}

/* More threads that spin than processors: each makes progress. */
static void progress(void) {
    enum { COUNT = 6 };
    static atomic_ullong counts[COUNT];
    pthread_t threads[COUNT];
    for (int i = 0; i < COUNT; i++) threads[i] = start(spins, &counts[i]);
    for (int i = 0; i < COUNT; i++) {
        unsigned long long seen = atomic_load(&counts[i]);
        while (atomic_load(&counts[i]) == seen) usleep(1000);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < COUNT; i++) CHECK(!pthread_join(threads[i], NULL));
}

static void affinity(void) {
    cpu_set_t all, one;
    CHECK(!sched_getaffinity(0, sizeof all, &all));
    CHECK(CPU_COUNT(&all) == sysconf(_SC_NPROCESSORS_ONLN));
    for (int turn = 0; turn < 50; turn++)
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (!CPU_ISSET(cpu, &all)) continue;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            CHECK(!sched_setaffinity(0, sizeof one, &one));
            CHECK(sched_getcpu() == cpu);
            CHECK(!sched_getaffinity(0, sizeof one, &one) && CPU_COUNT(&one) == 1 && CPU_ISSET(cpu, &one));
        }
    CPU_ZERO(&one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == -1 && errno == EINVAL);
    CHECK(sched_setaffinity(999999, sizeof all, &all) == -1 && errno == ESRCH);
    CHECK(!sched_setaffinity(0, sizeof all, &all));
}

static void *leaves(void *unused) {
    (void)unused;
    usleep(20000);
    puts("good");
    fflush(stdout);
    exit(3);
}

int main(int argc, char **argv) {
    static atomic_ullong count;
    const char *name = argc > 1 ? argv[1] : "";
    if (!strcmp(name, "takes-away")) takes_away();
    else if (!strcmp(name, "maps")) maps_at_once();
    else if (!strcmp(name, "forks")) forks();
    else if (!strcmp(name, "futexes")) futexes();
    else if (!strcmp(name, "signals")) signals();
    else if (!strcmp(name, "progress")) progress();
    else if (!strcmp(name, "affinity")) affinity();
    else if (!strcmp(name, "exit")) {
        start(spins, &count);
        start(spins, &count);
        start(leaves, NULL);
        spins(&count);
    } else if (!strcmp(name, "exec")) {
        start(spins, &count);
        start(spins, &count);
        usleep(20000);
        execl("/proc/self/exe", argv[0], "affinity", NULL);
        return 4;
    } else if (!strcmp(name, "spin")) {
        puts("spinning");
        fflush(stdout);
        start(spins, &count);
        start(spins, &count);
        spins(&count);
    } else return 2;
    puts("good");
    return 0;
}
