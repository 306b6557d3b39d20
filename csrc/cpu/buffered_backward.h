// The gradient of SoftPool of any windows by way of buffers, for one tile of the input. Every input
// gathers from the windows that hold it, so that its gradient is written once, by one thread.
#pragma once

#include "windows.h"

namespace softpool_det {
namespace {

template <typename element_t, Affine affine, bool exact>
struct Backward : Windows<element_t, affine> {
  using Base = Windows<element_t, affine>;
  using typename Base::real;
  using typename Base::Vector;
  using Base::Base;

  void run() const {
    if (this->plan.is_empty()) {
      for_each_own_row([this](int64_t, int64_t, element_t* target) { clear(target); });
      return;
    }
    this->load_inputs();
    if (sizeof(real) == 4) {
      this->sum_columns();
      if (shared_windows()) {
        for_each_own_row([this](int64_t depth, int64_t row, element_t* target) {
          shared_gradient(depth, row, target);
        });
        return;
      }
    }
    this->pad_with_infinity();
    exact_windows();
    for_each_own_row([this](int64_t depth, int64_t row, element_t* target) {
      exact_gradient(depth, row, target);
    });
  }

  // Number `which` of the windows at (depth, row), from the first of them; margins lie on both
  // sides.
  real* window_row(int64_t depth, int64_t row, int which) const {
    const int64_t index = (depth - this->plan.window_begin[0]) * this->plan.windows(1) + row -
        this->plan.window_begin[1];
    return this->scratch + this->layout.windows + (index * 3 + which) * this->plan.window_stride +
        this->plan.margin;
  }

  template <typename Body>
  bool for_each_window_row(const Body& body) const {
    for (int64_t depth = this->plan.window_begin[0]; depth < this->plan.window_end[0]; ++depth) {
      for (int64_t row = this->plan.window_begin[1]; row < this->plan.window_end[1]; ++row) {
        if (!body(depth, row)) {
          return false;
        }
      }
    }
    return true;
  }

  // Zeros on both sides of a row of windows, so that nothing comes from windows that are not there.
  void clear_margins(real* windows) const {
    const int64_t behind = this->plan.window_stride - this->plan.margin - this->plan.lanes;
    fill(windows - this->plan.margin, this->plan.margin, real(0));
    fill(windows + this->plan.lanes, behind, real(0));
  }

  const real* load_upstream(int64_t depth, int64_t row) const {
    const Axis* axes = this->tile.axes;
    const auto* grad_output = static_cast<const element_t*>(this->arrays.grad_output);
    const int64_t pixel = (depth * axes[1].out_size + row) * axes[2].out_size;
    const element_t* source = grad_output + (pixel + this->plan.window_begin[2]) * this->tile.pixel;
    real* target = this->scratch + this->layout.totals + 2 * this->plan.window_stride;
    const Transform<Affine::kNone, real> as_it_is{};
    if (this->tile.width == this->tile.pixel) {
      load_run(source, this->plan.lanes, as_it_is, target);
      return target;
    }
    for (int64_t o = 0; o < this->plan.windows(2); ++o) {
      load_run(
          source + o * this->tile.pixel, this->tile.width, as_it_is, target + o * this->tile.width);
    }
    return target;
  }

  // For windows with total t, mean m and upstream gradient g: g / t, and g / t * (1 - m).
  bool shared_windows() const {
    real* totals = this->scratch + this->layout.totals;
    real* means = totals + this->plan.window_stride;
    return for_each_window_row([&](int64_t depth, int64_t row) {
      if (!this->shared_row(depth, row, totals, means)) {
        return false;
      }
      const real* upstream = load_upstream(depth, row);
      real* slope = window_row(depth, row, 0);
      real* constant = window_row(depth, row, 1);
      Extremes<real> extremes;
      for (int64_t i = 0; i < this->plan.lanes; i += Base::kStep) {
        const Vector gradient = this->load(upstream + i);
        const Vector weight = gradient / this->load(totals + i);
        extremes.add_slope(gradient, weight);
        this->store(slope + i, weight);
        if (exact) {
          this->store(constant + i, weight * (real(1) - this->load(means + i)));
        }
      }
      clear_margins(slope);
      clear_margins(constant);
      return extremes.is_right();
    });
  }

  void exact_windows() const {
    for_each_window_row([&](int64_t depth, int64_t row) {
      real* maxima = window_row(depth, row, 0);
      real* weights = window_row(depth, row, 1);
      real* means = window_row(depth, row, 2);
      this->exact_row(depth, row, maxima, weights, means);
      const real* upstream = load_upstream(depth, row);
      for (int64_t i = 0; i < this->plan.lanes; i += Base::kStep) {
        this->store(weights + i, this->load(weights + i) * this->load(upstream + i));
      }
      clear_margins(maxima);
      clear_margins(weights);
      clear_margins(means);
      return true;
    });
  }

  using typename Base::List;

  // Places of the rows of windows that hold the row (depth, row) of the input; see window_row().
  List holding_rows(int64_t depth, int64_t row) const {
    const Axis& outer = this->tile.axes[0];
    const Axis& inner = this->tile.axes[1];
    auto* rows =
        reinterpret_cast<int64_t*>(this->scratch + this->layout.lists) + this->tile.taps->count;
    int64_t count = 0;
    for (int64_t a = outer.first_window(depth); a < outer.last_window(depth); ++a) {
      for (int64_t b = inner.first_window(row); b < inner.last_window(row); ++b) {
        if ((depth - outer.start(a)) % outer.dilation == 0 &&
            (row - inner.start(b)) % inner.dilation == 0) {
          rows[count++] = window_row(a, b, 0) - this->scratch;
        }
      }
    }
    return {rows, count};
  }

  void shared_gradient(int64_t depth, int64_t row, element_t* target) const {
    const real* x = this->input_row(this->row_index(depth, row));
    real* gradient = this->scratch + this->layout.terms;
    // Sums over the rows of windows; the rows of totals are free by now.
    real* slopes = this->scratch + this->layout.totals;
    real* constants = slopes + this->plan.window_stride;
    const int64_t end = this->plan.lanes + 2 * this->plan.margin + Base::kStep;
    const List rows = holding_rows(depth, row);
    for (int64_t i = 0; i < end; i += Base::kStep) {
      Vector slope{};
      Vector constant{};
      for (int64_t r = 0; r < rows.count; ++r) {
        const real* windows = this->scratch + rows.items[r] - this->plan.margin + i;
        slope += this->load(windows);
        if (exact) {
          constant += this->load(windows + this->plan.window_stride);
        }
      }
      this->store(slopes + i, slope);
      this->store(constants + i, constant);
    }
    for_each_lane([&](int64_t slot, int64_t lane) {
      Vector slope{};
      Vector constant{};
      for_each_tap_of(slot, [&](int64_t offset) {
        slope += this->load(slopes + this->plan.margin + lane - offset);
        if (exact) {
          constant += this->load(constants + this->plan.margin + lane - offset);
        }
      });
      const int64_t at = slot * this->plan.slot_stride + lane;
      const Vector value = this->load(x + at);
      const Vector factor = exact ? constant + value * slope : slope;
      // An input of no window may be NaN.
      const Vector result = exponential<Base::kDegree>(value) * factor;
      this->store(gradient + at, slope == 0 && constant == 0 ? Vector{} : result);
    });
    finish(x, gradient, target);
  }

  void exact_gradient(int64_t depth, int64_t row, element_t* target) const {
    const real* x = this->input_row(this->row_index(depth, row));
    real* gradient = this->scratch + this->layout.terms;
    const List rows = holding_rows(depth, row);
    for_each_lane([&](int64_t slot, int64_t lane) {
      const int64_t at = slot * this->plan.slot_stride + lane;
      const Vector value = this->load(x + at);
      Vector sum{};
      for (int64_t r = 0; r < rows.count; ++r) {
        const real* maxima = this->scratch + rows.items[r] + lane;
        const real* weights = maxima + this->plan.window_stride;
        const real* means = weights + this->plan.window_stride;
        for_each_tap_of(slot, [&](int64_t offset) {
          const Vector weight = this->load(weights - offset);
          const Vector d = this->distance(value, this->load(maxima - offset));
          Vector term = weight * exponential<Base::kDegree>(d);
          if (exact) {
            term *= real(1) + d - this->load(means - offset);
          }
          sum += weight == 0 ? Vector{} : term;
        });
      }
      this->store(gradient + at, sum);
    });
    finish(x, gradient, target);
  }

  template <typename Body>
  void for_each_lane(const Body& body) const {
    for (int64_t slot = 0; slot < this->tile.taps->slots; ++slot) {
      for (int64_t lane = 0; lane < this->plan.positions * this->tile.width; lane += Base::kStep) {
        body(slot, lane);
      }
    }
  }

  template <typename Body>
  void for_each_tap_of(int64_t slot, const Body& body) const {
    for (int64_t tap = 0; tap < this->tile.taps->count; ++tap) {
      if (this->tile.taps->slot[tap] == slot) {
        body(this->tile.taps->offset[tap] * this->tile.width);
      }
    }
  }

  // The chain rule through relu(input * scale + shift), and the rounding to the tensor's type.
  void finish(const real* x, real* gradient, element_t* target) const {
    if (affine != Affine::kNone) {
      const auto* scale = static_cast<const real*>(this->arrays.scale);
      for (int64_t slot = 0; slot < this->tile.taps->slots; ++slot) {
        for (int64_t p = 0; p < this->plan.positions; ++p) {
          const int64_t at = slot * this->plan.slot_stride + p * this->tile.width;
          for (int64_t c = 0; c < this->tile.width; ++c) {
            gradient[at + c] = x[at + c] <= 0 ? real(0) : gradient[at + c] * scale[c];
          }
        }
      }
    }
    store_row(
        this->columns, gradient, this->tile.pixel, this->tile.begin[2], this->tile.end[2], target);
  }

  template <typename Body>
  void for_each_own_row(const Body& body) const {
    const Axis* axes = this->tile.axes;
    auto* grad_input = static_cast<element_t*>(this->arrays.result);
    for (int64_t depth = this->tile.begin[0]; depth < this->tile.end[0]; ++depth) {
      for (int64_t row = this->tile.begin[1]; row < this->tile.end[1]; ++row) {
        element_t* target =
            grad_input + (depth * axes[1].size + row) * axes[2].size * this->tile.pixel;
        if (this->is_tapped(axes[0], depth) && this->is_tapped(axes[1], row)) {
          body(depth, row, target);
        } else {
          clear(target);
        }
      }
    }
  }

  void clear(element_t* row) const {
    for (int64_t column = this->tile.begin[2]; column < this->tile.end[2]; ++column) {
      memset(
          row + column * this->tile.pixel, 0,
          static_cast<size_t>(this->tile.width) * sizeof(element_t));
    }
  }
};

}  // namespace
}  // namespace softpool_det
