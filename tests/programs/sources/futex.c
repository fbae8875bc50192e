/* futex(2) by its operations, and the locks of the C library that are built on the rarer ones. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
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

static long futex(void *word, int operation, uint32_t value, const void *timeout, void *second, uint32_t third) {
    return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, timeout, second, third);
}

static uint32_t first, second;
static atomic_int waiting, woken;

static void *waits(void *bits) {
    atomic_fetch_add(&waiting, 1);
    CHECK(!futex(&first, FUTEX_WAIT_BITSET, 0, NULL, NULL, (uint32_t)(uintptr_t)bits));
    atomic_fetch_add(&woken, 1);
    return NULL;
}

static void settle(int count) {
    while (atomic_load(&waiting) < count) sched_yield();
    usleep(50000);
}

static void requeues(void) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, waits, (void *)(uintptr_t)(i < 2 ? 1 : 2)));
    settle(4);
    CHECK(futex(&first, FUTEX_WAKE_BITSET, 10, NULL, NULL, 4) == 0);
    CHECK(futex(&first, FUTEX_WAKE_BITSET, 10, NULL, NULL, 0) == -1 && errno == EINVAL);
    CHECK(futex(&first, FUTEX_CMP_REQUEUE, 1, (void *)1, &second, 7) == -1 && errno == EAGAIN);
    CHECK(futex(&first, FUTEX_CMP_REQUEUE, (uint32_t)-1, (void *)1, &second, 0) == -1 && errno == EINVAL);
    CHECK(futex(&first, FUTEX_CMP_REQUEUE, 1, (void *)2, &second, 0) == 3);
    CHECK(futex(&second, FUTEX_WAKE, 10, NULL, NULL, 0) == 2);
    CHECK(futex(&first, FUTEX_WAKE, 10, NULL, NULL, 0) == 1);
    for (int i = 0; i < 4; i++) CHECK(!pthread_join(threads[i], NULL));
    CHECK(atomic_load(&woken) == 4);
}

static void operations(void) {
    const struct {
        uint32_t operation, before, after, woken;
    } cases[] = {
        {FUTEX_OP(FUTEX_OP_SET, 5, FUTEX_OP_CMP_EQ, 1), 1, 5, 0}, {FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_LT, 1), 2, 7, 0},
        {FUTEX_OP(FUTEX_OP_OR, 4, FUTEX_OP_CMP_GE, 1), 3, 7, 0},  {FUTEX_OP(FUTEX_OP_ANDN, 1, FUTEX_OP_CMP_NE, 3), 3, 2, 0},
        {FUTEX_OP(FUTEX_OP_XOR, 7, FUTEX_OP_CMP_GT, 0), 2, 5, 0},
        {FUTEX_OP((FUTEX_OP_SET | FUTEX_OP_OPARG_SHIFT), 3, FUTEX_OP_CMP_LE, 0), 1, 8, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        second = cases[i].before;
        CHECK(futex(&first, FUTEX_WAKE_OP, 1, (void *)1, &second, cases[i].operation) == (long)cases[i].woken);
        CHECK(second == cases[i].after);
    }
    CHECK(futex(&first, FUTEX_WAKE_OP, 1, (void *)1, (void *)8, cases[0].operation) == -1 && errno == EFAULT);
    CHECK(futex((char *)&first + 1, FUTEX_WAKE, 1, NULL, NULL, 0) == -1 && errno == EINVAL);
    CHECK(futex(&first, 99, 1, NULL, NULL, 0) == -1 && errno == ENOSYS);
    const struct timespec brief = {0, 1000000}, past = {0, 1}, wrong = {0, 1000000000};
    CHECK(futex(&first, FUTEX_WAIT, first + 1, NULL, NULL, 0) == -1 && errno == EAGAIN);
    CHECK(futex(&first, FUTEX_WAIT, first, &brief, NULL, 0) == -1 && errno == ETIMEDOUT);
    CHECK(futex(&first, FUTEX_WAIT_BITSET, first, &past, NULL, 1) == -1 && errno == ETIMEDOUT);
    CHECK(futex(&first, FUTEX_WAIT, first, &wrong, NULL, 0) == -1 && errno == EINVAL);
}

/* Adds one to a word that another thread adds to by FUTEX_WAKE_OP: none is lost. */
static void *adds(void *unused) {
    (void)unused;
    for (int i = 0; i < 20000; i++) atomic_fetch_add((atomic_uint *)&second, 1);
    return NULL;
}

static void atomically(void) {
    pthread_t thread;
    second = 0;
    CHECK(!pthread_create(&thread, NULL, adds, NULL));
    for (int i = 0; i < 5000; i++)
        CHECK(!futex(&first, FUTEX_WAKE_OP, 1, (void *)1, &second, FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_LT, 0)));
    CHECK(!pthread_join(thread, NULL));
    CHECK(second == 25000);
}

static pthread_mutex_t mutex;
static uint64_t count;

static void make(int protocol, int robust, int shared, pthread_mutex_t *lock) {
    pthread_mutexattr_t kind;
    CHECK(!pthread_mutexattr_init(&kind) && !pthread_mutexattr_setprotocol(&kind, protocol));
    CHECK(!pthread_mutexattr_setrobust(&kind, robust) && !pthread_mutexattr_setpshared(&kind, shared));
    CHECK(!pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK));
    CHECK(!pthread_mutex_init(lock, &kind));
}

static void handle(int number) { (void)number; }

static void *contends(void *unused) {
    (void)unused;
    for (int i = 0; i < 3000; i++) {
        CHECK(!pthread_mutex_lock(&mutex));
        count++;
        if (i % 100 == 0) sched_yield();
        CHECK(!pthread_mutex_unlock(&mutex));
    }
    return NULL;
}

static void *dies(void *lock) {
    CHECK(!pthread_mutex_lock(lock));
    return NULL;
}

static void *tries(void *unused) {
    (void)unused;
    struct timespec soon;
    CHECK(pthread_mutex_trylock(&mutex) == EBUSY);
    CHECK(pthread_mutex_unlock(&mutex) == EPERM);
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 10000000;
    if (soon.tv_nsec >= 1000000000) soon.tv_sec++, soon.tv_nsec -= 1000000000;
    CHECK(pthread_mutex_timedlock(&mutex, &soon) == ETIMEDOUT);
    CHECK(!pthread_mutex_lock(&mutex) && !pthread_mutex_unlock(&mutex));
    return NULL;
}

static void locks(int protocol) {
    pthread_t threads[4];
    make(protocol, PTHREAD_MUTEX_STALLED, PTHREAD_PROCESS_PRIVATE, &mutex);
    count = 0;
    for (int i = 0; i < 4; i++) CHECK(!pthread_create(&threads[i], NULL, contends, NULL));
    for (int i = 0; i < 4; i++) CHECK(!pthread_join(threads[i], NULL));
    CHECK(count == 4 * 3000);
    CHECK(!pthread_mutex_lock(&mutex) && pthread_mutex_lock(&mutex) == EDEADLK);
    CHECK(!pthread_create(&threads[0], NULL, tries, NULL));
    /* A handler without SA_RESTART must not make the lock fail. */
    for (int i = 0; i < 5; i++) usleep(20000), pthread_kill(threads[0], SIGUSR1);
    CHECK(!pthread_mutex_unlock(&mutex) && !pthread_join(threads[0], NULL));
    /* The owner ends: the next one is told. */
    make(protocol, PTHREAD_MUTEX_ROBUST, PTHREAD_PROCESS_PRIVATE, &mutex);
    CHECK(!pthread_create(&threads[0], NULL, dies, &mutex) && !pthread_join(threads[0], NULL));
    CHECK(pthread_mutex_lock(&mutex) == EOWNERDEAD && !pthread_mutex_consistent(&mutex));
    CHECK(!pthread_mutex_unlock(&mutex) && !pthread_mutex_lock(&mutex) && !pthread_mutex_unlock(&mutex));
    /* The same between programs. */
    pthread_mutex_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    make(protocol, PTHREAD_MUTEX_ROBUST, PTHREAD_PROCESS_SHARED, shared);
    pid_t child = fork();
    if (child == 0) {
        CHECK(!pthread_mutex_lock(shared));
        usleep(30000);
        _exit(0);
    }
    usleep(10000);
    int how = pthread_mutex_lock(shared);
    CHECK(how == EOWNERDEAD || how == 0);
    if (how == EOWNERDEAD) CHECK(!pthread_mutex_consistent(shared));
    CHECK(!pthread_mutex_unlock(shared) && waitpid(child, NULL, 0) == child);
}

int main(void) {
    struct sigaction action = {.sa_handler = handle};
    CHECK(!sigaction(SIGUSR1, &action, NULL));
    requeues();
    operations();
    atomically();
    locks(PTHREAD_PRIO_NONE);
    locks(PTHREAD_PRIO_INHERIT);
    puts("good");
    return 0;
}
