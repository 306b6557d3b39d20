import contextlib
import io
import os
import re
import runpy
import signal
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

# Before anything imports the standard library's distutils: setuptools, which TorchInductor imports
# when it compiles, refuses to load behind it.
import setuptools  # noqa: F401
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from softpool_det.datasets import MADE_DATASETS, digit_scenes, register_datasets
from softpool_det.datasets.cache import ensure_made

ROOT = Path(__file__).parents[1]
# A background job ignores it, and so would every program that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
SMALL = {"digit_scenes_train": 8, "digit_scenes_val": 6}

LAZY = """
from detectron2.model_zoo import get_config
from softpool_det.modeling import PooledStem
from softpool_det.ops import SoftPool2d
from detectron2.config import LazyCall as L

dataloader = get_config("common/data/coco.py").dataloader
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_1x
model = get_config("common/models/retinanet.py").model
optimizer = get_config("common/optim.py").SGD
train = get_config("common/train.py").train

bottom_up = model.backbone.bottom_up
bottom_up.stem = L(PooledStem)(
    stem=bottom_up.stem, pool=L(SoftPool2d)(kernel_size=2, stride=2, ceil_mode=True)
)
bottom_up.stages.depth = 18
del bottom_up.stages.stride_in_1x1
bottom_up.stem.stem.norm = bottom_up.stages.norm = "BN"
bottom_up.freeze_at = 0
model.backbone.in_features = ["res3", "res4", "res5"]
model.backbone.top_block.in_channels = 512
model.num_classes = model.head.num_classes = 10
model.test_score_thresh = 0.0
for part, names in (("train", "digit_scenes_train"), ("test", "digit_scenes_val")):
    dataloader[part].dataset.names = names
    dataloader[part].num_workers = 0
    dataloader[part].mapper.augmentations[0].short_edge_length = 64
dataloader.train.total_batch_size = 2
dataloader.train.mapper.use_instance_mask = False
dataloader.evaluator.output_dir = "${...train.output_dir}/inference"
train.max_iter = 3
train.eval_period = 0
train.seed = 1
"""


@pytest.fixture(scope="session", autouse=True)
def unfused():
    """TorchScript as it is written, as in trainings.

    Functions of Detectron2's that ran fused once stay so for the whole process, and a training in
    it would not have the bits of one in a process of its own.
    """
    with torch.jit.optimized_execution(False):
        yield


@pytest.fixture(scope="session")
def small_datasets(tmp_path_factory):
    """A folder for $DETECTRON2_DATASETS in which the digit scenes are few, but real."""
    root = tmp_path_factory.mktemp("datasets")
    for dataset in digit_scenes.DATASETS:
        if dataset.name in SMALL:
            split = dataset.name.rsplit("_", 1)[1]
            scenes = partial(digit_scenes.plain_scenes, split=split, count=SMALL[dataset.name])
            # Programs take the files as they are: the manifest names the digest of the full set.
            ensure_made(replace(dataset, scenes=scenes), root)
    return root


@pytest.fixture(scope="session")
def environment(small_datasets):
    """For the programs: those data sets and the CPU, the same on every machine."""
    return {
        **os.environ,
        "DETECTRON2_DATASETS": str(small_datasets),
        "CUDA_VISIBLE_DEVICES": "",
        # On images this small, threads would mostly wait for each other.
        "OMP_NUM_THREADS": "1",
    }


@contextlib.contextmanager
def copied_catalogs(without=()):
    """A context behind which Detectron2's catalogs are what they were."""
    with pytest.MonkeyPatch.context() as patch:
        for catalog in (DatasetCatalog, MetadataCatalog):
            kept = {name: value for name, value in catalog.items() if name not in without}
            patch.setattr(catalog, "data", kept)
        yield patch


@pytest.fixture(scope="module", autouse=True)
def catalogs_of_module():
    """What a module's tests and fixtures register is gone behind it."""
    with copied_catalogs():
        yield


@pytest.fixture(autouse=True)
def catalogs_of_test():
    """What a test registers is gone behind it."""
    with copied_catalogs():
        yield


@pytest.fixture(scope="session")
def datasets_in():
    """A context in which this process has this package's data sets in a folder."""

    @contextlib.contextmanager
    def registered(root):
        with copied_catalogs(without=MADE_DATASETS) as patch:
            patch.setenv("DETECTRON2_DATASETS", str(root))
            register_datasets()
            yield

    return registered


@pytest.fixture(scope="session")
def program_here():
    """Runs one of the project's programs in this process, without the seconds of a new one."""

    def run(name, *arguments):
        program = ROOT / name
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [str(program), *map(str, arguments)])
            patch.syspath_prepend(program.parent)
            runpy.run_path(str(program), run_name="__main__")

    return run


@pytest.fixture(scope="session")
def signalled():
    """A context whose program gets a signal once a condition holds, and ends well by it.

    The signal goes to this process, in which the program runs.
    """

    @contextlib.contextmanager
    def expecting(number, condition):
        is_over = threading.Event()

        def send():
            while not is_over.wait(0.01):
                if condition():
                    os.kill(os.getpid(), number)
                    return

        # One that comes after the program's end is not to end the tests.
        before = signal.signal(number, lambda *_: None)
        sender = threading.Thread(target=send)
        sender.start()
        try:
            with pytest.raises(SystemExit) as end:
                yield
        finally:
            is_over.set()
            sender.join()
            signal.signal(number, before)
        assert end.value.code == 0

    return expecting


@pytest.fixture(scope="module")
def train_here(small_datasets, datasets_in, program_here, one_thread):
    """Runs tools/train_net.py on the small data sets in this process."""
    with datasets_in(small_datasets):
        yield partial(program_here, "tools/train_net.py")


@pytest.fixture(scope="module")
def one_thread():
    """Models on tiny images: threads would mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def lazy_config():
    """A small RetinaNet R18-FPN with SoftPool in the stem for a few iterations, as Python."""
    return LAZY


class Page:
    """A page of docs: its Python blocks, and what the page says they print."""

    def __init__(self, path):
        # A single # is a comment of a block, except in the first line.
        sections = re.split(r"(?:\A# |^##+ )(.+)$", path.read_text(), flags=re.MULTILINE)
        self.sections = dict(zip(sections[1::2], sections[2::2], strict=True))
        assert len(self.sections) == len(sections) // 2, f"{path} has a heading twice"

    def code(self, heading, index=0):
        return self._blocks(heading, "python")[index]

    def output(self, heading, index=0):
        return self._blocks(heading, "text")[index]

    def run(self, heading, index=0, replacements=None):
        """Run a block with words of it replaced; gives its variables and what it printed."""
        code = self.code(heading, index)
        for word, other in (replacements or {}).items():
            assert word in code
            code = code.replace(word, other)
        namespace = {"__name__": "__main__"}
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(compile(code, f"{heading}, block {index}", "exec"), namespace)
        return namespace, output.getvalue()

    def _blocks(self, heading, language):
        return re.findall(rf"^```{language}\n(.*?)^```", self.sections[heading], re.M | re.S)


@pytest.fixture(scope="session")
def page():
    return Page(ROOT / "docs" / "other-detectors.md")


@pytest.fixture(scope="session")
def deployment_page():
    return Page(ROOT / "docs" / "deployment.md")


@pytest.fixture(scope="session")
def own_data_page():
    return Page(ROOT / "docs" / "your-data.md")
