"""What recorded runs say of one quantity: a mean and an interval.

Two things make a recorded number uncertain, and both enter the interval. The test part is finite:
other images, or other people, would have given another number. And a network trained with another
seed is another network. The two variances are added; degrees of freedom follow Welch and
Satterthwaite. Where the people are known, as in CK+, an accuracy of the test part has the larger of
two errors: of images drawn one by one, and of people drawn with all of their images, because frames
of one person stand or fall together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import statsmodels.api as sm
from scipy import stats

from fer_utils import metrics
from fer_utils.folds import number_of_folds
from fer_utils.manifests import Expression
from fer_utils.records import RunRecord

LEVEL = 0.90  # of the interval: two one-sided tests at 5 % each
DRAWS = 2000  # of the bootstrap, for figures that have no formula

OF_MATRIX = {
    "accuracy": metrics.accuracy,
    "balanced_accuracy": metrics.balanced_accuracy,
    "macro_precision": metrics.macro_precision,
    "macro_f1": metrics.macro_f1,
    "detection_rate": metrics.detection_rate,
}
METRICS = (*OF_MATRIX, "recall", "elementwise_accuracy")


@dataclass(frozen=True)
class Estimate:
    """What runs say of one quantity, in the published cell's unit.

    Args:
        mean: over `values`.
        low, high: the 90 % interval; equal to the mean where a count is computed.
        values: one a seed; the folds of one seed are pooled, each image counted once.
        n_test: images behind one value: of the part, or of the expression for its recall.
        runs: names of the records.
        stale: whether the code or the data of one of them have changed since.
        standard_error: of the mean.
        df: degrees of freedom of its t distribution; infinite for a normal one.
        persons: how many people the images show; None where they are not known.
    """

    mean: float
    low: float
    high: float
    values: tuple[float, ...]
    n_test: int
    runs: tuple[str, ...] = ()
    stale: bool = False
    standard_error: float = 0.0
    df: float = np.inf
    persons: int | None = None

    @property
    def seeds(self) -> int:
        """Behind the interval: with one, it shows the test images and not another seed's chance."""
        return len(self.values) if self.runs else 0


def whole(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs of those seeds that have every fold of their protocol: some folds are no result."""

    def key(run: RunRecord) -> tuple:
        return run.seed, run.parameters.get("protocol"), run.parameters.get("dataset")

    folds: dict[tuple, set] = {}
    for run in runs:
        folds.setdefault(key(run), set()).add(run.parameters.get("fold"))
    return [run for run in runs if len(folds[key(run)]) >= number_of_folds(*key(run)[1:])]


def estimate(
    runs: Sequence[RunRecord],
    metric: str,
    unit: str,
    *,
    expression: Expression | None = None,
    part: str = "test",
    stale: Collection[str] = (),
) -> Estimate | None:
    """Mean and 90 % interval of a figure over runs; None without runs.

    Args:
        runs: records of the same quantity: several seeds, or several folds of each. A seed that
            lacks a fold does not count.
        metric: one of `METRICS`.
        unit: "percent" or "fraction".
        expression: whose recall.
        part: of the record's metrics, such as "test", "val" or "test_majority".
        stale: names of runs whose code or data have changed, see `records.stale`.

    Raises:
        ValueError: no such metric, or an expression that a run does not have.
        KeyError: a run has no scores of `part`.
    """
    if metric not in METRICS:
        raise ValueError(f"no estimate of {metric!r}: one of {', '.join(METRICS)}")
    runs = whole(runs)
    if not runs:
        return None
    pooled = _by_seed(runs)
    value = partial(_value, metric=metric, expression=expression, part=part)
    values = [value(folds) for folds in pooled]
    mean = float(np.mean(values))
    sizes = [_images(folds, expression, part) for folds in pooled]
    persons = None
    if metric == "elementwise_accuracy":
        # Between K outputs of one image, which err together, and NK independent ones: the larger.
        images = binomial_error(mean, min(sizes))
    elif metric in ("accuracy", "recall"):
        images = binomial_error(mean, min(sizes))
        if metric == "accuracy" and part == "test" and all(run.persons for run in runs):
            of_persons, persons = _person_error(pooled)
            images = max(images, of_persons)
    else:
        matrix = sum(_matrix(folds, part) for folds in pooled) / len(pooled)
        images = _bootstrap_error(matrix, OF_MATRIX[metric])
    return replace(
        _estimate(mean, values, images, persons, 100 if unit == "percent" else 1),
        n_test=min(sizes),
        runs=tuple(run.run for run in runs),
        stale=any(run.run in stale for run in runs),
    )


def errors_taken_for(
    runs: Sequence[RunRecord], expression: Expression, others: Collection[Expression]
) -> Estimate | None:
    """Of the test images of an expression that are not recognised, the share taken for some others.

    Args:
        runs: records of the same quantity, as of `estimate`.
        expression: the true one.
        others: those that it is taken for.

    Returns:
        In percent; one value a seed that has errors. None without runs or without errors.

    Raises:
        ValueError: an expression that a run does not have.
    """
    runs = whole(runs)
    errors, taken = [], []
    for folds in _by_seed(runs):
        row = _matrix(folds, "test")[_row(folds, expression)]
        errors.append(row.sum() - row[_row(folds, expression)])
        taken.append(sum(row[_row(folds, other)] for other in others))
    if not sum(errors):
        return None
    shares = [part / number for part, number in zip(taken, errors, strict=True) if number]
    mean = sum(taken) / sum(errors)
    images = binomial_error(mean, sum(errors) / len(errors))  # seeds may err on the same images
    return replace(
        _estimate(mean, shares, images, None, 100),
        n_test=round(sum(errors) / len(errors)),
        runs=tuple(run.run for run in runs),
    )


def _estimate(
    mean: float, values: Sequence[float], images: float, persons: int | None, scale: float
) -> Estimate:
    """From shares (0-1), a value a seed, and the standard error of their test images."""
    seeds = float(stats.sem(values)) if len(values) > 1 else 0.0
    error = float(np.hypot(images, seeds))
    df_images = np.inf if persons is None else persons - 1
    df = welch_satterthwaite((images, df_images), (seeds, len(values) - 1))
    half = stats.t.ppf((1 + LEVEL) / 2, df) * error
    return Estimate(
        mean=scale * mean,
        low=scale * max(0.0, mean - half),
        high=scale * min(1.0, mean + half),
        values=tuple(scale * found for found in values),
        n_test=0,
        standard_error=scale * error,
        df=df,
        persons=persons,
    )


def _by_seed(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """The folds of every seed."""
    by_seed: dict[int, list[RunRecord]] = {}
    for run in runs:
        by_seed.setdefault(run.seed, []).append(run)
    return list(by_seed.values())


def _matrix(folds: Sequence[RunRecord], part: str) -> np.ndarray:
    """Confusion matrix (K, K) of all folds of one seed."""
    return sum(np.array(run.metrics[part]["confusion_matrix"]) for run in folds)


def _row(folds: Sequence[RunRecord], expression: Expression) -> int:
    classes = folds[0].data.classes
    if expression not in classes:
        raise ValueError(f"{folds[0].run}: no {expression} among {', '.join(classes)}")
    return classes.index(expression)


def _images(folds: Sequence[RunRecord], expression: Expression | None, part: str) -> int:
    matrix = _matrix(folds, part)
    return int(matrix.sum() if expression is None else matrix[_row(folds, expression)].sum())


def _value(folds: Sequence[RunRecord], metric: str, expression, part: str) -> float:
    """The figure of one seed."""
    matrix = _matrix(folds, part)
    if metric == "recall":
        row = _row(folds, expression)
        return float(matrix[row, row] / max(matrix[row].sum(), 1))
    if metric == "elementwise_accuracy":
        parts = [run.metrics[part] for run in folds]
        return float(np.average([p[metric] for p in parts], weights=[p["n"] for p in parts]))
    return float(OF_MATRIX[metric](matrix))


def binomial_error(share: float, number: int) -> float:
    """Standard error of a share (0-1) of `number` images, not 0 at 0 or 1 (Agresti and Coull)."""
    adjusted = (share * number + 2) / (number + 4)
    return float(np.sqrt(adjusted * (1 - adjusted) / (number + 4)))


def _person_error(pooled: Sequence[Sequence[RunRecord]]) -> tuple[float, int]:
    """Standard error of the accuracy if people are drawn, and how many there are."""
    errors = []
    for folds in pooled:
        images = np.concatenate([run.persons["images"] for run in folds])
        right = np.concatenate([run.persons["correct"] for run in folds])
        errors.append((person_error(images, right), len(images)))
    return max(errors)


def person_error(images: np.ndarray, total: np.ndarray) -> float:
    """Standard error of a mean over images if people are drawn.

    A person's mean, weighted by the number of images: the sandwich estimator of a weighted mean is
    the ratio estimator of cluster sampling.

    Args:
        images: of each person, positive (P,).
        total: what each person's images add up to, such as how many are right (P,).
    """
    images = np.asarray(images, float)
    fitted = sm.WLS(total / images, np.ones_like(images), weights=images).fit(cov_type="HC1")
    return float(fitted.bse[0])


def _bootstrap_error(matrix: np.ndarray, figure) -> float:
    """Standard error of a figure of the confusion matrix, its images drawn again and again."""
    number = round(matrix.sum())
    shares = (matrix / matrix.sum()).ravel()
    drawn = np.random.default_rng(0).multinomial(number, shares, size=DRAWS)
    return float(np.std(figure(drawn.reshape(DRAWS, *matrix.shape)), ddof=1))


def welch_satterthwaite(*parts: tuple[float, float]) -> float:
    """Degrees of freedom of a sum of variances, from (standard error, degrees of freedom)."""
    below = sum(error**4 / df for error, df in parts if error and df)
    return sum(error**2 for error, _ in parts) ** 2 / below if below else np.inf
