"""Records against published cells: a mean, an interval and a verdict for each.

The verdict is an equivalence test at the 5 % level written as an interval: two one-sided tests
reject "further apart than the margin" just when the 90 % interval of the difference lies inside
the margin. The margin stands with the published cell and was fixed before the runs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import hypot
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import stats

from fer_utils import records
from fer_utils.complexity import convolution_multiplications, separable_multiplications
from fer_utils.manifests import PublishedCell, load_published, published_papers

LEVEL = 0.90  # of the interval: two one-sided tests at 5 % each

Verdict = Literal[
    "reproduced",
    "exceeded",
    "not reproduced",
    "inconclusive",
    "not attempted",
    "not comparable",
    "stale",
]


@dataclass(frozen=True)
class Estimate:
    """What our runs say of one quantity, in the published cell's unit.

    Args:
        mean: over `values`.
        low, high: the 90 % interval; equal to the mean where a count is computed.
        values: one a seed; the folds of one seed are pooled, each image counted once.
        n_test: test images behind one value.
        runs: names of the records.
        stale: whether the code of one of them has changed since.
    """

    mean: float
    low: float
    high: float
    values: tuple[float, ...]
    n_test: int
    runs: tuple[str, ...] = ()
    stale: bool = False


@dataclass(frozen=True)
class Comparison:
    """A published cell beside its reproduction.

    Args:
        paper, table: where the cell stands.
        cell: as published.
        ours: None where there is nothing to compare with.
        verdict: None for cells that are not the paper's own result.
        reason: the verdict in one sentence.
        also: the same quantity under other protocols or models, without a verdict.
    """

    paper: str
    table: str
    cell: PublishedCell
    ours: Estimate | None
    verdict: Verdict | None
    reason: str
    also: dict[str, Estimate] = field(default_factory=dict)

    def as_dict(self) -> dict:
        """JSON-ready."""
        return {**asdict(self), "cell": self.cell.model_dump(mode="json")}


def compare(paper: str, folder: Path = records.RESULTS) -> list[Comparison]:
    """Every cell that a paper printed, with what the records say of it.

    Args:
        paper: one of `published_papers()`.
        folder: where the records are.
    """
    runs = records.read_all(paper, folder)
    return [
        _compare_cell(paper, table.id, cell, runs)
        for table in load_published(paper).tables
        for cell in table.cells
    ]


def compare_all(folder: Path = records.RESULTS) -> list[Comparison]:
    """The cells of every paper."""
    return [comparison for paper in published_papers() for comparison in compare(paper, folder)]


def _compare_cell(paper, table, cell: PublishedCell, runs) -> Comparison:
    if cell.margin is None:
        why = "cited from elsewhere" if cell.kind == "cited" else "no margin: not a result to test"
        return Comparison(paper, table, cell, None, None, why)
    ours = _multiplications(cell) if cell.metric == "multiplications" else None
    if ours is None:
        ours = estimate(select(runs, cell.select), cell.metric, cell.unit)
    also = {
        label: found
        for label, fields in cell.also.items()
        if (found := estimate(select(runs, fields), cell.metric, cell.unit))
    }
    return Comparison(paper, table, cell, ours, *judge(cell, ours), also)


def select(runs: list[records.RunRecord], fields: dict) -> list[records.RunRecord]:
    """The full runs whose parameters have all of `fields`."""
    return [
        run
        for run in runs
        if run.profile == "full"
        and all(run.parameters.get(key) == value for key, value in fields.items())
    ]


def estimate(runs: list[records.RunRecord], metric: str, unit: str) -> Estimate | None:
    """Mean and 90 % interval of a metric over runs; None without runs.

    Two sources of error are added in quadrature: seeds (Student's t over the values) and the
    finite test part (normal approximation of the binomial). One value alone has only the second.

    Args:
        runs: records of the same quantity: several seeds, or several folds of each.
        metric: a key of a record's test metrics that is a fraction.
        unit: "percent" or "fraction".
    """
    if not runs:
        return None
    if metric != "accuracy":
        raise ValueError(f"no estimate of {metric!r} over runs; accuracy is what papers print")
    by_seed: dict[int, list[dict]] = {}
    for run in runs:
        by_seed.setdefault(run.seed, []).append(run.metrics["test"])
    values, sizes = [], []
    for parts in by_seed.values():
        sizes.append(sum(part["n"] for part in parts))
        values.append(sum(part["correct"] for part in parts) / sizes[-1])
    mean, size = float(np.mean(values)), min(sizes)
    half = stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt(mean * (1 - mean) / size)
    if len(values) > 1:
        half = hypot(half, stats.t.ppf((1 + LEVEL) / 2, len(values) - 1) * stats.sem(values))
    scale = 100 if unit == "percent" else 1
    return Estimate(
        mean=scale * mean,
        low=scale * max(0.0, mean - half),
        high=scale * min(1.0, mean + half),
        values=tuple(scale * value for value in values),
        n_test=size,
        runs=tuple(run.run for run in runs),
        stale=any(records.is_stale(run) for run in runs),
    )


def judge(cell: PublishedCell, ours: Estimate | None) -> tuple[Verdict, str]:
    """The verdict on a cell and its reason.

    Args:
        cell: with a margin.
        ours: None where no run was made.
    """
    if ours is None:
        return "not attempted", "no full run is recorded"
    if ours.stale:
        return "stale", "the code of a run has changed since; run it again"
    low, high = ours.low - cell.value, ours.high - cell.value
    told = f"the difference is {_signed(low)} to {_signed(high)}, the margin {cell.margin:g}"
    if low >= -cell.margin and high <= cell.margin:
        return "reproduced", f"{told}: inside"
    if low > cell.margin:
        return "exceeded", f"{told}: above it"
    if high < -cell.margin:
        return "not reproduced", f"{told}: below it"
    return "inconclusive", f"{told}: across its edge"


def _signed(number: float) -> str:
    return f"{number:+.2f}" if number else "0"


def _multiplications(cell: PublishedCell) -> Estimate:
    """A count of multiplications, computed from the shapes in the cell's `select`."""
    shape = cell.select
    arguments = (
        tuple(shape["outputs"]),
        tuple(shape["kernel"]),
        shape["channels"],
        shape["filters"],
    )
    depthwise, pointwise = separable_multiplications(*arguments)
    value = {
        "normal": convolution_multiplications(*arguments),
        "depthwise": depthwise,
        "pointwise": pointwise,
        "separable": depthwise + pointwise,
    }[shape["convolution"]]
    return Estimate(value, value, value, (value,), 0)
