"""What PyTorch's dispatcher has to know about the operators: for torch.compile, export, script.

There it is the operators themselves that are called, not the autograd.Functions.
"""

from __future__ import annotations

import torch

from ._fake import fake_backward, fake_forward
from ._forward_mode import has_tangent
from ._functions import SoftPoolBackwardFunction, SoftPoolFunction


class _Library(torch.library.Library):
    """Its kernels refuse forward mode, for which those of `register_autograd` give zeros."""

    def impl(self, op_name, fn, dispatch_key="", *, with_keyset=False, **options):
        def kernel(*args):
            if any(has_tangent(arg) for arg in args):
                raise NotImplementedError(
                    f"{op_name} has no forward-mode derivative: call soft_pool1d, soft_pool2d, "
                    "soft_pool3d or affine_relu_soft_pool2d of softpool_det.ops, which have one"
                )
            return fn(*args)

        super().impl(op_name, kernel, dispatch_key, with_keyset=with_keyset, **options)


# Its registrations last as long as it does.
_AUTOGRAD = _Library("softpool_det", "FRAGMENT")


def register_operators() -> None:
    _register("softpool_det::soft_pool", fake_forward, SoftPoolFunction)
    _register("softpool_det::soft_pool_backward", fake_backward, SoftPoolBackwardFunction)


def _register(name: str, fake, function) -> None:
    torch.library.register_fake(name, fake)
    torch.library.register_vmap(name, function.vmap)
    torch.library.register_autograd(
        name, function.backward, setup_context=function.setup_context, lib=_AUTOGRAD
    )
