"""Long runs whose memory stays where it was: within 2 % after the warm-up."""

import ctypes
import gc
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase

from softpool_det.config import load_config
from softpool_det.ops import soft_pool2d
from softpool_det.training import Trainer

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("one_thread"),
]

CONFIG = Path(__file__).parents[2] / "configs/demo/digits_retinanet_softpool_R_18_FPN.yaml"
TOLERANCE = 0.02


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def sample():
    """Resident bytes and objects.

    What glibc keeps of freed memory goes back first: 1.5 to 10 % of all, depending on where the
    blocks lie. Without that the same run ended 0.4 %, 2.6 % and 3.6 % above its first sample, while
    what was allocated (mallinfo2) was 323 MiB before the first evaluation and 332 MiB ever after.
    """
    gc.collect()
    as_it_is = resident_bytes()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    samples = resident_bytes(), len(gc.get_objects())
    print(f"resident bytes {as_it_is}, given back {as_it_is - samples[0]}, objects {samples[1]}")
    return samples


def assert_flat(samples):
    """All of them against the first, which is after the warm-up."""
    for values in zip(*samples, strict=True):
        assert max(values) <= values[0] * (1 + TOLERANCE), samples


class Sampler(HookBase):
    def __init__(self, period):
        self.period, self.samples = period, []

    def after_step(self):
        if (self.trainer.iter + 1) % self.period == 0:
            self.samples.append(sample())


def test_training(small_datasets, datasets_in, tmp_path):
    """2,000 iterations; the first 400 are the warm-up."""
    tiny = ["SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 2000, "SOLVER.STEPS", ()]
    tiny += ["MODEL.FPN.OUT_CHANNELS", 16, "INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64]
    tiny += ["DATALOADER.NUM_WORKERS", 0, "MODEL.DEVICE", "cpu", "SEED", 1]
    tiny += ["SOLVER.CHECKPOINT_PERIOD", 500, "TEST.EVAL_PERIOD", 500, "OUTPUT_DIR", tmp_path]
    sampler = Sampler(400)
    with datasets_in(small_datasets):
        trainer = Trainer(load_config(str(CONFIG), list(map(str, tiny))))
        trainer.register_hooks([sampler])
        trainer.train()
    assert len(sampler.samples) == 5
    assert_flat(sampler.samples)


@pytest.mark.parametrize("channels_last", [False, True])
def test_operator(channels_last):
    """500,000 calls, each with its gradient."""
    input = torch.randn(1, 8, 9, 9, requires_grad=True)
    if channels_last:
        input = input.detach().to(memory_format=torch.channels_last).requires_grad_()
    samples = []
    for call in range(500_000):
        soft_pool2d(input, 3, 2, 1).sum().backward()
        input.grad = None
        if call % 100_000 == 50_000:
            samples.append(sample())
    assert_flat(samples)
