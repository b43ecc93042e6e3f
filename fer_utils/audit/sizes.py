"""Which numbers of test images allow the printed accuracies.

Source: brown2017 (whole counts behind printed means).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fer_utils.arithmetic import (
    RULES,
    Printed,
    Rule,
    chance,
    is_share,
    misfits,
    possible_sizes,
    right_counts,
)
from fer_utils.audit.cells import contradicting, figure, named_part
from fer_utils.audit.findings import Confidence, Finding, Outcome, Passed, grade, odds
from fer_utils.manifests import (
    PublishedCell,
    PublishedPaper,
    load_manifest,
)

LARGEST = 1_000_000  # test part that is tried where no known one fits
SHARES = (10, 15, 20, 25, 30)  # percent that papers test on where a set has no official parts


RELATED = {  # sets that papers call by one name: CK+48 is cut from CK+, FER+ relabels FER2013
    "ckplus": ("ckplus", "ck48"),
    "ck48": ("ck48", "ckplus"),
    "ferplus": ("ferplus", "fer2013"),
}


def known_sizes(cells: Sequence[PublishedCell]) -> dict[int, str]:
    """What the test set of some cells may be, by its number of images.

    Args:
        cells: of one data set.

    Returns:
        The parts in the manifests but for training, of sets of one name as well; where a set has
        none its usual shares; and the `n_test` of cells that are neither.
    """
    sizes: dict[int, dict[str, list[str]]] = {}  # by images and set: its parts of that size

    def add(n: int, part: str, title: str) -> None:
        sizes.setdefault(n, {}).setdefault(title, []).append(part)

    dataset = cells[0].dataset
    for name in RELATED.get(dataset, (dataset,) if dataset else ()):
        manifest = load_manifest(name)
        parts = {k: part for k, part in manifest.splits.items() if part.count and k != "train"}
        for key, part in parts.items():
            add(part.count, part.source or key, manifest.title)
        if {"val", "test"} <= set(parts):
            add(parts["val"].count + parts["test"].count, "both test parts", manifest.title)
        for percent in SHARES if "all" in parts else ():
            whole = parts["all"].count
            for n in {whole * percent // 100, -(-whole * percent // 100)}:
                add(n, f"{percent} %", manifest.title)
    labels = {
        n: " or ".join(f"{' or '.join(parts)} of {title}" for title, parts in sets.items())
        for n, sets in sizes.items()
    }
    for size in (size for cell in cells for size in cell.n_test):
        labels.setdefault(size.n, size.note)
    return dict(sorted(labels.items()))


def granularity(paper: PublishedPaper) -> Iterator[Outcome]:
    """Which test-set sizes allow the printed accuracies, jointly for all on one test set.

    Own accuracies on one part of one data set are taken to share their images. All is well where,
    rounded, they fit the official part that they name, or, where there is none, every known size.
    A result that is printed with two values is left to `same_result`.
    """
    twice = {cell.id for cells in contradicting(paper) for cell in cells}
    groups: dict[tuple, list[PublishedCell]] = {}
    for cell in paper.cells:
        if cell.kind == "own" and cell.metric == "accuracy" and figure(cell):
            groups.setdefault((cell.dataset, cell.part), []).append(cell)
    for cells in groups.values():
        yield _granularity(paper.paper, [c for c in cells if c.id not in twice] or cells)


def _granularity(paper: str, cells: list[PublishedCell]) -> Outcome:
    ids = tuple(cell.id for cell in cells)
    figures = sorted({figure(cell) for cell in cells}, reverse=True)
    coarsest = min(printed.scale for printed in figures)
    sizes = {n: label for n, label in known_sizes(cells).items() if n < coarsest}
    named = named_part(cells[0])
    if not sizes or (named and named.count not in sizes):
        return Passed(paper, "granularity", ids, vacuous=True)
    best = {n: misfits(figures, n) for n in sizes}
    fitting = [n for n in sizes if best[n][0] == 0]
    if all(n in fitting and best[n][1] != "cut off" for n in ([named.count] if named else sizes)):
        return Passed(paper, "granularity", ids)

    tried = [n for n in sizes if fitting and n <= fitting[0]]
    # Added up: sizes of which one is a multiple of the other do not fit independently.
    luck = min(1.0, sum(chance(figures, n) for n in tried)) if fitting else 1.0
    excluded = {n: label for n, label in sizes.items() if n not in fitting}
    by_chance = grade(luck) == "nothing can be said"
    if fitting and not excluded and by_chance:
        return Passed(paper, "granularity", ids)
    told = []
    if fitting:
        told += _fit(figures, fitting[0], best[fitting[0]][1], sizes)
        told.append(f"Unrelated figures would fit so {odds(luck)}.")
        told += [_also_fits(figures, fitting[0], n, sizes[n]) for n in fitting[1:]]
    elif len(figures) > 1:
        told += _smallest_fit(figures, coarsest)
    if excluded:
        told.append("Excluded, whether rounded or cut off, are the sizes below.")
    means = (
        "On no excluded set can "
        + ("this be a share" if len(figures) == 1 else "all of these be shares")
        + f" of right answers: {'it is' if len(figures) == 1 else 'they are'} of other images, "
        "or another kind of number."
    )
    not_means = (
        "That a number was made up. A mean over runs, folds or batches, images left out, or a slip "
        "of the pen explain it as well."
    )
    confidence: Confidence = "likely"  # one figure alone may be a slip of the pen
    if fitting and not by_chance:
        confidence = grade(luck)
        means = f"The accuracies are shares of {fitting[0]:,} images"
        means += ", further digits cut off." if best[fitting[0]][1] == "cut off" else "."
        not_means = "That they are right or wrong, nor which images these were: only how many."
    elif all(best[n][0] > 1 for n in excluded):
        confidence = "certain"
    return Finding(
        paper=paper,
        kind="granularity",
        cells=ids,
        claim=f"Accuracy on {cells[0].dataset or 'the set'} ({cells[0].part}): "
        f"{', '.join(map(str, figures))} %.",
        test="Is each a whole number of right answers out of one and the same number of images?",
        result=" ".join(told),
        details=_not_fitting(len(figures), excluded, {n: best[n][0] for n in excluded}),
        confidence=confidence,
        means=means,
        does_not_mean=not_means,
    )


def _fit(figures: list[Printed], n: int, rule: Rule, sizes: dict[int, str]) -> list[str]:
    counts = ", ".join(str(right_counts(printed, n, rule)[0]) for printed in figures)
    cut = rule == "cut off"
    whole = "it is a count" if len(figures) == 1 else f"all {len(figures)} are counts"
    told = [
        f"{'Cut off after' if cut else 'Rounded to'} the printed digits, {whole} of {n:,} images "
        f"({sizes[n]}): {counts} right."
    ]
    if cut:
        wrong = min(sum(not is_share(printed, n, r) for printed in figures) for r in RULES[:2])
        told.append(f"Rounded, {wrong} of them would not be.")
    if all(possible_sizes(figures, n - 1, r).size == 0 for r in RULES):
        told.append("No smaller number of images would do.")
    return told


def _smallest_fit(figures: list[Printed], coarsest: int) -> list[str]:
    """The smallest number of images that would do though no known set has it."""
    largest = min(coarsest - 1, LARGEST)
    fits = np.concatenate([possible_sizes(figures, largest, rule) for rule in RULES])
    if not len(fits):
        return []
    n = int(fits.min())
    luck = min(1.0, sum(chance(figures, m) for m in range(1, n + 1)))
    return [f"The smallest number that would do is {n:,}; chance finds one up to it {odds(luck)}."]


def _also_fits(figures: list[Printed], n: int, other: int, label: str) -> str:
    """A multiple of n can do all that n can, but rarely has only counts that n has too."""
    if other % n:
        return f"{other:,} ({label}) would do as well."
    times = other // n
    return (
        f"{other:,} ({label}) would do only if all {len(figures)} counts of it happened to be "
        f"multiples of {times}: {odds(times ** -len(figures))}."
    )


def _not_fitting(figures: int, excluded: dict[int, str], wrong: dict[int, int]) -> tuple[str, ...]:
    shares = [n for n, label in excluded.items() if "%" in label]  # many, and guessed
    listed = [
        f"{n:,} images, {label}"
        + (f": fits {figures - wrong[n]} of {figures}" if figures > 1 else "")
        for n, label in excluded.items()
        if n not in shares
    ]
    if shares:
        most = figures - min(wrong[n] for n in shares)
        fits = f": fit at most {most} of {figures}" if figures > 1 else ""
        listed.append(
            f"test parts of {len(shares)} usual sizes ({', '.join(map(str, SHARES))} % of the "
            f"set), {min(shares)} to {max(shares)} images{fits}"
        )
    return tuple(listed)
