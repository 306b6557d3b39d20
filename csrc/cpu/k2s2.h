// Windows of two columns and 1, 2 or 4 rows that share no inputs: 2 x 2 with stride 2 (k2s2), and
// the same of one row or with a depth of 2. Every input is read once into a register and its gradient
// written once from there.
#pragma once

#include "elements.h"

namespace softpool_det {
namespace {

// Two registers of neighbouring columns, and what belongs to a window of both columns of each pair.
// 16-bit columns come as even and odd ones, window by window. Floats stay as they lie in memory and
// add up within parts of 128 bits, where shuffles are cheap: windows are in an order of their own.
template <typename element_t>
struct ColumnPairs {
  static SOFT_POOL_HD void load(const element_t* source, Floats* columns) {
    Elements<element_t>::load_pairs(source, columns[0], columns[1]);
  }
  static SOFT_POOL_HD void store(element_t* target, const Floats* columns, bool) {
    Elements<element_t>::store_pairs(target, columns[0], columns[1]);
  }
  // Puts the larger one of each pair into both places; first() takes one of both.
  static SOFT_POOL_HD void maximum(Floats* columns) {
    columns[0] = columns[1] = larger(columns[0], columns[1]);
  }
  static SOFT_POOL_HD Floats first(const Floats* columns) { return columns[0]; }
  static SOFT_POOL_HD Floats sum(const Floats* columns) { return columns[0] + columns[1]; }
  static SOFT_POOL_HD Floats to_memory(Floats windows) { return windows; }
  static SOFT_POOL_HD Floats from_memory(Floats windows) { return windows; }
  // The inverse of sum(): each window's number for both columns.
  static SOFT_POOL_HD void spread(Floats windows, Floats* columns) {
    columns[0] = columns[1] = windows;
  }
};

template <>
struct ColumnPairs<float> {
  static constexpr int kCount = kLanes<float>;
  static SOFT_POOL_HD void load(const float* source, Floats* columns) {
    columns[0] = Elements<float>::load(source);
    columns[1] = Elements<float>::load(source + kCount);
  }
  static SOFT_POOL_HD void store(float* target, const Floats* columns, bool nontemporal) {
    Elements<float>::store(target, columns[0], nontemporal);
    Elements<float>::store(target + kCount, columns[1], nontemporal);
  }
  static SOFT_POOL_HD void maximum(Floats* columns) {
    for (int i = 0; i < 2; ++i) {
      const Floats other = pick<float>(columns[i], columns[i], [](int lane) { return lane ^ 1; });
      columns[i] = larger(columns[i], other);
    }
  }
  static SOFT_POOL_HD Floats first(const Floats* columns) {
    return pick<float>(columns[0], columns[1], [](int lane) { return place(lane); });
  }
  // Four lanes at a time: of two pairs of the first register, then of two pairs of the second.
  static SOFT_POOL_HD Floats sum(const Floats* columns) {
    return first(columns) +
        pick<float>(columns[0], columns[1], [](int lane) { return place(lane) + 1; });
  }
  static constexpr int place(int lane) {
    return lane / 4 * 4 + lane % 2 * 2 + lane % 4 / 2 * kCount;
  }
  static SOFT_POOL_HD Floats to_memory(Floats windows) {
    return pick<float>(windows, windows, [](int lane) {
      return lane % (kCount / 2) / 2 * 4 + lane % 2 + lane / (kCount / 2) * 2;
    });
  }
  static SOFT_POOL_HD Floats from_memory(Floats windows) {
    return pick<float>(windows, windows, [](int lane) {
      return lane / 4 * 2 + lane % 2 + lane % 4 / 2 * (kCount / 2);
    });
  }
  static SOFT_POOL_HD void spread(Floats windows, Floats* columns) {
    columns[0] =
        pick<float>(windows, windows, [](int lane) { return lane / 4 * 4 + lane % 4 / 2; });
    columns[1] =
        pick<float>(windows, windows, [](int lane) { return lane / 4 * 4 + 2 + lane % 4 / 2; });
  }
};

// One window for each lane, neighbours in a row of a contiguous tensor or of neighbouring channels.
template <typename element_t, bool affine, int rows, bool contiguous>
struct K2S2 {
  using Math = LaneMath<element_t>;
  using Pairs = ColumnPairs<element_t>;
  static constexpr int kStep = kLanes<float>;
  static constexpr int kTaps = 2 * rows;

  // Copies: what is written through pointers could alias them otherwise.
  const Tile tile;
  const Arrays arrays;
  const element_t* input;
  Floats unusual{};     // NaN after NaN or an infinite number
  Floats grad_beta{};   // contiguous: of all windows so far

  SOFT_POOL_HD K2S2(const Tile& tile, const Arrays& arrays, float*)
      : tile(tile), arrays(arrays), input(static_cast<const element_t*>(arrays.input)) {}

  // Where a register of windows is: offsets of the windows and of their first columns' taps; lanes
  // before `fresh` are the last register's, once more.
  struct Place {
    int64_t window;
    int64_t taps[rows];
    int64_t channel;
    int64_t fresh;
  };
  struct Windows {
    Floats x[kTaps], e[kTaps];
    Floats maximum[2];              // of each column's windows
    Floats inverse, mean_distance;  // 1 / total, sum of e (x - maximum) / total
  };

  SOFT_POOL_HD bool forward() {
    auto* output = static_cast<element_t*>(arrays.result);
    for_each_register(1, [&](const Place& at, const ChannelFormula<element_t, affine>& channels) {
      const Windows windows = weigh(at, channels);
      const Floats maximum =
          contiguous ? Pairs::first(windows.maximum) : windows.maximum[0];
      const Floats mean = maximum + windows.mean_distance;
      Elements<element_t>::store(
          output + at.window, contiguous ? Pairs::to_memory(mean) : mean, arrays.nontemporal);
    });
    return is_usual();
  }

  template <bool exact>
  SOFT_POOL_HD bool backward() {
    const auto* grad_output = static_cast<const element_t*>(arrays.grad_output);
    for_each_register(2, [&](const Place& at, const ChannelFormula<element_t, affine>& channels) {
      const Windows windows = weigh(at, channels);
      Floats upstream = Elements<element_t>::load(grad_output + at.window);
      upstream = contiguous ? Pairs::from_memory(upstream) : upstream;
      const Floats slope = upstream * windows.inverse;
      Floats slopes[2], means[2], terms[2]{}, gradients[kTaps];
      spread(slope, slopes);
      spread(windows.mean_distance, means);
      for (int t = 0; t < kTaps; ++t) {
        const Floats distance = windows.x[t] - windows.maximum[t % 2] - means[t % 2];
        const Floats deviation = slopes[t % 2] * distance;
        const Floats gradient = channels.formula.template gradient<exact>(
            windows.x[t], windows.e[t], slopes[t % 2], deviation);
        gradients[t] = channels.activation.gradient(gradient, windows.x[t]);
        terms[t % 2] += channels.formula.beta_term(distance, windows.e[t], deviation);
      }
      store_taps(at, gradients);
      if (exact && arrays.grad_beta != nullptr) {
        add_grad_beta(at, sum(terms));
      }
    });
    if (exact && contiguous && arrays.grad_beta != nullptr) {
      add_to_channels<float>(arrays.grad_beta, true, 0, grad_beta);
    }
    return is_usual();
  }

 private:
  SOFT_POOL_HD Windows weigh(const Place& at, const ChannelFormula<element_t, affine>& channels) {
    Windows result;
    load_taps(at, channels, result.x);
    Floats* const maximum = result.maximum;
    Floats totals[2], products[2];
    maximum[0] = result.x[0];
    maximum[1] = result.x[1];
    for (int t = 2; t < kTaps; ++t) {
      maximum[t % 2] = larger(maximum[t % 2], result.x[t]);
    }
    if (contiguous) {
      Pairs::maximum(maximum);
    } else {
      maximum[0] = maximum[1] = larger(maximum[0], maximum[1]);
    }
    for (int t = 0; t < kTaps; ++t) {
      const Floats distance = result.x[t] - maximum[t % 2];
      result.e[t] = channels.formula.weight_below(maximum[t % 2], result.x[t]);
      const Floats product = result.e[t] * distance;
      totals[t % 2] = t < 2 ? result.e[t] : totals[t % 2] + result.e[t];
      products[t % 2] = t < 2 ? product : products[t % 2] + product;
    }
    result.inverse = Math::reciprocal(sum(totals));
    result.mean_distance = sum(products) * result.inverse;
    unusual += result.mean_distance * 0.f;
    return result;
  }

  SOFT_POOL_HD void load_taps(
      const Place& at, const ChannelFormula<element_t, affine>& channels, Floats* x) const {
    for (int row = 0; row < rows; ++row) {
      Floats* pair = x + 2 * row;
      const element_t* source = input + at.taps[row];
      if (contiguous) {
        // The next row of windows: hardware does not foresee the jump over the row between.
        const element_t* next = source + rows * tile.axes[2].size;
        __builtin_prefetch(next);
        __builtin_prefetch(next + kStep);
        Pairs::load(source, pair);
      } else {
        pair[0] = Elements<element_t>::load(source);
        pair[1] = Elements<element_t>::load(source + tile.pixel_stride);
      }
      pair[0] = channels.activation(pair[0]);
      pair[1] = channels.activation(pair[1]);
    }
  }

  SOFT_POOL_HD void store_taps(const Place& at, const Floats* gradients) const {
    // Half cache lines to four places in turn are more than a core has buffers for: on an EPYC
    // without AVX-512 they took 1.6 times as long as stores that go through the caches.
    const bool nontemporal = arrays.nontemporal && (contiguous || kRegisterBytes == 64);
    for (int row = 0; row < rows; ++row) {
      element_t* target = static_cast<element_t*>(arrays.result) + at.taps[row];
      const Floats* pair = gradients + 2 * row;
      if (contiguous) {
        Pairs::store(target, pair, nontemporal);
      } else {
        Elements<element_t>::store(target, pair[0], nontemporal);
        Elements<element_t>::store(target + tile.pixel_stride, pair[1], nontemporal);
      }
    }
  }

  static SOFT_POOL_HD Floats sum(const Floats* columns) {
    return contiguous ? Pairs::sum(columns) : columns[0] + columns[1];
  }
  static SOFT_POOL_HD void spread(Floats windows, Floats* columns) {
    if (contiguous) {
      Pairs::spread(windows, columns);
    } else {
      columns[0] = columns[1] = windows;
    }
  }

  SOFT_POOL_HD void add_grad_beta(const Place& at, Floats terms) {
    terms = contiguous ? Pairs::to_memory(terms) : terms;
    terms = at.fresh == 0 ? terms : between<float>(at.fresh, kStep, terms, 0.f);
    if (contiguous) {
      grad_beta += terms;
    } else {
      add_to_channels<float>(arrays.grad_beta, false, at.channel, terms);
    }
  }

  SOFT_POOL_HD bool is_usual() const {
    for (int lane = 0; lane < kStep; ++lane) {
      if (unusual[lane] != 0.f) {
        return false;
      }
    }
    return true;
  }

  // Calls body(Place, ChannelFormula) for every register of windows. `unit` is what the tile counts
  // in: 1 in windows, 2 in inputs.
  template <typename Body>
  SOFT_POOL_HD void for_each_register(int64_t unit, const Body& body) {
    const Axis* axes = tile.axes;
    const auto in_windows = [&](int64_t place, int d) {
      return unit == 1 ? place : place / axes[d].stride;
    };
    const int64_t first = in_windows(tile.begin[2], 2);
    const int64_t columns = in_windows(tile.end[2], 2) - first;
    const int64_t pixels = contiguous ? 1 : columns;
    const int64_t run = contiguous ? columns : tile.channels;
    const ChannelFormula<element_t, affine> one(arrays.parameters, true, 0);
    for (int64_t z = in_windows(tile.begin[0], 0); z < in_windows(tile.end[0], 0); ++z) {
      for (int64_t y = in_windows(tile.begin[1], 1); y < in_windows(tile.end[1], 1); ++y) {
        const Place row = row_at(z, y, first);
        for (int64_t pixel = 0; pixel < pixels; ++pixel) {
          for (int64_t i = 0; i < run; i += kStep) {
            // The last register overlaps the one before: it does the same twice.
            const int64_t lane = i + kStep <= run ? i : run - kStep;
            Place at{row.window + pixel * tile.pixel_stride + lane, {}, lane, i - lane};
            for (int r = 0; r < rows; ++r) {
              at.taps[r] = row.taps[r] + 2 * pixel * tile.pixel_stride + (contiguous ? 2 : 1) * lane;
            }
            if (contiguous) {
              body(at, one);
            } else {
              body(at, ChannelFormula<element_t, affine>(arrays.parameters, false, lane));
            }
          }
        }
      }
    }
  }

  SOFT_POOL_HD Place row_at(int64_t z, int64_t y, int64_t column) const {
    const Axis* axes = tile.axes;
    Place at{};
    at.window = ((z * axes[1].out_size + y) * axes[2].out_size + column) * tile.pixel_stride;
    for (int r = 0; r < rows; ++r) {
      const int64_t slice = z * axes[0].stride + r % axes[0].kernel;
      const int64_t row = y * axes[1].stride + r / axes[0].kernel;
      at.taps[r] = ((slice * axes[1].size + row) * axes[2].size + 2 * column) * tile.pixel_stride;
    }
    return at;
  }
};

}  // namespace
}  // namespace softpool_det
