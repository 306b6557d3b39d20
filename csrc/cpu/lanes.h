// Lanes: as many numbers as a register holds, with the operators of GCC's and Clang's vectors.
// Everything is in an unnamed namespace: each unit that includes this file compiles it for its own
// instruction set, and the linker cannot mix them up.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../axis.h"

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

SOFT_POOL_HD Words widen(Shorts shorts) { return __builtin_convertvector(shorts, Words); }
SOFT_POOL_HD Shorts narrow(Words words) { return __builtin_convertvector(words, Shorts); }

}  // namespace
}  // namespace softpool_det
