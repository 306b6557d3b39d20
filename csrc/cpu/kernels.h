// What the CPU operators call: kernels for rectangles of outputs or inputs, compiled once for each
// instruction set.
#pragma once

#include <stdint.h>

#include "../axis.h"

namespace softpool_det {

// Bits of tensors' 16-bit elements, without PyTorch's inline functions: see lanes.h.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

// Channels are padded to a multiple of this wherever lanes are channels; it is the widest register's
// floats.
constexpr int64_t kAlignment = 16;

// Channels of channels_last that a tile of windows that share inputs takes.
constexpr int64_t kMostChannels = 64;

struct Tile {
  const Axis* axes;      // depth, rows, columns
  int64_t pixel_stride;  // elements between neighbours in a row: 1, or channels_last's channels
  int64_t channels;      // 1, or some of channels_last's
  int64_t begin[3];      // outputs (forward) or inputs (backward) [begin, end)
  int64_t end[3];

  SOFT_POOL_HD bool contiguous() const { return pixel_stride == 1; }
};

// Numbers by channel, of the type that is computed in; each array has kAlignment more.
struct Parameters {
  const void* beta_log2e;  // see formula.h
  const void* beta;        // 0 with the paper's gradient, which is the exact one's with that
  const void* scale;       // null: no relu(x * scale + bias)
  const void* bias;
};

// All pointers are to the tile's first channel, those of tensors to its image's first pixel.
struct Arrays {
  const void* input;
  const void* grad_output;  // null in forward
  void* result;             // output or grad_input
  Parameters parameters;
  void* grad_beta;   // backward: the tile's part of each channel's; null: not wanted
  bool exact;        // backward: deviations are needed, for `result` or for `grad_beta`
  bool nontemporal;  // the result is too large to stay in the caches
};

// False where the tile's numbers leave the range of what the kernel computes with.
using Kernel = bool (*)(const Tile& tile, const Arrays& arrays, void* scratch);

enum Element { kDouble, kFloat, kBFloat16, kFloat16, kElements };
// The windows that kernels are for, in rows and columns: 2 x 2 with stride 2 (with a depth of 2, too,
// or of one row); 3 x 3 with stride 2 and padding 1; any, by sums of exp(beta * x) that windows
// share; any, each by itself.
enum Geometry { kK2S2, kK3S2P1, kGeneric, kPlain, kGeometries };

struct Kernels {
  const char* name;
  // Null without one. `scratch` has scratch_numbers() of the type that is computed in.
  Kernel of[kGeometries][kElements];
};

extern const Kernels kPlainKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;

}  // namespace softpool_det
