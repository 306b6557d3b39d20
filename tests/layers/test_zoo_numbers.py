"""Numbers that were computed once by other code: outputs and gradients for one 4x4 input.

Six digits. The gradients are for the upstream gradient 1 2 / 3 4, windows are 2x2 with stride 2.
"""

from __future__ import annotations

import math

import layer_oracle as oracle
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from layer_cases import window_of

from softpool_det.layers import build_pooling

EXACT = {"rtol": 0, "atol": 1.1e-6}


def rows(text):
    return torch.tensor(
        [[float(number) for number in row.split()] for row in text.split("/")], dtype=torch.float64
    )


X = rows(".1 .9 .3 .4 / .5 .2 .8 .6 / 0 .7 1 .25 / .35 .45 .15 .05")
G = rows("1 2 / 3 4")
OMEGA = rows(".5 -.25 / 1 .25")
LOGITS = rows("0 1 2 3 / 1 0 -1 1 / 2 2 0 0 / -2 0 .5 -.5")
AVERAGE = ".25 .25 .5 .5 / .25 .25 .5 .5 / .75 .75 1 1 / .75 .75 1 1"
POWER = (
    ".094916 .854242 .536656 .715542 / .474579 .189832 1.431084 1.073313 / "
    "0 2.326165 3.835706 .958927 / 1.163082 1.495392 .575356 .191785"
)
GATED = (
    ".706517 .726041 / .560700 .774106",
    ".159169 .665832 .188539 .107437 / .216504 .130501 1.704724 .161505 / "
    ".440853 1.975919 3.228669 .208494 / .560244 .381157 .937744 .500194",
)
DPP = (
    ".456737 .535040 / .358726 .452134",
    ".319375 .385228 .662505 .387496 / .065029 .230367 .735225 .214774 / "
    "1.251040 1.214147 1.505427 .508082 / .164384 .370429 .832350 1.154141",
)
DPP_BY_SUMS = (
    ".445748 .531599 / .364509 .420722",
    ".295182 .337388 .607056 .424938 / .131283 .236147 .653719 .314287 / "
    "1.072175 1.049966 1.329447 .674022 / .376230 .501629 .890520 1.106011",
)
LIP = (
    ".882406 .755098 / .666542 .997357",
    ".119718 .938842 .008313 -.080163 / -.102614 .084049 2.038121 -.162478 / "
    ".138075 3.313137 3.889293 .030691 / -.151697 -.282411 .088920 .130203",
)
STOCHASTIC = (
    ".652941 .595238 / .543333 .75",
    "-.266436 .674740 .004535 .195011 / .204152 -.148789 .956916 .575964 / "
    "-1.086667 1.713333 3.448276 -.689655 / .313333 .713333 -1.241379 -1.793103",
)
SOFT = (
    ".527250 .562520 / .435258 .525488",
    ".098368 .524704 .288995 .362697 / .249234 .127694 .799514 .548793 / "
    ".282318 1.273198 2.579483 .598700 / .648918 .795566 .466955 .354862",
)
# name, options, parameters, output, input gradient.
TABLE = [
    ("avg", {}, {}, ".425 .525 / .375 .3625", AVERAGE),
    ("max", {}, {}, ".9 .8 / .7 1", "0 1 0 0 / 0 0 2 0 / 0 3 4 0 / 0 0 0 0"),
    ("sum", {}, {}, "1.7 2.1 / 1.5 1.45", "1 1 2 2 / 1 1 2 2 / 3 3 4 4 / 3 3 4 4"),
    ("poweravg", {}, {}, "1.053565 1.118034 / .902774 1.042833", POWER),
    ("lp", {"p": 2.0}, {}, ".526783 .559017 / .451387 .521416", (rows(POWER) / 2)),
    (
        "mixed",
        {"mix": 0.3},
        {},
        ".5675 .6075 / .4725 .55375",
        ".175 .475 .35 .35 / .175 .175 .95 .35 / .525 1.425 1.9 .7 / .525 .525 .7 .7",
    ),
    ("gated", {}, {"omega": OMEGA}, *GATED),
    ("litedpp", {}, {}, *DPP),
    # The authors' CUDA code divides by the sum of a window: an alpha that is larger by log 2.
    ("litedpp", {}, {"alpha": torch.tensor([math.log(2)])}, *DPP_BY_SUMS),
    ("lip", {}, {"conv.weight": torch.tensor([0.0] * 4 + [1.0] + [0.0] * 4)}, *LIP),
    ("stochastic", {}, {}, *STOCHASTIC),
    (
        "s3",
        {},
        {},
        ".875 .75 / .65 .3625",
        "0 .5 0 0 / 0 0 .5 1 / 0 1 2.5 1 / 0 1.5 1 1",
    ),
    ("softpool", {"gradient": "exact"}, {}, *SOFT),
]


def build(name, options, parameters, *window):
    layer = build_pooling(name, 2, *window, num_channels=1, **options).double().eval()
    state = dict(layer.named_parameters())
    with torch.no_grad():
        for key, value in parameters.items():
            state[key].copy_(value.reshape(state[key].shape))
    return layer


def output_and_gradients(layer):
    """For X and G: the output, and gradients of X and of the parameters by name."""
    input = X.clone().requires_grad_()
    output = layer(input[None])[0]
    names, leaves = zip(*[("input", input), *layer.named_parameters()], strict=True)
    grads = torch.autograd.grad(output, leaves, G)
    return output, dict(zip(names, grads, strict=True))


@pytest.mark.parametrize(
    ("name", "options", "parameters", "output", "grad_input"), TABLE, ids=[row[0] for row in TABLE]
)
def test_outputs_and_input_gradients(name, options, parameters, output, grad_input):
    layer = build(name, options, parameters, 2)
    actual, grads = output_and_gradients(layer)
    torch.testing.assert_close(actual, rows(output), **EXACT)
    expected = grad_input if isinstance(grad_input, torch.Tensor) else rows(grad_input)
    torch.testing.assert_close(grads["input"], expected, **EXACT)


def test_gradients_of_parameters():
    # By mix it is 4.55, by the logit of mix that times 0.3 * 0.7.
    for name, options, parameters, expected in (
        ("mixed", {"mix": 0.3}, {}, {"b": [4.55 * 0.21]}),
        ("gated", {}, {"omega": OMEGA}, {"omega": [0.627308, 0.459456, 0.314928, 0.224438]}),
        ("litedpp", {}, {}, {"alpha": [-0.193806], "lambda_": [0.404155]}),
    ):
        _, grads = output_and_gradients(build(name, options, parameters, 2))
        for key, numbers in expected.items():
            wanted = torch.tensor(numbers, dtype=torch.float64)
            torch.testing.assert_close(grads[key].reshape(-1), wanted, **EXACT)


def test_gradient_of_p():
    """dy/dp by its formula, and dp/drho = sigmoid(rho)."""
    layer = build("lp", {"p": 3.0}, {}, 2)
    torch.testing.assert_close(layer.rho.item(), 1.854587, **EXACT)
    output, grads = output_and_gradients(layer)
    windows = X.unfold(0, 2, 2).unfold(1, 2, 2).reshape(2, 2, 4)
    p = 1 + F.softplus(layer.rho.detach())
    powers = windows**p
    logarithms = torch.where(windows > 0, powers * windows.log(), 0).sum(-1)
    slope = logarithms / (p * powers.sum(-1)) - powers.mean(-1).log() / p**2
    expected = (G * output * slope).sum() * layer.rho.sigmoid()
    torch.testing.assert_close(grads["rho"].sum(), expected.sum(), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("name", "options", "output"),
    [
        ("max", {}, ".9 .9 / .7 1"),
        ("sum", {}, "1.7 3.2 / 2.2 4.2"),
        ("poweravg", {}, "1.053565 1.449138 / 1.051190 1.679286"),
        ("lp", {}, ".526783 .591608 / .429146 .559762"),
    ],
)
def test_padding_is_no_element(name, options, output):
    layer = build(name, options, {}, 3, 2, 1)
    torch.testing.assert_close(layer(X[None])[0], rows(output), **EXACT)


def test_other_temperatures():
    for beta, output in (
        (4.44, ".801871 .679054 / .581649 .943779"),
        (255.0, ".9 .8 / .7 1"),
    ):
        layer = build("softpool", {"beta": beta}, {}, 2)
        torch.testing.assert_close(layer(X[None])[0], rows(output), **EXACT)


def test_rows_and_columns_that_are_drawn():
    """Rows 0 and 3, columns 1 and 2: one draw of sixteen."""
    generator = torch.Generator()
    layer = build("s3", {"generator": generator}, {}, 2).train()
    wanted = rows(".9 .8 / .45 .15")
    for seed in range(500):
        generator.manual_seed(seed)
        output, grads = output_and_gradients(layer)
        if torch.equal(output, wanted):
            expected = rows("0 1 0 0 / 0 0 2 0 / 0 0 0 0 / 0 3 4 0")
            torch.testing.assert_close(grads["input"], expected, **EXACT)
            return
    pytest.fail("no draw of 500 gave it")


def test_the_reference_has_these_numbers_too():
    """The formulas in NumPy, by which the other tests judge."""
    values, window, zero = X.numpy()[None, None], window_of(2, 2), np.zeros(1)
    centre = np.zeros((1, 1, 3, 3))
    centre[..., 1, 1] = 1
    for actual, expected in (
        (oracle.average(values, window), TABLE[0][3]),
        (oracle.lp(values, window, 2.0), TABLE[4][3]),
        (oracle.power_average(values, window, 2), TABLE[3][3]),
        (oracle.mixed(values, window, 0.3), TABLE[5][3]),
        (oracle.gated(values, window, OMEGA.numpy()), GATED[0]),
        (oracle.dpp(values, window, zero, zero), DPP[0]),
        (oracle.dpp(values, window, zero + math.log(2), zero), DPP_BY_SUMS[0]),
        (oracle.lip(values, window, LOGITS.numpy()[None, None]), ".552082 .398426 / .356284 .359"),
        (oracle.lip(values, window, oracle.lip_logits(values, centre, [1], [0])), LIP[0]),
        (oracle.stochastic(values, window), STOCHASTIC[0]),
        (oracle.s3(values, window), ".875 .75 / .65 .3625"),
        (oracle.soft(values, window), SOFT[0]),
        (oracle.soft(values, window, 4.44), ".801871 .679054 / .581649 .943779"),
        (oracle.total(values, window_of(2, 3, 2, 1)), "1.7 3.2 / 2.2 4.2"),
    ):
        torch.testing.assert_close(torch.from_numpy(actual[0, 0]), rows(expected), **EXACT)
