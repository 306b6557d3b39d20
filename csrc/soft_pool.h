// Shapes, checks and window geometry of softpool_det::soft_pool2d, shared by every device.
//
//   input, grad_input    (N, C, H, W)    float64, float32, bfloat16 or float16; N may be 0
//   output, grad_output  (N, C, OH, OW)  of input's type and device
//   kernel_size, stride, padding         (vertical, horizontal), in input elements
//
// Output and grad_input have input's memory format, contiguous or channels_last. OH and OW follow
// the rules of torch.nn.functional.max_pool2d. Arithmetic is in acc_type_t.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/Dispatch.h>
#include <torch/headeronly/core/MemoryFormat.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "soft_pool_math.h"

// Calls the lambda with `scalar_t` standing for TYPE.
#define SOFT_POOL_DISPATCH(TYPE, ...)                                           \
  THO_DISPATCH_SWITCH(                                                          \
      TYPE,                                                                     \
      "soft_pool2d",                                                            \
      THO_DISPATCH_CASE(torch::headeronly::ScalarType::Double, __VA_ARGS__)     \
      THO_DISPATCH_CASE(torch::headeronly::ScalarType::Float, __VA_ARGS__)      \
      THO_DISPATCH_CASE(torch::headeronly::ScalarType::BFloat16, __VA_ARGS__)   \
      THO_DISPATCH_CASE(torch::headeronly::ScalarType::Half, __VA_ARGS__))

namespace softpool_det {

inline std::string to_text(const char* text) { return text; }
inline std::string to_text(int64_t number) { return std::to_string(number); }

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
using IntPair = std::vector<int64_t>;

template <typename scalar_t>
using acc_type_t = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;

// The windows along one spatial dimension.
struct Axis {
  int64_t size;  // of the input
  int64_t kernel;
  int64_t stride;
  int64_t padding;
  int64_t out_size;

  // Window `out` holds the input indices [begin(out), end(out)), never none.
  SOFT_POOL_HD int64_t begin(int64_t out) const {
    const int64_t start = out * stride - padding;
    return start < 0 ? 0 : start;
  }
  SOFT_POOL_HD int64_t end(int64_t out) const {
    const int64_t stop = out * stride - padding + kernel;
    return stop < size ? stop : size;
  }
  // The windows [first_window(index), last_window(index)) hold the input index; possibly none.
  SOFT_POOL_HD int64_t first_window(int64_t index) const {
    const int64_t reach = index + padding - kernel;
    return reach < 0 ? 0 : reach / stride + 1;
  }
  SOFT_POOL_HD int64_t last_window(int64_t index) const {
    const int64_t last = (index + padding) / stride + 1;
    return last < out_size ? last : out_size;
  }
};

struct Pool2d {
  int64_t batch;
  int64_t channels;
  Axis rows;
  Axis columns;
  bool channels_last;

  MemoryFormat memory_format() const {
    return channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous;
  }
};

inline Axis make_axis(
    const char* name, int64_t size, int64_t kernel, int64_t stride, int64_t padding,
    bool ceil_mode) {
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  check(
      kernel > 0 && kernel <= kMax, "soft_pool2d: kernel ", name, " must be positive, got ", kernel);
  check(
      stride > 0 && stride <= kMax, "soft_pool2d: stride ", name, " must be positive, got ", stride);
  check(
      padding >= 0 && padding <= kernel / 2, "soft_pool2d: padding ", name,
      " must be at least 0 and at most half of the kernel (", kernel, "), got ", padding);
  const int64_t free = size + 2 * padding - kernel + (ceil_mode ? stride - 1 : 0);
  int64_t out_size = free < 0 ? 0 : free / stride + 1;
  // The last window has to start inside the input or the padding before it.
  if (ceil_mode && (out_size - 1) * stride >= size + padding) {
    --out_size;
  }
  check(
      size > 0 && out_size > 0, "soft_pool2d: input ", name, " ", size,
      " is too small for a window of ", kernel, " with padding ", padding);
  return {size, kernel, stride, padding, out_size};
}

// As PyTorch's own suggest_memory_format() for four dimensions, which the stable ABI lacks: only
// strides that grow in the order C, W, H, N without ambiguity mean channels_last.
inline bool has_channels_last_strides(const Tensor& tensor) {
  if (tensor.stride(1) == 0) {
    return false;
  }
  int64_t least = 0;
  for (const int64_t dim : {1, 3, 2, 0}) {
    const int64_t size = tensor.size(dim);
    const int64_t stride = tensor.stride(dim);
    if (size == 0 || stride < least || (dim == 0 && least == tensor.stride(1))) {
      return false;
    }
    least = size > 1 ? stride * size : stride;
  }
  return true;
}

inline Pool2d make_pool2d(
    const Tensor& input, const IntPair& kernel_size, const IntPair& stride, const IntPair& padding,
    bool ceil_mode) {
  check(
      input.dim() == 4, "soft_pool2d: input must have 4 dimensions (N, C, H, W), got ",
      input.dim());
  check(input.size(1) > 0, "soft_pool2d: input must have at least one channel");
  check(
      kernel_size.size() == 2 && stride.size() == 2 && padding.size() == 2,
      "soft_pool2d: kernel_size, stride and padding must have two elements each");
  return {
      input.size(0),
      input.size(1),
      make_axis("height", input.size(2), kernel_size[0], stride[0], padding[0], ceil_mode),
      make_axis("width", input.size(3), kernel_size[1], stride[1], padding[1], ceil_mode),
      has_channels_last_strides(input)};
}

inline void check_grad_output(const Tensor& grad_output, const Tensor& input, const Pool2d& pool) {
  check(
      grad_output.dim() == 4 && grad_output.size(0) == pool.batch &&
          grad_output.size(1) == pool.channels && grad_output.size(2) == pool.rows.out_size &&
          grad_output.size(3) == pool.columns.out_size,
      "soft_pool2d_backward: grad_output must have the output's shape (", pool.batch, ", ",
      pool.channels, ", ", pool.rows.out_size, ", ", pool.columns.out_size, ")");
  check(
      grad_output.scalar_type() == input.scalar_type() && grad_output.device() == input.device(),
      "soft_pool2d_backward: grad_output must have input's dtype and device");
}

inline Tensor empty_output(const Tensor& input, const Pool2d& pool) {
  return torch::stable::empty(
      {pool.batch, pool.channels, pool.rows.out_size, pool.columns.out_size}, input.scalar_type(),
      std::nullopt, input.device(), std::nullopt, pool.memory_format());
}

inline Tensor empty_grad_input(const Tensor& input, const Pool2d& pool, ScalarType dtype) {
  return torch::stable::empty(
      {pool.batch, pool.channels, pool.rows.size, pool.columns.size}, dtype, std::nullopt,
      input.device(), std::nullopt, pool.memory_format());
}

}  // namespace softpool_det
