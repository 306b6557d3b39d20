"""Real video files, made once."""

import pytest
from video_files import SMALL

from softpool_det.datasets.moving_digits import write_moving_digits


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory):
    """250 videos of moving digits in UCF-101's layout."""
    return write_moving_digits(tmp_path_factory.mktemp("video") / "digits", SMALL)
