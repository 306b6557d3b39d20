// The CPU operators: plain loops over windows, one at a time, until the vectorised kernels replace them.
#include "../soft_pool.h"

namespace softpool_det {
namespace {

struct Strides {
  int64_t pixel;
  int64_t plane(const Pool& pool, int64_t image, int64_t channel, int64_t pixels) const {
    return pool.channels_last ? image * pixels * pool.channels + channel
                              : (image * pool.channels + channel) * pixels;
  }
};

template <typename acc_t, typename Body>
void for_each_tap(const Pool& pool, const int64_t* out, const Body& body) {
  const Axis* axes = pool.axes;
  for (int64_t a = axes[0].first_tap(out[0]); a < axes[0].last_tap(out[0]); ++a) {
    for (int64_t b = axes[1].first_tap(out[1]); b < axes[1].last_tap(out[1]); ++b) {
      for (int64_t c = axes[2].first_tap(out[2]); c < axes[2].last_tap(out[2]); ++c) {
        const int64_t z = axes[0].start(out[0]) + a * axes[0].dilation;
        const int64_t y = axes[1].start(out[1]) + b * axes[1].dilation;
        const int64_t x = axes[2].start(out[2]) + c * axes[2].dilation;
        body((z * axes[1].size + y) * axes[2].size + x);
      }
    }
  }
}

template <typename scalar_t, bool backward>
void run(
    const Pool& pool, const scalar_t* input, const scalar_t* grad_output, const void* scale_data,
    const void* shift_data, bool exact, scalar_t* result) {
  using acc_t = acc_type_t<scalar_t>;
  const auto* scale = static_cast<const acc_t*>(scale_data);
  const auto* shift = static_cast<const acc_t*>(shift_data);
  const Strides strides{pool.channels_last ? pool.channels : 1};
  torch::stable::parallel_for(0, pool.batch * pool.channels, 1, [&](int64_t begin, int64_t end) {
    std::vector<acc_t> gradient(backward ? pool.inputs() : 0);
    for (int64_t plane = begin; plane < end; ++plane) {
      const int64_t image = plane / pool.channels, channel = plane % pool.channels;
      const int64_t in = strides.plane(pool, image, channel, pool.inputs());
      const int64_t outs = strides.plane(pool, image, channel, pool.outputs());
      std::fill(gradient.begin(), gradient.end(), acc_t(0));
      const auto value = [&](int64_t pixel) {
        const acc_t x = static_cast<acc_t>(input[in + pixel * strides.pixel]);
        if (scale == nullptr) return x;
        const acc_t y = x * scale[channel] + shift[channel];
        return y < 0 ? acc_t(0) : y;
      };
      int64_t o = 0, at[3];
      for (at[0] = 0; at[0] < pool.axes[0].out_size; ++at[0]) {
        for (at[1] = 0; at[1] < pool.axes[1].out_size; ++at[1]) {
          for (at[2] = 0; at[2] < pool.axes[2].out_size; ++at[2], ++o) {
            acc_t maximum = kLowest<acc_t>, total = 0, mean = 0;
            for_each_tap<acc_t>(pool, at, [&](int64_t pixel) {
              maximum = value(pixel) > maximum ? value(pixel) : maximum;
            });
            for_each_tap<acc_t>(pool, at, [&](int64_t pixel) {
              const acc_t d = distance_to_maximum(value(pixel), maximum);
              const acc_t e = exp_of_distance(d);
              total += e;
              mean += e * d;
            });
            const acc_t inverse = inverse_total(total);
            mean *= inverse;
            if (!backward) {
              result[outs + o * strides.pixel] =
                  static_cast<scalar_t>(pooled_value(maximum, total, mean));
              continue;
            }
            const acc_t g = static_cast<acc_t>(grad_output[outs + o * strides.pixel]);
            for_each_tap<acc_t>(pool, at, [&](int64_t pixel) {
              const acc_t d = distance_to_maximum(value(pixel), maximum);
              const acc_t w = exp_of_distance(d) * inverse;
              gradient[pixel] += g *
                  (exact ? gradient_factor<true>(w, d, mean) : gradient_factor<false>(w, d, mean));
            });
          }
        }
      }
      for (int64_t pixel = 0; backward && pixel < pool.inputs(); ++pixel) {
        acc_t g = gradient[pixel];
        if (scale != nullptr) g = value(pixel) > 0 ? g * scale[channel] : acc_t(0);
        result[in + pixel * strides.pixel] = static_cast<scalar_t>(g);
      }
    }
  });
}

Tensor forward_of(const Tensor& input, const Pool& pool, const Tensor* scale, const Tensor* shift) {
  Tensor output = empty_output(input, pool);
  if (output.numel() == 0) return output;
  const Tensor values = torch::stable::contiguous(input, pool.memory_format());
  SOFT_POOL_DISPATCH(input.scalar_type(), [&] {
    run<scalar_t, false>(
        pool, static_cast<const scalar_t*>(values.const_data_ptr()), nullptr,
        scale ? scale->const_data_ptr() : nullptr, shift ? shift->const_data_ptr() : nullptr, false,
        static_cast<scalar_t*>(output.mutable_data_ptr()));
  });
  return output;
}

Tensor backward_of(
    const Tensor& grad_output, const Tensor& input, const Pool& pool, const Tensor* scale,
    const Tensor* shift, bool exact) {
  check_grad_output(grad_output, input, pool);
  Tensor grad_input = empty_grad_input(input, pool);
  if (grad_input.numel() == 0) return grad_input;
  const Tensor values = torch::stable::contiguous(input, pool.memory_format());
  const Tensor upstream = torch::stable::contiguous(grad_output, pool.memory_format());
  SOFT_POOL_DISPATCH(input.scalar_type(), [&] {
    run<scalar_t, true>(
        pool, static_cast<const scalar_t*>(values.const_data_ptr()),
        static_cast<const scalar_t*>(upstream.const_data_ptr()),
        scale ? scale->const_data_ptr() : nullptr, shift ? shift->const_data_ptr() : nullptr, exact,
        static_cast<scalar_t*>(grad_input.mutable_data_ptr()));
  });
  return grad_input;
}

Tensor soft_pool(
    const Tensor& input, const Ints& kernel_size, const Ints& stride, const Ints& padding,
    const Ints& dilation, bool ceil_mode) {
  const Pool pool = make_pool(input, kernel_size, stride, padding, dilation, ceil_mode);
  return forward_of(input, pool, nullptr, nullptr);
}

Tensor soft_pool_backward(
    const Tensor& grad_output, const Tensor& input, const Ints& kernel_size, const Ints& stride,
    const Ints& padding, const Ints& dilation, bool ceil_mode, bool exact) {
  const Pool pool = make_pool(input, kernel_size, stride, padding, dilation, ceil_mode);
  return backward_of(grad_output, input, pool, nullptr, nullptr, exact);
}

Tensor affine_relu_soft_pool(
    const Tensor& input, const Tensor& scale, const Tensor& shift, const Ints& kernel_size,
    const Ints& stride, const Ints& padding, const Ints& dilation, bool ceil_mode) {
  const Pool pool = make_pool(input, kernel_size, stride, padding, dilation, ceil_mode);
  check_affine(scale, shift, input);
  const Tensor a = torch::stable::contiguous(scale), b = torch::stable::contiguous(shift);
  return forward_of(input, pool, &a, &b);
}

Tensor affine_relu_soft_pool_backward(
    const Tensor& grad_output, const Tensor& input, const Tensor& scale, const Tensor& shift,
    const Ints& kernel_size, const Ints& stride, const Ints& padding, const Ints& dilation,
    bool ceil_mode, bool exact) {
  const Pool pool = make_pool(input, kernel_size, stride, padding, dilation, ceil_mode);
  check_affine(scale, shift, input);
  const Tensor a = torch::stable::contiguous(scale), b = torch::stable::contiguous(shift);
  return backward_of(grad_output, input, pool, &a, &b, exact);
}

}  // namespace
}  // namespace softpool_det

STABLE_TORCH_LIBRARY_IMPL(softpool_det, CPU, library) {
  library.impl("soft_pool", TORCH_BOX(&softpool_det::soft_pool));
  library.impl("soft_pool_backward", TORCH_BOX(&softpool_det::soft_pool_backward));
  library.impl("affine_relu_soft_pool", TORCH_BOX(&softpool_det::affine_relu_soft_pool));
  library.impl(
      "affine_relu_soft_pool_backward", TORCH_BOX(&softpool_det::affine_relu_soft_pool_backward));
}
