"""Weights for the video networks: the authors' checkpoints, torchvision's and our own."""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn

from softpool_det.weights.entries import state_dicts
from softpool_det.weights.sources import read_file

# DataParallel's and torch.compile's.
_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.)+")
# The authors put each 3x3x3 convolution into a Sequential of its own.
_AUTHORS_CONV = re.compile(r"(layer\d\.\d+\.conv[12]\.0)\.0\.weight$")


def load_weights(model: nn.Module, file: str | Path) -> list[str]:
    """Load a checkpoint into a network, by name; its last layer only if the classes are as many.

    Args:
        model: of `build_network`.
        file: `.pth`, `.pt` or `.safetensors`, of which no code is run: a state dict, or what a
            training wrote with a state dict in it (the authors' SRTG code, MF-Net, PySlowFast).

    Returns:
        Names of the parameters that keep their own values: none, or those of the last layer.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds code, or the weights of another network; the text has the names.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, must be a checkpoint")
    found = [tensors for _, tensors in state_dicts(read_file(path))]
    own = model.state_dict()
    # A training's checkpoint has the optimizer's tensors, too.
    renamed = [{_renamed(name, own): value for name, value in old.items()} for old in found]
    state = max(renamed, key=lambda new: len(new.keys() & own.keys()), default={})
    fitting = {n: v for n, v in state.items() if n in own and v.shape == own[n].shape}
    kept = [name for name in own if name not in fitting]
    last = [name for name, _ in model.named_parameters()][-2:]
    wrong = [*(name for name in kept if name not in last), *(state.keys() - own.keys())]
    if wrong or not state.keys() >= set(last):
        raise ValueError(
            f"{path} holds the weights of another network than {type(model).__name__}: what is "
            f"called {', '.join((wrong or last)[:3])} is in one alone, or has another shape"
        )
    model.load_state_dict(fitting, strict=False)
    return kept


def _renamed(name: str, own: dict) -> str:
    name = _WRAPPERS.sub("", name)
    shorter = _AUTHORS_CONV.sub(r"\1.weight", name)
    return shorter if shorter in own else name
