// Lanes: as many numbers as a register holds, with the operators of GCC's and Clang's vectors, and
// shuffles and functions of them. Everything is in an unnamed namespace: each unit that includes this file compiles
// it for its own instruction set, and the linker cannot mix them up.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>
#include <utility>

#include "../axis.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

// Of lambdas: SOFT_POOL_HD does the same to functions.
#define SOFT_POOL_INLINE __attribute__((always_inline))
// What is rare stays out of loops, which have too few registers as it is.
#define SOFT_POOL_APART __attribute__((noinline))

namespace softpool_det {
namespace {

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
#elif defined(__AVX2__)
constexpr int kRegisterBytes = 32;
#else
constexpr int kRegisterBytes = 16;
#endif

template <typename number, int bytes = kRegisterBytes>
struct Register {
  typedef number type __attribute__((vector_size(bytes)));
  static constexpr int lanes = bytes / sizeof(number);
};

template <typename number>
using Lanes = typename Register<number>::type;
template <typename number>
constexpr int kLanes = Register<number>::lanes;

using Floats = Lanes<float>;
using Words = Lanes<uint32_t>;
using Shorts = typename Register<uint16_t, kRegisterBytes / 2>::type;

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

// GCC takes five instructions for the one.
SOFT_POOL_HD Words widen(Shorts shorts) {
#if defined(__AVX512F__)
  return bits_of<Words>(_mm512_cvtepu16_epi32(bits_of<__m256i>(shorts)));
#elif defined(__AVX2__)
  return bits_of<Words>(_mm256_cvtepu16_epi32(bits_of<__m128i>(shorts)));
#else
  return __builtin_convertvector(shorts, Words);
#endif
}
SOFT_POOL_HD Shorts narrow(Words words) { return __builtin_convertvector(words, Shorts); }

// The larger and the smaller one; b where either is NaN. In one instruction: the ternary operator
// takes more.
SOFT_POOL_HD Floats larger(Floats a, Floats b) {
#if defined(__AVX512F__)
  return bits_of<Floats>(_mm512_max_ps(bits_of<__m512>(a), bits_of<__m512>(b)));
#elif defined(__AVX2__)
  return bits_of<Floats>(_mm256_max_ps(bits_of<__m256>(a), bits_of<__m256>(b)));
#else
  return a > b ? a : b;
#endif
}
SOFT_POOL_HD Floats smaller(Floats a, Floats b) {
#if defined(__AVX512F__)
  return bits_of<Floats>(_mm512_min_ps(bits_of<__m512>(a), bits_of<__m512>(b)));
#elif defined(__AVX2__)
  return bits_of<Floats>(_mm256_min_ps(bits_of<__m256>(a), bits_of<__m256>(b)));
#else
  return a < b ? a : b;
#endif
}

// ---- shuffles ----

template <int bytes>
using ShuffleIndex = std::conditional_t<bytes == 8, int64_t, int32_t>;

template <typename real, int... index>
SOFT_POOL_HD Lanes<real> shuffle(Lanes<real> a, Lanes<real> b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, index...);
#else
  return __builtin_shuffle(a, b, Lanes<ShuffleIndex<sizeof(real)>>{index...});
#endif
}
template <typename real, typename Index, int... lane>
SOFT_POOL_HD Lanes<real> shuffle(
    Lanes<real> a, Lanes<real> b, Index index, std::integer_sequence<int, lane...>) {
  return shuffle<real, index(lane)...>(a, b);
}
// Lane i is lane index(i) of a and b, one behind the other.
template <typename real, typename Index>
SOFT_POOL_HD Lanes<real> pick(Lanes<real> a, Lanes<real> b, Index index) {
  return shuffle<real>(a, b, index, std::make_integer_sequence<int, kLanes<real>>());
}

template <typename Index, int... lane>
SOFT_POOL_HD Lanes<Index> lane_numbers(std::integer_sequence<int, lane...>) {
  return Lanes<Index>{lane...};
}
// 0, 1, 2, ...
template <typename Index>
SOFT_POOL_HD Lanes<Index> lane_numbers() {
  return lane_numbers<Index>(std::make_integer_sequence<int, kLanes<Index>>());
}

// Elements 0, 2, 4, ... and 1, 3, 5, ... of a and b; and back.
template <typename real>
SOFT_POOL_HD void split(Lanes<real> a, Lanes<real> b, Lanes<real>& even, Lanes<real>& odd) {
  even = pick<real>(a, b, [](int lane) { return 2 * lane; });
  odd = pick<real>(a, b, [](int lane) { return 2 * lane + 1; });
}
template <typename real>
SOFT_POOL_HD void merge(Lanes<real> even, Lanes<real> odd, Lanes<real>& a, Lanes<real>& b) {
  constexpr int count = kLanes<real>;
  a = pick<real>(even, odd, [](int lane) { return lane / 2 + lane % 2 * count; });
  b = pick<real>(even, odd, [](int lane) { return lane / 2 + lane % 2 * count + count / 2; });
}

// The last lane of `before` and all but the last of `here`.
template <typename real>
SOFT_POOL_HD Lanes<real> shift_in(Lanes<real> before, Lanes<real> here) {
  return pick<real>(before, here, [](int lane) { return lane + kLanes<real> - 1; });
}

// ---- exp2() and 1 / x, in each instruction set's cheapest operations ----

// p(f) ~ 2^f, the best of its degree for the relative error with p(0) = 1: 3e-6 for degree 4, 1e-7
// for degree 5. Degree 4 is for 16-bit tensors, whose own rounding is above 4e-4.
template <int degree>
SOFT_POOL_HD Floats power_of_fraction(Floats f, const float* c) {
  Floats p = broadcast(c[degree - 1]);
  for (int i = degree - 2; i >= 0; --i) {
    p = p * f + c[i];
  }
  return p * f + 1.f;
}

// 2^x: 0 from -127 downwards and infinite from 128 upwards, or half as near to 0; NaN for NaN.
#if defined(__AVX512F__)
template <int degree>
SOFT_POOL_HD Floats exp2_of(Floats x) {
  // For f in [0, 1).
  static constexpr float kFour[] = {0.693044841f, 0.241280198f, 0.0522424728f, 0.0134266838f};
  static constexpr float kFive[] = {
      0.693151295f, 0.240164444f, 0.0557999127f, 0.00901703071f, 0.00186713005f};
  const __m512 power = bits_of<__m512>(x);
  const Floats fraction = bits_of<Floats>(_mm512_reduce_ps(power, _MM_FROUND_TO_NEG_INF));
  const Floats p = power_of_fraction<degree>(fraction, degree == 4 ? kFour : kFive);
  return bits_of<Floats>(_mm512_scalef_ps(bits_of<__m512>(p), power));
}
#else
template <int degree>
SOFT_POOL_HD Floats exp2_of(Floats x) {
  // For f in [-1/2, 1/2].
  static constexpr float kFour[] = {0.693124175f, 0.240240991f, 0.0559064262f, 0.00958285294f};
  static constexpr float kFive[] = {
      0.693147004f, 0.240222424f, 0.0555073358f, 0.00967151299f, 0.00132647273f};
  constexpr float kRound = 12582912.f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  // 2^-127 has the bits of 0 below, 2^128 those of infinity.
  x = smaller(broadcast(128.f), larger(broadcast(-127.f), x));  // NaN passes
  const Floats shifted = x + kRound;
  const Floats p = power_of_fraction<degree>(x - (shifted - kRound), degree == 4 ? kFour : kFive);
  return p * bits_of<Floats>((bits_of<Words>(shifted) + 127u) << 23);
}
#endif

// What formula.h computes with, for tensors of element_t.
template <typename element_t>
struct LaneMath {  // float, and 16 bits
  using Number = float;
  using Real = Floats;
  static SOFT_POOL_HD Floats exp2(Floats x) { return exp2_of<sizeof(element_t) == 2 ? 4 : 5>(x); }
  // To an ulp, for x within 2^-126 and 2^126.
  static SOFT_POOL_HD Floats reciprocal(Floats x) {
#if defined(__AVX512F__)
    const Floats guess = bits_of<Floats>(_mm512_rcp14_ps(bits_of<__m512>(x)));
    return guess + guess * (1.f - x * guess);  // Newton's step doubles the 14 bits
#else
    return 1.f / x;
#endif
  }
};

template <>
struct LaneMath<double> {
  using Number = double;
  using Real = Lanes<double>;
  static SOFT_POOL_HD Real exp2(Real x) {
    for (int lane = 0; lane < kLanes<double>; ++lane) {
      x[lane] = ::exp2(x[lane]);
    }
    return x;
  }
  static SOFT_POOL_HD Real reciprocal(Real x) { return 1. / x; }
};

}  // namespace
}  // namespace softpool_det
