"""The poolings that are compared, each as a function of the input alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from measuring.timing import Function

from pooling.cases import Case, Window
from pooling.names import (
    AUTHORS,
    AVG,
    BETA,
    BOTH,
    EXACT,
    FORWARD,
    FUSED,
    LEARNED,
    MAX,
    SOFT,
    STOCK_STEM,
    UNFUSED,
    ZOO,
)
from softpool_det.ops import affine_relu_soft_pool2d, soft_pool2d, soft_pool3d

STOCK_WINDOW = Window(3, 2, 1)

AUTHORS_SOURCE = Path(__file__).resolve().parents[1] / "authors_kernel.cu"

# bench_pooling.py --against measures older builds, too.
HAS_BETA = "beta" in inspect.signature(soft_pool2d).parameters

Pool = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Peer:
    """One pooling.

    Args:
        pool: maps the input to the output.
        backward: maps grad_output and input to grad_input, where autograd does not.
        computes: what it computes; those with one name must agree. None for what is not compared.
        parameters: what gets a gradient beside the input.
    """

    pool: Pool
    backward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    computes: str | None = None
    parameters: tuple[torch.Tensor, ...] = ()


def peers_of(case: Case, device: str) -> dict[str, Peer]:
    """The poolings to measure for a case, by name; the first is this project's."""
    if case.group == "fused stem":
        return _stem(case, device)
    if case.group == ZOO:
        from pooling.zoo import zoo  # an older build lacks the layers

        return zoo(case, device)
    peers = _poolings(case)
    if case.group == "detection stem" and HAS_BETA:
        peers |= _temperatures(case, device)
    if case.group == "formulations":
        peers |= _formulations(case)
        if device == "cuda" and case.window.padding == 0:
            peers |= _authors(case)
    return peers


def _poolings(case: Case) -> dict[str, Peer]:
    window = case.window
    sizes = (window.kernel, window.stride, window.padding)
    soft = soft_pool2d if case.dims == 2 else soft_pool3d
    maximum = F.max_pool2d if case.dims == 2 else F.max_pool3d
    average = F.avg_pool2d if case.dims == 2 else F.avg_pool3d
    peers = {
        SOFT: Peer(lambda x: soft(x, *sizes, window.dilation), computes=SOFT),
        EXACT: Peer(lambda x: soft(x, *sizes, window.dilation, gradient="exact"), computes=SOFT),
        MAX: Peer(lambda x: maximum(x, *sizes, window.dilation)),
    }
    if window.dilation == 1:
        peers[AVG] = Peer(lambda x: average(x, *sizes))
    return peers


def _temperatures(case: Case, device: str) -> dict[str, Peer]:
    window = (case.window.kernel, case.window.stride, case.window.padding)
    betas = torch.linspace(0.5, 4, case.shape[1], device=device, requires_grad=True)
    return {
        BETA: Peer(lambda x: soft_pool2d(x, *window, beta=4.0)),
        LEARNED: Peer(lambda x: soft_pool2d(x, *window, beta=betas), parameters=(betas,)),
    }


def _formulations(case: Case) -> dict[str, Peer]:
    """What one writes without a kernel, as it is and compiled; both give the exact gradient."""
    kernel, stride, padding = case.window.kernel, case.window.stride, case.window.padding

    def unfold(x: torch.Tensor) -> torch.Tensor:
        # The lowest finite number has the weight 0 and, unlike -inf, no product NaN.
        padded = F.pad(x, [padding] * 4, value=torch.finfo(x.dtype).min)
        windows = padded.unfold(2, kernel, stride).unfold(3, kernel, stride).flatten(-2)
        return (windows.softmax(-1) * windows).sum(-1)

    def ratio(x: torch.Tensor) -> torch.Tensor:
        # Overflows from about 88 on; padded zeros are in neither sum.
        e = x.exp()
        window = (kernel, stride, padding)
        return F.avg_pool2d(x * e, *window) / F.avg_pool2d(e, *window)

    # A case of its own must not compile for "any shape" because another came before.
    torch._dynamo.reset()
    return {
        "unfold": Peer(unfold, computes=SOFT),
        "exp ratio": Peer(ratio, computes=SOFT),
        "compiled unfold": Peer(torch.compile(unfold, dynamic=False), computes=SOFT),
        "compiled exp ratio": Peer(torch.compile(ratio, dynamic=False), computes=SOFT),
    }


def _authors(case: Case) -> dict[str, Peer]:
    """The authors' published algorithm; contiguous float32, without padding."""
    from torch.utils import cpp_extension

    kernel, stride = case.window.kernel, case.window.stride
    try:
        library = cpp_extension.load("softpool_det_authors_kernel", [str(AUTHORS_SOURCE)])
    except (OSError, RuntimeError) as error:
        print(f"\nThe authors' kernel is left out, because it does not build here: {error}\n")
        return {}
    return {
        AUTHORS: Peer(
            lambda x: library.authors_forward(x, kernel, stride),
            lambda grad_output, x: library.authors_backward(grad_output, x, kernel, stride),
            computes=SOFT,
        )
    }


def _stem(case: Case, device: str) -> dict[str, Peer]:
    """From the first convolution's output to the first residual block: Detectron2's and ours."""
    from detectron2.layers import FrozenBatchNorm2d

    window = (case.window.kernel, case.window.stride, case.window.padding)
    stock = (STOCK_WINDOW.kernel, STOCK_WINDOW.stride, STOCK_WINDOW.padding)
    norm = FrozenBatchNorm2d(case.shape[1]).to(device)
    generator = torch.Generator(device).manual_seed(2)
    for buffer, low in ((norm.weight, 0.5), (norm.running_var, 0.5), (norm.running_mean, -0.5)):
        buffer.uniform_(low, low + 1, generator=generator)
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    bias = norm.bias - norm.running_mean * scale
    return {
        FUSED: Peer(lambda x: affine_relu_soft_pool2d(x, scale, bias, *window), computes=SOFT),
        UNFUSED: Peer(lambda x: soft_pool2d(F.relu_(norm(x)), *window), computes=SOFT),
        STOCK_STEM: Peer(lambda x: F.max_pool2d(F.relu_(norm(x)), *stock)),
    }


def directions(peer: Peer, input: torch.Tensor) -> dict[str, Function]:
    """What is timed of a peer."""
    upstream = torch.ones_like(peer.pool(input))
    leaf = input.detach().requires_grad_()

    def by_autograd() -> object:
        return torch.autograd.grad(peer.pool(leaf), (leaf, *peer.parameters), upstream)

    def by_hand() -> object:
        assert peer.backward is not None
        return peer.pool(input), peer.backward(upstream, input)

    return {FORWARD: lambda: peer.pool(input), BOTH: by_hand if peer.backward else by_autograd}


def usable(peers: dict[str, Peer], input: torch.Tensor) -> dict[str, Peer]:
    """The peers that can run here, forward and backward; says which cannot and why.

    Raises:
        RuntimeError: two peers that should compute the same do not. It would be no use to know
            their times.
    """
    found: dict[str, Peer] = {}
    expected: dict[str, tuple[str, torch.Tensor]] = {}
    for name, peer in peers.items():
        try:
            with torch.no_grad():
                output = peer.pool(input)
            directions(peer, input)[BOTH]()
            if input.is_cuda:
                torch.cuda.synchronize()  # errors of kernels come late
        except (RuntimeError, ValueError) as error:  # also what PyTorch lacks, or cannot compile
            reason = str(error).partition("\n")[0] or type(error).__name__
            print(f"Left out: {name}, because {reason}\n")
            continue
        found[name] = peer
        if peer.computes is None:
            continue
        first = expected.setdefault(peer.computes, (name, output))
        # A few roundings, and sums in another order.
        tolerance = 8 * torch.finfo(input.dtype).eps * first[1].abs().max().item()
        distance = (output.float() - first[1].float()).abs().max().item()
        if not distance <= tolerance:
            raise RuntimeError(
                f"{name} does not give what {first[0]} gives: {distance:.1e} away, "
                f"{tolerance:.1e} would be rounding"
            )
    return found
