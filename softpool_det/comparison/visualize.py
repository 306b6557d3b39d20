"""Detections of a trained model, drawn on images and videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.utils.video_visualizer import VideoVisualizer
from detectron2.utils.visualizer import ColorMode, Visualizer
from tqdm import tqdm

from softpool_det.io.atomic import replacing
from softpool_det.io.images import read_bgr, read_header
from softpool_det.io.video import frames, open_video

# A softpool_det.Predictor, or another function of BGR pixels, uint8 (H, W, 3).
Finder = Callable[[np.ndarray], Instances]

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
# Codecs that every OpenCV with FFmpeg brings along; others depend on how it was built.
VIDEO_CODECS = {".avi": "MJPG", ".mkv": "mp4v", ".mov": "mp4v", ".mp4": "mp4v"}

# Names of classes are neither formulas nor TeX to run, whatever the user's matplotlibrc has.
PLAIN_TEXT: Any = {"text.parse_math": False, "text.usetex": False}

# Pixels. Labels are unreadable on images with a shorter side than this.
MIN_DRAWING_SIDE = 512


def draw(
    image_bgr: np.ndarray, instances: Instances, metadata: Metadata, score_threshold: float
) -> np.ndarray:
    """Draw detections on an image, enlarged where labels would be unreadable.

    Args:
        image_bgr: uint8 (H, W, 3).
        instances: detections on the CPU, in pixels of the image.
        metadata: of the data set, for the class names.
        score_threshold: detections with a lower score, from 0 to 1, are left out.

    Returns:
        A BGR image, uint8, whose shorter side has at least `MIN_DRAWING_SIDE` pixels.
    """
    kept = instances[instances.scores >= score_threshold]
    with matplotlib.rc_context(PLAIN_TEXT):
        drawn = _visualizer(image_bgr, metadata).draw_instance_predictions(kept)
    return drawn.get_image()[:, :, ::-1]


def draw_ground_truth(
    image_bgr: np.ndarray, record: dict[str, Any], metadata: Metadata
) -> np.ndarray:
    """As :func:`draw`, but for the annotations of `record`, an entry of a Detectron2 data set."""
    with matplotlib.rc_context(PLAIN_TEXT):
        drawn = _visualizer(image_bgr, metadata).draw_dataset_dict(record)
    return drawn.get_image()[:, :, ::-1]


def _visualizer(image_bgr: np.ndarray, metadata: Metadata) -> Visualizer:
    scale = max(1.0, MIN_DRAWING_SIDE / min(image_bgr.shape[:2]))
    # One colour a class where the data set names some: then the same object has the same colour
    # in every picture. Detectron2 draws random ones otherwise.
    mode = ColorMode.SEGMENTATION if metadata.get("thing_colors") else ColorMode.IMAGE
    # Detectron2's letters, about 10 pixels high, are for large screens.
    return Visualizer(image_bgr[:, :, ::-1], metadata, scale, mode, font_size_scale=1.5)


def visualize(
    predictor: Finder,
    metadata: Metadata,
    source: Path,
    output: Path,
    score_threshold: float = 0.5,
) -> None:
    """Draw detections on an image file, on the images of a folder, or on a video.

    Args:
        predictor: finds what is drawn.
        metadata: of the data set, for the class names.
        source: an image file, a folder of images (those below it are not looked at) or a video.
        output: the file to write; for a folder, the folder to write files of the same names to.
            A video's frame rate and size stay; its sound does not, nor an odd last row or column.
        score_threshold: detections with a lower score, from 0 to 1, are left out.

    Raises:
        FileNotFoundError: `source` does not exist.
        ValueError: it cannot be read, `output` cannot be written, or `score_threshold`
            is out of range.
        RuntimeError: OpenCV has no codec for the video to write.
    """
    pairs = files_to_draw(source, output, score_threshold)
    if pairs is None:
        _visualize_video(predictor, metadata, source, output, score_threshold)
        return
    for path, drawn in tqdm(pairs, desc="images", unit="image"):
        image = read_bgr(path)
        write_image(drawn, draw(image, predictor(image), metadata, score_threshold))


def files_to_draw(
    source: Path, output: Path, score_threshold: float
) -> list[tuple[Path, Path]] | None:
    """Check the arguments of :func:`visualize`, for which no detector is needed.

    Returns:
        Images and the files to write; None for a video.
    """
    if not 0 <= score_threshold <= 1:
        raise ValueError(f"score_threshold must be from 0 to 1, got {score_threshold}")
    if not source.exists():
        raise FileNotFoundError(f"input {source} does not exist")
    if source.resolve() == output.resolve():
        raise ValueError(f"output {output} is the input; give another path")
    if source.is_dir():
        images = sorted(path for path in source.iterdir() if _is_image(path))
        if not images:
            raise ValueError(f"folder {source} has no images ({_listed(IMAGE_SUFFIXES)})")
        if output.is_file():
            raise ValueError(f"output {output} is a file, but input {source} is a folder")
        return [(path, output / path.name) for path in images]
    if _is_image(source):
        read_header(source)
    else:
        _check_video(source)
    if output.is_dir():
        raise ValueError(f"output {output} is a folder, but input {source} is a file")
    suffixes = IMAGE_SUFFIXES if _is_image(source) else VIDEO_CODECS
    if output.suffix.lower() not in suffixes:
        raise ValueError(f"output {output} must end in one of {_listed(suffixes)}")
    return [(source, output)] if _is_image(source) else None


def _check_video(source: Path) -> None:
    try:
        with open_video(source):
            pass
    except ValueError as error:
        raise ValueError(f"input {source} is neither image nor folder, and {error}") from error


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _listed(suffixes) -> str:
    return ", ".join(sorted(suffixes))


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a BGR image, by way of a temporary file; the suffix says in which format."""
    with replacing(path) as temporary:
        if not cv2.imwrite(str(temporary), image):
            raise OSError(f"{path} cannot be written")


def _visualize_video(
    predictor: Finder,
    metadata: Metadata,
    source: Path,
    output: Path,
    score_threshold: float,
) -> None:
    codec = VIDEO_CODECS[output.suffix.lower()]
    visualizer = VideoVisualizer(metadata)

    def drawn(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        for frame in tqdm(
            frames(capture), desc="frames", unit="frame", total=count if count > 0 else None
        ):
            instances = predictor(frame)
            kept = instances[instances.scores >= score_threshold]
            with matplotlib.rc_context(PLAIN_TEXT):
                image = visualizer.draw_instance_predictions(frame[:, :, ::-1], kept)
            yield image.get_image()[:, :, ::-1]

    with open_video(source) as capture:
        _write_video(output, drawn(capture), codec, capture.get(cv2.CAP_PROP_FPS))


def _write_video(path: Path, drawn: Iterator[np.ndarray], codec: str, frame_rate: float) -> None:
    with replacing(path) as temporary:
        writer = cv2.VideoWriter()
        for frame in drawn:
            if not writer.isOpened():
                # Only a frame has the true size: the file's may be before a rotation.
                size = (frame.shape[1], frame.shape[0])
                fourcc = cv2.VideoWriter.fourcc(*codec)
                if not writer.open(str(temporary), fourcc, frame_rate, size):
                    raise RuntimeError(
                        f"OpenCV {cv2.__version__} here has no codec {codec} to write {path}; try "
                        f"another of {_listed(VIDEO_CODECS)}, or an OpenCV built with FFmpeg"
                    )
            writer.write(frame)
        if not writer.isOpened():
            raise ValueError("the video has no frames")
        writer.release()
