// The operators on tensors, for anything that runs kernels. `Runner` has
//
//   Runner(const Tensor&)              whose device and current stream it takes
//   limit(), shared_bytes()            of 32-bit positions, and of a block's shared memory
//   large_taps()                       that windows may have to be one thread's
//   each_thread(kernel)                runs a Forward or BackwardDisjoint
//   each_tile(kernel), each_large(kernel)   run a BackwardTile, a LargeWindows
//
// Nothing here waits for the device, and memory comes from PyTorch's allocator alone, so that calls
// can be captured in CUDA graphs.
#pragma once

#include "plan.cuh"

namespace softpool_det::cuda {

template <typename Runner>
struct Operators {
  struct AffineTensors {
    Tensor scale, shift;
  };

  static AffineTensors affine(const Tensor& scale, const Tensor& shift, const Tensor& input) {
    check_affine(scale, shift, input);
    return {torch::stable::contiguous(scale), torch::stable::contiguous(shift)};
  }

  static Tensor run_forward(const Tensor& input, const Pool& pool, const AffineTensors* affine) {
    const Runner runner(input);
    Tensor output = empty_output(input, pool);
    if (output.numel() == 0) {
      return output;
    }
    const Tensor values = torch::stable::contiguous(input, pool.memory_format());
    const Call call{
        pool,
        values.const_data_ptr(),
        nullptr,
        output.mutable_data_ptr(),
        affine == nullptr ? nullptr : affine->scale.const_data_ptr(),
        affine == nullptr ? nullptr : affine->shift.const_data_ptr(),
        false};
    SOFT_POOL_DISPATCH(input.scalar_type(), [&] {
      with_lanes<scalar_t>(call, runner.limit(), [&](auto use) {
        using Lanes = typename decltype(use)::Lanes;
        if constexpr (Lanes::kTaps == 0) {
          if (has_large_windows(pool, runner.large_taps())) {
            return runner.each_large(make_large<Lanes>(call, nullptr));
          }
        }
        runner.each_thread(make_forward<Lanes>(call));
      });
    });
    return output;
  }

  static Tensor run_backward(
      const Tensor& grad_output, const Tensor& input, const Pool& pool,
      const AffineTensors* affine, bool exact) {
    check_grad_output(grad_output, input, pool);
    const Runner runner(input);
    Tensor grad_input = empty_grad_input(input, pool);
    if (grad_input.numel() == 0) {
      return grad_input;
    }
    const Tensor values = torch::stable::contiguous(input, pool.memory_format());
    const Tensor upstream = torch::stable::contiguous(grad_output, pool.memory_format());
    const Call call{
        pool,
        values.const_data_ptr(),
        upstream.const_data_ptr(),
        grad_input.mutable_data_ptr(),
        affine == nullptr ? nullptr : affine->scale.const_data_ptr(),
        affine == nullptr ? nullptr : affine->shift.const_data_ptr(),
        exact};
    SOFT_POOL_DISPATCH(input.scalar_type(), [&] {
      with_lanes<scalar_t>(call, runner.limit(), [&](auto use) {
        using Lanes = typename decltype(use)::Lanes;
        if constexpr (Lanes::kTaps == 4) {
          runner.each_thread(make_disjoint<Lanes>(call));
        } else {
          auto kernel = make_tile<Lanes>(call, runner.shared_bytes());
          const Tensor statistics = large_statistics<Lanes>(call, runner, kernel, input);
          runner.each_tile(kernel);
        }
      });
    });
    return grad_input;
  }

  // Computes the statistics of large windows, for `kernel` to read; it must be launched before the
  // result is freed. Windows that are not large need none: the result is empty.
  template <typename Lanes>
  static Tensor large_statistics(
      const Call& call, const Runner& runner, BackwardTile<Lanes>& kernel, const Tensor& input) {
    using acc_t = typename Lanes::acc_t;
    const Pool& pool = call.pool;
    Tensor memory;
    if constexpr (Lanes::kTaps == 0) {
      if (has_large_windows(pool, runner.large_taps())) {
        memory = torch::stable::empty(
            Ints{3 * pool.batch * pool.channels * pool.outputs()},
            sizeof(acc_t) == 8 ? ScalarType::Double : ScalarType::Float, std::nullopt,
            input.device());
        const auto large = make_large<Lanes>(call, static_cast<acc_t*>(memory.mutable_data_ptr()));
        runner.each_large(large);
        kernel.statistics = large.statistics;
      }
    }
    return memory;
  }

  static Tensor soft_pool(
      const Tensor& input, const Ints& kernel_size, const Ints& stride, const Ints& padding,
      const Ints& dilation, bool ceil_mode) {
    const Pool pool = make_pool(input, kernel_size, stride, padding, dilation, ceil_mode);
    return run_forward(input, pool, nullptr);
  }

  static Tensor soft_pool_backward(
      const Tensor& grad_output, const Tensor& input, const Ints& kernel_size, const Ints& stride,
      const Ints& padding, const Ints& dilation, bool ceil_mode, bool exact) {
    const Pool pool = make_pool(input, kernel_size, stride, padding, dilation, ceil_mode);
    return run_backward(grad_output, input, pool, nullptr, exact);
  }

  static Tensor affine_relu_soft_pool(
      const Tensor& input, const Tensor& scale, const Tensor& shift, const Ints& kernel_size,
      const Ints& stride, const Ints& padding, const Ints& dilation, bool ceil_mode) {
    const Pool pool = make_pool(input, kernel_size, stride, padding, dilation, ceil_mode);
    const AffineTensors tensors = affine(scale, shift, input);
    return run_forward(input, pool, &tensors);
  }

  static Tensor affine_relu_soft_pool_backward(
      const Tensor& grad_output, const Tensor& input, const Tensor& scale, const Tensor& shift,
      const Ints& kernel_size, const Ints& stride, const Ints& padding, const Ints& dilation,
      bool ceil_mode, bool exact) {
    const Pool pool = make_pool(input, kernel_size, stride, padding, dilation, ceil_mode);
    const AffineTensors tensors = affine(scale, shift, input);
    return run_backward(grad_output, input, pool, &tensors, exact);
  }
};

}  // namespace softpool_det::cuda
