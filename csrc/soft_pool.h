// What every device shares: shapes, checks, window geometry, and the operators but for their kernels.
//
//   input, grad_input     (N, C, H, W) or (N, C, D, H, W); N may be 0
//   output, grad_output   (N, C, [OD,] OH, OW), of input's type and device
//   kernel_size, stride, padding, dilation    one number for each of [D,] H, W, in input elements
//   betas, scale, bias    (C), float32, or float64 with a float64 input
//
// Types are float64, float32, bfloat16 and float16; arithmetic is in acc_type_t. Output and
// grad_input have input's memory format, contiguous or channels_last(_3d). Output sizes follow the
// rules of torch.nn.functional.max_pool{2,3}d.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/Dispatch.h>
#include <torch/headeronly/core/MemoryFormat.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "axis.h"

// Calls the lambda with `scalar_t` standing for TYPE.
#define SOFT_POOL_DISPATCH(TYPE, ...)                                           \
  THO_DISPATCH_SWITCH(                                                          \
      TYPE,                                                                     \
      "soft_pool",                                                              \
      THO_DISPATCH_CASE(torch::headeronly::ScalarType::Double, __VA_ARGS__)     \
      THO_DISPATCH_CASE(torch::headeronly::ScalarType::Float, __VA_ARGS__)      \
      THO_DISPATCH_CASE(torch::headeronly::ScalarType::BFloat16, __VA_ARGS__)   \
      THO_DISPATCH_CASE(torch::headeronly::ScalarType::Half, __VA_ARGS__))

namespace softpool_det {

inline std::string to_text(std::string text) { return text; }
inline std::string to_text(int64_t number) { return std::to_string(number); }
inline std::string to_text(double number) { return std::to_string(number); }

// Throws the parts as one message, which PyTorch hands on as a RuntimeError. STD_TORCH_CHECK prints
// through a stream, whose locale is another one where a toolchain links libstdc++ statically into
// each library: it crashed there.
template <typename... Parts>
void check(bool condition, const Parts&... parts) {
  if (!condition) {
    throw std::runtime_error((to_text(parts) + ...));
  }
}

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Ints = std::vector<int64_t>;

inline MemoryFormat memory_format(const Pool& pool) {
  if (!pool.channels_last) {
    return MemoryFormat::Contiguous;
  }
  return pool.dims == 3 ? MemoryFormat::ChannelsLast3d : MemoryFormat::ChannelsLast;
}

// Of a tensor with `size` of every axis: &Axis::size or &Axis::out_size.
inline Ints shape(const Pool& pool, int64_t Axis::*size) {
  Ints result{pool.batch, pool.channels};
  for (int64_t d = 3 - pool.dims; d < 3; ++d) {
    result.push_back(pool.axes[d].*size);
  }
  return result;
}

// Of a dimension, and of all of them multiplied: elements of tensors, and their bytes.
constexpr int64_t kLargest = std::numeric_limits<int64_t>::max() / 16;

inline Axis make_axis(
    const char* name, int64_t size, int64_t kernel, int64_t stride, int64_t padding,
    int64_t dilation, bool ceil_mode) {
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  check(
      kernel > 0 && kernel <= kMax, "soft_pool: kernel_size of the ", name,
      " must be positive, got ", kernel);
  check(
      stride > 0 && stride <= kMax, "soft_pool: stride of the ", name, " must be positive, got ",
      stride);
  check(
      dilation > 0 && dilation <= kMax, "soft_pool: dilation of the ", name,
      " must be positive, got ", dilation);
  // With kernel and dilation below 2^31, no sum or product of a few of them overflows.
  check(
      size <= kLargest, "soft_pool: input ", name, " ", size, " is larger than ", kLargest);
  Axis axis{size, kernel, stride, padding, dilation, 0};
  check(
      padding >= 0 && padding <= kernel / 2, "soft_pool: padding of the ", name,
      " must be at least 0 and at most half of kernel_size (", kernel, "), got ", padding);
  const int64_t free = size + 2 * padding - axis.extent() + (ceil_mode ? stride - 1 : 0);
  axis.out_size = free < 0 ? 0 : free / stride + 1;
  // The last window has to start inside the input or the padding before it.
  if (ceil_mode && (axis.out_size - 1) * stride >= size + padding) {
    --axis.out_size;
  }
  check(
      size > 0 && axis.out_size > 0, "soft_pool: input ", name, " ", size,
      " is too small for a window of ", axis.extent(), " with padding ", padding);
  return axis;
}

// As PyTorch's own suggest_memory_format(), which the stable ABI lacks: only strides that grow from
// the channels over the spatial dimensions to the batch without ambiguity mean channels_last.
inline bool has_channels_last_strides(const Tensor& tensor) {
  // Without elements, strides may be of any size, and mean nothing.
  if (tensor.numel() == 0 || tensor.stride(1) == 0) {
    return false;
  }
  int64_t least = 0;
  for (int64_t i = 0; i < tensor.dim(); ++i) {
    const int64_t dim = i == 0 ? 1 : i == tensor.dim() - 1 ? 0 : tensor.dim() - i;
    const int64_t size = tensor.size(dim);
    const int64_t stride = tensor.stride(dim);
    if (size == 0 || stride < least || (dim == 0 && least == tensor.stride(1))) {
      return false;
    }
    least = size > 1 ? stride * size : stride;
  }
  return true;
}

// Refuses tensors that reach beyond their storage: it can be resized under them.
inline void check_storage(const char* name, const Tensor& tensor) {
  if (tensor.numel() == 0) {
    return;
  }
  int64_t offset = 0, bytes = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_offset(tensor.get(), &offset));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_size(tensor.get(), &bytes));
  int64_t last = offset;
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) {
    last += (tensor.size(dim) - 1) * tensor.stride(dim);
  }
  const int64_t needed = (last + 1) * static_cast<int64_t>(tensor.element_size());
  check(
      needed <= bytes, "soft_pool: ", name, " needs ", needed, " bytes of memory, its storage has ",
      bytes);
}

inline void check_dtype(const Tensor& input) {
  const ScalarType type = input.scalar_type();
  check(
      type == ScalarType::Double || type == ScalarType::Float || type == ScalarType::BFloat16 ||
          type == ScalarType::Half,
      "soft_pool: input must be float64, float32, bfloat16 or float16");
}

inline void check_count(const Ints& sizes) {
  int64_t count = 1;
  for (int64_t size : sizes) {
    check(
        size <= kLargest / count, "soft_pool: input is too large: input and output may have ",
        kLargest, " elements at most");
    count *= std::max<int64_t>(1, size);
  }
}

inline Pool make_pool(
    const Tensor& input, const Ints& kernel_size, const Ints& stride, const Ints& padding,
    const Ints& dilation, bool ceil_mode) {
  const int64_t dims = static_cast<int64_t>(kernel_size.size());
  check(
      dims == 2 || dims == 3, "soft_pool: kernel_size must have two or three elements, got ", dims);
  check(
      stride.size() == kernel_size.size() && padding.size() == kernel_size.size() &&
          dilation.size() == kernel_size.size(),
      "soft_pool: stride, padding and dilation must have as many elements as kernel_size, ", dims);
  check(
      input.dim() == dims + 2, "soft_pool: input must have the dimensions of batch and channels "
      "and ", dims, " more, got ", input.dim());
  check(input.size(1) > 0, "soft_pool: input must have at least one channel");
  check_dtype(input);
  check_storage("input", input);
  Pool pool{input.size(0), input.size(1), {}, dims, has_channels_last_strides(input)};
  const char* names[] = {"depth", "height", "width"};
  for (int64_t d = 0; d < dims; ++d) {
    const int64_t axis = 3 - dims + d;
    pool.axes[axis] = make_axis(
        names[axis], input.size(2 + d), kernel_size[d], stride[d], padding[d], dilation[d],
        ceil_mode);
  }
  check_count(shape(pool, &Axis::size));
  check_count(shape(pool, &Axis::out_size));
  return pool;
}

inline void check_grad_output(const Tensor& grad_output, const Tensor& input, const Pool& pool) {
  const Ints wanted = shape(pool, &Axis::out_size);
  bool same = grad_output.dim() == static_cast<int64_t>(wanted.size());
  std::string text;
  for (size_t dim = 0; dim < wanted.size(); ++dim) {
    same = same && grad_output.size(static_cast<int64_t>(dim)) == wanted[dim];
    text += (dim == 0 ? "" : ", ") + std::to_string(wanted[dim]);
  }
  check(same, "soft_pool_backward: grad_output must have the output's shape (", text, ")");
  check(
      grad_output.scalar_type() == input.scalar_type() && grad_output.device() == input.device(),
      "soft_pool_backward: grad_output must have input's dtype and device");
  check_storage("grad_output", grad_output);
}

// What an operator takes beside tensors' and windows' shapes: see schemas.h.
struct __attribute__((visibility("hidden"))) Settings {
  bool exact;
  double beta;
  std::optional<Tensor> betas;
  std::optional<Tensor> scale;
  std::optional<Tensor> bias;
};

inline void check_settings(const Settings& settings, const Tensor& input) {
  check(
      settings.beta >= 0, "soft_pool: beta must be at least 0, got ", settings.beta);
  check(
      settings.scale.has_value() == settings.bias.has_value(),
      "soft_pool: scale and bias must be given both, or neither");
  const bool is_double = input.scalar_type() == ScalarType::Double;
  const char* names[] = {"betas", "scale", "bias"};
  const std::optional<Tensor>* tensors[] = {&settings.betas, &settings.scale, &settings.bias};
  for (int i = 0; i < 3; ++i) {
    if (!tensors[i]->has_value()) {
      continue;
    }
    const Tensor& tensor = **tensors[i];
    check(
        tensor.dim() == 1 && tensor.size(0) == input.size(1), "soft_pool: ", names[i],
        " must have one element for each of the ", input.size(1), " channels");
    check(
        tensor.scalar_type() == (is_double ? ScalarType::Double : ScalarType::Float) &&
            tensor.device() == input.device(),
        "soft_pool: ", names[i],
        " must be float32 (float64 with a float64 input) and on input's device");
    check_storage(names[i], tensor);
  }
}

// (C) with betas, else (0); all 0 until a kernel writes it.
inline Tensor empty_grad_betas(const Tensor& input, const Settings& settings) {
  const bool is_double = input.scalar_type() == ScalarType::Double;
  return torch::stable::new_zeros(
      input, {settings.betas.has_value() ? input.size(1) : 0},
      is_double ? ScalarType::Double : ScalarType::Float);
}

// One call of an operator, as kernels take it: tensors in the pool's memory format and not empty,
// numbers by channel contiguous. `result` is new.
struct __attribute__((visibility("hidden"))) Call {
  Pool pool;
  Settings settings;
  bool backward;
  Tensor input, output, result;  // backward: output is grad_output, result grad_input
};

// The operators on a device. `Device` has
//
//   Device(const Tensor&)    whose device it takes
//   run(Call)                fills `result`; returns grad_betas, without a meaning in forward
template <typename Device>
struct Operators {
  static std::tuple<Tensor, Tensor> run(
      const Pool& pool, Settings settings, const Tensor& input, const Tensor* grad_output) {
    check_settings(settings, input);
    if (grad_output != nullptr) {
      check_grad_output(*grad_output, input, pool);
    }
    const Device device(input);
    const bool backward = grad_output != nullptr;
    const MemoryFormat format = memory_format(pool);
    Tensor result = torch::stable::empty(
        shape(pool, backward ? &Axis::size : &Axis::out_size), input.scalar_type(), std::nullopt,
        input.device(), std::nullopt, format);
    if (result.numel() == 0) {
      return {result, empty_grad_betas(input, settings)};
    }
    for (auto* tensor : {&settings.betas, &settings.scale, &settings.bias}) {
      if (tensor->has_value()) {
        *tensor = torch::stable::contiguous(**tensor);
      }
    }
    const Tensor output = backward ? torch::stable::contiguous(*grad_output, format) : result;
    return {
        result, device.run({pool, settings, backward, torch::stable::contiguous(input, format),
                            output, result})};
  }

  static Tensor soft_pool(
      const Tensor& input, const Ints& kernel_size, const Ints& stride, const Ints& padding,
      const Ints& dilation, bool ceil_mode, bool exact, double beta,
      const std::optional<Tensor>& betas, const std::optional<Tensor>& scale,
      const std::optional<Tensor>& bias) {
    const Pool pool = make_pool(input, kernel_size, stride, padding, dilation, ceil_mode);
    return std::get<0>(run(pool, {exact, beta, betas, scale, bias}, input, nullptr));
  }
  static std::tuple<Tensor, Tensor> soft_pool_backward(
      const Tensor& grad_output, const Tensor& input, const Ints& kernel_size, const Ints& stride,
      const Ints& padding, const Ints& dilation, bool ceil_mode, bool exact, double beta,
      const std::optional<Tensor>& betas, const std::optional<Tensor>& scale,
      const std::optional<Tensor>& bias) {
    const Pool pool = make_pool(input, kernel_size, stride, padding, dilation, ceil_mode);
    return run(pool, {exact, beta, betas, scale, bias}, input, &grad_output);
  }
};

}  // namespace softpool_det
