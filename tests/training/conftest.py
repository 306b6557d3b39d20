import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from detectron2.data.datasets import register_coco_instances

# The annotation files that its tests share with this folder's.
sys.path.insert(0, str(Path(__file__).parents[1] / "coco"))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of few megabytes, or a test that cannot be run."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=%d", "tmpfs", str(folder)]

    def make(mebibytes, *options):
        command = [part.replace("%d", f"{mebibytes}m") for part in mount]
        if options:
            command[4] += "," + ",".join(options)
        if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
            pytest.skip("mounting a small disk needs root")
        return folder

    yield make
    subprocess.run(["umount", "--lazy", str(folder)], check=False, stderr=subprocess.DEVNULL)


@pytest.fixture
def data(small_datasets, tmp_path):
    """A copy of the small digit scenes to break, registered as a stranger's."""
    names = {}
    for part in ("train", "val"):
        folder = shutil.copytree(small_datasets / f"digit_scenes_{part}", tmp_path / part)
        names[part] = f"bad_runs_{part}"
        files = str(folder / "annotations.json"), str(folder / "images")
        register_coco_instances(names[part], {}, *files)
    return tmp_path


@pytest.fixture
def dataset(tmp_path):
    """Registers a file's content under a name."""
    names = []

    def register(content):
        path = tmp_path / "instances.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        name = f"annotations_test_{len(names)}"
        register_coco_instances(name, {"note": "kept"}, str(path), str(tmp_path / "images"))
        names.append(name)
        return name

    return register
