// SoftPool of windows that are two columns wide and stand side by side, the stem's setting: every
// input is read once into a register and its gradient written once from there. Sums of exp() are
// shared as in windows.h, and checked the same way.
#pragma once

#include "windows.h"

namespace softpool_det {
namespace {

template <typename element_t, Affine affine, int rows, bool contiguous>
struct Direct {
  using real = typename Elements<element_t>::real;
  using Vector = Lanes<real>;
  static constexpr int kStep = kLanes<real>;
  static constexpr int kDegree = sizeof(element_t) == 2 ? 4 : 5;
  static constexpr int kTaps = 2 * rows;

  const Tile tile;
  const Arrays arrays;
  Extremes<real> extremes;

  Direct(const Tile& tile, const Arrays& arrays) : tile(tile), arrays(arrays) {}

  // False where the tile has to be done another way.
  bool forward() {
    auto* output = static_cast<element_t*>(arrays.result);
    return for_each_vector(1, [&](const int64_t* taps, int64_t window, int64_t channel) {
      Vector x[kTaps], e[kTaps], inverse, mean;
      load_taps(taps, channel, x);
      weigh(x, e, inverse, mean);
      if (contiguous) {
        mean = Columns::unwoven(mean);
      }
      arrays.stream ? stream(output + window, mean)
                    : Elements<element_t>::store(output + window, mean);
    });
  }

  template <bool exact>
  bool backward() {
    auto* grad_input = static_cast<element_t*>(arrays.result);
    const auto* grad_output = static_cast<const element_t*>(arrays.grad_output);
    const auto* scale = static_cast<const real*>(arrays.scale);
    return for_each_vector(2, [&](const int64_t* taps, int64_t window, int64_t channel) {
      Vector x[kTaps], e[kTaps], inverse, mean;
      load_taps(taps, channel, x);
      weigh(x, e, inverse, mean);
      Vector upstream = Elements<element_t>::load(grad_output + window);
      if (contiguous) {
        upstream = Columns::woven(upstream);
      }
      Vector slope = upstream * inverse;
      extremes.add_slope(upstream, slope);
      if (affine == Affine::kOne) {
        slope *= *scale;
      } else if (affine == Affine::kEach) {
        slope *= Elements<real>::load(scale + channel);
      }
      Vector slopes[2], means[2];
      spread(slope, slopes);
      spread(mean, means);
      for (int t = 0; t < kTaps; ++t) {
        const Vector here = slopes[t % 2];
        e[t] *= exact ? here + here * (x[t] - means[t % 2]) : here;
        if (affine != Affine::kNone) {
          e[t] = x[t] > 0 ? e[t] : Vector{};
        }
      }
      store_taps(taps, e, grad_input);
    });
  }

 private:
  using Columns = ColumnPairs<element_t>;

  SOFT_POOL_HD void load_taps(const int64_t* taps, int64_t channel, Vector* x) const {
    const auto* input = static_cast<const element_t*>(arrays.input);
    const Transform<affine, real> transform{
        static_cast<const real*>(arrays.scale), static_cast<const real*>(arrays.shift)};
    for (int row = 0; row < rows; ++row) {
      Vector* pair = x + 2 * row;
      if (contiguous) {
        // The next row of windows: hardware does not foresee the jump over the row between.
        const element_t* next = input + taps[row] + rows * tile.axes[2].size;
        __builtin_prefetch(next);
        __builtin_prefetch(next + kStep);
        Columns::load(input + taps[row], pair);
      } else {
        pair[0] = Elements<element_t>::load(input + taps[row]);
        pair[1] = Elements<element_t>::load(input + taps[row] + tile.pixel);
      }
      pair[0] = transform(pair[0], channel, kStep);
      pair[1] = transform(pair[1], channel, kStep);
    }
  }

  SOFT_POOL_HD void store_taps(const int64_t* taps, const Vector* values, element_t* target) const {
    for (int row = 0; row < rows; ++row) {
      const Vector* pair = values + 2 * row;
      if (contiguous) {
        Columns::store(target + taps[row], pair, arrays.stream);
      } else {
        Elements<element_t>::store(target + taps[row], pair[0]);
        Elements<element_t>::store(target + taps[row] + tile.pixel, pair[1]);
      }
    }
  }

  // exp(x) of every tap; 1 / its sum, and the mean of x, of every window.
  SOFT_POOL_HD void weigh(const Vector* x, Vector* e, Vector& inverse, Vector& mean) {
    Vector totals[2]{}, products[2]{};
    for (int t = 0; t < kTaps; ++t) {
      e[t] = exponential<kDegree>(x[t]);
      totals[t % 2] += e[t];
      products[t % 2] += e[t] * x[t];
    }
    const Vector total =
        contiguous ? Columns::sum(totals[0], totals[1]) : totals[0] + totals[1];
    const Vector product =
        contiguous ? Columns::sum(products[0], products[1]) : products[0] + products[1];
    inverse = reciprocal(total);
    mean = product * inverse;
    extremes.add(total, product);
  }

  static SOFT_POOL_HD void spread(Vector windows, Vector* columns) {
    if (contiguous) {
      Columns::spread(windows, columns);
    } else {
      columns[0] = columns[1] = windows;
    }
  }

  // Calls body(offsets of the first column's taps, offset of the window, channel) for each register
  // of windows. The last one of a row or pixel overlaps the one before: it does the same twice.
  // `stride` is what the tile counts in: 1 in windows, 2 in inputs.
  template <typename Body>
  bool for_each_vector(int64_t stride, const Body& body) {
    const Axis* axes = tile.axes;
    const int64_t columns = (tile.end[2] - tile.begin[2]) / stride;
    const int64_t run = contiguous ? columns : tile.width;
    if (run < kStep) {
      return false;
    }
    const int64_t depths = axes[0].kernel;
    const int64_t depth_stride = stride == 1 ? 1 : axes[0].stride;
    const int64_t row_stride = stride == 1 ? 1 : axes[1].stride;
    const int64_t depth_end = tile.end[0] / depth_stride;
    const int64_t row_end = tile.end[1] / row_stride;
    for (int64_t depth = tile.begin[0] / depth_stride; depth < depth_end; ++depth) {
      for (int64_t row = tile.begin[1] / row_stride; row < row_end; ++row) {
        const int64_t first = tile.begin[2] / stride;
        const int64_t window =
            ((depth * axes[1].out_size + row) * axes[2].out_size + first) * tile.pixel;
        int64_t taps[rows];
        for (int r = 0; r < rows; ++r) {
          const int64_t z = depth * axes[0].stride + r % depths;
          const int64_t y = row * axes[1].stride + r / depths;
          taps[r] = ((z * axes[1].size + y) * axes[2].size + 2 * first) * tile.pixel;
        }
        contiguous ? contiguous_row(columns, window, taps, body)
                   : channels_last_row(columns, window, taps, body);
      }
    }
    return extremes.is_right();
  }

  template <typename Body>
  SOFT_POOL_HD void contiguous_row(
      int64_t columns, int64_t window, const int64_t* taps, const Body& body) const {
    for (int64_t i = 0; i < columns; i += kStep) {
      const int64_t o = least(i, columns - kStep);
      int64_t at[rows];
      for (int r = 0; r < rows; ++r) {
        at[r] = taps[r] + 2 * o;
      }
      body(at, window + o, 0);
    }
  }

  template <typename Body>
  SOFT_POOL_HD void channels_last_row(
      int64_t columns, int64_t window, const int64_t* taps, const Body& body) const {
    for (int64_t o = 0; o < columns; ++o) {
      for (int64_t i = 0; i < tile.width; i += kStep) {
        const int64_t channel = least(i, tile.width - kStep);
        int64_t at[rows];
        for (int r = 0; r < rows; ++r) {
          at[r] = taps[r] + 2 * o * tile.pixel + channel;
        }
        body(at, window + o * tile.pixel + channel, channel);
      }
    }
  }
};

}  // namespace
}  // namespace softpool_det
