"""Which pooling is the stem's."""

import networks
import pytest
import torch
from torch import nn
from torchvision import models

from softpool_det import replace_pooling
from softpool_det.ops import SoftPool2d, soft_pool3d

pytestmark = pytest.mark.usefixtures("one_thread")


def conv(channels=8, out=8, stride=1):
    return nn.Conv2d(channels, out, 3, stride, 1)


def replaced(*layers):
    return [row.name for row in replace_pooling(nn.Sequential(*layers)).replaced]


def test_first_pooling_behind_one_to_three_convolutions():
    assert replaced(conv(3), nn.MaxPool2d(2), conv(), nn.MaxPool2d(2)) == ["1"]
    assert replaced(conv(3), conv(), conv(), nn.AvgPool2d(2), nn.MaxPool2d(2)) == ["3"]
    reason = "the first one, 4, comes after 4 convolutions from 0 on "
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


def rows(model):
    result = replace_pooling(model)
    return [row.name for row in result.replaced], [row.name for row in result.left]


def test_every_pathway_of_a_video_network():
    torch.manual_seed(0)
    model = networks.SlowFast().eval()
    video = torch.randn(1, 3, 8, 32, 32)
    stems = model.slow_stem, model.fast_stem
    features, output = [stem[:3](video) for stem in stems], model(video)
    assert rows(model) == (["slow_stem.3", "fast_stem.3"], [])
    for stem, before in zip(stems, features, strict=True):
        expected = soft_pool3d(before, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        assert torch.equal(stem(video), expected)
    assert model(video).shape == output.shape
    assert not torch.equal(model(video), output)
    assert not replace_pooling(model)


@pytest.mark.parametrize(
    ("pathways", "expected"),
    [
        ({"left": 3, "right": 3}, ["left.2", "right.2"]),
        ({"color": 3, "flow": 10}, ["color.2", "flow.2"]),
        ({"color": 3, "depth": 1}, ["color.2", "depth.2"]),
        ({"one": 3, "two": 3, "three": 3}, ["one.2", "two.2", "three.2"]),
    ],
)
def test_streams_and_towers(pathways, expected):
    model = nn.ModuleDict({name: networks.stream(channels) for name, channels in pathways.items()})
    assert rows(model) == (expected, [])


def test_the_structure_of_pytorchvideos_slowfast():
    """Pathways in a ModuleList of the first block, the connection behind them."""
    slow, fast = networks.SlowFast._stem(64, 1), networks.SlowFast._stem(8, 5)
    first = nn.ModuleDict(
        {"multipathway_blocks": nn.ModuleList([slow, fast]), "fusion": nn.Conv3d(8, 16, (7, 1, 1))}
    )
    second = nn.ModuleList([nn.Conv3d(80, 64, 1), nn.Conv3d(8, 8, 1)])
    pools = nn.ModuleList([nn.AvgPool3d((4, 7, 7), 1), nn.AvgPool3d((32, 7, 7), 1)])
    model = nn.ModuleDict({"blocks": nn.ModuleList([first, second, pools])})
    stems = [f"blocks.0.multipathway_blocks.{i}.3" for i in (0, 1)]
    assert rows(model) == (stems, [])


def test_connections_that_are_defined_before_the_fast_pathway():
    """As in MMAction2, whose pathways also have a second pooling, which SlowFast never calls."""
    fast = nn.Sequential(networks.SlowFast._stem(8, 5), nn.MaxPool3d((2, 1, 1)))
    fast.extend([nn.Conv3d(8, 32, 1), nn.Conv3d(32, 16, 1)])
    slow = nn.Sequential(networks.SlowFast._stem(64, 1), nn.MaxPool3d((2, 1, 1)))
    slow.extend([nn.Conv3d(80, 256, 1), nn.Conv3d(8, 16, 1), nn.Conv3d(32, 64, 1)])
    model = nn.ModuleDict({"slow": slow, "fast": fast})
    result = replace_pooling(model)
    assert [row.name for row in result.replaced] == ["slow.0.3", "fast.0.3"]
    assert [row.name for row in result.left] == ["fast.1"]
    assert "slow.3 reads 8 channels, an image or the output of fast.0.0" in result.left[0].reason


def test_a_second_input_of_as_many_channels_as_there_are_classes():
    streams = {
        name: nn.Sequential(nn.Conv2d(channels, 64, 7, 2, 3), nn.MaxPool2d(3, 2, 1))
        for name, channels in (("color", 3), ("flow", 20))
    }
    merged = {"body": nn.Conv2d(128, 256, 3), "head": nn.Conv2d(256, 20, 1)}
    assert rows(nn.ModuleDict({**streams, **merged})) == (["color.1", "flow.1"], [])


def test_streams_that_are_defined_side_by_side():
    assert rows(networks.SideBySide()) == (["pool_color", "pool_depth"], [])


def test_towers_of_images_and_of_sounds():
    sounds = nn.Sequential(nn.Conv1d(1, 16, 9), nn.MaxPool1d(4), nn.Conv1d(16, 32, 9))
    model = nn.ModuleDict({"images": networks.stream(3), "sounds": sounds})
    assert rows(model) == (["images.2", "sounds.1"], [])


def test_a_tower_that_is_used_twice_has_one_stem():
    tower = networks.stream(3)
    model = nn.ModuleDict({"left": tower, "right": tower})
    assert rows(model) == (["left.2"], [])
    assert type(model["right"][2]) is SoftPool2d


def test_two_backbones_of_which_one_has_no_stem_pooling():
    patches = nn.Sequential(conv(3, 16, 4), *[conv(16, 16) for _ in range(4)])
    assert rows(nn.ModuleList([patches, networks.stream(3)])) == (["1.2"], [])
    assert rows(nn.ModuleList([networks.stream(3), patches])) == (["0.2"], [])


@pytest.mark.parametrize("main", [[conv(), conv(), conv(), nn.MaxPool2d(2)], [nn.MaxPool2d(3, 1)]])
def test_the_first_pooling_of_a_pathway_without_stem_is_named(main):
    model = nn.ModuleDict({"main": nn.Sequential(conv(3), *main), "aux": networks.stream(3)})
    assert rows(model) == (["aux.2"], [f"main.{len(main)}"])


def test_what_may_be_another_stem_is_named():
    """The second network reads an image, or what the first makes of it."""
    first = nn.Sequential(conv(3), nn.MaxPool2d(2), conv(), conv(8, 3))
    model = nn.ModuleDict({"denoise": first, "classify": networks.stream(3)})
    result = replace_pooling(model)
    assert [row.name for row in result.replaced] == ["denoise.1"]
    assert [tuple(row) for row in result.left] == [
        (
            "classify.2",
            "MaxPool2d(3, stride=2, padding=1)",
            "classify.0 reads 3 channels, an image or the output of denoise.3: if this is a stem, "
            "name it in where",
        )
    ]
    assert "classify.2" in str(result)
    assert replace_pooling(model, ["classify.2"])


def test_the_pages_example_of_two_pathways(page):
    _, output = page.run("SoftPool in other detectors", 1)
    assert output == page.output("SoftPool in other detectors", 1)


def test_a_pathway_that_hides_its_pooling_is_named():
    hidden = nn.Sequential(conv(3), networks.Optional())
    model = nn.ModuleList([networks.stream(3), hidden])
    result = replace_pooling(model)
    assert [row.name for row in result.replaced] == ["0.2"]
    assert [row.name for row in result.left] == ["1.1"]
    assert "optional arguments" in result.left[0].reason


def test_attention_reads_no_image():
    """CBAM's convolution takes 2 channels, ECA's 1; a lambda layer's has 3 dimensions."""
    for attention in (nn.Conv2d(2, 1, 7), nn.Conv1d(1, 1, 3), nn.Conv3d(1, 16, (1, 3, 3))):
        layers = conv(3), nn.MaxPool2d(2), conv(), attention, nn.MaxPool2d(2)
        assert replaced(*layers) == ["1"]


def test_squeezes_and_dense_blocks_read_no_image():
    fire = conv(64, 16), conv(16, 64), conv(16, 64)
    assert replaced(conv(3, 64), nn.MaxPool2d(2), *fire, nn.MaxPool2d(2)) == ["1"]
    dense = conv(16, 8), conv(24, 8), conv(32, 16)
    assert replaced(conv(3, 16), nn.MaxPool2d(2), *dense, nn.AvgPool2d(2)) == ["1"]
    with torch.device("meta"):
        vgg = models.vgg11(weights=None)
    assert rows(vgg) == (["features.2"], [])


def test_lazy_convolutions_have_no_channels_yet():
    model = nn.Sequential(conv(3), nn.MaxPool2d(2), nn.LazyConv2d(8, 3), nn.MaxPool2d(2))
    with pytest.raises(ValueError, match=r"2 is a lazy convolution.* run the model on one input"):
        replace_pooling(model)
    model(torch.zeros(1, 3, 16, 16))
    assert rows(model) == (["1"], [])
