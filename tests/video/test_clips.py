"""Frames out of real video files, and what becomes of them."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from video_files import numbers_of, write_video

from softpool_det.classification.datasets import EpochBatches, loader
from softpool_det.datasets.moving_digits import CLASSES
from softpool_det.io.data_errors import DataError
from softpool_det.io.video import frames_at, open_video
from softpool_det.video.clips import Clip, VideoClips, frame_indices, read_clip, read_clips
from softpool_det.video.multigrid import Multigrid, Shape

CENTRE = 4, (1, 2)


@pytest.fixture(scope="module", params=["XVID", "MJPG", "mp4v", "VP90"])
def video(request, tmp_path_factory):
    """40 frames, of which 8 are a second."""
    suffix = {"mp4v": "mp4", "VP90": "webm"}.get(request.param, "avi")
    path = tmp_path_factory.mktemp("clips") / f"video.{suffix}"
    return write_video(path, 40, fps=8, codec=request.param)


def test_every_frame_is_the_one_asked_for(video):
    with open_video(video, threads=1) as capture:
        assert capture.get(cv2.CAP_PROP_N_THREADS) == 1
        for indices in ([0, 1, 2], [39], [3, 10, 10, 31], [5], [17, 38, 39, 39]):
            assert numbers_of(frames_at(capture, indices)) == indices
        assert numbers_of(frames_at(capture, [38, 39, 40, 41])) == [38, 39]
        assert frames_at(capture, []) == []


def test_the_centre_of_a_clip(video):
    # Of frames 0 to 39, 7 are spanned; of those from second 1 to second 2, which are 8, too.
    assert numbers_of(read_clip(Clip(video, None, None, 0), *CENTRE)) == [16, 18, 20, 22]
    assert numbers_of(read_clip(Clip(video, 1.0, 2.0, 0), *CENTRE)) == [8, 10, 12, 14]
    # Short ones repeat their last frame; ends behind the video's end are its end.
    assert numbers_of(read_clip(Clip(video, 4.5, 9.0, 0), *CENTRE)) == [36, 38, 39, 39]


def test_random_clips_lie_anywhere_inside(video):
    torch.manual_seed(0)
    drawn = [frame_indices(5, 20, 4, (1, 3), True) for _ in range(300)]
    assert {b - a for indices in drawn for a, b in pairwise(indices)} == {1, 2, 3}
    assert {indices[0] for indices in drawn} == set(range(5, 17))
    assert max(indices[-1] for indices in drawn) == 19
    pictures = read_clip(Clip(video, None, None, 0), 4, (1, 3), True)
    assert pictures.shape == (4, 32, 32, 3)
    assert len({*np.diff(numbers_of(pictures))}) == 1


@pytest.mark.parametrize("codec", ["XVID", "MJPG"])
def test_headers_that_promise_too_much(codec, tmp_path):
    """A file that was cut short gives the frames that it has."""
    path = Path(write_video(tmp_path / "cut.avi", 200, codec=codec))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with open_video(path) as capture:
        there = numbers_of(frames_at(capture, range(200)))
    assert there == list(range(len(there)))
    assert 50 < len(there) < 190
    assert set(numbers_of(read_clip(Clip(str(path), None, None, 0), 100, (1, 1)))) <= set(there)
    # A clip near the promised end becomes one at the end that is there.
    late = numbers_of(read_clip(Clip(str(path), (len(there) - 10) / 25, 8.0, 0), *CENTRE))
    assert late[-1] in there[-10:]


def test_one_transform_for_all_frames(digits_folder):
    torch.manual_seed(0)
    steps = [v2.RandomCrop(24), v2.ColorJitter(0.5, 0.5), v2.ToDtype(torch.float32)]
    clips = VideoClips(still(digits_folder), CLASSES, v2.Compose(steps), 5)
    sums = set()
    for _ in range(8):
        video, label = clips[3]
        assert (video.shape, video.dtype, label) == ((3, 5, 24, 24), torch.float32, 0)
        assert all(torch.equal(video[:, 0], video[:, t]) for t in range(5))
        sums.add(float(video.sum()))
    assert len(sums) == 8


def still(folder):
    """The first frames alone, as clips of which all frames are the same."""
    return [clip._replace(end=1 / 25) for clip in read_digits(folder)]


def read_digits(folder):
    return read_clips(folder / "ucfTrainTestlist" / "trainlist01.txt", folder / "UCF-101")[0]


def test_a_coarser_grid_has_the_same_extent(video):
    clips = VideoClips([Clip(video, None, None, 0)], ["a"], v2.Identity(), 16)
    fine, coarse = clips[0][0], clips[0, 4, 16][0]
    assert (fine.shape, coarse.shape) == ((3, 16, 32, 32), (3, 4, 16, 16))
    coarse = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    numbers = [numbers_of(x.permute(1, 2, 3, 0).numpy()) for x in (fine, coarse)]
    assert numbers == [list(range(12, 28)), [13, 17, 21, 25]]


def test_bad_arguments(digits_folder):
    found = read_digits(digits_folder)
    with pytest.raises(ValueError, match="frames must be 1 or more, got 0"):
        VideoClips(found, CLASSES, v2.Identity(), 0)
    for strides in ((3, 2), (0, 1), (1,)):
        with pytest.raises(ValueError, match=r"strides must be two, .*, got \("):
            VideoClips(found, CLASSES, v2.Identity(), 8, strides)


def test_batches_of_a_multigrid_training(digits_folder):
    found, transform = read_digits(digits_folder), v2.ToDtype(torch.float32)
    clips = VideoClips(found, CLASSES, transform, 8, is_random=True)
    schedule = Multigrid(Shape(2, 8, 32), (2,), 4)
    batches = EpochBatches(len(clips), 2, seed=0, grid=schedule)
    batches.begin(0)
    labels = []
    plan = schedule.epoch(0, len(clips))
    for (videos, classes, _), (shape, _) in zip(loader(clips, batches, 0, 0), plan, strict=True):
        assert videos.shape == (shape.batch, 3, shape.frames, shape.crop, shape.crop)
        assert videos.dtype == torch.float32
        labels += classes.tolist()
    assert len(labels) > 100
    assert set(labels) == set(range(10))


def test_what_cannot_be_read(tmp_path):
    good = write_video(tmp_path / "good.avi", 10)
    with pytest.raises(DataError, match=r"good.avi has no frame that can be read from 9.0 s on"):
        read_clip(Clip(good, 9.0, 11.0, 0), *CENTRE)
    bad = tmp_path / "bad.avi"
    bad.write_text("no video")
    for is_random in (False, True):
        with pytest.raises(DataError, match=r"bad.avi cannot be read"):
            read_clip(Clip(str(bad), None, None, 0), *CENTRE, is_random)
