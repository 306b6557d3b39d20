// The operators' calls as kernels, for anything that runs those. `Runner` has
//
//   Runner(const Tensor&)    whose device and current stream it takes
//   limit()                  of 32-bit positions
//   large_taps()             most taps of a window that one thread reads
//   launch(kernel)           runs a kernel
//
// Nothing here waits for the device, and memory comes from PyTorch's allocator alone, so that calls
// can be captured in CUDA graphs.
#pragma once

#include "../soft_pool.h"
#include "cells.cuh"

namespace softpool_det::cuda {

inline int bits_for(int64_t count) {
  int bits = 0;
  while (bits < 30 && (int64_t(1) << bits) < count) {
    ++bits;
  }
  return bits;
}

// The largest of the sizes 2^[least, most] that covers `count` with the lowest cost, that of a tile
// being its size and the `halo` around it.
inline int best_bits(int64_t count, int least, int most, int64_t halo) {
  most = std::min(most, bits_for(count));
  int best = most;
  const auto cost = [&](int bits) {
    return ((count + (int64_t(1) << bits) - 1) >> bits) * ((int64_t(1) << bits) + halo);
  };
  for (int bits = most - 1; bits >= least; --bits) {
    best = cost(bits) < cost(best) ? bits : best;
  }
  return best;
}

// Tiles of 2^total items. `channel_bits` is what a row of full cache lines takes; `halo` are the
// further items that a tile reads along each spatial dimension; `one_image`: of one image at most.
// Throws where one launch cannot have a block for every tile.
template <typename index_t>
Tiles<index_t> make_tiles(
    const int64_t (&counts)[kDirections], int total, int channel_bits, const int64_t (&halo)[3],
    bool one_image) {
  Tiles<index_t> result{};
  // Of the bits that are left, `reserved` stay for later directions; there may be none to take.
  const auto take = [&](int direction, int least, int most, int reserved = 0) {
    most = std::min(most, std::max(0, total - reserved));
    const int64_t around =
        direction >= kColumns && direction <= kDepth ? halo[kDepth - direction] : 0;
    const int bits = best_bits(counts[direction], std::min(least, most), most, around);
    result.bits[direction] = bits;
    total -= bits;
  };
  take(kChannels, channel_bits, channel_bits);
  // A warp reads eight neighbouring items or more in a row of a contiguous tensor.
  const int depth_bits = halo[0] > 0 ? std::min(2, bits_for(counts[kDepth])) : 0;
  take(kColumns, 3, std::max(3, (total - depth_bits + 1) / 2 + (channel_bits == 0 ? 1 : 0)));
  take(kRows, 3, total, depth_bits);
  take(kDepth, 0, total);
  take(kImages, 0, one_image ? 0 : total);
  for (int d = 0; d < kDirections; ++d) {
    result.counts[d] = static_cast<index_t>(counts[d]);
  }
  const int64_t blocks = result.blocks();
  check(
      0 < blocks && blocks <= kMostBlocks, "soft_pool: a CUDA kernel has 1 to ", kMostBlocks,
      " blocks, this input would need ", blocks,
      blocks > 0 ? ": split it" : ", which is a fault of softpool_det: please report its shape");
  for (int d = 0; d < kImages; ++d) {
    result.tiles[d] = Divisor<int32_t>(result.tiles_along(d));
  }
  return result;
}

inline int64_t groups(int64_t count, int64_t size) { return (count + size - 1) / size; }

template <typename Runner>
struct Launch : Call {
  const Runner& runner;

  int64_t pixel_stride() const { return pool.channels_last ? pool.channels : 1; }
  bool aligned(int64_t input_bytes, int64_t output_bytes) const {
    return reinterpret_cast<uintptr_t>(input.const_data_ptr()) % input_bytes == 0 &&
        reinterpret_cast<uintptr_t>(output.const_data_ptr()) % output_bytes == 0;
  }
  // Whether windows are square in two dimensions, of stride 2, without dilation.
  bool is_square(int64_t kernel, int64_t padding) const {
    const auto same = [](const Axis& axis, int64_t k, int64_t stride, int64_t p) {
      return axis.kernel == k && axis.stride == stride && axis.padding == p &&
          (axis.dilation == 1 || k == 1);
    };
    return same(pool.axes[0], 1, 1, 0) && same(pool.axes[1], kernel, 2, padding) &&
        same(pool.axes[2], kernel, 2, padding);
  }

  // Calls visit() with a null pointer to the lanes for the call.
  template <typename scalar_t, typename Visit>
  void with_lanes(const Visit& visit) const {
    using Narrow = Problem<scalar_t, int32_t>;
    constexpr int V = sizeof(scalar_t) == 8 ? 2 : 4;
    const bool packs = pool.channels_last && pool.channels % V == 0 &&
        aligned(V * sizeof(scalar_t), V * sizeof(scalar_t));
    if (!fits_narrow(pool, runner.limit())) {
      visit(static_cast<ChannelLanes<Problem<scalar_t, int64_t>, 1>*>(nullptr));
    } else if (is_square(2, 0)) {
      with_cells<Narrow, V, 2>(packs, visit);
    } else if (is_square(3, 1)) {
      with_cells<Narrow, V, 3>(packs, visit);
    } else if (packs) {
      visit(static_cast<ChannelLanes<Narrow, V>*>(nullptr));
    } else {
      visit(static_cast<ChannelLanes<Narrow, 1>*>(nullptr));
    }
  }
  template <typename Problem, int V, int K, typename Visit>
  void with_cells(bool packs, const Visit& visit) const {
    constexpr int64_t kSize = sizeof(typename Problem::scalar_t);
    constexpr int64_t kRow = 8 / kSize;  // cells with 16 bytes in a row
    const Axis& axis = pool.axes[2];
    if (packs) {
      visit(static_cast<Cells<Problem, V, K, false>*>(nullptr));
    } else if (!pool.channels_last && axis.size == 2 * axis.out_size &&
               axis.out_size % kRow == 0 && aligned(2 * kRow * kSize, kRow * kSize)) {
      visit(static_cast<Cells<Problem, kRow, K, true>*>(nullptr));
    } else {
      visit(static_cast<Cells<Problem, 1, K, false>*>(nullptr));
    }
  }

  template <typename Problem>
  Problem problem() const {
    using scalar_t = typename Problem::scalar_t;
    using index_t = typename Problem::index_t;
    using real = typename Problem::real;
    const auto numbers = [](const std::optional<Tensor>& tensor) {
      return tensor.has_value() ? static_cast<const real*>(tensor->const_data_ptr()) : nullptr;
    };
    const bool huge = settings.beta > -kLowest<real>;
    return {
        static_cast<const scalar_t*>(input.const_data_ptr()),
        static_cast<const scalar_t*>(output.const_data_ptr()),
        static_cast<scalar_t*>(result.mutable_data_ptr()),
        numbers(settings.betas), numbers(settings.scale), numbers(settings.bias), nullptr,
        huge ? std::numeric_limits<real>::infinity() : static_cast<real>(settings.beta),
        settings.exact,
        {device_axis<index_t>(pool.axes[0]), device_axis<index_t>(pool.axes[1]),
         device_axis<index_t>(pool.axes[2])},
        static_cast<index_t>(pixel_stride()),
        pool.inputs() * pixel_stride(), pool.outputs() * pixel_stride(),
        Divisor<index_t>(pool.channels / pixel_stride())};
  }

  // A kernel for items of `step` x `step` outputs or inputs (`size`) and lanes, in tiles of 2^total.
  template <typename Kernel>
  Kernel make(int64_t Axis::*size, int64_t step, int total) const {
    using Lanes = typename Kernel::Lanes;
    const int64_t counts[kDirections] = {
        groups(pixel_stride(), Lanes::kChannelLanes),
        groups(pool.axes[2].*size, step * Lanes::kColumnLanes), groups(pool.axes[1].*size, step),
        pool.axes[0].*size, pool.batch * (pool.channels / pixel_stride())};
    int64_t halo[3];
    for (int a = 0; a < 3; ++a) {
      halo[a] = pool.axes[a].extent() > pool.axes[a].stride ? 1 : 0;
    }
    // Cache lines of 128 bytes, or of half as many for tiles with a halo in shared memory.
    const int64_t line = (step == 1 ? 128 : 64) / sizeof(typename Lanes::scalar_t);
    Kernel kernel{};
    kernel.problem = problem<typename Lanes::Problem>();
    kernel.tiles = make_tiles<typename Lanes::index_t>(
        counts, total, pool.channels_last ? bits_for(line / Lanes::kChannelLanes) : 0, halo,
        backward && settings.betas.has_value());
    return kernel;
  }
  template <typename Lanes>
  PoolWindows<Lanes> windows() const {
    int64_t taps = 1;
    for (const Axis& axis : pool.axes) {
      taps *= std::min(axis.kernel, groups(axis.size, axis.dilation));
    }
    const bool by_block = Lanes::kKernel == 0 && taps > runner.large_taps() &&
        pool.batch * pool.channels * pool.outputs() <= kMostBlocks;
    auto kernel = make<PoolWindows<Lanes>>(&Axis::out_size, 1, by_block ? 0 : kThreadBits);
    kernel.by_block = by_block;
    return kernel;
  }

  template <typename real>
  Tensor empty(const Ints& sizes) const {
    const ScalarType type = sizeof(real) == 8 ? ScalarType::Double : ScalarType::Float;
    return torch::stable::empty(sizes, type, std::nullopt, input.device());
  }
  // Launches a kernel that writes grad_input; returns grad_betas.
  template <typename Kernel>
  Tensor launch_backward(Kernel kernel) const {
    if (!settings.betas.has_value()) {
      runner.launch(kernel);
      return empty_grad_betas(input, settings);
    }
    using real = typename Kernel::real;
    const int64_t tiles = kernel.tiles.blocks() / kernel.tiles.tiles_along(kChannels);
    const int64_t of_image = pool.channels_last ? 1 : tiles / (pool.batch * pool.channels);
    const int64_t images = pool.channels_last ? tiles : pool.batch;
    const Tensor parts = empty<real>({images, pool.channels, of_image});
    kernel.problem.parts = static_cast<real*>(parts.mutable_data_ptr());
    runner.launch(kernel);
    const int64_t dims[] = {0, 2};
    return torch::stable::sum(parts, torch::headeronly::IntHeaderOnlyArrayRef(dims, 2));
  }
  // Returns grad_betas.
  template <typename Lanes>
  Tensor run_backward() const {
    if constexpr (Lanes::kKernel == 0) {
      auto first = windows<Lanes>();
      const Tensor memory = empty<typename Lanes::real>({3 * output.numel()});
      first.gradients = static_cast<decltype(first.gradients)>(memory.mutable_data_ptr());
      runner.launch(first);
      auto gather = make<Gather<Lanes>>(&Axis::size, 1, kThreadBits);
      gather.windows = first.gradients;
      return launch_backward(gather);
    } else {
      auto kernel = make<CellsBackward<Lanes>>(&Axis::size, 2, kThreadBits);
      kernel.rows = Divisor<int32_t>((1 << kernel.tiles.bits[kRows]) + 1);
      kernel.columns = Divisor<int32_t>((1 << kernel.tiles.bits[kColumns]) + 1);
      return launch_backward(kernel);
    }
  }
};

// A device of soft_pool.h.
template <typename Runner>
struct Device : Runner {
  using Runner::Runner;

  Tensor run(const Call& call) const {
    const Runner& runner = *this;
    const Launch<Runner> launch{call, runner};
    Tensor grad_betas;
    SOFT_POOL_DISPATCH(call.input.scalar_type(), [&] {
      launch.template with_lanes<scalar_t>([&](auto* lanes) {
        using Lanes = std::remove_pointer_t<decltype(lanes)>;
        if (call.backward) {
          grad_betas = launch.template run_backward<Lanes>();
        } else {
          runner.launch(launch.template windows<Lanes>());
        }
      });
    });
    return grad_betas;
  }
};

}  // namespace softpool_det::cuda
