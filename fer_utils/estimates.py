"""What recorded runs say of one quantity: a mean and an interval.

Two things make a recorded number uncertain, and both enter the interval. The test part is finite:
other images, or other people, would have given another number. And a network trained with another
seed is another network. The two variances are added; degrees of freedom follow Welch and
Satterthwaite. Where each seed draws its own test part, the spread of the seeds holds that draw,
too, which is taken out of it. What a network does by chance to single images stays in both, so the
intervals of several seeds on one test part are rather too wide.

Where the people are known, as in CK+, the larger of two errors counts: of images drawn one by one,
and of people drawn with all of their images, because frames of one person stand or fall together.
It is computed for the accuracy; for other figures the error of images grows by the same factor.
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
class Drawn:
    """Standard errors that come from the draw of the test images, or of the people on them.

    Args:
        one: of a number from one seed's test part.
        together: of the mean over the seeds, whose test parts may be one, overlap or be apart.
        df: degrees of freedom of both.
    """

    one: float = 0.0
    together: float = 0.0
    df: float = np.inf

    @classmethod
    def of_images(cls, one: float, seeds: int, shared: float = 1.0) -> Drawn:
        """Where images are drawn one by one.

        Args:
            one: as above.
            seeds: how many.
            shared: of one seed's test images, the share (0-1) that another seed's test part has.
        """
        return cls(one, one * float(np.sqrt((1 + (seeds - 1) * shared) / seeds)))

    def times(self, factor: float) -> Drawn:
        return replace(self, one=factor * self.one, together=factor * self.together)

    def with_seeds(self, values: Sequence[float]) -> tuple[float, float]:
        """Standard error of the mean of a value a seed, and its degrees of freedom.

        What is drawn anew for each seed spreads the values already: that much of their variance is
        not that of the networks.
        """
        if len(values) < 2:
            return self.together, self.df
        spread, others = float(stats.sem(values)), len(values) - 1
        drawn_anew = max(0.0, self.one**2 - self.together**2) / others
        variance = self.together**2 + max(0.0, spread**2 - drawn_anew)
        df = _degrees(variance, (self.together, self.df), (spread, others))
        return float(np.sqrt(variance)), df


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
        drawn: the part of that error which comes from the test images.
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
    drawn: Drawn = Drawn()
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
    """Mean and 90 % interval of a figure over runs; None without runs, or images to recall.

    Args:
        runs: records of the same quantity: several seeds, or several folds of each. A seed that
            lacks a fold does not count, nor, for a recall, one without images of the expression.
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
    pooled = [folds for folds in _by_seed(runs) if _images(folds, expression, part)]
    if not pooled:
        return None
    seeds = {folds[0].seed for folds in pooled}
    runs = [run for run in runs if run.seed in seeds]
    value = partial(_value, metric=metric, expression=expression, part=part)
    values = [value(folds) for folds in pooled]
    mean = float(np.mean(values))
    number = min(_images(folds, expression, part) for folds in pooled)
    if metric in OF_MATRIX and metric != "accuracy":
        matrix = sum(_matrix(folds, part) for folds in pooled) / len(pooled)
        one = _bootstrap_error(matrix, OF_MATRIX[metric])
    else:
        # Of the element-wise accuracy: between K outputs of one image, which err together, and NK
        # independent ones, the larger.
        one = binomial_error(mean, number)
    return replace(
        _estimate(mean, values, *_drawn(pooled, one, part), 100 if unit == "percent" else 1),
        n_test=number,
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
    pooled, errors, taken = [], [], []
    for folds in _by_seed(runs):
        row = _matrix(folds, "test")[_row(folds, expression)]
        if number := row.sum() - row[_row(folds, expression)]:
            pooled.append(folds)
            errors.append(number)
            taken.append(sum(row[_row(folds, other)] for other in others))
    if not errors:
        return None
    shares = np.divide(taken, errors).tolist()
    mean = sum(taken) / sum(errors)
    one = binomial_error(mean, sum(errors) / len(errors))
    return replace(
        _estimate(mean, shares, *_drawn(pooled, one, "test"), 100),
        n_test=round(sum(errors) / len(errors)),
        runs=tuple(run.run for run in runs),
    )


def errors_expected(
    runs: Sequence[RunRecord], expression: Expression, others: Collection[Expression]
) -> Estimate | None:
    """The share of an expression's errors to expect at some others, by what else is taken for them.

    Any expression is predicted, wrongly, for some share of the images that show neither it nor the
    one in question; errors are expected in proportion to these shares.

    Args:
        runs, expression, others: as of `errors_taken_for`.

    Returns:
        In percent; one value for each seed that has errors on the expression and on others. None
        without such a seed.

    Raises:
        ValueError: an expression that a run does not have.
    """
    runs = whole(runs)
    pooled, shares, numbers = [], [], []
    for folds in _by_seed(runs):
        row, matrix = _row(folds, expression), _matrix(folds, "test")
        if matrix[row].sum() == matrix[row, row]:
            continue
        elsewhere = np.delete(np.delete(matrix, row, axis=0), row, axis=1)
        wrong = elsewhere.sum(axis=0) - np.diag(elsewhere)
        if not wrong.any():
            continue
        images = np.delete(matrix.sum(axis=1), row)
        rates = np.insert(wrong / np.maximum(images.sum() - images, 1), row, 0.0)
        pooled.append(folds)
        shares.append(float(sum(rates[_row(folds, other)] for other in others) / rates.sum()))
        numbers.append(int(wrong.sum()))
    if not shares:
        return None
    mean = float(np.mean(shares))
    drawn = _drawn(pooled, binomial_error(mean, min(numbers)), "test")
    return replace(
        _estimate(mean, shares, *drawn, 100),
        n_test=min(numbers),
        runs=tuple(run.run for run in runs),
    )


def _estimate(
    mean: float, values: Sequence[float], drawn: Drawn, persons: int | None, scale: float
) -> Estimate:
    """From shares (0-1), a value a seed, and the error that their test images give."""
    error, df = drawn.with_seeds(values)
    half = stats.t.ppf((1 + LEVEL) / 2, df) * error
    return Estimate(
        mean=scale * mean,
        low=scale * max(0.0, mean - half),
        high=scale * min(1.0, mean + half),
        values=tuple(scale * found for found in values),
        n_test=0,
        standard_error=scale * error,
        df=df,
        drawn=drawn.times(scale),
        persons=persons,
    )


def _drawn(
    pooled: Sequence[Sequence[RunRecord]], one: float, part: str
) -> tuple[Drawn, int | None]:
    """What a figure's error of images, of one seed's part, comes to; and the number of people.

    Parts such as "test_settled" are other figures of the test images.
    """
    shared = shared_images(pooled, part)
    images = Drawn.of_images(one, len(pooled), shared)
    known = all(run.persons for folds in pooled for run in folds)
    if not part.startswith("test") or not known or not all(map(_several_people, pooled)):
        return images, None
    accuracies = [_value(folds, "accuracy", None, "test") for folds in pooled]
    number = min(_images(folds, None, "test") for folds in pooled)
    binomial = binomial_error(float(np.mean(accuracies)), number)
    alone = Drawn.of_images(binomial, len(pooled), shared)
    people = drawn_people([_of_persons(folds) for folds in pooled])
    if people.together <= alone.together:
        return images, round(people.df) + 1
    grown = images.together * people.together / alone.together
    return Drawn(images.one * people.one / alone.one, grown, people.df), round(people.df) + 1


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
        return float(matrix[row, row] / matrix[row].sum())
    if metric == "elementwise_accuracy":
        parts = [run.metrics[part] for run in folds]
        return float(np.average([p[metric] for p in parts], weights=[p["n"] for p in parts]))
    return float(OF_MATRIX[metric](matrix))


def binomial_error(share: float, number: int) -> float:
    """Standard error of a share (0-1) of `number` images, not 0 at 0 or 1 (Agresti and Coull)."""
    adjusted = (share * number + 2) / (number + 4)
    return float(np.sqrt(adjusted * (1 - adjusted) / (number + 4)))


def on_one_part(pooled: Sequence[Sequence[RunRecord]]) -> bool:
    """Whether every seed has the same split, so the same images in the same order.

    Args:
        pooled: the folds of each seed.
    """
    splits = {
        tuple(sorted((run.parameters.get("fold") or 0, run.split.sha256) for run in folds))
        for folds in pooled
    }
    return len(splits) == 1


def shared_images(pooled: Sequence[Sequence[RunRecord]], part: str = "test") -> float:
    """Of one seed's images of a part, the share (0-1) that another seed's part has, on average.

    All where the split is one; where each seed draws a part from all images, its share of them.

    Args:
        pooled: the folds of each seed.
        part: such as "test".
    """
    if on_one_part(pooled):
        return 1.0
    shares = [_images(folds, None, part) / folds[0].data.images for folds in pooled]
    return min(1.0, float(np.mean(shares)))


def _several_people(folds: Sequence[RunRecord]) -> bool:
    """Whether a seed's images show two people or more: one alone tells nothing of another."""
    return len({number for run in folds for number in run.persons["numbers"]}) > 1


def _of_persons(folds: Sequence[RunRecord]) -> tuple[np.ndarray, ...]:
    """Of one seed: people by their numbers, images of each, and how many of them are right."""
    columns = ("numbers", "images", "correct")
    return tuple(np.concatenate([run.persons[name] for run in folds]) for name in columns)


def drawn_people(seeds: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Drawn:
    """Where people are drawn, each with all images.

    Args:
        seeds: of each, the people's numbers, their images and what these add up to (P,).
    """
    one = float(np.sqrt(np.mean([person_error(images, total) ** 2 for _, images, total in seeds])))
    numbers, images, total = (np.concatenate(column) for column in zip(*seeds, strict=True))
    _, person = np.unique(numbers, return_inverse=True)
    together = person_error(np.bincount(person, images), np.bincount(person, total))
    return Drawn(one, together, float(person.max()))


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
    return _degrees(sum(error**2 for error, _ in parts), *parts)


def _degrees(variance: float, *parts: tuple[float, float]) -> float:
    """The same, of a variance that was computed from the parts in another way than their sum."""
    below = sum(error**4 / df for error, df in parts if error and df)
    return variance**2 / below if below else np.inf
