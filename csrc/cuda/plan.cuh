// Which kernel takes a call, and with which grid.
#pragma once

#include "backward_disjoint.cuh"
#include "backward_tile.cuh"
#include "forward.cuh"
#include "large_windows.cuh"

namespace softpool_det::cuda {

// One call of an operator. The tensors have the pool's memory format.
struct Call {
  const Pool& pool;
  const void* input;
  const void* grad_output;  // null: forward
  void* result;
  const void* scale;  // null: no affine_relu
  const void* shift;
  bool exact;

  const void* outputs() const {  // the tensor of the output's size
    return grad_output == nullptr ? result : grad_output;
  }
  bool inputs_aligned(size_t bytes) const {
    return aligned(input, bytes) && (grad_output == nullptr || aligned(result, bytes));
  }
  bool outputs_aligned(size_t bytes) const {
    return aligned(outputs(), bytes);
  }
  static bool aligned(const void* pointer, size_t bytes) {
    return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
  }
};

template <typename Lanes_>
struct Use {
  using Lanes = Lanes_;
};

// Square windows in rows and columns alone, without dilation.
inline bool is_square(const Pool& pool, int64_t kernel) {
  const Axis* axes = pool.axes;
  return axes[0].kernel == 1 && axes[0].stride == 1 && axes[0].padding == 0 &&
      axes[1].kernel == kernel && axes[2].kernel == kernel && axes[1].dilation == 1 &&
      axes[2].dilation == 1;
}

inline bool is_square(const Pool& pool, int64_t kernel, int64_t stride, int64_t padding) {
  bool result = is_square(pool, kernel);
  for (int a = 1; a < 3; ++a) {
    result = result && pool.axes[a].stride == stride && pool.axes[a].padding == padding;
  }
  return result;
}

// Calls visit(Use<Lanes>()) with the lanes for this call. `limit` is that of 32-bit positions.
template <typename scalar_t, typename Visit>
void with_lanes(const Call& call, int64_t limit, const Visit& visit) {
  using Narrow = Problem<scalar_t, int32_t>;
  const Pool& pool = call.pool;
  if (!fits_narrow(pool, limit)) {
    return visit(Use<Channels<Problem<scalar_t, int64_t>, 1, 0>>());
  }
  constexpr int V = sizeof(scalar_t) == 8 ? 2 : 4;
  const bool packs = pool.channels_last && pool.channels % V == 0 &&
      call.inputs_aligned(V * sizeof(scalar_t)) && call.outputs_aligned(V * sizeof(scalar_t));
  if constexpr (sizeof(scalar_t) < 8) {
    constexpr int kColumnLanes = 8 / sizeof(scalar_t);  // of 16 bytes of inputs
    if (!pool.channels_last && is_square(pool, 2, 2, 0)) {
      return visit(Use<Columns<Narrow, kColumnLanes, 2>>());
    }
    if (!pool.channels_last && is_square(pool, 3, 2, 1)) {
      return visit(Use<Columns<Narrow, kColumnLanes, 3>>());
    }
    if (packs && is_square(pool, 2, 2, 0)) {
      return visit(Use<Channels<Narrow, V, 2>>());
    }
    if (packs && is_square(pool, 3)) {
      return visit(Use<Channels<Narrow, V, 3>>());
    }
  }
  if (packs) {
    return visit(Use<Channels<Narrow, V, 0>>());
  }
  visit(Use<Channels<Narrow, 1, 0>>());
}

template <typename Lanes>
typename Lanes::Problem make_problem(const Call& call) {
  using Problem = typename Lanes::Problem;
  using scalar_t = typename Problem::scalar_t;
  using index_t = typename Problem::index_t;
  using acc_t = typename Problem::acc_t;
  const Pool& pool = call.pool;
  Problem problem;
  problem.input = static_cast<const scalar_t*>(call.input);
  problem.grad_output = static_cast<const scalar_t*>(call.grad_output);
  problem.result = static_cast<scalar_t*>(call.result);
  problem.scale = static_cast<const acc_t*>(call.scale);
  problem.shift = static_cast<const acc_t*>(call.shift);
  for (int a = 0; a < 3; ++a) {
    problem.axes[a] = DeviceAxis<index_t>(pool.axes[a]);
  }
  problem.pixel = static_cast<index_t>(pool.channels_last ? pool.channels : 1);
  problem.inputs = pool.inputs() * problem.pixel;
  problem.outputs = pool.outputs() * problem.pixel;
  problem.planes = Divisor<index_t>(pool.channels_last ? 1 : pool.channels);
  problem.exact = call.exact;
  problem.input_packs = pool.axes[2].size % Lanes::kInputs == 0 &&
      call.inputs_aligned(Lanes::kInputs * sizeof(scalar_t));
  problem.output_packs = pool.axes[2].out_size % Lanes::kWindows == 0 &&
      call.outputs_aligned(Lanes::kWindows * sizeof(scalar_t));
  return problem;
}

inline int64_t groups(int64_t count, int64_t size) {
  return (count + size - 1) / size;
}

// Tiles of 2^total items, one for every `step[a]` positions along axis a.
template <typename Lanes>
Tiles<typename Lanes::index_t> make_tiles(
    const Pool& pool, int64_t Axis::*size, const int64_t (&step)[3], int total, int line_bytes,
    const int64_t (&halo)[3]) {
  constexpr int64_t kChannelLanes = Lanes::kColumnStep == 1 ? Lanes::kWindows : 1;
  const int64_t channels = pool.channels_last ? pool.channels : 1;
  const int64_t counts[kDirections] = {
      groups(channels, kChannelLanes), groups(pool.axes[2].*size, step[2]),
      groups(pool.axes[1].*size, step[1]), groups(pool.axes[0].*size, step[0]),
      pool.batch * (pool.channels / channels)};
  const int64_t bytes = kChannelLanes * static_cast<int64_t>(sizeof(typename Lanes::scalar_t));
  return make_tiles<typename Lanes::index_t>(
      counts, total, pool.channels_last ? bits_for(line_bytes / bytes) : 0, halo);
}

template <typename Lanes>
Forward<Lanes> make_forward(const Call& call) {
  int64_t halo[3];
  for (int a = 0; a < 3; ++a) {
    halo[a] = call.pool.axes[a].extent() > call.pool.axes[a].stride ? 1 : 0;
  }
  const auto tiles = make_tiles<Lanes>(
      call.pool, &Axis::out_size, {1, 1, Lanes::kColumnStep}, kThreadBits, 128, halo);
  return {make_problem<Lanes>(call), tiles};
}

// Whether windows may have more taps in the input than `most`, and a launch a block for each.
inline bool has_large_windows(const Pool& pool, int64_t most) {
  int64_t taps = 1;
  for (const Axis& axis : pool.axes) {
    taps *= std::min(axis.kernel, groups(axis.size, axis.dilation));
  }
  return taps > most && pool.batch * pool.channels * pool.outputs() <= kMostBlocks;
}

template <typename Lanes>
LargeWindows<Lanes> make_large(const Call& call, typename Lanes::acc_t* statistics) {
  using Statistics = decltype(LargeWindows<Lanes>::statistics);
  const Pool& pool = call.pool;
  const auto tiles = make_tiles<Lanes>(pool, &Axis::out_size, {1, 1, 1}, 0, 128, {0, 0, 0});
  const int64_t items = pool.batch * pool.channels * pool.outputs() / Lanes::kWindows;
  return {
      make_problem<Lanes>(call), tiles,
      Statistics{reinterpret_cast<decltype(Statistics::packs)>(statistics), items}};
}

template <typename Lanes>
BackwardDisjoint<Lanes> make_disjoint(const Call& call) {
  const auto tiles = make_tiles<Lanes>(
      call.pool, &Axis::size, {1, 2, 2 * Lanes::kColumnStep}, kThreadBits, 128, {0, 0, 0});
  return {make_problem<Lanes>(call), tiles};
}

// Tiles of 2^total inputs' items, and all windows that touch one in a single step.
template <typename Lanes>
BackwardTile<Lanes> tile_of(const Call& call, int total) {
  constexpr bool kWide = Lanes::kColumnStep > 1;
  BackwardTile<Lanes> kernel{};
  kernel.problem = make_problem<Lanes>(call);
  int64_t halo[3];
  for (int a = 0; a < 3; ++a) {
    halo[a] = kWide && a == 2 ? 1 : call.pool.axes[a].extent() - 1;
  }
  kernel.tiles = make_tiles<Lanes>(
      call.pool, &Axis::size, {1, 1, kWide ? Lanes::kInputs : 1}, total, 64, halo);
  kernel.items = 1u << total;
  for (int a = 0; a < 3; ++a) {
    const Axis& axis = call.pool.axes[a];
    const int64_t inputs = int64_t(1) << kernel.tiles.bits[kDepth - a];
    const int64_t windows = kWide && a == 2
        ? std::min(inputs + 1, groups(axis.out_size, Lanes::kWindows))
        : std::min((inputs + axis.extent() - 2) / axis.stride + 1, axis.out_size);
    constexpr int64_t kMost = 1 << 20;  // far more than fit
    kernel.steps[a] = static_cast<int32_t>(groups(windows, kMost));
    kernel.set_span(a, std::min(windows, kMost));
  }
  return kernel;
}

// `shared` bytes of shared memory are there for a block.
template <typename Lanes>
BackwardTile<Lanes> make_tile(const Call& call, int64_t shared) {
  // Large tiles share more windows. Smaller ones where these do not fit.
  constexpr int kThreadBits = BackwardTile<Lanes>::kThreadBits;
  for (int total = kThreadBits + 3; total > kThreadBits; --total) {
    const auto kernel = tile_of<Lanes>(call, total);
    if (kernel.step_count() == 1 && kernel.shared_bytes() <= shared) {
      return kernel;
    }
  }
  auto kernel = tile_of<Lanes>(call, kThreadBits);
  while (kernel.shared_bytes() > shared) {
    const auto most = std::max_element(kernel.span, kernel.span + 3) - kernel.span;
    check(kernel.span[most] > 1, "soft_pool_backward: one window needs more shared memory than ",
          shared, " bytes");
    kernel.set_span(static_cast<int>(most), groups(kernel.span[most], 2));
    kernel.steps[most] *= 2;
  }
  return kernel;
}

}  // namespace softpool_det::cuda
