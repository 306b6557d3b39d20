// STAND-IN for the kernels' header: a loop that every unit vectorises in its own way.
#include <cstdint>

#define SOFT_POOL_JOIN(a, b) a##b
#define SOFT_POOL_NAMED(name) SOFT_POOL_JOIN(soft_pool_unit_, name)

extern "C" void SOFT_POOL_NAMED(SOFT_POOL_UNIT)(
    const float* a, const float* b, float* __restrict out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] += a[i] * b[i];
  }
}
