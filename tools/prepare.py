"""Prepare one data set as several runs will find it in the cache. Run by Snakefile and within.py.

python tools/prepare.py '{"name": ..., "dataset": ..., "call": ...}' build/grid/prepared/<name>.json

Two processes that prepare the same wait for each other, whichever folder they work for: the second
finds all in the cache. One that is cut off leaves what its function keeps, which counts as nothing
until the file above is written.
"""

import argparse
import importlib
import json
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from execute import end_as_by_ctrl_c, from_json
from train import sentence

from fer_utils import experiments, locks
from fer_utils.pixel_csv import require_cache_folder
from fer_utils.training.checkpoints import write_atomically


def prepare(preparation: dict, threads: int) -> int:
    """Call the function that the chapter calls, with the data as the chapter loads them.

    Args:
        preparation: a `grid.Preparation` as a dict.
        threads: cores to use, 0 for all.

    Returns:
        How many images there were.

    Raises:
        Whatever the function raises, and a warning that something could not be cached.
    """
    module, _, name = preparation["call"].partition(":")
    function = getattr(importlib.import_module(module), name)
    cores = {preparation["threads"]: threads or None} if preparation["threads"] else {}
    with warnings.catch_warnings():
        # What is computed and not kept would be computed again by every run.
        warnings.filterwarnings("error", message=".*not cached")
        data = experiments.load_data(preparation["dataset"])
        function(data, **preparation["settings"], **cores)
    return len(data)


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Wait for another process that prepares the same; the lock goes with the process."""
    path = require_cache_folder() / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        locks.take(file, wait=True)
        yield


@contextmanager
def progress(out: Path) -> Iterator[None]:
    """Let bars of progress go into a log, which the line of progress reads."""
    log = out.with_suffix(".log")
    out.with_suffix(".yaml").touch()  # the sign that somebody is writing the log
    try:
        with log.open("w") as file, redirect_stderr(file):
            yield
    finally:
        for path in (log, out.with_suffix(".yaml")):
            path.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preparation", type=from_json("name"), help="of the grid, as JSON")
    parser.add_argument("out", type=Path, help="written last, and only where all is prepared")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    name = options.preparation["name"]
    started = time.monotonic()
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(name), progress(options.out):
            images = prepare(options.preparation, options.threads)
        seconds = time.monotonic() - started
        found = {**options.preparation, "images": images, "seconds": seconds}
        write_atomically(options.out, json.dumps(found).encode())
    except Exception as error:  # of any function, told in one line
        told = sentence(error).rstrip(".") or "no message"
        sys.exit(f"  {name}  not prepared: {type(error).__name__}: {told}.")
    print(f"  {name}  prepared, {seconds / 60:.1f} min", flush=True)


if __name__ == "__main__":
    end_as_by_ctrl_c()
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
