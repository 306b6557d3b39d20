// The table of kernels of one instruction set: what a unit kernels_*.cpp consists of.
#pragma once

#include "buffered.h"
#include "buffered_backward.h"
#include "direct.h"
#include "overlap.h"

namespace softpool_det {
namespace {

template <typename element_t, Affine affine>
void forward(const Tile& tile, const Arrays& arrays, void* scratch) {
  using real = typename Elements<element_t>::real;
  Forward<element_t, affine>(tile, arrays, static_cast<real*>(scratch)).run();
}

template <typename element_t, Affine affine>
void backward(const Tile& tile, const Arrays& arrays, void* scratch) {
  using real = typename Elements<element_t>::real;
  auto* numbers = static_cast<real*>(scratch);
  if (arrays.exact) {
    Backward<element_t, affine, true>(tile, arrays, numbers).run();
  } else {
    Backward<element_t, affine, false>(tile, arrays, numbers).run();
  }
}

template <typename element_t, Affine affine, int rows, bool contiguous>
bool try_directly(const Tile& tile, const Arrays& arrays) {
  Direct<element_t, affine, rows, contiguous> direct(tile, arrays);
  if (arrays.grad_output == nullptr) {
    return direct.forward();
  }
  return arrays.exact ? direct.template backward<true>() : direct.template backward<false>();
}

template <typename element_t, Affine affine, int rows>
bool try_directly(const Tile& tile, const Arrays& arrays) {
  if constexpr (affine == Affine::kOne) {
    return try_directly<element_t, affine, rows, true>(tile, arrays);
  } else if constexpr (affine == Affine::kEach) {
    return try_directly<element_t, affine, rows, false>(tile, arrays);
  } else {
    return tile.pixel == 1 ? try_directly<element_t, affine, rows, true>(tile, arrays)
                           : try_directly<element_t, affine, rows, false>(tile, arrays);
  }
}

template <typename element_t, Affine affine>
void either(const Tile& tile, const Arrays& arrays, void* scratch) {
  if (arrays.grad_output == nullptr) {
    forward<element_t, affine>(tile, arrays, scratch);
  } else {
    backward<element_t, affine>(tile, arrays, scratch);
  }
}

template <typename element_t, Affine affine>
void direct(const Tile& tile, const Arrays& arrays, void* scratch) {
  const int64_t rows = tile.axes[0].kernel * tile.axes[1].kernel;
  const bool done = rows == 1 ? try_directly<element_t, affine, 1>(tile, arrays)
      : rows == 2             ? try_directly<element_t, affine, 2>(tile, arrays)
                              : try_directly<element_t, affine, 4>(tile, arrays);
  if (!done) {
    either<element_t, affine>(tile, arrays, scratch);
  }
}

template <typename element_t, Affine affine, bool contiguous>
bool try_overlap(const Tile& tile, const Arrays& arrays, void* scratch) {
  using real = typename Elements<element_t>::real;
  Overlap<element_t, affine, contiguous> overlap(tile, arrays, static_cast<real*>(scratch));
  if (arrays.grad_output == nullptr) {
    return overlap.forward();
  }
  return arrays.exact ? overlap.template backward<true>() : overlap.template backward<false>();
}

template <typename element_t, Affine affine>
bool try_overlap(const Tile& tile, const Arrays& arrays, void* scratch) {
  if constexpr (affine == Affine::kOne) {
    return try_overlap<element_t, affine, true>(tile, arrays, scratch);
  } else if constexpr (affine == Affine::kEach) {
    return try_overlap<element_t, affine, false>(tile, arrays, scratch);
  } else {
    return tile.pixel == 1 ? try_overlap<element_t, affine, true>(tile, arrays, scratch)
                           : try_overlap<element_t, affine, false>(tile, arrays, scratch);
  }
}

template <typename element_t, Affine affine>
void overlap(const Tile& tile, const Arrays& arrays, void* scratch) {
  if (!try_overlap<element_t, affine>(tile, arrays, scratch)) {
    either<element_t, affine>(tile, arrays, scratch);
  }
}

template <template <typename, Affine> class Of, typename element_t>
void with_affine(const Tile& tile, const Arrays& arrays, void* scratch) {
  if (arrays.scale == nullptr) {
    Of<element_t, Affine::kNone>::run(tile, arrays, scratch);
  } else if (tile.pixel == 1) {
    Of<element_t, Affine::kOne>::run(tile, arrays, scratch);
  } else {
    Of<element_t, Affine::kEach>::run(tile, arrays, scratch);
  }
  if (arrays.stream) {
    end_streams();
  }
}

template <typename element_t, Affine affine>
struct ForwardOf {
  static void run(const Tile& t, const Arrays& a, void* s) { forward<element_t, affine>(t, a, s); }
};
template <typename element_t, Affine affine>
struct BackwardOf {
  static void run(const Tile& t, const Arrays& a, void* s) { backward<element_t, affine>(t, a, s); }
};
template <typename element_t, Affine affine>
struct DirectOf {
  static void run(const Tile& t, const Arrays& a, void* s) { direct<element_t, affine>(t, a, s); }
};
template <typename element_t, Affine affine>
struct OverlapOf {
  static void run(const Tile& t, const Arrays& a, void* s) { overlap<element_t, affine>(t, a, s); }
};

constexpr Kernels make_kernels(const char* name) {
  return {
      name,
      {with_affine<ForwardOf, double>, with_affine<ForwardOf, float>,
       with_affine<ForwardOf, BFloat16>, with_affine<ForwardOf, Float16>},
      {with_affine<BackwardOf, double>, with_affine<BackwardOf, float>,
       with_affine<BackwardOf, BFloat16>, with_affine<BackwardOf, Float16>},
      {nullptr, with_affine<DirectOf, float>, with_affine<DirectOf, BFloat16>,
       with_affine<DirectOf, Float16>},
      {nullptr, with_affine<OverlapOf, float>, with_affine<OverlapOf, BFloat16>,
       with_affine<OverlapOf, Float16>}};
}

}  // namespace
}  // namespace softpool_det
