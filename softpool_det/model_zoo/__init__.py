"""The configs of softpool_det by name, as `detectron2.model_zoo` has Detectron2's."""

from __future__ import annotations

from pathlib import Path

# In a wheel they lie in this folder, in a checkout at its top.
_FOLDERS = (Path(__file__).parent / "configs", Path(__file__).parents[2] / "configs")


def get_config_file(config_path: str) -> str:
    """Return the path of a config that comes with softpool_det.

    Args:
        config_path: its name below `configs/`, such as
            "COCO-Detection/retinanet_softpool_R_50_FPN_1x.yaml".

    Raises:
        FileNotFoundError: the config does not exist; names the folder that has them.
    """
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])
    path = folder / config_path
    if not path.is_file():
        raise FileNotFoundError(f"config_path={config_path!r}: {folder} has no such config")
    return str(path)
