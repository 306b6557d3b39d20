"""Shapes, types, layouts and windows to measure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pooling.names import MAX, MAX_LAYER, STOCK_STEM, ZOO

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")
LAYOUTS = ("contiguous", "channels_last")

# Behind the first convolution of a detector at 800 x 1344, of a classifier at 224 x 224 and of a
# video network at 16 x 224 x 224.
DETECTION = (2, 64, 400, 672)
DETECTION_BATCH_16 = (16, 64, 400, 672)
CLASSIFICATION = (32, 64, 112, 112)
VIDEO = (2, 64, 8, 112, 112)
# A detector's next level, for windows without a fast path.
LEVEL = (2, 64, 200, 336)
# The exponents of 2 of the sweep's sizes.
SWEEP = range(16, 29, 2)
QUICK_SWEEP = range(16, 23, 2)
# What a case needs at most, in inputs: input, gradients, indices, copies, a norm's results.
INPUTS_NEEDED = 10


@dataclass(frozen=True)
class Window:
    """The same along every spatial dimension."""

    kernel: int
    stride: int
    padding: int
    dilation: int = 1

    def __str__(self) -> str:
        text = f"kernel {self.kernel} stride {self.stride} padding {self.padding}"
        return text + (f" dilation {self.dilation}" if self.dilation > 1 else "")

    @property
    def short(self) -> str:
        text = f"k{self.kernel}s{self.stride}" + (f"p{self.padding}" if self.padding else "")
        return text + (f"d{self.dilation}" if self.dilation > 1 else "")

    def out_size(self, size: int) -> int:
        extent = (self.kernel - 1) * self.dilation + 1
        return (size + 2 * self.padding - extent) // self.stride + 1


# The authors' ResNets' and the stock ResNet's.
WINDOW_2 = Window(2, 2, 0)
WINDOW_3 = Window(3, 2, 1)
WINDOWS = (WINDOW_2, WINDOW_3)
# The authors' kernel knows no padding.
WINDOW_3_UNPADDED = Window(3, 2, 0)
# Any others, in two dimensions.
OTHER_WINDOWS = (Window(5, 2, 2), Window(3, 1, 1), Window(3, 1, 1, dilation=2))


@dataclass(frozen=True)
class Case:
    """One table: every peer on one input."""

    group: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    window: Window

    @property
    def place(self) -> str:
        return f"{self.group} {'x'.join(map(str, self.shape))}"

    def __str__(self) -> str:
        return f"{self.place} {self.dtype} {self.layout} {self.window.short}"

    def matches(self, words: str) -> bool:
        """Whether its text has each of the words."""
        return all(word in str(self) for word in words.split())

    @property
    def dims(self) -> int:
        return len(self.shape) - 2

    @property
    def baseline(self) -> str:
        """The peer that the others' times are divided by."""
        return {"fused stem": STOCK_STEM, ZOO: MAX_LAYER}.get(self.group, MAX)

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def out_elements(self) -> int:
        sizes = (self.window.out_size(size) for size in self.shape[2:])
        return math.prod(self.shape[:2]) * math.prod(sizes)

    @property
    def bytes_needed(self) -> int:
        return INPUTS_NEEDED * self.elements * (4 if self.dtype == "float32" else 2)

    def as_json(self) -> dict:
        return {**asdict(self), "shape": list(self.shape)}

    def new_input(self, device: str) -> torch.Tensor:
        """Standard normal values, the same for the same shape."""
        import torch

        generator = torch.Generator(device).manual_seed(1)
        input = torch.randn(self.shape, device=device, generator=generator).to(
            getattr(torch, self.dtype)
        )
        if self.layout == "contiguous":
            return input
        last = torch.channels_last if self.dims == 2 else torch.channels_last_3d
        return input.contiguous(memory_format=last)


def on_every_kind(
    group: str,
    shape: tuple[int, ...],
    kinds: list[tuple[str, str]],
    windows: Iterable[Window] = WINDOWS,
) -> list[Case]:
    """A case for each (dtype, layout) and window."""
    return [Case(group, shape, *kind, window) for kind in kinds for window in windows]


def kinds(*dtypes: str) -> list[tuple[str, str]]:
    """Every dtype in both layouts."""
    return [(dtype, layout) for dtype in dtypes for layout in LAYOUTS]


# What the CPU's targets are about: the stem's, and other windows'.
CPU_TARGET_KINDS = [*kinds("float32"), ("bfloat16", "channels_last")]
WINDOW_KINDS = kinds("float32", "bfloat16")


def target_kinds(device: str) -> list[tuple[str, str]]:
    return kinds(*DTYPES) if device == "cuda" else CPU_TARGET_KINDS


def main_cases(device: str) -> list[Case]:
    """Those that the targets are about, without the fused stem."""
    shapes = [DETECTION, DETECTION_BATCH_16] if device == "cuda" else [DETECTION]
    return [c for s in shapes for c in on_every_kind("detection stem", s, target_kinds(device))]


def fused_cases(device: str, shape: tuple[int, ...] = DETECTION) -> list[Case]:
    """The stem after its convolution."""
    which = target_kinds("cuda") if device == "cuda" else kinds("float32")
    return on_every_kind("fused stem", shape, which)


def window_cases() -> list[Case]:
    """Other windows than the stem's that have targets, and those in three dimensions."""
    return [
        *on_every_kind("other windows", LEVEL, WINDOW_KINDS, OTHER_WINDOWS),
        *on_every_kind("video stem", VIDEO, WINDOW_KINDS),
    ]


def sweep_cases(exponents: range, free_bytes: int) -> tuple[list[Case], list[int]]:
    """Growing inputs, and the exponents that do not fit into `free_bytes`."""
    cases, left_out = [], []
    for exponent in exponents:
        # 64 channels of one image, as square as powers of two allow.
        rows = 2 ** ((exponent - 6) // 2)
        shape = (1, 64, rows, 2**exponent // 64 // rows)
        case = Case("sweep", shape, "float32", "contiguous", WINDOW_2)
        if case.bytes_needed <= free_bytes:
            cases.append(case)
        else:
            left_out.append(exponent)
    return cases, left_out


def other_cases(device: str) -> list[Case]:
    """The rest of a full run, without the sweep."""
    rest = [kind for kind in kinds(*DTYPES) if kind not in target_kinds(device)]
    some = kinds(*DTYPES) if device == "cuda" else kinds("float32", "bfloat16")
    windows = [WINDOW_2, WINDOW_3_UNPADDED] if device == "cuda" else [WINDOW_2]
    return [
        *on_every_kind("detection stem", DETECTION, rest),
        *on_every_kind("classification stem", CLASSIFICATION, some),
        *on_every_kind("video stem", VIDEO, [kind for kind in some if kind not in WINDOW_KINDS]),
        *(Case("formulations", DETECTION, "float32", "contiguous", window) for window in windows),
    ]


def zoo_cases() -> list[Case]:
    """Every layer, as in the paper's Table 3, in the authors' window."""
    return on_every_kind(ZOO, LEVEL, kinds("float32"), [WINDOW_2])


def given_cases(shape: tuple[int, ...], device: str, quick: bool) -> list[Case]:
    """Every kind of case for a shape of the user's."""
    cases = on_every_kind("given shape", shape, target_kinds(device))
    if not quick:
        cases.append(Case("formulations", shape, "float32", "contiguous", WINDOW_2))
    return cases + (fused_cases(device, shape) if len(shape) == 4 else [])
