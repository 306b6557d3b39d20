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

#include <type_traits>

#include "axis.h"

namespace softpool_det {

// What a tensor's elements are computed in.
template <typename scalar_t>
using acc_type_t = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;

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
  Real beta;        // for the exact gradient; 0 in the paper's, and at infinity

  // e_i, the same in all windows that hold x.
  SOFT_POOL_HD Real weight(Real x) const { return Math::exp2(x * beta_log2e); }
  // weight(x) / weight(maximum), of finite numbers.
  SOFT_POOL_HD Real weight_below(Real maximum, Real x) const { return weight(x - maximum); }

  // grad_x_i, from e_i, S and D.
  template <bool exact>
  SOFT_POOL_HD Real gradient(Real, Real weight, Real slope, Real deviation) const {
    return weight * (exact ? slope + beta * deviation : slope);
  }
  // What x_i adds to grad_beta, from e_i and D. A number that its windows share may be subtracted
  // from x: out, or their maximum.
  static SOFT_POOL_HD Real beta_term(Real x, Real weight, Real deviation) {
    return weight * x * deviation;
  }
};

// An input below its window's maximum, infinite or not.
template <typename Formula>
struct Below {
  using Real = typename Formula::Real;
  Real distance;  // x - maximum; 0 where both are infinite
  Real weight;    // 0 at -inf, whatever the temperature

  SOFT_POOL_HD Below(const Formula& formula, Real maximum, Real x)
      : distance(x == maximum ? Real{} : x - maximum),
        weight(
            x == maximum                                      ? Real{} + 1
                : distance < kLowest<typename Formula::Number> ? Real{}
                                                               : formula.weight_below(maximum, x)) {}
  // weight * distance, of which nothing is left where the weight is 0, however far the distance.
  static SOFT_POOL_HD Real product(Real weight, Real distance) {
    return weight == 0 ? Real{} : weight * distance;
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
