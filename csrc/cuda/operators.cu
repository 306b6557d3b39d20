// The CUDA operators: launches on the current stream.
#include <Python.h>
#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include "operators.cuh"

namespace softpool_det::cuda {
namespace {

template <typename Kernel>
__global__ void __launch_bounds__(kThreads) each_thread_kernel(const Kernel kernel) {
  kernel(blockIdx.x, threadIdx.x);
}

// A step's phases are apart by barriers: nobody reads shared memory that is still written, and
// nobody writes to what is still read. No other memory is shared.
template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, Kernel::kBlocks)
    each_tile_kernel(const Kernel kernel) {
  extern __shared__ double2 memory[];  // aligned for packs of 16 bytes
  auto* shared = reinterpret_cast<typename Kernel::acc_t*>(memory);
  typename Kernel::State state;
  const int32_t steps = kernel.step_count();
  for (int32_t step = 0; step < steps; ++step) {
    if (step > 0) {
      __syncthreads();
    }
    const bool infinite =
        __syncthreads_or(kernel.find_windows(blockIdx.x, threadIdx.x, step, shared));
    kernel.gather(blockIdx.x, threadIdx.x, step, infinite, shared, state);
  }
}

template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kThreads) each_large_kernel(const Kernel kernel) {
  __shared__ typename Kernel::Partial shared[Kernel::kThreads];
  kernel.find(blockIdx.x, threadIdx.x, shared);
  for (uint32_t half = Kernel::kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    Kernel::merge(half, threadIdx.x, shared);
  }
  kernel.finish(blockIdx.x, threadIdx.x, shared);
}

class Launcher {
 public:
  explicit Launcher(const Tensor& tensor) : guard_(tensor.get_device_index()) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }
  static constexpr int64_t limit() {
    return std::numeric_limits<int32_t>::max();
  }
  // What every device gives a block without being asked.
  static constexpr int64_t shared_bytes() {
    return 48 << 10;
  }
  // Those of the inputs of a large tile, for speed.
  static constexpr int64_t large_taps() {
    return 1 << 10;
  }
  template <typename Kernel>
  void each_thread(const Kernel& kernel) const {
    each_thread_kernel<<<blocks(kernel), kThreads, 0, stream_>>>(kernel);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
  template <typename Kernel>
  void each_tile(const Kernel& kernel) const {
    each_tile_kernel<<<blocks(kernel), Kernel::kThreads, kernel.shared_bytes(), stream_>>>(kernel);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

  template <typename Kernel>
  void each_large(const Kernel& kernel) const {
    each_large_kernel<<<blocks(kernel), Kernel::kThreads, 0, stream_>>>(kernel);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

 private:
  template <typename Kernel>
  static unsigned blocks(const Kernel& kernel) {
    return static_cast<unsigned>(kernel.tiles.blocks());
  }

  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace
}  // namespace softpool_det::cuda

STABLE_TORCH_LIBRARY_IMPL(softpool_det, CUDA, library) {
  using Cuda = softpool_det::cuda::Operators<softpool_det::cuda::Launcher>;
  library.impl("soft_pool", TORCH_BOX(&Cuda::soft_pool));
  library.impl("soft_pool_backward", TORCH_BOX(&Cuda::soft_pool_backward));
  library.impl("affine_relu_soft_pool", TORCH_BOX(&Cuda::affine_relu_soft_pool));
  library.impl("affine_relu_soft_pool_backward", TORCH_BOX(&Cuda::affine_relu_soft_pool_backward));
}

// Whether this library holds code that a device can run; true, too, where the driver cannot tell.
static PyObject* runs_on(PyObject*, PyObject* index) {
  namespace cuda = softpool_det::cuda;
  const long device = PyLong_AsLong(index);
  if (device == -1 && PyErr_Occurred() != nullptr) {
    return nullptr;
  }
  // Any of the kernels: all are compiled for the same devices.
  using Lanes = cuda::Channels<cuda::Problem<float, int32_t>, 1, 0>;
  cudaFuncAttributes attributes;
  int before = 0;
  cudaError_t status = cudaGetDevice(&before);
  if (status == cudaSuccess) {
    status = cudaSetDevice(static_cast<int>(device));
    if (status == cudaSuccess) {
      status = cudaFuncGetAttributes(&attributes, cuda::each_thread_kernel<cuda::Forward<Lanes>>);
    }
    cudaSetDevice(before);
  }
  cudaGetLastError();  // the next call must not find it
  return PyBool_FromLong(
      status != cudaErrorNoKernelImageForDevice && status != cudaErrorInvalidDeviceFunction &&
      status != cudaErrorUnsupportedPtxVersion);
}

// Importing the module registers the kernels.
PyMODINIT_FUNC PyInit__C_cuda(void) {
  static PyMethodDef methods[] = {
      {"runs_on", runs_on, METH_O, "Whether the GPU of this index can run the kernels."},
      {nullptr, nullptr, 0, nullptr}};
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C_cuda", nullptr, -1, methods};
  return PyModule_Create(&module);
}
