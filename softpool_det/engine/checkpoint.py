"""Checkpoints from strangers, read without running what they contain."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from safetensors.torch import load_file

# What pickled arrays refer to, from Python 2 (protocol 2) to now; numpy.core is the name
# that numpy._core had before NumPy 2.
_ARRAY_PARTS = {
    *((f"numpy.{core}.multiarray", "_reconstruct") for core in ("core", "_core")),
    *((f"numpy.{core}.multiarray", "scalar") for core in ("core", "_core")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
}


class SafeCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, for which a file can hold arrays and plain values only.

    A `.safetensors` has nothing else in it. A `.pth` is read by torch.load with `weights_only`,
    its default. A `.pkl`, the format of Detectron2's model zoo, is a pickle that may call any
    function when it is read; here it may rebuild NumPy arrays and nothing else.
    """

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".safetensors"):
            # Weights of a backbone alone are found by the ends of their names, as Detectron2 does
            # for its own ImageNet weights.
            return {"model": load_file(filename), "matching_heuristics": True}
        if filename.endswith(".pkl"):
            _check_pickle(Path(filename))
        return super()._load_file(filename)


def _check_pickle(path: Path) -> None:
    """Raise UnpicklingError if the file needs more than NumPy arrays and plain values."""
    with path.open("rb") as file:
        _ArrayUnpickler(file, encoding="latin1").load()


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_PARTS:
            raise pickle.UnpicklingError(
                f"the checkpoint calls {module}.{name}; a .pkl of weights holds NumPy arrays and "
                "plain values only. Load it where you trust it, and save its state dict with "
                "torch.save as .pth"
            )
        return super().find_class(module, name)
