"""What a LazyConfig's runs do with faults: as those of a YAML config."""

import json
import runpy
import sys

import pytest
from running import PROGRAM, cut, edit, first_image, result


@pytest.fixture
def train(monkeypatch, tmp_path, one_thread, lazy_config):
    """Run the program here, on the data to break; gives its last line."""
    config = tmp_path / "tiny.py"

    def run(*options, more=""):
        config.write_text(lazy_config + more)
        sets = [f"dataloader.{part}.dataset.names=bad_runs_{name}" for part, name in PARTS.items()]
        here = ["train.device=cpu", f"train.output_dir={tmp_path / 'output'}", "train.max_iter=5"]
        flags = ["--trust-lazy-config", "--config-file", str(config)]
        monkeypatch.setattr(sys, "argv", [str(PROGRAM), *flags, *sets, *here, *options])
        try:
            runpy.run_path(str(PROGRAM), run_name="__main__")
        except SystemExit as error:
            return str(error.code)
        return ""

    return run


PARTS = {"train": "train", "test": "val"}
pytestmark = pytest.mark.filterwarnings("ignore:The distutils", "ignore:.*cuda.amp")


def test_corrupt_image(data, train):
    image = first_image(data / "train")
    cut(image)
    end = train()
    assert end.startswith(f"error: {image}: ")
    assert "\n" not in end


def test_corrupt_image_is_left_out_and_listed(data, train, tmp_path):
    image = first_image(data / "train")
    cut(image)
    assert train("train.skip_corrupt=true") == ""
    skipped = json.loads((tmp_path / "output" / "skipped.json").read_text())
    assert list(skipped["skipped"]) == [str(image)]
    assert result(tmp_path / "output")["metrics"]["bbox"]["AP"] >= 0


def test_image_of_too_many_pixels(data, train):
    end = train("train.max_pixels=100")
    assert end.startswith(f"error: {data / 'train' / 'images'}")
    assert "pixels" in end


def test_object_without_a_mask(data, train):
    """In the ground truth of a model with a mask head; where boxes alone count, it is no fault."""
    path = data / "val" / "annotations.json"
    edit(path, lambda content: content["annotations"][0].pop("segmentation"))
    end = train(more="model = get_config('common/models/mask_rcnn_fpn.py').model\n")
    assert end.startswith(f"error: {path}: entry 0 of annotations (id 1, image_id 1): ")
    assert end.endswith("AP of masks needs one")
    assert train("train.max_iter=1") == ""


def test_loss_that_is_not_finite(data, train, tmp_path):
    end = train("optimizer.lr=1e20", "lr_multiplier.warmup_length=0", "train.max_iter=20")
    assert end.startswith("error: the loss is not finite in iteration ")
    assert list((tmp_path / "output").glob("bad_batch_*/batch.pth"))
