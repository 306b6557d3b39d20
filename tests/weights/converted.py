"""Random models, and whether converted weights are the same function."""

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from softpool_det.weights.architecture import Architecture, build_resnet


@torch.no_grad()
def randomize(build, seed=0):
    """What `build()` gives, with weights with which images matter to logits, in evaluation mode.

    No two channels of a norm are alike. (As ResNets start, with identity norms, wrong strides and
    swapped norms can go unnoticed; and grouped convolutions start so small that all images give
    nearly the same logits.)
    """
    # Without their own initial values, which take longer than all else here.
    with torch.device("meta"):
        model = build()
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        if isinstance(module, nn.Linear):
            module.weight.normal_(0, 0.01, generator=generator)
            module.bias.normal_(0, 0.01, generator=generator)
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.uniform_(0.5, 1.2, generator=generator)
            module.bias.normal_(0, 0.2, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked.fill_(12345)
    return model.eval()


@torch.no_grad()
def assert_same_logits(source, weights, seed=0):
    """The source model and Detectron2's ResNet with converted weights, to 1e-5 of the scale.

    The inputs are the normalized images that both take: their channels are in the same order.
    """
    metadata = weights.metadata
    with torch.device("meta"):
        resnet = build_resnet(
            Architecture.from_name(metadata.architecture),
            metadata.num_classes,
            metadata.stem_pool,
            metadata.stride_in_1x1,
        )
    resnet.load_state_dict(weights.tensors, strict=True, assign=True)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    expected, found = source(images), resnet.eval()(images)["linear"]
    scale = expected.abs().max()
    assert expected.shape == (2, metadata.num_classes)
    assert scale > 1e-3
    assert (expected[0] - expected[1]).abs().max() > 1e-2 * scale
    assert (found - expected).abs().max() <= 1e-5 * scale
