"""How much faster faces are found by several processes than by a loop in one.

    python tests/benchmarks/bench_detection.py [--images N] [--workers W] [--dataset NAME]

Both ways look at the same images in one call of this script, without the cache; each measurement is
made twice in turn, and the faster one counts. What matters is the ratio: 1 a core would be perfect
on a quiet machine, starting the processes included.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time

from fer_utils import datasets, detection


def seconds(images, workers: int) -> float:
    """Wall-clock seconds of one pass with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FER_CACHE"] = folder
        started = time.perf_counter()
        detection.detect(images, workers=workers)
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=6144)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--dataset", default="synthetic", choices=["synthetic", "fer2013"])
    chosen = parser.parse_args()
    if chosen.dataset == "synthetic":
        images = datasets.load("synthetic", count=chosen.images).images
    else:
        images = datasets.load(chosen.dataset).images[: chosen.images]
    best: dict[int, float] = {}
    for _ in range(2):
        for workers in (1, chosen.workers):
            taken = seconds(images, workers)
            best[workers] = min(taken, best.get(workers, taken))
    one, several = best[1], best[chosen.workers]
    print(f"one process         {len(images) / one:8.0f} images/s")
    print(f"{chosen.workers} processes         {len(images) / several:8.0f} images/s")
    print(f"ratio               {one / several:8.2f}, {one / several / chosen.workers:.2f} a core")


if __name__ == "__main__":
    main()
