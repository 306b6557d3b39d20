"""Every pooling of `softpool_det.layers`, and what one writes for it in plain PyTorch.

The plain formulations are for windows of kernel x kernel side by side, inside the input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pooling.cases import Case
from pooling.peers import Peer
from softpool_det.layers import POOLINGS, build_pooling

Formulation = Callable[[Any, torch.Tensor, int], torch.Tensor]


def zoo(case: Case, device: str) -> dict[str, Peer]:
    """Each pooling; of contiguous input also its plain formulation, as it is and compiled.

    All have the same parameters. Compiling takes minutes, so one layout has to do.
    """
    kernel = case.window.kernel
    peers: dict[str, Peer] = {}
    torch._dynamo.reset()
    for name in POOLINGS:
        layer = build_pooling(name, 2, kernel, case.window.stride, num_channels=case.shape[1]).to(
            device
        )
        shared: dict[str, Any] = {"parameters": tuple(layer.parameters())}
        # What draws at random gives nothing that could be compared.
        shared["computes"] = None if hasattr(layer, "generator") else name
        peers[name] = Peer(layer, **shared)
        plain = _FORMULATIONS.get(name)
        if plain is None or case.layout != "contiguous":
            continue
        # Compiled before it is bound: the compiler counts one function's versions.
        for how, formula in (("plain", plain), ("compiled", torch.compile(plain, dynamic=False))):
            peers[f"{name}, {how}"] = Peer(_bound(formula, layer, kernel), **shared)
    return peers


def _bound(plain: Formulation, layer: nn.Module, kernel: int) -> Callable:
    return lambda x: plain(layer, x, kernel)


def _windows(x: torch.Tensor, kernel: int, stride: int | None = None) -> torch.Tensor:
    """(N, C, H, W) to (N, C, OH, OW, kernel * kernel)."""
    return x.unfold(2, kernel, stride or kernel).unfold(3, kernel, stride or kernel).flatten(-2)


def _channels(values: torch.Tensor) -> torch.Tensor:
    return values.view(-1, 1, 1, 1)


def _soft(layer: Any, x: torch.Tensor, kernel: int) -> torch.Tensor:
    # The exact gradient; the layer's default is the paper's.
    e = x.exp()
    return F.avg_pool2d(x * e, kernel) / F.avg_pool2d(e, kernel)


def _sum(layer: Any, x: torch.Tensor, kernel: int) -> torch.Tensor:
    return F.avg_pool2d(x, kernel, divisor_override=1)


def _power(layer: Any, x: torch.Tensor, kernel: int) -> torch.Tensor:
    return F.lp_pool2d(x, layer.exponent, kernel)


def _lp(layer: Any, x: torch.Tensor, kernel: int) -> torch.Tensor:
    p = 1 + F.softplus(layer.rho)
    return F.avg_pool2d(x.abs().pow(p), kernel).pow(1 / p)


def _mixed(layer: Any, x: torch.Tensor, kernel: int) -> torch.Tensor:
    share = layer.b.sigmoid()
    return share * F.max_pool2d(x, kernel) + (1 - share) * F.avg_pool2d(x, kernel)


def _gated(layer: Any, x: torch.Tensor, kernel: int) -> torch.Tensor:
    share = (_windows(x, kernel) * layer.omega.flatten()).sum(-1).sigmoid()
    return share * F.max_pool2d(x, kernel) + (1 - share) * F.avg_pool2d(x, kernel)


def _detail_preserving(
    layer: Any, x: torch.Tensor, mean: torch.Tensor, kernel: int, stride: int | None = None
) -> torch.Tensor:
    windows = _windows(x, kernel, stride)
    squares = (windows - mean.unsqueeze(-1)).square() + 1e-3
    ratios = squares / squares.mean(-1, keepdim=True)
    weights = ratios.pow(_channels(layer.lambda_).exp() / 2) + _channels(layer.alpha).exp()
    return (weights * windows).sum(-1) / weights.sum(-1)


def _lite_dpp(layer: Any, x: torch.Tensor, kernel: int) -> torch.Tensor:
    return _detail_preserving(layer, x, F.avg_pool2d(x, kernel), kernel)


def _dpp(layer: Any, x: torch.Tensor, kernel: int) -> torch.Tensor:
    guide = F.conv2d(x, layer.guide.weight, None, kernel, 1, 1, x.shape[1])
    return _detail_preserving(layer, x, guide, kernel)


def _lip(layer: Any, x: torch.Tensor, kernel: int) -> torch.Tensor:
    e = (12 * layer.norm(layer.conv(x)).sigmoid()).exp()
    return F.avg_pool2d(x * e, kernel) / F.avg_pool2d(e, kernel)


def _stochastic(layer: Any, x: torch.Tensor, kernel: int) -> torch.Tensor:
    windows = _windows(x.relu(), kernel).contiguous()
    # A window of zeros has nothing to draw from.
    rows = (windows.detach() + 1e-20).view(-1, windows.shape[-1])
    chosen = torch.multinomial(rows, 1).view(*windows.shape[:-1], 1)
    return windows.gather(-1, chosen).squeeze(-1)


def _s3(layer: Any, x: torch.Tensor, kernel: int) -> torch.Tensor:
    dense = F.max_pool2d(F.pad(x, (0, kernel - 1, 0, kernel - 1), value=-torch.inf), kernel, 1)
    return _random_rows_and_columns(dense, kernel)


def _lite_s3_dpp(layer: Any, x: torch.Tensor, kernel: int) -> torch.Tensor:
    whole = F.pad(x, (0, kernel - 1, 0, kernel - 1), mode="replicate")
    mean = F.avg_pool2d(whole, kernel, 1)
    dense = _detail_preserving(layer.detail, whole, mean, kernel, stride=1)
    return _random_rows_and_columns(dense, kernel)


def _random_rows_and_columns(dense: torch.Tensor, kernel: int) -> torch.Tensor:
    for dim in (2, 3):
        count = dense.shape[dim] // kernel
        rows = torch.arange(count, device=dense.device) * kernel
        rows = rows + torch.randint(kernel, (count,), device=dense.device)
        dense = dense.index_select(dim, rows)
    return dense


def _edscw(layer: Any, x: torch.Tensor, kernel: int) -> torch.Tensor:
    windows = _windows(x, kernel)
    mean = windows.mean(-1, keepdim=True)
    weights = (2 * windows * mean / (windows.square() + mean.square())).softmax(-1)
    return (weights * windows).sum(-1)


def _ada(layer: Any, x: torch.Tensor, kernel: int) -> torch.Tensor:
    share = layer.b.sigmoid()
    return share * _edscw(layer, x, kernel) + (1 - share) * _soft(layer, x, kernel)


_FORMULATIONS: dict[str, Formulation] = {
    "SoftPool": _soft,
    "SumPool": _sum,
    "PowerAvgPool": _power,
    "LPPool": _lp,
    "MixedPool": _mixed,
    "GatedPool": _gated,
    "LiteDPPPool": _lite_dpp,
    "DPPPool": _dpp,
    "LIPPool": _lip,
    "StochasticPool": _stochastic,
    "S3Pool": _s3,
    "LiteS3DPPPool": _lite_s3_dpp,
    "EDSCWPool": _edscw,
    "AdaPool": _ada,
}
