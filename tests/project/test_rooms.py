"""What each room loads, in processes of their own, and who registers the backbones."""

import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

import softpool_det
from softpool_det import model_zoo

NAMES = (
    "build_softpool_resnet_backbone",
    "build_softpool_resnet_fpn_backbone",
    "build_retinanet_softpool_resnet_fpn_backbone",
)


def loaded(*statements):
    """The top-level packages that a fresh Python has loaded after the statements."""
    program = "; ".join(
        [*statements, "import sys", "print(*{m.split('.')[0] for m in sys.modules})"]
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_start_without_torch_and_detectron2():
    rooms = ["coco.reading", "statistics", "report", "testdev", "model_zoo"]
    rooms += ["comparison.compare_files", "cli.compare", "cli.export_testdev"]
    imports = ["import softpool_det", *(f"import softpool_det.{room}" for room in rooms)]
    assert not {"torch", "detectron2"} & loaded(*imports)


def test_start_without_detectron2():
    rooms = ["ops", "replace", "io.archives"]
    assert "detectron2" not in loaded(*(f"import softpool_det.{room}" for room in rooms))


def test_checking_a_result_file_starts_without_compilers_and_charts():
    slow = {"matplotlib", "numba", "scipy", "torch"}
    assert not slow & loaded("import softpool_det.cli.export_testdev")


FIRST_IMPORTS = {
    "detectron2": "import detectron2.modeling; import softpool_det",
    "softpool_det": "import softpool_det; from detectron2.config import get_cfg; "
    "softpool_det.add_softpool_config(get_cfg())",
    "modeling": "import softpool_det.modeling",
}
# What all of them import, once; the rest is each one's own, in a fork.
REGISTERING = f"""
import os, sys
import torch, torchvision.ops
assert not {{"softpool_det", "detectron2"}} & sys.modules.keys()
for statements in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        exec(statements)
        from detectron2.modeling import BACKBONE_REGISTRY
        assert all(name in BACKBONE_REGISTRY for name in {NAMES})
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, statements
"""


def test_registers_its_backbones_whatever_is_imported_first():
    subprocess.run([sys.executable, "-c", REGISTERING, *FIRST_IMPORTS.values()], check=True)


def test_version_is_that_of_pyproject():
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    assert softpool_det.__version__ == tomllib.loads(pyproject.read_text())["project"]["version"]


def test_the_root_names_what_it_has():
    program = """import softpool_det
assert {"replace_pooling", "add_softpool_config", "__version__"} <= set(dir(softpool_det))
try:
    softpool_det.pool
except AttributeError as error:
    assert "has no attribute 'pool'" in str(error)
else:
    raise AssertionError"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_configs_are_found_by_name():
    path = model_zoo.get_config_file("COCO-Detection/retinanet_softpool_R_50_FPN_1x.yaml")
    assert "build_retinanet_softpool_resnet_fpn_backbone" in Path(path).read_text()
    with pytest.raises(FileNotFoundError, match=r"config_path='no.yaml': .*configs has no such"):
        model_zoo.get_config_file("no.yaml")
