// A libFuzzer target: the CPU operators by way of PyTorch's dispatcher, as torch.ops calls them.
// Whatever the arguments are, a call throws or is right: the sanitizers watch the memory, and
// results of moderate values are compared with reference.h. See fuzz.sh.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/Parallel.h>

#include <cstdlib>
#include <iostream>
#include <stdexcept>

#include "arguments.h"

namespace fuzz {
namespace {

struct Refused {};

// Both kinds are a RuntimeError in Python; no other may come.
at::Tensor call(const char* name, std::vector<c10::IValue> stack) {
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
  c10::InferenceMode guard;  // without gradients of the gradients, which are Python's
  try {
    op.callBoxed(&stack);
  } catch (const c10::Error&) {
    throw Refused();
  } catch (const std::runtime_error&) {
    throw Refused();
  }
  return stack.at(0).toTensor();
}

void append(std::vector<c10::IValue>& stack, const Windows& windows) {
  for (const auto* list :
       {&windows.kernel, &windows.stride, &windows.padding, &windows.dilation}) {
    stack.emplace_back(*list);
  }
  stack.emplace_back(windows.ceil_mode);
}

[[noreturn]] void fail(const char* what, const at::Tensor& got, const at::Tensor& wanted) {
  std::cerr << "wrong: " << what << " of " << got.scalar_type() << ", got " << got.sizes() << '\n'
            << got << "\nwanted " << wanted.sizes() << '\n'
            << wanted << '\n';
  std::abort();
}

// Of 16-bit types the input is exact and the result is rounded once.
void compare(const char* what, const at::Tensor& got, const at::Tensor& wanted, double scale) {
  const double relative = got.scalar_type() == at::kDouble ? 1e-12
      : got.scalar_type() == at::kFloat                    ? 1e-5
      : got.scalar_type() == at::kHalf                     ? 2e-3
                                                           : 1e-2;
  if (got.sizes() != wanted.sizes() ||
      !at::allclose(got.to(at::kDouble), wanted, relative, relative * scale)) {
    fail(what, got, wanted);
  }
}

struct Case {
  Windows windows;
  at::Tensor values;  // float64, contiguous; of the input after affine and ReLU
  std::vector<c10::IValue> operands;
  bool affine;
  bool comparable;
};

Case make_case(FuzzedDataProvider& bytes) {
  const int64_t dims = one_in(bytes, 3) ? 3 : 2;
  const Values kind = one_in(bytes, 4) ? Values::kSpecial : Values::kModerate;
  Case result{make_windows(bytes, dims), {}, {}, one_in(bytes, 3), kind == Values::kModerate};
  const at::ScalarType type = make_type(bytes);
  result.values = make_values(bytes, make_sizes(bytes, dims), kind);
  at::Tensor input = laid_out(bytes, result.values.to(type));
  if (one_in(bytes, 32)) {
    input = made_hostile(bytes, input);
    result.comparable = false;
  }
  result.operands = {input};
  if (result.affine) {
    const int64_t channels = result.values.dim() > 1 && !one_in(bytes, 32) ? input.size(1) : 3;
    const auto parameters = type == at::kDouble != one_in(bytes, 32) ? at::kDouble : at::kFloat;
    for (int i = 0; i < 2; ++i) {
      const at::Tensor values = make_values(bytes, {channels}, Values::kModerate) / 4;
      result.operands.push_back(laid_out(bytes, values.to(parameters)));
    }
    // Where ReLU begins, rounding decides on the gradient.
    result.comparable = false;
  }
  return result;
}

at::Tensor forward(const Case& given) {
  auto stack = given.operands;
  append(stack, given.windows);
  const at::Tensor output = call(
      given.affine ? "softpool_det::affine_relu_soft_pool" : "softpool_det::soft_pool", stack);
  if (given.comparable) {
    compare("output", output, pooled(given.values, output.sizes(), given.windows), 4);
  }
  return output;
}

void backward(FuzzedDataProvider& bytes, const Case& given, at::IntArrayRef sizes, bool right) {
  std::vector<int64_t> shape = sizes.vec();
  if (!right && !shape.empty()) {
    auto& size = shape[bytes.ConsumeIntegralInRange<size_t>(0, shape.size() - 1)];
    size = bytes.ConsumeIntegralInRange<int64_t>(0, 3);
  }
  const at::ScalarType type =
      right ? given.operands[0].toTensor().scalar_type() : make_type(bytes);
  const at::Tensor values = make_values(bytes, shape, Values::kModerate);
  at::Tensor upstream = laid_out(bytes, values.to(type));
  const bool hostile = one_in(bytes, 32);
  upstream = hostile ? made_hostile(bytes, upstream) : upstream;
  const bool exact = bytes.ConsumeBool();
  std::vector<c10::IValue> stack{upstream};
  stack.insert(stack.end(), given.operands.begin(), given.operands.end());
  append(stack, given.windows);
  stack.emplace_back(exact);
  const at::Tensor result = call(
      given.affine ? "softpool_det::affine_relu_soft_pool_backward"
                   : "softpool_det::soft_pool_backward",
      stack);
  if (given.comparable && !hostile) {
    // Sums of a few hundred gradients, of which some cancel out.
    compare("gradient", result, gradient(values, given.values, given.windows, exact), 256);
  }
}

}  // namespace
}  // namespace fuzz

// csrc/softpool_det.cpp is a Python module as well, which nobody imports here.
extern "C" void* PyModule_Create2(void*, int) {
  std::abort();
}

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  at::set_num_threads(1);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider bytes(data, size);
  try {
    const fuzz::Case given = fuzz::make_case(bytes);
    at::Tensor output;
    try {
      output = fuzz::forward(given);
    } catch (const fuzz::Refused&) {
      // The gradient has to refuse the same.
      fuzz::backward(bytes, given, given.values.sizes(), false);
      return 0;
    }
    fuzz::backward(bytes, given, output.sizes(), !fuzz::one_in(bytes, 16));
  } catch (const fuzz::Refused&) {
  }
  return 0;
}
