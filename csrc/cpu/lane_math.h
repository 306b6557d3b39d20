// exp2() and 1 / x of many numbers at once, in each instruction set's cheapest operations.
#pragma once

#include "lanes.h"

namespace softpool_det {
namespace {

// p(f) ~ 2^f, the best of its degree for the relative error with p(0) = 1: 3e-6 for degree 4, 1e-7
// for degree 5. Degree 4 is for 16-bit tensors, whose own rounding is above 4e-4.
template <int degree>
SOFT_POOL_HD Floats power_of_fraction(Floats f, const float* c) {
  Floats p = broadcast(c[degree - 1]);
  for (int i = degree - 2; i >= 0; --i) {
    p = p * f + c[i];
  }
  return p * f + 1.f;
}

// 2^x: 0 below -127 and infinite above 128; NaN for NaN.
#if defined(__AVX512F__)
template <int degree>
SOFT_POOL_HD Floats exp2_of(Floats x) {
  // For f in [0, 1).
  static constexpr float kFour[] = {0.693044841f, 0.241280198f, 0.0522424728f, 0.0134266838f};
  static constexpr float kFive[] = {
      0.693151295f, 0.240164444f, 0.0557999127f, 0.00901703071f, 0.00186713005f};
  const __m512 power = bits_of<__m512>(x);
  const Floats fraction = bits_of<Floats>(_mm512_reduce_ps(power, _MM_FROUND_TO_NEG_INF));
  const Floats p = power_of_fraction<degree>(fraction, degree == 4 ? kFour : kFive);
  return bits_of<Floats>(_mm512_scalef_ps(bits_of<__m512>(p), power));
}
#else
template <int degree>
SOFT_POOL_HD Floats exp2_of(Floats x) {
  // For f in [-1/2, 1/2].
  static constexpr float kFour[] = {0.693124175f, 0.240240991f, 0.0559064262f, 0.00958285294f};
  static constexpr float kFive[] = {
      0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151299f, 0.00132647273f};
  constexpr float kRound = 12582912.f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  // 2^-127 has the bits of 0 below, 2^128 those of infinity.
  x = smaller(broadcast(128.f), larger(broadcast(-127.f), x));  // NaN passes
  const Floats shifted = x + kRound;
  const Floats p = power_of_fraction<degree>(x - (shifted - kRound), degree == 4 ? kFour : kFive);
  return p * bits_of<Floats>((bits_of<Words>(shifted) + 127u) << 23);
}
#endif

// What formula.h computes with, for tensors of element_t.
template <typename element_t>
struct LaneMath {  // float, and 16 bits
  using Number = float;
  using Real = Floats;
  static SOFT_POOL_HD Floats exp2(Floats x) { return exp2_of<sizeof(element_t) == 2 ? 4 : 5>(x); }
  // To an ulp, for x within 2^-126 and 2^126.
  static SOFT_POOL_HD Floats reciprocal(Floats x) {
#if defined(__AVX512F__)
    const Floats guess = bits_of<Floats>(_mm512_rcp14_ps(bits_of<__m512>(x)));
    return guess + guess * (1.f - x * guess);  // Newton's step doubles the 14 bits
#else
    return 1.f / x;
#endif
  }
};

template <>
struct LaneMath<double> {
  using Number = double;
  using Real = Lanes<double>;
  static SOFT_POOL_HD Real exp2(Real x) {
    for (int lane = 0; lane < kLanes<double>; ++lane) {
      x[lane] = ::exp2(x[lane]);
    }
    return x;
  }
  static SOFT_POOL_HD Real reciprocal(Real x) { return 1. / x; }
};

}  // namespace
}  // namespace softpool_det
