// What of the windows and the input a tile needs, and where the kernels keep it in scratch memory.
// Shared by the kernels and by those who allocate it.
#pragma once

#include "kernels.h"

namespace softpool_det {

SOFT_POOL_HD int64_t aligned(int64_t lanes) {
  return (lanes + kAlignment - 1) / kAlignment * kAlignment;
}
SOFT_POOL_HD int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
SOFT_POOL_HD int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// Of kGeneric and kK3S2P1. Lanes of a row of windows are windows (contiguous), or windows with all
// their channels, padded (channels_last).
//
// A row of the input covers the padded columns [0, columns), counted from the first window's begin.
// It is kept phase by phase, one for each remainder modulo the stride, so that neighbouring windows
// find the same tap in neighbouring lanes: column q * stride + phase is position q of its phase.
struct Plan {
  int64_t first[3];        // windows [first, last) that the tile's outputs are, or that hold its inputs
  int64_t last[3];
  int64_t pixel;           // lanes of a window: 1, or the padded channels
  int64_t lanes;           // of a row of windows
  int64_t window_stride;   // lanes from one row of windows to the next
  int64_t columns;
  int64_t phases;          // that taps fall into
  int64_t positions;       // of a phase
  int64_t phase_stride;    // lanes from one phase to the next
  int64_t margin;          // lanes beside a row of windows that taps reach over
  // Parts of the scratch memory, in numbers from its begin, where two numbers of every window are,
  // row by row.
  int64_t sums;            // backward: the same of one row, summed over rows, with margins
  int64_t phased;          // two numbers of every column of a row, phase by phase (k3s2p1: sums for the next row)
  int64_t natural;         // the same as they lie in memory
  int64_t natural_stride;
  int64_t weights;         // k3s2p1 backward: e of three rows' even columns and of their odd ones
  int64_t lists;           // places of rows and of taps, as int64_t
  int64_t size;

  SOFT_POOL_HD int64_t count(int d) const { return last[d] - first[d]; }
  SOFT_POOL_HD bool empty() const { return count(0) <= 0 || count(1) <= 0 || count(2) <= 0; }
};

SOFT_POOL_HD Plan make_plan(const Tile& tile, bool backward, bool keep_weights) {
  const Axis& axis = tile.axes[2];
  Plan plan{};
  for (int d = 0; d < 3; ++d) {
    plan.first[d] = backward ? tile.axes[d].first_window(tile.begin[d]) : tile.begin[d];
    plan.last[d] = backward ? tile.axes[d].last_window(tile.end[d] - 1) : tile.end[d];
  }
  plan.pixel = tile.contiguous() ? 1 : aligned(tile.channels);
  plan.lanes = plan.count(2) * plan.pixel;
  plan.window_stride = aligned(plan.lanes) + aligned(plan.pixel);  // a window more, of zeros
  plan.columns = (plan.count(2) - 1) * axis.stride + axis.extent();
  plan.phases = least(axis.stride, axis.extent());
  const int64_t reach = (axis.extent() - 1) / axis.stride;
  plan.positions = plan.count(2) + reach;
  // A register more, which may be read or overwritten.
  plan.phase_stride = aligned(plan.positions * plan.pixel) + kAlignment;
  plan.margin = aligned(reach * plan.pixel);
  plan.natural_stride = aligned(plan.columns + plan.phases) + 4 * kAlignment;
  const int64_t rows = plan.count(0) * plan.count(1);
  plan.sums = 2 * rows * plan.window_stride;
  plan.phased = plan.sums + (backward ? 2 * (plan.window_stride + 2 * plan.margin + kAlignment) : 0);
  plan.natural = plan.phased + 2 * plan.phases * plan.phase_stride;
  plan.weights = plan.natural + (tile.contiguous() ? 2 * plan.natural_stride : 0);
  plan.lists = plan.weights + (keep_weights ? 6 * plan.window_stride : 0);
  // Twice, since a number may be half as long as an int64_t.
  plan.size = plan.lists + 2 * (rows + 2 * axis.kernel + plan.phases + 1);
  return plan;
}

// Numbers of scratch memory for a tile's kernels.
SOFT_POOL_HD int64_t scratch_numbers(const Tile& tile, bool backward, Geometry geometry) {
  const Plan plan = make_plan(tile, backward, backward && geometry == kK3S2P1);
  const bool sums = geometry == kGeneric || geometry == kK3S2P1;
  const int64_t generic = sums && !plan.empty() ? plan.size : 0;
  if (!backward) {
    return generic;
  }
  int64_t inputs = tile.channels;
  for (int d = 0; d < 3; ++d) {
    inputs *= tile.end[d] - tile.begin[d];
  }
  return most(generic, inputs + kAlignment);
}

}  // namespace softpool_det
