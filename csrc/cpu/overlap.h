// SoftPool of the stock stem's windows, and its gradient, for one tile; see overlap_walk.h.
#pragma once

#include "overlap_walk.h"

namespace softpool_det {
namespace {

template <typename element_t, Affine affine, bool contiguous>
struct Overlap : OverlapWalk<element_t, affine, contiguous> {
  using Base = OverlapWalk<element_t, affine, contiguous>;
  using typename Base::Pair;
  using typename Base::Vector;
  using typename Base::real;
  using Base::Base;
  using Base::arrays;
  using Base::channels_at;
  using Base::columns;
  using Base::extremes;
  using Base::for_each_group;
  using Base::input_row;
  using Base::kept;
  using Base::kStep;
  using Base::lanes;
  using Base::plan;
  using Base::rows;
  using Base::slopes;
  using Base::start;
  using Base::tile;
  using Base::vectors;
  using Base::whole_groups;
  using Base::window_offset;

  // False where the tile has to be done another way.
  bool forward() {
    for (int64_t depth = tile.begin[0]; depth < tile.end[0]; ++depth) {
      start(depth, plan.row_begin);
      for (int64_t row = plan.row_begin; row < plan.row_end; ++row) {
        auto* output = static_cast<element_t*>(arrays.result) + window_offset(depth, row);
        this->template walk<false>(depth, row, [&](auto whole, int64_t, int64_t window,
                                                   int64_t channel, Vector, Vector mean) {
          if (window >= tile.begin[2]) {
            this->template store_windows<whole.value>(output, window, channel, mean);
          }
        });
      }
    }
    return extremes.is_right();
  }

  template <bool exact>
  bool backward() {
    for (int64_t depth = tile.begin[0]; depth < tile.end[0]; ++depth) {
      start(depth, plan.row_begin);
      for (int64_t row = plan.row_begin; row <= tile.end[1] / 2; ++row) {
        weigh<exact>(depth, row);
        if (row > plan.row_begin) {
          emit<exact>(depth, 2 * row - 1, kept(1, row - 1), slopes(row - 1), slopes(row));
        }
        if (2 * row < tile.end[1]) {
          emit<exact>(depth, 2 * row, kept(0, row), slopes(row), nullptr);
        }
      }
    }
    return extremes.is_right();
  }

 private:
  // Of the windows of a row with total t, mean m and upstream gradient g: g / t, g / t * (1 - m).
  template <bool exact>
  void weigh(int64_t depth, int64_t row) {
    real* slope = slopes(row);
    if (row >= rows.out_size) {
      fill(slope, 2 * lanes(), real(0));
      return;
    }
    const auto* upstream =
        static_cast<const element_t*>(arrays.grad_output) + window_offset(depth, row);
    Extremes<real> slopes_seen;
    this->template walk<true>(depth, row, [&](auto whole, int64_t at, int64_t window,
                                              int64_t channel, Vector inverse, Vector mean) {
      const element_t* source = upstream + window * tile.pixel + channel;
      __builtin_prefetch(source + columns.out_size * tile.pixel);
      const int64_t windows = columns.out_size - window;
      const int64_t count = whole.value ? kStep
          : contiguous                  ? windows
          : windows > 0                 ? channels_at(channel)
                                        : 0;
      const Vector gradient = count >= kStep ? Elements<element_t>::load(source)
          : count > 0                        ? load_some(source, count)
                                             : Vector{};
      const Vector weight = gradient * inverse;
      slopes_seen.add_slope(gradient, weight);
      Elements<real>::store(slope + at, weight);
      if (exact) {
        Elements<real>::store(slope + lanes() + at, weight * (real(1) - mean));
      }
    });
    extremes.zero += slopes_seen.zero;
  }

  // Writes the gradient of one row of the input, from those of the window rows that hold it.
  template <bool exact>
  SOFT_POOL_HD void emit(
      int64_t depth, int64_t row, const real* weights, const real* slopes,
      const real* other_slopes) const {
    if (row >= tile.end[1]) {
      return;
    }
    auto* target = static_cast<element_t*>(arrays.result) +
        (depth * rows.size + row) * columns.size * tile.pixel;
    const element_t* source = input_row(depth, row);
    const int64_t first = tile.begin[2] / 2 > plan.window_begin ? 1 : 0;
    for_each_group(whole_groups(row), [&](auto whole, int64_t at, int64_t window, int64_t channel) {
      if (at < first * vectors() * kStep || 2 * window >= tile.end[2]) {
        return;
      }
      const int64_t next = at + vectors() * kStep;
      const Vector slope = sum_of(slopes, other_slopes, at);
      const Vector constant = exact ? sum_of(slopes, other_slopes, at + lanes()) : Vector{};
      const Vector both_slopes = slope +
          right_of(slope, next < lanes() ? sum_of(slopes, other_slopes, next) : Vector{});
      Vector both_constants{};
      if (exact) {
        both_constants = constant +
            right_of(constant,
                     next < lanes() ? sum_of(slopes, other_slopes, next + lanes()) : Vector{});
      }
      const real* e = weights + at;
      Pair x{};
      if (exact || affine != Affine::kNone) {
        x = this->template load_pair<whole.value>(source, window, channel);
      }
      const Pair gradient{
          gradient_of<exact>(Elements<real>::load(e), x.even, slope, constant, channel),
          gradient_of<exact>(
              Elements<real>::load(e + lanes()), x.odd, both_slopes, both_constants, channel)};
      this->template store_pair<whole.value>(target, window, channel, gradient);
    });
  }

  static SOFT_POOL_HD Vector sum_of(const real* one, const real* other, int64_t at) {
    const Vector sum = Elements<real>::load(one + at);
    return other == nullptr ? sum : sum + Elements<real>::load(other + at);
  }

  // The number of window o + 1 for column 2o + 1.
  static SOFT_POOL_HD Vector right_of(Vector here, Vector next) {
    return contiguous ? shift_out<real>(here, next) : next;
  }

  template <bool exact>
  SOFT_POOL_HD Vector gradient_of(
      Vector e, Vector x, Vector slope, Vector constant, int64_t channel) const {
    const Vector gradient = e * (exact ? constant + x * slope : slope);
    if (affine == Affine::kNone) {
      return gradient;
    }
    const auto* scale = static_cast<const real*>(arrays.scale);
    const int64_t count = channels_at(channel);
    const Vector factor = affine == Affine::kOne ? broadcast(*scale)
        : count >= kStep                         ? Elements<real>::load(scale + channel)
                                                 : load_some(scale + channel, count);
    return x > 0 ? gradient * factor : Vector{};
  }
};

}  // namespace
}  // namespace softpool_det
