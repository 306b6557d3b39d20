"""A trained detector for images: of a run's folder, or of a config and a checkpoint."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.config import CfgNode, instantiate
from detectron2.data import Metadata, MetadataCatalog
from detectron2.data.detection_utils import build_augmentation
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances
from omegaconf import DictConfig

from softpool_det.config import load_config
from softpool_det.datasets import register_datasets, use_json_files
from softpool_det.datasets.json_files import class_remarks, data_sets_of
from softpool_det.io.data_errors import DataError
from softpool_det.io.images import read_bgr
from softpool_det.io.video import frames, open_video
from softpool_det.training.detector import load_detector
from softpool_det.training.exported import (
    MANIFEST,
    OnnxDetector,
    find_manifest,
    manifest_augmentations,
    manifest_metadata,
    read_manifest,
)

ImageLike = str | Path | np.ndarray

logger = logging.getLogger(__name__)


class Predictor:
    """Finds objects in images.

    Example:
        >>> predictor = Predictor("output/trees/SoftPool/seed_1")
        >>> instances = predictor("photo.jpg")
        >>> results = predictor.coco(["photo.jpg", "other.jpg"], image_ids=[1, 2])

    Args:
        source: the folder of a run, a config file (YAML or LazyConfig), or a config that was read;
            or what softpool-export wrote (its folder, `model.json` or `model.onnx`), which runs in
            onnxruntime on the CPU and takes none of the other arguments but `batch_size`.
        weights: a path or URL of the checkpoint; default: the last one in the run's folder, which
            is that which the config writes to.
        overrides: as for :func:`softpool_det.config.load_config`.
        batch_size: images that the model gets at a time. With more than one they are padded to a
            common size, which changes what is found: use 1 to reproduce an AP.
        trust_lazy_config: as for :func:`softpool_det.config.load_config`.

    Attributes:
        cfg: the config; None of an exported detector.
        model: in evaluation mode, on the config's device; or an `OnnxDetector`.
        image_format: the channel order that the model gets, RGB or BGR.
        augmentations: Detectron2's, of an image before the model gets it.
        metadata: Detectron2's, of the config's first test set, or else of its first training set;
            `thing_classes` has the names of the classes, where the data are here. An exported
            detector has the names in its manifest.

    Raises:
        FileNotFoundError: the config, folder, checkpoint or exported file does not exist.
        ImportError: an exported detector, and onnxruntime is not installed.
        PermissionError: a LazyConfig that is not trusted.
        ValueError: the config cannot be used, the folder is of a run of a LazyConfig,
            `batch_size` is less than 1, or an exported file is not what its manifest says.
    """

    model: Any

    def __init__(
        self,
        source: str | Path | CfgNode | DictConfig,
        weights: str | Path | None = None,
        overrides: Sequence[str] = (),
        *,
        batch_size: int = 1,
        trust_lazy_config: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size
        if isinstance(source, str | Path) and "://" not in str(source):
            _check_source(Path(source))
        manifest = find_manifest(Path(source)) if isinstance(source, str | Path) else None
        if manifest is not None:
            if weights is not None or overrides:
                raise ValueError(
                    f"{source} is an exported detector: leave out weights and overrides"
                )
            self._read_exported(manifest, Path(source))
            return
        register_datasets()
        cfg: Any = source
        if isinstance(source, str | Path):
            cfg = load_config(str(_config_file(Path(source))), overrides, trust_lazy_config)
        try:
            cfg = use_json_files(cfg, training=not data_sets_of(cfg, "test"))
        except DataError as error:
            # What a detector was trained on need not be where it is used; what is named here is.
            if any("_json" in word.lower() for word in overrides):
                raise
            logger.warning("names of classes are not known: %s", error)
        for remark in class_remarks(cfg, overrides):
            logger.warning(remark)
        self.cfg = cfg
        self.image_format, self.augmentations = _preparation(cfg)
        folder = Path(cfg.OUTPUT_DIR if isinstance(cfg, CfgNode) else cfg.train.output_dir)
        if isinstance(source, str | Path) and Path(source).is_dir():
            folder = Path(source)
        self.model = load_detector(cfg, _checkpoint(folder) if weights is None else weights)
        self.metadata = dataset_metadata(cfg)

    def _read_exported(self, path: Path, source: Path) -> None:
        manifest = read_manifest(path)
        named = manifest["files"].get("onnx", {}).get("file")
        if source.suffix == ".onnx" and source.name != named:
            raise ValueError(f"{source}: {path} is about {named}; give that, or its own manifest")
        self.cfg = None
        self.image_format = manifest["input"]["channel_order"]
        self.augmentations = manifest_augmentations(manifest)
        self.metadata = manifest_metadata(manifest)
        self.model = OnnxDetector(path.parent, manifest)

    @overload
    def __call__(self, images: ImageLike) -> Instances: ...
    @overload
    def __call__(self, images: Sequence[ImageLike]) -> list[Instances]: ...
    def __call__(self, images: ImageLike | Sequence[ImageLike]) -> Instances | list[Instances]:
        """Detect objects in an image, or in several.

        Args:
            images: a path, or BGR pixels, uint8 (H, W, 3); or a list of those.

        Returns:
            `Instances` on the CPU with pred_boxes in pixels of the image, scores, pred_classes and,
            where the model has them, pred_masks (N, H, W); or a list of them.

        Raises:
            FileNotFoundError, ValueError: an image is not there, cannot be read, or is neither path
                nor such pixels.
        """
        if isinstance(images, ImageLike) or not isinstance(images, Iterable):
            return next(self.stream([images]))
        return list(self.stream(images))

    def stream(self, images: Iterable[ImageLike]) -> Iterator[Instances]:
        """Detect objects one image at a time, for more images than fit into memory."""
        make_input = input_maker(self.image_format, self.augmentations)
        entries = (make_input(_pixels(image)) for image in images)
        while batch := list(itertools.islice(entries, self.batch_size)):
            with torch.inference_mode():
                outputs = self.model(batch)
            for output in outputs:
                yield output["instances"].to("cpu")

    def video(self, path: str | Path) -> Iterator[Instances]:
        """Detect objects in each frame of a video file.

        Raises:
            FileNotFoundError, ValueError: the file is not there, or cannot be read as a video.
        """
        with open_video(path) as capture:
            yield from self.stream(frames(capture))

    def coco(self, images: Sequence[ImageLike], image_ids: Sequence[int]) -> list[dict[str, Any]]:
        """Return detections as entries of COCO's result files, with the data set's category ids.

        Args:
            images: as for a call.
            image_ids: of the ground truth, one for each image.
        """
        if len(images) != len(image_ids):
            raise ValueError(f"{len(images)} images and {len(image_ids)} image_ids")
        found = []
        for image_id, instances in zip(image_ids, self.stream(images), strict=True):
            found += self.entries(instances, image_id)
        return found

    def entries(self, instances: Instances, image_id: int) -> list[dict[str, Any]]:
        """Convert one image's detections to entries of COCO's result files."""
        places = self.metadata.get("thing_dataset_id_to_contiguous_id", {})
        categories = {place: number for number, place in places.items()}
        return [
            {**entry, "category_id": categories.get(entry["category_id"], entry["category_id"])}
            for entry in instances_to_coco_json(instances, image_id)
        ]


def _check_source(path: Path) -> None:
    wanted = f"name a run's folder, a config file, or an exported detector's folder or {MANIFEST}"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: {wanted}")
    if path.suffix == ".json" and path.name != MANIFEST:
        raise ValueError(f"{path} is neither a config (.yaml or .py) nor a {MANIFEST}: {wanted}")


def _config_file(path: Path) -> Path:
    """Return the config of a run's folder; any other path is a config already."""
    if not path.is_dir():
        return path
    config = path / "config.yaml"
    if not config.is_file():
        runs = sorted(path.glob("*/seed_*/config.yaml"))
        raise FileNotFoundError(
            f"{path} has neither the config.yaml of a run nor an exported detector's {MANIFEST}"
            + (f"; it is a comparison, name a run of it, as {runs[0].parent}" if runs else "")
        )
    if "_target_:" in config.read_text():
        raise ValueError(f"{path} is a run of a LazyConfig: name its .py file, and the weights")
    return config


def _checkpoint(folder: Path) -> Path:
    note = folder / "last_checkpoint"
    return folder / (note.read_text().strip() if note.is_file() else "model_final.pth")


def _pixels(image: ImageLike) -> np.ndarray:
    if isinstance(image, str | Path):
        return read_bgr(image)
    found = type(image).__name__
    if isinstance(image, np.ndarray):
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
            return image
        found = f"{image.dtype} {image.shape}"
    raise ValueError(f"an image must be a path, or BGR pixels, uint8 (H, W, 3), got {found}")


def build_input_maker(cfg: CfgNode | DictConfig) -> Callable[[np.ndarray], dict[str, Any]]:
    """Build the function that prepares an image for a config's model.

    Args:
        cfg: what :func:`softpool_det.config.load_config` returns.

    Returns:
        A function from a BGR image, uint8 (H, W, 3), to an entry of the model's input: "image",
        (3, H', W') resized and in the model's channel order, and the "height" and "width" that it
        had.

    Raises:
        ValueError: the config's channel order is neither RGB nor BGR.
    """
    return input_maker(*_preparation(cfg))


def _preparation(cfg: CfgNode | DictConfig) -> tuple[str, list[T.Augmentation]]:
    """Return the channel order of a config's model, and what is done to an image before."""
    if isinstance(cfg, CfgNode):
        image_format, augmentations = cfg.INPUT.FORMAT, build_augmentation(cfg, is_train=False)
    else:
        mapper = cfg.dataloader.test.mapper
        image_format, augmentations = mapper.image_format, instantiate(mapper.augmentations)
    if image_format not in ("RGB", "BGR"):
        raise ValueError(f"the config's image format must be RGB or BGR, got {image_format!r}")
    return image_format, list(augmentations)


def input_maker(
    image_format: str, augmentations: list[T.Augmentation]
) -> Callable[[np.ndarray], dict[str, Any]]:
    """Build :func:`build_input_maker`'s function from a channel order and augmentations."""
    augment = T.AugmentationList(augmentations)

    def make_input(image_bgr: np.ndarray) -> dict[str, Any]:
        height, width = image_bgr.shape[:2]
        ordered = image_bgr if image_format == "BGR" else image_bgr[:, :, ::-1]
        resized = T.AugInput(ordered)
        augment(resized)
        image = torch.from_numpy(np.ascontiguousarray(resized.image.transpose(2, 0, 1)))
        return {"image": image, "height": height, "width": width}

    return make_input


def dataset_metadata(cfg: CfgNode | DictConfig) -> Metadata:
    """Metadata of the config's first test set, or else training set, which has the class names."""
    names = data_sets_of(cfg, "test") or data_sets_of(cfg, "train")
    return MetadataCatalog.get(names[0]) if names else Metadata()
