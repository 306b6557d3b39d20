// Several neighbouring numbers side by side in a thread: loading, arithmetic, storing.
#pragma once

#include "geometry.cuh"

namespace softpool_det::cuda {

template <typename acc_t>
constexpr acc_t kNothing = -std::numeric_limits<acc_t>::infinity();  // what padding holds

// The larger one; NaN where either is NaN.
template <typename acc_t>
SOFT_POOL_HD acc_t larger(acc_t a, acc_t b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  if constexpr (sizeof(acc_t) == 4) {
    float result;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
    return result;
  }
#endif
  const acc_t result = a < b ? b : a;  // a, where b is NaN
  return b == b ? result : b;
}

// 1 / value for a value of at least 1, or NaN.
template <typename acc_t>
SOFT_POOL_HD acc_t reciprocal(acc_t value) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(acc_t) == 4) {
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
    return result;
  }
#endif
  return acc_t(1) / value;
}

// distance_to_maximum() for a maximum from larger(). Without `infinite` the maximum is not +inf,
// which saves a comparison.
template <bool infinite, typename acc_t>
SOFT_POOL_HD acc_t distance(acc_t value, acc_t maximum) {
  acc_t result = value - maximum;
  if (infinite && value == maximum) {
    result = acc_t(0);
  }
  return larger(result, kFarthest<acc_t>);
}

// Numbers that are read and written in one go, where their address allows.
template <typename scalar_t, int count>
struct alignas(sizeof(scalar_t) * count) Pack {
  scalar_t lane[count];
};

template <int count, typename scalar_t>
SOFT_POOL_HD Pack<scalar_t, count> pack_of(scalar_t value) {
  Pack<scalar_t, count> result;
  SOFT_POOL_UNROLL
  for (int l = 0; l < count; ++l) {
    result.lane[l] = value;
  }
  return result;
}

template <int count, typename scalar_t>
SOFT_POOL_HD Pack<scalar_t, count> load_pack(const scalar_t* from) {
  return *reinterpret_cast<const Pack<scalar_t, count>*>(from);
}

// relu(value * scale + shift), or the value itself; V lanes of different channels.
template <typename acc_t, int V>
struct Affine {
  bool on;
  acc_t scale[V];
  acc_t shift[V];

  SOFT_POOL_HD Affine(const acc_t* scales, const acc_t* shifts, int64_t channel)
      : on(scales != nullptr) {
    SOFT_POOL_UNROLL
    for (int l = 0; l < V; ++l) {
      scale[l] = on ? scales[channel + l] : acc_t(1);
      shift[l] = on ? shifts[channel + l] : acc_t(0);
    }
  }
  SOFT_POOL_HD acc_t apply(acc_t value, int lane) const {
    return larger(value * scale[lane] + shift[lane], acc_t(0));
  }
  // The gradient of `value` before apply(), from that behind it.
  SOFT_POOL_HD acc_t gradient(acc_t gradient, acc_t applied, int lane) const {
    return applied <= acc_t(0) ? acc_t(0) : gradient * scale[lane];
  }
};

// A window's numbers, V windows side by side.
template <typename acc_t, int V>
struct Sums {
  acc_t maximum[V];
  acc_t total[V];
  acc_t shift[V];  // mean distance to the maximum

  SOFT_POOL_HD void normalise() {
    SOFT_POOL_UNROLL
    for (int l = 0; l < V; ++l) {
      shift[l] = total[l] == acc_t(0) ? acc_t(0) : shift[l] * reciprocal(total[l]);
    }
  }
  SOFT_POOL_HD acc_t output(int lane) const {
    return pooled_value(maximum[lane], total[lane], shift[lane]);
  }
  // Adds the sums of other taps of the same windows, before normalise(). Those of no tap add 0.
  SOFT_POOL_HD void add(const Sums& other) {
    SOFT_POOL_UNROLL
    for (int l = 0; l < V; ++l) {
      const acc_t most = larger(maximum[l], other.maximum[l]);
      const acc_t here = distance<true>(maximum[l], most);
      const acc_t there = distance<true>(other.maximum[l], most);
      const acc_t e = exp_of_distance(here), f = exp_of_distance(there);
      shift[l] = e * (shift[l] + total[l] * here) +
          f * (other.shift[l] + other.total[l] * there);
      total[l] = e * total[l] + f * other.total[l];
      maximum[l] = most;
    }
  }
  SOFT_POOL_HD bool any_infinite() const {
    bool result = false;
    SOFT_POOL_UNROLL
    for (int l = 0; l < V; ++l) {
      result = result || maximum[l] == std::numeric_limits<acc_t>::infinity();
    }
    return result;
  }
};

// A window's maximum from `taps` values in registers, value(tap, lane).
template <int taps, int V, typename acc_t, typename Value>
SOFT_POOL_HD void find_maximum(const Value& value, Sums<acc_t, V>& sums) {
  SOFT_POOL_UNROLL
  for (int l = 0; l < V; ++l) {
    sums.maximum[l] = kLowest<acc_t>;
    SOFT_POOL_UNROLL
    for (int t = 0; t < taps; ++t) {
      sums.maximum[l] = larger(sums.maximum[l], value(t, l));
    }
  }
}

template <bool infinite, int taps, int V, typename acc_t, typename Value>
SOFT_POOL_HD void find_sums(const Value& value, Sums<acc_t, V>& sums) {
  SOFT_POOL_UNROLL
  for (int l = 0; l < V; ++l) {
    sums.total[l] = sums.shift[l] = acc_t(0);
    SOFT_POOL_UNROLL
    for (int t = 0; t < taps; ++t) {
      const acc_t d = distance<infinite>(value(t, l), sums.maximum[l]);
      const acc_t e = exp_of_distance(d);
      sums.total[l] += e;
      sums.shift[l] += e * d;
    }
  }
  sums.normalise();
}

template <int taps, int V, typename acc_t, typename Value>
SOFT_POOL_HD Sums<acc_t, V> sums_of(const Value& value) {
  Sums<acc_t, V> sums;
  find_maximum<taps>(value, sums);
  if (sums.any_infinite()) {
    find_sums<true, taps>(value, sums);
  } else {
    find_sums<false, taps>(value, sums);
  }
  return sums;
}

// What the gradients of a window's inputs have in common:
// gradient = weight * exp(d) * (slope * d + offset), with slope 1 (exact) or 0 (paper).
template <typename acc_t>
struct Share {
  acc_t weight;
  acc_t offset;

  SOFT_POOL_HD Share(acc_t upstream, acc_t total, acc_t shift, bool exact)
      : weight(total == acc_t(0) ? acc_t(0) : upstream * reciprocal(total)),
        offset(exact ? acc_t(1) - shift : acc_t(1)) {}
};

// The numbers that windows' gradients are made of, for `count` items of V windows: all maxima, all
// weights, all offsets.
template <typename acc_t, int V>
struct Statistics {
  Pack<acc_t, V>* packs;
  int64_t count;

  SOFT_POOL_HD void keep(
      int64_t item, const Sums<acc_t, V>& sums, const acc_t (&upstream)[V], bool exact) const {
    Pack<acc_t, V> maximum, weight, offset;
    SOFT_POOL_UNROLL
    for (int l = 0; l < V; ++l) {
      const Share<acc_t> share(upstream[l], sums.total[l], sums.shift[l], exact);
      maximum.lane[l] = sums.maximum[l];
      weight.lane[l] = share.weight;
      offset.lane[l] = share.offset;
    }
    packs[item] = maximum;
    packs[count + item] = weight;
    packs[2 * count + item] = offset;
  }
  // Copies an item from others. Returns whether a maximum is +inf.
  SOFT_POOL_HD bool copy(int64_t item, const Statistics& from, int64_t from_item) const {
    packs[item] = from.packs[from_item];
    packs[count + item] = from.packs[from.count + from_item];
    packs[2 * count + item] = from.packs[2 * from.count + from_item];
    bool infinite = false;
    SOFT_POOL_UNROLL
    for (int l = 0; l < V; ++l) {
      infinite =
          infinite || packs[item].lane[l] == std::numeric_limits<acc_t>::infinity();
    }
    return infinite;
  }
};

template <typename acc_t>
SOFT_POOL_HD acc_t gradient_of(acc_t d, acc_t weight, acc_t offset, acc_t slope) {
  return weight * exp_of_distance(d) * (slope * d + offset);
}

}  // namespace softpool_det::cuda
