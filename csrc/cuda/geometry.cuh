// How threads share the work out, and the windows' geometry in a device's integers.
//
// A grid of items has five directions, the fastest first: channels (in groups; channels_last
// only), columns (possibly in groups), rows, depth, and images. Of contiguous tensors every channel
// of every image is an image of its own, with one channel. Blocks take tiles of 2^bits items.
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>

#include "../axis.h"

// A loop over lanes, taps, ..., in registers: unrolled.
#if defined(__CUDACC__)
#define SOFT_POOL_FOR(i, count) _Pragma("unroll") for (int i = 0; i < count; ++i)
#else
#define SOFT_POOL_FOR(i, count) for (int i = 0; i < count; ++i)
#endif

namespace softpool_det::cuda {

constexpr int kThreadBits = 8;
constexpr int kThreads = 1 << kThreadBits;  // of a block
constexpr int64_t kMostBlocks = std::numeric_limits<int32_t>::max();  // of a launch

enum Direction { kChannels, kColumns, kRows, kDepth, kImages, kDirections };

// n / divisor for n >= 0. 32-bit numbers are multiplied and shifted (Granlund and Montgomery,
// PLDI 1994).
template <typename index_t>
struct Divisor {
  index_t divisor = 1;
  uint32_t multiplier = 1;
  uint32_t shift = 0;

  Divisor() = default;
  explicit Divisor(int64_t number) : divisor(static_cast<index_t>(number)) {
    if (sizeof(index_t) == 4) {
      while ((int64_t(1) << shift) < number) {
        ++shift;
      }
      const uint64_t rest = (uint64_t(1) << shift) - static_cast<uint64_t>(number);
      multiplier = static_cast<uint32_t>((rest << 32) / static_cast<uint64_t>(number) + 1);
    }
  }
  SOFT_POOL_HD operator index_t() const {
    return divisor;
  }
  friend SOFT_POOL_HD index_t operator/(index_t n, const Divisor& by) {
    if constexpr (sizeof(index_t) == 8) {
      return n / by.divisor;
    } else {
      const auto number = static_cast<uint32_t>(n);
      const auto high = static_cast<uint32_t>((uint64_t(number) * by.multiplier) >> 32);
      return static_cast<index_t>((high + number) >> by.shift);
    }
  }
};

template <typename index_t>
using DeviceAxis = AxisOf<index_t, Divisor<index_t>>;

template <typename index_t>
DeviceAxis<index_t> device_axis(const Axis& axis) {
  return {
      static_cast<index_t>(axis.size),     static_cast<index_t>(axis.kernel),
      Divisor<index_t>(axis.stride),       static_cast<index_t>(axis.padding),
      Divisor<index_t>(axis.dilation),     static_cast<index_t>(axis.out_size)};
}

// Whether 32-bit numbers hold every position inside one image, and all that is computed from it.
inline bool fits_narrow(const Pool& pool, int64_t limit) {
  int64_t image = pool.channels_last ? pool.channels : 1;
  for (const Axis& axis : pool.axes) {
    const int64_t reach = axis.size + 2 * axis.padding + axis.extent();
    if (reach > limit / 2 || axis.stride > limit / 2 || axis.dilation > limit / 2) {
      return false;
    }
    // Of the windows' taps those just outside, too.
    image *= std::max(axis.size, axis.out_size) + (axis.kernel > 1 ? 4 : 0);
    if (image > limit) {
      return false;
    }
  }
  return pool.batch * pool.channels <= limit;
}

template <typename index_t>
struct Tiles {
  index_t counts[kDirections];  // items in every direction
  int bits[kDirections];
  Divisor<int32_t> tiles[kImages];  // tiles in every direction but the last

  int64_t blocks() const {
    int64_t result = 1;
    for (int d = 0; d < kDirections; ++d) {
      result *= tiles_along(d);
    }
    return result;
  }
  int64_t tiles_along(int d) const {
    return (static_cast<int64_t>(counts[d]) + (int64_t(1) << bits[d]) - 1) >> bits[d];
  }
  // The first item of a block's tile.
  SOFT_POOL_HD void first_item(uint32_t block, index_t* at) const {
    auto rest = static_cast<int32_t>(block);
    SOFT_POOL_FOR(d, kImages) {
      const int32_t more = rest / tiles[d];
      at[d] = static_cast<index_t>(rest - more * tiles[d]) << bits[d];
      rest = more;
    }
    at[kImages] = static_cast<index_t>(rest) << bits[kImages];
  }
  // Adds an item's place inside the tile; false where the grid ends before it.
  SOFT_POOL_HD bool advance(uint32_t item, index_t* at) const {
    bool inside = true;
    SOFT_POOL_FOR(d, kDirections) {
      at[d] += static_cast<index_t>(item & ((1u << bits[d]) - 1));
      item >>= bits[d];
      inside = inside && at[d] < counts[d];
    }
    return inside && item == 0;
  }
};

}  // namespace softpool_det::cuda
