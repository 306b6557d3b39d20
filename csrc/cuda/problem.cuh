// What kernels read and write, formula.h for a thread's V lanes, and what kernels have in common.
#pragma once

#include <math.h>

#include "../formula.h"
#include "geometry.cuh"

namespace softpool_det::cuda {

// Of formula.h, for one lane. Floats on the device: to 2 units in the last place, and 0 below the
// normal range.
template <typename real>
struct Math {
  using Number = real;
  using Real = real;

  static SOFT_POOL_HD real exp2(real x) {
#if defined(__CUDA_ARCH__)
    if constexpr (sizeof(real) == 4) {
      asm("ex2.approx.ftz.f32 %0, %0;" : "+f"(x));
      return x;
    }
#endif
    return ::exp2(x);
  }
  static SOFT_POOL_HD real reciprocal(real x) {
#if defined(__CUDA_ARCH__)
    if constexpr (sizeof(real) == 4) {
      asm("rcp.approx.ftz.f32 %0, %0;" : "+f"(x));
      return x;
    }
#endif
    return real(1) / x;
  }
};

template <typename real>
using Formula = SoftPool<Math<real>>;
template <typename real>
using Input = Below<Formula<real>>;

// What padding holds.
template <typename real>
constexpr real kNothing = -std::numeric_limits<real>::infinity();

// Numbers that are read and written in one go: their address has to allow it.
template <typename scalar_t, int count>
struct alignas(sizeof(scalar_t) * count) Pack {
  scalar_t lane[count];
};

template <typename scalar_t, typename real, int count>
SOFT_POOL_HD void load_pack(const scalar_t* from, real (&values)[count]) {
  const auto pack = *reinterpret_cast<const Pack<scalar_t, count>*>(from);
  SOFT_POOL_FOR(l, count) values[l] = static_cast<real>(pack.lane[l]);
}

template <typename scalar_t, typename real, int count>
SOFT_POOL_HD void store_pack(scalar_t* to, const real (&values)[count]) {
  Pack<scalar_t, count> pack;
  SOFT_POOL_FOR(l, count) pack.lane[l] = static_cast<scalar_t>(values[l]);
  *reinterpret_cast<Pack<scalar_t, count>*>(to) = pack;
}

template <typename scalar_t_, typename index_t_>
struct Problem {
  using scalar_t = scalar_t_;
  using index_t = index_t_;
  using real = acc_type_t<scalar_t>;

  const scalar_t *input, *grad_output;
  scalar_t* result;                 // output, or grad_input
  const real *betas, *scale, *bias;  // by channel, or null
  real* parts;                      // of grad_betas, by block; null: not wanted
  real beta;                        // without betas
  bool exact;
  DeviceAxis<index_t> axes[3];
  index_t pixel_stride;               // elements between neighbours in a row: an image's channels
  int64_t input_numel, output_numel;  // of an image
  Divisor<index_t> channels_div;  // of contiguous tensors, whose channels are images; else 1

  SOFT_POOL_HD int64_t input_at(int64_t image, index_t z, index_t y, index_t x) const {
    return image * input_numel + ((z * axes[1].size + y) * axes[2].size + x) * pixel_stride;
  }
  SOFT_POOL_HD int64_t output_at(int64_t image, index_t z, index_t y, index_t x) const {
    return image * output_numel +
        ((z * axes[1].out_size + y) * axes[2].out_size + x) * pixel_stride;
  }
  // Channel of an image's first element.
  SOFT_POOL_HD index_t first_channel(index_t image) const {
    return image - image / channels_div * channels_div;
  }
};

// What differs between channels, by lane.
template <typename real, int V>
struct ChannelFormula {
  Formula<real> formula[V];
  Activation<true, real> activation[V];
  bool affine;

  // Of a channel and those behind it, or of the one alone.
  template <typename Problem>
  SOFT_POOL_HD ChannelFormula(const Problem& problem, int64_t channel, bool one_channel)
      : affine(problem.scale != nullptr) {
    constexpr real kMost = -kLowest<real>;
    SOFT_POOL_FOR(l, V) {
      const int64_t at = channel + (one_channel ? 0 : l);
      const real beta = problem.betas == nullptr ? problem.beta : problem.betas[at];
      const real scaled = beta * static_cast<real>(kLog2E);
      // The limit of the exact gradient at infinity is the paper's.
      formula[l] = {scaled > kMost ? kMost : scaled, beta > kMost ? real(0) : beta};
      activation[l] = {affine ? problem.scale[at] : real(1), affine ? problem.bias[at] : real(0)};
    }
  }
  SOFT_POOL_HD real pooled(real x, int l) const { return affine ? activation[l](x) : x; }
  SOFT_POOL_HD real gradient(real gradient, real pooled, int l) const {
    return affine ? activation[l].gradient(gradient, pooled) : gradient;
  }
};

// A window's sums below its maximum, which has to be known before the first is added.
template <typename real>
struct Sums {
  real maximum = kLowest<real>, total = 0, product = 0;

  SOFT_POOL_HD void see(real x) { maximum = x > maximum ? x : maximum; }
  SOFT_POOL_HD void add(const Formula<real>& formula, real x) {
    const Input<real> input(formula, maximum, x);
    total += input.weight;
    product += Input<real>::product(input.weight, input.distance);
  }
  // Adds the sums of other inputs of the same window.
  SOFT_POOL_HD void merge(const Formula<real>& formula, const Sums& other) {
    const Sums both[2] = {*this, other};
    *this = {other.maximum > maximum ? other.maximum : maximum, 0, 0};
    SOFT_POOL_FOR(i, 2) {
      const Input<real> input(formula, maximum, both[i].maximum);
      total += input.weight * both[i].total;
      product += Input<real>::product(
          input.weight,
          both[i].product + Input<real>::product(both[i].total, input.distance));
    }
  }
  SOFT_POOL_HD real mean_distance() const {
    return total == 0 ? real(0) : product * Math<real>::reciprocal(total);
  }
  SOFT_POOL_HD real output() const {
    return total == 0 ? kNothing<real> : maximum + mean_distance();
  }
};

// What the gradients of a window's inputs are made of.
template <typename real>
struct WindowGradient {
  real maximum, slope, mean_distance;

  WindowGradient() = default;
  SOFT_POOL_HD WindowGradient(const Sums<real>& sums, real upstream)
      : maximum(sums.maximum),
        slope(sums.total == 0 ? real(0) : upstream * Math<real>::reciprocal(sums.total)),
        mean_distance(sums.mean_distance()) {}

  // Adds the gradient of an input x, and what x adds to that of the temperature.
  SOFT_POOL_HD void add(
      const Formula<real>& formula, bool exact, real x, real& gradient, real& grad_beta) const {
    const Input<real> input(formula, maximum, x);
    const real weight = input.weight;
    const real distance = weight == 0 ? real(0) : input.distance - mean_distance;  // from the output
    const real deviation = slope * distance;
    gradient += exact ? formula.template gradient<true>(x, weight, slope, deviation)
                      : formula.template gradient<false>(x, weight, slope, deviation);
    grad_beta += formula.beta_term(distance, weight, deviation);
  }
};

// V of them, read and written in one go.
template <typename real, int V>
struct alignas(sizeof(real) * V) WindowGradients {
  WindowGradient<real> lane[V];
};

// Where a kernel's body is run: in phases with barriers between them.
template <typename Lanes>
struct Thread {
  int phase;
  uint32_t block, thread;
  void* shared;  // memory of the block
  typename Lanes::real grad_beta[Lanes::kChannelLanes];
};

// What kernels have in common. `Lanes` are what a thread takes side by side, an item of `tiles`.
template <typename Lanes_>
struct Kernel {
  using Lanes = Lanes_;
  using index_t = typename Lanes::index_t;
  using real = typename Lanes::real;
  static constexpr int V = Lanes::kLanes;
  typename Lanes::Problem problem;
  Tiles<index_t> tiles;

  // Whether a thread has an item, and where.
  SOFT_POOL_HD bool find_item(uint32_t block, uint32_t thread, index_t* at) const {
    tiles.first_item(block, at);
    return tiles.advance(thread, at);
  }
  // The last phases of a backward kernel: a block's part of grad_betas, in a fixed order.
  SOFT_POOL_HD int sum_phases() const {
    return problem.parts == nullptr ? 0 : 1 + kThreadBits - tiles.bits[kChannels];
  }
  int64_t sum_bytes() const {
    return problem.parts == nullptr ? 0 : kThreads * Lanes::kChannelLanes * int64_t(sizeof(real));
  }
  // Phase `step` of them: of threads with the same channels, one half is added to the other.
  SOFT_POOL_HD void add_up(int step, const Thread<Lanes>& self) const {
    const uint32_t half = uint32_t(kThreads) >> step, channels = 1u << tiles.bits[kChannels];
    const int64_t tile = static_cast<int32_t>(self.block) / tiles.tiles[kChannels];
    index_t at[kDirections];
    const bool last =
        half == channels && self.thread < half && find_item(self.block, self.thread, at);
    SOFT_POOL_FOR(l, Lanes::kChannelLanes) {
      real* sum = static_cast<real*>(self.shared) + l * kThreads + self.thread;
      if (step == 0) {
        *sum = self.grad_beta[l];
      } else if (self.thread < half) {
        *sum += sum[half];
      }
      if (last) {
        const int64_t channel = int64_t(at[kChannels]) * Lanes::kChannelLanes + l;
        problem.parts[tile * problem.pixel_stride + channel] = *sum;
      }
    }
  }
};

}  // namespace softpool_det::cuda
