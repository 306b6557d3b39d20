// A libFuzzer target: the CPU operators by way of PyTorch's dispatcher, as torch.ops calls them.
// Whatever the arguments are, a call throws or is right: the sanitizers watch the memory, and
// results of moderate values are compared with reference.h. See fuzz.sh.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/Parallel.h>

#include <cstdlib>
#include <iostream>
#include <optional>
#include <stdexcept>

#include "arguments.h"
#include "reference.h"

namespace fuzz {
namespace {

struct Refused {};

// Both kinds are a RuntimeError in Python; no other may come.
std::vector<c10::IValue> call(const char* name, std::vector<c10::IValue> stack) {
  const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(name, "");
  c10::InferenceMode guard;  // without gradients of the gradients, which are Python's
  try {
    op.callBoxed(&stack);
  } catch (const c10::Error&) {
    throw Refused();
  } catch (const std::runtime_error&) {
    throw Refused();
  }
  return stack;
}

// `most` is how far each number may be away.
void compare(
    const char* what, const at::Tensor& got, const Numbers& wanted, const at::Tensor& most) {
  const at::Tensor right = at::tensor(wanted, at::kDouble).view_as(most);
  const at::Tensor numbers = got.to(at::kDouble).contiguous();
  if (numbers.numel() == right.numel()) {
    const at::Tensor distance = (numbers.view_as(right) - right).abs();
    if (at::logical_or(numbers.view_as(right) == right, distance <= most).all().item<bool>()) {
      return;
    }
  }
  std::cerr << "wrong: " << what << " of " << got.scalar_type() << ", got\n"
            << numbers << "\nwanted\n"
            << right << '\n';
  std::abort();
}

// What rounding leaves of a number: of 16-bit types the input is exact and the result is rounded
// once.
double relative_error(at::ScalarType type) {
  return type == at::kDouble ? 1e-12
      : type == at::kFloat   ? 1e-5
      : type == at::kHalf    ? 2e-3
                             : 1e-2;
}

void compare(const char* what, const at::Tensor& got, const Numbers& wanted, double scale) {
  const at::Tensor right = at::tensor(wanted, at::kDouble);
  compare(what, got, wanted, relative_error(got.scalar_type()) * (right.abs() + scale));
}

struct Case {
  Windows windows;
  at::Tensor values;  // float64, contiguous; of the input
  at::Tensor input;
  bool exact;
  double beta;
  std::optional<at::Tensor> betas, scale, bias;
  bool comparable;

  void append_to(std::vector<c10::IValue>& stack) const {
    for (const auto* list :
         {&windows.kernel, &windows.stride, &windows.padding, &windows.dilation}) {
      stack.emplace_back(*list);
    }
    stack.emplace_back(windows.ceil_mode);
    stack.emplace_back(exact);
    stack.emplace_back(beta);
    for (const auto* tensor : {&betas, &scale, &bias}) {
      stack.emplace_back(*tensor);
    }
  }

  Problem problem(at::IntArrayRef out_sizes) const {
    Problem result{values.size(0) * values.size(1), {}, exact, Numbers(values.size(1), beta), {}, {}};
    const int64_t dims = values.dim() - 2;
    for (int64_t d = 0; d < 3; ++d) {
      const int64_t from = d - (3 - dims);
      result.dimensions[d] = from < 0
          ? Problem::Dimension{1, 1, 1, 1, 0, 1}
          : Problem::Dimension{values.size(2 + from), out_sizes[2 + from], windows.kernel[from],
                               windows.stride[from], windows.padding[from], windows.dilation[from]};
    }
    const auto read = [](const std::optional<at::Tensor>& tensor, Numbers& numbers) {
      if (tensor.has_value()) {
        const at::Tensor copy = tensor->to(at::kDouble).contiguous();
        numbers.assign(copy.const_data_ptr<double>(), copy.const_data_ptr<double>() + copy.numel());
      }
    };
    read(betas, result.betas);
    read(scale, result.scale);
    read(bias, result.bias);
    return result;
  }
};

// Numbers by channel: of the right count and type, but for one in 32.
at::Tensor by_channel(FuzzedDataProvider& bytes, const Case& given, const at::Tensor& values) {
  const at::ScalarType right = given.input.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::ScalarType wrong = right == at::kDouble ? at::kFloat : at::kDouble;
  return laid_out(bytes, values.to(one_in(bytes, 32) ? wrong : right));
}

int64_t channels_of(FuzzedDataProvider& bytes, const Case& given) {
  return given.values.dim() > 1 && !one_in(bytes, 32) ? given.values.size(1) : 3;
}

void make_settings(FuzzedDataProvider& bytes, Case& given, Values kind) {
  if (one_in(bytes, 3)) {
    // Products with the moderate values are exact in float32, so that ReLU begins at the same.
    for (auto* tensor : {&given.scale, &given.bias}) {
      const int64_t channels = channels_of(bytes, given);
      const at::Tensor values = make_values(bytes, {channels}, Values::kModerate) / 4;
      *tensor = by_channel(bytes, given, values);
    }
    if (one_in(bytes, 32)) {
      given.bias.reset();
    }
  }
  given.exact = bytes.ConsumeBool();
  given.beta = one_in(bytes, 2) ? make_beta(bytes, kind) : 1;
  if (one_in(bytes, 3)) {
    const int64_t channels = channels_of(bytes, given);
    Numbers betas;
    const bool alike = bytes.ConsumeBool();
    for (int64_t channel = 0; channel < channels; ++channel) {
      betas.push_back(alike && channel > 0 ? betas[0] : make_beta(bytes, kind));
    }
    given.betas = by_channel(bytes, given, at::tensor(betas, at::kDouble));
    if (one_in(bytes, 32)) {
      given.betas = made_hostile(bytes, *given.betas);
      given.comparable = false;
    }
  }
}

Case make_case(FuzzedDataProvider& bytes) {
  const int64_t dims = one_in(bytes, 3) ? 3 : 2;
  const Values kind = one_in(bytes, 4) ? Values::kSpecial : Values::kModerate;
  Case result{};
  result.windows = make_windows(bytes, dims);
  result.comparable = kind == Values::kModerate;
  const at::ScalarType type = make_type(bytes);
  result.values = make_values(bytes, make_sizes(bytes, dims), kind);
  result.input = laid_out(bytes, result.values.to(type));
  if (one_in(bytes, 32)) {
    result.input = made_hostile(bytes, result.input);
    result.comparable = false;
  }
  make_settings(bytes, result, kind);
  return result;
}

at::Tensor forward(const Case& given) {
  std::vector<c10::IValue> stack{given.input};
  given.append_to(stack);
  const at::Tensor output = call("softpool_det::soft_pool", stack).at(0).toTensor();
  if (given.comparable) {
    const Numbers wanted = pooled(
        given.problem(output.sizes()), given.values.const_data_ptr<double>(),
        given.values.numel());
    compare("output", output, wanted, 4);
  }
  return output;
}

void compare_gradients(
    const Case& given, const at::Tensor& upstream, const std::vector<c10::IValue>& results) {
  const Problem problem = given.problem(upstream.sizes());
  const Gradients wanted = gradients(
      problem, upstream.const_data_ptr<double>(), given.values.const_data_ptr<double>(),
      given.values.numel());
  double steepest = 1;
  for (double beta : problem.betas) {
    steepest = given.exact && std::isfinite(beta) ? std::max(steepest, beta) : steepest;
  }
  // Sums of a few hundred gradients, of which some cancel out.
  compare("grad_input", results.at(0).toTensor(), wanted.input, 256 * steepest);
  const at::Tensor grad_betas = results.at(1).toTensor();
  if (given.betas.has_value()) {
    const at::Tensor scale = at::tensor(wanted.betas_scale, at::kDouble);
    compare(
        "grad_betas", grad_betas, wanted.betas,
        4 * relative_error(grad_betas.scalar_type()) * scale);
  } else if (grad_betas.numel() != 0) {
    compare("grad_betas", grad_betas, {}, at::zeros(0, at::kDouble));
  }
}

void backward(FuzzedDataProvider& bytes, const Case& given, at::IntArrayRef sizes, bool right) {
  std::vector<int64_t> shape = sizes.vec();
  if (!right && !shape.empty()) {
    auto& size = shape[bytes.ConsumeIntegralInRange<size_t>(0, shape.size() - 1)];
    size = bytes.ConsumeIntegralInRange<int64_t>(0, 3);
  }
  const at::ScalarType type = right ? given.input.scalar_type() : make_type(bytes);
  const at::Tensor values = make_values(bytes, shape, Values::kModerate);
  at::Tensor upstream = laid_out(bytes, values.to(type));
  const bool hostile = one_in(bytes, 32);
  upstream = hostile ? made_hostile(bytes, upstream) : upstream;
  std::vector<c10::IValue> stack{upstream, given.input};
  given.append_to(stack);
  const auto results = call("softpool_det::soft_pool_backward", stack);
  if (given.comparable && !hostile) {
    compare_gradients(given, values, results);
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
