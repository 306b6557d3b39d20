"""A real folder of small pictures, and a run on it in seconds."""

import argparse

import numpy as np
import pytest
from PIL import Image

from softpool_det.classification import run

COLOURS = {"amber": (230, 150, 20), "blue": (30, 60, 220), "green": (20, 160, 60)}
COUNTS = {"train": 10, "val": 5}


def write_pictures(root):
    random = np.random.RandomState(0)
    for split, count in COUNTS.items():
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                height, width = random.randint(34, 60, 2)
                noise = random.normal(0, 40, (height, width, 3))
                pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """train/ and val/ of three classes, 30 and 15 pictures of about 50 x 50 pixels."""
    root = tmp_path_factory.mktemp("pictures")
    write_pictures(root)
    return root


@pytest.fixture(scope="session")
def tiny(pictures):
    """Overrides for two epochs of 3 iterations with all that a recipe can have, on one thread."""
    values = {
        **{"DATASETS.TRAIN": pictures / "train", "DATASETS.TEST": pictures / "val"},
        **{"INPUT.SIZE_TRAIN": 32, "INPUT.MIN_SIZE_TEST": 32, "INPUT.CROP_SIZE_TEST": 32},
        **{"INPUT.AUTO_AUGMENT": "ta_wide", "INPUT.RANDOM_ERASE": 0.5},
        **{"INPUT.MIXUP_ALPHA": 0.2, "INPUT.CUTMIX_ALPHA": 1.0},
        **{"SOLVER.IMS_PER_BATCH": 10, "SOLVER.MAX_EPOCHS": 2, "SOLVER.BASE_LR": 0.01},
        **{"SOLVER.WARMUP_EPOCHS": 0.4, "SOLVER.LABEL_SMOOTHING": 0.1},
        **{"SOLVER.EMA.ENABLED": True, "SOLVER.EMA.DECAY": 0.5, "SOLVER.CHECKPOINT_PERIOD": 2},
        **{"MODEL.DEVICE": "cpu", "DATALOADER.NUM_WORKERS": 0, "LOG_PERIOD": 2},
    }
    return [part for key, value in values.items() for part in (key, str(value))]


@pytest.fixture(scope="session")
def run_here():
    """tools/train_classifier.py without the seconds of a new process."""

    def run_with(config, *overrides, resume=False, eval_only=False):
        opts = [str(part) for part in overrides]
        return run(
            argparse.Namespace(
                config_file=str(config), opts=opts, resume=resume, eval_only=eval_only
            )
        )

    return run_with
