// What of the input a tile needs, and where the kernels keep it. Shared by the kernels and by those
// who allocate their scratch memory.
#pragma once

#include "kernels.h"

namespace softpool_det {

// Lanes in rows of buffers are rounded up to this; it is the widest register's floats.
constexpr int64_t kAlignment = 16;

SOFT_POOL_HD int64_t aligned(int64_t lanes) {
  return (lanes + kAlignment - 1) / kAlignment * kAlignment;
}

SOFT_POOL_HD int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
SOFT_POOL_HD int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

struct Plan {
  int64_t window_begin[3];  // windows that the tile's outputs are, or that hold its inputs
  int64_t window_end[3];
  int64_t row_begin[2];  // depths and rows of the input that lie in reach of these windows
  int64_t row_end[2];
  int64_t lanes;           // of a row of windows
  int64_t margin;          // lanes beside it where a row of phases can reach
  int64_t positions;       // of a phase
  int64_t slot_stride;     // lanes from one phase of a row to the next
  int64_t window_stride;   // lanes from one row of windows to the next, margins included

  SOFT_POOL_HD int64_t windows(int d) const { return window_end[d] - window_begin[d]; }
  SOFT_POOL_HD int64_t rows(int d) const { return row_end[d] - row_begin[d]; }
  SOFT_POOL_HD bool is_empty() const {
    return windows(0) <= 0 || windows(1) <= 0 || windows(2) <= 0;
  }
};

SOFT_POOL_HD Plan make_plan(const Tile& tile, bool backward) {
  Plan plan;
  for (int d = 0; d < 3; ++d) {
    const Axis& axis = tile.axes[d];
    plan.window_begin[d] = backward ? axis.first_window(tile.begin[d]) : tile.begin[d];
    plan.window_end[d] = backward ? axis.last_window(tile.end[d] - 1) : tile.end[d];
    if (d < 2) {
      const int64_t first = axis.start(plan.window_begin[d]);
      const int64_t last = axis.start(plan.window_end[d] - 1) + axis.extent();
      plan.row_begin[d] = first < 0 ? 0 : first;
      plan.row_end[d] = last < axis.size ? last : axis.size;
    }
  }
  plan.lanes = plan.windows(2) * tile.width;
  plan.margin = tile.taps->reach * tile.width;
  plan.positions = plan.windows(2) + tile.taps->reach;
  // A register more, which may be overwritten.
  plan.slot_stride = aligned(plan.positions * tile.width) + kAlignment;
  plan.window_stride = aligned(plan.lanes + 2 * plan.margin) + 2 * kAlignment;
  return plan;
}

// Parts of the scratch memory, in numbers from its begin.
struct Layout {
  int64_t row_stride;  // of the input's rows
  int64_t inputs;      // the input's rows, phase by phase
  int64_t terms;       // exp(x), then x * exp(x), of one row; later one row of the gradient
  int64_t sums;        // both summed over the columns of every window, row by row
  int64_t windows;     // backward: three numbers of every window, each a row with margins
  int64_t totals;      // three rows of windows
  int64_t lists;       // places of taps, and of rows, as int64_t
  int64_t size;
};

SOFT_POOL_HD Layout make_layout(const Tile& tile, const Plan& plan, bool backward) {
  Layout layout;
  const int64_t rows = plan.rows(0) * plan.rows(1);
  layout.row_stride = tile.taps->slots * plan.slot_stride;
  layout.inputs = 0;
  layout.terms = rows * layout.row_stride;
  layout.sums = layout.terms + 2 * layout.row_stride;
  layout.windows = layout.sums + rows * 2 * plan.window_stride;
  layout.totals =
      layout.windows + (backward ? plan.windows(0) * plan.windows(1) * 3 * plan.window_stride : 0);
  layout.lists = layout.totals + 3 * plan.window_stride;
  // Twice, since a number may be half as long as an int64_t.
  layout.size = layout.lists +
      2 * (tile.taps->count + most(rows, plan.windows(0) * plan.windows(1)));
  return layout;
}

// The same for the kernels of overlap.h.
struct OverlapPlan {
  bool backward;
  int64_t row_begin;     // windows
  int64_t row_end;
  int64_t window_begin;  // columns of windows, one before the tile's where there is one
  int64_t groups;
  int64_t vectors;
};

SOFT_POOL_HD OverlapPlan make_overlap_plan(const Tile& tile, bool backward, int64_t step) {
  const Axis& columns = tile.axes[2];
  const int64_t unit = backward ? 2 : 1;
  const int64_t begin = tile.begin[2] / unit;
  const int64_t end =
      backward ? most(columns.last_window(tile.end[2] - 1), (tile.end[2] + 1) / 2) : tile.end[2];
  OverlapPlan plan;
  plan.backward = backward;
  plan.row_begin = tile.begin[1] / unit;
  plan.row_end = tile.end[1];
  plan.window_begin = begin > 0 ? begin - 1 : 0;
  const int64_t windows = end - plan.window_begin;
  plan.groups = tile.pixel == 1 ? (windows + step - 1) / step : windows;
  plan.vectors = tile.pixel == 1 ? 1 : (tile.width + step - 1) / step;
  return plan;
}

// Numbers of scratch memory, for registers of any length.
SOFT_POOL_HD int64_t overlap_numbers(const Tile& tile, bool backward) {
  const OverlapPlan plan = make_overlap_plan(tile, backward, kAlignment);
  return (10 * plan.groups + 2) * plan.vectors * kAlignment;
}

}  // namespace softpool_det
