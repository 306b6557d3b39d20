// The CUDA kernels' bodies on the host, for tests without a GPU: blocks and threads one after the
// other, phase by phase. Registers the operators under softpool_emulation, for CPU tensors.
#include <algorithm>
#include <cstring>
#include <memory>
#include <random>

#include "cuda/operators.cuh"
#include "schemas.h"

namespace softpool_det::cuda {
namespace {

// What the tests narrow down to have every path with small tensors.
int64_t index_limit = std::numeric_limits<int32_t>::max();
int64_t taps_limit = 1 << 10;
// Of all kernels until now.
int64_t blocks = 0;
int64_t largest_shared = 0;  // bytes

class Emulator {
 public:
  explicit Emulator(const Tensor&) {}
  static int64_t limit() {
    return index_limit;
  }
  static int64_t large_taps() {
    return taps_limit;
  }
  template <typename Kernel>
  void launch(const Kernel& kernel) const {
    for (const uint32_t block : shuffled(kernel.tiles.blocks())) {
      // On the heap and of exactly its size, for AddressSanitizer; NaN in every number, so that what
      // is read unwritten shows.
      const auto bytes = static_cast<size_t>(kernel.shared_bytes());
      largest_shared = std::max(largest_shared, kernel.shared_bytes());
      const std::unique_ptr<char[]> shared(new char[bytes]);
      memset(shared.get(), 0xff, bytes);
      std::vector<Thread<typename Kernel::Lanes>> threads(kThreads);
      for (uint32_t thread = 0; thread < kThreads; ++thread) {
        threads[thread] = {0, block, thread, shared.get(), {}};
      }
      for (int phase = 0; phase < kernel.phases(); ++phase) {
        for (const uint32_t thread : shuffled(kThreads)) {
          threads[thread].phase = phase;
          kernel(threads[thread]);
        }
      }
    }
    blocks += kernel.tiles.blocks();
  }

 private:
  // In any order, as on a device.
  static std::vector<uint32_t> shuffled(int64_t count) {
    static std::minstd_rand random(1);
    std::vector<uint32_t> order(count);
    for (int64_t i = 0; i < count; ++i) {
      order[i] = static_cast<uint32_t>(i);
    }
    std::shuffle(order.begin(), order.end(), random);
    return order;
  }
};

Tensor set_limits(const Tensor& none, int64_t index, int64_t taps) {
  index_limit = index;
  taps_limit = taps;
  return none;
}

int64_t count_blocks(const Tensor&) {
  return blocks;
}
int64_t most_shared_bytes(const Tensor&) {
  return largest_shared;
}

// The bits of make_tiles(), and how often the threads of all blocks come to each item of the grid.
Tensor visits(
    const Tensor& bits, const Ints& counts, int64_t total, int64_t channel_bits, const Ints& halo,
    bool one_image) {
  int64_t sizes[kDirections], around[3];
  std::copy_n(counts.begin(), int{kDirections}, sizes);
  std::copy_n(halo.begin(), 3, around);
  const auto tiles = make_tiles<int32_t>(
      sizes, static_cast<int>(total), static_cast<int>(channel_bits), around, one_image);
  std::copy_n(tiles.bits, int{kDirections}, static_cast<int32_t*>(bits.mutable_data_ptr()));
  const int64_t blocks = tiles.blocks();
  Tensor result = torch::stable::new_zeros(
      bits, {counts[4], counts[3], counts[2], counts[1], counts[0]}, ScalarType::Int);
  auto* times = static_cast<int32_t*>(result.mutable_data_ptr());
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t item = 0; item < int64_t(1) << total; ++item) {
      int32_t at[kDirections];
      tiles.first_item(static_cast<uint32_t>(block), at);
      if (tiles.advance(static_cast<uint32_t>(item), at)) {
        int64_t place = 0;
        for (int d = kImages; d >= 0; --d) {
          place = place * counts[d] + at[d];
        }
        ++times[place];
      }
    }
  }
  return result;
}

// How often the windows (rows) hold the inputs (columns) along an axis, by the windows' taps and by
// the inputs' windows.
std::tuple<Tensor, Tensor> taps(const Tensor& like, const Ints& numbers) {
  const auto axis = device_axis<int32_t>(
      {numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]});
  Tensor by_taps = torch::stable::new_zeros(like, {axis.out_size, axis.size});
  Tensor by_windows = torch::stable::new_zeros(like, {axis.out_size, axis.size});
  auto* first = static_cast<int32_t*>(by_taps.mutable_data_ptr());
  auto* second = static_cast<int32_t*>(by_windows.mutable_data_ptr());
  for (int32_t window = 0; window < axis.out_size; ++window) {
    for (int32_t tap = axis.first_tap(window); tap < axis.last_tap(window); ++tap) {
      ++first[window * axis.size + axis.start(window) + tap * axis.dilation];
    }
  }
  for (int32_t index = 0; index < axis.size; ++index) {
    for (int32_t window = axis.first_window(index); window < axis.last_window(index); ++window) {
      second[window * axis.size + index] += axis.has_tap(window, index);
    }
  }
  return {by_taps, by_windows};
}

// Each number divided by `divisor`.
Tensor quotients(const Tensor& numbers, int64_t divisor) {
  Tensor result = torch::stable::empty_like(numbers);
  const Divisor<int32_t> by(divisor);
  const auto* from = static_cast<const int32_t*>(numbers.const_data_ptr());
  std::transform(
      from, from + numbers.numel(), static_cast<int32_t*>(result.mutable_data_ptr()),
      [&](int32_t number) { return number / by; });
  return result;
}

}  // namespace
}  // namespace softpool_det::cuda

STABLE_TORCH_LIBRARY(softpool_emulation, library) {
  library.def(SOFT_POOL_SCHEMA);
  library.def(SOFT_POOL_BACKWARD_SCHEMA);
  library.def("set_limits(Tensor none, int index, int taps) -> Tensor");
  library.def("count_blocks(Tensor none) -> int");
  library.def("most_shared_bytes(Tensor none) -> int");
  library.def("quotients(Tensor numbers, int divisor) -> Tensor");
  library.def("taps(Tensor like, int[] axis) -> (Tensor, Tensor)");
  library.def(
      "visits(Tensor(a!) bits, int[] counts, int total, int channel_bits, int[] halo, "
      "bool one_image) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(softpool_emulation, CPU, library) {
  using Emulated = softpool_det::Operators<softpool_det::cuda::Device<softpool_det::cuda::Emulator>>;
  library.impl("soft_pool", TORCH_BOX(&Emulated::soft_pool));
  library.impl("soft_pool_backward", TORCH_BOX(&Emulated::soft_pool_backward));
  library.impl("set_limits", TORCH_BOX(&softpool_det::cuda::set_limits));
  library.impl("count_blocks", TORCH_BOX(&softpool_det::cuda::count_blocks));
  library.impl("most_shared_bytes", TORCH_BOX(&softpool_det::cuda::most_shared_bytes));
  library.impl("taps", TORCH_BOX(&softpool_det::cuda::taps));
  library.impl("quotients", TORCH_BOX(&softpool_det::cuda::quotients));
  library.impl("visits", TORCH_BOX(&softpool_det::cuda::visits));
}
