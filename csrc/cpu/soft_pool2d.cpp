// The CPU kernels. A result never depends on the number of threads: every output, and every element
// of grad_input with all its summands, is computed by one thread in a fixed order.
#include "../soft_pool.h"
#include "lanes.h"

namespace softpool_det {
namespace {

// Inputs that a thread should at least have to look at before a second one is worth waking.
constexpr int64_t kGrain = 32768;

int64_t grain_size(int64_t inputs_per_item) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, inputs_per_item));
}

// An input row taken apart into `count` phases, one for each remainder of the padded column modulo
// the stride, so that the lanes of every tap are consecutive: tap j of window o is at offset(j) + o.
struct Phases {
  explicit Phases(const Axis& columns)
      : axis(columns),
        count(std::min(columns.stride, columns.kernel)),
        length(columns.out_size + (columns.kernel - 1) / columns.stride) {}

  int64_t size() const {
    return count * length;
  }
  int64_t offset(int64_t tap) const {
    return tap % axis.stride * length + tap / axis.stride;
  }
  // Column `position * stride + shift` of the input is at `position` of its phase.
  int64_t shift(int64_t phase) const {
    return phase - axis.padding;
  }
  // The positions of a phase that lie inside the input are [first, last).
  int64_t first(int64_t phase) const {
    return std::min(length, positions_before(-shift(phase)));
  }
  int64_t last(int64_t phase) const {
    return std::min(length, positions_before(axis.size - shift(phase)));
  }
  int64_t positions_before(int64_t column) const {
    return column <= 0 ? 0 : (column + axis.stride - 1) / axis.stride;
  }

  Axis axis;
  int64_t count;
  int64_t length;
};

// Calls `body` with the stride as a compile-time constant where that lets the compiler vectorise.
template <typename Body>
void with_constant_stride(int64_t stride, const Body& body) {
  if (stride == 1) {
    body(std::integral_constant<int64_t, 1>());
  } else if (stride == 2) {
    body(std::integral_constant<int64_t, 2>());
  } else {
    body(stride);
  }
}

template <typename scalar_t, typename acc_t>
void load_row(const Phases& phases, const scalar_t* row, acc_t* destination) {
  with_constant_stride(phases.axis.stride, [&](auto stride) {
    for (int64_t p = 0; p < phases.count; ++p) {
      acc_t* __restrict phase = destination + p * phases.length;
      const int64_t first = phases.first(p);
      const int64_t last = phases.last(p);
      const int64_t shift = phases.shift(p);
      const scalar_t* __restrict source = row;
      std::fill(phase, phase + first, -std::numeric_limits<acc_t>::infinity());
      for (int64_t q = first; q < last; ++q) {
        phase[q] = static_cast<acc_t>(source[q * stride + shift]);
      }
      std::fill(phase + last, phase + phases.length, -std::numeric_limits<acc_t>::infinity());
    }
  });
}

template <typename acc_t>
void add_row(const Phases& phases, const acc_t* source, acc_t* row) {
  with_constant_stride(phases.axis.stride, [&](auto stride) {
    for (int64_t p = 0; p < phases.count; ++p) {
      const acc_t* __restrict phase = source + p * phases.length;
      const int64_t last = phases.last(p);
      const int64_t shift = phases.shift(p);
      acc_t* __restrict destination = row;
      for (int64_t q = phases.first(p); q < last; ++q) {
        destination[q * stride + shift] += phase[q];
      }
    }
  });
}

// Loads the input rows of window row `out_row` into `buffer` and points `taps` at their lanes.
template <typename scalar_t, typename acc_t>
void load_window_row(
    const Pool2d& pool, const Phases& phases, const scalar_t* plane, int64_t out_row,
    std::vector<acc_t>& buffer, std::vector<const acc_t*>& taps) {
  const int64_t begin = pool.rows.begin(out_row);
  const int64_t end = pool.rows.end(out_row);
  buffer.resize((end - begin) * phases.size());
  taps.clear();
  for (int64_t row = begin; row < end; ++row) {
    acc_t* destination = buffer.data() + (row - begin) * phases.size();
    load_row(phases, plane + row * pool.columns.size, destination);
    for (int64_t tap = 0; tap < pool.columns.kernel; ++tap) {
      taps.push_back(destination + phases.offset(tap));
    }
  }
}

template <typename scalar_t>
void forward_contiguous(const Pool2d& pool, const scalar_t* input, scalar_t* output) {
  using acc_t = acc_type_t<scalar_t>;
  const int64_t plane_size = pool.rows.size * pool.columns.size;
  const Phases phases(pool.columns);
  const int64_t planes = pool.batch * pool.channels;
  torch::stable::parallel_for(0, planes, grain_size(plane_size), [&](int64_t begin, int64_t end) {
    std::vector<acc_t> buffer;
    std::vector<const acc_t*> taps;
    for (int64_t plane = begin; plane < end; ++plane) {
      for (int64_t row = 0; row < pool.rows.out_size; ++row) {
        load_window_row(pool, phases, input + plane * plane_size, row, buffer, taps);
        const int64_t out = (plane * pool.rows.out_size + row) * pool.columns.out_size;
        pool_lanes<acc_t>(taps, pool.columns.out_size, output + out);
      }
    }
  });
}

template <bool exact, typename scalar_t, typename acc_t>
void backward_contiguous(
    const Pool2d& pool, const scalar_t* grad_output, const scalar_t* input, acc_t* grad_input) {
  const int64_t plane_size = pool.rows.size * pool.columns.size;
  const Phases phases(pool.columns);
  const int64_t planes = pool.batch * pool.channels;
  torch::stable::parallel_for(0, planes, grain_size(plane_size), [&](int64_t begin, int64_t end) {
    std::vector<acc_t> buffer, gradient_buffer, weights;
    std::vector<const acc_t*> taps;
    std::vector<acc_t*> gradients;
    for (int64_t plane = begin; plane < end; ++plane) {
      for (int64_t row = 0; row < pool.rows.out_size; ++row) {
        load_window_row(pool, phases, input + plane * plane_size, row, buffer, taps);
        gradient_buffer.assign(buffer.size(), acc_t(0));
        weights.resize(taps.size() * kLanes);
        gradients.clear();
        for (const acc_t* tap : taps) {
          gradients.push_back(gradient_buffer.data() + (tap - buffer.data()));
        }
        const int64_t out = (plane * pool.rows.out_size + row) * pool.columns.out_size;
        pool_lanes_backward<exact>(
            taps, gradients, pool.columns.out_size, grad_output + out, weights);
        const int64_t first_row = pool.rows.begin(row);
        for (int64_t in_row = first_row; in_row < pool.rows.end(row); ++in_row) {
          add_row(
              phases, gradient_buffer.data() + (in_row - first_row) * phases.size(),
              grad_input + plane * plane_size + in_row * pool.columns.size);
        }
      }
    }
  });
}

// Calls `body(offset of the first channel)` for every input pixel of one window of an image.
template <typename Body>
void for_each_tap(const Pool2d& pool, int64_t image, int64_t row, int64_t column, const Body& body) {
  for (int64_t r = pool.rows.begin(row); r < pool.rows.end(row); ++r) {
    for (int64_t c = pool.columns.begin(column); c < pool.columns.end(column); ++c) {
      body(r, ((image * pool.rows.size + r) * pool.columns.size + c) * pool.channels);
    }
  }
}

template <typename scalar_t>
void forward_channels_last(const Pool2d& pool, const scalar_t* input, scalar_t* output) {
  const int64_t out_rows = pool.batch * pool.rows.out_size;
  const int64_t row_inputs = pool.columns.size * pool.channels * pool.rows.stride;
  torch::stable::parallel_for(0, out_rows, grain_size(row_inputs), [&](int64_t begin, int64_t end) {
    std::vector<const scalar_t*> taps;
    for (int64_t out_row = begin; out_row < end; ++out_row) {
      const int64_t image = out_row / pool.rows.out_size;
      const int64_t row = out_row % pool.rows.out_size;
      for (int64_t column = 0; column < pool.columns.out_size; ++column) {
        taps.clear();
        for_each_tap(pool, image, row, column, [&](int64_t, int64_t offset) {
          taps.push_back(input + offset);
        });
        const int64_t out = (out_row * pool.columns.out_size + column) * pool.channels;
        pool_lanes<acc_type_t<scalar_t>>(taps, pool.channels, output + out);
      }
    }
  });
}

// A thread owns rows [begin_row, end_row) of one image's grad_input. Windows that reach over an edge
// are computed on either side of it, and each side keeps its own rows' gradients.
template <bool exact, typename scalar_t, typename acc_t>
void backward_image_rows(
    const Pool2d& pool, int64_t image, int64_t begin_row, int64_t end_row,
    const scalar_t* grad_output, const scalar_t* input, acc_t* grad_input) {
  std::vector<const scalar_t*> taps;
  std::vector<acc_t*> gradients;
  std::vector<acc_t> weights;
  for (int64_t row = pool.rows.first_window(begin_row); row < pool.rows.last_window(end_row - 1);
       ++row) {
    for (int64_t column = 0; column < pool.columns.out_size; ++column) {
      taps.clear();
      gradients.clear();
      for_each_tap(pool, image, row, column, [&](int64_t in_row, int64_t offset) {
        taps.push_back(input + offset);
        const bool owned = in_row >= begin_row && in_row < end_row;
        gradients.push_back(owned ? grad_input + offset : nullptr);
      });
      weights.resize(taps.size() * kLanes);
      const int64_t pixel = (image * pool.rows.out_size + row) * pool.columns.out_size + column;
      pool_lanes_backward<exact>(
          taps, gradients, pool.channels, grad_output + pixel * pool.channels, weights);
    }
  }
}

template <bool exact, typename scalar_t, typename acc_t>
void backward_channels_last(
    const Pool2d& pool, const scalar_t* grad_output, const scalar_t* input, acc_t* grad_input) {
  const int64_t rows = pool.batch * pool.rows.size;
  const int64_t grain = grain_size(pool.columns.size * pool.channels);
  torch::stable::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t image = begin / pool.rows.size;
      const int64_t first_row = begin % pool.rows.size;
      const int64_t last_row = std::min(pool.rows.size, first_row + end - begin);
      backward_image_rows<exact>(pool, image, first_row, last_row, grad_output, input, grad_input);
      begin += last_row - first_row;
    }
  });
}

Tensor soft_pool2d(
    const Tensor& input, const IntPair& kernel_size, const IntPair& stride, const IntPair& padding,
    bool ceil_mode) {
  const Pool2d pool = make_pool2d(input, kernel_size, stride, padding, ceil_mode);
  Tensor output = empty_output(input, pool);
  if (output.numel() == 0) {
    return output;
  }
  const Tensor values = torch::stable::contiguous(input, pool.memory_format());
  SOFT_POOL_DISPATCH(input.scalar_type(), [&] {
    const auto* in = static_cast<const scalar_t*>(values.const_data_ptr());
    auto* out = static_cast<scalar_t*>(output.mutable_data_ptr());
    pool.channels_last ? forward_channels_last(pool, in, out) : forward_contiguous(pool, in, out);
  });
  return output;
}

template <bool exact, typename scalar_t, typename acc_t>
void backward(
    const Pool2d& pool, const scalar_t* grad_output, const scalar_t* input, acc_t* grad_input) {
  if (pool.channels_last) {
    backward_channels_last<exact>(pool, grad_output, input, grad_input);
  } else {
    backward_contiguous<exact>(pool, grad_output, input, grad_input);
  }
}

Tensor soft_pool2d_backward(
    const Tensor& grad_output, const Tensor& input, const IntPair& kernel_size,
    const IntPair& stride, const IntPair& padding, bool ceil_mode, bool exact) {
  const Pool2d pool = make_pool2d(input, kernel_size, stride, padding, ceil_mode);
  check_grad_output(grad_output, input, pool);
  // Overlapping windows' gradients are summed in the wider type and rounded once.
  const bool is_double = input.scalar_type() == ScalarType::Double;
  Tensor grad_input =
      empty_grad_input(input, pool, is_double ? ScalarType::Double : ScalarType::Float);
  torch::stable::zero_(grad_input);
  if (input.numel() > 0) {
    const Tensor values = torch::stable::contiguous(input, pool.memory_format());
    const Tensor upstream = torch::stable::contiguous(grad_output, pool.memory_format());
    SOFT_POOL_DISPATCH(input.scalar_type(), [&] {
      const auto* grad = static_cast<const scalar_t*>(upstream.const_data_ptr());
      const auto* in = static_cast<const scalar_t*>(values.const_data_ptr());
      auto* out = static_cast<acc_type_t<scalar_t>*>(grad_input.mutable_data_ptr());
      exact ? backward<true>(pool, grad, in, out) : backward<false>(pool, grad, in, out);
    });
  }
  return torch::stable::to(grad_input, input.scalar_type());
}

}  // namespace
}  // namespace softpool_det

STABLE_TORCH_LIBRARY_IMPL(softpool_det, CPU, library) {
  library.impl("soft_pool2d", TORCH_BOX(&softpool_det::soft_pool2d));
  library.impl("soft_pool2d_backward", TORCH_BOX(&softpool_det::soft_pool2d_backward));
}
