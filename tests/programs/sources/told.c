/* Who is told of what: exclusive epolls, timers, children, descriptors that travel. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

enum { WAITERS = 4 };
static int event, wake_mode;
static atomic_int woken, ready;

static void *waits(void *unused) {
    int epoll = epoll_create1(0);
    struct epoll_event wanted = {.events = EPOLLIN | EPOLLET | wake_mode}, got;
    CHECK(!epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wanted));
    atomic_fetch_add(&ready, 1);
    while (epoll_wait(epoll, &got, 1, 300) == 1) atomic_fetch_add(&woken, 1);
    close(epoll);
    return unused;
}

/* One event wakes every epoll, or one of those that want to be alone. */
static void exclusive(int mode, const char *name) {
    pthread_t threads[WAITERS];
    event = eventfd(0, EFD_NONBLOCK), wake_mode = mode, woken = ready = 0;
    for (int i = 0; i < WAITERS; i++) CHECK(!pthread_create(&threads[i], NULL, waits, NULL));
    while (atomic_load(&ready) < WAITERS) sched_yield();
    usleep(50000);
    CHECK(write(event, &(uint64_t){1}, 8) == 8);
    usleep(20000);
    int first = atomic_load(&woken);
    CHECK(write(event, &(uint64_t){1}, 8) == 8);
    for (int i = 0; i < WAITERS; i++) CHECK(!pthread_join(threads[i], NULL));
    printf("%s: %d, then %d\n", name, first, atomic_load(&woken) - first);
    close(event);
    int epoll = epoll_create1(0), inner = epoll_create1(0);
    struct epoll_event wanted = {.events = EPOLLIN | EPOLLEXCLUSIVE};
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, inner, &wanted) == -1 && errno == EINVAL);
    close(epoll), close(inner);
}

static volatile sig_atomic_t signals, last_value, last_code, last_thread;
static void handle(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    signals++, last_value = info->si_value.sival_int, last_code = info->si_code, last_thread = (int)syscall(SYS_gettid);
}

static void notifies(union sigval value) { atomic_fetch_add(&woken, value.sival_int); }

static void timers(void) {
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    CHECK(!sigaction(SIGRTMIN + 3, &action, NULL));
    timer_t timer;
    const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID};
    for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        struct sigevent how = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3, .sigev_value.sival_int = 40 + (int)i};
        struct itimerspec once = {.it_value.tv_nsec = 5000000}, left;
        CHECK(!timer_create(clocks[i], &how, &timer));
        signals = 0;
        CHECK(!timer_settime(timer, 0, &once, NULL));
        while (!signals) (void)getppid();
        CHECK(last_value == 40 + (int)i && last_code == SI_TIMER);
        CHECK(!timer_gettime(timer, &left) && left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
        CHECK(!timer_delete(timer) && timer_delete(timer) == -1 && errno == EINVAL);
    }
    /* Blocked, it is pending once, and says how often it would have come. */
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGRTMIN + 3);
    CHECK(!sigprocmask(SIG_BLOCK, &set, NULL));
    struct sigevent how = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 3};
    struct itimerspec often = {{0, 1000000}, {0, 1000000}}, stop = {0};
    siginfo_t info;
    CHECK(!timer_create(CLOCK_MONOTONIC, &how, &timer) && !timer_settime(timer, 0, &often, NULL));
    usleep(60000);
    CHECK(sigwaitinfo(&set, &info) == SIGRTMIN + 3 && info.si_code == SI_TIMER && info.si_overrun >= 20);
    CHECK(timer_getoverrun(timer) == info.si_overrun && !timer_settime(timer, 0, &stop, NULL) && !timer_delete(timer));
    while (sigtimedwait(&set, NULL, &(struct timespec){0}) > 0) {
    }
    CHECK(!sigprocmask(SIG_UNBLOCK, &set, NULL));
    /* In a thread of its own, which the C library makes; none at all. */
    how = (struct sigevent){.sigev_notify = SIGEV_THREAD, .sigev_notify_function = notifies, .sigev_value.sival_int = 5};
    woken = 0;
    struct itimerspec soon = {.it_value.tv_nsec = 1000000}, left;
    CHECK(!timer_create(CLOCK_MONOTONIC, &how, &timer) && !timer_settime(timer, 0, &soon, NULL));
    while (atomic_load(&woken) != 5) usleep(1000);
    CHECK(!timer_delete(timer));
    how = (struct sigevent){.sigev_notify = SIGEV_NONE};
    struct itimerspec late = {.it_value.tv_sec = 100};
    CHECK(!timer_create(CLOCK_MONOTONIC, &how, &timer) && !timer_settime(timer, 0, &late, NULL));
    CHECK(!timer_gettime(timer, &left) && left.it_value.tv_sec >= 99 && !timer_delete(timer));
    CHECK(timer_create(12345, NULL, &timer) == -1 && errno == EINVAL);
    struct timespec wrong = {0, 1000000000};
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &wrong, NULL) == EINVAL);
    puts("timers");
}

static void children(void) {
    siginfo_t info;
    pid_t child = fork();
    if (child == 0) {
        raise(SIGSTOP);
        usleep(200000);
        _exit(42);
    }
    const int only_look = WNOWAIT;
    CHECK(!waitid(P_PID, child, &info, WSTOPPED | only_look) && info.si_code == CLD_STOPPED && info.si_status == SIGSTOP);
    CHECK(!waitid(P_PID, child, &info, WSTOPPED) && info.si_pid == child);
    CHECK(!kill(child, SIGCONT) && !waitid(P_ALL, 0, &info, WCONTINUED) && info.si_code == CLD_CONTINUED);
    CHECK(!waitid(P_PGID, getpgrp(), &info, WEXITED | only_look) && info.si_code == CLD_EXITED && info.si_status == 42);
    CHECK(!waitid(P_PID, child, &info, WEXITED) && info.si_signo == SIGCHLD && info.si_uid == getuid());
    CHECK(waitid(P_PID, child, &info, WEXITED) == -1 && errno == ECHILD);
    CHECK(waitid(P_PID, child, &info, 0) == -1 && errno == EINVAL);
    child = fork();
    if (child == 0) {
        raise(SIGKILL);
        _exit(0);
    }
    CHECK(!waitid(P_PID, child, &info, WEXITED) && info.si_code == CLD_KILLED && info.si_status == SIGKILL);
    child = fork();
    if (child == 0) pause(), _exit(0);
    int by_descriptor = (int)syscall(SYS_pidfd_open, child, 0);
    info.si_pid = 1;
    CHECK(by_descriptor >= 0 && !waitid(P_PIDFD, by_descriptor, &info, WEXITED | WNOHANG) && info.si_pid == 0);
    CHECK(!kill(child, SIGTERM) && !waitid(P_PIDFD, by_descriptor, &info, WEXITED) && info.si_status == SIGTERM);
    puts("children");
}

static int pass(int socket, const int *descriptors, int count, char byte) {
    char space[CMSG_SPACE(sizeof(int) * 16)] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = CMSG_SPACE(sizeof(int) * count)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(sizeof(int) * count);
    memcpy(CMSG_DATA(head), descriptors, sizeof(int) * count);
    return (int)sendmsg(socket, &message, 0);
}

static int take(int socket, int *descriptors, int room, int flags, int *message_flags) {
    char space[CMSG_SPACE(sizeof(int) * 16)], byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = CMSG_LEN(sizeof(int) * room)};
    if (recvmsg(socket, &message, flags) != 1) return -1;
    *message_flags = message.msg_flags;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (!head) return 0;
    CHECK(head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS);
    int count = (int)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(descriptors, CMSG_DATA(head), sizeof(int) * count);
    return count;
}

static void travel(int type) {
    int pair[2], channel[2], got[16], flags;
    char byte;
    CHECK(!socketpair(AF_UNIX, type, 0, pair) && !pipe(channel));
    CHECK(pass(pair[0], channel, 2, 'x') == 1 && !close(channel[0]) && !close(channel[1]));
    CHECK(take(pair[1], got, 2, MSG_CMSG_CLOEXEC, &flags) == 2 && (fcntl(got[0], F_GETFD) & FD_CLOEXEC));
    CHECK(write(got[1], "y", 1) == 1 && read(got[0], &byte, 1) == 1 && byte == 'y');
    /* Room for one of two: the other is closed, and that is told. */
    CHECK(pass(pair[0], got, 2, 'x') == 1 && take(pair[1], channel, 1, 0, &flags) == 1 && (flags & MSG_CTRUNC));
    CHECK(!close(got[0]) && !close(got[1]) && !close(channel[0]));
    /* One that is never taken goes with its socket: the pipe has no writer then. */
    CHECK(!pipe(channel) && pass(pair[0], &channel[1], 1, 'x') == 1 && !close(channel[1]));
    CHECK(fcntl(channel[0], F_SETFL, O_NONBLOCK) == 0 && read(channel[0], &byte, 1) == -1 && errno == EAGAIN);
    CHECK(!close(pair[1]) && !close(pair[0]) && read(channel[0], &byte, 1) == 0 && !close(channel[0]));
    CHECK(!socketpair(AF_UNIX, type, 0, pair) && pass(pair[0], &(int){999}, 1, 'x') == -1 && errno == EBADF);
    close(pair[0]), close(pair[1]);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    exclusive(0, "all");
    exclusive(EPOLLEXCLUSIVE, "exclusive");
    timers();
    children();
    travel(SOCK_STREAM), travel(SOCK_DGRAM), travel(SOCK_SEQPACKET);
    puts("good");
    return 0;
}
