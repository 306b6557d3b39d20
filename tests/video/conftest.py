"""Real video files, few and small."""

import cv2
import numpy as np
import pytest

from softpool_det.video.moving_digits import MovingDigits, write_moving_digits

SMALL = MovingDigits(clips=1, side=32, frames=12, size=12)


def write_video(path, levels, fps=25, side=32, codec="XVID"):
    """Frames of one grey level each, by which they are known again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (side, side))
    for level in levels:
        writer.write(np.full((side, side, 3), level, np.uint8))
    writer.release()
    return str(path)


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory):
    """250 videos of moving digits in UCF-101's layout."""
    return write_moving_digits(tmp_path_factory.mktemp("video") / "digits", SMALL)
