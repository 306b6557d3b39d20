// Any windows, each by itself: what every tensor can take.
#pragma once

#include "problem.cuh"

namespace softpool_det::cuda {

// V lanes: neighbouring channels of one window or input, or neighbours in a row (see Cells).
template <typename Problem_, int V, bool along_columns = false>
struct ChannelLanes {
  using Problem = Problem_;
  using scalar_t = typename Problem::scalar_t;
  using index_t = typename Problem::index_t;
  using real = typename Problem::real;
  static constexpr int kKernel = 0;  // any
  static constexpr int kLanes = V;
  static constexpr int kChannelLanes = along_columns ? 1 : V;  // channels of an item
  static constexpr int kColumnLanes = along_columns ? V : 1;

  const Problem& problem;
  int64_t image;
  index_t channel;
  ChannelFormula<real, V> channels;

  SOFT_POOL_HD ChannelLanes(const Problem& problem_, const index_t* at)
      : problem(problem_),
        image(at[kImages]),
        channel(at[kChannels] * V),
        channels(problem_, channel + problem_.first_channel(at[kImages]), along_columns) {}

  SOFT_POOL_HD int64_t input_at(index_t z, index_t y, index_t x) const {
    return problem.input_at(image, z, y, x) + channel;
  }
  SOFT_POOL_HD int64_t output_at(index_t z, index_t y, index_t x) const {
    return problem.output_at(image, z, y, x) + channel;
  }
  SOFT_POOL_HD int64_t output_at(const index_t* at) const {
    return output_at(at[kDepth], at[kRows], at[kColumns] * kColumnLanes);
  }
  SOFT_POOL_HD void load_pooled(int64_t place, real (&values)[V]) const {
    load_pack(problem.input + place, values);
    SOFT_POOL_FOR(l, V) values[l] = channels.pooled(values[l], l);
  }
  // 0 without windows.
  SOFT_POOL_HD void load_upstream(const index_t* at, real (&upstream)[V]) const {
    SOFT_POOL_FOR(l, V) upstream[l] = 0;
    if (at[kRows] < problem.axes[1].out_size &&
        at[kColumns] * kColumnLanes < problem.axes[2].out_size) {
      load_pack(problem.grad_output + output_at(at), upstream);
    }
  }

  // Taps `skipped`, skipped + step, ... of those inside the input.
  template <typename Body>
  SOFT_POOL_HD void for_each_tap(
      const index_t* at, index_t skipped, index_t step, const Body& body) const {
    const auto& axes = problem.axes;
    const index_t first_y = axes[1].first_tap(at[kRows]), first_x = axes[2].first_tap(at[kColumns]);
    const index_t last_y = axes[1].last_tap(at[kRows]), last_x = axes[2].last_tap(at[kColumns]);
    const index_t last_z = first_x < last_x ? axes[0].last_tap(at[kDepth]) : 0;
    for (index_t tap = axes[0].first_tap(at[kDepth]); tap < last_z; ++tap) {
      const index_t z = axes[0].start(at[kDepth]) + tap * axes[0].dilation;
      for (index_t row = first_y; row < last_y; ++row) {
        const index_t y = axes[1].start(at[kRows]) + row * axes[1].dilation;
        index_t column = first_x + skipped;
        for (; column < last_x; column += step) {
          const index_t x = axes[2].start(at[kColumns]) + column * axes[2].dilation;
          real values[V];
          load_pooled(input_at(z, y, x), values);
          body(values);
        }
        skipped = column - last_x;
      }
    }
  }
  // Of the taps first, first + step, ..., read twice, the second time from the cache.
  SOFT_POOL_HD void find_sums(
      const index_t* at, index_t first, index_t step, Sums<real> (&sums)[V]) const {
    for_each_tap(at, first, step, [&](const real(&values)[V]) {
      SOFT_POOL_FOR(l, V) sums[l].see(values[l]);
    });
    for_each_tap(at, first, step, [&](const real(&values)[V]) {
      SOFT_POOL_FOR(l, V) sums[l].add(channels.formula[l], values[l]);
    });
  }
};

// What the windows of an item give to their inputs.
template <typename Lanes, typename real, int V>
SOFT_POOL_HD WindowGradients<real, V> gradients_of(
    const Lanes& lanes, const typename Lanes::index_t* at, const Sums<real> (&sums)[V]) {
  real upstream[V];
  lanes.load_upstream(at, upstream);
  WindowGradients<real, V> result;
  SOFT_POOL_FOR(l, V) result.lane[l] = {sums[l], upstream[l]};
  return result;
}

// An item is V windows. Forward, their outputs; backward, what Gather needs of them.
template <typename Lanes>
struct PoolWindows : Kernel<Lanes> {
  using typename Kernel<Lanes>::index_t;
  using typename Kernel<Lanes>::real;
  using Kernel<Lanes>::V;
  WindowGradients<real, V>* gradients;  // null: forward
  // Whether an item is a block's, for windows of more taps than one thread should read: threads
  // share the taps and then merge what they found, in a fixed order.
  bool by_block;

  SOFT_POOL_HD int phases() const { return by_block ? 1 + kThreadBits : 1; }
  int64_t shared_bytes() const { return by_block ? kThreads * V * int64_t(sizeof(Sums<real>)) : 0; }
  SOFT_POOL_HD void operator()(Thread<Lanes>& self) const {
    const uint32_t half = uint32_t(kThreads) >> self.phase;
    index_t at[kDirections];
    if (!this->find_item(self.block, by_block ? 0 : self.thread, at) ||
        (self.phase > 0 && self.thread >= half)) {
      return;
    }
    const Lanes lanes(this->problem, at);
    Sums<real> sums[V];
    if (self.phase == 0) {
      const index_t first = by_block ? static_cast<index_t>(self.thread) : 0;
      lanes.find_sums(at, first, by_block ? kThreads : 1, sums);
    }
    if (by_block) {
      SOFT_POOL_FOR(l, V) {
        Sums<real>* found = static_cast<Sums<real>*>(self.shared) + l * kThreads + self.thread;
        if (self.phase > 0) {
          sums[l] = *found;
          sums[l].merge(lanes.channels.formula[l], found[half]);
        }
        *found = sums[l];
      }
      if (half > 1) {
        return;
      }
    }
    if (gradients != nullptr) {
      gradients[lanes.output_at(at) / V] = gradients_of(lanes, at, sums);
    } else {
      real outputs[V];
      SOFT_POOL_FOR(l, V) outputs[l] = sums[l].output();
      store_pack(this->problem.result + lanes.output_at(at), outputs);
    }
  }
};

// An item is V inputs, for which a thread goes through the windows that hold them.
template <typename Lanes>
struct Gather : Kernel<Lanes> {
  using typename Kernel<Lanes>::index_t;
  using typename Kernel<Lanes>::real;
  using Kernel<Lanes>::V;
  const WindowGradients<real, V>* windows;

  SOFT_POOL_HD int phases() const { return 1 + this->sum_phases(); }
  int64_t shared_bytes() const { return this->sum_bytes(); }
  SOFT_POOL_HD void operator()(Thread<Lanes>& self) const {
    index_t at[kDirections];
    if (self.phase > 0) {
      return this->add_up(self.phase - 1, self);
    }
    if (!this->find_item(self.block, self.thread, at)) {
      return;
    }
    const Lanes lanes(this->problem, at);
    const int64_t place = lanes.input_at(at[kDepth], at[kRows], at[kColumns]);
    real values[V], gradients[V] = {};
    lanes.load_pooled(place, values);
    for_each_window(at, [&](index_t z, index_t y, index_t x) {
      const WindowGradients<real, V> found = windows[lanes.output_at(z, y, x) / V];
      SOFT_POOL_FOR(l, V) {
        found.lane[l].add(
            lanes.channels.formula[l], this->problem.exact, values[l], gradients[l],
            self.grad_beta[l]);
      }
    });
    SOFT_POOL_FOR(l, V) gradients[l] = lanes.channels.gradient(gradients[l], values[l], l);
    store_pack(this->problem.result + place, gradients);
  }

  template <typename Body>
  SOFT_POOL_HD void for_each_window(const index_t* at, const Body& body) const {
    const auto& axes = this->problem.axes;
    index_t first[3], last[3];
    SOFT_POOL_FOR(a, 3) {
      first[a] = axes[a].first_window(at[kDepth - a]);
      last[a] = axes[a].last_window(at[kDepth - a]);
    }
    for (index_t z = first[0]; z < last[0]; ++z) {
      for (index_t y = first[1]; y < last[1]; ++y) {
        const bool row = axes[0].has_tap(z, at[kDepth]) && axes[1].has_tap(y, at[kRows]);
        for (index_t x = row ? first[2] : last[2]; x < last[2]; ++x) {
          if (axes[2].has_tap(x, at[kColumns])) {
            body(z, y, x);
          }
        }
      }
    }
  }
};

}  // namespace softpool_det::cuda
