"""One measurement in a process of its own: times and the most memory it held.

python worker.py ours|hotcoco GROUND_TRUTH BASELINE CANDIDATE COUNT PERMUTATIONS
"""

from __future__ import annotations

import json
import resource
import sys
import time


def ours(ground_truth: str, results: list[str], resamples: int, permutations: int) -> dict:
    from softpool_det.coco.reading import read_detections, read_ground_truth
    from softpool_det.statistics.bootstrap import bootstrap, permutation_test
    from softpool_det.statistics.matches import match

    clock = Clock()
    truth = read_ground_truth(ground_truth)
    read = [read_detections(path, truth) for path in results]
    clock.note("reading")
    runs = [[match(truth, detections, "bbox")] for detections in read]
    clock.note("matching")
    bootstrap(runs, resamples=resamples, random_seed=0, progress="bootstrap")
    clock.note("bootstrap")
    permutation_test(*runs, permutations=permutations, random_seed=0, progress="permutations")
    clock.note("permutations")
    return clock.seconds


def hotcoco(ground_truth: str, results: list[str], resamples: int, _: int) -> dict:
    import hotcoco

    clock = Clock()
    truth = hotcoco.COCO(ground_truth)
    read = [truth.load_res(path) for path in results]
    clock.note("reading")
    runs = [hotcoco.COCOeval(truth, detections, "bbox") for detections in read]
    for run in runs:
        run.evaluate()
    clock.note("matching")
    hotcoco.compare(*runs, n_bootstrap=resamples, seed=0)
    clock.note("bootstrap")
    return clock.seconds


class Clock:
    """Seconds of one step after another."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self.start = time.perf_counter()

    def note(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step] = now - self.start
        self.start = now


def main() -> None:
    which, ground_truth, baseline, candidate, resamples, permutations = sys.argv[1:]
    measure = {"ours": ours, "hotcoco": hotcoco}[which]
    seconds = measure(ground_truth, [baseline, candidate], int(resamples), int(permutations))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
