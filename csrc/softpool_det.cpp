// The operators' schemas: the contract between Python and the kernels. See soft_pool.h for shapes and
// formula.h for what is computed.
#include <Python.h>
#include <torch/csrc/stable/library.h>

#include "schemas.h"

STABLE_TORCH_LIBRARY(softpool_det, library) {
  library.def(SOFT_POOL_SCHEMA);
  library.def(SOFT_POOL_BACKWARD_SCHEMA);
}

// An empty module: importing it registers the operators.
PyMODINIT_FUNC PyInit__C(void) {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr};
  return PyModule_Create(&module);
}
