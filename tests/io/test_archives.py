"""Damage of checkpoints, bit by bit."""

import random

import pytest
import torch

from softpool_det.io.archives import find_damage, save_archive

STATE = {"model": {"weight": torch.arange(4.0)}, "iteration": 9, "optimizer": {"lr": 0.1}}


def is_unchanged(path):
    loaded = torch.load(path)
    weight = loaded["model"].pop("weight")
    expected = {**STATE, "model": {}}
    return torch.equal(weight, STATE["model"]["weight"]) and loaded == expected


@pytest.mark.parametrize(
    "share", [pytest.param(0.05, id="some"), pytest.param(1, id="all", marks=pytest.mark.slow)]
)
def test_every_bit_that_matters_is_seen(share, tmp_path):
    """Where nothing is found, the file is read, and has the same content."""
    path = tmp_path / "model.pth"
    save_archive(path, STATE)
    assert find_damage(path) is None
    whole, found = path.read_bytes(), 0
    bits = range(8 * len(whole))
    for bit in random.Random(0).sample(bits, int(share * len(bits))):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        damage = find_damage(path)
        found += damage is not None
        assert is_unchanged(path) if damage is None else len(damage.splitlines()) == 1, bit
    assert found > len(whole) * share


def test_cut_off_anywhere(tmp_path):
    path = tmp_path / "model.pth"
    save_archive(path, STATE)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert find_damage(path) is not None, length


def test_pickle_that_is_refused_is_not_damaged(tmp_path):
    """It is whole: torch.load tells what is wrong with it."""
    path = tmp_path / "model.pth"
    torch.save({"model": random.Random(0)}, path)
    assert find_damage(path) is None
