"""What bfloat16 and channels_last do to the speed of rahman2021's training.

    python tests/benchmarks/bench_torch.py [--model resnet18] [--images 512] [--threads 1]

One pass over the same drawn faces with each number format and each order in memory, in turn within
one run; the first batch does not count, and of the repeats the fastest one does. What matters are
the ratios. On a processor, seconds are of processor time: with one thread, as in `make reproduce`,
what else is at work hardly counts; with two, waiting for each other does. On a GPU they are on the
clock.

Measured with one thread on an AMD EPYC that has bfloat16 instructions, two cores beside other work:

    --model resnet18                             bfloat16 1.5 to 1.6 times as fast as float32,
                                                 channels_last 0.98 to 1.03 times as contiguous
    --model vgg19_bn --images 256 --repeats 2    1.8 times, 1.03 to 1.04 times

On one that has none (AVX2), where a few images must do:

    --images 16 --batch 16 --repeats 1           bfloat16 takes 25 times as long as float32,
                                                 5 times with channels_last
    --model vgg19_bn --images 8 --batch 8 --repeats 1    20 times, 9 times
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from typing import get_args

import numpy as np
import torch
from tqdm import tqdm

from fer_utils import datasets
from fer_utils.models import rahman2021 as paper
from fer_utils.preprocessing import crop_and_flip
from fer_utils.training import torch_loop

PRECISIONS = ("float32", "bfloat16")
ORDERS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def rate(model: str, images, targets, batch: int, precision: str, order: str) -> float:
    """Training images a second of a new network, loading and augmentation left out."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = paper.build(targets.shape[1], model=model)
    network.to(device, memory_format=ORDERS[order])
    trained = torch_loop.Trainable(network, paper.optimizer(network), precision)
    clock = time.perf_counter if device == "cuda" else time.process_time
    bar = tqdm(disable=True)
    torch_loop._epoch(trained, images[:batch], targets[:batch], batch, bar)
    started = clock()
    torch_loop._epoch(trained, images[batch:], targets[batch:], batch, bar)  # waits for its end
    return (len(images) - batch) / (clock() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18", choices=get_args(paper.Model))
    parser.add_argument("--images", type=int, default=512, help="a pass, besides the first batch")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    torch_loop.prepare(0, chosen.threads)
    faces = datasets.load("synthetic", count=chosen.images + chosen.batch)
    images = crop_and_flip(faces.images, np.random.default_rng(0))
    targets = torch_loop.one_hot(faces)

    best: dict[tuple[str, str], float] = {}
    for _ in range(chosen.repeats):
        for form in product(PRECISIONS, ORDERS):
            found = rate(chosen.model, images, targets, chosen.batch, *form)
            best[form] = max(found, best.get(form, found))
    gpu = torch.cuda.is_available()
    where = torch.cuda.get_device_name() if gpu else f"{chosen.threads} thread(s), processor time"
    print(f"{chosen.model}, batches of {chosen.batch}, {where}")
    for (precision, order), found in best.items():
        print(f"{precision:10}{order:15}{found:8.0f} images/s")
    for order in ORDERS:
        ratio = best["bfloat16", order] / best["float32", order]
        print(f"bfloat16 against float32, {order:28}{ratio:6.2f}")
    for precision in PRECISIONS:
        ratio = best[precision, "channels_last"] / best[precision, "contiguous"]
        print(f"channels_last against contiguous, {precision:20}{ratio:6.2f}")
    both = best["bfloat16", "channels_last"] / best["float32", "contiguous"]
    print(f"{'both':54}{both:6.2f}")


if __name__ == "__main__":
    main()
