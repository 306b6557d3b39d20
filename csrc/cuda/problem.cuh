// What a kernel reads and writes, and the two ways to put a thread's lanes side by side: along the
// channels, or along the columns of a contiguous tensor.
#pragma once

#include "lanes.cuh"

namespace softpool_det::cuda {

template <typename scalar_t_, typename index_t_>
struct Problem {
  using scalar_t = scalar_t_;
  using index_t = index_t_;
  using acc_t = acc_type_t<scalar_t>;

  const scalar_t* input = nullptr;
  const scalar_t* grad_output = nullptr;  // backward only
  scalar_t* result = nullptr;             // output, or grad_input
  const acc_t* scale = nullptr;           // null: no affine_relu
  const acc_t* shift = nullptr;
  DeviceAxis<index_t> axes[3];
  index_t pixel = 1;         // elements between neighbours in a row: an image's channels
  int64_t inputs = 0;        // elements of an image
  int64_t outputs = 0;
  Divisor<index_t> planes;   // of contiguous tensors: channels, of which each is an image; else 1
  bool exact = false;
  bool input_packs = false;  // whether packs of input and grad_input are aligned, and rows full
  bool output_packs = false;  // the same of output and grad_output

  SOFT_POOL_HD index_t input_offset(index_t z, index_t y, index_t x) const {
    return ((z * axes[1].size + y) * axes[2].size + x) * pixel;
  }
  SOFT_POOL_HD index_t output_offset(index_t z, index_t y, index_t x) const {
    return ((z * axes[1].out_size + y) * axes[2].out_size + x) * pixel;
  }
  // Channel of an image's first element.
  SOFT_POOL_HD index_t first_channel(index_t image) const {
    return image - planes.quotient(image) * planes.divisor;
  }
};

// V neighbouring channels of one window, or of one input. K: K x K taps without dilation, in
// registers, in rows and columns alone; 0: any window, whose taps are read twice, the second time
// from the cache. With V = 1 it does for contiguous tensors, too.
template <typename Problem_, int V, int K>
struct Channels {
  using Problem = Problem_;
  using scalar_t = typename Problem::scalar_t;
  using index_t = typename Problem::index_t;
  using acc_t = typename Problem::acc_t;
  static constexpr int kWindows = V;  // of an item of the outputs' grid
  static constexpr int kInputs = V;   // of an item of the inputs' grid
  static constexpr int kColumnStep = 1;
  static constexpr int kTaps = K * K;

  const Problem& problem;
  int64_t image;
  index_t channel;
  Affine<acc_t, V> affine;

  SOFT_POOL_HD Channels(const Problem& problem_, const index_t* at)
      : problem(problem_),
        image(at[kImages]),
        channel(at[kChannels] * V),
        affine(
            problem_.scale, problem_.shift,
            problem_.scale == nullptr ? 0 : channel + problem_.first_channel(at[kImages])) {}

  SOFT_POOL_HD const scalar_t* inputs() const {
    return problem.input + image * problem.inputs + channel;
  }
  SOFT_POOL_HD int64_t output_at(const index_t* at) const {
    return image * problem.outputs + channel +
        problem.output_offset(at[kDepth], at[kRows], at[kColumns]);
  }
  SOFT_POOL_HD index_t tap_offset(const index_t* at, int tap, bool& inside) const {
    const index_t y = problem.axes[1].start(at[kRows]) + tap / K;
    const index_t x = problem.axes[2].start(at[kColumns]) + tap % K;
    inside = y >= 0 && y < problem.axes[1].size && x >= 0 && x < problem.axes[2].size;
    return problem.input_offset(at[kDepth], y, x);
  }

  // The window's values; kNothing outside the input.
  SOFT_POOL_HD void load(const index_t* at, acc_t (&values)[kTaps][V]) const {
    // All loads before the first use, so that they wait together.
    Pack<scalar_t, V> raw[kTaps];
    bool inside[kTaps];
    SOFT_POOL_UNROLL
    for (int t = 0; t < kTaps; ++t) {
      const index_t offset = tap_offset(at, t, inside[t]);
      raw[t] = pack_of<V>(static_cast<scalar_t>(kNothing<acc_t>));
      if (inside[t]) {
        raw[t] = load_pack<V>(inputs() + offset);
      }
    }
    SOFT_POOL_UNROLL
    for (int t = 0; t < kTaps; ++t) {
      SOFT_POOL_UNROLL
      for (int l = 0; l < V; ++l) {
        values[t][l] = static_cast<acc_t>(raw[t].lane[l]);
      }
    }
    if (affine.on) {  // one branch for all: it is the same for every thread
      SOFT_POOL_UNROLL
      for (int t = 0; t < kTaps; ++t) {
        SOFT_POOL_UNROLL
        for (int l = 0; l < V; ++l) {
          values[t][l] = inside[t] ? affine.apply(values[t][l], l) : kNothing<acc_t>;
        }
      }
    }
  }

  // Writes the gradients of a window that shares no input with others.
  SOFT_POOL_HD void store(const index_t* at, const acc_t (&gradients)[kTaps][V]) const {
    SOFT_POOL_UNROLL
    for (int t = 0; t < kTaps; ++t) {
      bool inside;
      const index_t offset = tap_offset(at, t, inside);
      if (inside) {
        store_input(offset, gradients[t]);
      }
    }
  }

  SOFT_POOL_HD void load_input(const index_t* at, acc_t (&values)[V]) const {
    const index_t offset = problem.input_offset(at[kDepth], at[kRows], at[kColumns]);
    load_affine(inputs() + offset, values);
  }
  SOFT_POOL_HD void store_input(index_t offset, const acc_t (&gradients)[V]) const {
    Pack<scalar_t, V> pack;
    SOFT_POOL_UNROLL
    for (int l = 0; l < V; ++l) {
      pack.lane[l] = static_cast<scalar_t>(gradients[l]);
    }
    *reinterpret_cast<Pack<scalar_t, V>*>(
        problem.result + image * problem.inputs + channel + offset) = pack;
  }
  SOFT_POOL_HD void store_input(const index_t* at, const acc_t (&gradients)[V]) const {
    store_input(problem.input_offset(at[kDepth], at[kRows], at[kColumns]), gradients);
  }

  SOFT_POOL_HD void load_affine(const scalar_t* from, acc_t (&values)[V]) const {
    const auto raw = load_pack<V>(from);
    SOFT_POOL_UNROLL
    for (int l = 0; l < V; ++l) {
      const acc_t value = static_cast<acc_t>(raw.lane[l]);
      values[l] = affine.on ? affine.apply(value, l) : value;
    }
  }

  // Taps `skipped`, skipped + step, ... of those inside the input.
  template <typename Body>
  SOFT_POOL_HD void for_each_tap(
      const index_t* at, index_t skipped, index_t step, const Body& body) const {
    const auto& axes = problem.axes;
    const index_t last_y = axes[1].last_tap(at[kRows]), last_x = axes[2].last_tap(at[kColumns]);
    const index_t first_y = axes[1].first_tap(at[kRows]), first_x = axes[2].first_tap(at[kColumns]);
    const index_t last_z = axes[0].last_tap(at[kDepth]);
    if (first_x >= last_x) {
      return;
    }
    for (index_t tap = axes[0].first_tap(at[kDepth]); tap < last_z; ++tap) {
      const index_t z = axes[0].start(at[kDepth]) + tap * axes[0].dilation.divisor;
      for (index_t row = first_y; row < last_y; ++row) {
        const index_t y = axes[1].start(at[kRows]) + row * axes[1].dilation.divisor;
        index_t column = first_x + skipped;
        for (; column < last_x; column += step) {
          const index_t x = axes[2].start(at[kColumns]) + column * axes[2].dilation.divisor;
          acc_t values[V];
          load_affine(inputs() + problem.input_offset(z, y, x), values);
          body(values);
        }
        skipped = column - last_x;
      }
    }
  }

  SOFT_POOL_HD Sums<acc_t, V> sums(const index_t* at) const {
    if constexpr (K > 0) {
      acc_t values[kTaps][V];
      load(at, values);
      return sums_of<kTaps, V, acc_t>([&](int t, int l) { return values[t][l]; });
    } else {
      Sums<acc_t, V> sums = sums_of_some(at, 0, 1);
      sums.normalise();
      return sums;
    }
  }
  // Of the taps first, first + step, ...; without normalise().
  SOFT_POOL_HD Sums<acc_t, V> sums_of_some(
      const index_t* at, index_t first, index_t step) const {
    Sums<acc_t, V> sums;
    SOFT_POOL_UNROLL
    for (int l = 0; l < V; ++l) {
      sums.maximum[l] = kLowest<acc_t>;
      sums.total[l] = sums.shift[l] = acc_t(0);
    }
    for_each_tap(at, first, step, [&](const acc_t(&values)[V]) {
      SOFT_POOL_UNROLL
      for (int l = 0; l < V; ++l) {
        sums.maximum[l] = larger(sums.maximum[l], values[l]);
      }
    });
    for_each_tap(at, first, step, [&](const acc_t(&values)[V]) {
      SOFT_POOL_UNROLL
      for (int l = 0; l < V; ++l) {
        const acc_t d = distance<true>(values[l], sums.maximum[l]);
        const acc_t e = exp_of_distance(d);
        sums.total[l] += e;
        sums.shift[l] += e * d;
      }
    });
    return sums;
  }

  SOFT_POOL_HD void load_upstream(const index_t* at, acc_t (&upstream)[V]) const {
    const auto raw = load_pack<V>(problem.grad_output + output_at(at));
    SOFT_POOL_UNROLL
    for (int l = 0; l < V; ++l) {
      upstream[l] = static_cast<acc_t>(raw.lane[l]);
    }
  }
  SOFT_POOL_HD void store_output(const index_t* at, const Sums<acc_t, V>& sums) const {
    Pack<scalar_t, V> pack;
    SOFT_POOL_UNROLL
    for (int l = 0; l < V; ++l) {
      pack.lane[l] = static_cast<scalar_t>(sums.output(l));
    }
    *reinterpret_cast<Pack<scalar_t, V>*>(problem.result + output_at(at)) = pack;
  }
};

}  // namespace softpool_det::cuda
