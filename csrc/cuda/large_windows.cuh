// Windows of more taps than one thread should read.
#pragma once

#include "problem.cuh"

namespace softpool_det::cuda {

// A block owns one item of windows. Its threads share the taps and add up what they found, in a
// fixed order. Forward, it writes the output; backward, the statistics that BackwardTile reads.
template <typename Lanes>
struct LargeWindows {
  using index_t = typename Lanes::index_t;
  using acc_t = typename Lanes::acc_t;
  static constexpr int V = Lanes::kWindows;
  using Partial = Sums<acc_t, V>;
  static constexpr int kThreads = cuda::kThreads;
  typename Lanes::Problem problem;
  Tiles<index_t> tiles;             // one item of windows each
  Statistics<acc_t, V> statistics;  // without memory: forward

  // Phase 1: the sums of every thread's own taps.
  SOFT_POOL_HD void find(uint32_t block, uint32_t thread, Partial* shared) const {
    index_t at[kDirections];
    tiles.first_item(block, at);
    const auto first = static_cast<index_t>(thread);
    shared[thread] = Lanes(problem, at).sums_of_some(at, first, kThreads);
  }
  // Phase 2, for halves of kThreads / 2, kThreads / 4, ..., 1: adds one half to the other.
  SOFT_POOL_HD static void merge(uint32_t half, uint32_t thread, Partial* shared) {
    if (thread < half) {
      shared[thread].add(shared[thread + half]);
    }
  }
  // Phase 3; thread 0 reads what it has written itself.
  SOFT_POOL_HD void finish(uint32_t block, uint32_t thread, const Partial* shared) const {
    if (thread != 0) {
      return;
    }
    index_t at[kDirections];
    tiles.first_item(block, at);
    const Lanes lanes(problem, at);
    Partial sums = shared[0];
    sums.normalise();
    if (statistics.packs == nullptr) {
      lanes.store_output(at, sums);
    } else {
      acc_t upstream[V];
      lanes.load_upstream(at, upstream);
      statistics.keep(lanes.output_at(at) / V, sums, upstream, problem.exact);
    }
  }
};

}  // namespace softpool_det::cuda
