"""tools/export.py: what it checks before an export, and what it says of its comparison."""

import json
import shutil

import pytest
from detectron2.data.datasets import register_coco_instances

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning"),
    pytest.mark.usefixtures("one_thread"),
]
CONFIG = "digits_retinanet_softpool_R_18_FPN"


@pytest.fixture
def run(write_run, tmp_path):
    return write_run(tmp_path / "run", CONFIG)


@pytest.fixture
def export(program_here, datasets_in, small_datasets, tmp_path):
    """Runs the program; if it fails, nothing must have been written."""

    def start(run, *options, error=None):
        arguments = ("--config-file", run, "--output", tmp_path / "model", "--check", *options)
        with datasets_in(small_datasets):
            if error is None:
                program_here("tools/export.py", *arguments)
                return
            with pytest.raises(SystemExit, match=error):
                program_here("tools/export.py", *arguments)
        assert not (tmp_path / "model").exists()

    return start


@pytest.fixture
def own_data(small_datasets, tmp_path):
    """A copy of the validation set, and the overrides that name it."""
    folder = shutil.copytree(small_datasets / "digit_scenes_val", tmp_path / "data")
    files = str((str(folder / "annotations.json"),)), str((str(folder / "images"),))
    return folder, ("DATASETS.TEST_JSON", files[0], "DATASETS.TEST_IMAGES", files[1])


def test_images_are_checked_first(run, export, images, tmp_path):
    image = ("--images", images[0])
    export(run, *image, "--images", tmp_path / "no.jpg", error=r"no\.jpg: No such file")
    export(run, *image, "--images", tmp_path, error="it is a folder; give a list of the files")
    (tmp_path / "text.png").write_text("no image")
    export(run, *image, "--images", tmp_path / "text.png", error=r"text\.png cannot be read as an")


def test_the_configs_data_are_checked_first(run, write_run, own_data, export, tmp_path):
    folder, named = own_data
    write_run(run, CONFIG, *named)
    image = next((folder / "images").iterdir())
    image.rename(tmp_path / image.name)
    export(run, error=f"{image}: No such file")
    file = folder / "annotations.json"
    file.unlink()
    hint = r"name the data \(--val-json, --val-images\) or images \(--images\)"
    export(run, error=rf"DATASETS\.TEST_JSON: {file} is not a file; .*: {hint}")


def test_a_data_set_without_images(run, own_data, export):
    file = own_data[0] / "annotations.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"images": [], "annotations": []}))
    register_coco_instances("no_images", {}, str(file), str(file.parent))
    options = ("DATASETS.TEST", "('no_images',)")
    export(run, *options, error=rf"{file} has no images: name some \(--images\)")


def test_a_head_that_would_stay_random(run, export, images):
    options = ("--images", images[0], "MODEL.RETINANET.NUM_CLASSES", "5")
    export(run, *options, error="NUM_CLASSES .*is 5, the checkpoint has 10")


def test_says_if_nothing_was_compared(run, export, images, capsys):
    export(run, "--images", images[0], "MODEL.RETINANET.SCORE_THRESH_TEST", 1.1)
    output = capsys.readouterr().out
    assert "1 images, largest differences" in output
    assert "remark: PyTorch itself detects nothing" in output


@pytest.mark.slow
def test_compares_on_the_configs_data(run, export, capsys):
    export(run)
    output = capsys.readouterr().out
    assert "AP (bbox)" in output
    assert "6 images" in output
    assert "remark" not in output
