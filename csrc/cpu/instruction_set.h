// The table of kernels of one instruction set: what a unit kernels_*.cpp consists of.
#pragma once

#include "generic.h"
#include "k2s2.h"
#include "k3s2p1.h"
#include "plain.h"

namespace softpool_det {
namespace {

// A kernel is a local object, all of whose functions are inlined: its numbers stay in registers, where
// those behind a pointer would be read again after every store. One function for each direction and
// gradient, so that each has the registers for itself.
template <typename Kernel>
SOFT_POOL_APART bool run_forward(const Tile& tile, const Arrays& arrays, float* scratch) {
  Kernel kernel(tile, arrays, scratch);
  return kernel.forward();
}
template <typename Kernel, bool exact>
SOFT_POOL_APART bool run_backward(const Tile& tile, const Arrays& arrays, float* scratch) {
  Kernel kernel(tile, arrays, scratch);
  return kernel.template backward<exact>();
}
template <typename Kernel>
bool run(const Tile& tile, const Arrays& arrays, void* scratch) {
  auto* numbers = static_cast<float*>(scratch);
  if (arrays.grad_output == nullptr) {
    return run_forward<Kernel>(tile, arrays, numbers);
  }
  return arrays.exact ? run_backward<Kernel, true>(tile, arrays, numbers)
                      : run_backward<Kernel, false>(tile, arrays, numbers);
}

template <typename element_t, bool affine>
bool run_plain(const Tile& tile, const Arrays& arrays, void* scratch) {
  return Plain<element_t, affine>(tile, arrays, static_cast<real_of<element_t>*>(scratch)).run();
}

template <typename element_t, bool affine>
bool run_generic(const Tile& tile, const Arrays& arrays, void* scratch) {
  return tile.contiguous() ? run<Generic<element_t, affine, true>>(tile, arrays, scratch)
                           : run<Generic<element_t, affine, false>>(tile, arrays, scratch);
}

template <typename element_t, bool affine>
bool run_k3s2p1(const Tile& tile, const Arrays& arrays, void* scratch) {
  return tile.contiguous() ? run<K3S2P1<element_t, affine, true>>(tile, arrays, scratch)
                           : run<K3S2P1<element_t, affine, false>>(tile, arrays, scratch);
}

template <typename element_t, bool affine, int rows>
bool run_k2s2(const Tile& tile, const Arrays& arrays, void* scratch) {
  return tile.contiguous() ? run<K2S2<element_t, affine, rows, true>>(tile, arrays, scratch)
                           : run<K2S2<element_t, affine, rows, false>>(tile, arrays, scratch);
}
template <typename element_t, bool affine>
bool run_k2s2(const Tile& tile, const Arrays& arrays, void* scratch) {
  switch (tile.axes[0].kernel * tile.axes[1].kernel) {
    case 1: return run_k2s2<element_t, affine, 1>(tile, arrays, scratch);
    case 2: return run_k2s2<element_t, affine, 2>(tile, arrays, scratch);
    default: return run_k2s2<element_t, affine, 4>(tile, arrays, scratch);
  }
}

// Rounds results below the type's normal range to 0, as long as it lives: processors take a hundred
// times as long for them, and a weight of 1e-38 has no part in a sum with one of 1.
struct FlushToZero {
#if defined(__SSE2__)
  const unsigned before = _mm_getcsr();
  FlushToZero() { _mm_setcsr(before | _MM_FLUSH_ZERO_ON); }
  ~FlushToZero() { _mm_setcsr(before); }
#endif
};

// Chooses between x and relu(x * scale + bias).
template <Kernel plain, Kernel affine>
bool either(const Tile& tile, const Arrays& arrays, void* scratch) {
  [[maybe_unused]] const FlushToZero flush;
  const bool done = arrays.parameters.scale == nullptr ? plain(tile, arrays, scratch)
                                                       : affine(tile, arrays, scratch);
  if (arrays.nontemporal) {
    end_nontemporal();
  }
  return done;
}

#define SOFT_POOL_EITHER(run, element_t) either<run<element_t, false>, run<element_t, true>>
#define SOFT_POOL_NARROW(run) \
  {nullptr, SOFT_POOL_EITHER(run, float), SOFT_POOL_EITHER(run, BFloat16), \
   SOFT_POOL_EITHER(run, Float16)}

constexpr Kernels make_kernels(const char* name) {
  return {
      name,
      {SOFT_POOL_NARROW(run_k2s2), SOFT_POOL_NARROW(run_k3s2p1),
       SOFT_POOL_NARROW(run_generic),
       {SOFT_POOL_EITHER(run_plain, double), SOFT_POOL_EITHER(run_plain, float),
        SOFT_POOL_EITHER(run_plain, BFloat16), SOFT_POOL_EITHER(run_plain, Float16)}}};
}

#undef SOFT_POOL_EITHER
#undef SOFT_POOL_NARROW

}  // namespace
}  // namespace softpool_det
