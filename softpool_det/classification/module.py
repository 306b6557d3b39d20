"""What Lightning trains: a network, its loss, its learning rate, and what it is right about."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from detectron2.solver import get_default_optimizer_params
from pytorch_lightning.callbacks import WeightAveraging
from torch import nn
from torch.optim import lr_scheduler as schedules
from torch.utils.data import BatchSampler, DataLoader
from torchvision.transforms import v2

from softpool_det.classification.config import Config, construct
from softpool_det.classification.datasets import EpochBatches, loader, multigrid
from softpool_det.classification.networks import logits_of
from softpool_det.classification.predictions import Predictions
from softpool_det.layers.learning import weight_decay_overrides
from softpool_det.training.randomness import seed_of

logger = logging.getLogger(__name__)


class Classifier(pl.LightningModule):
    """A network of `build_network` in training or evaluation, with its data of `open_split`."""

    def __init__(self, cfg: Config, network: nn.Module, train_set: Any, val_set: Any) -> None:
        super().__init__()
        memory = torch.channels_last if cfg.channels_last else torch.preserve_format
        self.cfg, self.network = cfg, network.to(memory_format=memory)
        self.train_set, self.val_set = train_set, val_set
        self.grid = multigrid(cfg)
        key, classes = "batch_transforms", len(val_set.classes)
        self.mixers = [construct(v2, e, key, num_classes=classes) for e in cfg.batch_transforms]
        self.predictions: Predictions | None = None  # of the last evaluation
        self.history: list[dict[str, float]] = []  # what each evaluation in training found

    def __getstate__(self) -> dict[str, Any]:
        # Averages of weights copy the module, and need no data.
        return {**super().__getstate__(), "train_set": None, "val_set": None}

    def train_dataloader(self) -> DataLoader:
        cfg, trainer = self.cfg, self.trainer
        # Of an interrupted epoch, those that were not trained on.
        progress = trainer.fit_loop.epoch_loop.batch_progress
        begun = 0 if progress.is_last_batch else progress.current.ready
        place, samples = (trainer.global_rank, trainer.world_size), len(self.train_set)
        self.batches = EpochBatches(samples, cfg.batch_size, cfg.seed, *place, self.grid)
        # Workers begin now. At an epoch's end, a checkpoint's `current_epoch` is still that one.
        self.batches.begin(trainer.fit_loop.epoch_progress.current.processed, begun)
        return loader(self.train_set, self.batches, cfg.seed, cfg.num_workers)

    def val_dataloader(self) -> DataLoader:
        cfg, world_size = self.cfg, self.trainer.world_size
        share = [(0, i) for i in range(self.trainer.global_rank, len(self.val_set), world_size)]
        batches = BatchSampler(share, max(cfg.batch_size // world_size, 1), drop_last=False)
        return loader(self.val_set, batches, cfg.seed, cfg.num_workers)

    def on_train_epoch_start(self) -> None:
        self.batches.begin(self.current_epoch)

    def training_step(self, batch: tuple[torch.Tensor, ...], index: int) -> torch.Tensor:
        # What is drawn depends on the step, not on those before: MixUp, dropout, some poolings.
        torch.manual_seed(seed_of(self.cfg.seed, self.current_epoch, index, self.global_rank))
        images, labels, _ = batch
        if self.mixers:
            images, labels = v2.RandomChoice(self.mixers)(images, labels)
        logits = logits_of(self.network(images)).float()
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=self.cfg.label_smoothing)
        period = self.trainer.log_every_n_steps
        is_due = self.trainer.is_last_batch or (period and (index + 1) % period == 0)
        if is_due and not math.isfinite(loss.item()):
            raise FloatingPointError(
                f"the loss is {loss.item()} by step {self.global_step + 1}: lower optimizer.lr, "
                "lengthen warmup_epochs, or leave trainer.precision=16-mixed"
            )
        self.log("loss", loss, prog_bar=True)
        self.log("lr", self.optimizers().param_groups[0]["lr"])
        return loss

    def on_validation_epoch_start(self) -> None:
        if self.trainer.world_size > 1:
            # Batch statistics are each process's own.
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, 0)
        # Zero where another process has the image: the sum over all processes is the whole.
        self.found = torch.zeros(2, len(self.val_set), dtype=torch.int64, device=self.device)

    def validation_step(self, batch: tuple[torch.Tensor, ...], _index: int) -> None:
        images, labels, indices = batch
        with torch.autocast(self.device.type, enabled=False):
            logits = logits_of(self.network(images))
        best = logits.topk(min(5, logits.shape[1])).indices
        self.found[0, indices] = best[:, 0] + 1
        self.found[1, indices] = (best == labels[:, None]).any(1).long()

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:
            return
        predicted, in_top5 = self.trainer.strategy.reduce(self.found, reduce_op="sum").cpu().numpy()
        if missing := int((predicted == 0).sum()):
            raise ValueError(
                f"trainer: limit_val_batches, fast_dev_run and their like leave out {missing} of "
                f"{len(predicted)} images of val_data, all of which an evaluation needs"
            )
        labels = np.asarray(self.val_set.targets, np.int64)
        self.predictions = Predictions(labels, predicted - 1, in_top5.astype(bool))
        metrics = self.predictions.accuracies()
        self.log_dict(metrics, prog_bar=True)
        if self.trainer.state.fn == "fit":
            epoch = self.current_epoch + 1
            self.history.append({"epoch": epoch, **metrics})
            loss = self.trainer.callback_metrics["loss"]
            text = "epoch %d/%d  loss of a batch %.4f  top-1 %.2f  top-5 %.2f"
            logger.info(text, epoch, self.trainer.max_epochs, loss, *metrics.values())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = self.history

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["history"]

    def configure_optimizers(self) -> Any:
        cfg = self.cfg
        # Norms may have a weight decay of their own; what poolings learn has none.
        params = get_default_optimizer_params(
            self.network,
            weight_decay=cfg.optimizer.get("weight_decay", 0.0),
            weight_decay_norm=cfg.norm_weight_decay,
            overrides=weight_decay_overrides(self.network),
        )
        optimizer = construct(torch.optim, cfg.optimizer, "optimizer", params)
        # Not Lightning's estimate: it would take the batches before a checkpoint says from where.
        batches = len(self.train_set) // max(cfg.batch_size, 1)
        steps = math.ceil(batches / self.trainer.accumulate_grad_batches)
        if self.grid:
            rates = self.grid.rates(len(self.train_set)) or [1.0]
            scheduler: Any = schedules.LambdaLR(optimizer, lambda i: rates[min(i, len(rates) - 1)])
        else:
            scheduler = build_scheduler(cfg, optimizer, steps)
        total = len(rates) if self.grid else steps * cfg.epochs
        epochs = range(self.trainer.max_epochs or 0)
        for average in (c for c in self.trainer.callbacks if isinstance(c, WeightAveraging)):
            by_step = (average.should_update(step_idx=i) for i in range(total))
            by_epoch = (average.should_update(epoch_idx=i) for i in epochs)
            if total and not any(by_step) and not any(by_epoch):
                raise ValueError(
                    f"callbacks: {type(average).__name__} would begin after the training's {total} "
                    "steps, and put the initial weights in place of the last"
                )
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def build_scheduler(cfg: Config, optimizer: Any, epoch: int) -> schedules.LRScheduler:
    """Build a warm-up, then milestones or a cosine; `epoch` is the steps of one."""
    warm = round(cfg.warmup_epochs * epoch)
    if cfg.milestones:
        steps = [round(milestone * epoch) - warm for milestone in cfg.milestones]
        main: Any = schedules.MultiStepLR(optimizer, steps, cfg.gamma)
    else:
        main = schedules.CosineAnnealingLR(optimizer, max(cfg.epochs * epoch - warm, 1))
    if not warm:
        return main
    rise = schedules.LinearLR(optimizer, cfg.warmup_factor, total_iters=warm)
    return schedules.SequentialLR(optimizer, [rise, main], [warm])
