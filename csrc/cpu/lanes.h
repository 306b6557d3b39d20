// SoftPool over many windows side by side: lane l of every tap belongs to window l.
//
// A tap is one position inside the window. Its lanes are consecutive in memory (output columns for
// contiguous tensors, channels for channels_last), so each inner loop below is a plain loop over
// arrays that the compiler vectorises.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../soft_pool_math.h"

namespace softpool_det {

// Lanes handled at a time: few enough to stay in the first-level cache.
constexpr int64_t kLanes = 128;

template <typename acc_t>
struct WindowStatistics {
  acc_t maximum[kLanes];
  acc_t total[kLanes];
  acc_t shift[kLanes];
};

// Statistics of `lanes` <= kLanes windows from lane `first` on. `keep(tap, lane, exponential)` sees
// every exp(d_i).
template <typename scalar_t, typename acc_t, typename Keep>
void window_statistics(
    const std::vector<const scalar_t*>& taps, int64_t first, int64_t lanes,
    WindowStatistics<acc_t>& statistics, Keep keep) {
  acc_t* __restrict maximum = statistics.maximum;
  acc_t* __restrict total = statistics.total;
  acc_t* __restrict shift = statistics.shift;
  std::fill_n(maximum, lanes, kLowest<acc_t>);
  std::fill_n(total, lanes, acc_t(0));
  std::fill_n(shift, lanes, acc_t(0));
  for (const scalar_t* tap : taps) {
    const scalar_t* __restrict values = tap + first;
    for (int64_t l = 0; l < lanes; ++l) {
      const acc_t value = static_cast<acc_t>(values[l]);
      maximum[l] = value > maximum[l] ? value : maximum[l];
    }
  }
  for (size_t t = 0; t < taps.size(); ++t) {
    const scalar_t* __restrict values = taps[t] + first;
    for (int64_t l = 0; l < lanes; ++l) {
      const acc_t distance = distance_to_maximum(static_cast<acc_t>(values[l]), maximum[l]);
      const acc_t exponential = exp_of_distance(distance);
      total[l] += exponential;
      shift[l] += exponential * distance;
      keep(t, l, exponential);
    }
  }
  for (int64_t l = 0; l < lanes; ++l) {
    shift[l] *= inverse_total(total[l]);
  }
}

// output[l] = SoftPool of lane l, for `length` lanes.
template <typename acc_t, typename scalar_t, typename out_t>
void pool_lanes(const std::vector<const scalar_t*>& taps, int64_t length, out_t* output) {
  WindowStatistics<acc_t> s;
  for (int64_t first = 0; first < length; first += kLanes) {
    const int64_t lanes = std::min(kLanes, length - first);
    window_statistics(taps, first, lanes, s, [](size_t, int64_t, acc_t) {});
    out_t* __restrict out = output + first;
    for (int64_t l = 0; l < lanes; ++l) {
      out[l] = static_cast<out_t>(pooled_value(s.maximum[l], s.total[l], s.shift[l]));
    }
  }
}

// gradients[t][l] += the gradient of tap t, lane l; a null pointer leaves that tap out.
// `weights` is scratch of taps.size() * kLanes.
template <bool exact, typename acc_t, typename scalar_t, typename out_t>
void pool_lanes_backward(
    const std::vector<const scalar_t*>& taps, const std::vector<acc_t*>& gradients, int64_t length,
    const out_t* grad_output, std::vector<acc_t>& weights) {
  WindowStatistics<acc_t> s;
  for (int64_t first = 0; first < length; first += kLanes) {
    const int64_t lanes = std::min(kLanes, length - first);
    acc_t* __restrict kept = weights.data();
    window_statistics(taps, first, lanes, s, [kept](size_t t, int64_t l, acc_t exponential) {
      kept[t * kLanes + l] = exponential;
    });
    for (int64_t l = 0; l < lanes; ++l) {
      s.total[l] = inverse_total(s.total[l]);
    }
    for (size_t t = 0; t < taps.size(); ++t) {
      if (gradients[t] == nullptr) {
        continue;
      }
      const scalar_t* __restrict values = taps[t] + first;
      acc_t* __restrict gradient = gradients[t] + first;
      const acc_t* __restrict exponentials = kept + t * kLanes;
      const out_t* __restrict upstream = grad_output + first;
      for (int64_t l = 0; l < lanes; ++l) {
        const acc_t distance = distance_to_maximum(static_cast<acc_t>(values[l]), s.maximum[l]);
        const acc_t weight = exponentials[l] * s.total[l];
        gradient[l] +=
            static_cast<acc_t>(upstream[l]) * gradient_factor<exact>(weight, distance, s.shift[l]);
      }
    }
  }
}

}  // namespace softpool_det
