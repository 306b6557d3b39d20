// How an operator's work is cut into tiles. Cuts depend on the shapes alone, never on the number
// of threads, so that results don't either.
#pragma once

#include <algorithm>
#include <vector>

#include "plan.h"

namespace softpool_det {

// Numbers of scratch memory that a tile should stay below, to fit into the second-level cache, and
// the lanes of a row of windows, for the first-level one.
constexpr int64_t kScratchNumbers = 64 * 1024;
constexpr int64_t kRowLanes = 1024;
// Longest row of contiguous tensors that is not cut.
constexpr int64_t kWidest = 4096;
// Inputs of a tile without scratch memory; and the fewest that are worth a thread.
constexpr int64_t kDirectInputs = 16384;
constexpr int64_t kGrain = 32768;

class Tiling {
 public:
  struct Item {
    Tile tile;
    Geometry geometry;
    int64_t image;
    int64_t channel;
  };

  // `fast`: whether there is more than the plain kernel.
  Tiling(const Pool& pool, bool backward, bool fast) : pool_(pool), backward_(backward) {
    const Axis* axes = pool.axes;
    const Geometry rest = fast ? kGeneric : kPlain;
    int64_t end[3], whole[3];  // all, and those of windows without a missing tap
    for (int d = 0; d < 3; ++d) {
      end[d] = backward ? axes[d].size : axes[d].out_size;
      whole[d] = std::min(axes[d].out_size, axes[d].size / axes[d].stride);
    }
    const int64_t run = pool.channels_last ? pool.channels : whole[2];
    if (fast && is_k2s2() && run >= kAlignment && whole[0] * whole[1] > 0) {
      for (int d = 0; d < 3; ++d) {
        whole[d] *= unit(d);
      }
      add_box({0, 0, 0}, {whole[0], whole[1], whole[2]}, kK2S2);
      add_box({0, 0, whole[2]}, {whole[0], whole[1], end[2]}, rest);
      add_box({0, whole[1], 0}, {whole[0], end[1], end[2]}, rest);
      add_box({whole[0], 0, 0}, {end[0], end[1], end[2]}, rest);
    } else {
      add_box({0, 0, 0}, {end[0], end[1], end[2]}, fast && is_k3s2p1() ? kK3S2P1 : rest);
    }
    for (const Box& box : boxes_) {
      tiles_ += box.tiles * box.chunks;
    }
  }

  int64_t count() const { return tiles_ * planes(); }

  // Tiles that are worth a thread of their own.
  int64_t grain() const {
    const int64_t inputs = pool_.batch * pool_.channels * pool_.inputs();
    return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, inputs / count()));
  }

  // Channels that neighbouring tiles have, which share cache lines, come one after the other.
  Item item(int64_t index) const {
    const int64_t plane = index / tiles_;
    int64_t rest = index % tiles_;
    const Box* box = boxes_.data();
    for (; rest >= box->tiles * box->chunks; ++box) {
      rest -= box->tiles * box->chunks;
    }
    Item item{{pool_.axes, 1, 1, {}, {}}, box->geometry, plane / channel_planes(), 0};
    if (pool_.channels_last) {
      item.channel = rest % box->chunks * box->chunk;
      item.tile.pixel_stride = pool_.channels;
      item.tile.channels = std::min(box->chunk, pool_.channels - item.channel);
    } else {
      item.channel = plane % channel_planes();
    }
    rest /= box->chunks;
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
    Geometry geometry;
    int64_t chunk;   // channels of a tile
    int64_t chunks;
    int64_t tiles;

    int64_t pieces(int d) const { return (end[d] - begin[d] + step[d] - 1) / step[d]; }
  };

  // What the tiles' places count in, for one window.
  int64_t unit(int d) const { return backward_ ? pool_.axes[d].stride : 1; }
  // Channels of contiguous tensors are planes of their own.
  int64_t channel_planes() const { return pool_.channels_last ? 1 : pool_.channels; }
  int64_t planes() const { return pool_.batch * channel_planes(); }

  bool is_k2s2() const {
    const Axis* axes = pool_.axes;
    for (int d = 0; d < 3; ++d) {
      const bool disjoint = axes[d].kernel == axes[d].stride && axes[d].padding == 0;
      if (!disjoint || (axes[d].kernel > 1 && axes[d].dilation != 1)) {
        return false;
      }
    }
    const int64_t rows = axes[0].kernel * axes[1].kernel;
    return axes[2].kernel == 2 && (rows == 1 || rows == 2 || rows == 4);
  }

  bool is_k3s2p1() const {
    const Axis* axes = pool_.axes;
    // A lone output slice has stride 1 whatever was asked for, so sizes have to be compared, too.
    bool result = axes[0].kernel == 1 && axes[0].stride == 1 && axes[0].padding == 0 &&
        axes[0].size == axes[0].out_size;
    for (int d = 1; d < 3; ++d) {
      result = result && axes[d].kernel == 3 && axes[d].stride == 2 && axes[d].padding == 1 &&
          axes[d].dilation == 1;
    }
    return result;
  }

  void add_box(const int64_t (&begin)[3], const int64_t (&end)[3], Geometry geometry) {
    Box box{{}, {}, {}, geometry, 1, 1, 1};
    if (pool_.channels_last) {
      box.chunk = geometry == kK2S2 ? pool_.channels : std::min(kMostChannels, pool_.channels);
      box.chunks = (pool_.channels + box.chunk - 1) / box.chunk;
    }
    for (int d = 0; d < 3; ++d) {
      if (begin[d] >= end[d]) {
        return;
      }
      box.begin[d] = begin[d];
      box.end[d] = end[d];
      box.step[d] = end[d] - begin[d];
    }
    geometry == kK2S2 ? choose_rows(box) : choose_steps(box);
    for (int d = 0; d < 3; ++d) {
      box.tiles *= box.pieces(d);
    }
    boxes_.push_back(box);
  }

  void choose_rows(Box& box) const {
    const Axis* axes = pool_.axes;
    const int64_t row = axes[0].stride * axes[1].stride * axes[2].size * box.chunk;
    box.step[0] = unit(0);
    box.step[1] = unit(1) * std::max<int64_t>(1, kDirectInputs / row);
  }

  // The largest tiles whose windows fit into the scratch memory: the smaller they are, the more
  // inputs are read, and their exp() computed, by several of them.
  void choose_steps(Box& box) const {
    const int64_t most = pool_.channels_last ? kRowLanes / aligned(box.chunk) : kWidest;
    box.step[2] = std::min(box.step[2], unit(2) * std::max<int64_t>(1, most));
    for (;;) {
      Tile tile{pool_.axes, pool_.channels_last ? pool_.channels : 1, box.chunk, {}, {}};
      for (int d = 0; d < 3; ++d) {
        // From the middle, where nothing is cut off.
        tile.begin[d] = box.begin[d] + (box.end[d] - box.begin[d] - box.step[d]) / 2;
        tile.end[d] = tile.begin[d] + box.step[d];
      }
      const Plan plan = make_plan(tile, backward_, backward_ && box.geometry == kK3S2P1);
      if (plan.empty() || plan.size <= kScratchNumbers) {
        return;
      }
      int longest = plan.count(0) > plan.count(1) ? 0 : 1;
      if (box.step[longest] <= unit(longest)) {
        longest = box.step[1 - longest] > unit(1 - longest) ? 1 - longest : 2;
      }
      if (box.step[longest] <= unit(longest)) {
        return;
      }
      const int64_t windows = (box.step[longest] + unit(longest) - 1) / unit(longest);
      box.step[longest] = (windows + 1) / 2 * unit(longest);
    }
  }

  const Pool& pool_;
  bool backward_;
  std::vector<Box> boxes_;
  int64_t tiles_ = 0;  // of a plane, or of an image's channels
};

}  // namespace softpool_det
