"""The measurements of speed run, on next to nothing; no test has a time in it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "benchmarks"


@pytest.mark.parametrize(
    ("script", "arguments", "ratios"),
    [
        ("bench_torch.py", ["--images", "4", "--batch", "4", "--repeats", "1"], 5),
        ("bench_detection.py", ["--images", "8"], 3),
    ],
)
def test_a_benchmark_ends_with_its_ratios(script, arguments, ratios):
    command = [sys.executable, FOLDER / script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = [line for line in done.stdout.splitlines() if re.search("against|both", line)]
    assert len(told) == ratios
    assert all(float(re.search(r"\d+\.\d\d", line)[0]) > 0 for line in told)
