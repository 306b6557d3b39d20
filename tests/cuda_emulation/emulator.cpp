// The CUDA kernels' bodies on the host, for tests without a GPU: blocks and threads one after the
// other, phase by phase. Registers the operators under softpool_emulation.
#include <algorithm>
#include <random>

#include "cuda/operators.cuh"

namespace softpool_det::cuda {
namespace {

// What the tests narrow down to have every path with small tensors.
int64_t index_limit = std::numeric_limits<int32_t>::max();
int64_t shared_limit = 48 << 10;

class Emulator {
 public:
  explicit Emulator(const Tensor&) {}
  static int64_t limit() {
    return index_limit;
  }
  static int64_t shared_bytes() {
    return shared_limit;
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

Tensor set_limits(const Tensor& none, int64_t index, int64_t shared) {
  index_limit = index;
  shared_limit = shared;
  return none;
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
  library.def("set_limits(Tensor none, int index, int shared) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(softpool_emulation, CPU, library) {
  using Emulated = softpool_det::cuda::Operators<softpool_det::cuda::Emulator>;
  library.impl("soft_pool", TORCH_BOX(&Emulated::soft_pool));
  library.impl("soft_pool_backward", TORCH_BOX(&Emulated::soft_pool_backward));
  library.impl("affine_relu_soft_pool", TORCH_BOX(&Emulated::affine_relu_soft_pool));
  library.impl(
      "affine_relu_soft_pool_backward", TORCH_BOX(&Emulated::affine_relu_soft_pool_backward));
  library.impl("set_limits", TORCH_BOX(&softpool_det::cuda::set_limits));
}
