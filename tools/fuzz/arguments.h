// Arguments for the operators from a fuzzer's bytes: mostly such as pass the checks, now and then one
// that must not.
#pragma once

#include <ATen/ATen.h>
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace fuzz {

struct Windows {
  std::vector<int64_t> kernel, stride, padding, dilation;
  bool ceil_mode;
};

// Of a tensor, so that one call takes milliseconds.
constexpr int64_t kElements = 6000;

inline bool one_in(FuzzedDataProvider& bytes, int count) {
  return bytes.ConsumeIntegralInRange<int>(0, count - 1) == count - 1;
}

inline int64_t hostile_number(FuzzedDataProvider& bytes) {
  constexpr int64_t most = std::numeric_limits<int64_t>::max();
  constexpr int64_t numbers[] = {
      -1, 0, -most - 1, most, most - 1, most / 2, most / 4 + 1, int64_t(1) << 31,
      (int64_t(1) << 31) - 1, (int64_t(1) << 31) - 2, (int64_t(1) << 32) + 1, 1 << 30, 1 << 16};
  return one_in(bytes, 4) ? bytes.ConsumeIntegral<int64_t>() : bytes.PickValueInArray(numbers);
}

inline std::vector<int64_t> window_numbers(
    FuzzedDataProvider& bytes, int64_t dims, int64_t least, int64_t most) {
  const int64_t count = one_in(bytes, 64) ? bytes.ConsumeIntegralInRange<int64_t>(0, 5) : dims;
  std::vector<int64_t> numbers;
  for (int64_t i = 0; i < count; ++i) {
    numbers.push_back(
        one_in(bytes, 32) ? hostile_number(bytes)
                          : bytes.ConsumeIntegralInRange<int64_t>(least, most));
  }
  return numbers;
}

inline Windows make_windows(FuzzedDataProvider& bytes, int64_t dims) {
  Windows windows{
      window_numbers(bytes, dims, 1, 5), window_numbers(bytes, dims, 1, 4), {},
      window_numbers(bytes, dims, 1, 3), bytes.ConsumeBool()};
  windows.padding = window_numbers(bytes, dims, 0, 2);
  // Windows that have kernels of their own would be rare.
  const int stock = bytes.ConsumeIntegralInRange<int>(0, 5);
  for (int64_t d = 0; stock < 2 && d < dims; ++d) {
    const bool flat = dims == 3 && d == 0 && bytes.ConsumeBool();
    const int64_t numbers[] = {flat ? 1 : 3 - stock, flat ? 1 : 2, flat ? 0 : 1 - stock, 1};
    int i = 0;
    for (auto* list : {&windows.kernel, &windows.stride, &windows.padding, &windows.dilation}) {
      if (static_cast<int64_t>(list->size()) > d && !one_in(bytes, 16)) {
        (*list)[d] = numbers[i];
      }
      ++i;
    }
  }
  // Huge windows pass with huge padding.
  for (size_t d = 0; d < std::min(windows.kernel.size(), windows.padding.size()); ++d) {
    if (windows.kernel[d] > 5 && !one_in(bytes, 4)) {
      windows.padding[d] = windows.kernel[d] / 2;
    }
  }
  return windows;
}

inline at::ScalarType make_type(FuzzedDataProvider& bytes) {
  constexpr at::ScalarType good[] = {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf};
  constexpr at::ScalarType bad[] = {at::kInt, at::kBool, at::kLong, at::kComplexFloat, at::kByte,
                                    at::kFloat8_e5m2};
  return one_in(bytes, 64) ? bytes.PickValueInArray(bad) : bytes.PickValueInArray(good);
}

inline std::vector<int64_t> make_sizes(FuzzedDataProvider& bytes, int64_t dims) {
  const int64_t count = one_in(bytes, 64) ? bytes.ConsumeIntegralInRange<int64_t>(0, 7) : dims + 2;
  std::vector<int64_t> sizes;
  int64_t room = kElements;
  for (int64_t dim = 0; dim < count; ++dim) {
    const int64_t most = dim == 0 ? 2 : dim == 1 ? 70 : 40;
    const bool empty = one_in(bytes, dim == 0 ? 16 : 128);
    const int64_t size = bytes.ConsumeIntegralInRange<int64_t>(1, std::min(most, room));
    sizes.push_back(empty ? 0 : size);
    room = std::max<int64_t>(1, room / size);
  }
  return sizes;
}

enum class Values { kModerate, kSpecial };

// Contiguous and float64.
inline at::Tensor make_values(FuzzedDataProvider& bytes, at::IntArrayRef sizes, Values kind) {
  at::Tensor values = at::empty(sizes, at::kDouble);
  std::minstd_rand random(bytes.ConsumeIntegral<uint8_t>() + 1);
  const double special[] = {0, -0.0, INFINITY, -INFINITY, NAN, 88, -88, 1e4, -1e4, 3e38, -3e38,
                            1e-40};
  double* numbers = values.mutable_data_ptr<double>();
  for (int64_t i = 0; i < values.numel(); ++i) {
    const bool is_special = kind == Values::kSpecial && random() % 3 == 0;
    numbers[i] = is_special ? special[random() % 12] : double(random() % 65) / 8 - 4;
  }
  return values;
}

// Temperatures: those that results are compared for, or any.
inline double make_beta(FuzzedDataProvider& bytes, Values kind) {
  const double moderate[] = {1, 0, 0.5, 1, 2, 4, 16, INFINITY};
  const double special[] = {-1, NAN, -INFINITY, -0.0, 1e-300, 1e-40, 1e6, 1e30, 3e38, 1e300};
  return kind == Values::kSpecial && one_in(bytes, 4) ? bytes.PickValueInArray(special)
                                                      : bytes.PickValueInArray(moderate);
}

// The values in another layout: dimensions in any order in memory, gaps between elements, an
// offset.
inline at::Tensor laid_out(FuzzedDataProvider& bytes, const at::Tensor& values) {
  switch (bytes.ConsumeIntegralInRange<int>(0, 7)) {
    case 0:
    case 1:
      if (values.dim() == 4) {
        return values.contiguous(at::MemoryFormat::ChannelsLast);
      }
      return values.dim() == 5 ? values.contiguous(at::MemoryFormat::ChannelsLast3d) : values;
    case 2:
      return values.dim() < 2 ? values : values.transpose(0, -1).contiguous().transpose(0, -1);
    case 3: {
      const int64_t offset = bytes.ConsumeIntegralInRange<int64_t>(1, 9);
      return at::cat({at::zeros(offset, values.options()), values.flatten()})
          .narrow(0, offset, values.numel())
          .view(values.sizes());
    }
    case 4:
      return values.dim() < 1 ? values : at::stack({values, values}, -1).select(-1, 1);
    default:
      return values;
  }
}

// Memory that several elements share, or of which a part is gone. Values are not to be compared
// then.
inline at::Tensor made_hostile(FuzzedDataProvider& bytes, at::Tensor tensor) {
  if (bytes.ConsumeBool() && tensor.dim() > 0) {
    const int64_t dim = bytes.ConsumeIntegralInRange<int64_t>(0, tensor.dim() - 1);
    if (tensor.size(dim) > 0) {
      return tensor.narrow(dim, 0, 1).expand(tensor.sizes());
    }
  }
  tensor = tensor.clone();
  const auto size = static_cast<int64_t>(tensor.storage().nbytes());
  tensor.storage().unsafeGetStorageImpl()->set_nbytes(
      bytes.ConsumeIntegralInRange<int64_t>(0, size));
  return tensor;
}

}  // namespace fuzz
