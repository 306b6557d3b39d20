// SoftPool and its gradients from the definition, in float64, for what the fuzzer and the check of
// other processors find to be compared with. Slow, without PyTorch, and without a line in common
// with csrc.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace fuzz {

using Numbers = std::vector<double>;

// Everything is contiguous: (planes, depth, rows, columns), a plane for each image and channel.
struct Problem {
  struct Dimension {
    int64_t size, out, kernel, stride, padding, dilation;
  };
  int64_t planes;
  Dimension dimensions[3];
  bool exact;
  Numbers betas;  // by channel; plane p is of channel p % betas.size()
  // By channel, or empty; with them relu(x * scale + bias) is pooled.
  Numbers scale, bias;

  size_t channel(int64_t plane) const { return static_cast<size_t>(plane) % betas.size(); }
};

struct Gradients {
  Numbers input;
  Numbers betas;
  Numbers betas_scale;  // what the rounding errors of `betas` are relative to
};

// Of one dimension's window: the input's indices that it holds.
inline std::vector<int64_t> taps_of(int64_t window, const Problem::Dimension& dimension) {
  const int64_t start = window * dimension.stride - dimension.padding;
  // Of 2^31 taps in the padding none is looked at.
  int64_t tap = start < 0 ? (-start + dimension.dilation - 1) / dimension.dilation : 0;
  std::vector<int64_t> taps;
  for (; tap < dimension.kernel && start + tap * dimension.dilation < dimension.size; ++tap) {
    taps.push_back(start + tap * dimension.dilation);
  }
  return taps;
}

// `visit(plane, window, taps)` gets the window's index and those of its inputs.
template <typename Visit>
void for_each_window(const Problem& problem, const Visit& visit) {
  std::vector<std::vector<int64_t>> taps[3];
  for (int d = 0; d < 3; ++d) {
    for (int64_t window = 0; window < problem.dimensions[d].out; ++window) {
      taps[d].push_back(taps_of(window, problem.dimensions[d]));
    }
  }
  const int64_t rows_of = problem.dimensions[1].size, columns_of = problem.dimensions[2].size;
  int64_t window = 0;
  for (int64_t plane = 0; plane < problem.planes; ++plane) {
    const int64_t first = plane * problem.dimensions[0].size;
    for (const auto& depths : taps[0]) {
      for (const auto& rows : taps[1]) {
        for (const auto& columns : taps[2]) {
          std::vector<int64_t> indices;
          for (int64_t depth : depths) {
            for (int64_t row : rows) {
              for (int64_t column : columns) {
                indices.push_back(((first + depth) * rows_of + row) * columns_of + column);
              }
            }
          }
          visit(plane, window++, indices);
        }
      }
    }
  }
}

// What is pooled of the input.
inline Numbers activated(const Problem& problem, const double* input, int64_t count) {
  Numbers values(input, input + count);
  for (int64_t i = 0; i < count && !problem.scale.empty(); ++i) {
    const size_t channel = problem.channel(i / (count / problem.planes));
    values[i] = std::max(0., values[i] * problem.scale[channel] + problem.bias[channel]);
  }
  return values;
}

// The window's weights. An infinite temperature leaves the maxima, 0 all alike.
inline Numbers weights_of(
    const Numbers& values, const std::vector<int64_t>& indices, double beta) {
  double maximum = -INFINITY, total = 0;
  for (int64_t index : indices) {
    maximum = std::max(maximum, values[index]);
  }
  Numbers weights;
  for (int64_t index : indices) {
    const double distance = values[index] - maximum;
    weights.push_back(distance == 0 ? 1 : std::exp(beta * distance));
    total += weights.back();
  }
  for (double& weight : weights) {
    weight /= total;
  }
  return weights;
}

inline double mean_of(
    const Numbers& values, const std::vector<int64_t>& indices, const Numbers& weights) {
  double sum = 0;
  for (size_t i = 0; i < indices.size(); ++i) {
    sum += weights[i] * values[indices[i]];
  }
  return sum;
}

// Of `count` finite values.
inline Numbers pooled(const Problem& problem, const double* input, int64_t count) {
  const Numbers values = activated(problem, input, count);
  Numbers output;
  for_each_window(problem, [&](int64_t plane, int64_t, const auto& indices) {
    const Numbers weights = weights_of(values, indices, problem.betas[problem.channel(plane)]);
    output.push_back(indices.empty() ? -INFINITY : mean_of(values, indices, weights));
  });
  return output;
}

inline Gradients gradients(
    const Problem& problem, const double* upstream, const double* input, int64_t count) {
  const Numbers values = activated(problem, input, count);
  const size_t channels = problem.betas.size();
  Gradients result{Numbers(count), Numbers(channels), Numbers(channels)};
  for_each_window(problem, [&](int64_t plane, int64_t window, const auto& indices) {
    const size_t channel = problem.channel(plane);
    const double beta = problem.betas[channel];
    const Numbers weights = weights_of(values, indices, beta);
    const double mean = mean_of(values, indices, weights);
    for (size_t i = 0; i < indices.size(); ++i) {
      const double value = values[indices[i]], distance = value - mean;
      // What differs from the maximum has no weight at infinity.
      const double factor = problem.exact && std::isfinite(beta) ? 1 + beta * distance : 1;
      const double gradient = upstream[window] * weights[i];
      result.input[indices[i]] += gradient * factor;
      result.betas[channel] += gradient * distance * distance;
      result.betas_scale[channel] += std::abs(gradient) * (1 + value * value);
    }
  });
  for (int64_t i = 0; i < count && !problem.scale.empty(); ++i) {
    result.input[i] *= values[i] > 0 ? problem.scale[problem.channel(i / (count / problem.planes))] : 0;
  }
  return result;
}

}  // namespace fuzz
