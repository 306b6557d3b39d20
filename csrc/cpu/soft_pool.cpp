// The CPU operators: checks, and the kernels' work handed out to threads.
#include "../soft_pool.h"

#include <memory>
#include <new>

#include "capability.h"
#include "tiling.h"

namespace softpool_det {
namespace {

// Bytes of a result from which on its next reader will not find it in a cache anyway.
constexpr int64_t kStreamed = 16 << 20;

// Memory of one thread for a tile's buffers, grown as tiles need it.
class Scratch {
 public:
  void* get(size_t bytes) {
    if (bytes > size_) {
      memory_.reset(::operator new(bytes, kLine));
      size_ = bytes;
    }
    return memory_.get();
  }

 private:
  static constexpr std::align_val_t kLine{64};
  struct Free {
    void operator()(void* memory) const { ::operator delete(memory, kLine); }
  };
  std::unique_ptr<void, Free> memory_;
  size_t size_ = 0;
};

Element element_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Double:
      return kDouble;
    case ScalarType::Float:
      return kFloat;
    case ScalarType::BFloat16:
      return kBFloat16;
    case ScalarType::Half:
      return kFloat16;
    default:
      check(false, "soft_pool: input must be float64, float32, bfloat16 or float16");
      return kFloat;
  }
}

size_t bytes_of(Element element) {
  return element == kDouble ? 8 : element == kFloat ? 4 : 2;
}

const void* shifted(const void* data, int64_t elements, size_t bytes) {
  return data == nullptr ? nullptr : static_cast<const char*>(data) + elements * int64_t(bytes);
}

// Scratch memory that a tile needs, in numbers of the type that is computed in.
int64_t numbers_of(const Tiling::Item& item, bool backward) {
  const Plan plan = make_plan(item.tile, backward);
  const int64_t general = plan.is_empty() ? 0 : make_layout(item.tile, plan, backward).size;
  return item.way == Way::kOverlap ? most(general, overlap_numbers(item.tile, backward)) : general;
}

// The same windows in the simplest terms.
Pool simplified(Pool pool) {
  // Memory is the same, and the kernels' rows are longer.
  pool.channels_last = pool.channels_last && pool.channels > 1;
  for (Axis& axis : pool.axes) {
    axis = axis.without_padding_taps();
    // No window follows: one phase instead of one for each tap of a global pooling.
    axis.stride = axis.out_size == 1 ? 1 : axis.stride;
  }
  return pool;
}

// Runs the kernels over whole tensors in pool's layout; `whole` points to their first elements.
void run(const Pool& given, Element element, const Arrays& whole) {
  const Pool pool = simplified(given);
  const bool backward = whole.grad_output != nullptr;
  const Kernels& kernels = cpu_kernels();
  const Kernel ways[] = {
      backward ? kernels.backward[element] : kernels.forward[element], kernels.direct[element],
      kernels.overlap[element]};
  const Tiling tiling(pool, backward, kernels.direct[element] != nullptr);
  const size_t bytes = bytes_of(element);
  const size_t real_bytes = element == kDouble ? 8 : 4;
  const int64_t results =
      pool.batch * pool.channels * (backward ? pool.inputs() : pool.outputs());
  const bool stream = results * static_cast<int64_t>(bytes) >= kStreamed;
  const auto plane = [&pool](const Tiling::Item& item, int64_t pixels) {
    return pool.channels_last ? item.image * pixels * pool.channels + item.channel
                              : (item.image * pool.channels + item.channel) * pixels;
  };
  torch::stable::parallel_for(0, tiling.count(), tiling.grain(), [&](int64_t begin, int64_t end) {
    Scratch scratch;
    for (int64_t index = begin; index < end; ++index) {
      const Tiling::Item item = tiling.item(index);
      const int64_t inputs = plane(item, pool.inputs());
      const int64_t outputs = plane(item, pool.outputs());
      const Arrays arrays{
          shifted(whole.input, inputs, bytes),
          shifted(whole.grad_output, outputs, bytes),
          const_cast<void*>(shifted(whole.result, backward ? inputs : outputs, bytes)),
          shifted(whole.scale, item.channel, real_bytes),
          shifted(whole.shift, item.channel, real_bytes),
          whole.exact,
          stream};
      void* memory = scratch.get(static_cast<size_t>(numbers_of(item, backward)) * real_bytes);
      ways[static_cast<int>(item.way)](item.tile, arrays, memory);
    }
  });
}

const void* data_of(const Tensor* tensor) {
  return tensor == nullptr ? nullptr : tensor->const_data_ptr();
}

Tensor pooled(const Tensor& input, const Pool& pool, const Tensor* scale, const Tensor* shift) {
  const Element element = element_of(input);
  Tensor output = empty_output(input, pool);
  if (output.numel() > 0) {
    const Tensor values = torch::stable::contiguous(input, pool.memory_format());
    run(pool, element,
        {values.const_data_ptr(), nullptr, output.mutable_data_ptr(), data_of(scale),
         data_of(shift), false, false});
  }
  return output;
}

Tensor gradient(
    const Tensor& grad_output, const Tensor& input, const Pool& pool, const Tensor* scale,
    const Tensor* shift, bool exact) {
  check_grad_output(grad_output, input, pool);
  const Element element = element_of(input);
  Tensor grad_input = empty_grad_input(input, pool);
  if (grad_input.numel() > 0) {
    const Tensor values = torch::stable::contiguous(input, pool.memory_format());
    const Tensor upstream = torch::stable::contiguous(grad_output, pool.memory_format());
    run(pool, element,
        {values.const_data_ptr(), upstream.const_data_ptr(), grad_input.mutable_data_ptr(),
         data_of(scale), data_of(shift), exact, false});
  }
  return grad_input;
}

Tensor soft_pool(
    const Tensor& input, const Ints& kernel_size, const Ints& stride, const Ints& padding,
    const Ints& dilation, bool ceil_mode) {
  const Pool pool = make_pool(input, kernel_size, stride, padding, dilation, ceil_mode);
  return pooled(input, pool, nullptr, nullptr);
}

Tensor soft_pool_backward(
    const Tensor& grad_output, const Tensor& input, const Ints& kernel_size, const Ints& stride,
    const Ints& padding, const Ints& dilation, bool ceil_mode, bool exact) {
  const Pool pool = make_pool(input, kernel_size, stride, padding, dilation, ceil_mode);
  return gradient(grad_output, input, pool, nullptr, nullptr, exact);
}

Tensor affine_relu_soft_pool(
    const Tensor& input, const Tensor& scale, const Tensor& shift, const Ints& kernel_size,
    const Ints& stride, const Ints& padding, const Ints& dilation, bool ceil_mode) {
  const Pool pool = make_pool(input, kernel_size, stride, padding, dilation, ceil_mode);
  check_affine(scale, shift, input);
  const Tensor a = torch::stable::contiguous(scale), b = torch::stable::contiguous(shift);
  return pooled(input, pool, &a, &b);
}

Tensor affine_relu_soft_pool_backward(
    const Tensor& grad_output, const Tensor& input, const Tensor& scale, const Tensor& shift,
    const Ints& kernel_size, const Ints& stride, const Ints& padding, const Ints& dilation,
    bool ceil_mode, bool exact) {
  const Pool pool = make_pool(input, kernel_size, stride, padding, dilation, ceil_mode);
  check_affine(scale, shift, input);
  const Tensor a = torch::stable::contiguous(scale), b = torch::stable::contiguous(shift);
  return gradient(grad_output, input, pool, &a, &b, exact);
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
