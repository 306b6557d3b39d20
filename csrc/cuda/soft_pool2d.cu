// The CUDA kernels. Every output and every element of grad_input is computed by one thread in a
// fixed order, without atomics: results do not change from run to run.
#include <Python.h>
#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include "../soft_pool.h"

namespace softpool_det {
namespace {

constexpr int kThreads = 256;
// Threads stride over what exceeds this many blocks.
constexpr int64_t kMaxBlocks = 1 << 20;

// An element of a (N, C, rows, columns) tensor by its place in memory.
struct Position {
  int64_t batch;
  int64_t channel;
  int64_t row;
  int64_t column;
};

__device__ Position position_of(const Pool2d& pool, int64_t index, int64_t rows, int64_t columns) {
  Position at;
  if (pool.channels_last) {
    at.channel = index % pool.channels;
    index /= pool.channels;
  }
  at.column = index % columns;
  index /= columns;
  at.row = index % rows;
  index /= rows;
  if (!pool.channels_last) {
    at.channel = index % pool.channels;
    index /= pool.channels;
  }
  at.batch = index;
  return at;
}

// Elements between two neighbours in a row.
__device__ int64_t column_step(const Pool2d& pool) {
  return pool.channels_last ? pool.channels : 1;
}

// Offset of the first element of a row; the channel is that of `at`.
__device__ int64_t row_offset(
    const Pool2d& pool, const Position& at, int64_t row, int64_t rows, int64_t columns) {
  return pool.channels_last ? (at.batch * rows + row) * columns * pool.channels + at.channel
                            : ((at.batch * pool.channels + at.channel) * rows + row) * columns;
}

template <typename acc_t>
struct Window {
  acc_t maximum;
  acc_t total;
  acc_t shift;
};

// Calls `body` for every input value of the window at `out`.
template <typename acc_t, typename scalar_t, typename Body>
__device__ void for_each_value(
    const Pool2d& pool, const scalar_t* input, const Position& out, const Body& body) {
  const int64_t step = column_step(pool);
  const int64_t first = pool.columns.begin(out.column);
  const int64_t last = pool.columns.end(out.column);
  for (int64_t row = pool.rows.begin(out.row); row < pool.rows.end(out.row); ++row) {
    const scalar_t* values =
        input + row_offset(pool, out, row, pool.rows.size, pool.columns.size);
    for (int64_t column = first; column < last; ++column) {
      body(static_cast<acc_t>(values[column * step]));
    }
  }
}

template <typename acc_t, typename scalar_t>
__device__ Window<acc_t> window_at(const Pool2d& pool, const scalar_t* input, const Position& out) {
  Window<acc_t> window{kLowest<acc_t>, acc_t(0), acc_t(0)};
  for_each_value<acc_t>(pool, input, out, [&](acc_t value) {
    window.maximum = value > window.maximum ? value : window.maximum;
  });
  for_each_value<acc_t>(pool, input, out, [&](acc_t value) {
    const acc_t distance = distance_to_maximum(value, window.maximum);
    const acc_t exponential = exp_of_distance(distance);
    window.total += exponential;
    window.shift += exponential * distance;
  });
  window.shift *= inverse_total(window.total);
  return window;
}

template <typename scalar_t>
__global__ void forward_kernel(
    const Pool2d pool, int64_t count, const scalar_t* __restrict__ input,
    scalar_t* __restrict__ output) {
  using acc_t = acc_type_t<scalar_t>;
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += int64_t(gridDim.x) * kThreads) {
    const Position at = position_of(pool, i, pool.rows.out_size, pool.columns.out_size);
    const auto window = window_at<acc_t>(pool, input, at);
    output[i] =
        static_cast<scalar_t>(pooled_value(window.maximum, window.total, window.shift));
  }
}

// windows[i] = the statistics of window i, with `total` inverted.
template <typename scalar_t, typename acc_t>
__global__ void window_kernel(
    const Pool2d pool, int64_t count, const scalar_t* __restrict__ input,
    Window<acc_t>* __restrict__ windows) {
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += int64_t(gridDim.x) * kThreads) {
    const Position at = position_of(pool, i, pool.rows.out_size, pool.columns.out_size);
    Window<acc_t> window = window_at<acc_t>(pool, input, at);
    window.total = inverse_total(window.total);
    windows[i] = window;
  }
}

// Gathers for every input over the windows that hold it.
template <bool exact, typename scalar_t, typename acc_t>
__global__ void backward_kernel(
    const Pool2d pool, int64_t count, const scalar_t* __restrict__ grad_output,
    const scalar_t* __restrict__ input, const Window<acc_t>* __restrict__ windows,
    scalar_t* __restrict__ grad_input) {
  const int64_t step = column_step(pool);
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += int64_t(gridDim.x) * kThreads) {
    const Position at = position_of(pool, i, pool.rows.size, pool.columns.size);
    const acc_t value = static_cast<acc_t>(input[i]);
    const int64_t first = pool.columns.first_window(at.column);
    const int64_t last = pool.columns.last_window(at.column);
    acc_t gradient = 0;
    for (int64_t row = pool.rows.first_window(at.row); row < pool.rows.last_window(at.row); ++row) {
      const int64_t offset =
          row_offset(pool, at, row, pool.rows.out_size, pool.columns.out_size);
      for (int64_t column = first; column < last; ++column) {
        const int64_t out = offset + column * step;
        const Window<acc_t> window = windows[out];
        const acc_t distance = distance_to_maximum(value, window.maximum);
        const acc_t weight = exp_of_distance(distance) * window.total;
        gradient += static_cast<acc_t>(grad_output[out]) *
            gradient_factor<exact>(weight, distance, window.shift);
      }
    }
    grad_input[i] = static_cast<scalar_t>(gradient);
  }
}

unsigned blocks_for(int64_t count) {
  return static_cast<unsigned>(std::min(kMaxBlocks, (count + kThreads - 1) / kThreads));
}

cudaStream_t current_stream(const Tensor& tensor) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(
      aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

Tensor soft_pool2d(
    const Tensor& input, const IntPair& kernel_size, const IntPair& stride, const IntPair& padding,
    bool ceil_mode) {
  const Pool2d pool = make_pool2d(input, kernel_size, stride, padding, ceil_mode);
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  Tensor output = empty_output(input, pool);
  const int64_t count = output.numel();
  if (count == 0) {
    return output;
  }
  const Tensor values = torch::stable::contiguous(input, pool.memory_format());
  const cudaStream_t stream = current_stream(input);
  SOFT_POOL_DISPATCH(input.scalar_type(), [&] {
    forward_kernel<<<blocks_for(count), kThreads, 0, stream>>>(
        pool, count, static_cast<const scalar_t*>(values.const_data_ptr()),
        static_cast<scalar_t*>(output.mutable_data_ptr()));
  });
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

template <typename scalar_t>
void launch_backward(
    const Pool2d& pool, const Tensor& grad_output, const Tensor& input, Tensor& grad_input,
    bool exact) {
  using acc_t = acc_type_t<scalar_t>;
  const int64_t windows = grad_output.numel();
  const int64_t inputs = input.numel();
  const Tensor statistics = torch::stable::empty(
      {windows, 3}, std::is_same_v<acc_t, double> ? ScalarType::Double : ScalarType::Float,
      std::nullopt, input.device());
  auto* window_data = static_cast<Window<acc_t>*>(statistics.mutable_data_ptr());
  const auto* input_data = static_cast<const scalar_t*>(input.const_data_ptr());
  const cudaStream_t stream = current_stream(input);
  window_kernel<<<blocks_for(windows), kThreads, 0, stream>>>(
      pool, windows, input_data, window_data);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  auto* kernel = exact ? backward_kernel<true, scalar_t, acc_t>
                       : backward_kernel<false, scalar_t, acc_t>;
  kernel<<<blocks_for(inputs), kThreads, 0, stream>>>(
      pool, inputs, static_cast<const scalar_t*>(grad_output.const_data_ptr()), input_data,
      window_data, static_cast<scalar_t*>(grad_input.mutable_data_ptr()));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

Tensor soft_pool2d_backward(
    const Tensor& grad_output, const Tensor& input, const IntPair& kernel_size,
    const IntPair& stride, const IntPair& padding, bool ceil_mode, bool exact) {
  const Pool2d pool = make_pool2d(input, kernel_size, stride, padding, ceil_mode);
  check_grad_output(grad_output, input, pool);
  const torch::stable::accelerator::DeviceGuard guard(input.get_device_index());
  Tensor grad_input = empty_grad_input(input, pool, input.scalar_type());
  if (input.numel() == 0) {
    return grad_input;
  }
  const Tensor values = torch::stable::contiguous(input, pool.memory_format());
  const Tensor upstream = torch::stable::contiguous(grad_output, pool.memory_format());
  SOFT_POOL_DISPATCH(input.scalar_type(), [&] {
    launch_backward<scalar_t>(pool, upstream, values, grad_input, exact);
  });
  return grad_input;
}

}  // namespace
}  // namespace softpool_det

STABLE_TORCH_LIBRARY_IMPL(softpool_det, CUDA, library) {
  library.impl("soft_pool2d", TORCH_BOX(&softpool_det::soft_pool2d));
  library.impl("soft_pool2d_backward", TORCH_BOX(&softpool_det::soft_pool2d_backward));
}

// An empty module: importing it registers the kernels, and Windows links nothing without it.
PyMODINIT_FUNC PyInit__C_cuda(void) {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C_cuda", nullptr, -1, nullptr};
  return PyModule_Create(&module);
}
