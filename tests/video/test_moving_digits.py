"""The made videos: the same every time, whole or absent, and what they say they are."""

import hashlib

import numpy as np
import pytest
from video_files import SMALL

from softpool_det.datasets.moving_digits import (
    CLASSES,
    DIRECTIONS,
    MovingDigits,
    write_moving_digits,
)
from softpool_det.video.clips import Clip, read_clip


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_same_settings_give_the_same_files(digits_folder, tmp_path):
    again = write_moving_digits(tmp_path / "again", SMALL)
    assert digest(again) == digest(digits_folder)
    before = digest(again)
    assert write_moving_digits(again, SMALL) == again
    assert digest(again) == before
    with pytest.raises(FileExistsError, match="something else than these moving digits"):
        write_moving_digits(again, MovingDigits(clips=2))
    assert len(CLASSES) == 10


def test_what_is_left_behind_by_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("softpool_det.datasets.moving_digits.LISTS", {})
    with pytest.raises(KeyError):
        write_moving_digits(tmp_path / "digits", SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["digits.lock"]


@pytest.mark.parametrize("name", CLASSES)
def test_digits_move_as_their_class_says(tmp_path_factory, name):
    """Each frame but the first equals an earlier one after shifts in the class's directions."""
    folder = tmp_path_factory.getbasetemp() / "clean"
    settings = MovingDigits(clips=1, frames=6, noise=0, speeds=(2, 2))
    write_moving_digits(folder, settings)
    path = folder / "UCF-101" / name / f"v_{name}_g01_c01.avi"
    frames = read_clip(Clip(str(path), None, None, 0), 6, (1, 1)).mean(-1)
    ink = frames[0] > 128
    # Both digits leave their places, and the ink moves along the class's directions alone.
    scores = {
        direction: np.mean(
            [
                (np.roll(frames[t], 2 * np.array(step), (0, 1)) * frames[t + 1]).sum()
                for t in range(5)
            ]
        )
        for direction, step in DIRECTIONS.items()
    }
    best = sorted(scores, key=scores.get, reverse=True)[: len(set(CLASSES[name]))]
    assert ink.any()
    assert set(best) == set(CLASSES[name])
