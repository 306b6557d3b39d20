// k2s2 and k3s2p1: windows of 2 x 2 without padding, and of 3 x 3 with a padding of 1, with stride 2
// in rows and columns, held in registers.
#pragma once

#include "generic.cuh"

namespace softpool_det::cuda {

// Window (y, x) has the cell of 2 x 2 inputs at (2 y, 2 x) and, with K = 3, the row and the column
// before it. An item is V cells side by side, with or without windows: channels of one, or, of a
// contiguous tensor whose rows are full of items, neighbours in a row.
template <typename Problem, int V, int K, bool along_columns>
struct Cells : ChannelLanes<Problem, V, along_columns> {
  using Base = ChannelLanes<Problem, V, along_columns>;
  using typename Base::index_t;
  using typename Base::real;
  using typename Base::scalar_t;
  using Base::kChannelLanes;
  using Base::kColumnLanes;
  using Base::problem;
  static constexpr int kKernel = K;
  using Base::Base;

  // Inputs of an axis that windows hold.
  SOFT_POOL_HD index_t covered(int axis) const {
    const index_t most = 2 * problem.axes[axis].out_size, size = problem.axes[axis].size;
    return size < most ? size : most;
  }
  // What is pooled of rows y, y + 1, ..., from `before` columns before the item's cells on, by
  // column of a cell and lane; -inf where no window is.
  template <int rows, int before>
  SOFT_POOL_HD void load_rows(
      const index_t* at, index_t y, real (&values)[rows][before + 2][V]) const {
    const index_t x = 2 * kColumnLanes * at[kColumns] - before;
    const index_t height = covered(1), width = covered(2);
    scalar_t raw[rows][before + 2 * kColumnLanes][kChannelLanes];
    SOFT_POOL_FOR(r, rows) {  // all loads before the first use, so that they wait together
      const bool has_row = y + r >= 0 && y + r < height;
      const scalar_t* from = problem.input + this->input_at(at[kDepth], y + r, x);
      SOFT_POOL_FOR(c, before + (along_columns ? 0 : 2)) {
        if (has_row && x + c >= 0 && x + c < width) {
          load_pack(from + c * problem.pixel_stride, raw[r][c]);
        }
      }
      if (along_columns && has_row && x + before < width) {
        load_pack(from + before, reinterpret_cast<scalar_t(&)[2 * V]>(raw[r][before]));
      }
    }
    SOFT_POOL_FOR(i, rows * (before + 2) * V) {
      const int l = i % V, k = i / V % (before + 2), r = i / V / (before + 2);
      const int c = along_columns ? 2 * l + k : k;
      const bool inside = y + r >= 0 && y + r < height && x + c >= 0 && x + c < width;
      const scalar_t number = raw[r][c][l % kChannelLanes];
      values[r][k][l] =
          inside ? this->channels.pooled(static_cast<real>(number), l) : kNothing<real>;
    }
  }
  // Writes the gradients of a row of the item's cells.
  SOFT_POOL_HD void store_row(
      const index_t* at, index_t y, const real (&gradients)[2][V]) const {
    const index_t x = 2 * kColumnLanes * at[kColumns];
    scalar_t* to = problem.result + this->input_at(at[kDepth], y, x);
    if (y >= problem.axes[1].size) {
      return;
    }
    if constexpr (along_columns) {
      real row[2 * V];
      SOFT_POOL_FOR(i, 2 * V) row[i] = gradients[i % 2][i / 2];
      store_pack(to, row);
    } else {
      store_pack(to, gradients[0]);
      if (x + 1 < problem.axes[2].size) {
        store_pack(to + problem.pixel_stride, gradients[1]);
      }
    }
  }

  template <int k>
  SOFT_POOL_HD void add_values(const real (&values)[k][k][V], Sums<real> (&sums)[V]) const {
    SOFT_POOL_FOR(l, V) {
      SOFT_POOL_FOR(t, k * k) sums[l].see(values[t / k][t % k][l]);
      SOFT_POOL_FOR(t, k * k) sums[l].add(this->channels.formula[l], values[t / k][t % k][l]);
    }
  }
  SOFT_POOL_HD void find_sums(const index_t* at, index_t, index_t, Sums<real> (&sums)[V]) const {
    real values[K][K][V];
    load_rows<K, K - 2>(at, 2 * at[kRows] - (K - 2), values);
    add_values(values, sums);
  }
};

// An item is a thread's, which gathers for its cells. K = 3: after the block has found all windows
// that reach into its cells and keeps them in shared memory, at most 48 KiB for any tile.
template <typename Lanes>
struct CellsBackward : Kernel<Lanes> {
  using typename Kernel<Lanes>::index_t;
  using typename Kernel<Lanes>::real;
  using Kernel<Lanes>::V;
  using Kernel<Lanes>::tiles;
  using Kept = WindowGradients<real, V>;
  static constexpr int K = Lanes::kKernel;
  Divisor<int32_t> rows, columns;  // of a tile's windows: one more than of its items

  SOFT_POOL_HD int phases() const { return K - 1 + this->sum_phases(); }
  SOFT_POOL_HD int32_t slots() const {
    return rows * columns << (tiles.bits[kChannels] + tiles.bits[kDepth] + tiles.bits[kImages]);
  }
  int64_t shared_bytes() const {
    return std::max(K == 3 ? slots() * int64_t(sizeof(Kept)) : 0, this->sum_bytes());
  }
  SOFT_POOL_HD void operator()(Thread<Lanes>& self) const {
    auto* kept = static_cast<Kept*>(self.shared);
    index_t at[kDirections];
    if (self.phase > K - 2) {
      this->add_up(self.phase - (K - 1), self);
    } else if (K == 3 && self.phase == 0) {
      for (auto slot = static_cast<int32_t>(self.thread); slot < slots(); slot += kThreads) {
        keep_windows(self.block, slot, kept[slot]);
      }
    } else if (this->find_item(self.block, self.thread, at)) {
      gather(at, kept + slot_of(self.thread), self);
    }
  }

  SOFT_POOL_HD void keep_windows(uint32_t block, int32_t slot, Kept& kept) const {
    index_t at[kDirections];
    tiles.first_item(block, at);
    const int32_t line = slot >> tiles.bits[kChannels];
    const int32_t plane = line / columns, volume = plane / rows;
    at[kChannels] += slot - (line << tiles.bits[kChannels]);
    at[kColumns] += line - plane * columns;
    at[kRows] += plane - volume * rows;
    at[kDepth] += volume & ((1 << tiles.bits[kDepth]) - 1);
    at[kImages] += volume >> tiles.bits[kDepth];
    // Of rows and columns one behind the last cell's, too.
    if (at[kChannels] < tiles.counts[kChannels] && at[kColumns] <= tiles.counts[kColumns] &&
        at[kRows] <= tiles.counts[kRows] && at[kDepth] < tiles.counts[kDepth] &&
        at[kImages] < tiles.counts[kImages]) {
      const Lanes lanes(this->problem, at);
      Sums<real> sums[V];
      lanes.find_sums(at, 0, 1, sums);
      kept = gradients_of(lanes, at, sums);
    }
  }
  // Of a thread's own windows.
  SOFT_POOL_HD int32_t slot_of(uint32_t thread) const {
    int32_t place[kDirections];
    SOFT_POOL_FOR(d, kDirections) {
      place[d] = static_cast<int32_t>(thread & ((1u << tiles.bits[d]) - 1));
      thread >>= tiles.bits[d];
    }
    const int32_t volume = (place[kImages] << tiles.bits[kDepth]) + place[kDepth];
    const int32_t line = (volume * rows + place[kRows]) * columns + place[kColumns];
    return (line << tiles.bits[kChannels]) + place[kChannels];
  }

  // `kept` are the windows of the cells and, with K = 3, those after them.
  SOFT_POOL_HD void gather(const index_t* at, const Kept* kept, Thread<Lanes>& self) const {
    const Lanes lanes(this->problem, at);
    real values[2][2][V], gradients[2][2][V] = {};
    lanes.template load_rows<2, 0>(at, 2 * at[kRows], values);
    SOFT_POOL_FOR(w, K - 1) {  // the next row's windows hold the cells' second row
      Kept found[2];
      if constexpr (K == 2) {
        Sums<real> sums[V];
        lanes.add_values(values, sums);
        found[0] = gradients_of(lanes, at, sums);
      } else {
        const Kept* row = kept + (w * columns << tiles.bits[kChannels]);
        found[0] = row[0];
        found[1] = row[1 << tiles.bits[kChannels]];
      }
      SOFT_POOL_FOR(i, 4 * (K - 1) * V) {
        const int l = i % V, c = i / V % 2, r = i / V / 2 % 2, next = i / V / 4;
        const int lane = l + next * (Lanes::kColumnLanes == 1 ? V : 1);
        if (w <= r && next <= c) {  // and the next column's their second column
          found[lane / V].lane[lane % V].add(
              lanes.channels.formula[l], this->problem.exact, values[r][c][l], gradients[r][c][l],
              self.grad_beta[l % Lanes::kChannelLanes]);
        }
      }
    }
    SOFT_POOL_FOR(i, 4 * V) {
      const int l = i % V, c = i / V % 2, r = i / V / 2;
      gradients[r][c][l] = lanes.channels.gradient(gradients[r][c][l], values[r][c][l], l);
    }
    SOFT_POOL_FOR(r, 2) lanes.store_row(at, 2 * at[kRows] + r, gradients[r]);
  }
};

}  // namespace softpool_det::cuda
