// The CUDA kernels' bodies on the host, for tests without a GPU: blocks and threads one after the
// other, phase by phase. Registers the operators under softpool_emulation.
#include <algorithm>
#include <cstring>
#include <random>

#include "cuda/operators.cuh"

namespace softpool_det::cuda {
namespace {

// What the tests narrow down to have every path with small tensors.
int64_t index_limit = std::numeric_limits<int32_t>::max();
int64_t shared_limit = 48 << 10;
int64_t taps_limit = 1 << 10;
int64_t shared_windows = 0;  // whose taps the threads of a block have shared, until now

class Emulator {
 public:
  explicit Emulator(const Tensor&) {}
  static int64_t limit() {
    return index_limit;
  }
  static int64_t shared_bytes() {
    return shared_limit;
  }
  static int64_t large_taps() {
    return taps_limit;
  }
  template <typename Kernel>
  void each_thread(const Kernel& kernel) const {
    for (const uint32_t block : shuffled(kernel.tiles.blocks())) {
      for (const uint32_t thread : shuffled(kThreads)) {
        kernel(block, thread);
      }
    }
  }
  template <typename Kernel>
  void each_tile(const Kernel& kernel) const {
    using acc_t = typename Kernel::acc_t;
    for (const uint32_t block : shuffled(kernel.tiles.blocks())) {
      // On the heap and of exactly its size, for AddressSanitizer; NaN, so that what is read
      // unwritten shows.
      struct alignas(16) Chunk {
        acc_t numbers[16 / sizeof(acc_t)];
      };
      const size_t chunks = (kernel.shared_bytes() + 15) / 16;
      Chunk filled;
      std::fill_n(filled.numbers, 16 / sizeof(acc_t), std::numeric_limits<acc_t>::quiet_NaN());
      std::vector<Chunk> memory(chunks, filled);
      acc_t* shared = memory.data()->numbers;
      std::vector<typename Kernel::State> states(Kernel::kThreads);
      for (int32_t step = 0; step < kernel.step_count(); ++step) {
        bool infinite = false;
        for (const uint32_t thread : shuffled(Kernel::kThreads)) {
          infinite |= kernel.find_windows(block, thread, step, shared);
        }
        for (const uint32_t thread : shuffled(Kernel::kThreads)) {
          kernel.gather(block, thread, step, infinite, shared, states[thread]);
        }
      }
    }
  }

  template <typename Kernel>
  void each_large(const Kernel& kernel) const {
    for (const uint32_t block : shuffled(kernel.tiles.blocks())) {
      shared_windows += Kernel::V;
      std::vector<typename Kernel::Partial> shared(Kernel::kThreads);
      // NaN in every number.
      memset(static_cast<void*>(shared.data()), 0xff, shared.size() * sizeof(shared[0]));
      for (const uint32_t thread : shuffled(Kernel::kThreads)) {
        kernel.find(block, thread, shared.data());
      }
      for (uint32_t half = Kernel::kThreads / 2; half > 0; half /= 2) {
        for (const uint32_t thread : shuffled(Kernel::kThreads)) {
          Kernel::merge(half, thread, shared.data());
        }
      }
      for (const uint32_t thread : shuffled(Kernel::kThreads)) {
        kernel.finish(block, thread, shared.data());
      }
    }
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

Tensor set_limits(const Tensor& none, int64_t index, int64_t shared, int64_t taps) {
  index_limit = index;
  shared_limit = shared;
  taps_limit = taps;
  return none;
}

int64_t count_shared_windows(const Tensor&) {
  return shared_windows;
}

// The bits of make_tiles(), and how often the threads of all blocks come to each item of the grid.
Tensor visits(
    const Tensor& bits, const Ints& counts, int64_t total, int64_t channel_bits, const Ints& halo) {
  int64_t sizes[kDirections], around[3];
  std::copy_n(counts.begin(), int{kDirections}, sizes);
  std::copy_n(halo.begin(), 3, around);
  const auto tiles = make_tiles<int32_t>(
      sizes, static_cast<int>(total), static_cast<int>(channel_bits), around);
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

// Each number divided by `divisor`.
Tensor quotients(const Tensor& numbers, int64_t divisor) {
  Tensor result = torch::stable::empty_like(numbers);
  const Divisor<int32_t> by(divisor);
  const auto* from = static_cast<const int32_t*>(numbers.const_data_ptr());
  std::transform(
      from, from + numbers.numel(), static_cast<int32_t*>(result.mutable_data_ptr()),
      [&](int32_t number) { return by.quotient(number); });
  return result;
}

}  // namespace
}  // namespace softpool_det::cuda

#define WINDOWS "int[] kernel_size, int[] stride, int[] padding, int[] dilation, bool ceil_mode"

STABLE_TORCH_LIBRARY(softpool_emulation, library) {
  library.def("soft_pool(Tensor input, " WINDOWS ") -> Tensor");
  library.def(
      "soft_pool_backward(Tensor grad_output, Tensor input, " WINDOWS ", bool exact) -> Tensor");
  library.def(
      "affine_relu_soft_pool(Tensor input, Tensor scale, Tensor shift, " WINDOWS ") -> Tensor");
  library.def(
      "affine_relu_soft_pool_backward(Tensor grad_output, Tensor input, Tensor scale, "
      "Tensor shift, " WINDOWS ", bool exact) -> Tensor");
  library.def("set_limits(Tensor none, int index, int shared, int taps) -> Tensor");
  library.def("count_shared_windows(Tensor none) -> int");
  library.def("quotients(Tensor numbers, int divisor) -> Tensor");
  library.def(
      "visits(Tensor(a!) bits, int[] counts, int total, int channel_bits, int[] halo) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(softpool_emulation, CPU, library) {
  using Emulated = softpool_det::cuda::Operators<softpool_det::cuda::Emulator>;
  library.impl("soft_pool", TORCH_BOX(&Emulated::soft_pool));
  library.impl("soft_pool_backward", TORCH_BOX(&Emulated::soft_pool_backward));
  library.impl("affine_relu_soft_pool", TORCH_BOX(&Emulated::affine_relu_soft_pool));
  library.impl(
      "affine_relu_soft_pool_backward", TORCH_BOX(&Emulated::affine_relu_soft_pool_backward));
  library.impl("set_limits", TORCH_BOX(&softpool_det::cuda::set_limits));
  library.impl("count_shared_windows", TORCH_BOX(&softpool_det::cuda::count_shared_windows));
  library.impl("quotients", TORCH_BOX(&softpool_det::cuda::quotients));
  library.impl("visits", TORCH_BOX(&softpool_det::cuda::visits));
}
