// The backward kernel for any windows.
#pragma once

#include "columns.cuh"

namespace softpool_det::cuda {

// A block owns a tile of inputs. It finds the sums of the windows that touch its tile, its
// neighbours' too (or reads them, see large_windows.cuh), keeps them in shared memory and then
// gathers for every input. Where the windows are too many for the shared memory it goes over them in
// several steps. Every element of grad_input is computed by one thread in a fixed order, without
// atomics: results do not change from run to run.
template <typename Lanes>
struct BackwardTile {
  using index_t = typename Lanes::index_t;
  using acc_t = typename Lanes::acc_t;
  static constexpr int V = Lanes::kWindows;
  static constexpr int kThreadBits = 7;
  static constexpr int kThreads = 1 << kThreadBits;
  // On a multiprocessor, as its registers allow: while some wait at a barrier others compute.
  static constexpr int kBlocks = sizeof(acc_t) == 8 || Lanes::kTaps * V > 30 ? 4 : 5;
  typename Lanes::Problem problem;
  Tiles<index_t> tiles;  // of inputs
  int32_t steps[3];      // along depth, rows and columns
  int32_t span[3];       // a step's windows along them; in items along the columns
  Divisor<int32_t> spans[3];
  int32_t slots;         // items of windows in shared memory
  uint32_t items;        // of a tile; no more than there are threads where there are several steps
  Statistics<acc_t, V> statistics;  // of large windows, by LargeWindows; else without memory

  // A thread's gradients from step to step.
  struct State {
    acc_t gradients[Lanes::kInputs];
  };
  // A step's windows [first, last) along each dimension; in items along the columns.
  struct Windows {
    index_t first[3], last[3];
  };

  SOFT_POOL_HD int32_t step_count() const {
    return steps[0] * steps[1] * steps[2];
  }
  void set_span(int a, int64_t windows) {
    span[a] = static_cast<int32_t>(windows);
    spans[a] = Divisor<int32_t>(windows);
    slots = static_cast<int32_t>(std::min(slot_count(), int64_t(1) << 30));
  }
  int64_t slot_count() const {
    const int64_t rows = std::min(int64_t(span[0]) * span[1], int64_t(1) << 30);
    return (rows * span[2]) << (tiles.bits[kChannels] + tiles.bits[kImages]);
  }
  int64_t shared_bytes() const {
    return 3 * int64_t(slots) * V * static_cast<int64_t>(sizeof(acc_t));
  }

  SOFT_POOL_HD Windows windows_of(const index_t* tile, int32_t step) const {
    Windows result;
    SOFT_POOL_UNROLL
    for (int a = 2; a >= 0; --a) {
      const int direction = kDepth - a;
      constexpr int kWide = Lanes::kInputs / V;  // 2 where items are 2 V columns
      const index_t inputs = a == 2 && kWide > 1 ? Lanes::kInputs : 1;
      const index_t first = tile[direction] * inputs;
      index_t last = ((tile[direction] + (index_t(1) << tiles.bits[direction])) * inputs) - 1;
      last = last < problem.axes[a].size ? last : problem.axes[a].size - 1;
      index_t low = problem.axes[a].first_window(first);
      index_t high = problem.axes[a].last_window(last);
      if (a == 2 && kWide > 1) {
        low = low / V;
        high = (high + V - 1) / V;
      }
      int32_t part = 0;
      if (step > 0) {
        part = step % steps[a];
        step /= steps[a];
      }
      result.first[a] = low + part * static_cast<index_t>(span[a]);
      const index_t end = result.first[a] + span[a];
      result.last[a] = high < end ? high : end;
    }
    return result;
  }

  // Phase 1: the windows' sums into shared memory, every slot by one thread. Returns whether a
  // maximum is +inf.
  SOFT_POOL_HD bool find_windows(
      uint32_t block, uint32_t thread, int32_t step, acc_t* shared) const {
    index_t tile[kDirections];
    tiles.first_item(block, tile);
    const Windows windows = windows_of(tile, step);
    const Statistics<acc_t, V> kept{reinterpret_cast<Pack<acc_t, V>*>(shared), slots};
    bool infinite = false;
    SOFT_POOL_NO_UNROLL
    for (int32_t slot = static_cast<int32_t>(thread); slot < slots; slot += kThreads) {
      const int32_t channel = slot & ((1 << tiles.bits[kChannels]) - 1);
      const int32_t plane = slot >> tiles.bits[kChannels];
      const int32_t row = spans[2].quotient(plane);
      const int32_t depth = spans[1].quotient(row);
      const int32_t image = spans[0].quotient(depth);
      const index_t at[kDirections] = {
          tile[kChannels] + channel, windows.first[2] + (plane - row * span[2]),
          windows.first[1] + (row - depth * span[1]), windows.first[0] + (depth - image * span[0]),
          tile[kImages] + image};
      if (at[kChannels] >= tiles.counts[kChannels] || at[kImages] >= tiles.counts[kImages] ||
          at[kColumns] >= windows.last[2] || at[kRows] >= windows.last[1] ||
          at[kDepth] >= windows.last[0]) {
        continue;
      }
      const Lanes lanes(problem, at);
      if constexpr (Lanes::kTaps == 0) {
        if (statistics.packs != nullptr) {
          infinite = kept.copy(slot, statistics, lanes.output_at(at) / V) || infinite;
          continue;
        }
      }
      acc_t upstream[V];
      lanes.load_upstream(at, upstream);
      const auto sums = lanes.sums(at);
      infinite = infinite || sums.any_infinite();
      kept.keep(slot, sums, upstream, problem.exact);
    }
    return infinite;
  }

  // A warp's inputs are in even columns or in odd ones: with stride 2 these are in different
  // numbers of windows.
  SOFT_POOL_HD uint32_t evens_first(uint32_t item) const {
    const int bits = tiles.bits[kColumns], below = tiles.bits[kChannels];
    if (bits == 0 || Lanes::kColumnStep > 1) {
      return item;
    }
    const uint32_t mask = (1u << bits) - 1;
    const uint32_t column = (item >> below) & mask;
    const uint32_t mixed = ((column << 1) & mask) | (column >> (bits - 1));
    return (item & ~(mask << below)) | (mixed << below);
  }

  // Phase 2: every thread gathers for its inputs from the windows in shared memory, which nobody
  // writes meanwhile. The last step writes the gradients.
  SOFT_POOL_HD void gather(
      uint32_t block, uint32_t thread, int32_t step, bool infinite, const acc_t* shared,
      State& state) const {
    index_t tile[kDirections];
    tiles.first_item(block, tile);
    const Windows windows = windows_of(tile, step);
    SOFT_POOL_NO_UNROLL
    for (uint32_t item = thread; item < items; item += kThreads) {
      index_t at[kDirections];
      SOFT_POOL_UNROLL
      for (int d = 0; d < kDirections; ++d) {
        at[d] = tile[d];
      }
      if (!tiles.advance(evens_first(item), at)) {
        continue;
      }
      const Lanes lanes(problem, at);
      acc_t values[Lanes::kInputs];
      lanes.load_input(at, values);
      if (step == 0) {
        SOFT_POOL_UNROLL
        for (int l = 0; l < Lanes::kInputs; ++l) {
          state.gradients[l] = acc_t(0);
        }
      }
      const auto image = static_cast<int32_t>(at[kImages] - tile[kImages]);
      const auto channel = static_cast<int32_t>(at[kChannels] - tile[kChannels]);
      if (infinite) {
        add<true>(windows, at, image, channel, values, shared, state.gradients);
      } else {
        add<false>(windows, at, image, channel, values, shared, state.gradients);
      }
      if (step == step_count() - 1) {
        finish(lanes, at, values, state.gradients);
      }
    }
  }

  SOFT_POOL_HD void finish(
      const Lanes& lanes, const index_t* at, const acc_t (&values)[Lanes::kInputs],
      acc_t (&gradients)[Lanes::kInputs]) const {
    if (lanes.affine.on) {
      SOFT_POOL_UNROLL
      for (int l = 0; l < Lanes::kInputs; ++l) {
        gradients[l] =
            lanes.affine.gradient(gradients[l], values[l], Lanes::kColumnStep == 1 ? l : 0);
      }
    }
    lanes.store_input(at, gradients);
  }

  // Adds what the step's windows give an item's inputs.
  template <bool infinite>
  SOFT_POOL_HD void add(
      const Windows& windows, const index_t* at, int32_t image, int32_t channel,
      const acc_t (&values)[Lanes::kInputs], const acc_t* shared,
      acc_t (&gradients)[Lanes::kInputs]) const {
    const auto* axes = problem.axes;
    index_t low[3], high[3];
    SOFT_POOL_UNROLL
    for (int a = 0; a < 3; ++a) {
      const index_t index = at[kDepth - a];
      // The inputs of a Columns item are in its own windows and in the next item's first.
      const bool wide = a == 2 && Lanes::kColumnStep > 1;
      low[a] = wide ? index : axes[a].first_window(index);
      high[a] = wide ? index + 2 : axes[a].last_window(index);
      low[a] = low[a] > windows.first[a] ? low[a] : windows.first[a];
      high[a] = high[a] < windows.last[a] ? high[a] : windows.last[a];
    }
    SOFT_POOL_NO_UNROLL
    for (index_t z = low[0]; z < high[0]; ++z) {
      SOFT_POOL_NO_UNROLL
      for (index_t y = low[1]; y < high[1]; ++y) {
        if (!axes[0].has_tap(z, at[kDepth]) || !axes[1].has_tap(y, at[kRows])) {
          continue;
        }
        const auto depth = image * span[0] + static_cast<int32_t>(z - windows.first[0]);
        const auto row = depth * span[1] + static_cast<int32_t>(y - windows.first[1]);
        const int32_t first = row * span[2] - static_cast<int32_t>(windows.first[2]);
        add_row<infinite>(low[2], high[2], first, at, channel, values, shared, gradients);
      }
    }
  }

  // The part of the windows [low, high) of a row, whose slots start at `first`.
  template <bool infinite>
  SOFT_POOL_HD void add_row(
      index_t low, index_t high, int32_t first, const index_t* at, int32_t channel,
      const acc_t (&values)[Lanes::kInputs], const acc_t* shared,
      acc_t (&gradients)[Lanes::kInputs]) const {
    const auto* packs = reinterpret_cast<const Pack<acc_t, V>*>(shared);
    const acc_t slope = problem.exact ? acc_t(1) : acc_t(0);
    SOFT_POOL_NO_UNROLL
    for (index_t x = low; x < high; ++x) {
      if (Lanes::kColumnStep == 1 && !problem.axes[2].has_tap(x, at[kColumns])) {
        continue;
      }
      const int32_t slot =
          ((first + static_cast<int32_t>(x)) << tiles.bits[kChannels]) + channel;
      const Pack<acc_t, V> maximum = packs[slot], weight = packs[slots + slot];
      const Pack<acc_t, V> offset = packs[2 * slots + slot];
      const auto add_one = [&](int window, int input) {
        const acc_t d = distance<infinite>(values[input], maximum.lane[window]);
        gradients[input] += gradient_of(d, weight.lane[window], offset.lane[window], slope);
      };
      if constexpr (Lanes::kColumnStep == 1) {
        SOFT_POOL_UNROLL
        for (int l = 0; l < V; ++l) {
          add_one(l, l);
        }
      } else if (x > at[kColumns]) {
        add_one(0, Lanes::kInputs - 1);
      } else {
        SOFT_POOL_UNROLL
        for (int t = 1; t < 3 * V; ++t) {  // window t / 3 holds the inputs around its middle
          add_one(t / 3, t / 3 * 2 + t % 3 - 1);
        }
      }
    }
  }
};

}  // namespace softpool_det::cuda
