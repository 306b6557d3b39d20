// Lanes in another order.
#pragma once

#include <utility>

#include "lanes.h"

namespace softpool_det {
namespace {

template <int... lane>
using Sequence = std::integer_sequence<int, lane...>;
template <typename real>
using AllLanes = std::make_integer_sequence<int, kLanes<real>>;

// The integer that a shuffle of 4- or 8-byte lanes counts with.
template <int bytes>
struct IndexOf {
  using type = int32_t;
};
template <>
struct IndexOf<8> {
  using type = int64_t;
};

// Lane i is lane index[i] of a and b, one behind the other.
template <typename real, int... index>
SOFT_POOL_HD Lanes<real> shuffle(Lanes<real> a, Lanes<real> b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, index...);
#else
  return __builtin_shuffle(a, b, Lanes<typename IndexOf<sizeof(real)>::type>{index...});
#endif
}

// Elements 0, 2, 4, ... and 1, 3, 5, ... of a and b.
template <typename real, int... lane>
SOFT_POOL_HD void split(
    Lanes<real> a, Lanes<real> b, Lanes<real>& even, Lanes<real>& odd, Sequence<lane...>) {
  even = shuffle<real, (2 * lane)...>(a, b);
  odd = shuffle<real, (2 * lane + 1)...>(a, b);
}

// The inverse of split().
template <typename real, int... lane>
SOFT_POOL_HD void merge(
    Lanes<real> even, Lanes<real> odd, Lanes<real>& a, Lanes<real>& b, Sequence<lane...>) {
  constexpr int count = sizeof...(lane);
  a = shuffle<real, (lane / 2 + lane % 2 * count)...>(even, odd);
  b = shuffle<real, (lane / 2 + lane % 2 * count + count / 2)...>(even, odd);
}

// The last lane of `before` and all but the last of `here`.
template <typename real, int... lane>
SOFT_POOL_HD Lanes<real> shift_in(Lanes<real> before, Lanes<real> here, Sequence<lane...>) {
  return shuffle<real, (lane + int(sizeof...(lane)) - 1)...>(before, here);
}

// All but the first lane of `here`, and the first of `next`.
template <typename real, int... lane>
SOFT_POOL_HD Lanes<real> shift_out(Lanes<real> here, Lanes<real> next, Sequence<lane...>) {
  return shuffle<real, (lane + 1)...>(here, next);
}

// Sums of neighbours in a and b, four lanes at a time: of two pairs of a, then of two pairs of b.
// Shuffles within 128 bits cost a fraction of those across.
template <int... lane>
SOFT_POOL_HD Floats sum_of_pairs(Floats a, Floats b, Sequence<lane...>) {
  constexpr int count = sizeof...(lane);
  return shuffle<float, (lane / 4 * 4 + lane % 2 * 2 + lane % 4 / 2 * count)...>(a, b) +
      shuffle<float, (lane / 4 * 4 + lane % 2 * 2 + 1 + lane % 4 / 2 * count)...>(a, b);
}

// From the order of sum_of_pairs() to that of memory.
template <int... lane>
SOFT_POOL_HD Floats unwoven(Floats sums, Sequence<lane...>) {
  constexpr int half = sizeof...(lane) / 2;
  return shuffle<float, (lane % half / 2 * 4 + lane % 2 + lane / half * 2)...>(sums, sums);
}

// From the order of memory to that of sum_of_pairs().
template <int... lane>
SOFT_POOL_HD Floats woven(Floats sums, Sequence<lane...>) {
  constexpr int half = sizeof...(lane) / 2;
  return shuffle<float, (lane / 4 * 2 + lane % 2 + lane % 4 / 2 * half)...>(sums, sums);
}

// Every number of sum_of_pairs() twice, where the pair was: in a, or in b.
template <int... lane>
SOFT_POOL_HD void twice(Floats sums, Floats& a, Floats& b, Sequence<lane...>) {
  a = shuffle<float, (lane / 4 * 4 + lane % 4 / 2)...>(sums, sums);
  b = shuffle<float, (lane / 4 * 4 + 2 + lane % 4 / 2)...>(sums, sums);
}

}  // namespace
}  // namespace softpool_det
