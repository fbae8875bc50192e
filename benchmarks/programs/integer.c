/* Dependent 64-bit arithmetic and branches that cannot be foretold. */
#include "loop.h"

static uint64_t work(uint64_t repetitions) {
    uint64_t x = 88172645463325252u, sum = 0;
    for (uint64_t i = 0; i < repetitions * 1000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        sum += (x & 1) ? x / 7 : x * 3;
    }
    return sum;
}
