// The operators' schemas: the contract between Python and the kernels. See soft_pool.h for shapes.
#include <Python.h>
#include <torch/csrc/stable/library.h>

#define WINDOWS "int[] kernel_size, int[] stride, int[] padding, int[] dilation, bool ceil_mode"

STABLE_TORCH_LIBRARY(softpool_det, library) {
  library.def("soft_pool(Tensor input, " WINDOWS ") -> Tensor");
  library.def(
      "soft_pool_backward(Tensor grad_output, Tensor input, " WINDOWS ", bool exact) -> Tensor");
  // soft_pool(relu(input * scale + shift)), with scale and shift by channel, and its gradient for
  // input; there is none for scale and shift.
  library.def(
      "affine_relu_soft_pool(Tensor input, Tensor scale, Tensor shift, " WINDOWS ") -> Tensor");
  library.def(
      "affine_relu_soft_pool_backward(Tensor grad_output, Tensor input, Tensor scale, "
      "Tensor shift, " WINDOWS ", bool exact) -> Tensor");
}

// An empty module: importing it registers the operators.
PyMODINIT_FUNC PyInit__C(void) {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr};
  return PyModule_Create(&module);
}
