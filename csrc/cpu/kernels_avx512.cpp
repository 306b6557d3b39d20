// The kernels for AVX-512 F, DQ, BW and VL.
#include "instruction_set.h"

namespace softpool_det {

extern const Kernels kAvx512Kernels = make_kernels("avx512");

}  // namespace softpool_det
