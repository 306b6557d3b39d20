// Any windows, each by itself: its maximum, then the sums of exp(beta * (x - maximum)). The plain
// truth of formula.h, for every number there is; what the other kernels give up comes here, and
// float64 always does. A gradient is added up in scratch memory, window by window.
#pragma once

#include <math.h>

#include "elements.h"

namespace softpool_det {
namespace {

// Lanes are neighbouring windows of a row (contiguous) or channels of one window (channels_last).
template <typename element_t, bool affine>
struct Plain {
  using real = real_of<element_t>;
  using Real = Lanes<real>;
  static constexpr int kStep = kLanes<real>;

  const Tile& tile;
  const Arrays& arrays;
  const Axis* axes;
  real* gradients;  // of the tile's inputs, kStep more

  Plain(const Tile& tile, const Arrays& arrays, real* scratch)
      : tile(tile), arrays(arrays), axes(tile.axes), gradients(scratch) {}

  // The lanes [begin, end) of a register that have the tap at an input (z, y, x); x is the column of
  // lane 0, and `step` the columns from lane to lane.
  struct Tap {
    int64_t z, y, x, step, begin, end;
    Real value;  // -inf in the other lanes
  };

  bool run() const {
    const bool backward = arrays.grad_output != nullptr;
    int64_t first[3], last[3];
    for (int d = 0; d < 3; ++d) {
      first[d] = backward ? axes[d].first_window(tile.begin[d]) : tile.begin[d];
      last[d] = backward ? axes[d].last_window(tile.end[d] - 1) : tile.end[d];
    }
    if (backward) {
      fill(gradients, own(0) * own(1) * own(2) * tile.channels + kStep, real(0));
    }
    const int64_t step = tile.contiguous() ? kStep : 1;
    for (int64_t z = first[0]; z < last[0]; ++z) {
      for (int64_t y = first[1]; y < last[1]; ++y) {
        for (int64_t x = first[2]; x < last[2]; x += step) {
          for (int64_t channel = 0; channel < tile.channels; channel += kStep) {
            const int64_t windows[3] = {z, y, x};
            pool(windows, channel, tile.contiguous() ? last[2] - x : tile.channels - channel);
          }
        }
      }
    }
    if (backward) {
      store_gradients();
    }
    return true;
  }

 private:
  int64_t own(int d) const { return tile.end[d] - tile.begin[d]; }
  ChannelFormula<element_t, affine> channels(int64_t channel) const {
    return {arrays.parameters, tile.contiguous(), channel};
  }
  int64_t input_at(int64_t z, int64_t y, int64_t x) const {
    return ((z * axes[1].size + y) * axes[2].size + x) * tile.pixel_stride;
  }

  // A register of windows; `count` of them, at most.
  void pool(const int64_t (&window)[3], int64_t channel, int64_t count) const {
    const auto numbers = channels(channel);
    const auto& formula = numbers.formula;
    using Input = Below<std::decay_t<decltype(formula)>>;
    Real maximum = broadcast(kLowest<real>);
    for_each_tap(window, channel, count, [&](const Tap& tap) {
      maximum = tap.value > maximum ? tap.value : maximum;
    });
    Real total{}, product{};
    for_each_tap(window, channel, count, [&](const Tap& tap) {
      const Input input(formula, maximum, tap.value);
      total += input.weight;
      product += Input::product(input.weight, input.distance);
    });
    const Real mean = total == 0 ? Real{} : product / total;
    const int64_t place =
        ((window[0] * axes[1].out_size + window[1]) * axes[2].out_size + window[2]) *
            tile.pixel_stride + channel;
    if (arrays.grad_output == nullptr) {
      const Real nothing = broadcast(-real(HUGE_VAL));
      auto* output = static_cast<element_t*>(arrays.result);
      store_some(output + place, total == 0 ? nothing : maximum + mean, count);
      return;
    }
    const auto* upstream = static_cast<const element_t*>(arrays.grad_output);
    const Real slope = total == 0 ? Real{} : load_some(upstream + place, count) / total;
    Real grad_beta{};
    for_each_tap(window, channel, count, [&](const Tap& tap) {
      const Input input(formula, maximum, tap.value);
      const Real weight = input.weight;
      const Real distance = weight == 0 ? Real{} : input.distance - mean;  // from the output
      const Real deviation = slope * distance;
      add(tap, channel, formula.template gradient<true>(tap.value, weight, slope, deviation),
          formula.beta_term(distance, weight, deviation), grad_beta);
    });
    if (arrays.grad_beta != nullptr) {
      add_to_channels<real>(arrays.grad_beta, tile.contiguous(), channel, grad_beta);
    }
  }

  template <typename Body>
  SOFT_POOL_HD void for_each_tap(
      const int64_t (&window)[3], int64_t channel, int64_t count, const Body& body) const {
    Tap tap{0, 0, 0, tile.contiguous() ? axes[2].stride : 0, 0, 0, {}};
    for (int64_t a = axes[0].first_tap(window[0]); a < axes[0].last_tap(window[0]); ++a) {
      tap.z = axes[0].start(window[0]) + a * axes[0].dilation;
      for (int64_t b = axes[1].first_tap(window[1]); b < axes[1].last_tap(window[1]); ++b) {
        tap.y = axes[1].start(window[1]) + b * axes[1].dilation;
        for (int64_t c = 0; c < axes[2].kernel; ++c) {
          tap.x = axes[2].start(window[2]) + c * axes[2].dilation;
          if (load(channel, count, tap)) {
            body(tap);
          }
        }
      }
    }
  }

  // False where no lane's tap is inside the input.
  SOFT_POOL_HD bool load(int64_t channel, int64_t count, Tap& tap) const {
    const int64_t size = axes[2].size;
    const auto* source = static_cast<const element_t*>(arrays.input) + channel;
    count = count < kStep ? count : kStep;
    tap.begin = 0;
    tap.end = count;
    if (tap.step == 0) {
      if (tap.x < 0 || tap.x >= size) {
        return false;
      }
      tap.value = load_some(source + input_at(tap.z, tap.y, tap.x), count);
    } else {
      element_t copy[kStep] = {};
      for (int64_t lane = 0; lane < count; ++lane) {
        const int64_t column = tap.x + lane * tap.step;
        tap.begin += column < 0;
        if (column >= 0 && column < size) {
          copy[lane] = source[input_at(tap.z, tap.y, column)];
        }
        tap.end -= column >= size;
      }
      if (tap.begin >= tap.end) {
        return false;
      }
      tap.value = Elements<element_t>::load(copy);
    }
    const Real value = channels(channel).activation(tap.value);
    tap.value = between<real>(tap.begin, tap.end, value, -real(HUGE_VAL));
    return true;
  }

  // Adds a tap's gradient, and its term of grad_beta, where the tile has the input: other tiles do
  // the same for theirs.
  void add(const Tap& tap, int64_t channel, Real gradient, Real term, Real& grad_beta) const {
    if (tap.z < tile.begin[0] || tap.z >= tile.end[0] || tap.y < tile.begin[1] ||
        tap.y >= tile.end[1]) {
      return;
    }
    const int64_t row = (tap.z - tile.begin[0]) * own(1) + tap.y - tile.begin[1];
    for (int64_t lane = tap.begin; lane < tap.end; ++lane) {
      const int64_t column = tap.x + lane * tap.step;
      if (column >= tile.begin[2] && column < tile.end[2]) {
        const int64_t pixel = row * own(2) + column - tile.begin[2];
        gradients[pixel * tile.channels + (tap.step == 0 ? channel + lane : 0)] += gradient[lane];
        grad_beta[lane] += term[lane];
      }
    }
  }

  void store_gradients() const {
    const auto* input = static_cast<const element_t*>(arrays.input);
    auto* result = static_cast<element_t*>(arrays.result);
    const int64_t run = tile.contiguous() ? own(2) : tile.channels;
    const int64_t pixels = tile.contiguous() ? 1 : own(2);
    const real* source = gradients;
    for (int64_t z = tile.begin[0]; z < tile.end[0]; ++z) {
      for (int64_t y = tile.begin[1]; y < tile.end[1]; ++y) {
        for (int64_t pixel = 0; pixel < pixels; ++pixel, source += run) {
          const int64_t place = input_at(z, y, tile.begin[2] + pixel);
          for (int64_t i = 0; i < run; i += kStep) {
            const auto activation = channels(tile.contiguous() ? 0 : i).activation;
            const Real x = activation(load_some(input + place + i, run - i));
            const Real gradient = activation.gradient(Elements<real>::load(source + i), x);
            store_some(result + place + i, gradient, run - i);
          }
        }
      }
    }
  }
};

}  // namespace
}  // namespace softpool_det
