/* Fused multiply-add on eight floats at a time, from memory that fits the first-level cache. */
#include <immintrin.h>

#include "loop.h"

__attribute__((target("avx2,fma"))) static uint64_t work(uint64_t repetitions) {
    static float a[4096] __attribute__((aligned(32))), b[4096] __attribute__((aligned(32)));
    for (int i = 0; i < 4096; i++) {
        a[i] = 1.0f / (float)(i + 1);
        b[i] = 0.25f;
    }
    const __m256 scale = _mm256_set1_ps(0.9999f);
    for (uint64_t i = 0; i < repetitions; i++)
        for (int k = 0; k < 4096; k += 8)
            _mm256_store_ps(b + k, _mm256_fmadd_ps(_mm256_load_ps(b + k), scale, _mm256_load_ps(a + k)));
    float sum = 0;
    for (int i = 0; i < 4096; i++)
        sum += b[i];
    return (uint64_t)(sum * 1e3f);
}
