// The geometry of pooling windows along one dimension, for host and device, without PyTorch.
#pragma once

#include <stdint.h>

#if defined(__CUDACC__)
#define SOFT_POOL_HD __host__ __device__ __forceinline__
#else
// Always: units compiled for different instruction sets must not share one copy.
#define SOFT_POOL_HD inline __attribute__((always_inline))
#endif

namespace softpool_det {

// The windows along one spatial dimension. Tap k of window o is at
// o * stride - padding + k * dilation.
struct Axis {
  int64_t size = 1;  // of the input
  int64_t kernel = 1;
  int64_t stride = 1;
  int64_t padding = 0;
  int64_t dilation = 1;
  int64_t out_size = 1;

  SOFT_POOL_HD int64_t start(int64_t out) const {
    return out * stride - padding;
  }
  // Taps [first_tap(out), last_tap(out)) of a window lie inside the input; possibly none.
  SOFT_POOL_HD int64_t first_tap(int64_t out) const {
    const int64_t before = -start(out);
    return before <= 0 ? 0 : (before + dilation - 1) / dilation;
  }
  SOFT_POOL_HD int64_t last_tap(int64_t out) const {
    const int64_t room = size - start(out);
    const int64_t taps = room <= 0 ? 0 : (room + dilation - 1) / dilation;
    return taps < kernel ? taps : kernel;
  }
  // Elements from a window's first tap to its last.
  SOFT_POOL_HD int64_t extent() const {
    return (kernel - 1) * dilation + 1;
  }
  // The same windows without the taps that all of them have in the padding, so that what they cost
  // is bounded by the input's size. Of each side's, one may stay: padding is never negative.
  SOFT_POOL_HD Axis without_padding_taps() const {
    const int64_t last = last_tap(0);
    const int64_t cut = first_tap(out_size - 1);
    const int64_t first = cut < padding / dilation ? cut : padding / dilation;
    Axis axis = *this;
    axis.padding = padding - first * dilation;
    axis.kernel = last > first ? last - first : 1;
    return axis;
  }
  // No window outside [first_window(index), last_window(index)) holds the input index.
  SOFT_POOL_HD int64_t first_window(int64_t index) const {
    const int64_t reach = index + padding - extent();
    return reach < 0 ? 0 : reach / stride + 1;
  }
  SOFT_POOL_HD int64_t last_window(int64_t index) const {
    const int64_t last = (index + padding) / stride + 1;
    return last < out_size ? last : out_size;
  }
};

// The windows of a whole tensor (N, C, [D,] H, W); two dimensions are three with a depth of 1.
struct Pool {
  int64_t batch;
  int64_t channels;
  Axis axes[3];  // depth, rows, columns
  int64_t dims;  // spatial dimensions of the tensors, 2 or 3
  bool channels_last;

  int64_t inputs() const {  // of one channel of one image
    return axes[0].size * axes[1].size * axes[2].size;
  }
  int64_t outputs() const {
    return axes[0].out_size * axes[1].out_size * axes[2].out_size;
  }
};

}  // namespace softpool_det
