/* A directory of a hundred thousand entries. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHECK(what)                                                                   \
    do {                                                                              \
        if (!(what)) {                                                                \
            printf("line %d: not so: %s (%s)\n", __LINE__, #what, strerror(errno));   \
            return 1;                                                                 \
        }                                                                             \
    } while (0)

enum { COUNT = 100000 };
static char seen[COUNT];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    (void)argv;
    char name[64];
    struct stat of;
    double begin = now(), made, listed, found, gone;
    CHECK(!mkdir("many", 0755) && !chdir("many"));
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "an-entry-%d", i);
        int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
        CHECK(fd >= 0 && !close(fd));
    }
    made = now();
    /* While it is listed, every third entry goes: the others come once each. */
    DIR *folder = opendir(".");
    int listed_count = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        int number;
        if (sscanf(entry->d_name, "an-entry-%d", &number) != 1) continue;
        CHECK(!seen[number]++);
        listed_count++;
        if (number % 3 == 0) CHECK(!unlink(entry->d_name));
    }
    closedir(folder);
    CHECK(listed_count == COUNT);
    listed = now();
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "an-entry-%d", i);
        CHECK(stat(name, &of) == (i % 3 == 0 ? -1 : 0));
    }
    found = now();
    CHECK(rmdir("../many") == -1 && errno == ENOTEMPTY);
    CHECK(!rename("an-entry-1", "an-entry-0"));
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "an-entry-%d", i);
        if ((i % 3 || i == 0) && i != 1) CHECK(!unlink(name));
    }
    CHECK(!chdir("..") && !rmdir("many"));
    gone = now();
    puts("good");
    if (argc > 1)
        fprintf(stderr, "make %.3f, list and remove %.3f, find %.3f, remove %.3f\n", made - begin, listed - made, found - listed, gone - found);
    return 0;
}
