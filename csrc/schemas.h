// What follows the tensors of both operators:
//
//   exact   whether the gradient is the derivative rather than the paper's; the forward operator
//           ignores it, but its derivatives in recorded graphs read it there
//   beta    temperature, at least 0; infinity is the maximum
//   betas   the same by channel, instead; its gradient is grad_betas, (C), or else (0)
//   scale, bias    both or neither, by channel: relu(input * scale + bias) is pooled; without gradient
#pragma once

#define SOFT_POOL_ARGUMENTS                                                                   \
  "int[] kernel_size, int[] stride, int[] padding, int[] dilation, bool ceil_mode=False, "    \
  "bool exact=False, float beta=1.0, Tensor? betas=None, Tensor? scale=None, Tensor? bias=None"

#define SOFT_POOL_SCHEMA "soft_pool(Tensor input, " SOFT_POOL_ARGUMENTS ") -> Tensor"
#define SOFT_POOL_BACKWARD_SCHEMA                                           \
  "soft_pool_backward(Tensor grad_output, Tensor input, " SOFT_POOL_ARGUMENTS \
  ") -> (Tensor grad_input, Tensor grad_betas)"
