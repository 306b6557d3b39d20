"""Write checkpoints atomically, and read them without running what they contain."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from fvcore.common.checkpoint import _filter_reused_missing_keys
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from softpool_det.io.archives import first_whole, save_archive
from softpool_det.io.atomic import write_atomically
from softpool_det.io.data_errors import DataError
from softpool_det.layers.learning import pooling_parameters
from softpool_det.weights import read_metadata
from softpool_det.weights.architecture import COUNTER
from softpool_det.weights.compatibility import (
    check_names,
    check_stem_pool,
    check_weights,
    stem_pool_of,
)
from softpool_det.weights.completeness import check_complete
from softpool_det.weights.layouts import check_states
from softpool_det.weights.names import format_of
from softpool_det.weights.pickled_arrays import load_arrays
from softpool_det.weights.pickles import check_origin, find_fault, reason_of
from softpool_det.weights.values import as_tensors, check_values

TAG_FILE = "last_checkpoint"
STEM_POOL = "stem_pool"
# The name of the checkpoint that was best so far; runs do not resume from it.
BEST = "model_best"


class SafeCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, for which a file can hold arrays and plain values only.

    A `.safetensors` has nothing else in it; where it has this package's metadata, weights that do
    not fit the model's images, strides or stem are refused. A `.pth` is read by torch.load with
    `weights_only`, its default; those of this class say how the stem pools, which is compared, too.
    A `.pkl`, the format of Detectron2's model zoo, is a pickle that may call any function when it
    is read; here it may rebuild NumPy arrays and nothing else, and it has to be named by its
    address in that zoo. Whatever the format, weights that are NaN or infinite are refused.

    Args:
        model, save_dir, checkpointables: as for Detectron2's.
        trust_pickle: read a `.pkl` from elsewhere, too.
        allow_other_stem_pool: take weights that were trained with another pooling in the stem.
        complete: refuse a file that lacks part of the model, for inference.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        trust_pickle: bool = False,
        allow_other_stem_pool: bool = False,
        complete: bool = False,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.trust_pickle, self.is_resumed, self._given = trust_pickle, False, ""
        self.allow_other_stem_pool, self.complete = allow_other_stem_pool, complete
        self._states: Iterable[str] = ()

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint, as Detectron2's does.

        Raises:
            DataError: the file is cut off or damaged, or needs code to be read, which has not run.
            PermissionError: a `.pkl` from elsewhere than Detectron2's model zoo.
            ValueError: the metadata of a `.safetensors` do not fit the model, the names in a file
                are torchvision's or in another entry, or weights (or what is loaded of an
                optimizer) are NaN, infinite or variances below 0; says what to do. Or a file that
                must be `complete` lacks part of the model.
        """
        if path:
            check_origin(path, self.trust_pickle)
        self._given = path
        self._states = self.checkpointables if checkpointables is None else checkpointables
        return super().load(path, checkpointables)

    def save(self, name: str, **kwargs: Any) -> None:
        """Write `name`.pth atomically, and note that it is the last, unless it is `BEST`.

        Raises:
            OSError: it cannot be written; what was there before still is.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: part.state_dict() for key, part in self.checkpointables.items()}
        pool = stem_pool_of(self.model)
        if pool is not None:
            states[STEM_POOL] = dataclasses.asdict(pool)
        path = Path(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        save_archive(path, {"model": self.model.state_dict(), **states, **kwargs})
        if name != BEST:
            self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_atomically(Path(self.save_dir, TAG_FILE), last_filename_basename)

    def load_to_evaluate(self, path: str, resume: bool) -> None:
        """Load `path`; with `resume` what the folder notes as its model, the best one if chosen.

        Raises:
            DataError: there is neither, so that random weights would be evaluated.
        """
        best = Path(self.save_dir, f"{BEST}.pth")
        note = Path(self.save_dir, TAG_FILE)
        if resume and best.is_file() and note.is_file() and note.read_text().strip() == best.name:
            self.load(str(best), checkpointables=[])
        elif path or (resume and self.has_checkpoint()):
            self.resume_or_load(path, resume=resume)
        elif resume:
            raise DataError(
                f"--eval-only --resume needs a checkpoint, and {self.save_dir} has none"
            )
        else:
            raise DataError(
                "--eval-only needs trained weights: name them as MODEL.WEIGHTS (LazyConfig: "
                f"train.init_checkpoint), or add --resume to take those in {self.save_dir}"
            )

    def has_checkpoint(self) -> bool:
        return bool(self._newest_first())

    def _newest_first(self) -> list[Path]:
        """List the checkpoints that a run may resume from, newest first.

        The one noted as the last comes first, unless a kill came between writing a checkpoint and
        noting it. Those of earlier iterations follow.
        """
        note, found = Path(self.save_dir, TAG_FILE), {}
        for path in Path(self.save_dir).glob("model_*.pth"):
            number = path.stem.removeprefix("model_")
            if number == "final" or number.isdigit():
                found[path] = math.inf if number == "final" else int(number)
        ordered = sorted(found, key=lambda path: found[path], reverse=True)
        if not note.is_file():
            return ordered
        name, noted_at = note.read_text(errors="replace").strip(), note.stat().st_mtime_ns
        since = [path for path in ordered if path.stat().st_mtime_ns > noted_at]
        # Without a name a run started over, and none of the earlier checkpoints is its own.
        noted = found.get(Path(self.save_dir, name), math.inf if name else -1)
        return since + [path for path in ordered if found[path] <= noted and path not in since]

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Resume from the newest undamaged checkpoint, or load `path`.

        Damaged ones are named and skipped. If all are damaged, the run starts over.
        `is_resumed` says which it was.

        Returns:
            What else is in the file.
        """
        newest = first_whole(self._newest_first() if resume else (), self.logger)
        if newest is not None:
            self.is_resumed = True
            return self.load(str(newest))
        loaded = self.load(path, checkpointables=[])
        if self.save_dir and self.save_to_disk and not resume and self.checkpointables:
            self.tag_last_checkpoint("")
        return loaded

    def _load_file(self, filename: str) -> dict[str, Any]:
        check_origin(self._given, self.trust_pickle, filename)
        if filename.endswith(".safetensors"):
            loaded = self._load_safetensors(filename)
        else:
            loaded = self._load_whole(filename)
            recorded = loaded.pop(STEM_POOL, None)
            if recorded is not None and not self.allow_other_stem_pool:
                check_stem_pool(self.model, recorded, filename)
        self._check(loaded, filename)
        return loaded

    def _check(self, loaded: dict[str, Any], filename: str) -> None:
        weights = loaded["model"]
        if not isinstance(weights, Mapping) or not all(isinstance(key, str) for key in weights):
            raise DataError(f"{filename}: its entry 'model' is not a state dict")
        others = check_names(self.model, loaded, filename)
        if others:
            self.logger.warning(
                "%s: loaded 'model'; the file also holds %s, which was not loaded",
                filename,
                ", ".join(others),
            )
        # All of it: which parts the model takes is found out later, and weights with NaN in any
        # part come from a training that failed.
        check_values(as_tensors(weights), filename)
        check_states({key: loaded[key] for key in self._states if key in loaded}, filename)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        """Detectron2's; a stock file lacks what a pooling learns, which needs no warning."""
        incompatible = super()._load_model(checkpoint)
        learned = pooling_parameters(self.model)
        for name in learned:
            if name in incompatible.missing_keys:
                incompatible.missing_keys.remove(name)
                self.logger.info(
                    "%s was not loaded: this pooling parameter keeps its initial value", name
                )
        if self.complete:
            # By any of its names, should it have several.
            missing = _filter_reused_missing_keys(self.model, incompatible.missing_keys)
            shapes = {key: shape for key, shape, _ in incompatible.incorrect_shapes}
            if self.allow_other_stem_pool:
                shapes = {key: shape for key, shape in shapes.items() if key not in learned}
                missing = [key for key in missing if key not in learned]
            check_complete(self.model, missing, shapes, self._given)
        return incompatible

    def _load_whole(self, filename: str) -> dict[str, Any]:
        """Detectron2's reading; torch.load takes a changed bit without a word."""
        with open(filename, "rb") as file:
            start = file.read(2)
        damage = find_fault(Path(filename))
        if not filename.endswith(".pkl") and start != b"PK" and start[:1] != pickle.PROTO:
            damage = "it is not a PyTorch checkpoint"
        if damage is not None:
            raise DataError(f"{filename}: {damage}")
        try:
            if filename.endswith(".pkl"):
                return self._load_pickle(Path(filename))
            return super()._load_file(filename)
        except OSError:
            raise
        except Exception as error:  # whatever bytes lead to
            raise DataError(
                f"{filename} holds more than tensors and plain values, or is not a checkpoint; "
                f"nothing of it was run ({reason_of(error)})"
            ) from error

    def _load_pickle(self, path: Path) -> dict[str, Any]:
        """Read a `.pkl` with Detectron2's own reader, which unpickles anything."""
        data = load_arrays(path)
        if "model" in data and "__author__" in data:
            return data | {"model": as_tensors(data["model"])}
        blobs = as_tensors(data.get("blobs", data))
        weights = {key: value for key, value in blobs.items() if not key.endswith("_momentum")}
        return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}

    def _load_safetensors(self, filename: str) -> dict[str, Any]:
        try:
            state_dict = load_file(filename)
        except SafetensorError as error:
            raise DataError(f"{filename}: it is cut off or damaged ({error})") from error
        metadata = read_metadata(filename)
        if metadata is None:
            self.logger.warning(
                "%s does not say with which images and stem it was trained: nothing is compared "
                "with the config. Files of softpool-convert-weights do.",
                filename,
            )
        elif format_of(state_dict) == "detectron2":
            check_weights(self.model, state_dict, metadata, self.allow_other_stem_pool)
        if not any(key.endswith(COUNTER) for key in self.model.state_dict()):
            state_dict = {k: v for k, v in state_dict.items() if not k.endswith(COUNTER)}
        # Weights of a backbone alone are found by the ends of their names, as Detectron2 does
        # for its own ImageNet weights.
        return {"model": state_dict, "matching_heuristics": True}
