"""Real video files, few and small."""

import cv2
import numpy as np

from softpool_det.datasets.moving_digits import MovingDigits

SMALL = MovingDigits(clips=1, side=32, frames=9, size=12)


def write_video(path, count, fps=25, codec="XVID"):
    """Frames of 32 x 32 pixels that carry their numbers, for `numbers_of`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (32, 32))
    for number in range(count):
        bits = np.array([number >> i & 1 for i in range(16)], np.uint8).reshape(4, 4)
        writer.write(np.repeat(np.kron(255 * bits, np.ones((8, 8), np.uint8))[..., None], 3, 2))
    writer.release()
    return str(path)


def numbers_of(pictures):
    bits = [picture.reshape(4, 8, 4, 8, 3).mean((1, 3, 4)).ravel() > 128 for picture in pictures]
    return [int(sum(int(bit) << i for i, bit in enumerate(picture))) for picture in bits]
