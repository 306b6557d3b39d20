// Lanes along the columns of a contiguous tensor, for windows of 2 x 2 (padding 0) and 3 x 3
// (padding 1) with stride 2.
#pragma once

#include "problem.cuh"

namespace softpool_det::cuda {

// An item is V neighbouring windows of a row, or the 2 V inputs at whose first the first window
// starts (K = 2) or has its middle (K = 3). Padding and stride of the rows are the columns'.
template <typename Problem_, int V, int K>
struct Columns {
  using Problem = Problem_;
  using scalar_t = typename Problem::scalar_t;
  using index_t = typename Problem::index_t;
  using acc_t = typename Problem::acc_t;
  static constexpr int kWindows = V;
  static constexpr int kInputs = 2 * V;
  static constexpr int kColumnStep = V;  // windows between two items
  static constexpr int kTaps = K * K;
  static constexpr int kBefore = K - 2;  // inputs to the left of an item's that its windows hold

  const Problem& problem;
  int64_t image;
  Affine<acc_t, 1> affine;

  SOFT_POOL_HD Columns(const Problem& problem_, const index_t* at)
      : problem(problem_),
        image(at[kImages]),
        affine(
            problem_.scale, problem_.shift,
            problem_.scale == nullptr ? 0 : problem_.first_channel(at[kImages])) {}

  SOFT_POOL_HD int64_t output_at(const index_t* at) const {
    return image * problem.outputs +
        problem.output_offset(at[kDepth], at[kRows], at[kColumns] * V);
  }
  SOFT_POOL_HD int64_t input_at(index_t z, index_t y, index_t x) const {
    return image * problem.inputs + problem.input_offset(z, y, x);
  }
  // Inputs of an item that its row has.
  SOFT_POOL_HD int inputs_left(index_t x) const {
    const index_t left = problem.axes[2].size - x;
    return left < kInputs ? static_cast<int>(left) : kInputs;
  }
  SOFT_POOL_HD int windows_left(const index_t* at) const {
    const index_t left = problem.axes[2].out_size - at[kColumns] * V;
    return left < V ? static_cast<int>(left) : V;
  }

  // The first `left` of a pack.
  template <int count>
  SOFT_POOL_HD static void load_some(
      const scalar_t* from, int left, bool packs, Pack<scalar_t, count>& to) {
    if (packs && left == count) {
      to = load_pack<count>(from);
      return;
    }
    SOFT_POOL_UNROLL
    for (int l = 0; l < count; ++l) {
      if (l < left) {
        to.lane[l] = from[l];
      }
    }
  }
  template <int count>
  SOFT_POOL_HD static void store_some(
      scalar_t* to, int left, bool packs, const acc_t (&values)[count]) {
    Pack<scalar_t, count> pack;
    SOFT_POOL_UNROLL
    for (int l = 0; l < count; ++l) {
      pack.lane[l] = static_cast<scalar_t>(values[l]);
    }
    if (packs && left == count) {
      *reinterpret_cast<Pack<scalar_t, count>*>(to) = pack;
      return;
    }
    SOFT_POOL_UNROLL
    for (int l = 0; l < count; ++l) {
      if (l < left) {
        to[l] = pack.lane[l];
      }
    }
  }

  // The windows' values; kNothing outside the input.
  SOFT_POOL_HD void load(const index_t* at, acc_t (&values)[kTaps][V]) const {
    const index_t x = at[kColumns] * kInputs;
    const index_t y = problem.axes[1].start(at[kRows]);
    const int left = inputs_left(x);
    // All loads before the first use, so that they wait together.
    Pack<scalar_t, kInputs> raw[K];
    scalar_t before[K];
    SOFT_POOL_UNROLL
    for (int k = 0; k < K; ++k) {
      before[k] = static_cast<scalar_t>(kNothing<acc_t>);
      raw[k] = pack_of<kInputs>(before[k]);
      if (y + k >= 0 && y + k < problem.axes[1].size) {
        const scalar_t* row = problem.input + input_at(at[kDepth], y + k, x);
        load_some(row, left, problem.input_packs, raw[k]);
        if (kBefore > 0 && x > 0) {
          before[k] = row[-1];
        }
      }
    }
    SOFT_POOL_UNROLL
    for (int k = 0; k < K; ++k) {
      const bool inside = y + k >= 0 && y + k < problem.axes[1].size;
      acc_t row[kInputs + kBefore];
      SOFT_POOL_UNROLL
      for (int i = 0; i < kInputs + kBefore; ++i) {
        row[i] = static_cast<acc_t>(i < kBefore ? before[k] : raw[k].lane[i - kBefore]);
      }
      if (affine.on) {  // one branch for all: it is the same for every thread
        SOFT_POOL_UNROLL
        for (int i = 0; i < kInputs + kBefore; ++i) {
          if (inside && (i < kBefore ? x > 0 : i - kBefore < left)) {
            row[i] = affine.apply(row[i], 0);
          }
        }
      }
      SOFT_POOL_UNROLL
      for (int t = 0; t < K * V; ++t) {
        values[k * K + t % K][t / K] = row[t / K * 2 + t % K];
      }
    }
  }

  // Writes the gradients of windows that share no inputs with others, K = 2.
  SOFT_POOL_HD void store(const index_t* at, const acc_t (&gradients)[kTaps][V]) const {
    const index_t x = at[kColumns] * kInputs;
    SOFT_POOL_UNROLL
    for (int k = 0; k < K; ++k) {
      const index_t y = problem.axes[1].start(at[kRows]) + k;
      acc_t row[kInputs];
      SOFT_POOL_UNROLL
      for (int i = 0; i < kInputs; ++i) {
        row[i] = gradients[k * K + i % 2][i / 2];
      }
      if (y < problem.axes[1].size) {
        store_some(
            problem.result + input_at(at[kDepth], y, x), inputs_left(x), problem.input_packs, row);
      }
    }
  }

  SOFT_POOL_HD void load_input(const index_t* at, acc_t (&values)[kInputs]) const {
    const index_t x = at[kColumns] * kInputs;
    const int left = inputs_left(x);
    Pack<scalar_t, kInputs> raw;
    load_some(
        problem.input + input_at(at[kDepth], at[kRows], x), left, problem.input_packs, raw);
    SOFT_POOL_UNROLL
    for (int l = 0; l < kInputs; ++l) {
      values[l] = acc_t(0);
      if (l < left) {
        const acc_t value = static_cast<acc_t>(raw.lane[l]);
        values[l] = affine.on ? affine.apply(value, 0) : value;
      }
    }
  }
  SOFT_POOL_HD void store_input(const index_t* at, const acc_t (&gradients)[kInputs]) const {
    const index_t x = at[kColumns] * kInputs;
    store_some(
        problem.result + input_at(at[kDepth], at[kRows], x), inputs_left(x), problem.input_packs,
        gradients);
  }

  SOFT_POOL_HD Sums<acc_t, V> sums(const index_t* at) const {
    acc_t values[kTaps][V];
    load(at, values);
    return sums_of<kTaps, V, acc_t>([&](int t, int l) { return values[t][l]; });
  }
  SOFT_POOL_HD void load_upstream(const index_t* at, acc_t (&upstream)[V]) const {
    Pack<scalar_t, V> raw;
    const int left = windows_left(at);
    load_some(problem.grad_output + output_at(at), left, problem.output_packs, raw);
    SOFT_POOL_UNROLL
    for (int l = 0; l < V; ++l) {
      upstream[l] = l < left ? static_cast<acc_t>(raw.lane[l]) : acc_t(0);
    }
  }
  SOFT_POOL_HD void store_output(const index_t* at, const Sums<acc_t, V>& sums) const {
    acc_t outputs[V];
    SOFT_POOL_UNROLL
    for (int l = 0; l < V; ++l) {
      outputs[l] = sums.output(l);
    }
    store_some(
        problem.result + output_at(at), windows_left(at), problem.output_packs, outputs);
  }
};

}  // namespace softpool_det::cuda
