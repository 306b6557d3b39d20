"""The *pre-trained* setting of the paper's Table 2: another pooling in trained weights."""

from __future__ import annotations

import difflib
from pathlib import Path

from detectron2.config import CfgNode

from softpool_det.classification.compare import compare_predictions
from softpool_det.classification.run import evaluate_weights
from softpool_det.io.atomic import write_json


def compare_swapped(trained: CfgNode, swapped: CfgNode, folder: Path) -> dict:
    """Evaluate weights as they were trained, and with another stem pooling without training.

    Writes both sets of predictions and `swap.json` into `folder`.

    Args:
        trained: the config of the weights, which its `MODEL.WEIGHTS` names.
        swapped: the same but for `MODEL.STEM_POOL`.
        folder: for what is written.

    Returns:
        What `compare_predictions` returns, of the arms "as trained: ..." and "swapped: ...".

    Raises:
        ValueError: the configs differ in more than the pooling, or the weights do not fit the
            first.
    """
    _check_twins(trained, swapped)
    swapped = swapped.clone()
    swapped.defrost()
    swapped.MODEL.ALLOW_OTHER_STEM_POOL = True
    arms = {}
    for label, cfg in (("as trained", trained), ("swapped", swapped)):
        path = folder / f"{label.replace(' ', '_')}.npz"
        evaluate_weights(cfg).save(path)
        pool = cfg.MODEL.STEM_POOL
        arms[f"{label}: {pool.NAME} {pool.KERNEL_SIZE}x{pool.KERNEL_SIZE}"] = [path]
    comparison = compare_predictions(arms)
    write_json(folder / "swap.json", {"weights": trained.MODEL.WEIGHTS, **comparison})
    return comparison


def _check_twins(trained: CfgNode, swapped: CfgNode) -> None:
    before, after = _without_pool(trained), _without_pool(swapped)
    if before != after:
        changes = list(difflib.unified_diff(before, after, n=0, lineterm=""))[3:]
        raise ValueError(
            "the two configs must differ in MODEL.STEM_POOL alone, they also do in:\n  "
            + "\n  ".join(changes)
        )


def _without_pool(cfg: CfgNode) -> list[str]:
    """What an evaluation depends on besides, as lines."""
    model = cfg.MODEL.clone()
    model.defrost()
    del model["STEM_POOL"]
    sizes = {key: cfg.INPUT[key] for key in ("MIN_SIZE_TEST", "CROP_SIZE_TEST")}
    seen = {"MODEL": model, "INPUT": sizes, "DATASETS": {"TEST": cfg.DATASETS.TEST}}
    return CfgNode(seen).dump().splitlines()
