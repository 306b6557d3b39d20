// Elements of tensors, as lanes of the type that is computed in, and back; numbers by channel; the
// range of sums.
#pragma once

#include "../formula.h"
#include "kernels.h"
#include "lanes.h"

namespace softpool_det {
namespace {

// ---- float16 and bfloat16 ----

SOFT_POOL_HD Floats from_bfloat16(Words bits) { return bits_of<Floats>(bits << 16); }

// To nearest, ties to even; in the low 16 bits.
SOFT_POOL_HD Words to_bfloat16(Floats value) {
  const Words bits = bits_of<Words>(value);
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return value == value ? rounded : Words{} + 0x7fc0u;
}

#if defined(__AVX512F__)
SOFT_POOL_HD Floats from_float16(Shorts bits) {
  return bits_of<Floats>(_mm512_cvtph_ps(bits_of<__m256i>(bits)));
}
SOFT_POOL_HD Shorts to_float16(Floats value) {
  return bits_of<Shorts>(_mm512_cvtps_ph(bits_of<__m512>(value), _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__AVX2__)
SOFT_POOL_HD Floats from_float16(Shorts bits) {
  return bits_of<Floats>(_mm256_cvtph_ps(bits_of<__m128i>(bits)));
}
SOFT_POOL_HD Shorts to_float16(Floats value) {
  return bits_of<Shorts>(_mm256_cvtps_ph(bits_of<__m256>(value), _MM_FROUND_TO_NEAREST_INT));
}
#else
SOFT_POOL_HD Floats from_float16(Shorts half) {
  const Words bits = widen(half);
  const Words magnitude = (bits & 0x7fffu) << 13;
  // The exponents' biases differ by 112; a multiplication moves subnormal numbers, too.
  const Words finite = bits_of<Words>(bits_of<Floats>(magnitude) * 0x1p112f);
  const Words unsigned_bits = magnitude >= (0x7c00u << 13) ? magnitude | 0x7f800000u : finite;
  return bits_of<Floats>(unsigned_bits | (bits & 0x8000u) << 16);
}
SOFT_POOL_HD Shorts to_float16(Floats value) {
  const Words bits = bits_of<Words>(value);
  const Words magnitude = bits & 0x7fffffffu;
  // Adding 0.5 leaves a multiple of 2^-24, the least float16, in the low bits.
  const Words subnormal = bits_of<Words>(bits_of<Floats>(magnitude) + 0.5f) - 0x3f000000u;
  const Words normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - (112u << 23)) >> 13;
  Words half = magnitude < 0x38800000u ? subnormal : normal;     // 2^-14
  half = magnitude >= 0x477ff000u ? Words{} + 0x7c00u : half;    // 65520 rounds to infinity
  half = magnitude > 0x7f800000u ? Words{} + 0x7e00u : half;     // NaN
  return narrow(half | (bits >> 16 & 0x8000u));
}
#endif

// ---- a tensor's elements as lanes of the type that is computed in ----

// Writes past the caches, without reading their lines first, where the address allows it.
SOFT_POOL_HD bool store_nontemporal(float* target, Floats value) {
#if defined(__AVX512F__) || defined(__AVX2__)
  if (reinterpret_cast<uintptr_t>(target) % kRegisterBytes == 0) {
#if defined(__AVX512F__)
    _mm512_stream_ps(target, bits_of<__m512>(value));
#else
    _mm256_stream_ps(target, bits_of<__m256>(value));
#endif
    return true;
  }
#endif
  return false;
}
// To be called before others read what was written so.
SOFT_POOL_HD void end_nontemporal() {
#if defined(__AVX512F__) || defined(__AVX2__)
  _mm_sfence();
#endif
}

template <typename element_t>
struct Elements {  // float and double
  using real = element_t;
  using Real = Lanes<real>;
  static SOFT_POOL_HD Real load(const element_t* source) { return load_bits<Real>(source); }
  static SOFT_POOL_HD void store(element_t* target, Real value, bool nontemporal = false) {
    if constexpr (sizeof(real) == 4) {
      if (nontemporal && store_nontemporal(target, value)) {
        return;
      }
    }
    memcpy(target, &value, sizeof(value));
  }
  // Elements 0, 2, 4, ... and 1, 3, 5, ... of twice as many.
  static SOFT_POOL_HD void load_pairs(const element_t* source, Real& even, Real& odd) {
    split<real>(load(source), load(source + kLanes<real>), even, odd);
  }
  static SOFT_POOL_HD void store_pairs(
      element_t* target, Real even, Real odd, bool nontemporal = false) {
    Real a, b;
    merge<real>(even, odd, a, b);
    store(target, a, nontemporal);
    store(target + kLanes<real>, b, nontemporal);
  }
};

template <>
struct Elements<BFloat16> {
  using real = float;
  static SOFT_POOL_HD Floats load(const BFloat16* source) {
    return from_bfloat16(widen(load_bits<Shorts>(source)));
  }
  static SOFT_POOL_HD void store(BFloat16* target, Floats value, bool = false) {
    const Shorts bits = narrow(to_bfloat16(value));
    memcpy(target, &bits, sizeof(bits));
  }
  static SOFT_POOL_HD void load_pairs(const BFloat16* source, Floats& even, Floats& odd) {
    const Words both = load_bits<Words>(source);
    even = bits_of<Floats>(both << 16);
    odd = bits_of<Floats>(both & 0xffff0000u);
  }
  static SOFT_POOL_HD void store_pairs(BFloat16* target, Floats even, Floats odd, bool = false) {
    const Words both = to_bfloat16(even) | to_bfloat16(odd) << 16;
    memcpy(target, &both, sizeof(both));
  }
};

template <>
struct Elements<Float16> {
  using real = float;
  static SOFT_POOL_HD Floats load(const Float16* source) {
    return from_float16(load_bits<Shorts>(source));
  }
  static SOFT_POOL_HD void store(Float16* target, Floats value, bool = false) {
    const Shorts bits = to_float16(value);
    memcpy(target, &bits, sizeof(bits));
  }
  static SOFT_POOL_HD void load_pairs(const Float16* source, Floats& even, Floats& odd) {
    const Words both = load_bits<Words>(source);
    even = from_float16(narrow(both & 0xffffu));
    odd = from_float16(narrow(both >> 16));
  }
  static SOFT_POOL_HD void store_pairs(Float16* target, Floats even, Floats odd, bool = false) {
    const Words both = widen(to_float16(even)) | widen(to_float16(odd)) << 16;
    memcpy(target, &both, sizeof(both));
  }
};

template <typename element_t>
using real_of = typename Elements<element_t>::real;

template <typename element_t>
SOFT_POOL_APART Lanes<real_of<element_t>> load_part(const element_t* source, int64_t count) {
  element_t copy[kLanes<real_of<element_t>>] = {};
  memcpy(copy, source, static_cast<size_t>(count) * sizeof(element_t));
  return Elements<element_t>::load(copy);
}
template <typename element_t>
SOFT_POOL_APART void store_part(
    element_t* target, Lanes<real_of<element_t>> value, int64_t count) {
  element_t copy[kLanes<real_of<element_t>>];
  Elements<element_t>::store(copy, value);
  memcpy(target, copy, static_cast<size_t>(count) * sizeof(element_t));
}

// The first `count` lanes, which may be all; the others are 0, or left alone.
template <typename element_t>
SOFT_POOL_HD Lanes<real_of<element_t>> load_some(const element_t* source, int64_t count) {
  return count >= kLanes<real_of<element_t>> ? Elements<element_t>::load(source)
                                             : load_part(source, count);
}
template <typename element_t>
SOFT_POOL_HD void store_some(
    element_t* target, Lanes<real_of<element_t>> value, int64_t count, bool nontemporal = false) {
  count >= kLanes<real_of<element_t>> ? Elements<element_t>::store(target, value, nontemporal)
                                      : store_part(target, value, count);
}

// ---- a tile's numbers by channel ----

template <typename element_t, bool affine>
struct ChannelFormula {
  using real = real_of<element_t>;
  using Real = Lanes<real>;
  SoftPool<LaneMath<element_t>> formula;
  Activation<affine, Real> activation;

  // Of the channels from `channel` on, one in every lane; contiguous: of one channel, in all lanes.
  SOFT_POOL_HD ChannelFormula(const Parameters& parameters, bool contiguous, int64_t channel) {
    const auto lanes = [&](const void* numbers) {
      const auto* source = static_cast<const real*>(numbers);
      return contiguous ? broadcast(*source) : Elements<real>::load(source + channel);
    };
    formula = {lanes(parameters.beta_log2e), lanes(parameters.beta)};
    if (affine) {
      activation = {lanes(parameters.scale), lanes(parameters.bias)};
    }
  }
};

template <typename real>
SOFT_POOL_HD void fill(real* target, int64_t count, real value) {
  for (int64_t i = 0; i < count; ++i) {
    target[i] = value;
  }
}

// `value` in the lanes [begin, end), `other` in those beside.
template <typename real>
SOFT_POOL_HD Lanes<real> between(int64_t begin, int64_t end, Lanes<real> value, real other) {
  using Index = ShuffleIndex<sizeof(real)>;
  const auto first = static_cast<Index>(begin), last = static_cast<Index>(end);
  const Lanes<Index> lane = lane_numbers<Index>();
  return ((lane >= first) & (lane < last)) ? value : broadcast(other);
}

// Adds lanes to a tile's grad_beta.
template <typename real>
SOFT_POOL_HD void add_to_channels(
    void* grad_beta, bool contiguous, int64_t channel, Lanes<real> value) {
  auto* target = static_cast<real*>(grad_beta);
  if (!contiguous) {
    Elements<real>::store(target + channel, Elements<real>::load(target + channel) + value);
    return;
  }
  for (int lane = 0; lane < kLanes<real>; ++lane) {
    *target += value[lane];
  }
}

// Whether sums of e and of e x, and what gradients are made of, are in a range where nothing that
// matters is lost.
struct Range {
  static constexpr float kFar = 0x1p64f;
  Floats smallest = broadcast(kFar);
  Floats largest = broadcast(kFar);
  Floats zero{};  // NaN after a NaN or an infinite number

  SOFT_POOL_HD void add(Floats total, Floats product) {
    smallest = smaller(total, smallest);
    largest = larger(total, largest);
    zero += product * 0.f;
  }
  // Of an upstream gradient g and g / total: with room for products and sums, and none that has lost
  // digits below the type's normal range, or all of them.
  SOFT_POOL_HD void add_slope(Floats upstream, Floats slope) {
    const Floats magnitude = larger(slope, -slope);
    const Floats beyond = (slope * 0x1p63f + upstream * 0x1p8f) * 0.f;
    const Floats lost = upstream == 0 ? Floats{} : broadcast(NAN);
    zero += magnitude < 0x1p-100f ? lost : beyond;
  }
  SOFT_POOL_HD bool holds() const {
    bool result = true;
    for (int lane = 0; lane < kLanes<float>; ++lane) {
      result = result && smallest[lane] >= 1 / kFar && largest[lane] <= kFar && zero[lane] == 0;
    }
    return result;
  }
};

}  // namespace
}  // namespace softpool_det
