"""Checkpoints from strangers, read without running what they contain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from safetensors.torch import load_file
from torch import nn

from softpool_det.engine.compatibility import check_names, check_weights
from softpool_det.weights import read_metadata
from softpool_det.weights.architecture import COUNTER
from softpool_det.weights.names import format_of
from softpool_det.weights.pickles import check_origin, load_arrays


class SafeCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, for which a file can hold arrays and plain values only.

    A `.safetensors` has nothing else in it; where it has this package's metadata, weights that do
    not fit the model's images, strides or stem are refused. A `.pth` is read by torch.load with
    `weights_only`, its default. A `.pkl`, the format of Detectron2's model zoo, is a pickle that
    may call any function when it is read; here it may rebuild NumPy arrays and nothing else, and it
    has to be named by its address in that zoo.

    Args:
        model, save_dir, checkpointables: as for Detectron2's.
        trust_pickle: read a `.pkl` from elsewhere, too.
        allow_other_stem_pool: take weights that were trained with another pooling in the stem.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        trust_pickle: bool = False,
        allow_other_stem_pool: bool = False,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.trust_pickle = trust_pickle
        self.allow_other_stem_pool = allow_other_stem_pool

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint, as Detectron2's does.

        Raises:
            PermissionError: a `.pkl` from elsewhere than Detectron2's model zoo.
            ValueError: the metadata of a `.safetensors` do not fit the model, or the names in a
                file are torchvision's; says what to do.
        """
        if path:
            check_origin(path, self.trust_pickle)
        return super().load(path, *args, **kwargs)

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".safetensors"):
            loaded = self._load_safetensors(filename)
        else:
            if filename.endswith(".pkl"):
                # Detectron2 reads it after this; nothing but arrays has been found in it.
                load_arrays(Path(filename))
            loaded = super()._load_file(filename)
        check_names(self.model, loaded["model"], filename)
        return loaded

    def _load_safetensors(self, filename: str) -> dict[str, Any]:
        state_dict = load_file(filename)
        metadata = read_metadata(filename)
        if metadata is None:
            self.logger.warning(
                "%s does not say with which images and stem it was trained: nothing is compared "
                "with the config. Files of tools/convert_weights.py do.",
                filename,
            )
        elif format_of(state_dict) == "detectron2":
            check_weights(self.model, state_dict, metadata, self.allow_other_stem_pool)
        if not any(key.endswith(COUNTER) for key in self.model.state_dict()):
            state_dict = {k: v for k, v in state_dict.items() if not k.endswith(COUNTER)}
        # Weights of a backbone alone are found by the ends of their names, as Detectron2 does
        # for its own ImageNet weights.
        return {"model": state_dict, "matching_heuristics": True}
