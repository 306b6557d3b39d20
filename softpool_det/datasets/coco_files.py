"""Says what is missing where COCO's files are not in place."""

import re
from pathlib import Path

from detectron2.data import MetadataCatalog

_DOWNLOADS = "http://images.cocodataset.org"


def check_coco_files(name: str) -> None:
    """Check that a data set in COCO's format has its annotation file and its images in place.

    Data sets whose metadata name no such files are taken as they are.

    Args:
        name: a data set registered with Detectron2 ("coco_2017_val").

    Raises:
        FileNotFoundError: the first line names the missing file, the folder that it belongs in
            and how to get it; another line follows where the images are missing too.
    """
    metadata = MetadataCatalog.get(name)
    missing = []
    if hasattr(metadata, "json_file"):
        json_file = Path(metadata.json_file)
        if not json_file.is_file():
            missing.append(_advice(json_file, _annotations_archive(json_file.name)))
    if hasattr(metadata, "image_root"):
        images = Path(metadata.image_root)
        if not images.is_dir() or next(images.iterdir(), None) is None:
            missing.append(_advice(images, _images_archive(images.name)))
    if missing:
        note = "Detectron2 looks in $DETECTRON2_DATASETS (default: datasets), read at its import."
        raise FileNotFoundError("\n".join([f"{name}: {missing[0]}", *missing[1:], note]))


def _advice(path: Path, archive: str | None) -> str:
    """One line: what is missing, where it belongs, how to get it."""
    line = f"{path.name} is missing, it belongs in {path.parent}; "
    if archive is None:
        return line + "datasets/README.md in Detectron2's sources says how to get it"
    # Annotation archives hold the folder annotations/, image archives the folder of images.
    folder = path.parent.parent if path.suffix == ".json" else path.parent
    return line + f"get it with: wget {_DOWNLOADS}/{archive} and unzip it in {folder}"


def _annotations_archive(name: str) -> str | None:
    """Return the archive on COCO's site that holds an annotation file, or None."""
    if match := re.fullmatch(r"(?:instances|person_keypoints)_(?:train|val)(\d{4})\.json", name):
        return f"annotations/annotations_trainval{match[1]}.zip"
    if match := re.fullmatch(r"image_info_test(?:-dev)?(\d{4})\.json", name):
        return f"annotations/image_info_test{match[1]}.zip"
    return None


def _images_archive(name: str) -> str | None:
    return f"zips/{name}.zip" if re.fullmatch(r"(train|val|test)20(14|15|17)", name) else None
