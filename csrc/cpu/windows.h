// Statistics of a tile's windows from rows in buffers.
//
// Two ways lead to them. The shared one computes e = exp(x) once for every input, whatever windows
// it is in, and adds e and e * x up over columns, then over rows. That is right as long as exp(x)
// stays well inside the type's range, which the sums tell. Where it does not, the exact way
// subtracts each window's own maximum, which takes an exp() for every input of every window; it
// also knows what to do with infinite values and NaN.
#pragma once

#include <float.h>

#include "exponential.h"
#include "plan.h"
#include "rows.h"

namespace softpool_det {
namespace {

// Sums of exp(x) outside of [1 / kFar, kFar] are left to the exact way: up to there, nothing that
// matters to a window is lost below the smallest number.
constexpr float kFar = 0x1p64f;

// Where a search for the maximum starts. It is finite so that -inf lies at a distance from it.
template <typename real>
constexpr real kLowest = sizeof(real) == 4 ? real(-FLT_MAX) : real(-DBL_MAX);

// Distances below count as this: exp() of it is 0.
template <typename real>
constexpr real kNoWeight = sizeof(real) == 4 ? real(-200) : real(-750);

// What the sums of exp(x) and of x * exp(x) have been.
template <typename real>
struct Extremes {
  Lanes<real> smallest = broadcast(real(kFar));
  Lanes<real> largest = broadcast(real(kFar));
  Lanes<real> zero = Lanes<real>{};  // NaN after a NaN or an infinite number

  SOFT_POOL_HD void add(Lanes<real> total, Lanes<real> product) {
    smallest = total < smallest ? total : smallest;
    largest = total > largest ? total : largest;
    zero += product * real(0);
  }
  // Of an upstream gradient g and g / total: with room for the products and sums that gradients are
  // made of, and none that has lost digits below the type's normal range.
  SOFT_POOL_HD void add_slope(Lanes<real> upstream, Lanes<real> slope) {
    const Lanes<real> magnitude = slope < 0 ? -slope : slope;
    const Lanes<real> beyond =
        slope * real(0x1p63f) * real(0) + upstream * real(0x1p8f) * real(0);
    const Lanes<real> lost = slope == 0 ? Lanes<real>{} : broadcast(real(NAN));
    zero += magnitude < real(0x1p-100f) ? lost : beyond;
  }
  // Whether the shared way is right for all of them.
  bool is_right() const {
    constexpr int count = kLanes<real>;
    real numbers[3][count];
    Elements<real>::store(numbers[0], smallest);
    Elements<real>::store(numbers[1], largest);
    Elements<real>::store(numbers[2], zero);
    bool right = true;
    for (int lane = 0; lane < count; ++lane) {
      right = right && numbers[0][lane] >= real(1) / real(kFar) &&
          numbers[1][lane] <= real(kFar) && numbers[2][lane] == real(0);
    }
    return right;
  }
};

template <typename element_t, Affine affine>
struct Windows {
  using real = typename Elements<element_t>::real;
  using Vector = Lanes<real>;
  static constexpr int kStep = kLanes<real>;
  static constexpr int kDegree = sizeof(element_t) == 2 ? 4 : 5;

  const Tile& tile;
  const Arrays& arrays;
  Plan plan;
  Layout layout;
  Columns columns;
  real* scratch;

  Windows(const Tile& tile, const Arrays& arrays, real* scratch)
      : tile(tile),
        arrays(arrays),
        plan(make_plan(tile, arrays.grad_output != nullptr)),
        layout(make_layout(tile, plan, arrays.grad_output != nullptr)),
        columns{&tile.axes[2], tile.taps, plan.window_begin[2], plan.positions, tile.width,
                plan.slot_stride},
        scratch(scratch) {}

  static Vector load(const real* source) { return Elements<real>::load(source); }
  static void store(real* target, Vector value) { Elements<real>::store(target, value); }

  int64_t row_index(int64_t depth, int64_t row) const {
    return (depth - plan.row_begin[0]) * plan.rows(1) + row - plan.row_begin[1];
  }
  real* input_row(int64_t index) const {
    return scratch + layout.inputs + index * layout.row_stride;
  }
  real* sums_row(int64_t index) const {
    return scratch + layout.sums + index * 2 * plan.window_stride;
  }
  Transform<affine, real> transform() const {
    return {static_cast<const real*>(arrays.scale), static_cast<const real*>(arrays.shift)};
  }
  // Lanes of the taps of window 0, from the begin of a row.
  const int64_t* tap_lanes() const {
    auto* lanes = reinterpret_cast<int64_t*>(scratch + layout.lists);
    for (int64_t tap = 0; tap < tile.taps->count; ++tap) {
      lanes[tap] =
          tile.taps->slot[tap] * plan.slot_stride + tile.taps->offset[tap] * tile.width;
    }
    return lanes;
  }

  static bool is_tapped(const Axis& axis, int64_t index) {
    for (int64_t o = axis.first_window(index); o < axis.last_window(index); ++o) {
      if ((index - axis.start(o)) % axis.dilation == 0) {
        return true;
      }
    }
    return false;
  }

  template <typename Body>
  void for_each_row(const Body& body) const {
    for (int64_t depth = plan.row_begin[0]; depth < plan.row_end[0]; ++depth) {
      for (int64_t row = plan.row_begin[1]; row < plan.row_end[1]; ++row) {
        if (is_tapped(tile.axes[0], depth) && is_tapped(tile.axes[1], row)) {
          body(depth, row);
        }
      }
    }
  }

  struct List {
    const int64_t* items;
    int64_t count;
  };

  // Indices of the input's rows that the windows at (depth, row) have taps in, times `stride`.
  List tapped_rows(int64_t depth, int64_t row, int64_t stride) const {
    const Axis& outer = tile.axes[0];
    const Axis& inner = tile.axes[1];
    auto* rows = reinterpret_cast<int64_t*>(scratch + layout.lists) + tile.taps->count;
    int64_t count = 0;
    for (int64_t a = outer.first_tap(depth); a < outer.last_tap(depth); ++a) {
      for (int64_t b = inner.first_tap(row); b < inner.last_tap(row); ++b) {
        rows[count++] = stride *
            row_index(
                outer.start(depth) + a * outer.dilation, inner.start(row) + b * inner.dilation);
      }
    }
    return {rows, count};
  }

  void load_inputs() const {
    const auto* input = static_cast<const element_t*>(arrays.input);
    for_each_row([&](int64_t depth, int64_t row) {
      const int64_t offset = (depth * tile.axes[1].size + row) * tile.axes[2].size * tile.pixel;
      real* target = input_row(row_index(depth, row));
      load_row(columns, input + offset, tile.pixel, transform(), target);
      // Finite, so that times its exp(), 0, it is 0.
      fill_padding(columns, real(-1e30), target);
    });
  }

  void pad_with_infinity() const {
    for_each_row([&](int64_t depth, int64_t row) {
      fill_padding(columns, -real(HUGE_VAL), input_row(row_index(depth, row)));
    });
  }

  // Sums over the columns of every window, for every row.
  void sum_columns() const {
    real* weights = scratch + layout.terms;
    real* products = weights + layout.row_stride;
    const int64_t* lanes = tap_lanes();
    for_each_row([&](int64_t depth, int64_t row) {
      const int64_t index = row_index(depth, row);
      const real* x = input_row(index);
      for (int64_t i = 0; i < layout.row_stride; i += kStep) {
        const Vector e = exponential<kDegree>(load(x + i));
        store(weights + i, e);
        store(products + i, e * load(x + i));
      }
      real* sums = sums_row(index);
      for (int64_t i = 0; i < plan.lanes; i += kStep) {
        Vector total{};
        Vector product{};
        for (int64_t tap = 0; tap < tile.taps->count; ++tap) {
          total += load(weights + lanes[tap] + i);
          product += load(products + lanes[tap] + i);
        }
        store(sums + i, total);
        store(sums + plan.window_stride + i, product);
      }
    });
  }

  // Writes totals of exp(x) and means of x of one row of windows; false where they are not right.
  bool shared_row(int64_t depth, int64_t row, real* totals, real* means) const {
    const List rows = tapped_rows(depth, row, 2 * plan.window_stride);
    for (int64_t i = 0; i < plan.lanes; i += kStep) {
      Vector total{};
      Vector product{};
      for (int64_t r = 0; r < rows.count; ++r) {
        const real* sums = scratch + layout.sums + rows.items[r] + i;
        total += load(sums);
        product += load(sums + plan.window_stride);
      }
      store(totals + i, total);
      store(means + i, product);
    }
    const int64_t end = (plan.lanes + kStep - 1) / kStep * kStep;
    fill(totals + plan.lanes, end - plan.lanes, real(1));
    fill(means + plan.lanes, end - plan.lanes, real(0));
    Extremes<real> extremes;
    for (int64_t i = 0; i < end; i += kStep) {
      const Vector total = load(totals + i);
      const Vector product = load(means + i);
      extremes.add(total, product);
      store(means + i, product * reciprocal(total));
    }
    return extremes.is_right();
  }

  // Writes maxima, inverse totals of exp(x - maximum), and means of x - maximum.
  void exact_row(int64_t depth, int64_t row, real* maxima, real* inverses, real* means) const {
    const int64_t* lanes = tap_lanes();
    const List rows = tapped_rows(depth, row, layout.row_stride);
    for (int64_t i = 0; i < plan.lanes; i += kStep) {
      Vector maximum = broadcast(kLowest<real>);
      for_each_tap(rows, lanes, i, [&](Vector x) { maximum = x > maximum ? x : maximum; });
      Vector total{};
      Vector product{};
      for_each_tap(rows, lanes, i, [&](Vector x) {
        const Vector d = distance(x, maximum);
        const Vector e = exponential<kDegree>(d);
        total += e;
        product += e * d;
      });
      const Vector inverse = total == 0 ? Vector{} : real(1) / total;
      store(maxima + i, maximum);
      store(inverses + i, inverse);
      store(means + i, product * inverse);
    }
  }

  template <typename Body>
  SOFT_POOL_HD void for_each_tap(
      const List& rows, const int64_t* lanes, int64_t i, const Body& body) const {
    for (int64_t r = 0; r < rows.count; ++r) {
      for (int64_t tap = 0; tap < tile.taps->count; ++tap) {
        body(load(scratch + layout.inputs + rows.items[r] + lanes[tap] + i));
      }
    }
  }

  // x - maximum, at most 0 and at least kNoWeight; 0 where both are infinite.
  static Vector distance(Vector x, Vector maximum) {
    Vector d = x - maximum;
    d = x == maximum ? Vector{} : d;
    d = d < kNoWeight<real> ? broadcast(kNoWeight<real>) : d;
    return d > 0 ? Vector{} : d;
  }
};

}  // namespace
}  // namespace softpool_det
