// Lanes: as many numbers as one register holds, with the operators of GCC's and Clang's vectors, and
// one number with other compilers. Everything is in an unnamed namespace: each unit that includes
// this file compiles it for its own instruction set, and the linker cannot mix them up.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>
#include <utility>

#include "../axis.h"
#include "kernels.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace softpool_det {
namespace {

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
#elif defined(__AVX2__)
constexpr int kRegisterBytes = 32;
#else
constexpr int kRegisterBytes = 16;
#endif

#if defined(__GNUC__)
template <typename number, int bytes = kRegisterBytes>
struct Register {
  typedef number type __attribute__((vector_size(bytes)));
  static constexpr int lanes = bytes / sizeof(number);
};
#else
template <typename number, int bytes = 0>
struct Register {
  typedef number type;
  static constexpr int lanes = 1;
};
#endif

template <typename number>
using Lanes = typename Register<number>::type;
template <typename number>
constexpr int kLanes = Register<number>::lanes;

using Floats = Lanes<float>;
using Words = Lanes<uint32_t>;
using Shorts = typename Register<uint16_t, kRegisterBytes / 2>::type;

template <int... lane>
using Sequence = std::integer_sequence<int, lane...>;
template <int count>
using Count = std::make_integer_sequence<int, count>;
// The integer that a shuffle of 4- or 8-byte lanes counts with.
template <int bytes>
struct IndexOf {
  using type = int32_t;
};
template <>
struct IndexOf<8> {
  using type = int64_t;
};

template <typename To, typename From>
SOFT_POOL_HD To bits_of(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

template <typename Value, typename element_t>
SOFT_POOL_HD Value load_bits(const element_t* source) {
  Value value;
  memcpy(&value, source, sizeof(value));
  return value;
}

template <typename real>
SOFT_POOL_HD Lanes<real> broadcast(real number) {
  return Lanes<real>{} + number;
}

#if defined(__GNUC__)
SOFT_POOL_HD Words widen(Shorts shorts) { return __builtin_convertvector(shorts, Words); }
SOFT_POOL_HD Shorts narrow(Words words) { return __builtin_convertvector(words, Shorts); }
#else
SOFT_POOL_HD Words widen(Shorts shorts) { return shorts; }
SOFT_POOL_HD Shorts narrow(Words words) { return static_cast<Shorts>(words); }
#endif

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

// ---- even and odd elements ----

#if defined(__GNUC__)
template <typename real, int... lane>
SOFT_POOL_HD void split(
    Lanes<real> a, Lanes<real> b, Lanes<real>& even, Lanes<real>& odd, Sequence<lane...>) {
#if defined(__clang__)
  even = __builtin_shufflevector(a, b, (2 * lane)...);
  odd = __builtin_shufflevector(a, b, (2 * lane + 1)...);
#else
  using Index = Lanes<typename IndexOf<sizeof(real)>::type>;
  even = __builtin_shuffle(a, b, Index{(2 * lane)...});
  odd = __builtin_shuffle(a, b, Index{(2 * lane + 1)...});
#endif
}

template <typename real, int... lane>
SOFT_POOL_HD void merge(
    Lanes<real> even, Lanes<real> odd, Lanes<real>& a, Lanes<real>& b, Sequence<lane...>) {
  constexpr int count = sizeof...(lane);
#if defined(__clang__)
  a = __builtin_shufflevector(even, odd, (lane / 2 + lane % 2 * count)...);
  b = __builtin_shufflevector(even, odd, (lane / 2 + lane % 2 * count + count / 2)...);
#else
  using Index = Lanes<typename IndexOf<sizeof(real)>::type>;
  a = __builtin_shuffle(even, odd, Index{(lane / 2 + lane % 2 * count)...});
  b = __builtin_shuffle(even, odd, Index{(lane / 2 + lane % 2 * count + count / 2)...});
#endif
}

// The last lane of `before` and all but the last of `here`.
template <typename real, int... lane>
SOFT_POOL_HD Lanes<real> shift_in(Lanes<real> before, Lanes<real> here, Sequence<lane...>) {
  constexpr int count = sizeof...(lane);
#if defined(__clang__)
  return __builtin_shufflevector(before, here, (lane + count - 1)...);
#else
  using Index = Lanes<typename IndexOf<sizeof(real)>::type>;
  return __builtin_shuffle(before, here, Index{(lane + count - 1)...});
#endif
}

// All but the first lane of `here`, and the first of `next`.
template <typename real, int... lane>
SOFT_POOL_HD Lanes<real> shift_out(Lanes<real> here, Lanes<real> next, Sequence<lane...>) {
#if defined(__clang__)
  return __builtin_shufflevector(here, next, (lane + 1)...);
#else
  using Index = Lanes<typename IndexOf<sizeof(real)>::type>;
  return __builtin_shuffle(here, next, Index{(lane + 1)...});
#endif
}
#else
template <typename real, typename Any>
SOFT_POOL_HD real shift_in(real before, real, Any) {
  return before;
}
template <typename real, typename Any>
SOFT_POOL_HD real shift_out(real, real next, Any) {
  return next;
}
template <typename real, typename Any>
SOFT_POOL_HD void split(real a, real b, real& even, real& odd, Any) {
  even = a;
  odd = b;
}
template <typename real, typename Any>
SOFT_POOL_HD void merge(real even, real odd, real& a, real& b, Any) {
  a = even;
  b = odd;
}
#endif

template <typename real>
SOFT_POOL_HD Lanes<real> shift_in(Lanes<real> before, Lanes<real> here) {
  return shift_in<real>(before, here, Count<kLanes<real>>());
}
template <typename real>
SOFT_POOL_HD Lanes<real> shift_out(Lanes<real> here, Lanes<real> next) {
  return shift_out<real>(here, next, Count<kLanes<real>>());
}

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
    split<real>(load(source), load(source + kLanes<real>), even, odd, Count<kLanes<real>>());
  }
  static SOFT_POOL_HD void store_pairs(element_t* target, Lanes<real> even, Lanes<real> odd) {
    Lanes<real> a, b;
    merge<real>(even, odd, a, b, Count<kLanes<real>>());
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

template <typename element_t>
SOFT_POOL_HD void stream_pairs(
    element_t* target, Lanes<typename Elements<element_t>::real> even,
    Lanes<typename Elements<element_t>::real> odd) {
  Elements<element_t>::store_pairs(target, even, odd);
}
SOFT_POOL_HD void stream_pairs(float* target, Floats even, Floats odd) {
  Floats a, b;
  merge<float>(even, odd, a, b, Count<kLanes<float>>());
  stream(target, a);
  stream(target + kLanes<float>, b);
}

// To be called before others read what was streamed.
SOFT_POOL_HD void end_streams() {
#if defined(__AVX512F__) || defined(__AVX2__)
  _mm_sfence();
#endif
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

}  // namespace
}  // namespace softpool_det
