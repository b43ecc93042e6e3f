"""Records against published cells: a mean, an interval and a verdict for each.

The verdict is an equivalence test at the 5 % level written as an interval: two one-sided tests
reject "further apart than the margin" just when the 90 % interval of the difference lies inside
the margin. The margin stands with the published cell and was fixed before the runs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from scipy import stats

from fer_utils import records
from fer_utils.complexity import convolution_multiplications, separable_multiplications
from fer_utils.estimates import Estimate, estimate
from fer_utils.manifests import PublishedCell, load_manifest, load_published
from fer_utils.summary import Recorded, recorded

Verdict = Literal[
    "reproduced",
    "exceeded",
    "not reproduced",
    "inconclusive",
    "not attempted",
    "not comparable",
    "stale",
]
Run = TypeVar("Run", records.RunRecord, Recorded)


@dataclass(frozen=True)
class Comparison:
    """A published cell beside its reproduction.

    Args:
        paper, table: where the cell stands.
        cell: as published.
        ours: None where there is nothing to compare with.
        verdict: None for cells without a margin, unless they are not comparable.
        reason: the verdict in one sentence.
        also: the same quantity under other protocols or models, without a verdict.
        p_value: of the equivalence test, the larger of its two one-sided tests; None without one.
    """

    paper: str
    table: str
    cell: PublishedCell
    ours: Estimate | None
    verdict: Verdict | None
    reason: str
    also: dict[str, Estimate] = field(default_factory=dict)
    p_value: float | None = None

    @property
    def result(self) -> str:
        """What the cell is about, with how ours split the images where that moves a number."""
        split = split_of_ours(self.cell)
        return f"{self.cell.row}, {self.cell.column}" + (f" ({split})" if split else "")

    @property
    def beside(self) -> dict[str, Estimate]:
        """As `also`; an element-wise accuracy has in its label what predicting nothing reaches."""
        classes = len(load_manifest(self.cell.dataset).class_names) if self.cell.dataset else 0

        def label(words: str) -> str:
            metric = self.cell.also.get(words, {}).get("metric", self.cell.metric)
            if metric != "elementwise_accuracy" or not classes:
                return words
            return f"{words} (a network that predicts nothing: {100 * (1 - 1 / classes):.1f} %)"

        return {label(words): found for words, found in self.also.items()}

    def as_dict(self) -> dict:
        """JSON-ready."""
        return {**asdict(self), "cell": self.cell.model_dump(mode="json")}


def compare(paper: str, folder: Path = records.RESULTS) -> list[Comparison]:
    """Every cell that a paper printed, with what the records say of it.

    Args:
        paper: one of `published_papers()`.
        folder: where the records are.

    Raises:
        ValueError: no such paper, or a record that cannot be read or lacks what a cell asks for.
    """
    runs = recorded(paper, folder)
    stale = records.stale(runs)
    return [
        _compare_cell(paper, table.id, cell, runs, stale)
        for table in load_published(paper).tables
        for cell in table.cells
    ]


def _compare_cell(paper, table, cell: PublishedCell, runs, stale) -> Comparison:
    if cell.margin is None and cell.not_comparable is None:
        why = "cited from elsewhere" if cell.kind == "cited" else "no margin: not a result to test"
        return Comparison(paper, table, cell, None, None, why)

    def found(fields: dict, profiles: tuple[str, ...]) -> Estimate | None:
        """The cell's figure over the runs with `fields`, which may name another metric or part."""
        told = {"metric": cell.metric, "part": cell.part, "expression": cell.expression}
        asked = {key: fields.get(key, value) for key, value in told.items()}
        chosen = {key: value for key, value in fields.items() if key not in told}
        found = select(runs, chosen, profiles)
        for run in found:
            if asked["part"] not in run.metrics:
                scored = ", ".join(run.metrics)
                asks = f"{paper}, {cell.id} asks for the part {asked['part']!r}"
                raise records.RecordError(f"{asks}; {run.run} has scores of {scored}")
        return estimate(found, unit=cell.unit, stale=stale, **asked)

    also = {
        label: other
        for label, fields in cell.also.items()
        if (other := found(fields, records.KEPT))
    }
    if cell.not_comparable is not None:
        return Comparison(paper, table, cell, None, "not comparable", cell.not_comparable, also)
    if cell.metric == "multiplications":
        ours = _multiplications(cell)
    else:
        ours = found(cell.select, ("full",))
    verdict, reason = judge(cell, ours)
    p_value = equivalence(cell, ours) if ours and ours.standard_error else None
    return Comparison(paper, table, cell, ours, verdict, reason, also, p_value)


def select(runs: Sequence[Run], fields: dict, profiles: Collection[str] = ("full",)) -> list[Run]:
    """The runs whose parameters have all of `fields`, each once.

    Runs under a protocol that is wrong on purpose say so in their parameter "contrast", those with
    another reading of what the paper leaves open in "reading"; they are found only by `fields` that
    name it.

    Args:
        runs: of one paper, whole records or those of `summary.recorded`.
        fields: parameters and their values.
        profiles: which runs count; a verdict reads full ones alone.
    """
    asked = records.APART | fields
    given = {key: value for key, value in asked.items() if value is not None}.items()
    absent = [key for key, value in asked.items() if value is None]
    return records.latest(
        [
            run
            for run in runs
            if run.profile in profiles
            and given <= run.parameters.items()
            and all(run.parameters.get(key) is None for key in absent)
        ]
    )


def equivalence(cell: PublishedCell, ours: Estimate) -> float:
    """The p-value of "ours is within the margin": the larger of two one-sided t-tests.

    A side of the margin that lies outside 0-100 % cannot be crossed and is not tested.

    Args:
        cell: with a margin, in percent or as a fraction.
        ours: with a standard error.
    """
    whole = 100 if cell.unit == "percent" else 1
    distribution = stats.t(ours.df, loc=ours.mean, scale=ours.standard_error)
    low, high = cell.value - cell.margin, cell.value + cell.margin
    below = distribution.cdf(low) if low > 0 else 0.0
    above = distribution.sf(high) if high < whole else 0.0
    return float(max(below, above))


def split_of_ours(cell: PublishedCell) -> str:
    """How our runs beside a cell split data without parts of their own, where it moves a number."""
    by_image = (cell.select or {}).get("protocol") == "stratified"
    return "ours split by image" if by_image else ""


def judge(cell: PublishedCell, ours: Estimate | None) -> tuple[Verdict, str]:
    """The verdict on a cell and its reason.

    Args:
        cell: with a margin.
        ours: None where no run was made.
    """
    if ours is None:
        return "not attempted", "no full run is recorded"
    if ours.stale:
        return "stale", "the code or the data of a run have changed since; run it again"
    # Rounded, or 1 - 0.98 is more than 0.02 and an interval that ends at 100 % outside its margin.
    low, high = (round(end - cell.value, 9) for end in (ours.low, ours.high))
    digits = 4 if cell.unit == "fraction" else 2
    ends = f"{_signed(low, digits)} to {_signed(high, digits)}"
    told = f"the difference is {ends}, the margin {cell.margin:g}"
    if low >= -cell.margin and high <= cell.margin:
        return "reproduced", f"{told}: inside"
    if low > cell.margin:
        return "exceeded", f"{told}: above it"
    if high < -cell.margin:
        return "not reproduced", f"{told}: below it"
    return "inconclusive", f"{told}: across its edge"


def within_rounding(cell: PublishedCell, ours: Estimate) -> set[Verdict]:
    """The verdicts on all numbers that may have been printed as this one.

    It may have been rounded, half a unit of its last digit either way, or cut off, a unit below.

    Args:
        cell: with a margin.
        ours: beside it.
    """
    decimals = cell.printed.partition(".")[2]
    unit = 10.0 ** -sum(letter.isdigit() for letter in decimals)
    return {
        judge(cell.model_copy(update={"value": cell.value + part * unit}), ours)[0]
        for part in (-0.5, 0.0, 0.5, 1.0)
    }


def _signed(number: float, digits: int) -> str:
    return f"{number:+.{digits}f}" if number else "0"


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
