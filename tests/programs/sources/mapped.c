/* Files under mappings of them: the end moves, bytes are written, holes are punched. Its argument is a file of some pages that
   has never been written, of whatever lies below in a guest. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096 };
static sigjmp_buf back;
static volatile int code;
static void *volatile where;

static void handle(int number, siginfo_t *info, void *context) {
    (void)number, (void)context;
    code = info->si_code, where = info->si_addr;
    siglongjmp(back, 1);
}

/* Whether a touch is SIGBUS, with the code and address that it must have. */
static int beyond(volatile char *place) {
    code = 0;
    if (!sigsetjmp(back, 1)) {
        (void)*place;
        return 0;
    }
    CHECK(code == BUS_ADRERR && where == (void *)place);
    return 1;
}

static volatile char *map(int fd, int pages, int protection, int flags) {
    void *at = mmap(NULL, pages * PAGE, protection, flags, fd, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static void ends(int fd, int pages) {
    volatile char *shared = map(fd, pages, PROT_READ, MAP_SHARED), *own = map(fd, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    for (int i = 0; i < pages; i++) CHECK(shared[i * PAGE] == own[i * PAGE]);
    own[PAGE] = 'o', own[2 * PAGE] = 'p';
    CHECK(!ftruncate(fd, PAGE + 10));
    CHECK(!beyond(shared) && !beyond(shared + PAGE) && beyond(shared + 2 * PAGE));
    CHECK(shared[PAGE + 10] == 0 && shared[2 * PAGE - 1] == 0);
    /* A copy in the last page stays, one beyond it goes. */
    CHECK(own[PAGE] == 'o' && beyond(own + 2 * PAGE));
    CHECK(!ftruncate(fd, 3 * PAGE));
    CHECK(!beyond(shared + 2 * PAGE) && shared[2 * PAGE] == 0 && own[2 * PAGE] == 0 && own[PAGE] == 'o');
    CHECK(beyond(shared + 3 * PAGE));
    /* Another program's mapping, too. */
    int to_child[2], to_us[2];
    char byte = 0;
    CHECK(!pipe(to_child) && !pipe(to_us));
    pid_t child = fork();
    if (child == 0) {
        CHECK(!beyond(shared + 2 * PAGE) && write(to_us[1], "x", 1) == 1 && read(to_child[0], &byte, 1) == 1);
        _exit(beyond(shared + PAGE) ? 7 : 1);
    }
    int status;
    CHECK(read(to_us[0], &byte, 1) == 1 && !ftruncate(fd, 1) && write(to_child[1], "x", 1) == 1);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK(!munmap((void *)shared, pages * PAGE) && !munmap((void *)own, pages * PAGE));
}

/* Mapped before anybody writes: the mappings see every write. */
static void writes(int fd, int pages) {
    volatile char *shared = map(fd, pages, PROT_READ, MAP_SHARED), *own = map(fd, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    char kept = own[2 * PAGE];
    for (int i = 0; i < pages; i++) CHECK(shared[i * PAGE] == own[i * PAGE]);
    CHECK(pwrite(fd, "one", 3, 0) == 3 && shared[0] == 'o' && own[0] == 'o' && shared[2] == 'e');
    volatile char *writer = map(fd, pages, PROT_READ | PROT_WRITE, MAP_SHARED);
    writer[PAGE] = 'v';
    CHECK(shared[PAGE] == 'v' && own[PAGE] == 'v');
    own[3 * PAGE] = 'k';
    CHECK(pwrite(fd, "two", 3, 3 * PAGE) == 3 && shared[3 * PAGE] == 't' && own[3 * PAGE] == 'k');
    CHECK(shared[2 * PAGE] == kept);
    writer[2 * PAGE] = 'w';
    char read_back = 0;
    CHECK(shared[2 * PAGE] == 'w' && pread(fd, &read_back, 1, 2 * PAGE) == 1 && read_back == 'w');
    CHECK(!munmap((void *)writer, pages * PAGE) && !munmap((void *)shared, pages * PAGE) && !munmap((void *)own, pages * PAGE));
}

static void holes(const char *folder) {
    int fd = open(folder, O_TMPFILE | O_RDWR, 0600);
    CHECK(fd >= 0 && !ftruncate(fd, 4 * PAGE));
    volatile char *shared = map(fd, 4, PROT_READ | PROT_WRITE, MAP_SHARED);
    for (int i = 0; i < 4; i++) shared[i * PAGE] = 'a' + i;
    CHECK(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, 2 * PAGE));
    CHECK(shared[0] == 'a' && shared[PAGE] == 0 && shared[2 * PAGE] == 0 && shared[3 * PAGE] == 'd');
    shared[PAGE] = 'n';
    char byte = 0;
    CHECK(pread(fd, &byte, 1, PAGE) == 1 && byte == 'n');
    /* It gets a name, once. */
    char own[64], name[] = "named";
    struct stat of;
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
    CHECK(!fstat(fd, &of) && of.st_nlink == 0);
    CHECK(!linkat(AT_FDCWD, own, AT_FDCWD, name, AT_SYMLINK_FOLLOW) && !stat(name, &of) && of.st_nlink == 1);
    CHECK(of.st_size == 4 * PAGE && (of.st_mode & 07777) == 0600 && !unlink(name));
    close(fd);
    fd = open(folder, O_TMPFILE | O_RDWR | O_EXCL, 0600);
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
    CHECK(fd >= 0 && linkat(AT_FDCWD, own, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == -1 && errno == ENOENT);
    CHECK(open(folder, O_TMPFILE | O_RDONLY, 0600) == -1 && errno == EINVAL);
}

int main(int argc, char **argv) {
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    CHECK(argc == 2 && !sigaction(SIGBUS, &action, NULL));
    int fd = open(argv[1], O_RDWR);
    struct stat of;
    CHECK(fd >= 0 && !fstat(fd, &of) && of.st_size > 4 * PAGE);
    int pages = (int)(of.st_size / PAGE);
    writes(fd, pages);
    ends(fd, pages);
    holes(".");
    puts("good");
    return 0;
}
