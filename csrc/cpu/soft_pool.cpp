// The CPU operators: the kernels' work handed out to threads.
#include "../soft_pool.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <vector>

#include "../formula.h"
#include "capability.h"
#include "tiling.h"

namespace softpool_det {
namespace {

// A result of this many bytes has left the caches before it is read.
constexpr int64_t kNontemporal = 16 << 20;
// Temperatures above are nearly maxima: exp(beta * x) leaves the range for nearly any x, and beta times
// the rounding of an output counts.
constexpr double kSharedBeta = 1 << 10;

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

// Numbers by channel as the kernels read them: see kernels.h.
template <typename real>
class ChannelNumbers {
 public:
  ChannelNumbers(const Settings& settings, int64_t channels)
      : stride_(channels + kAlignment), numbers_(4 * stride_), affine_(settings.scale.has_value()) {
    constexpr double kMost = std::numeric_limits<real>::max();
    const std::vector<real> betas = values(settings.betas, channels, settings.beta);
    for (int64_t channel = 0; channel < channels; ++channel) {
      const double beta = betas[channel];
      check(
          !(beta < 0), "soft_pool: beta must be at least 0, got ", beta, " for channel ", channel);
      numbers_[channel] = static_cast<real>(std::min(beta * kLog2E, kMost));
      // The limit of the exact gradient at infinity is the paper's.
      numbers_[stride_ + channel] = settings.exact && beta <= kMost ? static_cast<real>(beta) : 0;
      shared_ = shared_ && beta <= kSharedBeta;
    }
    if (affine_) {
      const std::vector<real> scale = values(settings.scale, channels, 1);
      const std::vector<real> bias = values(settings.bias, channels, 0);
      std::copy(scale.begin(), scale.end(), numbers_.begin() + 2 * stride_);
      std::copy(bias.begin(), bias.end(), numbers_.begin() + 3 * stride_);
    }
  }
  Parameters from(int64_t channel) const {
    const real* numbers = numbers_.data() + channel;
    return {
        numbers, numbers + stride_, affine_ ? numbers + 2 * stride_ : nullptr,
        affine_ ? numbers + 3 * stride_ : nullptr};
  }
  bool shared() const { return shared_; }

 private:
  static std::vector<real> values(
      const std::optional<Tensor>& tensor, int64_t channels, double value) {
    if (!tensor.has_value()) {
      // Infinity passes; finite numbers beyond the type's have no value in it.
      constexpr double kMost = std::numeric_limits<real>::max();
      const real number = value > kMost ? std::numeric_limits<real>::infinity() : real(value);
      return std::vector<real>(channels, number);
    }
    const auto* first = static_cast<const real*>(tensor->const_data_ptr());
    return std::vector<real>(first, first + channels);
  }

  int64_t stride_;
  std::vector<real> numbers_;
  bool affine_;
  bool shared_ = true;
};

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

template <typename scalar_t>
constexpr Element kElementOf = sizeof(scalar_t) == 8 ? kDouble
    : sizeof(scalar_t) == 4                          ? kFloat
    : std::is_same_v<scalar_t, torch::headeronly::BFloat16> ? kBFloat16
                                                            : kFloat16;

// One operator's run over whole tensors.
template <typename scalar_t>
class Run {
 public:
  using real = acc_type_t<scalar_t>;

  // `grad_betas` is filled where it is wanted.
  Run(const Call& call, const Tensor& grad_betas)
      : pool_(simplified(call.pool)),
        backward_(call.backward),
        wants_betas_(call.backward && call.settings.betas.has_value()),
        exact_(call.settings.exact || wants_betas_),
        input_(call.input.const_data_ptr()),
        grad_output_(call.backward ? call.output.const_data_ptr() : nullptr),
        result_(call.result.mutable_data_ptr()),
        grad_betas_(wants_betas_ ? grad_betas.mutable_data_ptr() : nullptr),
        numbers_(call.settings, pool_.channels),
        tiling_(pool_, backward_, kernels_[kGeneric][kElement] != nullptr) {}

  void run() {
    const int64_t results =
        pool_.batch * pool_.channels * (backward_ ? pool_.inputs() : pool_.outputs());
    const bool nontemporal = results * static_cast<int64_t>(sizeof(scalar_t)) >= kNontemporal;
    std::vector<real> parts(wants_betas_ ? tiling_.count() * part_width() : 0);
    torch::stable::parallel_for(
        0, tiling_.count(), tiling_.grain(), [&](int64_t begin, int64_t end) {
          Scratch scratch;
          for (int64_t index = begin; index < end; ++index) {
            real* part = parts.empty() ? nullptr : parts.data() + index * part_width();
            run_tile(tiling_.item(index), part, nontemporal, scratch);
          }
        });
    if (!parts.empty()) {
      add_parts(parts);
    }
  }

 private:
  // Channels of a tile's part of grad_betas.
  int64_t part_width() const { return pool_.channels_last ? aligned(pool_.channels) : 1; }

  int64_t plane(const Tiling::Item& item, int64_t pixels) const {
    return pool_.channels_last ? item.image * pixels * pool_.channels + item.channel
                               : (item.image * pool_.channels + item.channel) * pixels;
  }

  void run_tile(const Tiling::Item& item, real* part, bool nontemporal, Scratch& scratch) const {
    const auto from = [](const void* data, int64_t elements) {
      return data == nullptr ? nullptr : static_cast<const scalar_t*>(data) + elements;
    };
    const int64_t inputs = plane(item, pool_.inputs());
    const int64_t outputs = plane(item, pool_.outputs());
    const Arrays arrays{
        from(input_, inputs),
        from(grad_output_, outputs),
        const_cast<scalar_t*>(from(result_, backward_ ? inputs : outputs)),
        numbers_.from(item.channel),
        part,
        exact_,
        nontemporal};
    void* memory = scratch.get(
        static_cast<size_t>(scratch_numbers(item.tile, backward_, item.geometry)) * sizeof(real));
    if (numbers_.shared() && kernels_[item.geometry][kElement](item.tile, arrays, memory)) {
      return;
    }
    if (part != nullptr) {
      std::fill_n(part, part_width(), real(0));
    }
    kernels_[kPlain][kElement](item.tile, arrays, memory);
  }

  // In the order of tiles, whoever computed them.
  void add_parts(const std::vector<real>& parts) const {
    std::vector<double> sums(pool_.channels, 0.);
    for (int64_t index = 0; index < tiling_.count(); ++index) {
      const Tiling::Item item = tiling_.item(index);
      for (int64_t channel = 0; channel < item.tile.channels; ++channel) {
        sums[item.channel + channel] += parts[index * part_width() + channel];
      }
    }
    std::copy(sums.begin(), sums.end(), static_cast<real*>(grad_betas_));
  }

  static constexpr Element kElement = kElementOf<scalar_t>;
  const decltype(Kernels::of)& kernels_ = cpu_kernels().of;
  const Pool pool_;
  const bool backward_, wants_betas_;
  const bool exact_;
  const void* const input_;
  const void* const grad_output_;
  void* const result_;
  void* const grad_betas_;
  const ChannelNumbers<real> numbers_;
  const Tiling tiling_;
};

struct Cpu {
  explicit Cpu(const Tensor&) {}

  Tensor run(const Call& call) const {
    Tensor grad_betas = call.backward ? empty_grad_betas(call.input, call.settings) : Tensor();
    SOFT_POOL_DISPATCH(call.input.scalar_type(), [&] { Run<scalar_t>(call, grad_betas).run(); });
    return grad_betas;
  }
};

}  // namespace
}  // namespace softpool_det

STABLE_TORCH_LIBRARY_IMPL(softpool_det, CPU, library) {
  using Cpu = softpool_det::Operators<softpool_det::Cpu>;
  library.impl("soft_pool", TORCH_BOX(&Cpu::soft_pool));
  library.impl("soft_pool_backward", TORCH_BOX(&Cpu::soft_pool_backward));
}
