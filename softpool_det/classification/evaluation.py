"""A classifier's predictions for a whole data set, shared out among the processes."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader

from softpool_det.classification.predictions import Predictions
from softpool_det.training.signals import stop_if_received


@torch.inference_mode()
def predict(model: nn.Module, loader: DataLoader, labels: list[int], device: str) -> Predictions:
    """Classify every image, in float32 and in evaluation mode; the model's mode stays.

    Args:
        model: from images (N, 3, H, W) to {"linear": logits (N, classes)}.
        loader: this process's share, batches of (images, labels, indices).
        labels: of the whole data set.
        device: where the model is.

    Returns:
        Of the whole data set, in every process.

    Raises:
        Interrupted: a signal came to the only process; several finish what they share out.
    """
    # Zero where another process has the image: the sum over all processes is the whole.
    found = torch.zeros(2, len(labels), dtype=torch.int64, device=device)
    training = model.training
    model.eval()
    for images, targets, indices in loader:
        if not dist.is_initialized():
            stop_if_received()
        targets, indices = targets.to(device), indices.to(device)
        logits = model(images.to(device))["linear"]
        best = logits.topk(min(5, logits.shape[1])).indices
        found[0, indices] = best[:, 0]
        found[1, indices] = (best == targets[:, None]).any(1).long()
    model.train(training)
    if dist.is_initialized():
        dist.all_reduce(found)
    predicted, in_top5 = found.cpu().numpy()
    return Predictions(np.asarray(labels, np.int64), predicted, in_top5.astype(bool))
