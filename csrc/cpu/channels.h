// A tile's numbers by channel, as lanes.
#pragma once

#include "../formula.h"
#include "elements.h"

namespace softpool_det {
namespace {

template <typename element_t, bool affine>
struct Channels {
  using real = real_of<element_t>;
  using Real = Lanes<real>;
  SoftPool<LaneMath<element_t>> formula;
  Activation<affine, Real> activation;

  // Of the channels from `channel` on, one in every lane; contiguous: of one channel, in all lanes.
  SOFT_POOL_HD Channels(const Parameters& parameters, bool contiguous, int64_t channel) {
    const auto lanes = [&](const void* numbers) {
      const auto* source = static_cast<const real*>(numbers);
      return contiguous ? broadcast(*source) : Elements<real>::load(source + channel);
    };
    formula = {lanes(parameters.beta_log2e), lanes(parameters.beta)};
    if (affine) {
      activation = {lanes(parameters.scale), lanes(parameters.bias)};
    }
  }
};

template <typename real>
SOFT_POOL_HD void fill(real* target, int64_t count, real value) {
  for (int64_t i = 0; i < count; ++i) {
    target[i] = value;
  }
}

// `value` in the lanes [begin, end), `other` in those beside.
template <typename real>
SOFT_POOL_HD Lanes<real> between(int64_t begin, int64_t end, Lanes<real> value, real other) {
  using Index = ShuffleIndex<sizeof(real)>;
  const auto first = static_cast<Index>(begin), last = static_cast<Index>(end);
  const Lanes<Index> lane = lane_numbers<Index>();
  return (lane >= first) & (lane < last) ? value : broadcast(other);
}

// Adds lanes to a tile's grad_beta.
template <typename real>
SOFT_POOL_HD void add_to_channels(
    void* grad_beta, bool contiguous, int64_t channel, Lanes<real> value) {
  auto* target = static_cast<real*>(grad_beta);
  if (!contiguous) {
    Elements<real>::store(target + channel, Elements<real>::load(target + channel) + value);
    return;
  }
  for (int lane = 0; lane < kLanes<real>; ++lane) {
    *target += value[lane];
  }
}

}  // namespace
}  // namespace softpool_det
