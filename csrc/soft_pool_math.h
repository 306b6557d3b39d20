// The arithmetic of one SoftPool window (Stergiou et al., ICCV 2021, Eq. (1)-(2), section 3.2), for
// host and device alike.
//
// With the window's maximum m and d_i = a_i - m <= 0,
//
//   w_i      = exp(d_i) / sum_j exp(d_j)
//   shift    = sum_i w_i d_i              (in [1 - count, 0]: it cannot overflow)
//   out      = m + shift                  (= sum_i w_i a_i)
//   paper    : grad_input_i = grad_output * w_i
//   exact    : grad_input_i = grad_output * w_i * (1 + d_i - shift)
//
// -inf has weight 0, so that padding may be treated as -inf. A window of nothing else has the
// output -inf and no gradient. +inf has distance 0 to a maximum of +inf. NaN propagates.
#pragma once

#include <torch/headeronly/util/bit_cast.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "axis.h"

namespace softpool_det {

// Distances below this count as this: exp() of it is 0 in the type's normal range.
template <typename acc_t>
constexpr acc_t kFarthest = sizeof(acc_t) == 4 ? acc_t(-88) : acc_t(-750);

// Where a search for the maximum starts. It is finite so that -inf lies at a distance from it.
template <typename acc_t>
constexpr acc_t kLowest = std::numeric_limits<acc_t>::lowest();

// d_i, clamped at kFarthest. `maximum` must be at least kLowest.
template <typename acc_t>
SOFT_POOL_HD acc_t distance_to_maximum(acc_t value, acc_t maximum) {
  const acc_t distance = value == maximum ? acc_t(0) : value - maximum;
  return distance < kFarthest<acc_t> ? kFarthest<acc_t> : distance;
}

// exp() of a clamped distance; exactly 1 at 0, exactly 0 at kFarthest.
SOFT_POOL_HD double exp_of_distance(double distance) {
  return exp(distance);
}

#if defined(__CUDA_ARCH__)
// 2^(distance / ln(2)) to 2 units in the last place. What falls below the normal range, as at
// kFarthest, is flushed to 0.
SOFT_POOL_HD float exp_of_distance(float distance) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(distance * 1.44269504f));
  return result;
}
#else
// 2^n * exp(r) with |r| <= ln(2) / 2, in operations that every compiler vectorises. The polynomial
// is the best of its degree for the relative error (3e-9) with exp(0) = 1; the rest is rounding.
// At kFarthest n is -127, whose biased exponent makes 2^n the number 0.
SOFT_POOL_HD float exp_of_distance(float distance) {
  constexpr float kRound = 12582912.f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  const float shifted = distance * 1.44269504f + kRound;
  const float n = shifted - kRound;
  // ln(2) in two parts, the first with trailing zero bits so that n times it is exact.
  const float r = (distance - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.38146128e-3f;
  p = p * r + 8.36871006e-3f;
  p = p * r + 4.16683890e-2f;
  p = p * r + 1.66665211e-1f;
  p = p * r + 4.99999940e-1f;
  p = p * r * r + r + 1.f;
  const auto exponent = (c10::bit_cast<uint32_t>(shifted) + 127u) << 23;
  return p * c10::bit_cast<float>(exponent);
}
#endif

// out, from the window's maximum, sum of exp(d_i) and shift.
template <typename acc_t>
SOFT_POOL_HD acc_t pooled_value(acc_t maximum, acc_t total, acc_t shift) {
  return total == acc_t(0) ? -std::numeric_limits<acc_t>::infinity() : maximum + shift;
}

// 1 / total, and 0 for a window without any weight.
template <typename acc_t>
SOFT_POOL_HD acc_t inverse_total(acc_t total) {
  return total == acc_t(0) ? acc_t(0) : acc_t(1) / total;
}

// d out / d a_i ("exact") or what the paper takes for it.
template <bool exact, typename acc_t>
SOFT_POOL_HD acc_t gradient_factor(acc_t weight, acc_t distance, acc_t shift) {
  return exact ? weight * (acc_t(1) + distance - shift) : weight;
}

}  // namespace softpool_det
