// The kernels for whatever the compiler assumes of every machine.
#include "instruction_set.h"

namespace softpool_det {

extern const Kernels kPlainKernels = make_kernels("plain");

}  // namespace softpool_det
