// The kernels for AVX2, FMA and F16C.
#include "instruction_set.h"

namespace softpool_det {

extern const Kernels kAvx2Kernels = make_kernels("avx2");

}  // namespace softpool_det
