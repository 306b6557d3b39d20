// Windows of 3 x 3 with stride 2 and padding 1, the stock stem's, with sums that windows share, in
// registers. Only the slopes use the buffers of window_sums.h.
//
// Window o holds the columns 2o - 1, 2o and 2o + 1, so the pair (2o, 2o + 1) completes it, and leaves
// its odd column for the next one; and so with rows.
#pragma once

#include <string.h>

#include <type_traits>

#include "window_sums.h"

namespace softpool_det {
namespace {

template <typename element_t, bool affine, bool contiguous>
struct K3S2P1 : WindowSums<element_t, affine, contiguous> {
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

  SOFT_POOL_HD K3S2P1(const Tile& tile, const Arrays& arrays, real* scratch)
      : Base(tile, arrays, scratch, arrays.grad_output != nullptr) {}

  static constexpr int64_t step = contiguous ? kStep : 1;  // windows of a register

  // Numbers of the columns 2o and 2o + 1 of a register of windows.
  struct Pair {
    Real even, odd;
  };
  // Sums of e and of e x.
  struct Sums {
    Real total, product;

    SOFT_POOL_HD Sums operator+(const Sums& other) const {
      return {total + other.total, product + other.product};
    }
  };
  // Those of the even and of the odd columns.
  struct Columns {
    Sums even, odd;

    SOFT_POOL_HD Columns operator+(const Columns& other) const {
      return {even + other.even, odd + other.odd};
    }
  };

  SOFT_POOL_HD bool forward() {
    for (int64_t z = plan.first[0]; z < plan.last[0]; ++z) {
      start(z);
      for (int64_t y = plan.first[1]; y < plan.last[1]; ++y) {
        auto* output = static_cast<element_t*>(arrays.result) + this->window_row(z, y);
        const auto store = [&](int64_t, int64_t place, int64_t count, const Sums& sums)
                               SOFT_POOL_INLINE {
          store_some(output + place, this->find_mean(sums.total, sums.product, count).mean, count,
                     arrays.nontemporal);
        };
        sum_row<false>(z, y, store);
      }
    }
    return this->range.holds();
  }

  // Window row by window row, while what they leave is in the first-level cache.
  template <bool exact>
  SOFT_POOL_HD bool backward() {
    const auto* grad_output = static_cast<const element_t*>(arrays.grad_output);
    for (int64_t z = plan.first[0]; z < plan.last[0]; ++z) {
      start(z);
      for (int64_t y = plan.first[1]; y < plan.last[1]; ++y) {
        real* target = this->windows(z, y);
        const element_t* upstream = grad_output + this->window_row(z, y);
        const auto store = [&](int64_t i, int64_t place, int64_t count, const Sums& sums)
                               SOFT_POOL_INLINE {
          this->template store_slopes<exact>(
              target + i, upstream + place, count,
              this->find_mean(sums.total, sums.product, count));
        };
        sum_row<true>(z, y, store);
        for (int which = 0; which < (exact ? 2 : 1); ++which) {
          real* end = target + which * plan.window_stride + plan.lanes;
          fill(end, plan.window_stride - plan.lanes, real(0));
        }
        gather<exact>(z, 2 * y - 1, target);
        gather<exact>(z, 2 * y, nullptr);
      }
      gather<exact>(z, 2 * plan.last[1] - 1, nullptr);
    }
    this->add_grad_beta();
    return this->range.holds();
  }

 private:
  SOFT_POOL_HD const element_t* row_at(int64_t z, int64_t y) const {
    const bool inside = y >= 0 && y < tile.axes[1].size;
    return inside ? static_cast<const element_t*>(arrays.input) + this->input_row(z, y) : nullptr;
  }

  // e of the even columns of a row, lane for lane of its windows, then of the odd ones: of three rows.
  SOFT_POOL_HD real* weights_of(int64_t y) const {
    return scratch + plan.weights + y % 3 * 2 * plan.window_stride;
  }

  // Columns 2 * window and 2 * window + 1 of a row; `whole`: all are there.
  template <bool whole>
  SOFT_POOL_HD Pair load_pair(
      const element_t* row, int64_t window, int64_t channel, const Channel& here) const {
    const int64_t room = axis.size - 2 * window;
    Pair x{};
    if (contiguous) {
      const element_t* source = row + 2 * window;
      element_t copy[2 * kStep] = {};
      if (!whole && room < 2 * kStep) {
        memcpy(copy, source, static_cast<size_t>(room) * sizeof(element_t));
        source = copy;
      }
      Elements<element_t>::load_pairs(source, x.even, x.odd);
    } else {
      const int64_t count = whole ? kStep : tile.channels - channel;
      const element_t* source = row + 2 * window * tile.pixel_stride + channel;
      x.even = load_some(source, count);
      if (whole || room > 1) {
        x.odd = load_some(source + tile.pixel_stride, count);
      }
    }
    return {here.activation(x.even), here.activation(x.odd)};
  }

  // What one row adds to a register of windows; zeros outside the image. `keep`: stores e at `weights`.
  template <bool whole, bool keep>
  SOFT_POOL_HD Columns weigh(
      const element_t* row, int64_t window, int64_t channel, const Channel& here,
      real* weights) const {
    const int64_t room = axis.size - 2 * window;
    if (!whole && (row == nullptr || room <= 0)) {
      return {Sums{}, Sums{}};
    }
    if (whole) {
      // The next pair of rows: hardware does not foresee the jump over the row between.
      const element_t* next = row + 2 * (axis.size + window) * tile.pixel_stride + channel;
      __builtin_prefetch(next);
      __builtin_prefetch(next + (contiguous ? kStep : tile.pixel_stride));
    }
    const Pair x = load_pair<whole>(row, window, channel, here);
    const Real e = here.formula.weight(x.even), f = here.formula.weight(x.odd);
    if (keep) {
      this->store(weights, e);
      this->store(weights + plan.window_stride, f);
    }
    if (whole) {
      return {{e, e * x.even}, {f, f * x.odd}};
    }
    const int64_t evens = contiguous ? (room + 1) / 2 : kStep;
    const int64_t odds = contiguous ? room / 2 : room > 1 ? kStep : 0;
    const auto first = [](int64_t count, Real value) {
      return between<real>(0, count, value, real(0));
    };
    return {{first(evens, e), first(evens, e * x.even)}, {first(odds, f), first(odds, f * x.odd)}};
  }

  // What the column before the first window's pair leaves, in the last lane (contiguous) or in all.
  SOFT_POOL_HD Sums before(const element_t* row, int64_t channel, const Channel& here) const {
    if (row == nullptr || plan.first[2] == 0) {
      return Sums{};
    }
    const element_t* source = row + (2 * plan.first[2] - 1) * tile.pixel_stride + channel;
    const Real value = contiguous ? broadcast<real>(load_some(source, 1)[0])
                                  : load_some(source, tile.channels - channel);
    const Real x = here.activation(value);
    const Real e = here.formula.weight(x);
    return {e, e * x};
  }

  // Calls body(whether the register is whole, window, channel, numbers by channel) for the windows
  // [begin, end). Whole ones have all columns of their pairs before `columns`, and all channels: with
  // a loop of their own the compiler has enough registers.
  template <typename Body>
  SOFT_POOL_HD void for_each(int64_t begin, int64_t end, int64_t columns, const Body& body) const {
    const Channel one = this->channels(0);
    const auto run = [&](auto whole, int64_t window) SOFT_POOL_INLINE {
      if (contiguous) {
        return body(whole, window, 0, one);
      }
      for (int64_t channel = 0; channel < tile.channels; channel += kStep) {
        body(whole, window, channel, this->channels(channel));
      }
    };
    const bool ragged = !contiguous && tile.channels % kStep != 0;
    const int64_t pairs = ragged ? 0 : most(0, least(end, columns / 2) - begin);
    const int64_t middle = begin + pairs / step * step;
    for (int64_t window = begin; window < middle; window += step) {
      run(std::true_type(), window);
    }
    for (int64_t window = middle; window < end; window += step) {
      run(std::false_type(), window);
    }
  }

  SOFT_POOL_HD int64_t lane_of(int64_t window, int64_t channel) const {
    return (window - plan.first[2]) * plan.pixel + channel;
  }

  // What the row above the first row of windows leaves for it.
  SOFT_POOL_HD void start(int64_t z) const {
    const element_t* above = row_at(z, 2 * plan.first[1] - 1);
    const auto keep = [&](auto, int64_t o, int64_t channel, const Channel& here) SOFT_POOL_INLINE {
      store_kept(lane_of(o, channel), weigh<false, false>(above, o, channel, here, nullptr));
    };
    for_each(plan.first[2], plan.last[2], 0, keep);
  }

  // Calls body(lane, place in the tensor's row, lanes that count, sums) for a row of windows, row by
  // row from the first: the lower row's sums stay for the next row of windows.
  template <bool keep, typename Body>
  SOFT_POOL_HD void sum_row(int64_t z, int64_t y, const Body& body) {
    const element_t* above = row_at(z, 2 * y - 1);
    const element_t* upper = row_at(z, 2 * y);
    const element_t* lower = row_at(z, 2 * y + 1);
    real* const upper_weights = weights_of(2 * y);
    real* const lower_weights = weights_of(2 * y + 1);
    // Sums of the odd columns before, in arrays of registers: structs are copied in halves of them.
    Real totals[contiguous ? 1 : kMostChannels / kStep]{}, products[sizeof(totals) / sizeof(Real)]{};
    for (int64_t channel = 0; channel < tile.channels; channel += kStep) {
      const Channel here = this->channels(channel);
      const Sums sums =
          before(above, channel, here) + before(upper, channel, here) + before(lower, channel, here);
      totals[channel / kStep] = sums.total;
      products[channel / kStep] = sums.product;
    }
    const auto add_rows = [&](auto whole, int64_t o, int64_t channel, const Channel& here)
                              SOFT_POOL_INLINE {
      const int64_t i = lane_of(o, channel);
      const Columns low =
          weigh<whole.value, keep>(lower, o, channel, here, lower_weights + i);
      const Columns rows = load_kept(i) +
          weigh<whole.value, keep>(upper, o, channel, here, upper_weights + i) + low;
      store_kept(i, low);
      const int64_t v = channel / kStep;
      const Real total = totals[v], product = products[v];
      totals[v] = rows.odd.total;
      products[v] = rows.odd.product;
      const Sums left = contiguous ? Sums{shift_in<real>(total, rows.odd.total),
                                          shift_in<real>(product, rows.odd.product)}
                                   : Sums{total, product};
      const int64_t window = o - plan.first[2];
      const int64_t count = whole.value ? kStep
          : contiguous                  ? plan.lanes - window
                                        : tile.channels - channel;
      body(i, window * tile.pixel_stride + channel, count, left + rows.even + rows.odd);
    };
    for_each(plan.first[2], plan.last[2], lower == nullptr ? 0 : axis.size, add_rows);
  }

  // The lower row's sums, for the next row of windows.
  SOFT_POOL_HD real* kept(int which) const {
    return scratch + plan.phased + which * plan.window_stride;
  }
  SOFT_POOL_HD Columns load_kept(int64_t i) const {
    const auto at = [&](int which) { return this->load(kept(which) + i); };
    return {{at(0), at(1)}, {at(2), at(3)}};
  }
  SOFT_POOL_HD void store_kept(int64_t i, const Columns& sums) const {
    this->store(kept(0) + i, sums.even.total);
    this->store(kept(1) + i, sums.even.product);
    this->store(kept(2) + i, sums.odd.total);
    this->store(kept(3) + i, sums.odd.product);
  }

  // Column 2o is in window o alone, 2o + 1 in the next one, too; and so with rows, for which `other` is
  // the next one's, if there is one.
  template <bool exact>
  SOFT_POOL_HD void gather(int64_t z, int64_t y, const real* other) {
    if (y < tile.begin[1] || y >= tile.end[1]) {
      return;
    }
    const int64_t row = this->input_row(z, y);
    const real* const weights = weights_of(y);
    const real* const one = this->windows(z, y / 2);
    const auto* input = static_cast<const element_t*>(arrays.input) + row;
    auto* result = static_cast<element_t*>(arrays.result) + row;
    const auto store = [&](auto whole, int64_t o, int64_t channel, const Channel& here)
                           SOFT_POOL_INLINE {
      gather_pair<exact, whole.value>(input, result, weights, one, other, o, channel, here);
    };
    for_each(tile.begin[2] / 2, (tile.end[2] + 1) / 2, tile.end[2], store);
  }

  template <bool exact, bool whole>
  SOFT_POOL_HD void gather_pair(
      const element_t* input, element_t* result, const real* weights, const real* one,
      const real* other, int64_t o, int64_t channel, const Channel& here) {
    const int64_t room = tile.end[2] - 2 * o;
    const int64_t lane = lane_of(o, channel);
    Pair slope, out{}, terms;
    const auto sum_at = [&](int64_t i) {
      return other == nullptr ? this->load(one + i) : this->load(one + i) + this->load(other + i);
    };
    slope.even = sum_at(lane);
    slope.odd = slope.even + sum_at(lane + plan.pixel);
    if (exact) {
      out.even = sum_at(plan.window_stride + lane);
      out.odd = out.even + sum_at(plan.window_stride + lane + plan.pixel);
    }
    Pair x{};
    if (exact || affine) {
      x = load_pair<whole>(input, o, channel, here);
    }
    const Real e = this->load(weights + lane), f = this->load(weights + plan.window_stride + lane);
    const Pair gradient{
        this->template gradient<exact>(here, x.even, e, slope.even, out.even, terms.even),
        this->template gradient<exact>(here, x.odd, f, slope.odd, out.odd, terms.odd)};
    element_t* target = result + 2 * o * tile.pixel_stride + channel;
    if (contiguous && (whole || room >= 2 * kStep)) {
      Elements<element_t>::store_pairs(target, gradient.even, gradient.odd, arrays.nontemporal);
    } else if (contiguous) {
      element_t pairs[2 * kStep];
      Elements<element_t>::store_pairs(pairs, gradient.even, gradient.odd);
      memcpy(target, pairs, static_cast<size_t>(room) * sizeof(element_t));
    } else {
      const int64_t count = whole ? kStep : tile.channels - channel;
      store_some(target, gradient.even, count, arrays.nontemporal);
      if (whole || room > 1) {
        store_some(target + tile.pixel_stride, gradient.odd, count, arrays.nontemporal);
      }
    }
    if (exact && arrays.grad_beta != nullptr) {
      const int64_t odds = contiguous ? room / 2 : room > 1 ? kStep : 0;
      const int64_t evens = contiguous ? (room + 1) / 2 : kStep;
      this->add_terms(
          channel, between<real>(0, evens, terms.even, real(0)) +
              between<real>(0, odds, terms.odd, real(0)));
    }
  }
};

}  // namespace
}  // namespace softpool_det
