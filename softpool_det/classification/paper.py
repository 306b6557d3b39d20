"""The paper's Tables 2, 4, 5 and 6, as printed. Accuracies are percent, on ImageNet-1k."""

from __future__ import annotations

from typing import NamedTuple

ORIGINAL, SOFTPOOL = "Original", "SoftPool"


class Table2(NamedTuple):
    """A row; accuracies are (top-1, top-5)."""

    parameters: float  # millions
    gflop: float
    original: tuple[float, float]
    swapped: tuple[float, float]  # SoftPool in trained weights, the setting "pre-train"
    scratch: tuple[float, float]


# By torchvision's names.
TABLE_2 = {
    "resnet18": Table2(11.7, 1.83, (69.76, 89.08), (70.56, 89.89), (71.27, 90.16)),
    "resnet34": Table2(21.8, 3.68, (73.30, 91.42), (74.03, 91.85), (74.67, 92.30)),
    "resnet50": Table2(25.6, 4.14, (76.15, 92.87), (76.60, 93.15), (77.35, 93.63)),
    "resnet101": Table2(44.5, 7.87, (77.37, 93.56), (77.74, 93.99), (78.32, 94.21)),
    "resnet152": Table2(60.2, 11.61, (78.31, 94.06), (78.73, 94.47), (79.24, 94.72)),
    "densenet121": Table2(8.0, 2.90, (74.65, 92.17), (75.27, 92.60), (75.88, 92.92)),
    "densenet161": Table2(28.7, 7.85, (77.65, 93.80), (78.12, 94.15), (78.72, 94.41)),
    "densenet169": Table2(14.1, 3.44, (76.00, 93.00), (76.49, 93.38), (76.95, 93.76)),
    "resnext50_32x4d": Table2(25.0, 4.29, (77.62, 93.70), (78.23, 93.97), (78.48, 93.37)),
    "resnext101_32x8d": Table2(88.8, 7.89, (79.31, 94.28), (78.89, 94.73), (80.12, 94.88)),
    "wide_resnet50_2": Table2(68.9, 11.46, (78.51, 94.09), (79.14, 94.51), (79.52, 94.85)),
}

# McNemar's statistic and its p-value; googlenet is InceptionV1.
TABLE_4 = {
    "resnet18": (90.08, 2.28e-21),
    "resnet34": (15.04, 1.05e-4),
    "resnet50": (61.80, 3.80e-15),
    "resnet101": (23.13, 1.51e-6),
    "resnet152": (50.29, 1.32e-12),
    "densenet121": (411.02, 2.19e-91),
    "densenet161": (46.52, 9.06e-12),
    "densenet169": (27.32, 1.72e-7),
    "resnext50_32x4d": (45.13, 1.85e-11),
    "resnext101_32x8d": (695.87, 2.36e-53),
    "wide_resnet50_2": (39.41, 3.43e-10),
    "googlenet": (106.41, 5.98e-25),
    "inception_v3": (80.19, 3.39e-19),
}

_TABLE_5 = "resnet18 resnet34 resnet50 resnext50_32x4d densenet121 googlenet"
TABLE_5_NETWORKS = tuple(_TABLE_5.split())
# Top-1, by the names of `softpool_det.layers`.
TABLE_5 = {
    ORIGINAL: (69.76, 73.30, 76.15, 77.62, 74.65, 69.78),
    "StochasticPool": (70.13, 73.34, 76.11, 77.71, 74.84, 70.14),
    "S3Pool": (70.15, 73.56, 76.24, 77.82, 74.85, 70.17),
    "LPPool": (70.45, 73.74, 76.56, 77.86, 74.93, 70.32),
    "GatedPool": (70.74, 73.68, 76.75, 77.98, 74.88, 70.52),
    "DPPPool": (70.86, 74.25, 77.09, 78.20, 75.37, 70.95),
    "LIPPool": (70.83, 73.95, 77.13, 78.14, 75.31, 70.77),
    SOFTPOOL: (71.27, 74.67, 77.35, 78.48, 75.88, 71.43),
}


class Table6(NamedTuple):
    """A level: accuracies, and what it replaces that the one before it leaves."""

    top1: float
    top5: float
    layers: tuple[str, ...]


# InceptionV3. torchvision has no Mixed_7d, which the paper names with 7b and 7c.
TABLE_6 = {
    "N": Table6(77.45, 93.56, ()),
    "I": Table6(77.93, 93.61, ("maxpool1",)),
    "II": Table6(78.14, 93.68, ("maxpool2",)),
    "III": Table6(78.37, 93.74, ("Mixed_5b", "Mixed_5c", "Mixed_5d")),
    "IV": Table6(78.42, 93.78, ("Mixed_6a",)),
    "V": Table6(78.65, 93.84, ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e")),
    "VI": Table6(78.83, 93.90, ("Mixed_7a",)),
    "VII": Table6(79.04, 93.98, ("Mixed_7b", "Mixed_7c")),
}
