// The backward kernel for windows that share no inputs.
#pragma once

#include "columns.cuh"

namespace softpool_det::cuda {

// Windows of 2 x 2 with stride 2 and no padding: each input is in one window at most. An item is
// some cells of 2 x 2 inputs side by side, with or without a window. No thread reads what another
// writes.
template <typename Lanes>
struct BackwardDisjoint {
  using index_t = typename Lanes::index_t;
  using acc_t = typename Lanes::acc_t;
  static constexpr int V = Lanes::kWindows;
  typename Lanes::Problem problem;
  Tiles<index_t> tiles;  // of cells

  SOFT_POOL_HD void operator()(uint32_t block, uint32_t thread) const {
    index_t at[kDirections];
    tiles.first_item(block, at);
    if (!tiles.advance(thread, at)) {
      return;
    }
    const Lanes lanes(problem, at);
    acc_t values[Lanes::kTaps][V], upstream[V] = {};
    lanes.load(at, values);
    const bool has_windows = at[kRows] < problem.axes[1].out_size &&
        at[kColumns] * Lanes::kColumnStep < problem.axes[2].out_size;
    if (has_windows) {
      lanes.load_upstream(at, upstream);
    }
    const auto value = [&](int t, int l) { return values[t][l]; };
    const auto sums = sums_of<Lanes::kTaps, V, acc_t>(value);
    acc_t gradients[Lanes::kTaps][V];
    if (sums.any_infinite()) {
      find_gradients<true>(values, upstream, sums, gradients);
    } else {
      find_gradients<false>(values, upstream, sums, gradients);
    }
    // Also where NaN is not in any window.
    SOFT_POOL_UNROLL
    for (int l = 0; l < V; ++l) {
      if (!has_windows ||
          (Lanes::kColumnStep > 1 && at[kColumns] * V + l >= problem.axes[2].out_size)) {
        SOFT_POOL_UNROLL
        for (int t = 0; t < Lanes::kTaps; ++t) {
          gradients[t][l] = acc_t(0);
        }
      }
    }
    if (lanes.affine.on) {
      SOFT_POOL_UNROLL
      for (int t = 0; t < Lanes::kTaps * V; ++t) {
        acc_t& gradient = gradients[t / V][t % V];
        const int lane = Lanes::kColumnStep == 1 ? t % V : 0;
        gradient = lanes.affine.gradient(gradient, values[t / V][t % V], lane);
      }
    }
    lanes.store(at, gradients);
  }

  template <bool infinite>
  SOFT_POOL_HD void find_gradients(
      const acc_t (&values)[Lanes::kTaps][V], const acc_t (&upstream)[V],
      const Sums<acc_t, V>& sums, acc_t (&gradients)[Lanes::kTaps][V]) const {
    const acc_t slope = problem.exact ? acc_t(1) : acc_t(0);
    SOFT_POOL_UNROLL
    for (int l = 0; l < V; ++l) {
      const Share<acc_t> share(upstream[l], sums.total[l], sums.shift[l], problem.exact);
      SOFT_POOL_UNROLL
      for (int t = 0; t < Lanes::kTaps; ++t) {
        const acc_t d = distance<infinite>(values[t][l], sums.maximum[l]);
        gradients[t][l] = gradient_of(d, share.weight, share.offset, slope);
      }
    }
  }
};

}  // namespace softpool_det::cuda
