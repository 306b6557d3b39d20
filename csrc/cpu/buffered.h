// SoftPool of any windows by way of buffers, for one tile.
#pragma once

#include "windows.h"

namespace softpool_det {
namespace {

template <typename element_t, Affine affine>
struct Forward : Windows<element_t, affine> {
  using Base = Windows<element_t, affine>;
  using typename Base::real;
  using typename Base::Vector;
  using Base::Base;

  void run() const {
    this->load_inputs();
    if (sizeof(real) == 4) {  // for double, exp() is a call and its range no problem
      this->sum_columns();
      if (pool([this](int64_t depth, int64_t row, real* output) {
            return this->shared_row(depth, row, output + this->plan.window_stride, output);
          })) {
        return;
      }
    }
    this->pad_with_infinity();
    pool([this](int64_t depth, int64_t row, real* output) {
      real* maxima = output + this->plan.window_stride;
      real* inverses = maxima + this->plan.window_stride;
      this->exact_row(depth, row, maxima, inverses, output);
      for (int64_t i = 0; i < this->plan.lanes; i += Base::kStep) {
        const Vector value = this->load(maxima + i) + this->load(output + i);
        const Vector nothing = broadcast(-real(HUGE_VAL));
        this->store(output + i, this->load(inverses + i) == 0 ? nothing : value);
      }
      return true;
    });
  }

  // Writes the outputs row by row as `compute` has them; false as soon as it says so.
  template <typename Compute>
  bool pool(const Compute& compute) const {
    real* buffer = this->scratch + this->layout.totals;
    auto* output = static_cast<element_t*>(this->arrays.result);
    const Axis* axes = this->tile.axes;
    for (int64_t depth = this->tile.begin[0]; depth < this->tile.end[0]; ++depth) {
      for (int64_t row = this->tile.begin[1]; row < this->tile.end[1]; ++row) {
        if (!compute(depth, row, buffer)) {
          return false;
        }
        const int64_t pixel = (depth * axes[1].out_size + row) * axes[2].out_size;
        store_windows(buffer, output + (pixel + this->tile.begin[2]) * this->tile.pixel);
      }
    }
    return true;
  }

  void store_windows(const real* values, element_t* target) const {
    const int64_t width = this->tile.width;
    if (width == this->tile.pixel) {
      store_run(values, this->plan.lanes, target);
      return;
    }
    for (int64_t o = 0; o < this->plan.windows(2); ++o) {
      store_run(values + o * width, width, target + o * this->tile.pixel);
    }
  }
};

}  // namespace
}  // namespace softpool_det
