// The formula of SoftPool (Stergiou et al., ICCV 2021, Eq. (1)-(2), section 3.2, with a temperature),
// for one number or a vector of lanes, on host and device. Everything else in csrc is geometry and
// memory: whoever changes the pooling changes this file and softpool_det/ops/_reference.py.
//
// Of a window with the inputs x_i, the upstream gradient g and the maximum m:
//
//   e_i  = exp(beta * x_i)    or, where that leaves the type's range, exp(beta * (x_i - m))
//   out  = sum_i e_i x_i / sum_i e_i
//   slope = g / sum_i e_i     so that g w_i = slope e_i
//   grad_x_i  = slope e_i                               "paper"
//             = slope e_i (1 + beta (x_i - out))        "exact"
//   grad_beta = sum_i slope e_i (x_i - out)^2
//
// An input of several windows with common e_i needs their sums alone: S = sum slope and
// D = sum slope (x_i - out) = x_i S - sum slope out. Since sum_i e_i (x_i - out) = 0 in every window,
// grad_beta is sum_i e_i x_i D, too.
//
// -inf has weight 0; a window of nothing else, or of no input, has the output -inf and no gradient.
// With +inf the output is +inf. NaN propagates.
#pragma once

#include <float.h>

#include "axis.h"

namespace softpool_det {

// Where a search for the maximum starts. Finite, so that -inf lies at a distance from it.
template <typename Number>
constexpr Number kLowest = sizeof(Number) == 4 ? Number(-FLT_MAX) : Number(-DBL_MAX);

constexpr double kLog2E = 1.4426950408889634;

// `Math` has
//   Number, Real          a float or double; the same, or a vector of it
//   exp2(Real), reciprocal(Real)
template <typename Math>
struct SoftPool {
  using Real = typename Math::Real;
  using Number = typename Math::Number;

  Real beta_log2e;  // beta * log2(e), at most the largest finite number
  Real beta;        // the same; of the exact gradient alone

  // e_i of all windows that hold x.
  SOFT_POOL_HD Real weight(Real x) const { return Math::exp2(x * beta_log2e); }
  // x - maximum; 0 where both are infinite.
  static SOFT_POOL_HD Real distance(Real x, Real maximum) {
    return x == maximum ? Real{} : x - maximum;
  }
  // e_i at a distance from the window's maximum; 0 at -inf, whatever the temperature.
  SOFT_POOL_HD Real weight_at(Real distance) const {
    return distance < kLowest<Number> ? Real{} : Math::exp2(distance * beta_log2e);
  }
  // e_i d_i, of which nothing is left where e_i is 0, however far d_i.
  static SOFT_POOL_HD Real product(Real weight, Real distance) {
    return weight == 0 ? Real{} : weight * distance;
  }

  // Weighted mean, from sum e_i and sum e_i x_i (or d_i).
  static SOFT_POOL_HD Real mean(Real total, Real product) {
    return product * Math::reciprocal(total);
  }

  // grad_x_i, from e_i, S and D.
  template <bool exact>
  SOFT_POOL_HD Real gradient(Real weight, Real slope, Real deviation) const {
    return weight * (exact ? slope + beta * deviation : slope);
  }
};

// What is pooled: x, or relu(x * scale + bias), as after a frozen batch norm.
template <bool affine, typename Real>
struct Activation {
  Real scale, bias;

  SOFT_POOL_HD Real operator()(Real x) const {
    if (!affine) {
      return x;
    }
    const Real line = x * scale + bias;
    return line < 0 ? Real{} : line;
  }
  // The gradient of x, from that of what is pooled. NaN passes.
  SOFT_POOL_HD Real gradient(Real gradient, Real pooled) const {
    return !affine ? gradient : pooled <= 0 ? Real{} : gradient * scale;
  }
};

}  // namespace softpool_det
