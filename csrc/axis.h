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
// o * stride - padding + k * dilation. A GPU divides by `Divisor`s, faster than by integers.
template <typename Integer, typename Divisor = Integer>
struct AxisOf {
  Integer size = 1;  // of the input
  Integer kernel = 1;
  Divisor stride{1};
  Integer padding = 0;
  Divisor dilation{1};
  Integer out_size = 1;

  SOFT_POOL_HD Integer start(Integer out) const {
    return out * stride - padding;
  }
  // Taps [first_tap(out), last_tap(out)) of a window lie inside the input; possibly none.
  SOFT_POOL_HD Integer first_tap(Integer out) const {
    const Integer before = -start(out);
    return before <= 0 ? 0 : (before + dilation - 1) / dilation;
  }
  SOFT_POOL_HD Integer last_tap(Integer out) const {
    const Integer room = size - start(out);
    const Integer taps = room <= 0 ? 0 : (room + dilation - 1) / dilation;
    return taps < kernel ? taps : kernel;
  }
  // Elements from a window's first tap to its last.
  SOFT_POOL_HD Integer extent() const {
    return (kernel - 1) * dilation + 1;
  }
  // The same windows without the taps that all of them have in the padding, so that what they cost
  // is bounded by the input's size. One before the input may stay, since padding is never negative,
  // and one where all would go.
  SOFT_POOL_HD AxisOf without_padding_taps() const {
    const Integer last = last_tap(0);
    const Integer cut = first_tap(out_size - 1);
    const Integer first = cut < padding / dilation ? cut : padding / dilation;
    AxisOf axis = *this;
    axis.padding = padding - first * dilation;
    axis.kernel = last > first ? last - first : 1;
    return axis;
  }
  // No window outside [first_window(index), last_window(index)) holds the input index.
  SOFT_POOL_HD Integer first_window(Integer index) const {
    const Integer reach = index + padding - extent();
    return reach < 0 ? 0 : reach / stride + 1;
  }
  SOFT_POOL_HD Integer last_window(Integer index) const {
    const Integer last = (index + padding) / stride + 1;
    return last < out_size ? last : out_size;
  }
  // Whether a window between those two has a tap at the index, rather than a gap between two.
  SOFT_POOL_HD bool has_tap(Integer out, Integer index) const {
    const Integer place = index - start(out);
    return place / dilation * dilation == place;
  }
};

using Axis = AxisOf<int64_t>;

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
