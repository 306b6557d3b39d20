// Windows of 3 x 3 with stride 2 and padding 1, the stock stem's, which share rows and columns: a
// tile is walked down row pair by row pair, exp() is computed once for every input and kept for the
// windows below. Sums are shared as in windows.h, and checked the same way.
//
// Window r holds the rows 2r - 1, 2r and 2r + 1, so the pair (2r, 2r + 1) of rows completes it; and
// so with columns. A row of pairs is a sequence of `groups`: registers of neighbouring windows
// (contiguous), or windows one after the other with `vectors` registers of channels each
// (channels_last).
#pragma once

#include "windows.h"

namespace softpool_det {
namespace {

template <typename element_t, Affine affine, bool contiguous>
struct OverlapWalk {
  using real = typename Elements<element_t>::real;
  using Vector = Lanes<real>;
  static constexpr int kStep = kLanes<real>;
  static constexpr int kDegree = sizeof(element_t) == 2 ? 4 : 5;

  // exp(x), and x * exp(x), of a pair of columns.
  struct Pair {
    Vector even, odd;
  };

  // Copies: what is written through pointers could not be told from them otherwise.
  const Tile tile;
  const Arrays arrays;
  const Axis rows;
  const Axis columns;
  OverlapPlan plan;
  real* scratch;
  Extremes<real> extremes;

  OverlapWalk(const Tile& tile, const Arrays& arrays, real* scratch)
      : tile(tile),
        arrays(arrays),
        rows(tile.axes[1]),
        columns(tile.axes[2]),
        plan(make_overlap_plan(tile, arrays.grad_output != nullptr, kStep)),
        scratch(scratch) {}

  // ---- buffers: each has a number for every lane of a row of pairs ----

  int64_t lanes() const { return plan.groups * plan.vectors * kStep; }
  int64_t vectors() const { return contiguous ? 1 : plan.vectors; }
  int64_t place(int64_t vector, int64_t group) const {
    return (group * vectors() + vector) * kStep;
  }
  // exp(x) of even and odd columns: of row 2r (which = 0), or 2r + 1, kept until the next row pair.
  real* kept(int which, int64_t row) const {
    return scratch + (which == 0 ? 0 : 2 + row % 2 * 2) * lanes();
  }
  // Slopes, then constants, of window row r.
  real* slopes(int64_t row) const { return scratch + (6 + row % 2 * 2) * lanes(); }

  // ---- reading and writing ----

  int64_t window_offset(int64_t depth, int64_t row) const {
    return (depth * rows.out_size + row) * columns.out_size * tile.pixel;
  }
  const element_t* input_row(int64_t depth, int64_t row) const {
    const auto* input = static_cast<const element_t*>(arrays.input);
    return row >= rows.size ? nullptr
                            : input + (depth * rows.size + row) * columns.size * tile.pixel;
  }
  // First window of a group.
  int64_t window_of(int64_t group) const {
    return plan.window_begin + (contiguous ? group * kStep : group);
  }
  int64_t channels_at(int64_t channel) const { return least(kStep, tile.width - channel); }

  Transform<affine, real> transform() const {
    return {static_cast<const real*>(arrays.scale), static_cast<const real*>(arrays.shift)};
  }

  // Columns 2 * window and 2 * window + 1; what is not there becomes padding, whose exp() is 0.
  // `ahead`: fetches the next row pair, too; hardware does not foresee the jump.
  template <bool whole, bool ahead = false>
  SOFT_POOL_HD Pair load_pair(const element_t* row, int64_t window, int64_t channel) const {
    if (whole) {
      return load_whole_pair<ahead>(row + 2 * window * tile.pixel + channel, channel);
    }
    const Vector padding = broadcast(real(-1e30));
    const int64_t room = row == nullptr ? 0 : columns.size - 2 * window;
    if (room <= 0) {
      return {padding, padding};
    }
    if (contiguous) {
      return load_neighbours(row + 2 * window, room);
    }
    const element_t* source = row + 2 * window * tile.pixel + channel;
    const int64_t count = channels_at(channel);
    return {load_channels(source, channel, count),
            room > 1 ? load_channels(source + tile.pixel, channel, count) : padding};
  }

  template <bool ahead>
  SOFT_POOL_HD Pair load_whole_pair(const element_t* source, int64_t channel) const {
    if (ahead) {
      const element_t* next = source + 2 * columns.size * tile.pixel;
      __builtin_prefetch(next);
      __builtin_prefetch(next + (contiguous ? kStep : tile.pixel));
    }
    Pair x;
    if (contiguous) {
      Elements<element_t>::load_pairs(source, x.even, x.odd);
    } else {
      x = {Elements<element_t>::load(source), Elements<element_t>::load(source + tile.pixel)};
    }
    return {transform()(x.even, channel, kStep), transform()(x.odd, channel, kStep)};
  }

  SOFT_POOL_HD Vector load_channels(const element_t* source, int64_t channel, int64_t count) const {
    const Vector value =
        count >= kStep ? Elements<element_t>::load(source) : load_some(source, count);
    return transform()(value, channel, count);
  }

  SOFT_POOL_HD Pair load_neighbours(const element_t* source, int64_t room) const {
    if (room >= 2 * kStep) {
      return load_whole_pair<false>(source, 0);
    }
    element_t copy[2 * kStep] = {};
    memcpy(copy, source, static_cast<size_t>(room) * sizeof(element_t));
    Pair x;
    Elements<element_t>::load_pairs(copy, x.even, x.odd);
    return {padded(transform()(x.even, 0, kStep), (room + 1) / 2),
            padded(transform()(x.odd, 0, kStep), room / 2)};
  }

  // The first `count` lanes, and padding.
  static SOFT_POOL_HD Vector padded(Vector value, int64_t count) {
    real numbers[kStep];
    Elements<real>::store(numbers, value);
    fill(numbers + count, kStep - count, real(-1e30));
    return Elements<real>::load(numbers);
  }

  template <bool whole>
  SOFT_POOL_HD void store_windows(
      element_t* row, int64_t window, int64_t channel, Vector value) const {
    const int64_t count = whole ? kStep
        : contiguous            ? least(kStep, tile.end[2] - window)
                                : channels_at(channel);
    element_t* target = row + window * tile.pixel + channel;
    whole && arrays.stream ? stream(target, value) : store_lanes(value, count, target);
  }

  template <bool whole>
  SOFT_POOL_HD void store_pair(
      element_t* row, int64_t window, int64_t channel, const Pair& value) const {
    const int64_t room = tile.end[2] - 2 * window;
    element_t* target = row + 2 * window * tile.pixel + channel;
    if (whole && arrays.stream) {
      if (contiguous) {
        stream_pairs(target, value.even, value.odd);
      } else {
        stream(target, value.even);
        stream(target + tile.pixel, value.odd);
      }
      return;
    }
    if (!contiguous) {
      const int64_t count = whole ? kStep : channels_at(channel);
      store_lanes(value.even, count, target);
      if (whole || room > 1) {
        store_lanes(value.odd, count, target + tile.pixel);
      }
    } else if (whole || room >= 2 * kStep) {
      Elements<element_t>::store_pairs(target, value.even, value.odd);
    } else {
      element_t pairs[2 * kStep];
      Elements<element_t>::store_pairs(pairs, value.even, value.odd);
      memcpy(target, pairs, static_cast<size_t>(room) * sizeof(element_t));
    }
  }

  static SOFT_POOL_HD void store_lanes(Vector value, int64_t count, element_t* target) {
    count >= kStep ? Elements<element_t>::store(target, value) : store_some(target, value, count);
  }

  // Groups of the rows at (row, row + 1) that need no look at any border.
  int64_t whole_groups(int64_t row) const {
    const bool ragged = !contiguous && tile.width % kStep != 0;
    if (ragged || row + 1 >= rows.size) {
      return 0;
    }
    const int64_t windows = least(columns.size, tile.end[2] * (plan.backward ? 1 : 2)) / 2;
    const int64_t count = (windows - plan.window_begin) / (contiguous ? kStep : 1);
    return most(0, least(plan.groups, count));
  }

  // ---- statistics ----

  // What the row above row pair `row` leaves for it.
  void start(int64_t depth, int64_t row) const {
    const element_t* source = row == 0 ? nullptr : input_row(depth, 2 * row - 1);
    real* weights = kept(1, row + 1);
    for_each_group(0, [&](auto, int64_t at, int64_t window, int64_t channel) {
      const Pair x = load_pair<false>(source, window, channel);
      store_both(weights + at, exponential<kDegree>(x.even), exponential<kDegree>(x.odd));
    });
  }

  // Calls body(whether the group is whole, place, window, channel), in the order of memory.
  template <typename Body>
  SOFT_POOL_HD void for_each_group(int64_t whole_groups, const Body& body) const {
    for (int64_t group = 0; group < whole_groups; ++group) {
      for (int64_t vector = 0; vector < vectors(); ++vector) {
        body(std::true_type(), place(vector, group), window_of(group), vector * kStep);
      }
    }
    for (int64_t group = whole_groups; group < plan.groups; ++group) {
      for (int64_t vector = 0; vector < vectors(); ++vector) {
        body(std::false_type(), place(vector, group), window_of(group), vector * kStep);
      }
    }
  }

  SOFT_POOL_HD void store_both(real* target, Vector even, Vector odd) const {
    Elements<real>::store(target, even);
    Elements<real>::store(target + lanes(), odd);
  }

  // The sum of a window's column 2o - 1, from those of the group's odd columns and the one before.
  static SOFT_POOL_HD Vector left_of(Vector before, Vector odd) {
    return contiguous ? shift_in<real>(before, odd) : before;
  }

  // Calls body(whether the group is whole, place, window, channel, 1 / total of exp(x), mean) for
  // the windows of a row, group by group.
  template <bool keep_all, typename Body>
  SOFT_POOL_HD void walk(int64_t depth, int64_t row, const Body& body) {
    const element_t* top = row == 0 ? nullptr : input_row(depth, 2 * row - 1);
    const element_t* upper = input_row(depth, 2 * row);
    const element_t* lower = input_row(depth, 2 * row + 1);
    const real* above = kept(1, row + 1);
    real* middle = kept(0, row);
    real* below = kept(1, row);
    // Sums of the odd columns before, of every register of channels.
    Pair one_before{};
    real* before = scratch + 10 * lanes();
    fill(before, contiguous ? 0 : 2 * vectors() * kStep, real(0));
    Extremes<real> seen = extremes;
    for_each_group(row == 0 ? 0 : whole_groups(2 * row), [&](auto whole, int64_t at, int64_t window,
                                              int64_t channel) {
      const real* kept_before = before + 2 * channel;
      const Pair left = contiguous
          ? one_before
          : Pair{Elements<real>::load(kept_before), Elements<real>::load(kept_before + kStep)};
      const Pair w = load_pair<whole.value>(top, window, channel);
      const Pair x = load_pair<whole.value, true>(upper, window, channel);
      const Pair y = load_pair<whole.value, true>(lower, window, channel);
      const Pair d{Elements<real>::load(above + at), Elements<real>::load(above + lanes() + at)};
      const Pair e{exponential<kDegree>(x.even), exponential<kDegree>(x.odd)};
      const Pair f{exponential<kDegree>(y.even), exponential<kDegree>(y.odd)};
      const Pair totals{d.even + (e.even + f.even), d.odd + (e.odd + f.odd)};
      const Pair products{
          d.even * w.even + e.even * x.even + f.even * y.even,
          d.odd * w.odd + e.odd * x.odd + f.odd * y.odd};
      store_both(below + at, f.even, f.odd);
      if (keep_all) {
        store_both(middle + at, e.even, e.odd);
      }
      Vector total = left_of(left.even, totals.odd) + totals.even + totals.odd;
      const Vector product = left_of(left.odd, products.odd) + products.even + products.odd;
      if (contiguous) {
        one_before = {totals.odd, products.odd};
      } else {
        Elements<real>::store(before + 2 * channel, totals.odd);
        Elements<real>::store(before + 2 * channel + kStep, products.odd);
      }
      if (!whole.value) {
        total = only_windows(window, total);
      }
      seen.add(total, product);
      const Vector inverse = reciprocal(total);
      body(whole, at, window, channel, inverse, product * inverse);
    });
    extremes = seen;
  }

  // Behind the last window, 1 instead of nothing.
  SOFT_POOL_HD Vector only_windows(int64_t window, Vector total) const {
    const int64_t count = columns.out_size - window;
    if (contiguous ? count >= kStep : count >= 1) {
      return total;
    }
    real numbers[kStep];
    Elements<real>::store(numbers, total);
    fill(numbers + most(0, count), kStep - most(0, count), real(1));
    return Elements<real>::load(numbers);
  }
};

}  // namespace
}  // namespace softpool_det
