// Rows of a tensor to and from buffers of lanes.
#pragma once

#include "elements.h"
#include "plan.h"

namespace softpool_det {
namespace {

// The columns that a tile's buffers hold: positions [begin, begin + count) of every phase.
struct Columns {
  const Axis* axis;
  const Taps* taps;
  int64_t begin;
  int64_t count;
  int64_t width;        // lanes of a position
  int64_t slot_stride;  // lanes from one phase to the next

  int64_t column(int64_t slot, int64_t position) const {
    return position * axis->stride + taps->phase[slot] - axis->padding;
  }
  // First position of the slot whose column is at least `column`, within [begin, begin + count].
  int64_t position_of(int64_t slot, int64_t column) const {
    const int64_t distance = column - (taps->phase[slot] - axis->padding);
    const int64_t position = distance <= 0 ? 0 : (distance + axis->stride - 1) / axis->stride;
    return least(begin + count, most(begin, position));
  }
  bool is_pairs() const {
    return axis->stride == 2 && taps->slots == 2 && taps->phase[0] == 0;
  }
};

// What becomes of an input as it is read: itself, or relu(input * scale + shift) with one scale for
// all (contiguous) or one for each lane (channels_last).
enum class Affine { kNone, kOne, kEach };

template <Affine affine, typename real>
struct Transform {
  const real* scale;
  const real* shift;

  SOFT_POOL_HD Lanes<real> operator()(Lanes<real> value, int64_t lane, int64_t count) const {
    if (affine == Affine::kNone) {
      return value;
    }
    Lanes<real> a, b;
    if (affine == Affine::kOne) {
      a = broadcast(*scale);
      b = broadcast(*shift);
    } else if (count >= kLanes<real>) {
      a = Elements<real>::load(scale + lane);
      b = Elements<real>::load(shift + lane);
    } else {
      a = load_some(scale + lane, count);
      b = load_some(shift + lane, count);
    }
    const Lanes<real> result = value * a + b;
    return result < 0 ? Lanes<real>{} : result;
  }
};

// `count` neighbouring elements; up to a register of lanes behind them are overwritten, too.
template <typename element_t, Affine affine, typename real>
SOFT_POOL_HD void load_run(
    const element_t* source, int64_t count, Transform<affine, real> transform, real* target) {
  int64_t i = 0;
  for (; i + kLanes<real> <= count; i += kLanes<real>) {
    const Lanes<real> value = Elements<element_t>::load(source + i);
    Elements<real>::store(target + i, transform(value, i, kLanes<real>));
  }
  if (i < count) {
    Elements<real>::store(target + i, transform(load_some(source + i, count - i), i, count - i));
  }
}

template <typename element_t, typename real>
SOFT_POOL_HD void store_run(const real* source, int64_t count, element_t* target) {
  int64_t i = 0;
  for (; i + kLanes<real> <= count; i += kLanes<real>) {
    Elements<element_t>::store(target + i, Elements<real>::load(source + i));
  }
  if (i < count) {
    store_some(target + i, Elements<real>::load(source + i), count - i);
  }
}

template <typename element_t, typename T, typename real>
SOFT_POOL_HD void load_one(const element_t* source, T transform, real* target) {
  const Lanes<real> value = transform(load_some(source, 1), 0, 1);
  memcpy(target, &value, sizeof(real));
}

template <typename real>
SOFT_POOL_HD void fill(real* target, int64_t count, real value) {
  for (int64_t i = 0; i < count; ++i) {
    target[i] = value;
  }
}

// Puts `value` wherever a row's buffer holds no column of the input.
template <typename real>
void fill_padding(const Columns& columns, real value, real* target) {
  for (int64_t slot = 0; slot < columns.taps->slots; ++slot) {
    real* phase = target + slot * columns.slot_stride;
    const int64_t first = columns.position_of(slot, 0) - columns.begin;
    const int64_t last =
        most(first, columns.position_of(slot, columns.axis->size) - columns.begin);
    fill(phase, first * columns.width, value);
    fill(
        phase + last * columns.width, columns.slot_stride - last * columns.width, value);
  }
}

// Positions of two phases whose columns both lie inside the input, 2 * count columns from `column`.
struct Pairs {
  int64_t first;  // counted from columns.begin
  int64_t count;
  int64_t column;
};

inline Pairs pairs_of(const Columns& columns, int64_t begin, int64_t end) {
  const int64_t first =
      most(columns.position_of(0, begin), columns.position_of(1, begin));
  const int64_t last = least(columns.position_of(0, end), columns.position_of(1, end));
  return {first - columns.begin, most(0, last - first), columns.column(0, first)};
}

template <typename element_t, typename T>
void load_slot(
    const Columns& columns, int64_t slot, const element_t* row, int64_t pixel, T transform,
    typename Elements<element_t>::real* phase) {
  using real = typename Elements<element_t>::real;
  const int64_t stride = columns.axis->stride;
  const int64_t first = columns.position_of(slot, 0);
  const int64_t last = columns.position_of(slot, columns.axis->size);
  real* target = phase + (first - columns.begin) * columns.width;
  if (stride == 1 && columns.width == pixel && columns.width == 1) {
    load_run(row + columns.column(slot, first), most(0, last - first), transform, target);
    return;
  }
  for (int64_t position = first; position < last; ++position, target += columns.width) {
    load_run(row + columns.column(slot, position) * pixel, columns.width, transform, target);
  }
}

// Reads one row of the input into `target`, phase by phase. The buffer's padding is left undefined.
template <typename element_t, typename T>
void load_row(
    const Columns& columns, const element_t* row, int64_t pixel, T transform,
    typename Elements<element_t>::real* target) {
  using real = typename Elements<element_t>::real;
  if (columns.width != 1 || pixel != 1 || !columns.is_pairs()) {
    for (int64_t slot = 0; slot < columns.taps->slots; ++slot) {
      load_slot(columns, slot, row, pixel, transform, target + slot * columns.slot_stride);
    }
    return;
  }
  real* even = target;
  real* odd = target + columns.slot_stride;
  const Pairs pairs = pairs_of(columns, 0, columns.axis->size);
  const element_t* source = row + pairs.column;
  int64_t i = 0;
  for (; i + kLanes<real> <= pairs.count; i += kLanes<real>) {
    Lanes<real> a, b;
    Elements<element_t>::load_pairs(source + 2 * i, a, b);
    Elements<real>::store(even + pairs.first + i, transform(a, 0, kLanes<real>));
    Elements<real>::store(odd + pairs.first + i, transform(b, 0, kLanes<real>));
  }
  // The rest, and a column whose partner is padding.
  for (int64_t slot = 0; slot < 2; ++slot) {
    real* phase = slot == 0 ? even : odd;
    const int64_t last = columns.position_of(slot, columns.axis->size) - columns.begin;
    for (int64_t p = columns.position_of(slot, 0) - columns.begin; p < last; ++p) {
      if (p == pairs.first && i > 0) {
        p += i;
        if (p >= last) break;
      }
      load_one(row + columns.column(slot, p + columns.begin), transform, phase + p);
    }
  }
}

// The inverse: writes the columns [begin, end) of a row of the gradient from its phases. Columns of
// no phase's positions become 0.
template <typename element_t>
void store_row(
    const Columns& columns, const typename Elements<element_t>::real* source, int64_t pixel,
    int64_t begin, int64_t end, element_t* row) {
  using real = typename Elements<element_t>::real;
  int64_t stored = 0;
  for (int64_t slot = 0; slot < columns.taps->slots; ++slot) {
    stored += most(0, columns.position_of(slot, end) - columns.position_of(slot, begin));
  }
  if (stored < end - begin) {
    for (int64_t column = begin; column < end; ++column) {
      memset(row + column * pixel, 0, static_cast<size_t>(columns.width) * sizeof(element_t));
    }
  }
  int64_t from = begin;
  int64_t to = begin;
  if (columns.width == 1 && pixel == 1 && columns.is_pairs()) {
    const Pairs pairs = pairs_of(columns, begin, end);
    int64_t i = 0;
    for (; i + kLanes<real> <= pairs.count; i += kLanes<real>) {
      Elements<element_t>::store_pairs(
          row + pairs.column + 2 * i, Elements<real>::load(source + pairs.first + i),
          Elements<real>::load(source + columns.slot_stride + pairs.first + i));
    }
    if (i > 0) {
      from = pairs.column;
      to = pairs.column + 2 * i;
    }
  }
  for (int64_t slot = 0; slot < columns.taps->slots; ++slot) {
    const real* phase = source + slot * columns.slot_stride;
    const int64_t last = columns.position_of(slot, end);
    for (int64_t p = columns.position_of(slot, begin); p < last; ++p) {
      const int64_t column = columns.column(slot, p);
      if (column >= from && column < to) {
        p = most(p, columns.position_of(slot, to) - 1);
        continue;
      }
      const real* values = phase + (p - columns.begin) * columns.width;
      store_run(values, columns.width, row + column * pixel);
    }
  }
}

}  // namespace
}  // namespace softpool_det
