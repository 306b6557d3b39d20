// STAND-IN, to be replaced by the kernels: shows that the build compiles and links each unit.
#define SOFT_POOL_UNIT avx512
#include "stand_in.h"
