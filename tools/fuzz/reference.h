// SoftPool and its gradient from the definition, in float64, for what the fuzzer finds to be compared
// with. Slow, and without a line in common with csrc.
#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <vector>

namespace fuzz {

struct Windows {
  std::vector<int64_t> kernel, stride, padding, dilation;
  bool ceil_mode;
};

// Of one dimension's window: the input's indices that it holds.
inline std::vector<int64_t> taps_of(
    int64_t window, int64_t size, int64_t kernel, int64_t stride, int64_t padding,
    int64_t dilation) {
  const int64_t start = window * stride - padding;
  // Of 2^31 taps in the padding none is looked at.
  int64_t tap = start < 0 ? (-start + dilation - 1) / dilation : 0;
  std::vector<int64_t> taps;
  for (; tap < kernel && start + tap * dilation < size; ++tap) {
    taps.push_back(start + tap * dilation);
  }
  return taps;
}

// `visit(window, taps)` gets the window's index and those of its inputs, in (N, C, D, H, W)
// tensors that are contiguous.
template <typename Visit>
void for_each_window(
    const at::Tensor& input, at::IntArrayRef out_sizes, const Windows& windows, const Visit& visit) {
  const int64_t dims = static_cast<int64_t>(windows.kernel.size());
  int64_t sizes[3] = {1, 1, 1}, outs[3] = {1, 1, 1};
  std::vector<std::vector<int64_t>> taps[3] = {{{0}}, {{0}}, {{0}}};
  for (int64_t d = 0; d < dims; ++d) {
    const int64_t axis = 3 - dims + d;
    sizes[axis] = input.size(2 + d);
    outs[axis] = out_sizes[2 + d];
    taps[axis].clear();
    for (int64_t window = 0; window < outs[axis]; ++window) {
      taps[axis].push_back(taps_of(
          window, sizes[axis], windows.kernel[d], windows.stride[d], windows.padding[d],
          windows.dilation[d]));
    }
  }
  int64_t window = 0;
  for (int64_t plane = 0; plane < input.size(0) * input.size(1); ++plane) {
    for (const auto& depths : taps[0]) {
      for (const auto& rows : taps[1]) {
        for (const auto& columns : taps[2]) {
          std::vector<int64_t> indices;
          for (int64_t depth : depths) {
            for (int64_t row : rows) {
              for (int64_t column : columns) {
                indices.push_back(
                    ((plane * sizes[0] + depth) * sizes[1] + row) * sizes[2] + column);
              }
            }
          }
          visit(window++, indices);
        }
      }
    }
  }
}

inline std::vector<double> weights_of(const double* input, const std::vector<int64_t>& indices) {
  double maximum = -INFINITY, total = 0;
  for (int64_t index : indices) {
    maximum = std::max(maximum, input[index]);
  }
  std::vector<double> weights;
  for (int64_t index : indices) {
    weights.push_back(std::exp(input[index] - maximum));
    total += weights.back();
  }
  for (double& weight : weights) {
    weight /= total;
  }
  return weights;
}

// Of finite values. `input` is contiguous and float64.
inline at::Tensor pooled(
    const at::Tensor& input, at::IntArrayRef out_sizes, const Windows& windows) {
  at::Tensor output = at::empty(out_sizes, input.options());
  const double* x = input.const_data_ptr<double>();
  double* y = output.mutable_data_ptr<double>();
  for_each_window(input, out_sizes, windows, [&](int64_t window, const auto& indices) {
    const std::vector<double> weights = weights_of(x, indices);
    double sum = indices.empty() ? -INFINITY : 0;
    for (size_t i = 0; i < indices.size(); ++i) {
      sum += weights[i] * x[indices[i]];
    }
    y[window] = sum;
  });
  return output;
}

inline at::Tensor gradient(
    const at::Tensor& upstream, const at::Tensor& input, const Windows& windows, bool exact) {
  at::Tensor result = at::zeros(input.sizes(), input.options());
  const double* x = input.const_data_ptr<double>();
  const double* g = upstream.const_data_ptr<double>();
  double* r = result.mutable_data_ptr<double>();
  for_each_window(input, upstream.sizes(), windows, [&](int64_t window, const auto& indices) {
    const std::vector<double> weights = weights_of(x, indices);
    double mean = 0;
    for (size_t i = 0; i < indices.size(); ++i) {
      mean += weights[i] * x[indices[i]];
    }
    for (size_t i = 0; i < indices.size(); ++i) {
      const double factor = exact ? 1 + x[indices[i]] - mean : 1;
      r[indices[i]] += g[window] * weights[i] * factor;
    }
  });
  return result;
}

}  // namespace fuzz
