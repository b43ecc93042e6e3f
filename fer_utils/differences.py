"""How far two numbers of the same runs, or of runs that differ in one thing, lie apart.

The interval of a difference is not the two intervals side by side: where both numbers are of the
same images, an image that is easy for one is easy for the other, and only the images on which they
disagree count. Like an estimate's, the interval has the images and the seeds in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from fer_utils.estimates import LEVEL, Estimate, binomial_error, person_error, welch_satterthwaite
from fer_utils.records import RESULTS, RunRecord, read_probabilities


@dataclass(frozen=True)
class Difference:
    """A number less another: in points, percent of the images, unless both are in another unit.

    Args:
        mean: the mean difference, over seeds.
        low, high: the 90 % interval.
        standard_error: of the mean.
        df: degrees of freedom of its t distribution; infinite for a normal one.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    df: float


def of_estimates(before: Estimate, after: Estimate) -> Difference:
    """Between numbers of different images: their errors are independent.

    Where the seeds of both are the same networks, the interval is rather too wide.

    Args:
        before, after: in one unit, which the difference then has; percent gives points.
    """
    errors = [(found.standard_error, found.df) for found in (before, after)]
    error = float(np.hypot(before.standard_error, after.standard_error))
    return _difference(after.mean - before.mean, error, welch_satterthwaite(*errors))


def of_scores(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> Difference:
    """Between two scores of the same images.

    Args:
        before, after: a pair of arrays a seed; float or bool (N,), 0-1, what each image adds.
    """
    apart = [
        np.asarray(second, float) - np.asarray(first, float)
        for first, second in zip(before, after, strict=True)
    ]
    means = [float(found.mean()) for found in apart]
    return _over_seeds(means, (max(_paired_error(found) for found in apart), np.inf))


def of_runs(
    before: Sequence[RunRecord], after: Sequence[RunRecord], folder: Path = RESULTS
) -> Difference:
    """Between the accuracies of two ways to train, tested on the same images.

    Where both records know the people, the larger of two errors counts: of images drawn, and of
    people drawn.

    Args:
        before, after: as many runs, with the same seeds, folds and test images.
        folder: where the records' probabilities are.

    Raises:
        ValueError: seeds, folds or test images differ.
        RecordError: a run's probabilities are not beside its record.
    """
    pairs: dict[int, list[tuple[RunRecord, RunRecord]]] = {}
    for first, second in zip(_in_order(before), _in_order(after), strict=True):
        same = (first.seed, first.parameters.get("fold"), first.split.sha256)
        if same != (second.seed, second.parameters.get("fold"), second.split.sha256):
            raise ValueError(f"{first.run} and {second.run} were not tested on the same images")
        pairs.setdefault(first.seed, []).append((first, second))

    means, errors = [], []
    for folds in pairs.values():
        right = [
            np.concatenate([_right(pair[which], folder) for pair in folds]).astype(float)
            for which in (0, 1)
        ]
        means.append(float(np.mean(right[1] - right[0])))
        errors.append((_paired_error(right[1] - right[0]), np.inf))
        if all(run.persons for pair in folds for run in pair):
            images = np.concatenate([pair[0].persons["images"] for pair in folds])
            gained = [
                np.subtract(pair[1].persons["correct"], pair[0].persons["correct"])
                for pair in folds
            ]
            errors.append((person_error(images, np.concatenate(gained)), len(images) - 1))
    return _over_seeds(means, max(errors))


def of_values(values: Sequence[float]) -> Difference:
    """From a difference a run, each measured by itself and in the same unit.

    Args:
        values: one a run, of two runs or more.
    """
    return _difference(float(np.mean(values)), float(stats.sem(values)), len(values) - 1)


def comparable(
    before: Sequence[RunRecord], after: Sequence[RunRecord]
) -> tuple[list[RunRecord], list[RunRecord]]:
    """The runs of the seeds of which both have the same folds.

    Whether they were tested on the same images, `of_runs` tells.

    Args:
        before, after: any runs of two ways to train.
    """
    folds: list[dict[int, set]] = [{}, {}]
    for runs, found in zip((before, after), folds, strict=True):
        for run in runs:
            found.setdefault(run.seed, set()).add(run.parameters.get("fold"))
    seeds = {seed for seed, own in folds[0].items() if folds[1].get(seed) == own}
    return tuple([run for run in runs if run.seed in seeds] for runs in (before, after))


def of_part(whole: Sequence[tuple[int, int]], kept: Sequence[tuple[int, int]]) -> Difference:
    """Between some of the images and all of them.

    What is left out and what is kept are different images, so their errors are independent.

    Args:
        whole, kept: (right images, images) of all and of those that are kept, a pair a seed.

    Raises:
        ValueError: nothing is left out, or nothing is kept.
    """
    means, errors = [], []
    for (right, number), (right_kept, number_kept) in zip(whole, kept, strict=True):
        left_out = number - number_kept
        if not 0 < left_out < number:
            raise ValueError(f"{number_kept} of {number} images kept: some have to be left out")
        means.append(right_kept / number_kept - right / number)
        of_kept = binomial_error(right_kept / number_kept, number_kept)
        of_rest = binomial_error((right - right_kept) / left_out, left_out)
        errors.append(left_out / number * float(np.hypot(of_kept, of_rest)))
    return _over_seeds(means, (max(errors), np.inf))


def _difference(mean: float, error: float, df: float) -> Difference:
    half = float(stats.t.ppf((1 + LEVEL) / 2, df)) * error
    return Difference(mean, mean - half, mean + half, error, df)


def _over_seeds(means: Sequence[float], images: tuple[float, float]) -> Difference:
    """From each seed's difference and the error of the images, as fractions."""
    seeds = float(stats.sem(means)) if len(means) > 1 else 0.0
    df = welch_satterthwaite(images, (seeds, len(means) - 1))
    return _difference(100 * float(np.mean(means)), 100 * float(np.hypot(images[0], seeds)), df)


def _paired_error(apart: np.ndarray) -> float:
    """Standard error of a mean difference (N,), with one image gained and one lost added.

    Source:
        bonett2012, the adjusted Wald interval of paired proportions; not 0 where no
        image differs. Here it stands around the difference as it is, not the adjusted one.
    """
    return float(np.std([*apart, 1.0, -1.0]) / np.sqrt(len(apart) + 2))


def _right(run: RunRecord, folder: Path) -> np.ndarray:
    probabilities, labels = read_probabilities(run, folder)
    return probabilities.argmax(axis=1) == labels


def _in_order(runs: Sequence[RunRecord]) -> list[RunRecord]:
    return sorted(runs, key=lambda run: (run.seed, run.parameters.get("fold") or 0))
