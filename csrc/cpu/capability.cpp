#include "capability.h"

#if defined(SOFT_POOL_AVX2)
#include <cpuid.h>
#endif
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace softpool_det {
namespace {

struct Candidate {
  const Kernels* kernels;
  bool runs;
};

#if defined(SOFT_POOL_AVX2)
// Older Clang's __builtin_cpu_supports() does not know "f16c".
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

const Kernels& choose() {
  const Candidate candidates[] = {
#if defined(SOFT_POOL_AVX512)
      {&kAvx512Kernels,
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")},
#endif
#if defined(SOFT_POOL_AVX2)
      {&kAvx2Kernels,
       __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()},
#endif
      {&kPlainKernels, true},
  };
  const char* variable = std::getenv("SOFTPOOL_CPU_CAPABILITY");
  const std::string wanted = variable == nullptr ? "" : variable;
  std::string names;
  for (const Candidate& candidate : candidates) {
    if (candidate.runs && (wanted.empty() || wanted == candidate.kernels->name)) {
      return *candidate.kernels;
    }
    if (candidate.runs) {
      names += (names.empty() ? "" : ", ") + std::string(candidate.kernels->name);
    }
  }
  throw std::runtime_error(
      "SOFTPOOL_CPU_CAPABILITY must be one that this machine and build have (" + names +
      ") or unset, got " + wanted);
}

}  // namespace

const Kernels& cpu_kernels() {
  static const Kernels& kernels = choose();
  return kernels;
}

}  // namespace softpool_det
