"""The parts of a training run, from its config. Only this file, run.py and swap.py read `cfg`."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.modeling.backbone.resnet import ResNet
from detectron2.solver import build_lr_scheduler, get_default_optimizer_params
from detectron2.utils import comm
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from softpool_det.classification.averaging import MovingAverage
from softpool_det.classification.datasets import LabelledImages, open_dataset
from softpool_det.classification.loaders import TrainLoader, evaluation_loader
from softpool_det.classification.model import STEM_CHANNELS, build_classifier
from softpool_det.classification.precision import Precision
from softpool_det.classification.training import Training
from softpool_det.classification.transforms import (
    batch_mixer,
    evaluation_transform,
    train_transform,
)
from softpool_det.layers.learning import weight_decay_overrides
from softpool_det.modeling.backbones import build_stem_pool

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def build_model(cfg: CfgNode, num_classes: int) -> ResNet:
    """The classifier on its device; its initial weights depend on `SEED` alone."""
    torch.manual_seed(cfg.SEED)
    resnets = cfg.MODEL.RESNETS
    pool = build_stem_pool(cfg, STEM_CHANNELS)
    model = build_classifier(resnets.DEPTH, pool, num_classes, resnets.NORM)
    if cfg.MODEL.CHANNELS_LAST:
        model = model.to(memory_format=torch.channels_last)
    return model.to(cfg.MODEL.DEVICE)


def build_train_dataset(cfg: CfgNode) -> LabelledImages:
    transform = train_transform(
        size=cfg.INPUT.SIZE_TRAIN,
        crop_type=cfg.INPUT.CROP.TYPE,
        crop_scale=cfg.INPUT.CROP.SCALE,
        crop_size=cfg.INPUT.CROP.SIZE,
        flip=cfg.INPUT.RANDOM_FLIP,
        auto_augment=cfg.INPUT.AUTO_AUGMENT,
        random_erase=cfg.INPUT.RANDOM_ERASE,
        mean=cfg.MODEL.PIXEL_MEAN,
        std=cfg.MODEL.PIXEL_STD,
    )
    return open_dataset(cfg.DATASETS.TRAIN, transform, "DATASETS.TRAIN")


def build_test_dataset(cfg: CfgNode) -> LabelledImages:
    transform = evaluation_transform(
        resize=cfg.INPUT.MIN_SIZE_TEST,
        crop_size=cfg.INPUT.CROP_SIZE_TEST,
        mean=cfg.MODEL.PIXEL_MEAN,
        std=cfg.MODEL.PIXEL_STD,
    )
    return open_dataset(cfg.DATASETS.TEST, transform, "DATASETS.TEST")


def build_train_loader(cfg: CfgNode, dataset: LabelledImages) -> TrainLoader:
    return TrainLoader(
        dataset,
        batch_size=cfg.SOLVER.IMS_PER_BATCH,
        seed=cfg.SEED,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        pin_memory=cfg.MODEL.DEVICE.startswith("cuda"),
    )


def build_test_loader(cfg: CfgNode, dataset: LabelledImages) -> DataLoader:
    rank, world_size = comm.get_rank(), comm.get_world_size()
    batch_size = max(cfg.SOLVER.IMS_PER_BATCH // world_size, 1)
    return evaluation_loader(dataset, batch_size, rank, world_size, cfg.DATALOADER.NUM_WORKERS)


def build_training(
    cfg: CfgNode, model: nn.Module, loader: TrainLoader, num_classes: int
) -> Training:
    """What `cfg` says of optimizer, schedule, precision, loss and averaging, around `model`."""
    optimizer = build_optimizer(cfg, model)
    return Training(
        model,
        loader,
        optimizer,
        build_scheduler(cfg, optimizer, loader.iterations),
        build_precision(cfg),
        epochs=cfg.SOLVER.MAX_EPOCHS,
        seed=cfg.SEED,
        label_smoothing=cfg.SOLVER.LABEL_SMOOTHING,
        mixer=batch_mixer(cfg.INPUT.MIXUP_ALPHA, cfg.INPUT.CUTMIX_ALPHA, num_classes),
        average=build_average(cfg, model, loader.iterations),
        log_period=cfg.LOG_PERIOD,
    )


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD as in Detectron2: norms have a weight decay of their own, learned temperatures none."""
    solver = cfg.SOLVER
    params = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        overrides=weight_decay_overrides(model),
    )
    return torch.optim.SGD(
        params,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decay=solver.WEIGHT_DECAY,
    )


def build_scheduler(
    cfg: CfgNode, optimizer: torch.optim.Optimizer, epoch_iterations: int
) -> LRScheduler:
    """Detectron2's scheduler, which counts iterations, for a config that counts epochs."""
    solver = cfg.SOLVER
    counted = CfgNode(solver.clone())
    counted.MAX_ITER = solver.MAX_EPOCHS * epoch_iterations
    counted.STEPS = [round(epoch * epoch_iterations) for epoch in solver.STEP_EPOCHS]
    counted.WARMUP_ITERS = warmup_iterations(cfg, epoch_iterations)
    counted.WARMUP_METHOD = "linear"
    # A cosine begins where the warm-up ends.
    counted.RESCALE_INTERVAL = solver.LR_SCHEDULER_NAME == "WarmupCosineLR"
    return build_lr_scheduler(CfgNode({"SOLVER": counted}), optimizer)


def warmup_iterations(cfg: CfgNode, epoch_iterations: int) -> int:
    return round(cfg.SOLVER.WARMUP_EPOCHS * epoch_iterations)


def build_average(cfg: CfgNode, model: nn.Module, epoch_iterations: int) -> MovingAverage | None:
    ema = cfg.SOLVER.EMA
    if not ema.ENABLED:
        return None
    return MovingAverage(model, ema.DECAY, ema.PERIOD, warmup_iterations(cfg, epoch_iterations))


def build_precision(cfg: CfgNode) -> Precision:
    """How the forward runs, and whether gradients are scaled.

    Raises:
        ValueError: `SOLVER.AMP.DTYPE` is neither bfloat16 nor float16.
    """
    amp = cfg.SOLVER.AMP
    if amp.DTYPE not in _DTYPES:
        raise ValueError(f"SOLVER.AMP.DTYPE must be one of {list(_DTYPES)}, got {amp.DTYPE!r}")
    device = torch.device(cfg.MODEL.DEVICE).type
    return Precision(device, _DTYPES[amp.DTYPE] if amp.ENABLED else None)
