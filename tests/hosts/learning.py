"""What every detector must do: learn through the pooling, and see other features than before."""

import torch


def check_training_step(model, loss, stem_weight):
    """Step down `loss` and see that the convolution before the pooling moves."""
    assert torch.isfinite(loss)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    optimizer.zero_grad()
    loss.backward()
    assert stem_weight.grad.abs().sum() > 0
    before = stem_weight.detach().clone()
    optimizer.step()
    assert not torch.equal(stem_weight, before)


def check_other_values(features, expected):
    """Same shapes as the stock model's with the same weights, other values."""
    assert len(features) == len(expected)
    for feature, stock in zip(features, expected, strict=True):
        assert feature.shape == stock.shape
        assert not torch.allclose(feature, stock)
