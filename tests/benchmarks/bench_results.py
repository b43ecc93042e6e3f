"""How the pages of results bear 10,000 records.

    python tests/benchmarks/bench_results.py [--records 10000] [--against REVISION]

The records are made from the committed ones, with other seeds and numbers of epochs, in a copy of
the package in a temporary folder. Each line is a process of its own: every verdict and both tables
of the results page, without and with the cache that an earlier process left; then the page's data
read as whole records. With a revision of git, its package does the same on the same records.
Seconds are of processor time, so that neither the disk nor what else is at work counts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from itertools import islice, product
from pathlib import Path

from fer_utils import records

ROOT = records.RESULTS.parent
SEEDS = range(10)

PAGE = """
import json, resource, sys, time
start = time.process_time()
from fer_utils import comparison, display, records
from fer_utils.manifests import published_papers
try:
    from fer_utils.summary import recorded
except ImportError:
    recorded = records.read_all
if {whole}:
    recorded = comparison.recorded = records.read_all
imported = time.process_time()
every = [found for paper in published_papers() for found in comparison.compare(paper)]
compared = time.process_time()
overview = display.overview(every).data
shown = time.process_time()
kept = [run for paper in published_papers() for run in recorded(paper)]
costs = display.costs(every, kept).data
end = time.process_time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({{
    "records": len(kept),
    "verdicts": compared - imported,
    "overview": shown - compared,
    "costs": end - shown,
    "seconds": end - imported,
    "mebibytes": peak / (2**20 if sys.platform == "darwin" else 2**10),
    "bytes": len((overview + costs).encode()),
    "told": [found.as_dict() for found in every],
}}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--against", metavar="REVISION", help="of git, to be measured too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "now"
        for name in ("fer_utils", "data_manifests"):
            shutil.copytree(ROOT / name, project / name)
        make_records(options.records, project / "results")
        rows = {
            "lines, the first time": measure(project),
            "lines, from the cache": measure(project),
            "whole records": measure(project, whole=True),
        }
        if options.against:
            before = Path(folder) / "before"
            before.mkdir()
            archive = ["git", "-C", ROOT, "archive", options.against, "fer_utils"]
            packed = subprocess.run(archive, check=True, capture_output=True).stdout
            subprocess.run(["tar", "-x", "-C", before], input=packed, check=True)
            for name in ("data_manifests", "results"):
                (before / name).symlink_to(project / name)
            rows[options.against] = measure(before)
    if len({json.dumps(row.pop("told")) for row in rows.values()}) > 1:
        sys.exit("the ways disagree about a verdict")

    print(f"{rows['whole records']['records']:,} records, {os.cpu_count()} CPUs")
    names = ("verdicts", "overview", "costs", "all, s", "faster", "peak MiB", "less", "page KiB")
    print(f"{'':24}" + "".join(f"{name:>10}" for name in names))
    slow = rows["whole records"]
    for what, row in rows.items():
        figures = [f"{row[name]:.2f}" for name in ("verdicts", "overview", "costs", "seconds")]
        figures += [f"{slow['seconds'] / row['seconds']:.1f}x", f"{row['mebibytes']:,.0f}"]
        figures += [f"{slow['mebibytes'] / row['mebibytes']:.1f}x", f"{row['bytes'] / 1024:,.0f}"]
        print(f"{what:24}" + "".join(f"{figure:>10}" for figure in figures))


def make_records(number: int, folder: Path) -> None:
    """As many records, ten seeds of each variant, spread over the papers as the committed ones."""
    sources = [json.loads(path.read_text()) for path in sorted(records.RESULTS.glob("*/*.json"))]
    made = product(range(number), SEEDS, sources)
    for variant, seed, source in islice(made, number):
        # Only the first variant of each has epochs that a published number asks for.
        epochs = source["parameters"]["epochs"] + 1000 * variant
        parameters = source["parameters"] | {"seed": seed, "epochs": epochs}
        name = f"{source['run']}-{seed}-{variant}"
        record = source | {"run": name, "seed": seed, "parameters": parameters}
        path = folder / source["paper"] / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1))


def measure(project: Path, whole: bool = False) -> dict:
    """Seconds, memory and size of the results page's tables in a new process."""
    environment = {**os.environ, "PYTHONPATH": str(project)}
    command = [sys.executable, "-c", PAGE.format(whole=whole)]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
