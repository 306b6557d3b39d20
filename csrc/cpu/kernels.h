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

// Rows are taken apart into phases, one for each remainder of the padded column modulo the stride,
// so that neighbouring windows find the same tap in neighbouring lanes: tap k of window o is at
// position o + offset[k] of phase[slot[k]].
struct Taps {
  int64_t count;           // the kernel's columns
  int64_t slots;           // phases that a tap falls into
  const int64_t* phase;    // of each slot
  const int64_t* slot;     // of each tap
  const int64_t* offset;   // of each tap
  int64_t reach;           // the largest offset
};

struct Tile {
  const Axis* axes;  // depth, rows, columns
  const Taps* taps;
  int64_t pixel;     // elements between neighbours in a row: 1, or the channels of channels_last
  int64_t width;     // channels of each pixel: 1, or some of those of channels_last
  int64_t begin[3];  // outputs (forward) or inputs (backward) [begin, end)
  int64_t end[3];
};

// All pointers are to the first pixel of the tile's image and channel.
struct Arrays {
  const void* input;
  const void* grad_output;  // null in forward
  void* result;             // output or grad_input
  const void* scale;        // of `width` channels, or null: pool relu(input * scale + shift)
  const void* shift;
  bool exact;
  bool stream;  // the result is too large to stay in the caches
};

using Kernel = void (*)(const Tile& tile, const Arrays& arrays, void* scratch);

enum Element { kDouble, kFloat, kBFloat16, kFloat16, kElements };

struct Kernels {
  const char* name;
  // Any windows; `scratch` has make_layout()'s size, in numbers of the type that is computed in.
  Kernel forward[kElements];
  Kernel backward[kElements];
  // Windows of 2 columns and 1, 2 or 4 rows, side by side and none cut off; null where there is no
  // such kernel.
  Kernel direct[kElements];
  // Windows of 3 x 3 with stride 2 and padding 1, alike. `scratch` also has
  // overlap_numbers() numbers.
  Kernel overlap[kElements];
};

extern const Kernels kPlainKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;

}  // namespace softpool_det
