"""Video: clips a second of the loader, training steps of the networks, 3-D SoftPool in the stem.

python benchmarks/bench_video.py --json output/bench/video.json
python benchmarks/bench_video.py --device cuda --frames 16 --side 224 --batch 8

Random weights, clips of moving pictures with noise; docs/video.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from measuring.arguments import positive
from measuring.files import write_json
from measuring.machine import description, require
from measuring.timing import interleaved
from tabulate import tabulate
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models.video import r3d_18
from torchvision.transforms import v2

from softpool_det import replace_pooling
from softpool_det.ops import SoftPool3d, soft_pool3d
from softpool_det.video import NETWORKS, build_network
from softpool_det.video.clips import Clip, VideoClips

REFERENCE = "torchvision's r3d_18"
FRAMES = 100  # of the videos that the loader reads


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=positive, help="of PyTorch (default: its choice)")
    parser.add_argument("--frames", type=positive, default=8)
    parser.add_argument("--side", type=positive, default=64, help="pixels")
    parser.add_argument("--batch", type=positive, default=8, help="clips")
    parser.add_argument("--workers", type=int, default=0, help="of the loader")
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seconds", type=float, default=20, help="for each table row")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser.parse_args()


def loader_row(args: argparse.Namespace, width: int, height: int) -> dict:
    """The same XVID file of a moving picture with noise 32 times, an epoch a call."""
    with tempfile.TemporaryDirectory() as folder:
        path, random = str(Path(folder, "noise.avi")), np.random.RandomState(0)
        codec = cv2.VideoWriter.fourcc(*"XVID")
        writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, codec, 25, (width, height))
        picture = random.uniform(0, 255, (height // 8, width // 8, 3)).astype(np.float32)
        picture = cv2.resize(picture, (width, height))
        for i in range(FRAMES):
            # As a camera's.
            noise = random.normal(0, 15, picture.shape)
            frame = np.clip(np.roll(picture, i, axis=1) + noise, 0, 255)
            writer.write(frame.astype(np.uint8))
        writer.release()
        side = min(width, height, 224)
        steps = [v2.RandomCrop(side), v2.ToDtype(torch.float32)]
        found = [Clip(path, None, None, 0)] * 32
        clips = VideoClips(found, ["noise"], v2.Compose(steps), args.frames, (1, 2), is_random=True)
        loader = DataLoader(clips, args.batch, num_workers=args.workers)
        times = interleaved({"": lambda: list(loader)}, seconds=args.seconds, min_rounds=3)[""]
    row = {"video": f"{width} x {height} x {FRAMES}", "workers": args.workers}
    return row | {"clips_per_second": 1e3 * len(clips) / times.median_ms, "rounds": times.rounds}


def step(model: nn.Module, args: argparse.Namespace) -> Callable[[], None]:
    """A training step with stochastic gradient descent."""
    model.to(args.device).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    shape = (args.batch, 3, args.frames, args.side, args.side)
    clips = torch.randn(shape, device=args.device)
    labels = torch.zeros(args.batch, dtype=torch.long, device=args.device)

    def run() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(clips), labels).backward()
        optimizer.step()

    return run


def network_row(name: str, args: argparse.Namespace) -> dict:
    """Stock and the authors' SoftPool beside the reference, in turn."""
    soft = build_network(name, 400)
    replace_pooling(soft, **NETWORKS[name].soft_pool())
    models = {REFERENCE: r3d_18(num_classes=400), "stock": build_network(name, 400), "soft": soft}
    steps = {key: step(model, args) for key, model in models.items()}
    times = interleaved(steps, seconds=args.seconds, min_rounds=3)
    row: dict = {"network": name, **{f"{key}_ms": t.median_ms for key, t in times.items()}}
    return row | {"of_r3d_18": row["stock_ms"] / row[f"{REFERENCE}_ms"]}


def pooling_row(name: str, args: argparse.Namespace) -> dict:
    """The stem's pooling alone, forward and backward; SoftPool with the authors' window, too."""
    shape = (args.batch, 64, args.frames, args.side // 2, args.side // 2)
    x = torch.randn(shape, device=args.device, requires_grad=True)
    stock: Any = build_network(name, 1).get_submodule(NETWORKS[name].stem_pools[0])
    window = (stock.kernel_size, stock.stride, stock.padding)
    authors = SoftPool3d(NETWORKS[name].soft_pool()["kernel_size"], stock.stride, ceil_mode=True)
    functions = {
        "max_pool3d": lambda: F.max_pool3d(x, *window).sum().backward(),
        "soft_pool3d": lambda: soft_pool3d(x, *window).sum().backward(),
        "authors": lambda: authors(x).sum().backward(),
    }
    times = interleaved(functions, seconds=args.seconds, min_rounds=5)
    figures = {f"{key}_ms": t.median_ms for key, t in times.items()}
    ratios = {f"{key}_ratio": t.median_ms / figures["max_pool3d_ms"] for key, t in times.items()}
    return {"stem": name, "window": str(window), **figures, **ratios}


def main() -> None:
    args = parsed()
    require(args.device)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    shape = {key: getattr(args, key) for key in ("batch", "frames", "side")}
    result: dict = {"machine": description(args.device), **shape}
    print(f"{result['machine']['device_name']}, {torch.get_num_threads()} CPU threads; {shape}")
    result["loader"] = [loader_row(args, *size) for size in ((64, 64), (320, 240))]
    result["pooling"] = [pooling_row(name, args) for name in ("r3d_50", "slowfast_r50_4x16")]
    result["networks"] = []
    for name in args.networks:
        result["networks"].append(network_row(name, args))
        if args.json:  # each time, so that a later failure loses nothing
            write_json(args.json, result)
    for table in ("loader", "pooling", "networks"):
        print("\n" + tabulate(result[table], "keys", tablefmt="github", floatfmt=".3g"))


if __name__ == "__main__":
    main()
