/* Programs that take the place of others: executed by a thread that is not the first, and with somebody else's rights. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static char **arguments;

static int tasks(void) {
    int count = 0;
    DIR *folder = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(folder));) count += entry->d_name[0] != '.' && atoi(entry->d_name) == getpid();
    closedir(folder);
    return count;
}

static void *nothing(void *unused) { return pause(), unused; }

static void *executes(void *unused) {
    sigset_t set;
    sigemptyset(&set), sigaddset(&set, SIGUSR2);
    CHECK(!pthread_sigmask(SIG_BLOCK, &set, NULL) && !pthread_kill(pthread_self(), SIGUSR2));
    char pid[20];
    snprintf(pid, sizeof pid, "%d", getpid());
    execl("/proc/self/exe", arguments[0], "as-first", pid, NULL);
    CHECK(!"executed");
    return unused;
}

static void as_first(int pid) {
    sigset_t set;
    CHECK(getpid() == pid && syscall(SYS_gettid) == pid && tasks() == 1);
    CHECK(!sigpending(&set) && sigismember(&set, SIGUSR2));
    CHECK(!sigprocmask(SIG_BLOCK, NULL, &set) && sigismember(&set, SIGUSR2));
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, nothing, NULL) && !pthread_cancel(thread) && !pthread_join(thread, NULL));
    CHECK(!raise(0));
    puts("first");
}

static int run(void (*before)(void), const char *how) {
    pid_t child = fork();
    if (child == 0) {
        if (before) before();
        execl("./lent", "lent", how, NULL);
        _exit(99);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void as_user(void) { CHECK(!setresgid(1234, 1234, 1234) && !setresuid(1234, 1234, 1234)); }
static void as_wary_user(void) {
    CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    as_user();
}

/* Who it is, as a number of bits. */
static int report(void) {
    uid_t real, effective, saved;
    gid_t group, effective_group, saved_group;
    CHECK(!getresuid(&real, &effective, &saved) && !getresgid(&group, &effective_group, &saved_group));
    CHECK(getauxval(AT_UID) == real && getauxval(AT_EUID) == effective && getauxval(AT_EGID) == effective_group);
    return (real == 1234) | (effective == 0) << 1 | (saved == 0) << 2 | (effective_group == 77) << 3 | (saved_group == 77) << 4 |
           (getauxval(AT_SECURE) != 0) << 5 | (prctl(PR_GET_DUMPABLE) == 1) << 6;
}

static void lends(const char *self) {
    char command[4200];
    snprintf(command, sizeof command, "cp %s lent && chmod 755 lent && chmod 755 .", self);
    CHECK(!system(command));
    const mode_t modes[] = {0755, 04755, 02755, 02745, 06755};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        CHECK(!chown("lent", 0, 77) && !chmod("lent", modes[i]));
        printf("%o: root %d, user %d, wary %d\n", modes[i], run(NULL, "report"), run(as_user, "report"), run(as_wary_user, "report"));
    }
    CHECK(!unlink("lent"));
}

int main(int argc, char **argv) {
    arguments = argv;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 2 && !strcmp(argv[1], "as-first")) return as_first(atoi(argv[2])), 0;
    if (argc > 1 && !strcmp(argv[1], "report")) return report();
    pid_t child = fork();
    if (child == 0) {
        pthread_t other, executor;
        CHECK(!pthread_create(&other, NULL, nothing, NULL) && !pthread_create(&executor, NULL, executes, NULL));
        for (;;) pause();
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    printf("ended %d\n", WEXITSTATUS(status));
    if (geteuid() == 0) lends(argv[0]);
    return 0;
}
