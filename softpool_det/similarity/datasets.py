"""The paper's data sets of high-resolution images, by the names that their archives give files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from softpool_det.similarity.photographs import Photograph


@dataclass(frozen=True)
class Part:
    """Numbered files of one folder.

    Args:
        folder: below the root, or below the data set's own folder in it.
        name: of a file, with the place of its number.
        numbers: of all files.
    """

    folder: str
    name: str
    numbers: range

    def paths(self, base: Path) -> Iterator[Path]:
        """List the images' paths below `base`."""
        return (base / self.folder / self.name.format(number) for number in self.numbers)


@dataclass(frozen=True)
class Layout:
    """A data set's files, and where they come from.

    Args:
        title: its name, which its folder may have.
        parts: folders of numbered files. Each that is there counts, and must be whole.
        patterns: of files with other names, used where no part is there.
        source: what to get, where, and how large it is.
    """

    title: str
    parts: tuple[Part, ...]
    patterns: tuple[str, ...]
    source: str


DATASETS = {
    "div2k": Layout(
        "DIV2K",
        (
            Part("DIV2K_valid_HR", "{:04d}.png", range(801, 901)),
            Part("DIV2K_train_HR", "{:04d}.png", range(1, 801)),
        ),
        (),
        "DIV2K_valid_HR.zip (449 MB), DIV2K_train_HR.zip (3.5 GB) or both, from "
        "https://data.vision.ee.ethz.ch/cvl/DIV2K/",
    ),
    "urban100": Layout(
        "Urban100",
        (
            Part("Urban100_HR", "img_{:03d}.png", range(1, 101)),
            Part("image_SRF_4", "img_{:03d}_SRF_4_HR.png", range(1, 101)),
            Part("image_SRF_2", "img_{:03d}_SRF_2_HR.png", range(1, 101)),
            Part("HR", "img{:03d}.png", range(1, 101)),
            Part("", "img{:03d}.png", range(1, 101)),
        ),
        (),
        "the HR images from https://github.com/jbhuang0604/SelfExSR, or Urban100_HR.tar.gz "
        "(135 MB) from https://huggingface.co/datasets/eugenesiow/Urban100",
    ),
    "manga109": Layout(
        "Manga109",
        (),
        ("images/*/*.jpg", "HR/*.png"),
        "Manga109 by application at http://www.manga109.org/en/download.html (10,602 JPEG files, "
        "some gigabytes)",
    ),
    "flickr2k": Layout(
        "Flickr2K",
        (Part("Flickr2K_HR", "{:06d}.png", range(1, 2651)),),
        (),
        "Flickr2K.tar from https://cv.snu.ac.kr/research/EDSR/Flickr2K.tar (12 GB in HR images, "
        "and reduced ones)",
    ),
}


def dataset_photographs(name: str, root: Path) -> list[Photograph]:
    """List the images of a data set, by their paths below its folder.

    Args:
        name: a key of `DATASETS`.
        root: the data set's folder, or the one that holds it.

    Raises:
        KeyError: the data set is unknown.
        FileNotFoundError: it is not there, or a file of it is missing; the text says which, where
            to get it, and how large it is.
    """
    if name not in DATASETS:
        raise KeyError(f"no data set {name!r}; there are: {', '.join(DATASETS)}")
    layout = DATASETS[name]
    for base in (root, root / layout.title):
        paths = list(_files(layout, base))
        if paths:
            found = [Photograph(path.relative_to(base).as_posix(), path) for path in paths]
            return sorted(found, key=lambda photograph: photograph.name)
    expected = next((str(path) for part in layout.parts for path in part.paths(root)), None)
    missing = expected or " and ".join(str(root / pattern) for pattern in layout.patterns)
    raise FileNotFoundError(f"{layout.title} is not there: {missing} is missing; {_help(layout)}")


def _files(layout: Layout, base: Path) -> Iterator[Path]:
    # Urban100's folders are copies of each other, those of DIV2K are not.
    names: set[int] = set()
    for part in layout.parts:
        paths = list(part.paths(base))
        missing = [path for path in paths if not path.is_file()]
        if len(missing) == len(paths):
            continue
        if missing:
            count = f"{len(missing)} of {len(paths)} files, the first of them {missing[0]}"
            raise FileNotFoundError(f"{layout.title} lacks {count}; {_help(layout)}")
        if not names & set(part.numbers):
            names |= set(part.numbers)
            yield from paths
    if not names:
        yield from _matching(layout.patterns, base)


def _matching(patterns: Iterable[str], base: Path) -> list[Path]:
    # The first pattern that finds something: others would be copies.
    return next(filter(None, (sorted(base.glob(pattern)) for pattern in patterns)), [])


def _help(layout: Layout) -> str:
    return f"get {layout.source}, and unpack it there"
