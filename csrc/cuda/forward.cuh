// The forward kernel: an item is a few windows side by side, read once from global memory.
#pragma once

#include "columns.cuh"

namespace softpool_det::cuda {

// `Lanes` is Channels or Columns. No thread reads what another writes.
template <typename Lanes>
struct Forward {
  using index_t = typename Lanes::index_t;
  typename Lanes::Problem problem;
  Tiles<index_t> tiles;  // of windows

  SOFT_POOL_HD void operator()(uint32_t block, uint32_t thread) const {
    index_t at[kDirections];
    tiles.first_item(block, at);
    if (tiles.advance(thread, at)) {
      const Lanes lanes(problem, at);
      lanes.store_output(at, lanes.sums(at));
    }
  }
};

}  // namespace softpool_det::cuda
