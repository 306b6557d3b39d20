// A peer for benchmarks: the loop structure of the published CUDA implementation of SoftPool
// (Stergiou et al., ICCV 2021), in our own code. One thread for an output, two passes over its
// window in global memory, no maximum subtracted; backward does the same and adds
// grad_output * weight into grad_input with atomics, so that its last bits change from run to run.
// Values above 88 overflow. Do not pool with it.
//
//   library = torch.utils.cpp_extension.load("authors_kernel", ["benchmarks/authors_kernel.cu"])
//   output = library.authors_forward(input, kernel, stride)
//   grad_input = library.authors_backward(grad_output, input, kernel, stride)
//
// input: (N, C, H, W), contiguous, float32, CUDA; kernel, stride: int, for both dimensions, without
// padding. output, grad_output: (N, C, (H - kernel) / stride + 1, (W - kernel) / stride + 1), also
// contiguous. RuntimeError for anything else.
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/extension.h>

namespace {

constexpr int kThreads = 512;

struct Windows {
  int64_t height, width, out_height, out_width, outputs;
  int kernel, stride;

  // Position in `input` of the first element of window `index`.
  __device__ int64_t first(int64_t index) const {
    const int64_t column = index % out_width;
    const int64_t row = index / out_width % out_height;
    const int64_t plane = index / out_width / out_height;
    return (plane * height + row * stride) * width + column * stride;
  }
};

// Sum of exp() over the window, with a floor so that nothing is divided by 0.
__device__ float sum_of_window(const Windows& windows, const float* values) {
  float sum = 0.f;
  for (int row = 0; row < windows.kernel; ++row) {
    for (int column = 0; column < windows.kernel; ++column) {
      sum += expf(values[row * windows.width + column]);
    }
  }
  return fmaxf(sum, 1e-30f);
}

__global__ void forward_kernel(const Windows windows, const float* input, float* output) {
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < windows.outputs;
       i += int64_t(gridDim.x) * kThreads) {
    const float* values = input + windows.first(i);
    const float sum = sum_of_window(windows, values);
    float pooled = 0.f;
    for (int row = 0; row < windows.kernel; ++row) {
      for (int column = 0; column < windows.kernel; ++column) {
        const float value = values[row * windows.width + column];
        pooled += expf(value) / sum * value;
      }
    }
    output[i] = pooled;
  }
}

__global__ void backward_kernel(
    const Windows windows, const float* grad_output, const float* input, float* grad_input) {
  for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < windows.outputs;
       i += int64_t(gridDim.x) * kThreads) {
    const int64_t first = windows.first(i);
    const float sum = sum_of_window(windows, input + first);
    for (int row = 0; row < windows.kernel; ++row) {
      for (int column = 0; column < windows.kernel; ++column) {
        const int64_t place = first + row * windows.width + column;
        atomicAdd(grad_input + place, grad_output[i] * (expf(input[place]) / sum));
      }
    }
  }
}

Windows windows_of(const at::Tensor& input, int64_t kernel, int64_t stride) {
  TORCH_CHECK(
      input.is_cuda() && input.scalar_type() == at::kFloat && input.dim() == 4 &&
          input.is_contiguous(),
      "input must be a contiguous float32 CUDA tensor (N, C, H, W)");
  TORCH_CHECK(
      kernel > 0 && stride > 0 && input.size(2) >= kernel && input.size(3) >= kernel,
      "kernel and stride must be positive and a window must fit, got ", kernel, " and ", stride);
  const int64_t out_height = (input.size(2) - kernel) / stride + 1;
  const int64_t out_width = (input.size(3) - kernel) / stride + 1;
  const int64_t outputs = input.size(0) * input.size(1) * out_height * out_width;
  return {input.size(2), input.size(3), out_height, out_width, outputs, int(kernel), int(stride)};
}

unsigned blocks_of(const Windows& windows) {
  const int64_t blocks = (windows.outputs + kThreads - 1) / kThreads;
  return static_cast<unsigned>(std::max<int64_t>(1, std::min<int64_t>(blocks, 1 << 20)));
}

at::Tensor authors_forward(const at::Tensor& input, int64_t kernel, int64_t stride) {
  const Windows windows = windows_of(input, kernel, stride);
  const c10::cuda::CUDAGuard guard(input.device());
  at::Tensor output = at::empty(
      {input.size(0), input.size(1), windows.out_height, windows.out_width}, input.options());
  forward_kernel<<<blocks_of(windows), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      windows, input.const_data_ptr<float>(), output.mutable_data_ptr<float>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}

at::Tensor authors_backward(
    const at::Tensor& grad_output, const at::Tensor& input, int64_t kernel, int64_t stride) {
  const Windows windows = windows_of(input, kernel, stride);
  TORCH_CHECK(
      grad_output.is_cuda() && grad_output.scalar_type() == at::kFloat &&
          grad_output.is_contiguous() && grad_output.numel() == windows.outputs,
      "grad_output must be a contiguous float32 CUDA tensor of the output's shape");
  const c10::cuda::CUDAGuard guard(input.device());
  at::Tensor grad_input = at::zeros_like(input);
  backward_kernel<<<blocks_of(windows), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      windows, grad_output.const_data_ptr<float>(), input.const_data_ptr<float>(),
      grad_input.mutable_data_ptr<float>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad_input;
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.def("authors_forward", &authors_forward);
  module.def("authors_backward", &authors_backward);
}
