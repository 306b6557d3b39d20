"""What must be there before a detector is trained: data sets, weights, a place for results."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from softpool_det.datasets import ensure_dataset

WEIGHTS_HELP = """\
{key} names {path}, which does not exist. The configs start from ImageNet weights:
  stock R18/R34/R101: torchvision's ResNet weights;
  SoftPool: an ImageNet checkpoint trained with SoftPool, such as the authors'.
Convert the one that you have, SoftPool's with --stem-pool softpool:
  softpool-convert-weights CHECKPOINT {path}
or name another file in {key}, or train from scratch: with an empty {key}, and BN instead of
FrozenBN as the ResNet's norm."""


def check_inputs(datasets: Iterable[str], weights: str, weights_key: str = "MODEL.WEIGHTS") -> None:
    """Have the data sets ready and make sure that the weights file is there.

    Args:
        datasets: names in Detectron2's catalog; those that can be made here are.
        weights: a path, a URL or "" for none.
        weights_key: the config key that `weights` came from, for the error.

    Raises:
        FileNotFoundError: a file is missing; the text says how to get it.
    """
    if weights and "://" not in weights and not Path(weights).is_file():
        raise FileNotFoundError(WEIGHTS_HELP.format(key=weights_key, path=weights))
    for name in datasets:
        ensure_dataset(name)


def check_writable(folder: str | Path) -> None:
    """Make the output folder, and make sure, before hours of work, that files can be written there.

    Raises:
        OSError: they cannot; names the folder and says why.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**20))
    except OSError as error:
        raise OSError(
            f"the output folder {folder} cannot be written to: {error.strerror}"
        ) from error
