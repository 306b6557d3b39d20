"""Data sets made on first use: COCO JSON and PNG files in a folder, checked at every load."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from iopath.common.file_io import file_lock

from softpool_det.io.atomic import partial_folder
from softpool_det.io.disks import naming

logger = logging.getLogger(__name__)

_ANNOTATIONS = "annotations.json"
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Scene:
    """One image of a data set.

    Args:
        image: (H, W, 3) uint8, RGB.
        annotations: COCO annotations without `id` and `image_id`: `bbox` (x, y, width, height in
            pixels), `category_id` (from 1), `area`, and `segmentation` (compressed RLE) where the
            data set has masks.
    """

    image: np.ndarray
    annotations: list[dict[str, Any]]


@dataclass(frozen=True)
class MadeDataset:
    """A data set that is made from wheels when it is first used.

    Args:
        name: its name in Detectron2's catalogs and its folder's name.
        thing_classes: class names; category id i + 1 belongs to entry i.
        scenes: given the folder of all data sets, yields the scenes, the same ones every time.
        content_sha256: digest over pixels and annotations of all scenes, as made with the
            locked library versions.
    """

    name: str
    thing_classes: tuple[str, ...]
    scenes: Callable[[Path], Iterator[Scene]]
    content_sha256: str

    def json_file(self, root: Path) -> Path:
        """Return the COCO annotations' path below the folder of all data sets."""
        return root / self.name / _ANNOTATIONS

    def image_root(self, root: Path) -> Path:
        """Return the images' folder below the folder of all data sets."""
        return root / self.name / "images"


def datasets_root() -> Path:
    """Return the folder of all data sets: `$DETECTRON2_DATASETS` or `datasets`, as Detectron2."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()


def ensure_made(dataset: MadeDataset, root: Path) -> None:
    """Check the data set's files in `root`, and make them where they are missing or broken.

    Several processes may call this at once: one makes the files, the others wait for it.

    Args:
        dataset: the data set.
        root: the folder of all data sets; made if it is not there.

    Raises:
        OSError: the files cannot be written; the text names the folder.
        RuntimeError: a wheel that the data come from cannot be had (see `open_wheel`).
    """
    folder = root / dataset.name
    if _problem(dataset, folder) is None:
        return
    with naming(folder), _locked(folder):
        problem = _problem(dataset, folder)
        if problem is None:
            return
        if folder.exists():
            logger.warning("%s: %s; making the data set again", dataset.name, problem)
        with partial_folder(folder) as temporary:
            made = Path(temporary, "made")
            content_sha256 = _make(dataset, root, made)
            if content_sha256 != dataset.content_sha256:
                logger.warning(
                    "%s: made with content sha256 %s, recorded is %s: figures may differ slightly "
                    "from those of the locked library versions (cv2 here is %s)",
                    *(dataset.name, content_sha256, dataset.content_sha256, cv2.__version__),
                )
            if folder.exists():
                os.rename(folder, Path(temporary, "broken"))
            os.rename(made, folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(str(folder)):
        yield


def _problem(dataset: MadeDataset, folder: Path) -> str | None:
    """Return what is wrong with the data set's files, or None."""
    path = folder / _MANIFEST
    try:
        manifest = json.loads(path.read_text())
        if manifest["expected_sha256"] != dataset.content_sha256:
            return f"{folder} was made by another version of this package"
        for name, expected in manifest["files"].items():
            if _sha256(folder / name) != expected:
                return f"{folder / name} is not what was written (its sha256 differs)"
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{path} is damaged"
    return None


def _make(dataset: MadeDataset, root: Path, folder: Path) -> str:
    """Write images, annotations and the manifest; return the content's sha256."""
    logger.info("making %s in %s", dataset.name, root)
    (folder / "images").mkdir(parents=True)
    content = hashlib.sha256()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    digests = {}
    for scene in dataset.scenes(root):
        height, width = scene.image.shape[:2]
        name = f"{len(images):06d}.png"
        image = {"id": len(images) + 1, "file_name": name, "height": height, "width": width}
        images.append(image)
        for annotation in scene.annotations:
            numbers = {"id": len(annotations) + 1, "image_id": image["id"], "iscrowd": 0}
            annotations.append({**numbers, **annotation})
        content.update(scene.image.tobytes())
        digests[f"images/{name}"] = _write_png(folder / "images" / name, scene.image)
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(dataset.thing_classes)]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    text = json.dumps({"info": {"description": dataset.name}, **coco})
    (folder / _ANNOTATIONS).write_text(text)
    digests[_ANNOTATIONS] = hashlib.sha256(text.encode()).hexdigest()
    content.update(text.encode())
    manifest = {"expected_sha256": dataset.content_sha256, "files": digests}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=0))
    return content.hexdigest()


def _write_png(path: Path, image: np.ndarray) -> str:
    """Write an RGB image; return the file's sha256."""
    _, encoded = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    content = encoded.tobytes()
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
