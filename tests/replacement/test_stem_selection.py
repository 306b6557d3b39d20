"""Which pooling is the stem's."""

import pytest
from torch import nn

from softpool_det import replace_pooling


def conv(channels=8, out=8, stride=1):
    return nn.Conv2d(channels, out, 3, stride, 1)


def replaced(*layers):
    return [row.name for row in replace_pooling(nn.Sequential(*layers)).replaced]


def test_first_pooling_behind_one_to_three_convolutions():
    assert replaced(conv(3), nn.MaxPool2d(2), conv(), nn.MaxPool2d(2)) == ["1"]
    assert replaced(conv(3), conv(), conv(), nn.AvgPool2d(2), nn.MaxPool2d(2)) == ["3"]
    reason = "4 convolutions from 0 on lie before the first one, 4 "
    with pytest.raises(ValueError, match=f"no stem pooling: {reason}"):
        replaced(conv(3), conv(), conv(), conv(), nn.MaxPool2d(2))


def test_the_image_is_read_by_the_convolution_with_the_fewest_channels():
    # As in Detectron2's FPN, whose lateral convolutions are defined before the ResNet.
    lateral = nn.ModuleList([conv(64), nn.MaxPool2d(2), conv(256)])
    assert replaced(lateral, conv(5), nn.MaxPool2d(2)) == ["2"]
    assert replaced(nn.MaxPool2d(2), conv(3), nn.MaxPool2d(2)) == ["2"]


def test_poolings_that_are_no_stems():
    with pytest.raises(ValueError, match="the first one, 1, has stride 1"):
        replaced(conv(3), nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(2))
    with pytest.raises(ValueError, match="no pooling follows 0"):
        replaced(conv(3), nn.AdaptiveAvgPool2d(1), nn.MaxPool2d(1, 2))
    with pytest.raises(ValueError, match="it has no convolution"):
        replaced(nn.MaxPool2d(2))


def test_a_second_call_does_not_take_the_next_pooling():
    model = nn.Sequential(conv(3), nn.MaxPool2d(2), conv(), nn.MaxPool2d(2))
    assert replace_pooling(model)
    assert not replace_pooling(model)
    assert type(model[3]) is nn.MaxPool2d


def test_one_and_three_dimensions():
    for dims in (1, 3):
        layers = (getattr(nn, f"Conv{dims}d")(3, 4, 3), getattr(nn, f"MaxPool{dims}d")(2))
        assert replaced(*layers) == ["1"]
