"""How far two numbers of the same runs, or of runs that differ in one thing, lie apart.

The interval of a difference is not the two intervals side by side: where both numbers are of the
same images, an image that is easy for one is easy for the other, and only the images on which they
disagree count. Like an estimate's, the interval has the images and the seeds in it. Where all seeds
are tested on the same images, these are taken by their means over the seeds, so that what a network
does by chance to single images counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

from fer_utils.estimates import (
    LEVEL,
    Drawn,
    Estimate,
    binomial_error,
    drawn_people,
    on_one_part,
    shared_images,
    welch_satterthwaite,
)
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
    """Between numbers of different images: what these give to the errors is independent.

    Where both are of the same runs, the networks are the same, and it is the difference in each
    seed that spreads. From a printed number, which has no interval, the one of `after` is taken: it
    ends at 0 and at 100 %.

    Args:
        before, after: in one unit, which the difference then has; percent gives points.
    """
    if before.runs and before.runs == after.runs and len(before.values) == len(after.values):
        drawn = Drawn(
            float(np.hypot(before.drawn.one, after.drawn.one)),
            float(np.hypot(before.drawn.together, after.drawn.together)),
            welch_satterthwaite(*((of.drawn.together, of.drawn.df) for of in (before, after))),
        )
        apart = np.subtract(after.values, before.values)
        return _difference(after.mean - before.mean, *drawn.with_seeds(apart))
    errors = [(found.standard_error, found.df) for found in (before, after)]
    error = float(np.hypot(before.standard_error, after.standard_error))
    found = _difference(after.mean - before.mean, error, welch_satterthwaite(*errors))
    if before.low < before.high or before.standard_error:
        return found
    return replace(found, low=after.low - before.mean, high=after.high - before.mean)


def of_scores(
    before: Sequence[np.ndarray], after: Sequence[np.ndarray], shared: float | None = None
) -> Difference:
    """Between two scores of the same images, drawn one by one: who is on them is not known here.

    Args:
        before, after: a pair of arrays a seed; float or bool (N,), 0-1, what each image adds.
        shared: of one seed's images, the share (0-1) that another's has; None where all seeds have
            the same ones in the same order.
    """
    apart = [
        np.asarray(second, float) - np.asarray(first, float)
        for first, second in zip(before, after, strict=True)
    ]
    return _over_seeds([float(found.mean()) for found in apart], _drawn_images(apart, shared))


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
    for first, second in zip(in_order(before), in_order(after), strict=True):
        same = (first.seed, first.parameters.get("fold"), first.split.sha256)
        if same != (second.seed, second.parameters.get("fold"), second.split.sha256):
            raise ValueError(f"{first.run} and {second.run} were not tested on the same images")
        pairs.setdefault(first.seed, []).append((first, second))

    apart, people = [], []
    for folds in pairs.values():
        right = [
            np.concatenate([_right(pair[which], folder) for pair in folds]).astype(float)
            for which in (0, 1)
        ]
        apart.append(right[1] - right[0])
        if all(run.persons for pair in folds for run in pair):
            people.append(_gained(folds))
    tested = [[first for first, _ in folds] for folds in pairs.values()]
    drawn = _drawn_images(apart, share_of_images(tested))
    several = all(len(set(numbers)) > 1 for numbers, *_ in people)
    if several and len(people) == len(pairs):
        drawn = max(drawn, drawn_people(people), key=lambda found: found.together)
    return _over_seeds([float(found.mean()) for found in apart], drawn)


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
    return _over_seeds(means, _all_shared(max(errors)))


def _difference(mean: float, error: float, df: float) -> Difference:
    half = float(stats.t.ppf((1 + LEVEL) / 2, df)) * error
    return Difference(mean, mean - half, mean + half, error, df)


def _over_seeds(means: Sequence[float], drawn: Drawn) -> Difference:
    """From each seed's difference and the error that the test images give, as fractions."""
    error, df = drawn.with_seeds(means)
    return _difference(100 * float(np.mean(means)), 100 * error, df)


def _all_shared(error: float) -> Drawn:
    """The error of images that are the same for every seed."""
    return Drawn(error, error)


def share_of_images(pooled: Sequence[Sequence[RunRecord]]) -> float | None:
    """What `of_scores` asks of the test parts of several seeds.

    Args:
        pooled: the folds of each seed.
    """
    return None if on_one_part(pooled) else shared_images(pooled)


def _drawn_images(apart: Sequence[np.ndarray], shared: float | None) -> Drawn:
    """Where images are drawn one by one.

    Of images that are the same for every seed, the mean over the seeds counts: what one network
    does to an image by chance, another does not.

    Args:
        apart: of each seed, what its images differ by (N,).
        shared: as of `of_scores`.
    """
    errors = [_paired_error(found) for found in apart]
    if shared is not None:
        return Drawn.of_images(max(errors), len(apart), shared)
    return Drawn(float(np.sqrt(np.mean(np.square(errors)))), _paired_error(np.mean(apart, axis=0)))


def _gained(folds: Sequence[tuple[RunRecord, RunRecord]]) -> tuple[np.ndarray, ...]:
    """Of one seed: people by their numbers, images of each, how many more are right after."""
    persons = [(first.persons, second.persons) for first, second in folds]
    return (
        np.concatenate([before["numbers"] for before, _ in persons]),
        np.concatenate([before["images"] for before, _ in persons]),
        np.concatenate(
            [np.subtract(after["correct"], before["correct"]) for before, after in persons]
        ),
    )


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


def in_order(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """By seed and fold."""
    return sorted(runs, key=lambda run: (run.seed, run.parameters.get("fold") or 0))
