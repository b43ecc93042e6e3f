"""What moves a number while the network stays as it is, each step from records of runs.

Most functions take records and give steps: a number before one change, the number after it, and
how far they lie apart. Where no run shows a step, there is none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy import stats

from fer_utils import comparison, differences, records
from fer_utils.data_report import DataReport, with_a_face, without_copies, without_ties
from fer_utils.differences import Difference
from fer_utils.estimates import LEVEL, Estimate, estimate, whole
from fer_utils.manifests import load_published, published_papers
from fer_utils.records import VARYING, RunRecord
from fer_utils.summary import base_name

CHOSEN_ON_TEST = "epoch chosen on the test part"
BEFORE_SPLIT = "balanced before the split"
ON_VALIDATION = "highest accuracy on the validation part"  # what chose the epoch


@dataclass(frozen=True)
class Step:
    """One change and the numbers before and after it, in percent.

    Args:
        paper: whose network it is.
        runs: what they are called, their seed and fold left out.
        what: is changed.
        before, after: means over seeds.
        difference: after less before.
        seeds: how many.
        images: behind the number after the change.
        among: how many are behind the number before, where those after are some of them.
    """

    paper: str
    runs: str
    what: str
    before: float
    after: float
    difference: Difference
    seeds: int
    images: int
    among: int | None = None


def every_step(runs: Sequence[RunRecord], report: DataReport | None) -> dict[str, list[Step]]:
    """All that follows, by what is changed.

    Args:
        runs: of all papers, those under a wrong protocol included.
        report: of the data; None: no step on near copies and on faces.

    Raises:
        RecordError: a run's probabilities are not beside its record.
    """
    kept = comparison.select(runs, {}, records.KEPT)
    return {
        "element-wise accuracy": which_accuracy(kept),
        "validation part, which chose": validation_part(kept),
        "training part": training_part(kept),
        "test part chooses the epoch": what_chose_the_epoch(runs),
        "by person": [step for paper in published_papers() for step in by_person(runs, paper)],
        "near copies left out": without_near_copies(kept, report),
        "images with a face": on_faces(kept, report),
        "other FER+ rule": which_labels(kept),
        "ties of votes left out": one_leader(kept, report),
    }


def groups(runs: Sequence[RunRecord]) -> Iterator[tuple[str, list[RunRecord]]]:
    """Runs that differ in their seed and fold alone, and what they are called.

    That is their name without seed and fold, such as "ck48-subject_kfold-full-schedule"; where
    two groups of a paper share it, what sets them apart follows. Seeds that lack a fold are left
    out; weights and members that are named with a seed do not tell groups apart.

    Args:
        runs: of one or several papers.
    """
    found: dict[str, list[RunRecord]] = {}
    for run in runs:
        same = {key: value for key, value in run.parameters.items() if key not in VARYING}
        found.setdefault(json.dumps([run.paper, same], sort_keys=True), []).append(run)
    firsts = [group[0] for group in found.values()]
    for group in filter(None, map(whole, found.values())):
        yield _named(group[0], firsts, base_name), group


def _named(run: RunRecord, others: Sequence[RunRecord], name: Callable[[RunRecord], str]) -> str:
    """Its name, and what sets it apart from others of its paper that share it."""
    namesakes = [other for other in others if (other.paper, name(other)) == (run.paper, name(run))]
    apart = [
        f"{key} {value}"
        for key, value in run.parameters.items()
        if key not in VARYING and any(other.parameters.get(key) != value for other in namesakes)
    ]
    return ", ".join([name(run), *apart])


def seeds(runs: Sequence[RunRecord]) -> int:
    """How many seeds they have."""
    return len({run.seed for run in runs})


def which_accuracy(runs: Sequence[RunRecord], folder: Path = records.RESULTS) -> list[Step]:
    """From top-1 to element-wise accuracy of the same predictions."""
    steps = []
    for name, group in groups(runs):
        of_seeds, top1, elements = [], [], []
        for seed in sorted({run.seed for run in group}):
            of_seeds.append(differences.in_order([run for run in group if run.seed == seed]))
            folds = [records.read_probabilities(run, folder) for run in of_seeds[-1]]
            top1.append(np.concatenate([p.argmax(axis=1) == labels for p, labels in folds]))
            elements.append(np.concatenate([_right_outputs(*fold) for fold in folds]))
        steps.append(
            Step(
                group[0].paper,
                name,
                "element-wise accuracy",
                100 * float(np.mean([scores.mean() for scores in top1])),
                100 * float(np.mean([scores.mean() for scores in elements])),
                differences.of_scores(top1, elements, differences.share_of_images(of_seeds)),
                len(top1),
                len(top1[0]),
            )
        )
    return steps


def _right_outputs(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The share of each image's K outputs that are on the right side of one half (N,)."""
    truth = np.eye(probabilities.shape[1], dtype=bool)[labels]
    return ((probabilities > 0.5) == truth).mean(axis=1)


def validation_part(runs: Sequence[RunRecord]) -> list[Step]:
    """From the test part to the validation part, where that one chose the epoch.

    Validation parts of several folds hold the same images more than once: they give no step.
    """
    chosen = [
        run
        for run in runs
        if run.selection.rule == ON_VALIDATION and run.parameters.get("fold") is None
    ]
    return [
        _between(name, group, "validation part", accuracy(group), accuracy(group, part="val"))
        for name, group in groups(chosen)
    ]


def training_part(runs: Sequence[RunRecord]) -> list[Step]:
    """From the test part to the images that trained the network, as they were and as balanced."""
    steps = []
    for name, group in groups([run for run in runs if "train" in run.metrics]):
        of_test = accuracy(group)
        steps.append(
            _between(name, group, "training images", of_test, accuracy(group, part="train"))
        )
        if all("trained_on" in run.metrics and balanced(run) for run in group):
            of_balanced = accuracy(group, part="trained_on")
            steps.append(_between(name, group, "balanced training images", of_test, of_balanced))
    return steps


def balanced(run: RunRecord) -> bool:
    """Whether balancing gave it other training images than its split has."""
    return run.split.trained_on not in (None, run.split.sizes["train"])


def what_chose_the_epoch(runs: Sequence[RunRecord], folder: Path = records.RESULTS) -> list[Step]:
    """From the validation part to the test part, as the one that chose the epoch."""
    steps = []
    for name, group in groups(comparison.select(runs, {"contrast": CHOSEN_ON_TEST}, records.KEPT)):
        pairs = [(twin, wrong) for wrong in group if (twin := _twin(wrong, runs))]
        complete = whole([twin for twin, _ in pairs])
        pairs = [pair for pair in pairs if pair[0] in complete]
        if pairs:
            right, wrong = ([pair[which] for pair in pairs] for which in (0, 1))
            found = differences.of_runs(right, wrong, folder)
            steps.append(
                _between(
                    name, right, "the test part chooses", accuracy(right), accuracy(wrong), found
                )
            )
    return steps


def _twin(wrong: RunRecord, runs: Sequence[RunRecord]) -> RunRecord | None:
    """The same run under the right protocol."""
    fields = {
        key: value
        for key, value in wrong.parameters.items()
        if key not in ("contrast", "choose_on", "pretraining")
    }
    same = [run for run in runs if (run.paper, run.seed) == (wrong.paper, wrong.seed)]
    return next(iter(comparison.select(same, fields, records.KEPT)), None)


def by_person(runs: Sequence[RunRecord], paper: str) -> list[Step]:
    """From a split by image to one that keeps people apart, for a paper's headline cells."""
    published = load_published(paper)
    runs = [run for run in runs if run.paper == paper]
    steps = []
    for cell in published.cells:
        apart = cell.also.get("subjects kept apart")
        if apart is None or cell.id not in published.headline:
            continue
        by_image, by_subject = (
            whole(comparison.select(runs, fields)) for fields in (cell.select, apart)
        )
        if by_image and by_subject:
            numbers = accuracy(by_image), accuracy(by_subject)
            name, _ = next(groups(by_image))
            steps.append(_between(name, by_image, "subjects kept apart", *numbers))
    return steps


def without_near_copies(
    runs: Sequence[RunRecord], report: DataReport | None, folder: Path = records.RESULTS
) -> list[Step]:
    """From the whole test part of FER2013 to its images without a near copy in training.

    FER+ has the same images, and a run on faces takes those in which one was found: what counts is
    the test part, and the training part, that the run took.

    Args:
        runs: on any data; those that the report does not know give no step.
        report: of the data; None: no step.
        folder: where the records' probabilities are.
    """
    return _on_fewer_images(runs, report, folder, without_copies, "near copies left out")


def on_faces(
    runs: Sequence[RunRecord], report: DataReport | None, folder: Path = records.RESULTS
) -> list[Step]:
    """From the whole test part of FER2013 to its images in which dlib's detector finds a face.

    Args:
        runs: on any data; those that the report does not know, and those that took images with a
            face alone, give no step.
        report: of the data; None: no step.
        folder: where the records' probabilities are.
    """
    return _on_fewer_images(runs, report, folder, with_a_face, "images without a face left out")


def one_leader(
    runs: Sequence[RunRecord], report: DataReport | None, folder: Path = records.RESULTS
) -> list[Step]:
    """From all test images of FER+ to those in which no two expressions share the most votes.

    Args:
        runs: on any data; those that are not on FER+ with all images give no step.
        report: of the data; None: no step.
        folder: where the records' probabilities are.
    """
    return _on_fewer_images(runs, report, folder, without_ties, "ties of votes left out")


def _on_fewer_images(
    runs: Sequence[RunRecord],
    report: DataReport | None,
    folder: Path,
    kept_of: Callable[[RunRecord, DataReport, Path], tuple[int, int] | None],
    what: str,
) -> list[Step]:
    steps = []
    for name, group in groups(runs if report else ()):
        kept = [kept_of(run, report, folder) for run in group]
        if all(kept):
            steps.append(_of_part(name, group, what, "test", kept))
    return steps


def which_labels(runs: Sequence[RunRecord]) -> list[Step]:
    """From all test images of FER+ to those that a rule about its votes keeps: `what` names it."""
    steps = []
    for name, group in groups(runs):
        for part in group[0].metrics:
            if part.startswith("test_") and all(part in run.metrics for run in group):
                scores = [run.metrics[part] for run in group]
                if scores[0]["n"] < group[0].metrics["test"]["n"]:
                    kept = [(score["correct"], score["n"]) for score in scores]
                    rule = part.removeprefix("test_")
                    steps.append(_of_part(name, group, rule, "test", kept))
    return steps


@dataclass(frozen=True)
class Spread:
    """How far runs that differ in their seed alone lie apart, in percent and points.

    Args:
        paper, runs: as of a step.
        values: one a seed.
        deviation: standard deviation of one seed.
        low, high: its 90 % interval, for values that are normally distributed.
    """

    paper: str
    runs: str
    values: tuple[float, ...]
    deviation: float
    low: float
    high: float


def over_seeds(runs: Sequence[RunRecord]) -> list[Spread]:
    """The spread of every group with more than one seed."""
    found = []
    for name, group in groups(runs):
        values = accuracy(group).values
        if len(values) > 1:
            deviation, df = float(np.std(values, ddof=1)), len(values) - 1
            ends = [
                deviation * float(np.sqrt(df / stats.chi2.ppf(share, df)))
                for share in ((1 + LEVEL) / 2, (1 - LEVEL) / 2)
            ]
            found.append(Spread(group[0].paper, name, values, deviation, *ends))
    return found


@dataclass(frozen=True)
class Repeat:
    """The same run made several times.

    Args:
        paper: whose network it is.
        run: what it is called, without the hash in its name, and what sets it apart.
        values: accuracies on the test part in percent, the one made first in front.
        same: whether all figures agree to the last digit.
    """

    paper: str
    run: str
    values: tuple[float, ...]
    same: bool


def repeats(runs: Sequence[RunRecord]) -> list[Repeat]:
    """Every run that was made more than once with the same parameters, data and split.

    Args:
        runs: all records, earlier ones of the same run included.
    """
    several = [group for group in records.repeated(runs) if len(group) > 1]
    firsts = [group[0] for group in several]
    found = [
        Repeat(
            group[0].paper,
            _named(group[0], firsts, lambda run: run.run.rpartition("-")[0]),
            tuple(100 * run.metrics["test"]["accuracy"] for run in group),
            all(records.same_numbers(*pair) for pair in pairwise(group)),
        )
        for group in several
    ]
    return sorted(found, key=lambda repeat: repeat.paper)


def towards_a_printed_number(
    runs: Sequence[RunRecord], fields: dict, folder: Path = records.RESULTS
) -> list[tuple[str, Estimate, Difference | None]]:
    """From the test part's accuracy, one liberty after the other, each against the first number.

    Args:
        runs: of one paper.
        fields: of the runs under the right protocol, which differ in their seed alone; `balancing`
            is "train".
        folder: where the records' probabilities are.

    Returns:
        What is counted, ours, and how far it is from the first; without runs nothing.

    Raises:
        ValueError: they differ in more than their seed, such as in their epochs.
    """
    honest = comparison.select(runs, {**fields, "balancing": "train"}, records.KEPT)
    wrong = comparison.select(runs, {**fields, "contrast": BEFORE_SPLIT}, records.KEPT)
    if not honest:
        return []
    first, counted_otherwise = accuracy(honest), which_accuracy(honest, folder)
    if len(counted_otherwise) > 1:
        names = ", ".join(run.run for run in honest)
        raise ValueError(f"runs that differ in more than their seed: {names}")
    if not first:
        return []
    steps = [
        ("top-1 on the private test part", first, None),
        ("top-1 on the validation part, which chose the epoch", accuracy(honest, part="val")),
        (
            "element-wise on the private test part",
            accuracy(honest, "elementwise_accuracy"),
            counted_otherwise[0].difference,
        ),
    ]
    if all("train" in run.metrics for run in honest):
        steps += [
            ("top-1 on the training images", accuracy(honest, part="train")),
            (
                "element-wise on the training images",
                accuracy(honest, "elementwise_accuracy", "train"),
            ),
        ]
    if wrong:
        steps += [
            ("top-1 on the test part balanced before the split", accuracy(wrong)),
            (
                "element-wise on the test part balanced before the split",
                accuracy(wrong, "elementwise_accuracy"),
            ),
        ]
    return [
        step if len(step) == 3 else (*step, differences.of_estimates(first, step[1]))
        for step in steps
    ]


def accuracy(
    runs: Sequence[RunRecord], metric: str = "accuracy", part: str = "test"
) -> Estimate | None:
    """In percent; None without runs that have all folds."""
    return estimate(runs, metric, "percent", part=part)


def _between(
    name: str,
    runs: Sequence[RunRecord],
    what: str,
    before: Estimate,
    after: Estimate,
    difference: Difference | None = None,
) -> Step:
    return Step(
        runs[0].paper,
        name,
        what,
        before.mean,
        after.mean,
        difference or differences.of_estimates(before, after),
        seeds(runs),
        after.n_test,
    )


def _of_part(
    name: str, group: Sequence[RunRecord], what: str, part: str, kept: Sequence[tuple[int, int]]
) -> Step:
    whole = [(run.metrics[part]["correct"], run.metrics[part]["n"]) for run in group]
    before, after = (
        100 * float(np.mean([right / number for right, number in counts]))
        for counts in (whole, kept)
    )
    difference = differences.of_part(whole, kept)
    images, among = kept[0][1], whole[0][1]
    return Step(group[0].paper, name, what, before, after, difference, seeds(group), images, among)
