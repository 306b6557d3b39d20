"""The *pre-trained* setting of the paper's Table 2: another pooling in trained weights."""

from __future__ import annotations

import difflib
from pathlib import Path

from detectron2.config import CfgNode

from softpool_det.classification.compare import compare_predictions
from softpool_det.classification.run import evaluate_weights
from softpool_det.classification.weights import check_metadata
from softpool_det.engine.files import write_json


def compare_swapped(trained: CfgNode, swapped: CfgNode, weights: str, folder: Path) -> dict:
    """Evaluate weights as they were trained, and with another stem pooling without training.

    Writes both sets of predictions and `swap.json` into `folder`.

    Args:
        trained: the config that the weights fit.
        swapped: the same but for `MODEL.STEM_POOL`.
        weights: a .safetensors of the whole classifier.
        folder: for what is written.

    Returns:
        What `compare_predictions` returns, of the arms "as trained: ..." and "swapped: ...".

    Raises:
        ValueError: the configs differ in more than the pooling, or the weights do not fit the
            first.
    """
    _check_twins(trained, swapped)
    arms = {}
    for label, cfg in (("as trained", trained), ("swapped", swapped)):
        if cfg is trained and Path(weights).is_file():
            check_metadata(weights, cfg)
        predictions = evaluate_weights(cfg, weights, check=False)
        path = folder / f"{label.replace(' ', '_')}.npz"
        predictions.save(path)
        pool = cfg.MODEL.STEM_POOL
        arms[f"{label}: {pool.NAME} {pool.KERNEL_SIZE}x{pool.KERNEL_SIZE}"] = [path]
    comparison = compare_predictions(arms)
    write_json(folder / "swap.json", {"weights": weights, **comparison})
    return comparison


def _check_twins(trained: CfgNode, swapped: CfgNode) -> None:
    texts = []
    for cfg in (trained, swapped):
        # What an evaluation depends on.
        model = cfg.MODEL.clone()
        model.defrost()
        del model["STEM_POOL"]
        sizes = {key: cfg.INPUT[key] for key in ("MIN_SIZE_TEST", "CROP_SIZE_TEST")}
        seen = CfgNode({"MODEL": model, "INPUT": sizes, "DATASETS": {"TEST": cfg.DATASETS.TEST}})
        texts.append(seen.dump().splitlines())
    if texts[0] != texts[1]:
        before, after = texts
        changes = list(difflib.unified_diff(before, after, n=0, lineterm=""))[3:]
        raise ValueError(
            "the two configs must differ in MODEL.STEM_POOL alone, they also do in:\n  "
            + "\n  ".join(changes)
        )
