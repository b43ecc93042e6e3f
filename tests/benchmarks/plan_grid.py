"""How long the plan of 5,000 runs takes, and the list of 10,000 records.

    python tests/benchmarks/plan_grid.py [--runs 5000] [--records 10000]

The runs are those of all papers with as many seeds as it takes, planned by a dry run of Snakemake
in a process of its own; the data are empty files, since a plan looks at names and times alone. The
records are copies of the committed ones under other names.

A plan that takes more than --seconds 60 or --gigabytes 2 is told in one sentence, and the exit
status is 1. The seconds are those of processors, of the plan's process and all that it starts: they
stay the same while other work goes on beside it, which the time on the wall does not. The memory is
the most that one of these processes held.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from fer_utils import grid, records
from fer_utils.manifests import dataset_names, load_manifest
from fer_utils.summary import recorded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60, help="limit of a plan, of processors")
    parser.add_argument("--gigabytes", type=float, default=2, help="limit of a plan's memory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds, gigabytes = plan_runs(options.runs, Path(folder))
        read_records(options.records, Path(folder))
    if seconds > options.seconds or gigabytes > options.gigabytes:
        sys.exit(
            f"The plan took {seconds:.1f} s of processors and {gigabytes:.2f} GB, over its limits "
            f"of {options.seconds:g} s and {options.gigabytes:g} GB."
        )


def plan_runs(number: int, folder: Path) -> tuple[float, float]:
    """Seconds of processors and gigabytes of the plan."""
    for name in dataset_names():
        for directory in load_manifest(name).directories[:1]:
            (folder / "data" / directory).mkdir(parents=True, exist_ok=True)
            (folder / "data" / directory / "made").write_bytes(b"nothing")
    os.environ["FER_DATA"] = str(folder / "data")
    per_seed = len(grid.plan(seeds=(0,)))
    seeds = " ".join(map(str, range(-(-number // per_seed))))
    command = [sys.executable, "-m", "snakemake", "--profile", "workflow/profiles/local"]
    command += ["--dry-run", "--quiet", "all", "--cores", "2", "--nolock", "runs"]
    command += ["--config", f"seeds={seeds}"]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=grid.ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processors = used.ru_utime + used.ru_stime
    gigabytes = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    print(
        f"{per_seed * len(seeds.split()):,} runs planned in {processors:.1f} s of processors, "
        f"{seconds:.1f} s on the wall, {gigabytes:.2f} GB"
    )
    return processors, gigabytes


def read_records(number: int, folder: Path) -> None:
    sources = sorted(records.RESULTS.glob("*/*.json"))
    for k, path in enumerate(islice(cycle(sources), number)):
        record = json.loads(path.read_text()) | {"run": f"{path.stem}-{k}"}
        copy = folder / "results" / path.parent.name / f"{path.stem}-{k}.json"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(json.dumps(record, indent=1))
    places = folder / "results", folder / "summary.jsonl"
    papers = {path.parent.name for path in sources}
    for what in ("the first time", "again"):
        started = time.perf_counter()
        found = [run for paper in papers for run in recorded(paper, *places)]
        seconds = time.perf_counter() - started
        print(f"{len(found):,} records in one list, {what}: {seconds:.1f} s")


if __name__ == "__main__":
    main()
