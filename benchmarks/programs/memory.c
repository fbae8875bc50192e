/* Latency of memory: a random cycle through 64 MiB, one dependent load after the other. */
#include "loop.h"

#define LINES (1u << 20) /* of 64 bytes */

struct line {
    uint32_t next;
    char padding[60];
};

static uint64_t work(uint64_t repetitions) {
    static struct line *lines;
    static uint32_t at;
    if (!lines) {
        lines = aligned_alloc(2u << 20, sizeof *lines * LINES);
        if (!lines)
            abort();
        for (uint32_t i = 0; i < LINES; i++)
            lines[i].next = i;
        uint64_t x = 88172645463325252u;
        for (uint32_t i = LINES - 1; i > 0; i--) { /* Sattolo: one cycle through all */
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            uint32_t other = (uint32_t)(x % i), kept = lines[i].next;
            lines[i].next = lines[other].next;
            lines[other].next = kept;
        }
    }
    for (uint64_t i = 0; i < repetitions * 100; i++)
        at = lines[at].next;
    return at;
}
