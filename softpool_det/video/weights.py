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
    last = [name for name, _ in model.named_parameters()][-2:]
    kept = [name for name in last if name in state and state[name].shape != own[name].shape]
    problems = [f"{name} is missing" for name in own if name not in state]
    problems += [f"it has {name}, too" for name in state if name not in own]
    problems += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and name not in kept and state[name].shape != value.shape
    ]
    if problems:
        raise ValueError(
            f"{path} holds the weights of another network than {type(model).__name__}: "
            f"{'; '.join(problems[:3])}{f'; {len(problems) - 3} more' if problems[3:] else ''}"
        )
    model.load_state_dict({name: state[name] for name in own if name not in kept}, strict=False)
    return kept


def _renamed(name: str, own: dict) -> str:
    name = _WRAPPERS.sub("", name)
    shorter = _AUTHORS_CONV.sub(r"\1.weight", name)
    return shorter if shorter in own else name
