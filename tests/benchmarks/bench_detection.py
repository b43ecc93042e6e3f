"""How much faster several processes find faces than a loop in one, and one detector than another.

    python tests/benchmarks/bench_detection.py [--images N] [--workers W] [--dataset NAME]
                                               [--detectors hog haar]

All ways look at the same images in one call of this script, without the cache, landmarks included;
each measurement is made twice in turn, and the faster one counts. What matters are the ratios: 1 a
process would be perfect on a quiet machine with as many cores, starting the processes included.
Beside other work the processor time tells more: what several processes need in all against one.

Measured on FER2013 with two free cores, `--images 8192`:

    HOG     two processes 1.83 times as fast on the clock as one, 0.92 a process, for 1.06 times its
            processor time
    Haar    1.77 times, 0.88 a process; 1.53 times as fast as HOG by processor time in one process,
            with a face in 36 % of the images, where HOG has one in 70 %
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from typing import NamedTuple

import cv2

from fer_utils import datasets, detection

DETECTORS = ("hog", "haar")


class Pass(NamedTuple):
    """One look at all images: seconds on the clock and of processor time, and the faces.

    Args:
        clock, processor: seconds.
        found: share of the images with a face, 0-1.
    """

    clock: float
    processor: float
    found: float


def look(images, detector: detection.Detector, workers: int) -> Pass:
    """Find all faces with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FER_CACHE"] = folder
        clock, processor = time.perf_counter(), processor_seconds()
        found = detection.detect(images, detector, workers=workers).found
        clock, processor = time.perf_counter() - clock, processor_seconds() - processor
    return Pass(clock, processor, float(found.mean()))


def processor_seconds() -> float:
    """Of this process and of those it started that have ended."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=6144)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--dataset", default="synthetic", choices=["synthetic", "fer2013"])
    parser.add_argument("--detectors", nargs="+", default=DETECTORS, choices=DETECTORS)
    chosen = parser.parse_args()
    if chosen.dataset == "synthetic":
        images = datasets.load("synthetic", count=chosen.images).images
    else:
        images = datasets.load(chosen.dataset).images[: chosen.images]
    workers = max(chosen.workers, 2)
    cv2.setNumThreads(1)  # as in each of several processes: a loop in one process is one thread
    best: dict[tuple[str, int], Pass] = {}
    for _ in range(2):
        for detector in chosen.detectors:
            for processes in (1, workers):
                taken = look(images, detector, processes)
                before = best.get((detector, processes), taken)
                best[detector, processes] = Pass(*map(min, taken, before))
    print(f"{len(images):,} images of {chosen.dataset}, {os.cpu_count()} CPUs")
    for (detector, processes), taken in best.items():
        rates = [len(images) / seconds for seconds in (taken.clock, taken.processor)]
        print(
            f"{detector:5} {processes} process{'es' if processes > 1 else '  '}  "
            f"{rates[0]:7.0f} images/s on the clock, {rates[1]:7.0f} of processor time, "
            f"a face in {100 * taken.found:.1f} %"
        )
    for detector in chosen.detectors:
        one, several = best[detector, 1], best[detector, workers]
        ratio = one.clock / several.clock
        print(
            f"{detector:5} {workers} against 1 {ratio:10.2f} on the clock, {ratio / workers:.2f} a "
            f"process; {several.processor / one.processor:.2f} of its processor time"
        )
    if len(set(chosen.detectors)) > 1:
        hog, haar = (best[detector, 1].processor for detector in DETECTORS)
        print(f"haar against hog {hog / haar:9.2f} times as fast by processor time, one process")


if __name__ == "__main__":
    main()
