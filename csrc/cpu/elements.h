// Elements of tensors, as lanes of the type that is computed in, and back.
#pragma once

#include "kernels.h"
#include "shuffles.h"

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

template <typename element_t>
struct Elements {  // float and double
  using real = element_t;
  static SOFT_POOL_HD Lanes<real> load(const element_t* source) {
    return load_bits<Lanes<real>>(source);
  }
  static SOFT_POOL_HD void store(element_t* target, Lanes<real> value) {
    memcpy(target, &value, sizeof(value));
  }
  // Elements 0, 2, 4, ... and 1, 3, 5, ... of twice as many.
  static SOFT_POOL_HD void load_pairs(
      const element_t* source, Lanes<real>& even, Lanes<real>& odd) {
    split<real>(load(source), load(source + kLanes<real>), even, odd, AllLanes<real>());
  }
  static SOFT_POOL_HD void store_pairs(element_t* target, Lanes<real> even, Lanes<real> odd) {
    Lanes<real> a, b;
    merge<real>(even, odd, a, b, AllLanes<real>());
    store(target, a);
    store(target + kLanes<real>, b);
  }
};

template <>
struct Elements<BFloat16> {
  using real = float;
  static SOFT_POOL_HD Floats load(const BFloat16* source) {
    return from_bfloat16(widen(load_bits<Shorts>(source)));
  }
  static SOFT_POOL_HD void store(BFloat16* target, Floats value) {
    const Shorts bits = narrow(to_bfloat16(value));
    memcpy(target, &bits, sizeof(bits));
  }
  static SOFT_POOL_HD void load_pairs(const BFloat16* source, Floats& even, Floats& odd) {
    const Words both = load_bits<Words>(source);
    even = bits_of<Floats>(both << 16);
    odd = bits_of<Floats>(both & 0xffff0000u);
  }
  static SOFT_POOL_HD void store_pairs(BFloat16* target, Floats even, Floats odd) {
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
  static SOFT_POOL_HD void store(Float16* target, Floats value) {
    const Shorts bits = to_float16(value);
    memcpy(target, &bits, sizeof(bits));
  }
  static SOFT_POOL_HD void load_pairs(const Float16* source, Floats& even, Floats& odd) {
    const Words both = load_bits<Words>(source);
    even = from_float16(narrow(both & 0xffffu));
    odd = from_float16(narrow(both >> 16));
  }
  static SOFT_POOL_HD void store_pairs(Float16* target, Floats even, Floats odd) {
    const Words both = widen(to_float16(even)) | widen(to_float16(odd)) << 16;
    memcpy(target, &both, sizeof(both));
  }
};

template <typename real>
SOFT_POOL_HD Lanes<real> shift_in(Lanes<real> before, Lanes<real> here) {
  return shift_in<real>(before, here, AllLanes<real>());
}
template <typename real>
SOFT_POOL_HD Lanes<real> shift_out(Lanes<real> here, Lanes<real> next) {
  return shift_out<real>(here, next, AllLanes<real>());
}

// The first `count` lanes; the others are 0, or left alone.
template <typename element_t>
SOFT_POOL_HD Lanes<typename Elements<element_t>::real> load_some(
    const element_t* source, int64_t count) {
  element_t copy[kLanes<typename Elements<element_t>::real>] = {};
  memcpy(copy, source, static_cast<size_t>(count) * sizeof(element_t));
  return Elements<element_t>::load(copy);
}

template <typename element_t>
SOFT_POOL_HD void store_some(
    element_t* target, Lanes<typename Elements<element_t>::real> value, int64_t count) {
  element_t copy[kLanes<typename Elements<element_t>::real>];
  Elements<element_t>::store(copy, value);
  memcpy(target, copy, static_cast<size_t>(count) * sizeof(element_t));
}

// ---- past the caches ----

// Writes aligned floats without reading their cache lines first; everything else as usual.
template <typename element_t>
SOFT_POOL_HD void stream(element_t* target, Lanes<typename Elements<element_t>::real> value) {
  Elements<element_t>::store(target, value);
}
#if defined(__AVX512F__)
template <>
SOFT_POOL_HD void stream<float>(float* target, Floats value) {
  if (reinterpret_cast<uintptr_t>(target) % kRegisterBytes == 0) {
    _mm512_stream_ps(target, bits_of<__m512>(value));
  } else {
    Elements<float>::store(target, value);
  }
}
#elif defined(__AVX2__)
template <>
SOFT_POOL_HD void stream<float>(float* target, Floats value) {
  if (reinterpret_cast<uintptr_t>(target) % kRegisterBytes == 0) {
    _mm256_stream_ps(target, bits_of<__m256>(value));
  } else {
    Elements<float>::store(target, value);
  }
}
#endif

// The same for two registers of even and odd columns.
template <typename element_t>
SOFT_POOL_HD void stream_pairs(
    element_t* target, Lanes<typename Elements<element_t>::real> even,
    Lanes<typename Elements<element_t>::real> odd) {
  Elements<element_t>::store_pairs(target, even, odd);
}
SOFT_POOL_HD void stream_pairs(float* target, Floats even, Floats odd) {
  Floats a, b;
  merge<float>(even, odd, a, b, AllLanes<float>());
  stream(target, a);
  stream(target + kLanes<float>, b);
}

// To be called before others read what was streamed.
SOFT_POOL_HD void end_streams() {
#if defined(__AVX512F__) || defined(__AVX2__)
  _mm_sfence();
#endif
}

// ---- pairs of columns ----

// Two registers of neighbouring columns, and what belongs to a window of both columns of each pair.
// 16-bit columns come as even and odd ones, window by window. Floats stay as they lie in memory and
// add up within parts of 128 bits, where shuffles are cheap: windows then are in the order that
// sum_of_pairs() makes.
template <typename element_t>
struct ColumnPairs {
  using real = typename Elements<element_t>::real;
  using Vector = Lanes<real>;
  static SOFT_POOL_HD void load(const element_t* source, Vector* columns) {
    Elements<element_t>::load_pairs(source, columns[0], columns[1]);
  }
  static SOFT_POOL_HD void store(element_t* target, const Vector* columns, bool) {
    Elements<element_t>::store_pairs(target, columns[0], columns[1]);
  }
  static SOFT_POOL_HD Vector sum(Vector a, Vector b) { return a + b; }
  static SOFT_POOL_HD Vector woven(Vector windows) { return windows; }
  static SOFT_POOL_HD Vector unwoven(Vector windows) { return windows; }
  static SOFT_POOL_HD void spread(Vector windows, Vector* columns) {
    columns[0] = columns[1] = windows;
  }
};

template <>
struct ColumnPairs<float> {
  using Vector = Floats;
  static constexpr int kCount = kLanes<float>;
  static SOFT_POOL_HD void load(const float* source, Floats* columns) {
    columns[0] = Elements<float>::load(source);
    columns[1] = Elements<float>::load(source + kCount);
  }
  static SOFT_POOL_HD void store(float* target, const Floats* columns, bool past_caches) {
    for (int i = 0; i < 2; ++i) {
      past_caches ? stream(target + i * kCount, columns[i])
                  : Elements<float>::store(target + i * kCount, columns[i]);
    }
  }
  static SOFT_POOL_HD Floats sum(Floats a, Floats b) {
    return sum_of_pairs(a, b, AllLanes<float>());
  }
  static SOFT_POOL_HD Floats woven(Floats windows) {
    return softpool_det::woven(windows, AllLanes<float>());
  }
  static SOFT_POOL_HD Floats unwoven(Floats windows) {
    return softpool_det::unwoven(windows, AllLanes<float>());
  }
  static SOFT_POOL_HD void spread(Floats windows, Floats* columns) {
    twice(windows, columns[0], columns[1], AllLanes<float>());
  }
};

}  // namespace
}  // namespace softpool_det
