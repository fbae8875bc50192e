/* Scalar double arithmetic: a dependent chain of multiplications, additions and a division. */
#include "loop.h"

static uint64_t work(uint64_t repetitions) {
    double x = 0.5, sum = 0;
    for (uint64_t i = 0; i < repetitions * 1000; i++) {
        x = 3.7 * x * (1.0 - x);
        sum += x / (1.0 + sum * 1e-9);
    }
    return (uint64_t)(sum * 1e3);
}
