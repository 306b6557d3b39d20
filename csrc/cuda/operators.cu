// The CUDA operators: launches on the current stream.
#include <Python.h>
#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include "operators.cuh"

namespace softpool_det::cuda {
namespace {

// Between phases are barriers: nobody reads shared memory that is still written, and nobody writes
// to what is still read. No other memory is shared.
template <typename Kernel>
__global__ void __launch_bounds__(kThreads, 2) run(const Kernel kernel) {
  extern __shared__ double2 shared[];  // aligned for packs of 16 bytes
  Thread<typename Kernel::Lanes> self{0, blockIdx.x, threadIdx.x, shared, {}};
  kernel(self);
  const int phases = kernel.phases();
  for (self.phase = 1; self.phase < phases; ++self.phase) {
    __syncthreads();
    kernel(self);
  }
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
  // Taps of a window that one thread should read at most, for speed.
  static constexpr int64_t large_taps() {
    return 1 << 10;
  }
  template <typename Kernel>
  void launch(const Kernel& kernel) const {
    const auto blocks = static_cast<unsigned>(kernel.tiles.blocks());
    run<<<blocks, kThreads, kernel.shared_bytes(), stream_>>>(kernel);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
};

}  // namespace
}  // namespace softpool_det::cuda

STABLE_TORCH_LIBRARY_IMPL(softpool_det, CUDA, library) {
  using Cuda = softpool_det::Operators<softpool_det::cuda::Device<softpool_det::cuda::Launcher>>;
  library.impl("soft_pool", TORCH_BOX(&Cuda::soft_pool));
  library.impl("soft_pool_backward", TORCH_BOX(&Cuda::soft_pool_backward));
}

// Whether this library holds code that a device can run; true, too, where the driver cannot tell.
static PyObject* runs_on(PyObject*, PyObject* index) {
  namespace cuda = softpool_det::cuda;
  const long device = PyLong_AsLong(index);
  if (device == -1 && PyErr_Occurred() != nullptr) {
    return nullptr;
  }
  // All kernels are compiled for the same devices.
  using Any = cuda::PoolWindows<cuda::ChannelLanes<cuda::Problem<float, int32_t>, 1>>;
  cudaFuncAttributes attributes;
  int before = 0;
  cudaError_t status = cudaGetDevice(&before);
  if (status == cudaSuccess) {
    status = cudaSetDevice(static_cast<int>(device));
    if (status == cudaSuccess) {
      status = cudaFuncGetAttributes(&attributes, cuda::run<Any>);
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
