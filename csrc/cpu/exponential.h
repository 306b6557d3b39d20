// exp() and 1 / x of many numbers at once, in each instruction set's cheapest operations.
#pragma once

#include "elements.h"

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

constexpr float kLog2E = 1.44269504f;

// exp(x): 0 below -88 and infinite above 89 without any trap between; NaN for NaN. The rounding of
// x * log2(e) costs a relative error of |x| * 2^-24, what rounding x itself would cost.
#if defined(__AVX512F__)
template <int degree>
SOFT_POOL_HD Floats exponential(Floats x) {
  // For f in [0, 1).
  static constexpr float kFour[] = {0.693044841f, 0.241280198f, 0.0522424728f, 0.0134266838f};
  static constexpr float kFive[] = {
      0.693151295f, 0.240164444f, 0.0557999127f, 0.00901703071f, 0.00186713005f};
  const __m512 power = bits_of<__m512>(x * kLog2E);
  const Floats fraction = bits_of<Floats>(_mm512_reduce_ps(power, _MM_FROUND_TO_NEG_INF));
  const Floats p = power_of_fraction<degree>(fraction, degree == 4 ? kFour : kFive);
  return bits_of<Floats>(_mm512_scalef_ps(bits_of<__m512>(p), power));
}
#else
template <int degree>
SOFT_POOL_HD Floats exponential(Floats x) {
  // For f in [-1/2, 1/2].
  static constexpr float kFour[] = {0.693124175f, 0.240240991f, 0.0559064262f, 0.00958285294f};
  static constexpr float kFive[] = {
      0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151299f, 0.00132647273f};
  constexpr float kRound = 12582912.f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  Floats power = x * kLog2E;
  power = power < -127.f ? broadcast(-127.f) : power;  // 2^-127 has the bits of 0 below,
  power = power > 128.f ? broadcast(128.f) : power;    // 2^128 those of infinity
  const Floats shifted = power + kRound;
  const Floats p =
      power_of_fraction<degree>(power - (shifted - kRound), degree == 4 ? kFour : kFive);
  return p * bits_of<Floats>((bits_of<Words>(shifted) + 127u) << 23);
}
#endif

// 1 / x to an ulp, for x within 2^-126 and 2^126.
#if defined(__AVX512F__)
SOFT_POOL_HD Floats reciprocal(Floats x) {
  const Floats guess = bits_of<Floats>(_mm512_rcp14_ps(bits_of<__m512>(x)));
  return guess + guess * (1.f - x * guess);  // Newton's step doubles the 14 bits
}
#else
SOFT_POOL_HD Floats reciprocal(Floats x) { return 1.f / x; }
#endif
SOFT_POOL_HD Lanes<double> reciprocal(Lanes<double> x) { return 1. / x; }

template <int degree>
SOFT_POOL_HD Lanes<double> exponential(Lanes<double> x) {
  for (int lane = 0; lane < kLanes<double>; ++lane) {
    x[lane] = exp(x[lane]);
  }
  return x;
}

}  // namespace
}  // namespace softpool_det
