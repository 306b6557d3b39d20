"""Annotation files in COCO's format, and entries of them that cannot be right."""

SQUARE = [2, 2, 12, 2, 12, 12, 2, 12]
NAN = float("nan")


def annotation(number, **changes):
    plain = {"image_id": 1, "category_id": 1, "bbox": [2, 2, 10, 10], "area": 100, "iscrowd": 0}
    return {"id": number, **plain, "segmentation": [SQUARE], **changes}


def coco(*annotations, **changes):
    images = [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 30} for i in (1, 2)]
    categories = [{"id": 1, "name": "one"}, {"id": 7, "name": "seven"}]
    lists = {"images": images, "categories": categories, "annotations": list(annotations)}
    return {**lists, **changes}


def rle(height=20, width=30, ones=5):
    return {"size": [height, width], "counts": [3, ones, height * width - 3 - ones]}


FAULTS = {
    "negative width": ({"bbox": [2, 2, -1, 5]}, "a width and a height of 0 or more"),
    "NaN box": ({"bbox": [2, NAN, 3, 5]}, "must be [x, y, width, height], four finite numbers"),
    "infinite box": (
        {"bbox": [2, 2, float("inf"), 5]},
        "must be [x, y, width, height], four finite numbers",
    ),
    "short box": ({"bbox": [2, 2, 3]}, "must be [x, y, width, height], four finite numbers"),
    "box of words": (
        {"bbox": ["2", 2, 3, 4]},
        "must be [x, y, width, height], four finite numbers",
    ),
    "no box": ({"bbox": None}, "bbox is None"),
    "unknown category": (
        {"category_id": 3},
        "category_id is 3, must be one of the 2 category ids 1, 7",
    ),
    "list for a category": ({"category_id": [1]}, "category_id is [1], must be one of the 2"),
    "unknown image": ({"image_id": 9}, "image_id is 9, must be the id of an image in this file"),
    "polygon without area": (
        {"segmentation": [[2, 2, 9, 2, 5, 2]]},
        "must be a mask with an area: its bbox is [2, 2, 10, 10]",
    ),
    "mask without area": (
        {"segmentation": rle(ones=0)},
        "must be a mask with an area: its bbox is [2, 2, 10, 10]",
    ),
    "NaN polygon": ({"segmentation": [[2, 2, NAN, 2, 5, 2]]}, "must be polygons of finite numbers"),
    "half a point": (
        {"segmentation": [[2, 2, 9, 2, 5, 9, 3]]},
        "must be polygons of finite numbers, [[x, y, ...], ...]",
    ),
    "mask of another size": (
        {"segmentation": rle(30, 20)},
        "segmentation.size is [30, 20], must be [20, 30], the image's height and width",
    ),
    "too short a mask": (
        {"segmentation": {"size": [20, 30], "counts": [3, 4]}},
        "must be whole numbers from 0 that add up to height x width, 20x30",
    ),
    "broken string": (
        {"segmentation": {"size": [20, 30], "counts": "~~"}},
        "segmentation.counts is '~~', must be",
    ),
    "polygon out of this world": (
        {"segmentation": [[1e9, 1, 9, 1, 9, 1e9]]},
        "must be a polygon with coordinates of at most 1048576",
    ),
    "endless polygon": (
        {"segmentation": [[0, 0, 9e5, 9e5] * 9]},
        "must be a polygon with coordinates of at most 1048576",
    ),
    "ignored": ({"ignore": 1}, "ignore is 1, must be 0, all that Detectron2 takes"),
    "keypoints of nothing": (
        {"keypoints": [None, 1, 2]},
        "keypoints is [None, 1, 2], must be finite numbers",
    ),
    "id twice": ({"id": 1}, "another entry before it has the same id"),
    "huge box": (
        {"bbox": [2, 2, 10**400, 5]},
        "must be [x, y, width, height], four finite numbers",
    ),
    "NaN area": ({"area": NAN}, "area is nan, must be a finite number of pixels, 0 or more"),
    "infinite area": ({"area": float("inf")}, "area is inf, must be a finite number"),
    "huge area": ({"area": 10**400}, "must be a finite number of pixels, 0 or more"),
    "negative area": ({"area": -0.5}, "area is -0.5, must be a finite number"),
    "area of words": ({"area": "100"}, "area is '100', must be a finite number"),
    "crowd of two": ({"iscrowd": 2}, "iscrowd is 2, must be 0 or 1"),
    "crowd in words": ({"iscrowd": "0"}, "iscrowd is '0', must be 0 or 1"),
    # Detectron2 would leave such an object out of a training without a word.
    "crowd of nothing": ({"iscrowd": None}, "iscrowd is None, must be 0 or 1"),
}
