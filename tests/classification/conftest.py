"""A real folder of small pictures, and a run on it in seconds."""

import numpy as np
import pytest
import torch
from PIL import Image

from softpool_det.classification import train
from softpool_det.classification.config import load_config

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


TINY = """
network: detectron2/resnet18
size: 32
train_transforms:
- {name: RandomResizedCrop, size: "${size}"}
- {name: RandomHorizontalFlip}
- {name: TrivialAugmentWide}
- {name: ToImage}
- {name: RandomErasing, p: 0.5}
val_transforms:
- {name: Resize, size: "${size}"}
- {name: CenterCrop, size: "${size}"}
batch_transforms:
- {name: MixUp, alpha: 0.2}
- {name: CutMix, alpha: 1.0}
batch_size: 10
num_workers: 0
optimizer: {name: SGD, lr: 0.01, momentum: 0.9, nesterov: true, weight_decay: 0.0005}
norm_weight_decay: 0.0
label_smoothing: 0.1
warmup_epochs: 0.4
epochs: 3
trainer: {accelerator: cpu, log_every_n_steps: 2}
callbacks:
- {name: EMAWeightAveraging, decay: 0.5, update_starting_at_step: 1}
replace:
- {where: stem, pool: SoftPool2d, kernel_size: 2, padding: 0, ceil_mode: true}
"""


@pytest.fixture(scope="session")
def tiny(pictures):
    """A config of three epochs of 3 steps with all that a recipe can have."""
    path = pictures / "tiny.yaml"
    path.write_text(f"{TINY}train_data: {pictures}/train\nval_data: {pictures}/val\n")
    return path


@pytest.fixture(scope="session")
def trained(run_here, tmp_path_factory):
    """The folder of a run that nothing interrupted, on one thread."""
    folder, before = tmp_path_factory.mktemp("trained"), torch.get_num_threads()
    torch.set_num_threads(1)
    run_here(folder)
    torch.set_num_threads(before)
    return folder


@pytest.fixture(scope="session")
def run_here(tiny):
    """Train on `tiny` in this process, in a folder; what the result file holds."""

    def run_with(folder, *overrides, resume=False):
        overrides = [*overrides, f"output={folder}"]
        return train(load_config(str(tiny), overrides), resume)

    return run_with
