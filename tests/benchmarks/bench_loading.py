"""How fast fer2013.csv becomes arrays, beside the usual way with pandas and str.split.

    python tests/benchmarks/bench_loading.py [--root DIR] [--repeats N]

Every measurement is a process of its own; the file is read once before, so that the disk does not
count. Memory is the peak of the process above what it had after its imports. The best of the
repeats stands in the table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MEASURE = """
import hashlib, json, resource, sys, time
{imports}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
{work}
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
scale = 1024 if sys.platform == "darwin" else 1  # macOS counts bytes, Linux KiB
images = images.reshape(len(images), -1)
print(json.dumps({{
    "seconds": seconds,
    "mebibytes": (peak - before) / 1024 / scale,
    "images": hashlib.sha256(images.tobytes()).hexdigest(),
}}))
"""

OURS = {
    "imports": "from fer_utils.datasets import load",
    "work": "images = load('fer2013', {root!r}).images",
}
USUAL = {
    "imports": "import numpy as np, pandas as pd",
    "work": (
        "table = pd.read_csv({path!r})\n"
        "images = np.stack([np.array(cell.split(), dtype=np.uint8) for cell in table['pixels']])"
    ),
}


def measure(way: dict[str, str], root: Path, cache: Path) -> dict[str, float]:
    """Seconds, MiB and the images' sha256 of one load in a new process."""
    names = {"root": str(root), "path": str(root / "fer2013" / "fer2013.csv")}
    code = MEASURE.format(imports=way["imports"], work=way["work"].format(**names))
    environment = os.environ | {"FER_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(os.environ.get("FER_DATA") or "data"))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    root = options.root.expanduser()
    path = root / "fer2013" / "fer2013.csv"
    if not path.is_file():
        sys.exit(f"{path} is not there; `fer-utils data check` says how to get it")
    with path.open("rb") as file:  # by blocks: a child's peak would count its parent's memory
        while file.read(1 << 20):
            pass

    rows: dict[str, list[dict[str, float]]] = {}
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as cache:
            rows.setdefault("first load", []).append(measure(OURS, root, Path(cache)))
            rows.setdefault("cached load", []).append(measure(OURS, root, Path(cache)))
            rows.setdefault("pandas, str.split", []).append(measure(USUAL, root, Path(cache)))
    if len({run["images"] for runs in rows.values() for run in runs}) != 1:
        sys.exit("the two ways disagree about the pixels")

    best = {way: min(runs, key=lambda run: run["seconds"]) for way, runs in rows.items()}
    usual = best["pandas, str.split"]
    print(f"{path.name}, {path.stat().st_size / 1e6:.0f} MB, {os.cpu_count()} CPUs")
    print(f"{'':20}{'seconds':>9}{'faster':>9}{'peak MiB':>10}{'less':>7}")
    for way, run in best.items():
        faster = usual["seconds"] / run["seconds"]
        less = usual["mebibytes"] / run["mebibytes"]
        print(f"{way:20}{run['seconds']:9.2f}{faster:8.1f}x{run['mebibytes']:10.0f}{less:6.1f}x")


if __name__ == "__main__":
    main()
