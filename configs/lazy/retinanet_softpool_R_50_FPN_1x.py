"""SoftPool arm: as the stock file, but for the stem's pooling and the weights."""

from detectron2.config import LazyCall as L

from softpool_det.modeling import PooledStem
from softpool_det.ops import SoftPool2d

from .retinanet_R_50_FPN_1x import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.stem = L(PooledStem)(
    stem=model.backbone.bottom_up.stem,
    pool=L(SoftPool2d)(kernel_size=2, stride=2, padding=0, ceil_mode=True, gradient="paper"),
)
train.init_checkpoint = "weights/resnet50_softpool.safetensors"
