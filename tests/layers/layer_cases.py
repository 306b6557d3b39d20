"""What the tests of all layers share: every pooling, its reference, and random cases."""

from __future__ import annotations

from operator import le

import layer_oracle as oracle
import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st
from layer_oracle import Window

from softpool_det.layers import POOLINGS, build_pooling

CHANNELS = 3
# A shape for each number of dimensions, none of whose sizes divides evenly.
SHAPES = {1: (2, CHANNELS, 13), 2: (2, CHANNELS, 7, 9), 3: (1, CHANNELS, 5, 5, 6)}
ALL = POOLINGS
# torch's own classes, with torch's own checks and memory formats.
OF_TORCH = ("AvgPool", "MaxPool")
OURS = tuple(name for name in ALL if name not in OF_TORCH)
# All others are weighted means of the window's elements.
NOT_MEANS = ("SumPool", "PowerAvgPool")
DRAWN = ("StochasticPool", "S3Pool", "LiteS3DPPPool")
FOR_CHANNELS = ("LiteDPPPool", "DPPPool", "LiteS3DPPPool", "LIPPool")
WITHOUT_DILATION = ("AvgPool",)
# With which a derivative is that of the values, and padding is never an element.
OPTIONS = {"SoftPool": {"gradient": "exact"}, "AvgPool": {"count_include_pad": False}}
# kernel, stride, padding, dilation, ceil_mode.
WINDOWS = [
    (2, 2, 0, 1, False),
    (3, 2, 1, 1, False),
    (3, 1, 1, 1, False),
    (5, 2, 2, 1, False),
    (2, 2, 0, 1, True),
    (3, 2, 1, 1, True),
    (3, 2, 1, 2, False),
]


def dims_of(name):
    return (2,) if name == "BlurPool" else (1, 2, 3)


EVERY = [(name, dims) for name in ALL for dims in dims_of(name)]
EVERY_OF_OURS = [(name, dims) for name, dims in EVERY if name in OURS]


def build(name, dims, *window, **options):
    """In float64 and for CHANNELS channels, with random parameters; in eval mode."""
    options = {"num_channels": CHANNELS, **OPTIONS.get(name, {}), **options}
    layer = build_pooling(name, dims, *window, **options).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.copy_(0.7 * noise)
    return layer


LEARNED = [name for name in ALL if [*build(name, dims_of(name)[-1], 2).parameters()]]


def to_layout(input: torch.Tensor, channels_last: bool) -> torch.Tensor:
    """Contiguous or with the channels last in memory, for any number of dimensions."""
    if not channels_last:
        return input.contiguous()
    return input.movedim(1, -1).contiguous().movedim(-1, 1)


def random_input(name, shape, seed=0, channels_last=False):
    """Of both signs, and without negative ones where only those are meant."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    if name == "PowerAvgPool":
        values = values.abs()
    return to_layout(values, channels_last)


def window_of(dims, kernel, stride=None, padding=0, dilation=1, ceil_mode=False) -> Window:
    numbers = (kernel, kernel if stride is None else stride, padding, dilation)
    many = [value if isinstance(value, tuple) else (value,) * dims for value in numbers]
    return Window(*many, ceil_mode)


def state_of(layer):
    return {name: value.double().numpy() for name, value in layer.state_dict().items()}


def expected_output(name, layer, values: np.ndarray, window: Window) -> np.ndarray:
    """By the formula, with the parameters that the layer has. Options are the default ones."""
    state = state_of(layer)
    if name in PLAIN:
        return PLAIN[name](values, window)
    if name == "PowerAvgPool":
        return oracle.power_average(values, window, 2)
    if name == "LPPool":
        return oracle.lp_of_rho(values, window, state["rho"])
    if name in ("MixedPool", "AdaPool"):
        function = oracle.mixed if name == "MixedPool" else oracle.ada
        return function(values, window, oracle.sigmoid(state["b"]))
    if name == "GatedPool":
        return oracle.gated(values, window, state["omega"])
    if name in ("LiteDPPPool", "DPPPool"):
        guide = state.get("guide.weight")
        return oracle.dpp(values, window, state["alpha"], state["lambda_"], guide=guide)
    if name == "LiteS3DPPPool":
        return oracle.lite_s3_dpp(values, window, state["detail.alpha"], state["detail.lambda_"])
    if name == "LIPPool":
        parameters = state["conv.weight"], state["norm.weight"], state["norm.bias"]
        return oracle.lip(values, window, oracle.lip_logits(values, *parameters))
    assert name == "BlurPool", f"{name} has no formula in PLAIN or here"
    return oracle.blur(values, window, 3)


PLAIN = {
    "AvgPool": oracle.average,
    "MaxPool": oracle.maximum,
    "SumPool": oracle.total,
    "StochasticPool": oracle.stochastic,
    "S3Pool": oracle.s3,
    "EDSCWPool": oracle.edscw,
    "SoftPool": oracle.soft,
}


def takes(name, window) -> bool:
    """Whether the layer and the reference know such a window.

    A blur has no stride of 1, and where that of cut windows ends is not in the formula.
    """
    if name == "BlurPool" and (window[1] == 1 or window[4]):
        return False
    return window[3] == 1 or name not in WITHOUT_DILATION


@st.composite
def random_cases(draw):
    """A layer's name, a shape and its window; no window lies wholly in the padding."""
    name = draw(st.sampled_from(ALL))
    dims = draw(st.sampled_from(dims_of(name)))
    largest = {1: 20, 2: 9, 3: 5}[dims]
    # The convolution's norm refuses a single element.
    least = 6 if name == "BlurPool" else 2
    sizes = draw(st.tuples(*[st.integers(least, largest)] * dims))
    kernel = draw(st.tuples(*[st.integers(1, 4 if dims < 3 else 3)] * dims))
    stride = draw(st.tuples(*[st.integers(1, 4)] * dims))
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    dilation = (1,) * dims
    if name not in WITHOUT_DILATION and draw(st.booleans()):
        dilation = draw(st.tuples(*[st.integers(1, 2)] * dims))
    numbers = (sizes, kernel, padding, dilation)
    assume(all(n + 2 * p >= (k - 1) * d + 1 for n, k, p, d in zip(*numbers, strict=True)))
    # torch's average pooling in 3 dimensions refuses kernels that are larger than the input.
    assume(name != "AvgPool" or all(map(le, kernel, sizes)))
    if name == "BlurPool":  # one stride, above 1; enough maxima to mirror
        stride = (stride[0] // 3 + 2,) * 2
        assume(all(n + 2 * p > (k - 1) * d + 4 for n, k, p, d in zip(*numbers, strict=True)))
    window = Window(kernel, stride, padding, dilation, draw(st.booleans()))
    assume(not oracle.has_empty_windows(sizes, window))
    return name, (draw(st.integers(1, 2)), CHANNELS, *sizes), window
