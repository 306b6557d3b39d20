import numpy as np
import pytest
import torch
from PIL import Image

from softpool_det.classification.transforms import (
    batch_mixer,
    evaluation_transform,
    train_transform,
)

MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
PLAIN = {
    **{"size": 32, "crop_type": "resized", "crop_scale": (0.3, 1.0), "crop_size": 40},
    **{"flip": "none", "auto_augment": "", "random_erase": 0.0, "mean": MEAN, "std": STD},
}


def picture(height, width):
    return Image.fromarray(np.random.RandomState(0).randint(0, 256, (height, width, 3), np.uint8))


def normalised(pixels):
    """(H, W, 3) from 0 to 255 as the model gets it."""
    values = (np.asarray(pixels, np.float64) - np.array(MEAN)) / np.array(STD)
    return torch.from_numpy(values.transpose(2, 0, 1)).float()


def test_evaluation_sees_the_normalised_centre():
    pixels = picture(40, 60)
    found = evaluation_transform(40, 30, MEAN, STD)(pixels)
    torch.testing.assert_close(found, normalised(np.asarray(pixels)[5:35, 15:45]))


def test_absolute_crop_is_a_region_of_that_size():
    """With as many pixels out as in the crop nothing is resized: the region can be found again."""
    pixels = picture(50, 70)
    torch.manual_seed(1)
    transform = train_transform(**{**PLAIN, "size": 40, "crop_type": "absolute"})
    regions = normalised(pixels).unfold(1, 40, 1).unfold(2, 40, 1).permute(1, 2, 0, 3, 4)
    places = set()
    for _ in range(5):
        near = (regions - transform(pixels)).abs().amax((2, 3, 4)) < 1e-4
        assert near.sum() == 1
        places.add(int(near.flatten().nonzero()))
    assert len(places) > 1


def test_absolute_crop_of_a_small_image():
    found = train_transform(**{**PLAIN, "crop_type": "absolute"})(picture(10, 30))
    assert found.shape == (3, 32, 32)


def test_flip_and_erase():
    pixels = picture(32, 32)
    whole = {**PLAIN, "crop_type": "absolute", "crop_size": 32}
    torch.manual_seed(0)
    flipped = train_transform(**{**whole, "flip": "horizontal"})
    seen = [flipped(pixels) for _ in range(20)]
    plain = normalised(pixels)
    mirrored = [torch.allclose(view, plain.flip(2), atol=1e-5) for view in seen]
    assert 0 < sum(mirrored) < 20
    assert all(
        is_mirrored or torch.allclose(view, plain, atol=1e-5)
        for is_mirrored, view in zip(mirrored, seen, strict=True)
    )
    erased = train_transform(**{**whole, "random_erase": 1.0})(pixels)
    changed = (erased - plain).abs().amax(0) > 1e-5
    assert changed.any()
    assert (erased[:, changed] == 0).all()


def test_trivial_augment_changes_pixels():
    whole = {**PLAIN, "crop_type": "absolute", "crop_size": 32, "auto_augment": "ta_wide"}
    torch.manual_seed(0)
    views = [train_transform(**whole)(picture(32, 32)) for _ in range(10)]
    assert len({view.sum().item() for view in views}) > 3


@pytest.mark.parametrize(
    ("argument", "value", "key"),
    [
        ("crop_type", "relative", r"INPUT\.CROP\.TYPE"),
        ("flip", "vertical", r"INPUT\.RANDOM_FLIP"),
        ("auto_augment", "ra", r"INPUT\.AUTO_AUGMENT"),
    ],
)
def test_unknown_name(argument, value, key):
    with pytest.raises(ValueError, match=f"{key} must be .*'{value}'"):
        train_transform(**{**PLAIN, argument: value})


def test_mixer():
    assert batch_mixer(0.0, 0.0, 4) is None
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6) % 4
    torch.manual_seed(0)
    mixer = batch_mixer(0.2, 1.0, 4)
    mixed, soft = zip(*(mixer(images, labels) for _ in range(10)), strict=True)
    assert all(view.shape == images.shape for view in mixed)
    assert all(torch.allclose(part.sum(1), torch.ones(6)) for part in soft)
    # CutMix takes pixels over as they are, MixUp takes hardly any.
    kept = [bool((view == images).float().mean() > 0.3) for view in mixed]
    assert True in kept
    assert False in kept
