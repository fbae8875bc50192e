/* State of every kind at once: threads on futexes, an armed timer, epoll, pipes with data in them, a file's offset, a child
   program, signals, live vector registers. Prints the same whether or not it was saved and restored after "half". It stays
   there, computing, until a byte comes from channel 3. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <immintrin.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int go;
static volatile sig_atomic_t alarms;

static volatile sig_atomic_t told;

static void *listener(void *argument) {
    char byte;
    int channel = open("/dev/kasoku/invoke", O_RDONLY);
    if (read(channel, &byte, 1) == 1)
        told = 1;
    return NULL;
}

static void on_alarm(int number) { alarms += number == SIGALRM; }

static void *waiter(void *argument) {
    pthread_mutex_lock(&lock);
    while (!go)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    return (void *)((uintptr_t)argument * 3);
}

static uint64_t now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

/* Spins with values in vector registers until the clock has passed `until`: a snapshot falls into this loop. */
static double spin(uint64_t until) {
    __m128d a = _mm_set_pd(1.5, 2.5), b = _mm_set_pd(0.25, 0.5);
    __m128i k = _mm_set_epi64x(0x1122334455667788, 0x99aabbccddeeff00);
    double sum = 0;
    do {
        __m128d c = _mm_mul_pd(a, b);
        __asm__ volatile("" : "+x"(c), "+x"(k), "+x"(a), "+x"(b));
        sum = _mm_cvtsd_f64(c) + _mm_cvtsd_f64(_mm_unpackhi_pd(c, c));
        if (_mm_cvtsi128_si64(k) != (long long)0x99aabbccddeeff00)
            return -1;
    } while (now(CLOCK_MONOTONIC) < until);
    return sum;
}

/* As `spin`, in the upper halves of the wide registers, until this program is told to go on. */
__attribute__((target("avx2"))) static double spin_wide(void) {
    __m256i k = _mm256_set_epi64x(4, 3, 2, 1), one = _mm256_set1_epi64x(1), sum = _mm256_setzero_si256();
    do {
        __asm__ volatile("" : "+x"(k), "+x"(one), "+x"(sum));
        sum = _mm256_add_epi64(k, one);
    } while (!told);
    return _mm256_extract_epi64(sum, 3) * 1000 + _mm256_extract_epi64(sum, 0);
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    /* Taken where it is waited for: between a look at `alarms` and a wait it would be lost. */
    sigset_t alarm, none;
    sigemptyset(&none);
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    sigprocmask(SIG_BLOCK, &alarm, NULL);
    pthread_t threads[4], listening;
    pthread_create(&listening, NULL, listener, NULL);
    for (uintptr_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, waiter, (void *)i);

    int file = open("/tmp/file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    write(file, "0123456789", 10);
    lseek(file, 4, SEEK_SET);

    int full[2], timer = timerfd_create(CLOCK_MONOTONIC, 0), counter = eventfd(7, 0), poller = epoll_create1(0);
    pipe(full);
    write(full[1], "in the pipe", 11);
    struct itimerspec soon = {.it_value = {.tv_nsec = 600000000}};
    timerfd_settime(timer, 0, &soon, NULL);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = 42};
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &event);

    signal(SIGALRM, on_alarm);
    timer_t posix;
    timer_create(CLOCK_MONOTONIC, NULL, &posix);
    timer_settime(posix, 0, &soon, NULL);

    size_t size = 32 << 20;
    uint32_t *big = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; i < size / 4; i++)
        big[i] = i * 2654435761u;

    int to_child[2], from_child[2];
    pipe(to_child), pipe(from_child);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        read(to_child[0], &byte, 1);
        big[5] = 1;
        byte ^= 0x20;
        write(from_child[1], &byte, 1);
        _exit(byte);
    }

    uint64_t monotonic = now(CLOCK_MONOTONIC);
    /* Memory moves under all of it. */
    int touched = open("/dev/kasoku/touched", O_WRONLY);
    write(touched, "note", 4);
    for (size_t i = 0; i < 3 << 18; i++)
        big[i]++;
    write(touched, "pack", 4);
    close(touched);
    puts("half");
    printf("vectors %g\n", spin(monotonic + 200000000));
    if (__builtin_cpu_supports("avx2"))
        printf("wide vectors %g\n", spin_wide());
    pthread_join(listening, NULL);

    if (now(CLOCK_MONOTONIC) < monotonic || now(CLOCK_REALTIME) < 1700000000ull * 1000000000)
        puts("clocks are wrong");
    struct epoll_event ready;
    int count;
    while ((count = epoll_wait(poller, &ready, 1, -1)) < 0 && errno == EINTR)
        ;
    uint64_t expired, counted;
    read(timer, &expired, 8);
    read(counter, &counted, 8);
    printf("epoll %d %u timer %llu eventfd %llu\n", count, ready.data.u32, (unsigned long long)expired,
           (unsigned long long)counted);
    while (!alarms)
        sigsuspend(&none);
    printf("alarms %d\n", (int)alarms);

    char bytes[32] = {0};
    read(file, bytes, 3);
    printf("file %s\n", bytes);
    memset(bytes, 0, sizeof bytes);
    read(full[0], bytes, sizeof bytes);
    printf("pipe %s\n", bytes);

    uint32_t sum = 0;
    for (size_t i = 0; i < size / 4; i++)
        sum = sum * 31 + big[i];
    printf("memory %u\n", sum);

    int status;
    write(to_child[1], "a", 1);
    read(from_child[0], bytes, 1);
    waitpid(child, &status, 0);
    printf("child %c %d %u\n", bytes[0], WEXITSTATUS(status), big[5]);

    pthread_mutex_lock(&lock);
    go = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(threads[i], &result);
        printf("thread %d %lu\n", i, (unsigned long)(uintptr_t)result);
    }
    return 0;
}
