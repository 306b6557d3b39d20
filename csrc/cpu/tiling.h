// How an operator's work is cut into tiles. Cuts depend on the shapes alone, never on the number
// of threads, so that results don't either.
#pragma once

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "../soft_pool.h"
#include "kernels.h"
#include "plan.h"

namespace softpool_det {

// Lanes of a row of windows, and numbers of scratch memory, that a tile should stay below: a row's
// buffers then fit into the first-level cache, a tile's into the second-level one.
constexpr int64_t kRowLanes = 512;
constexpr int64_t kScratchNumbers = 48 * 1024;
// Inputs that a tile without buffers should have, and a thread at least.
constexpr int64_t kDirectInputs = 16384;
constexpr int64_t kOverlapLanes = 1024;
// Longest row of contiguous tensors that the overlap kernels keep in scratch memory.
constexpr int64_t kWidest = 1 << 16;
constexpr int64_t kGrain = 32768;

class TapTable {
 public:
  explicit TapTable(const Axis& axis) {
    std::unordered_map<int64_t, int64_t> slots;
    for (int64_t k = 0; k < axis.kernel; ++k) {
      const int64_t phase = k * axis.dilation % axis.stride;
      const auto [slot, is_new] = slots.emplace(phase, static_cast<int64_t>(phase_.size()));
      slot_.push_back(slot->second);
      offset_.push_back(k * axis.dilation / axis.stride);
      if (is_new) {
        phase_.push_back(phase);
      }
    }
    taps_ = {axis.kernel,  static_cast<int64_t>(phase_.size()), phase_.data(), slot_.data(),
             offset_.data(), offset_.back()};
  }
  TapTable(const TapTable&) = delete;

  const Taps* get() const { return &taps_; }

 private:
  std::vector<int64_t> phase_, slot_, offset_;
  Taps taps_;
};

// The kernels that a tile is for, see kernels.h.
enum class Way { kGeneral, kDirect, kOverlap };

class Tiling {
 public:
  // `any_way`: whether there is more than the general one.
  Tiling(const Pool& pool, bool backward, bool any_way)
      : pool_(pool),
        taps_(pool.axes[2]),
        backward_(backward),
        overlaps_(any_way && is_stock_stem() && (pool.channels_last || size(2) <= kWidest)) {
    if (overlaps_) {
      add_box({0, 0, 0}, {size(0), size(1), size(2)}, Way::kOverlap);
      return;
    }
    int64_t whole[3];  // windows without a missing tap
    for (int d = 0; d < 3; ++d) {
      whole[d] = std::min(pool.axes[d].out_size, pool.axes[d].size / pool.axes[d].stride);
    }
    const int64_t run = pool.channels_last ? pool.channels : whole[2];
    const bool direct =
        any_way && is_side_by_side() && run >= kAlignment && whole[0] * whole[1] > 0;
    int64_t end[3];
    for (int d = 0; d < 3; ++d) {
      end[d] = size(d);
      whole[d] = direct ? (backward ? whole[d] * pool.axes[d].stride : whole[d]) : 0;
    }
    add_box({0, 0, 0}, {whole[0], whole[1], whole[2]}, Way::kDirect);
    add_box({0, 0, whole[2]}, {whole[0], whole[1], end[2]}, Way::kGeneral);
    add_box({0, whole[1], 0}, {whole[0], end[1], end[2]}, Way::kGeneral);
    add_box({whole[0], 0, 0}, {end[0], end[1], end[2]}, Way::kGeneral);
  }

  int64_t count() const { return tiles_ * pool_.batch * chunks(); }

  // Tiles that are worth a thread of their own.
  int64_t grain() const {
    const int64_t inputs = pool_.batch * pool_.channels * pool_.inputs();
    return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, inputs / count()));
  }

  struct Item {
    Tile tile;
    Way way;
    int64_t image;
    int64_t channel;
  };

  Item item(int64_t index) const {
    const int64_t plane = index / tiles_;
    int64_t rest = index % tiles_;
    const Box* box = boxes_.data();
    for (; rest >= box->tiles; ++box) {
      rest -= box->tiles;
    }
    Item item{{pool_.axes, taps_.get(), pool_.channels_last ? pool_.channels : 1, 1, {}, {}},
              box->way, plane / chunks(), plane % chunks() * chunk()};
    if (pool_.channels_last) {
      item.tile.width = std::min(chunk(), pool_.channels - item.channel);
    }
    for (int d = 2; d >= 0; --d) {
      const int64_t pieces = box->pieces(d);
      item.tile.begin[d] = box->begin[d] + rest % pieces * box->step[d];
      item.tile.end[d] = std::min(box->end[d], item.tile.begin[d] + box->step[d]);
      rest /= pieces;
    }
    return item;
  }

 private:
  struct Box {
    int64_t begin[3];
    int64_t end[3];
    int64_t step[3];
    Way way;
    int64_t tiles;

    int64_t pieces(int d) const { return (end[d] - begin[d] + step[d] - 1) / step[d]; }
  };

  int64_t size(int d) const { return backward_ ? pool_.axes[d].size : pool_.axes[d].out_size; }
  int64_t unit(int d) const { return backward_ ? pool_.axes[d].stride : 1; }

  // Channels of channels_last at a time, and how often.
  int64_t chunk() const {
    return pool_.channels_last ? std::min<int64_t>(pool_.channels, overlaps_ ? 64 : 256) : 1;
  }
  int64_t chunks() const { return (pool_.channels + chunk() - 1) / chunk(); }

  bool is_side_by_side() const {
    const Axis* axes = pool_.axes;
    for (int d = 0; d < 3; ++d) {
      const bool tiles = axes[d].kernel == axes[d].stride && axes[d].padding == 0;
      if (!tiles || (axes[d].kernel > 1 && axes[d].dilation != 1)) {
        return false;
      }
    }
    const int64_t rows = axes[0].kernel * axes[1].kernel;
    return axes[2].kernel == 2 && (rows == 1 || rows == 2 || rows == 4);
  }

  bool is_stock_stem() const {
    const Axis* axes = pool_.axes;
    // The kernels take depth slices of input and output together. A lone output slice has stride 1
    // whatever was asked for, so that the sizes have to be compared, too.
    bool stock = axes[0].kernel == 1 && axes[0].stride == 1 && axes[0].padding == 0 &&
        axes[0].size == axes[0].out_size;
    for (int d = 1; d < 3; ++d) {
      stock = stock && axes[d].kernel == 3 && axes[d].stride == 2 && axes[d].padding == 1 &&
          axes[d].dilation == 1;
    }
    return stock;
  }

  void add_box(const Ints& begin, const Ints& end, Way way) {
    Box box{{}, {}, {}, way, 1};
    for (int d = 0; d < 3; ++d) {
      if (begin[d] >= end[d]) {
        return;
      }
      box.begin[d] = begin[d];
      box.end[d] = end[d];
    }
    if (way == Way::kOverlap) {
      choose_overlap_steps(box);
    } else if (way == Way::kDirect) {
      choose_direct_steps(box);
    } else {
      choose_steps(box);
    }
    for (int d = 0; d < 3; ++d) {
      box.tiles *= box.pieces(d);
    }
    tiles_ += box.tiles;
    boxes_.push_back(box);
  }

  void choose_direct_steps(Box& box) const {
    const Axis* axes = pool_.axes;
    const int64_t row = axes[0].stride * axes[1].stride * axes[2].size * chunk();
    box.step[0] = unit(0);
    box.step[1] = unit(1) * std::max<int64_t>(1, kDirectInputs / row);
    box.step[2] = box.end[2] - box.begin[2];
  }

  // Rows of contiguous tensors are not cut: their registers reach over windows.
  void choose_overlap_steps(Box& box) const {
    box.step[0] = 1;
    box.step[1] = unit(1) * 32;
    box.step[2] = pool_.channels_last ? unit(2) * std::max<int64_t>(1, kOverlapLanes / chunk())
                                      : box.end[2];
  }

  void choose_steps(Box& box) const {
    int64_t windows[3] = {4, 8, std::max<int64_t>(1, kRowLanes / chunk())};
    for (;;) {
      Tile tile{pool_.axes, taps_.get(), 1, chunk(), {}, {}};
      for (int d = 0; d < 3; ++d) {
        box.step[d] = std::min(windows[d] * unit(d), box.end[d] - box.begin[d]);
        // From the middle, where nothing is cut off.
        tile.begin[d] = box.begin[d] + (box.end[d] - box.begin[d] - box.step[d]) / 2;
        tile.end[d] = tile.begin[d] + box.step[d];
      }
      const Plan plan = make_plan(tile, backward_);
      if (make_layout(tile, plan, backward_).size <= kScratchNumbers) {
        return;
      }
      int64_t* most = std::max_element(windows, windows + 2);
      if (*most == 1) {
        most = windows + 2;
      }
      if (*most == 1) {
        return;
      }
      *most /= 2;
    }
  }

  const Pool& pool_;
  TapTable taps_;
  bool backward_;
  bool overlaps_;
  std::vector<Box> boxes_;
  int64_t tiles_ = 0;
};

}  // namespace softpool_det
