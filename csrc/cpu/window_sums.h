// Sums of e = exp(beta * x) and e * x over the windows of a tile, for windows that share inputs: each
// exp() is computed once, added up along the row, then to every row of windows that holds the row.
// Right as long as e stays well inside the type's range, which the sums tell.
#pragma once

#include "elements.h"
#include "plan.h"

namespace softpool_det {
namespace {

template <typename element_t, bool affine, bool contiguous>
struct WindowSums {
  using Math = LaneMath<element_t>;
  using real = real_of<element_t>;
  using Real = Lanes<real>;
  using Channel = ChannelFormula<element_t, affine>;
  static constexpr int kStep = kLanes<real>;

  // Copies: what is written through pointers could alias them otherwise.
  const Tile tile;
  const Arrays arrays;
  const Axis axis;  // of the columns
  const Plan plan;
  real* scratch;
  int64_t* row_list;
  int64_t* tap_list;     // where a phased row has a window's taps, from the window's lane
  int64_t* gather_list;  // how far before a column's lane its windows are, phase by phase
  int64_t* phase_list;   // where each phase begins in gather_list
  Range range;
  Real grad_beta{};  // contiguous: of all inputs so far

  SOFT_POOL_HD WindowSums(
      const Tile& tile_, const Arrays& arrays_, real* scratch_, bool keep_weights = false)
      : tile(tile_),
        arrays(arrays_),
        axis(tile_.axes[2]),
        plan(make_plan(tile_, arrays_.grad_output != nullptr, keep_weights)),
        scratch(scratch_),
        row_list(reinterpret_cast<int64_t*>(scratch_ + plan.lists)),
        tap_list(row_list + most(0, plan.count(0)) * most(0, plan.count(1))),
        gather_list(tap_list + axis.kernel),
        phase_list(gather_list + axis.kernel) {
    if (plan.empty()) {
      return;
    }
    const auto at = [&](int64_t tap) { return tap * axis.dilation; };
    // Taps by phase: how many, where each phase begins, which.
    for (int64_t phase = 0; phase <= plan.phases; ++phase) {
      phase_list[phase] = 0;
    }
    for (int64_t tap = 0; tap < axis.kernel; ++tap) {
      ++phase_list[at(tap) % axis.stride + 1];
    }
    for (int64_t phase = 0; phase < plan.phases; ++phase) {
      phase_list[phase + 1] += phase_list[phase];
    }
    for (int64_t tap = axis.kernel - 1; tap >= 0; --tap) {
      const int64_t phase = at(tap) % axis.stride;
      const int64_t lane = at(tap) / axis.stride * plan.pixel;
      tap_list[tap] = phase * plan.phase_stride + lane;
      gather_list[--phase_list[phase + 1]] = lane;
    }
    // Each begin has moved to the one of its own phase by now.
    for (int64_t phase = 0; phase < plan.phases; ++phase) {
      phase_list[phase] = phase_list[phase + 1];
    }
    phase_list[plan.phases] = axis.kernel;
  }

  static SOFT_POOL_HD Real load(const real* source) { return Elements<real>::load(source); }
  static SOFT_POOL_HD void store(real* target, Real value) { Elements<real>::store(target, value); }
  SOFT_POOL_HD Channel channels(int64_t channel) const {
    return {arrays.parameters, contiguous, channel};
  }

  // The two numbers of the windows of a row: sum of e, then of e x, a window_stride apart.
  SOFT_POOL_HD real* windows(int64_t z, int64_t y) const {
    const int64_t row = (z - plan.first[0]) * plan.count(1) + y - plan.first[1];
    return scratch + 2 * row * plan.window_stride;
  }
  SOFT_POOL_HD int64_t input_row(int64_t z, int64_t y) const {
    return (z * tile.axes[1].size + y) * axis.size * tile.pixel_stride;
  }
  SOFT_POOL_HD int64_t window_row(int64_t z, int64_t y) const {
    return ((z * tile.axes[1].out_size + y) * axis.out_size + plan.first[2]) * tile.pixel_stride;
  }

  // Calls body(lane, place in the tensor's row, channel, lanes that count) for a row of windows.
  template <typename Body>
  SOFT_POOL_HD void for_each_register(const Body& body) const {
    if (contiguous) {
      for (int64_t i = 0; i < plan.lanes; i += kStep) {
        body(i, i, 0, plan.lanes - i);
      }
      return;
    }
    for (int64_t window = 0; window < plan.count(2); ++window) {
      for (int64_t channel = 0; channel < tile.channels; channel += kStep) {
        body(window * plan.pixel + channel, window * tile.pixel_stride + channel, channel,
             tile.channels - channel);
      }
    }
  }

  struct Mean {
    Real inverse, mean;  // 1 / total, sum of e x / total
  };

  // Of a register of windows, from their sums.
  SOFT_POOL_HD Mean find_mean(Real total, Real product, int64_t count) {
    if (contiguous && count < kStep) {
      total = between<real>(0, count, total, real(1));
      product = between<real>(0, count, product, real(0));
    }
    range.add(total, product);
    const Real inverse = Math::reciprocal(total);
    return {inverse, product * inverse};
  }

  // Slope, and slope * out a window_stride further, of a register of windows.
  template <bool exact>
  SOFT_POOL_HD void store_slopes(
      real* target, const element_t* upstream, int64_t count, const Mean& mean) {
    __builtin_prefetch(upstream + axis.out_size * tile.pixel_stride);
    const Real gradient = load_some(upstream, count);
    const Real slope = gradient * mean.inverse;
    range.add_slope(gradient, slope);
    store(target, slope);
    if (exact) {
      store(target + plan.window_stride, slope * mean.mean);
    }
  }

  // The gradient of inputs, from their weights and the sums of slope and of slope * out.
  template <bool exact>
  SOFT_POOL_HD Real gradient(
      const Channel& here, Real x, Real weight, Real slope, Real slope_out, Real& terms) const {
    const Real deviation = exact ? x * slope - slope_out : Real{};
    const Real result = here.formula.template gradient<exact>(x, weight, slope, deviation);
    // An input of no window may be NaN.
    const auto none = exact ? (slope == 0) & (slope_out == 0) : slope == 0;
    if (exact) {
      terms = none ? Real{} : here.formula.beta_term(x, weight, deviation);
    }
    return none ? Real{} : here.activation.gradient(result, x);
  }

  SOFT_POOL_HD void add_terms(int64_t channel, Real terms) {
    if (contiguous) {
      grad_beta += terms;
    } else {
      add_to_channels<real>(arrays.grad_beta, false, channel, terms);
    }
  }
  SOFT_POOL_HD void add_grad_beta() const {
    if (contiguous && arrays.grad_beta != nullptr) {
      add_to_channels<real>(arrays.grad_beta, true, 0, grad_beta);
    }
  }

  // Fills row_list with the places of the rows of windows that hold the row (z, y) of the input, and
  // returns how many. The lowest bit marks the first row that they hold.
  SOFT_POOL_HD int64_t find_windows(int64_t z, int64_t y) const {
    const Axis& depth = tile.axes[0];
    const Axis& height = tile.axes[1];
    int64_t count = 0;
    for (int64_t a = most(plan.first[0], depth.first_window(z));
         a < least(plan.last[0], depth.last_window(z)); ++a) {
      const int64_t slice = z - depth.start(a);
      for (int64_t b = most(plan.first[1], height.first_window(y));
           b < least(plan.last[1], height.last_window(y)); ++b) {
        const int64_t row = y - height.start(b);
        if (slice % depth.dilation == 0 && row % height.dilation == 0) {
          const bool first = slice == depth.first_tap(a) * depth.dilation &&
              row == height.first_tap(b) * height.dilation;
          row_list[count++] = 2 * (windows(a, b) - scratch) + first;
        }
      }
    }
    return count;
  }

  // False where a window has no tap in the input, or the sums leave the range.
  SOFT_POOL_HD bool find_sums() {
    int64_t begin[2], end[2];
    for (int d = 0; d < 3; ++d) {
      const Axis& other = tile.axes[d];
      for (int64_t o = plan.first[d]; o < plan.last[d]; ++o) {
        if (other.first_tap(o) >= other.last_tap(o)) {
          return false;
        }
      }
      if (d < 2) {
        begin[d] = most(0, other.start(plan.first[d]));
        end[d] = least(other.size, other.start(plan.last[d] - 1) + other.extent());
      }
    }
    for (int64_t z = begin[0]; z < end[0]; ++z) {
      for (int64_t y = begin[1]; y < end[1]; ++y) {
        const int64_t count = find_windows(z, y);
        if (count > 0) {
          const auto* row = static_cast<const element_t*>(arrays.input) + input_row(z, y);
          contiguous ? weigh_row(row) : weigh_pixels(row);
          add_row(count);
        }
      }
    }
    return true;
  }

  // e and e x of a row into plan.phased; 0 in the padding.
  SOFT_POOL_HD void weigh_row(const element_t* row) const {
    const Channel one = channels(0);
    const bool in_order = axis.stride == 1;
    const int64_t size = in_order ? plan.phase_stride : plan.natural_stride;
    real* weights = scratch + (in_order ? plan.phased : plan.natural);
    real* products = weights + size;
    const int64_t before = axis.padding - plan.first[2] * axis.stride;  // column of input 0
    const int64_t begin = most(0, before);
    const int64_t end = most(begin, least(plan.columns, axis.size + before));
    for (int64_t i = begin; i < end; i += kStep) {
      const Real x = one.activation(load_some(row + i - before, end - i));
      const Real e = one.formula.weight(x);
      store(weights + i, e);
      store(products + i, e * x);
    }
    for (real* numbers : {weights, products}) {
      fill(numbers, begin, real(0));
      fill(numbers + end, size - end, real(0));
    }
    if (!in_order) {
      to_phases(weights, scratch + plan.phased);
      to_phases(products, scratch + plan.phased + plan.phases * plan.phase_stride);
    }
  }

  SOFT_POOL_HD void to_phases(const real* natural, real* phased) const {
    if (axis.stride == 2 && plan.phases == 2) {
      for (int64_t q = 0; q < plan.positions; q += kStep) {
        Real even, odd;
        split<real>(load(natural + 2 * q), load(natural + 2 * q + kStep), even, odd);
        store(phased + q, even);
        store(phased + plan.phase_stride + q, odd);
      }
      return;
    }
    for (int64_t phase = 0; phase < plan.phases; ++phase) {
      for (int64_t q = 0; q < plan.positions; ++q) {
        phased[phase * plan.phase_stride + q] = natural[q * axis.stride + phase];
      }
    }
  }

  SOFT_POOL_HD void weigh_pixels(const element_t* row) const {
    const int64_t products = plan.phases * plan.phase_stride;
    const int64_t before = axis.padding - plan.first[2] * axis.stride;
    for (int64_t q = 0; q < plan.positions; ++q) {
      for (int64_t phase = 0; phase < plan.phases; ++phase) {
        const int64_t column = q * axis.stride + phase - before;
        real* target = scratch + plan.phased + phase * plan.phase_stride + q * plan.pixel;
        if (column < 0 || column >= axis.size || q * axis.stride + phase >= plan.columns) {
          fill(target, plan.pixel, real(0));
          fill(target + products, plan.pixel, real(0));
          continue;
        }
        const element_t* source = row + column * tile.pixel_stride;
        for (int64_t channel = 0; channel < tile.channels; channel += kStep) {
          const Channel here = channels(channel);
          // The next row's: hardware does not foresee the jump.
          __builtin_prefetch(source + axis.size * tile.pixel_stride + channel);
          const Real x = here.activation(load_some(source + channel, tile.channels - channel));
          const Real e = here.formula.weight(x);
          store(target + channel, e);
          store(target + products + channel, e * x);
        }
      }
    }
  }

  // Adds the row in plan.phased up over each window's columns, and that to `count` rows of windows.
  SOFT_POOL_HD void add_row(int64_t count) const {
    switch (axis.kernel) {
      case 2: return add_row<2>(count);
      case 3: return add_row<3>(count);
      case 5: return add_row<5>(count);
      default: return add_row<0>(count);
    }
  }
  template <int kernel>
  SOFT_POOL_HD void add_row(int64_t count) const {
    const int64_t taps = kernel > 0 ? kernel : axis.kernel;
    const real* weights = scratch + plan.phased;
    const real* products = weights + plan.phases * plan.phase_stride;
    for (int64_t i = 0; i < aligned(plan.lanes); i += kStep) {
      Real total{}, product{};
      for (int64_t tap = 0; tap < taps; ++tap) {
        total += load(weights + tap_list[tap] + i);
        product += load(products + tap_list[tap] + i);
      }
      for (int64_t r = 0; r < count; ++r) {
        real* target = scratch + row_list[r] / 2 + i;
        const bool first = row_list[r] % 2 != 0;
        store(target, first ? total : load(target) + total);
        store(target + plan.window_stride,
              first ? product : load(target + plan.window_stride) + product);
      }
    }
  }
};

}  // namespace
}  // namespace softpool_det
