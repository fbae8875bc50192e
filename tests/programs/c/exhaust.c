// Uses up one resource until the kernel refuses, says with which error, gives everything back and goes on.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 100000
static const size_t MIB = 1 << 20;

static void say(const char *what, int error) { printf("%s: %s\n", what, error ? strerrorname_np(error) : "no limit"); }

static void descriptors(void) {
    int last = -1, fd;
    while ((fd = open("/dev/null", O_RDONLY)) >= 0) last = fd;
    say("open", errno);
    int pair[2];
    pipe(pair), say("pipe", errno);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair), say("socketpair", errno);
    dup(0), say("dup", errno);
    printf("last %d\n", last);
    close_range(3, ~0u, 0);
    printf("again: %d\n", open("/dev/null", O_RDONLY));
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static void *wait_at_gate(void *unused) {
    pthread_mutex_lock(&gate), pthread_mutex_unlock(&gate);
    return unused;
}

static void threads(void) {
    static pthread_t all[MOST];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes), pthread_attr_setstacksize(&attributes, 16384);
    pthread_mutex_lock(&gate);
    int n = 0, error = 0;
    while (n < MOST && !(error = pthread_create(&all[n], &attributes, wait_at_gate, 0))) n++;
    say("pthread_create", error);
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < n; i++) pthread_join(all[i], 0);
    printf("more than 100: %d, again: %d\n", n > 100, pthread_create(&all[0], 0, wait_at_gate, 0));
    pthread_join(all[0], 0);
}

static void processes(void) {
    static pid_t all[MOST];
    int n = 0, hold[2];
    if (pipe(hold)) exit(1);
    while (n < MOST && (all[n] = fork()) >= 0) {
        if (all[n] == 0) {
            char byte;
            close(hold[1]);
            _exit((int)read(hold[0], &byte, 1));
        }
        n++;
    }
    say("fork", errno);
    close(hold[1]);
    for (int i = 0; i < n; i++) waitpid(all[i], 0, 0);
    pid_t again = fork();
    if (again == 0) _exit(5);
    int status = 0;
    waitpid(again, &status, 0);
    printf("more than 50: %d, again: %d\n", n > 50, WEXITSTATUS(status));
}

// A mapping that can never be filled is refused; one that was promised and cannot be kept ends the one who uses it.
static void memory(void) {
    mmap(0, (size_t)1 << 45, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("mmap", errno);
    errno = 0;
    say("malloc", malloc((size_t)1 << 45) ? 0 : errno);
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0)
            for (;;) {
                char *more = malloc(MIB);
                if (!more) _exit(12);
                memset(more, 1, MIB);
            }
        int status;
        waitpid(child, &status, 0);
        int refused = WIFEXITED(status) && WEXITSTATUS(status) == 12;
        printf("ended for it: %d\n", refused || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    }
    char *some = malloc(16 * MIB);
    memset(some, 1, 16 * MIB);
    puts("16 MiB again");
}

static void files(const char *folder) {
    static char block[1 << 16];
    char path[300];
    int n = 0, error = 0;
    for (int round = 0; round < 2; round++) {
        snprintf(path, sizeof path, "%s/big", folder);
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        ssize_t done;
        while ((done = write(fd, block, sizeof block)) > 0) {
        }
        say("write", done < 0 ? errno : 0);
        say("fsync", fsync(fd) ? errno : 0);
        close(fd);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/many", folder);
    mkdir(path, 0700);
    for (n = 0; n < 2000000 && !error; n++) {
        snprintf(path, sizeof path, "%s/many/%0200d", folder, n);
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        if (fd < 0 || write(fd, block, 100) != 100) error = errno;
        if (fd >= 0) close(fd);
    }
    say("create", error);
    for (int i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/many/%0200d", folder, i);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/many", folder);
    printf("many files: %d, rmdir: %d\n", n > 1000, rmdir(path));
}

// Data in flight is memory too.
static void pipes(void) {
    static char block[1 << 16];
    int n = 0, pair[2];
    while (n < 5000 && !pipe2(pair, O_NONBLOCK) && write(pair[1], block, sizeof block) > 0) n++;
    say("pipe", errno);
    close_range(3, ~0u, 0);
    printf("again: %d\n", pipe(pair));
}

int main(int argc, char **argv) {
    setvbuf(stdout, 0, _IOLBF, 0);
    if (argc < 2) return 1;
    if (!strcmp(argv[1], "descriptors")) descriptors();
    if (!strcmp(argv[1], "threads")) threads();
    if (!strcmp(argv[1], "processes")) processes();
    if (!strcmp(argv[1], "memory")) memory();
    if (!strcmp(argv[1], "files")) files(argc > 2 ? argv[2] : "/tmp");
    if (!strcmp(argv[1], "pipes")) pipes();
    puts("goes on");
    return 0;
}
