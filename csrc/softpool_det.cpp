// The operators' schemas: the contract between Python and the kernels. See soft_pool.h for shapes.
#include <Python.h>
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(softpool_det, library) {
  library.def(
      "soft_pool2d(Tensor input, int[2] kernel_size, int[2] stride, int[2] padding, "
      "bool ceil_mode) -> Tensor");
  library.def(
      "soft_pool2d_backward(Tensor grad_output, Tensor input, int[2] kernel_size, int[2] stride, "
      "int[2] padding, bool ceil_mode, bool exact) -> Tensor");
}

// An empty module: importing it registers the operators, and Windows links nothing without it.
PyMODINIT_FUNC PyInit__C(void) {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr};
  return PyModule_Create(&module);
}
