// Values and gradients of the CPU kernels, of random windows and of every type, against the
// definition in float64: for processors that PyTorch is not there for. See tools/neon.sh.
//
//   check [cases [first]]
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <random>

#include "../../csrc/cpu/tiling.h"
#include "../../csrc/formula.h"
#include "../fuzz/reference.h"

namespace softpool_det {
namespace {

using Random = std::minstd_rand;

int64_t between(Random& random, int64_t least, int64_t most) {
  return least + static_cast<int64_t>(random() % static_cast<uint64_t>(most - least + 1));
}

struct Case {
  Pool pool;
  bool exact;
  bool affine;
  bool wants_grad_betas;
  std::vector<double> betas, scale, bias;
};

Axis random_axis(Random& random) {
  Axis axis;
  axis.kernel = between(random, 1, 5);
  axis.stride = between(random, 1, 4);
  axis.dilation = between(random, 1, 3);
  axis.padding = between(random, 0, axis.kernel / 2);
  switch (between(random, 0, 3)) {  // windows with kernels of their own
    case 0:
      axis.kernel = axis.stride = 2;
      axis.padding = 0;
      axis.dilation = 1;
      break;
    case 1:
      axis.kernel = 3;
      axis.stride = 2;
      axis.padding = axis.dilation = 1;
      break;
  }
  return axis;
}

void set_size(Axis& axis, int64_t size, bool ceil_mode) {
  axis.size = std::max(size, axis.extent());
  const int64_t free = axis.size + 2 * axis.padding - axis.extent();
  axis.out_size = (free + (ceil_mode ? axis.stride - 1 : 0)) / axis.stride + 1;
  if ((axis.out_size - 1) * axis.stride >= axis.size + axis.padding) {
    --axis.out_size;
  }
}

Case random_case(Random& random) {
  Case result{};
  Pool& pool = result.pool;
  pool.batch = between(random, 1, 2);
  pool.channels = between(random, 1, 40);
  pool.channels_last = pool.channels > 1 && between(random, 0, 1) == 1;
  pool.dims = between(random, 0, 2) == 0 ? 3 : 2;
  // The same along all dimensions, or by each its own.
  const bool alike = between(random, 0, 3) > 0;
  const Axis common = random_axis(random);
  const bool ceil_mode = between(random, 0, 1) == 1;
  for (int d = pool.dims == 3 ? 0 : 1; d < 3; ++d) {
    pool.axes[d] = alike ? common : random_axis(random);
    set_size(pool.axes[d], between(random, 1, d == 2 ? 70 : d == 1 ? 12 : 5), ceil_mode);
  }
  result.exact = between(random, 0, 1) == 1;
  result.affine = between(random, 0, 2) == 0;
  result.wants_grad_betas = between(random, 0, 1) == 1;
  const double betas[] = {0, 0.25, 1, 1, 2, 4, 16, 1e6, INFINITY};
  const bool alike_betas = between(random, 0, 1) == 1;
  for (int64_t channel = 0; channel < pool.channels; ++channel) {
    const double beta = betas[between(random, 0, alike_betas ? 8 : 5)];
    result.betas.push_back(alike_betas && channel > 0 ? result.betas[0] : beta);
    // Products of inputs and these are exact in float32, so that ReLU begins at the same numbers.
    result.scale.push_back(static_cast<double>(between(random, -8, 8)) / 4);
    result.bias.push_back(static_cast<double>(between(random, -8, 8)) / 4);
  }
  return result;
}

template <typename element_t>
struct Type;
template <>
struct Type<double> {
  static constexpr Element element = kDouble;
  static constexpr const char* name = "float64";
  static constexpr double relative = 1e-12;
  using real = double;
  static double to(double value) { return value; }
  static double from(double value) { return value; }
};
template <>
struct Type<float> {
  static constexpr Element element = kFloat;
  static constexpr const char* name = "float32";
  static constexpr double relative = 1e-5;
  using real = float;
  static float to(double value) { return static_cast<float>(value); }
  static double from(float value) { return value; }
};
template <>
struct Type<BFloat16> {
  static constexpr Element element = kBFloat16;
  static constexpr const char* name = "bfloat16";
  static constexpr double relative = 1e-2;
  using real = float;
  // Of numbers that bfloat16 has.
  static BFloat16 to(double value) {
    const auto number = static_cast<float>(value);
    uint32_t bits;
    memcpy(&bits, &number, sizeof(bits));
    return {static_cast<uint16_t>(bits >> 16)};
  }
  static double from(BFloat16 value) {
    const uint32_t bits = uint32_t(value.bits) << 16;
    float number;
    memcpy(&number, &bits, sizeof(number));
    return number;
  }
};
template <>
struct Type<Float16> {
  static constexpr Element element = kFloat16;
  static constexpr const char* name = "float16";
  static constexpr double relative = 2e-3;
  using real = float;
  // Of normal numbers that float16 has, and 0.
  static Float16 to(double value) {
    int exponent;
    const double fraction = std::frexp(std::abs(value), &exponent);  // from 0.5 to 1
    const int bits = value == 0 ? 0 : (exponent + 14) * 1024 + static_cast<int>(fraction * 2048) - 1024;
    return {static_cast<uint16_t>(bits | (value < 0 ? 0x8000 : 0))};
  }
  static double from(Float16 value) {
    const int exponent = value.bits >> 10 & 31, fraction = value.bits & 1023;
    const double magnitude = exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
        : exponent == 0                     ? std::ldexp(fraction, -24)
                                            : std::ldexp(fraction + 1024, exponent - 25);
    return value.bits & 0x8000 ? -magnitude : magnitude;
  }
};

// Values in (batch, channels, pixels) order as a tensor's elements, and back.
template <typename element_t>
std::vector<element_t> laid_out(
    const Pool& pool, const std::vector<double>& values, int64_t pixels) {
  std::vector<element_t> elements(values.size());
  for (int64_t i = 0; i < static_cast<int64_t>(values.size()); ++i) {
    const int64_t image = i / (pool.channels * pixels), channel = i / pixels % pool.channels;
    const int64_t last = (image * pixels + i % pixels) * pool.channels + channel;
    elements[pool.channels_last ? last : i] = Type<element_t>::to(values[i]);
  }
  return elements;
}
template <typename element_t>
std::vector<double> in_order(
    const Pool& pool, const std::vector<element_t>& elements, int64_t pixels) {
  std::vector<double> values(elements.size());
  for (int64_t i = 0; i < static_cast<int64_t>(values.size()); ++i) {
    const int64_t image = i / (pool.channels * pixels), channel = i / pixels % pool.channels;
    const int64_t last = (image * pixels + i % pixels) * pool.channels + channel;
    values[i] = Type<element_t>::from(elements[pool.channels_last ? last : i]);
  }
  return values;
}

// One operator's run, as in csrc/cpu/soft_pool.cpp, by one thread.
template <typename element_t>
struct Run {
  using real = typename Type<element_t>::real;

  const Case& given;
  const Pool& pool = given.pool;
  std::vector<real> beta_log2e, beta, scale, bias;

  explicit Run(const Case& given) : given(given) {
    constexpr double most = std::numeric_limits<real>::max();
    for (int64_t channel = 0; channel < pool.channels; ++channel) {
      const double number = given.betas[channel];
      beta_log2e.push_back(static_cast<real>(std::min(number * kLog2E, most)));
      beta.push_back(given.exact && number <= most ? static_cast<real>(number) : real(0));
      scale.push_back(static_cast<real>(given.scale[channel]));
      bias.push_back(static_cast<real>(given.bias[channel]));
    }
    for (auto* numbers : {&beta_log2e, &beta, &scale, &bias}) {
      numbers->resize(numbers->size() + kAlignment);
    }
  }

  // `upstream` may be null; `grad_betas`, too.
  void operator()(
      const element_t* input, const element_t* upstream, element_t* result,
      std::vector<double>* grad_betas) const {
    const bool backward = upstream != nullptr;
    const Tiling tiling(pool, backward, kPlainKernels.of[kGeneric][Type<element_t>::element]);
    bool shared = true;
    for (double number : given.betas) {
      shared = shared && number <= 1 << 16;
    }
    for (int64_t index = 0; index < tiling.count(); ++index) {
      const Tiling::Item item = tiling.item(index);
      const int64_t from = item.channel;
      const auto place = [&](int64_t pixels) {
        return pool.channels_last ? item.image * pixels * pool.channels + from
                                  : (item.image * pool.channels + from) * pixels;
      };
      std::vector<real> part(grad_betas == nullptr ? 0 : aligned(pool.channels), real(0));
      const Arrays arrays{
          input + place(pool.inputs()),
          backward ? upstream + place(pool.outputs()) : nullptr,
          result + place(backward ? pool.inputs() : pool.outputs()),
          {beta_log2e.data() + from, beta.data() + from,
           given.affine ? scale.data() + from : nullptr,
           given.affine ? bias.data() + from : nullptr},
          part.empty() ? nullptr : part.data(),
          given.exact || grad_betas != nullptr,
          false};
      const auto numbers = static_cast<size_t>(scratch_numbers(item.tile, backward, item.geometry));
      void* scratch = ::operator new(numbers * sizeof(real) + 64, std::align_val_t(64));
      // NaN, so that nobody computes with what was not written.
      memset(scratch, 0xff, numbers * sizeof(real) + 64);
      const auto& kernels = kPlainKernels.of;
      const bool by_itself = item.geometry == kK2S2 || item.geometry == kPlain;
      if (!(by_itself || shared) ||
          !kernels[item.geometry][Type<element_t>::element](item.tile, arrays, scratch)) {
        std::fill(part.begin(), part.end(), real(0));
        kernels[kPlain][Type<element_t>::element](item.tile, arrays, scratch);
      }
      ::operator delete(scratch, std::align_val_t(64));
      for (int64_t channel = 0; channel < item.tile.channels && !part.empty(); ++channel) {
        (*grad_betas)[from + channel] += part[channel];
      }
    }
  }
};

std::vector<double> random_values(Random& random, int64_t count) {
  std::vector<double> values(count);
  for (double& value : values) {
    value = static_cast<double>(between(random, -32, 32)) / 8;
  }
  return values;
}

fuzz::Problem problem_of(const Case& given) {
  fuzz::Problem problem{
      given.pool.batch * given.pool.channels, {}, given.exact, given.betas,
      given.affine ? given.scale : fuzz::Numbers(), given.affine ? given.bias : fuzz::Numbers()};
  for (int d = 0; d < 3; ++d) {
    const Axis& axis = given.pool.axes[d];
    problem.dimensions[d] = {
        axis.size, axis.out_size, axis.kernel, axis.stride, axis.padding, axis.dilation};
  }
  return problem;
}

// False, and a line, where one number is too far away. `scales` may have one for all.
bool equal(
    const char* what, const std::vector<double>& got, const std::vector<double>& wanted,
    double relative, const std::vector<double>& scales) {
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double scale = scales[scales.size() == 1 ? 0 : i];
    const double most = relative * (std::abs(wanted[i]) + scale);
    if (got[i] != wanted[i] && !(std::abs(got[i] - wanted[i]) <= most)) {
      printf("wrong: %s %zu is %.9g, not %.9g\n", what, i, got[i], wanted[i]);
      return false;
    }
  }
  return true;
}

template <typename element_t>
bool check_type(const Case& given, Random& random) {
  const Pool& pool = given.pool;
  const int64_t planes = pool.batch * pool.channels;
  const std::vector<double> values = random_values(random, planes * pool.inputs());
  const std::vector<double> upstream = random_values(random, planes * pool.outputs());
  const auto input = laid_out<element_t>(pool, values, pool.inputs());
  const auto grad_output = laid_out<element_t>(pool, upstream, pool.outputs());
  std::vector<element_t> output(upstream.size()), grad_input(values.size());
  std::vector<double> grad_betas(pool.channels);
  const Run<element_t> run(given);
  run(input.data(), nullptr, output.data(), nullptr);
  run(input.data(), grad_output.data(), grad_input.data(),
      given.wants_grad_betas ? &grad_betas : nullptr);

  const fuzz::Problem problem = problem_of(given);
  const auto count = static_cast<int64_t>(values.size());
  const auto wanted = fuzz::gradients(problem, upstream.data(), values.data(), count);
  double steepest = 1;
  for (double beta : given.betas) {
    steepest = std::isfinite(beta) ? std::max(steepest, beta) : steepest;
  }
  constexpr double relative = Type<element_t>::relative;
  // grad_betas are computed in float32 for 16-bit types, too.
  const double computed = sizeof(typename Type<element_t>::real) == 8 ? 1e-12 : 1e-5;
  const bool right =
      equal("output", in_order(pool, output, pool.outputs()),
            fuzz::pooled(problem, values.data(), count), relative, {4}) &&
      equal("grad_input", in_order(pool, grad_input, pool.inputs()), wanted.input, relative,
            {32 * (given.exact ? std::min(steepest, 64.) : 1)}) &&
      (!given.wants_grad_betas ||
       equal("grad_betas", grad_betas, wanted.betas, 4 * computed, wanted.betas_scale));
  if (!right) {
    printf("  of %s, exact %d, affine %d, beta %g\n", Type<element_t>::name, given.exact,
           given.affine, given.betas[0]);
  }
  return right;
}

bool check_case(int64_t number) {
  Random random(static_cast<unsigned>(number) * 7919 + 1);
  const Case given = random_case(random);
  const bool right = check_type<double>(given, random) && check_type<float>(given, random) &&
      check_type<BFloat16>(given, random) && check_type<Float16>(given, random);
  if (!right) {
    printf("  case %lld: %lld images, %lld channels, channels_last %d\n",
           static_cast<long long>(number), static_cast<long long>(given.pool.batch),
           static_cast<long long>(given.pool.channels), given.pool.channels_last);
    for (const Axis& axis : given.pool.axes) {
      printf("  size %lld kernel %lld stride %lld padding %lld dilation %lld\n",
             static_cast<long long>(axis.size), static_cast<long long>(axis.kernel),
             static_cast<long long>(axis.stride), static_cast<long long>(axis.padding),
             static_cast<long long>(axis.dilation));
    }
  }
  return right;
}

}  // namespace
}  // namespace softpool_det

int main(int count, char** arguments) {
  const int64_t cases = count > 1 ? atoll(arguments[1]) : 300;
  const int64_t first = count > 2 ? atoll(arguments[2]) : 0;
  int64_t wrong = 0;
  for (int64_t number = first; number < first + cases; ++number) {
    wrong += !softpool_det::check_case(number);
  }
  printf("%lld cases of 4 types, %lld wrong\n", static_cast<long long>(cases),
         static_cast<long long>(wrong));
  return wrong > 0;
}
