// Any windows, by sums that they share: see window_sums.h.
#pragma once

#include <string.h>

#include "window_sums.h"

namespace softpool_det {
namespace {

template <typename element_t, bool affine, bool contiguous>
struct Generic : WindowSums<element_t, affine, contiguous> {
  using Base = WindowSums<element_t, affine, contiguous>;
  using typename Base::Channel;
  using typename Base::Real;
  using typename Base::real;
  using Base::arrays;
  using Base::axis;
  using Base::kStep;
  using Base::plan;
  using Base::scratch;
  using Base::tile;
  using Base::Base;

  // False where the tile has to be done by plain.h.
  SOFT_POOL_HD bool forward() {
    if (!this->find_sums()) {
      return false;
    }
    for (int64_t z = plan.first[0]; z < plan.last[0]; ++z) {
      for (int64_t y = plan.first[1]; y < plan.last[1]; ++y) {
        const real* sums = this->windows(z, y);
        auto* output = static_cast<element_t*>(arrays.result) + this->window_row(z, y);
        this->for_each_register([&](int64_t i, int64_t place, int64_t, int64_t count) {
          const auto mean = this->find_mean(
              this->load(sums + i), this->load(sums + plan.window_stride + i), count);
          store_some(output + place, mean.mean, count, arrays.nontemporal);
        });
      }
    }
    return this->range.holds();
  }

  template <bool exact>
  SOFT_POOL_HD bool backward() {
    if (!plan.empty() && !(this->find_sums() && find_slopes<exact>())) {
      return false;
    }
    for (int64_t z = tile.begin[0]; z < tile.end[0]; ++z) {
      for (int64_t y = tile.begin[1]; y < tile.end[1]; ++y) {
        const int64_t count = plan.empty() ? 0 : this->find_windows(z, y);
        const int64_t row = this->input_row(z, y);
        if (count == 0) {
          clear(row, tile.begin[2], tile.end[2]);
          continue;
        }
        sum_rows<exact>(count);
        contiguous ? gather_row<exact>(row) : gather_pixels<exact>(row);
      }
    }
    this->add_grad_beta();
    return true;
  }

 private:
  // Puts slope and slope * out into the place of each window's sums.
  template <bool exact>
  SOFT_POOL_HD bool find_slopes() {
    const auto* grad_output = static_cast<const element_t*>(arrays.grad_output);
    for (int64_t z = plan.first[0]; z < plan.last[0]; ++z) {
      for (int64_t y = plan.first[1]; y < plan.last[1]; ++y) {
        real* sums = this->windows(z, y);
        const element_t* upstream = grad_output + this->window_row(z, y);
        this->for_each_register([&](int64_t i, int64_t place, int64_t, int64_t count) {
          const auto mean = this->find_mean(
              this->load(sums + i), this->load(sums + plan.window_stride + i), count);
          this->template store_slopes<exact>(sums + i, upstream + place, count, mean);
        });
      }
    }
    return this->range.holds();
  }
  // Where a row's sums of slopes begin; `which` 1: of slope * out. Margins of zeros lie beside.
  SOFT_POOL_HD real* row_sums(int which) const {
    return scratch + plan.sums + plan.margin +
        which * (plan.window_stride + 2 * plan.margin + kAlignment);
  }

  // Adds up the `count` rows of windows that hold a row of the input.
  template <bool exact>
  SOFT_POOL_HD void sum_rows(int64_t count) const {
    for (int which = 0; which < (exact ? 2 : 1); ++which) {
      real* sums = row_sums(which);
      const real* source = scratch + which * plan.window_stride;
      fill(sums - plan.margin, plan.margin, real(0));
      for (int64_t i = 0; i < aligned(plan.lanes); i += kStep) {
        Real sum{};
        for (int64_t r = 0; r < count; ++r) {
          sum += this->load(source + this->row_list[r] / 2 + i);
        }
        this->store(sums + i, sum);
      }
      const int64_t behind = plan.window_stride + plan.margin + kAlignment - plan.lanes;
      fill(sums + plan.lanes, behind, real(0));
    }
  }

  // The sum over the windows that hold a column, at `lane` of its phase's positions.
  SOFT_POOL_HD Real gather(const real* sums, int64_t phase, int64_t lane) const {
    Real sum{};
    for (int64_t i = this->phase_list[phase]; i < this->phase_list[phase + 1]; ++i) {
      sum += this->load(sums + lane - this->gather_list[i]);
    }
    return sum;
  }

  // Columns of the input that windows of the tile may hold: [begin, end).
  struct Held {
    int64_t begin, end, before;
  };
  SOFT_POOL_HD Held held() const {
    const int64_t before = axis.padding - plan.first[2] * axis.stride;  // column of input 0
    const int64_t begin = most(tile.begin[2], -before);
    const int64_t end = least(tile.end[2], plan.columns - before);
    return {least(begin, tile.end[2]), most(end, begin), before};
  }

  template <bool exact>
  SOFT_POOL_HD void gather_row(int64_t row) {
    const Held columns = held();
    const Channel one = this->channels(0);
    const bool in_order = axis.stride == 1;
    real* gathered = scratch + plan.natural;
    for (int which = 0; which < (exact ? 2 : 1); ++which) {
      real* natural = gathered + which * plan.natural_stride;
      real* phased = in_order ? natural : scratch + plan.phased;
      for (int64_t phase = 0; phase < plan.phases; ++phase) {
        for (int64_t q = 0; q < plan.positions; q += kStep) {
          this->store(phased + phase * plan.phase_stride + q, gather(row_sums(which), phase, q));
        }
      }
      if (!in_order) {
        to_order(phased, natural);
      }
    }
    const auto* input = static_cast<const element_t*>(arrays.input) + row;
    auto* result = static_cast<element_t*>(arrays.result) + row;
    clear(row, tile.begin[2], columns.begin);
    for (int64_t x = columns.begin; x < columns.end; x += kStep) {
      const int64_t count = columns.end - x;
      const real* slope = gathered + x + columns.before;
      const Real value = one.activation(load_some(input + x, count));
      const Real slope_out = exact ? this->load(slope + plan.natural_stride) : Real{};
      Real terms;
      const Real weight = one.formula.weight(value);
      const Real gradient = this->template gradient<exact>(
          one, value, weight, this->load(slope), slope_out, terms);
      store_some(result + x, gradient, count, arrays.nontemporal);
      if (exact && arrays.grad_beta != nullptr) {
        this->add_terms(0, count < kStep ? between<real>(0, count, terms, real(0)) : terms);
      }
    }
    clear(row, columns.end, tile.end[2]);
  }

  SOFT_POOL_HD void to_order(const real* phased, real* natural) const {
    if (axis.stride == 2 && plan.phases == 2) {
      for (int64_t q = 0; q < plan.positions; q += kStep) {
        Real a, b;
        merge<real>(
            this->load(phased + q), this->load(phased + plan.phase_stride + q), a, b);
        this->store(natural + 2 * q, a);
        this->store(natural + 2 * q + kStep, b);
      }
      return;
    }
    fill(natural, plan.natural_stride, real(0));
    for (int64_t phase = 0; phase < plan.phases; ++phase) {
      for (int64_t q = 0; q < plan.positions && q * axis.stride + phase < plan.columns; ++q) {
        natural[q * axis.stride + phase] = phased[phase * plan.phase_stride + q];
      }
    }
  }

  template <bool exact>
  SOFT_POOL_HD void gather_pixels(int64_t row) {
    const Held columns = held();
    clear(row, tile.begin[2], columns.begin);
    for (int64_t x = columns.begin; x < columns.end; ++x) {
      const int64_t column = x + columns.before;
      const int64_t phase = column % axis.stride;
      const int64_t lane = column / axis.stride * plan.pixel;
      if (phase >= plan.phases) {
        clear(row, x, x + 1);
        continue;
      }
      const int64_t place = row + x * tile.pixel_stride;
      const auto* input = static_cast<const element_t*>(arrays.input) + place;
      auto* result = static_cast<element_t*>(arrays.result) + place;
      for (int64_t channel = 0; channel < tile.channels; channel += kStep) {
        const int64_t count = tile.channels - channel;
        const Channel here = this->channels(channel);
        const Real value = here.activation(load_some(input + channel, count));
        const Real slope = gather(row_sums(0), phase, lane + channel);
        const Real slope_out = exact ? gather(row_sums(1), phase, lane + channel) : Real{};
        Real terms;
        const Real weight = here.formula.weight(value);
        const Real gradient =
            this->template gradient<exact>(here, value, weight, slope, slope_out, terms);
        store_some(result + channel, gradient, count, arrays.nontemporal);
        if (exact && arrays.grad_beta != nullptr) {
          this->add_terms(channel, terms);
        }
      }
    }
    clear(row, columns.end, tile.end[2]);
  }

  SOFT_POOL_HD void clear(int64_t row, int64_t begin, int64_t end) const {
    auto* result = static_cast<element_t*>(arrays.result) + row;
    for (int64_t column = begin; column < end; ++column) {
      memset(
          static_cast<void*>(result + column * tile.pixel_stride), 0,
          static_cast<size_t>(tile.channels) * sizeof(element_t));
    }
  }
};

}  // namespace
}  // namespace softpool_det
