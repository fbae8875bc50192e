/* What the benchmark programs share: each line of standard input is a number of repetitions; the answer is how many nanoseconds
 * they took, and a result that must be the same everywhere. Starting the program is not part of what is measured. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Does the work `repetitions` times; the result keeps the compiler from leaving it out. */
static uint64_t work(uint64_t repetitions);

int main(void) {
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        uint64_t repetitions = strtoull(line, NULL, 10);
        uint64_t begin = now_ns();
        uint64_t result = work(repetitions);
        uint64_t end = now_ns();
        printf("%llu %llu\n", (unsigned long long)(end - begin), (unsigned long long)result);
        fflush(stdout);
    }
    return 0;
}
