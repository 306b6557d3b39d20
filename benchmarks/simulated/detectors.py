"""Pairs of detectors whose true difference is known, to see whether intervals cover it.

Images differ in difficulty, objects as well, and both arms meet the same ones: their results go
together as those of real detectors do. Detections come with scores and IoU, as if matched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from softpool_det.coco.protocol import AREAS, IOU_THRESHOLDS
from softpool_det.statistics.average_precision import evaluate
from softpool_det.statistics.greedy_matching import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE
from softpool_det.statistics.matches import Matches


@dataclass(frozen=True)
class Population:
    """What pairs of detectors and images are drawn from.

    Attributes:
        qualities: of the two arms: how much easier they find objects than an arm of quality 0,
            in standard deviations of an object's difficulty.
        seed_spread: standard deviation of the quality over training runs, each arm's own.
        common_seed_spread: of the part that two runs of one seed share.
        categories: how many, the first the most frequent.
        objects: mean number in an image.
        false_positives: mean number in an image of average difficulty.
        decimals: of the scores; few make ties.
    """

    qualities: tuple[float, float] = (0.0, 0.1)
    seed_spread: float = 0.0
    common_seed_spread: float = 0.0
    categories: int = 3
    objects: float = 4.0
    false_positives: float = 4.0
    decimals: int = 15


@dataclass(frozen=True)
class Images:
    """N images and the G objects in them, by category and then image.

    Attributes:
        difficulty: (N,) float64, standard normal.
        image, category, size: (G,) int32; size 1 to 3 is small, medium, large.
        object_difficulty: (G,) float64, its image's included.
    """

    difficulty: np.ndarray
    image: np.ndarray
    category: np.ndarray
    size: np.ndarray
    object_difficulty: np.ndarray


def draw_images(population: Population, count: int, rng: np.random.Generator) -> Images:
    """`count` images."""
    difficulty = rng.standard_normal(count)
    image = np.repeat(np.arange(count), rng.poisson(population.objects, count))
    category = _categories(population, len(image), rng)
    order = np.lexsort((image, category))
    image, category = image[order].astype(np.int32), category[order]
    own = rng.standard_normal(len(image))
    return Images(
        difficulty=difficulty,
        image=image,
        category=category,
        size=rng.integers(1, len(AREAS), len(image)).astype(np.int32),
        object_difficulty=np.sqrt(0.3) * difficulty[image] + np.sqrt(0.7) * own,
    )


def draw_qualities(population: Population, seeds: int, rng: np.random.Generator) -> np.ndarray:
    """(2, seeds) float64: of each arm's training runs, paired by seed."""
    own = population.seed_spread * rng.standard_normal((2, seeds))
    common = population.common_seed_spread * rng.standard_normal(seeds)
    return np.array(population.qualities)[:, None] + own + common


def detect(
    population: Population, images: Images, quality: float, rng: np.random.Generator
) -> Matches:
    """The matched detections of one training run of that quality."""
    found = quality - images.object_difficulty + 0.7 * rng.standard_normal(len(images.image))
    seen = np.flatnonzero(found > -1.0)
    # IoU and score grow with how well an object was found, both loosely.
    iou = stats.norm.cdf(0.6 + 0.5 * found[seen] + 0.5 * rng.standard_normal(len(seen)))
    score = found[seen] + 0.7 * rng.standard_normal(len(seen))
    rate = population.false_positives * np.exp(0.4 * images.difficulty - 0.3 * quality)
    wrong_image = np.repeat(np.arange(len(rate)), rng.poisson(rate))
    wrong = len(wrong_image)
    wrong_score = -0.8 + 0.9 * rng.standard_normal(wrong)
    image = np.concatenate([images.image[seen], wrong_image]).astype(np.int32)
    category = np.concatenate([images.category[seen], _categories(population, wrong, rng)])
    size = np.concatenate([images.size[seen], rng.integers(1, len(AREAS), wrong)])
    logits = np.concatenate([score, wrong_score])
    scores = (1 / (1 + np.exp(-logits))).round(population.decimals)
    iou = np.concatenate([iou, np.zeros(wrong)])
    object_ids = np.concatenate([1 + seen, np.zeros(wrong, dtype=np.int64)])
    return _matches(population, images, (image, category, size, scores, iou, object_ids))


def true_figures(
    population: Population, images: int, seeds: int, rng: np.random.Generator
) -> np.ndarray:
    """(2, 7) float64: `METRICS` of both arms, 0 to 1, over many images and training runs.

    The runs' qualities are the midpoints of equally likely parts of their distribution, so that
    `seeds` runs, each with its own `images` images, are enough.
    """
    spread = np.hypot(population.seed_spread, population.common_seed_spread)
    points = stats.norm.ppf((np.arange(seeds) + 0.5) / seeds) if spread else np.zeros(1)
    total = np.zeros((2, 7))
    for point in points:
        drawn = draw_images(population, images, rng)
        for arm, quality in enumerate(population.qualities):
            run = detect(population, drawn, quality + spread * point, rng)
            total[arm] += list(evaluate(run).metrics().values())
    return total / len(points)


def _categories(population: Population, count: int, rng: np.random.Generator) -> np.ndarray:
    shares = 1 / np.arange(1, population.categories + 1)
    chosen = rng.choice(population.categories, count, p=shares / shares.sum())
    return chosen.astype(np.int32)


def _matches(population: Population, images: Images, columns: tuple) -> Matches:
    image, category, size, scores, iou, object_ids = columns
    # From a generator of their own: the other draws do not depend on ties.
    tie_break = np.random.default_rng(0).integers(2**64, size=len(scores), dtype=np.uint64)
    order = np.lexsort((tie_break, -scores, category))
    image, category, size, scores, iou, object_ids = (column[order] for column in columns)
    hit = iou >= IOU_THRESHOLDS[:, None]
    of_area = np.stack([np.ones(len(size), dtype=bool), *(size == a for a in (1, 2, 3))])
    state = np.where(hit, TRUE_POSITIVE, FALSE_POSITIVE).astype(np.uint8)
    state = np.where(of_area[:, None], state, np.uint8(IGNORED))
    everywhere = np.zeros((1, len(images.image)), dtype=bool)
    ignored = np.concatenate([everywhere, images.size != np.array([[1], [2], [3]])])
    return Matches(
        image_ids=np.arange(1, len(images.difficulty) + 1),
        category_ids=np.arange(1, population.categories + 1),
        offsets=np.searchsorted(category, np.arange(population.categories + 1)),
        image=image,
        score=scores,
        entry=order,
        tie_break=tie_break[order],
        state=state,
        matched=np.where(hit, object_ids, 0),
        object_ids=np.arange(1, len(images.image) + 1),
        object_image=images.image,
        object_category=images.category,
        object_ignored=ignored,
    )
