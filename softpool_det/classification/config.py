"""The config of a classifier: Detectron2's keys where it has them, epochs where people count so."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from fvcore.common.config import CfgNode as CN

from softpool_det.config import add_softpool_config, merge_config


def get_cfg() -> CN:
    """The defaults: a stock ResNet-50 on ImageNet, without anything that a recipe adds."""
    cfg = CN()
    cfg.MODEL = CN()
    cfg.MODEL.DEVICE = "cpu"
    # A .safetensors to evaluate or to begin with; "" for random weights.
    cfg.MODEL.WEIGHTS = ""
    # Take weights that were trained with another pooling in the stem.
    cfg.MODEL.ALLOW_OTHER_STEM_POOL = False
    # Pixels from 0 to 255, RGB: those of the detectors that start from the weights.
    cfg.MODEL.PIXEL_MEAN = [123.675, 116.280, 103.530]
    cfg.MODEL.PIXEL_STD = [58.395, 57.120, 57.375]
    cfg.MODEL.CHANNELS_LAST = False
    cfg.MODEL.RESNETS = CN()
    # 18, 34, 50, 101 or 152, as Detectron2's ResNet has them, with the stride in the 3x3.
    cfg.MODEL.RESNETS.DEPTH = 50
    cfg.MODEL.RESNETS.NORM = "BN"
    _add_stock_stem_pool(cfg)

    cfg.DATASETS = CN()
    # A small data set's name (digits_train, ...), or a folder with one folder of images a class;
    # a relative one is looked for in $DETECTRON2_DATASETS.
    cfg.DATASETS.TRAIN = "imagenet/train"
    cfg.DATASETS.TEST = "imagenet/val"
    cfg.DATALOADER = CN()
    # Per process. What is trained does not depend on it.
    cfg.DATALOADER.NUM_WORKERS = 4

    _add_input(cfg)
    _add_solver(cfg)
    # Epochs between evaluations; 0 for one at the end only.
    cfg.TEST = CN()
    cfg.TEST.EVAL_EPOCHS = 1
    # Iterations between lines of the log.
    cfg.LOG_PERIOD = 50
    # Initial weights, order and augmentation of the images, from 0.
    cfg.SEED = 1
    cfg.OUTPUT_DIR = "output/classification"
    # All nodes of one class: yacs merges nothing else. add_softpool_config makes Detectron2's.
    return CN(cfg)


def _add_stock_stem_pool(cfg: CN) -> None:
    add_softpool_config(cfg)
    pool = cfg.MODEL.STEM_POOL
    pool.NAME, pool.KERNEL_SIZE, pool.STRIDE, pool.PADDING = "MaxPool2d", 3, 2, 1
    pool.CEIL_MODE = False


def _add_input(cfg: CN) -> None:
    cfg.INPUT = CN()
    # Side of the training images in pixels.
    cfg.INPUT.SIZE_TRAIN = 224
    cfg.INPUT.CROP = CN()
    # "resized": a region of SCALE of the area (RandomResizedCrop); "absolute": one of SIZE pixels.
    # Both become SIZE_TRAIN.
    cfg.INPUT.CROP.TYPE = "resized"
    cfg.INPUT.CROP.SCALE = [0.08, 1.0]
    cfg.INPUT.CROP.SIZE = 294
    # "horizontal" or "none".
    cfg.INPUT.RANDOM_FLIP = "horizontal"
    # "ta_wide" (TrivialAugment) or "".
    cfg.INPUT.AUTO_AUGMENT = ""
    # Probability.
    cfg.INPUT.RANDOM_ERASE = 0.0
    # 0 for none; with both, each batch gets one of them.
    cfg.INPUT.MIXUP_ALPHA = 0.0
    cfg.INPUT.CUTMIX_ALPHA = 0.0
    # Shorter side, and side of the square in its centre.
    cfg.INPUT.MIN_SIZE_TEST = 256
    cfg.INPUT.CROP_SIZE_TEST = 224


def _add_solver(cfg: CN) -> None:
    cfg.SOLVER = CN()
    cfg.SOLVER.MAX_EPOCHS = 100
    # Of all processes together.
    cfg.SOLVER.IMS_PER_BATCH = 256
    cfg.SOLVER.BASE_LR = 0.1
    cfg.SOLVER.BASE_LR_END = 0.0
    cfg.SOLVER.MOMENTUM = 0.9
    cfg.SOLVER.NESTEROV = False
    cfg.SOLVER.WEIGHT_DECAY = 1e-4
    cfg.SOLVER.WEIGHT_DECAY_NORM = 1e-4
    # Or "WarmupCosineLR".
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupMultiStepLR"
    cfg.SOLVER.STEP_EPOCHS = [40, 80]
    cfg.SOLVER.GAMMA = 0.1
    cfg.SOLVER.WARMUP_EPOCHS = 0.0
    cfg.SOLVER.WARMUP_FACTOR = 0.01
    cfg.SOLVER.LABEL_SMOOTHING = 0.0
    cfg.SOLVER.AMP = CN()
    cfg.SOLVER.AMP.ENABLED = False
    # Or "float16", with its gradients scaled.
    cfg.SOLVER.AMP.DTYPE = "bfloat16"
    cfg.SOLVER.EMA = CN()
    # Evaluate and keep an exponential moving average of the weights, begun after the warm-up.
    cfg.SOLVER.EMA.ENABLED = False
    cfg.SOLVER.EMA.DECAY = 0.999
    # Iterations from one update to the next.
    cfg.SOLVER.EMA.PERIOD = 1
    # Iterations; there is a checkpoint after each epoch besides.
    cfg.SOLVER.CHECKPOINT_PERIOD = 5000


def load_config(config_file: str, overrides: Sequence[str] = ()) -> CN:
    """Read a classifier's YAML config and apply "KEY VALUE" overrides from a command line.

    The device is the GPU where there is one, else the CPU, unless file or overrides name it.

    Returns:
        The frozen config.

    Raises:
        KeyError: a key that does not exist; names the nearest ones that do.
    """
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    merge_config(cfg, config_file, overrides)
    cfg.freeze()
    return cfg


def identity(cfg: CN) -> str:
    """The part of a config that decides what is trained, as text."""
    deciding = cfg.clone()
    deciding.defrost()
    for key in ("OUTPUT_DIR", "DATALOADER", "LOG_PERIOD"):
        del deciding[key]
    del deciding.SOLVER["CHECKPOINT_PERIOD"]
    del deciding.MODEL["DEVICE"]
    return deciding.dump()
