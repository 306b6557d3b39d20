// Which of the compiled kernels this machine runs.
#pragma once

#include "kernels.h"

namespace softpool_det {

// The widest instruction set that both machine and build have, or the one that the environment
// variable SOFTPOOL_CPU_CAPABILITY names: avx512, avx2 or plain. Settled at the first call; throws
// std::runtime_error where the named one cannot be had.
const Kernels& cpu_kernels();

}  // namespace softpool_det
