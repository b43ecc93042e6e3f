"""What printed numbers can and cannot be: arithmetic on published tables, without any data.

A share of n images is k/n for a whole k; the accuracies of the expressions, weighted by their
images, make the overall accuracy; recall and precision leave an accuracy little room. What does not
fit becomes a `Finding`: what was claimed, what was tested, what came out, how sure that is, what it
means and what it does not mean. A finding is about numbers, not about people; most have an innocent
explanation, and it is named.

NumPy and the project's manifests are all it needs.

Source: brown2017 for the first check (whole counts behind printed means).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import prod
from typing import Literal

import numpy as np

from fer_utils.arithmetic import (
    RULES,
    Printed,
    Rule,
    accuracy_range,
    chance,
    difference_by_chance,
    elementwise_from,
    is_share,
    least_p_on_same_images,
    misfits,
    one_matrix,
    possible_sizes,
    read,
    right_counts,
    room,
    thresholded_accuracy,
    top1_from_elementwise,
)
from fer_utils.manifests import (
    AtMost,
    Highest,
    Improvement,
    OfficialCounts,
    Part,
    PublishedCell,
    PublishedMatrix,
    PublishedPaper,
    SameNumber,
    Total,
    load_manifest,
)

Kind = Literal[
    "granularity",
    "counts",
    "accuracy by class",
    "accuracy, recall, precision",
    "confusion matrix",
    "improvement",
    "text and tables",
]
Confidence = Literal["certain", "likely", "weak", "nothing can be said"]

SHARES = (10, 15, 20, 25, 30)  # percent that papers test on where a set has no official parts
RELATED = {  # sets that papers call by one name: CK+48 is cut from CK+, FER+ relabels FER2013
    "ckplus": ("ckplus", "ck48"),
    "ck48": ("ck48", "ckplus"),
    "ferplus": ("ferplus", "fer2013"),
}
LEVEL = 0.05  # a difference that chance alone makes more often than this proves nothing


@dataclass(frozen=True)
class Finding:
    """Something that the printed numbers show and the paper does not say.

    Args:
        paper: key in the bibliography.
        kind: the check that found it.
        cells: ids of the cells concerned, or of the claim or matrix.
        claim: what the paper says, in words or by printing it.
        test: what was computed.
        result: what came out, in short.
        confidence: how sure the result is, chance and a single misprint considered.
        means: what follows.
        does_not_mean: what does not follow.
        details: the numbers behind the result, where there are many.
    """

    paper: str
    kind: Kind
    cells: tuple[str, ...]
    claim: str
    test: str
    result: str
    confidence: Confidence
    means: str
    does_not_mean: str
    details: tuple[str, ...] = ()

    def as_dict(self) -> dict:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class Passed:
    """A check that raised nothing.

    Args:
        paper, kind, cells: as in a `Finding`.
        vacuous: it could not have: n is so large that every number is some k/n, or unknown.
    """

    paper: str
    kind: Kind
    cells: tuple[str, ...]
    vacuous: bool = False


Outcome = Finding | Passed


# ---- printed numbers ---------------------------------------------------------------------------


def figure(cell: PublishedCell) -> Printed | None:
    """The share that a cell prints; None where it prints none."""
    if cell.value is None or cell.unit not in ("percent", "fraction"):
        return None
    try:
        return read(cell.printed, cell.unit)
    except ValueError:  # words around it
        return read(f"{cell.value:.10f}".rstrip("0"), cell.unit)


# ---- 1. granularity ----------------------------------------------------------------------------


def known_sizes(cells: Sequence[PublishedCell]) -> dict[int, str]:
    """What the test set of some cells may be, by its number of images.

    Args:
        cells: of one data set.

    Returns:
        The parts in the manifests, where a set has none its usual shares, and the `n_test` of the
        cells that are neither.
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


def _named_part(cell: PublishedCell) -> Part | None:
    """The official part that a cell says it is on; None where a set has no such part."""
    return load_manifest(cell.dataset).splits.get(cell.part) if cell.dataset else None


def granularity(paper: PublishedPaper) -> Iterator[Outcome]:
    """Which test-set sizes allow the printed accuracies, jointly for all on one test set.

    Own accuracies on one part of one data set are taken to share their images. All is well where
    they fit the official part that they name, or, where there is none, every known size. A result
    that is printed with two values is left to `same_result`.
    """
    twice = {cell.id for cells in _contradicting(paper) for cell in cells}
    groups: dict[tuple, list[PublishedCell]] = {}
    for cell in paper.cells:
        if cell.kind == "own" and cell.metric == "accuracy" and figure(cell):
            groups.setdefault((cell.dataset, cell.part), []).append(cell)
    for cells in groups.values():
        yield _granularity(paper.paper, [c for c in cells if c.id not in twice] or cells)


def _granularity(paper: str, cells: list[PublishedCell]) -> Outcome:
    ids = tuple(cell.id for cell in cells)
    figures = sorted({figure(cell) for cell in cells}, reverse=True)
    finest = min(printed.scale for printed in figures)
    sizes = {n: label for n, label in known_sizes(cells).items() if n < finest}
    named = _named_part(cells[0])
    if not sizes or (named and named.count not in sizes):
        return Passed(paper, "granularity", ids, vacuous=True)
    best = {n: misfits(figures, n) for n in sizes}
    fitting = [n for n in sizes if best[n][0] == 0]
    if all(n in fitting and best[n][1] != "cut off" for n in ([named.count] if named else sizes)):
        return Passed(paper, "granularity", ids)

    tried = [n for n in sizes if fitting and n <= fitting[0]]
    luck = 1 - prod(1 - chance(figures, n) for n in tried) if fitting else 1.0
    excluded = {n: label for n, label in sizes.items() if n not in fitting}
    told = []
    if fitting:
        told += _fit(figures, fitting[0], best[fitting[0]][1], sizes)
        told.append(f"Unrelated figures would fit so {_odds(luck)}.")
        told += [_also_fits(figures, fitting[0], n, sizes[n]) for n in fitting[1:]]
    elif len(figures) > 1:
        told += _smallest_fit(figures, finest)
    if excluded:
        told.append("Excluded, rounded or cut off: what is listed below.")
    means = (
        "On no excluded set can all of these be shares of right answers: they are of other images, "
        "or another kind of number."
    )
    not_means = (
        "That a number was made up. A mean over runs, folds or batches, images left out, or a slip "
        "of the pen explain it as well."
    )
    confidence: Confidence = "likely"  # one figure alone may be a slip of the pen
    if fitting and _grade(luck) != "nothing can be said":
        confidence = _grade(luck)
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


def _smallest_fit(figures: list[Printed], finest: int) -> list[str]:
    """The smallest number of images that would do though no known set has it."""
    fits = np.concatenate([possible_sizes(figures, finest - 1, rule) for rule in RULES])
    if not len(fits):
        return []
    n = int(fits.min())
    luck = 1 - prod(1 - chance(figures, m) for m in range(1, n + 1))
    return [f"The smallest number that would do is {n:,}; chance finds one up to it {_odds(luck)}."]


def _also_fits(figures: list[Printed], n: int, other: int, label: str) -> str:
    """A multiple of n can do all that n can, but rarely has only counts that n has too."""
    if other % n:
        return f"{other:,} ({label}) would do as well."
    times = other // n
    return (
        f"{other:,} ({label}) would do only if all {len(figures)} counts of it happened to be "
        f"multiples of {times}: {_odds(times ** -len(figures))}."
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
            f"{len(shares)} usual shares of the set, {min(shares)} to {max(shares)} images{fits}"
        )
    return tuple(listed)


# ---- 2. counts ---------------------------------------------------------------------------------


def official_counts(paper: PublishedPaper, claim: OfficialCounts) -> Outcome:
    """Printed numbers of images against those of the official parts, taken together."""
    manifest = load_manifest(claim.dataset)
    named = {**claim.counts, **({"images": claim.images} if claim.images is not None else {})}
    printed = {name: _number(paper, value) for name, value in named.items()}
    official = _together(claim.dataset, claim.splits)
    wrong = [name for name, count in printed.items() if count != official[name]]
    if not wrong:
        return Passed(paper.paper, "counts", (claim.id,))
    listed = [
        f"{name}: {printed[name]:,.0f} printed, {official[name]:,} official" for name in wrong
    ]
    told = f"{len(printed) - len(wrong)} of {len(printed)} are."
    others = [
        _and([manifest.splits[split].source or split for split in splits], "and")
        for splits in _subsets(tuple(manifest.splits))
        if all(printed[name] == _together(claim.dataset, splits)[name] for name in printed)
    ]
    if others:
        told += f" All {len(printed)} are the counts of {_or(others)}."
    slips = [
        name
        for name in wrong
        if name in claim.counts and _one_digit_apart(printed[name], official[name])
    ]
    if slips:
        told += f" One digit differs: {_and(slips)}."
    means = "Images were added, left out or labelled otherwise, or a number is misprinted."
    if others:
        means = "The counts are of other parts than the text says."
    elif slips == wrong:
        means = "Probably a misprint."
    return Finding(
        paper=paper.paper,
        kind="counts",
        cells=(claim.id, *claim.cells),
        claim=claim.says,
        test=f"Are they the official counts of {manifest.title}, {_and(claim.splits)}?",
        result=told,
        details=tuple(listed),
        confidence="certain",
        means=claim.means or means,
        does_not_mean="That the experiments used other images than they should have.",
    )


def _together(dataset: str, splits: Sequence[str]) -> dict[str, int]:
    """Images of each expression, and of all, in some parts together."""
    manifest = load_manifest(dataset)
    parts = [manifest.splits[split] for split in splits]
    counts = {
        name: sum(part.classes.get(name, 0) for part in parts) for name in manifest.class_names
    }
    return {**counts, "images": sum(part.count or 0 for part in parts)}


def _subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    return [chosen for size in range(1, len(names) + 1) for chosen in combinations(names, size)]


def _one_digit_apart(first: float, second: float) -> bool:
    a, b = f"{first:.0f}", f"{second:.0f}"
    return len(a) == len(b) and sum(x != y for x, y in zip(a, b, strict=True)) == 1


def total(paper: PublishedPaper, claim: Total) -> Outcome:
    """Whether parts add up to their total; percentages within what rounding each part allows."""
    parts = [_cell(paper, part) for part in claim.parts]
    found, expected = sum(part.value for part in parts), _number(paper, claim.total)
    slack = sum(_half_unit(part.printed) for part in parts) if parts[0].unit == "percent" else 0
    if abs(found - expected) <= slack + 1e-9:
        return Passed(paper.paper, "counts", (claim.id,))
    return Finding(
        paper=paper.paper,
        kind="counts",
        cells=(claim.id, *claim.parts),
        claim=claim.says,
        test=f"Do the {len(parts)} parts add up to {expected:,g}?",
        result=f"They add up to {found:,g}: a difference of {found - expected:+,g}.",
        confidence="certain",
        means=claim.means
        or "A part or the total is misprinted, or something was left out or counted twice.",
        does_not_mean="Which of the numbers is the wrong one.",
    )


def _half_unit(printed: str) -> float:
    decimals = re.search(r"\.(\d+)", printed)
    return 0.5 * 10.0 ** -(len(decimals[1]) if decimals else 0)


def at_most(paper: PublishedPaper, claim: AtMost) -> Outcome:
    """Whether a part is no larger than its whole."""
    smaller, larger = _number(paper, claim.smaller), _number(paper, claim.larger)
    if smaller <= larger:
        return Passed(paper.paper, "counts", (claim.id,))
    return Finding(
        paper=paper.paper,
        kind="counts",
        cells=(claim.id, *claim.cells),
        claim=claim.says,
        test="Is the part at most as large as the whole?",
        result=f"{smaller:,g} are said to be some of {larger:,g}.",
        confidence="certain",
        means=claim.means or "The two count different things, or one is misprinted.",
        does_not_mean="That the experiments used more images than there are.",
    )


# ---- 3. accuracy by class ----------------------------------------------------------------------


def candidate_parts(dataset: str) -> dict[str, dict[str, int]]:
    """Images of each expression in each part that a table may be on, both test parts included."""
    splits = {name: part for name, part in load_manifest(dataset).splits.items() if name != "train"}
    parts = {
        part.source or name: dict(part.classes) for name, part in splits.items() if part.classes
    }
    if {"val", "test"} <= set(splits) and len(parts) > 1:
        both = _together(dataset, ("val", "test"))
        parts[" + ".join(parts)] = {name: both[name] for name in load_manifest(dataset).class_names}
    return parts


@dataclass(frozen=True)
class Column:
    """A model of a table: its overall accuracy and the recalls of all expressions.

    Args:
        label: table, row and column of the accuracy.
        cell: the accuracy's cell.
        recalls: by expression; None where nothing was printed.
    """

    label: str
    cell: PublishedCell
    recalls: Mapping[str, Printed | None]

    @property
    def printed(self) -> Printed:
        return figure(self.cell)

    def excluded_by(self, supports: Mapping[str, int], rule: Rule) -> str | None:
        """Why these images cannot give the column; None where they can."""
        found = room(self.recalls, supports, rule)
        if found.impossible:
            name = found.impossible[0]
            told = f"{self.recalls[name]} % of {supports[name]} images of {name} is no whole number"
            more = len(found.impossible) - 1
            return told + (f", nor are {more} more" if more else "")
        low, high = self.printed.bounds
        if high < found.low or low > found.high:
            left = _range((found.low, found.high))
            return f"{self.printed} % printed, {left} % left"
        return None


def columns(paper: PublishedPaper) -> list[Column]:
    """Accuracies whose model has a recall printed for every expression; each pair once."""
    found = []
    for cells in _models(paper).values():
        recalls = {c.expression: figure(c) for c in cells if c.metric == "recall"}
        if not recalls or set(recalls) != set(load_manifest(cells[0].dataset).class_names):
            continue
        accuracies = {figure(c): c for c in reversed(cells) if c.metric == "accuracy" and figure(c)}
        found += [
            Column(f"{_table(paper, c)}, {c.column}", c, recalls) for c in accuracies.values()
        ]
    return found


def accuracy_by_class(paper: PublishedPaper) -> Iterator[Outcome]:
    """Recalls of the expressions against the overall accuracy, for every part it may be on.

    All is well where the part that the cells name can give all of them.
    """
    by_part: dict[tuple[str, str], list[Column]] = {}
    for column in columns(paper):
        by_part.setdefault((column.cell.dataset, column.cell.part), []).append(column)
    for (dataset, _), found in by_part.items():
        parts = candidate_parts(dataset)
        if not parts:
            yield Passed(paper.paper, "accuracy by class", _ids(found), vacuous=True)
            continue
        sound = []
        for column in found:
            if any(not column.excluded_by(p, rule) for p in parts.values() for rule in RULES):
                sound.append(column)
            else:
                yield _impossible_column(paper.paper, column, parts)
        if sound:
            yield _parts_left(paper.paper, dataset, sound, parts)


def _impossible_column(paper: str, column: Column, parts: dict[str, dict[str, int]]) -> Finding:
    listed = [
        f"{label}, {digits}: {column.excluded_by(supports, rule)}"
        for label, supports in parts.items()
        for digits, rule in (("rounded", "half even"), ("cut off", "cut off"))
    ]
    return Finding(
        paper=paper,
        kind="accuracy by class",
        cells=(column.cell.id,),
        claim=f"{column.label}: overall accuracy {column.printed} %.",
        test="Can the printed recalls of the expressions give it, on any part of the data?",
        result="No, on none.",
        details=tuple(listed),
        confidence="likely",
        means="The accuracy or one of the recalls is misprinted, or they are of different runs.",
        does_not_mean="Which of them is wrong, where it is printed only once.",
    )


def _parts_left(
    paper: str, dataset: str, found: list[Column], parts: dict[str, dict[str, int]]
) -> Outcome:
    reasons = {}  # by part: what excludes it under the rule that suits it best
    for label, supports in parts.items():
        by_rule = [
            [(c.label, why) for c in found if (why := c.excluded_by(supports, rule))]
            for rule in RULES
        ]
        reasons[label] = min(by_rule, key=len)
    excluded = {label: why for label, why in reasons.items() if why}
    named = _named_part(found[0].cell)
    expected = [named.source or found[0].cell.part] if named else parts
    if not any(label in excluded for label in expected):
        return Passed(paper, "accuracy by class", _ids(found))
    left = [label for label in parts if label not in excluded]
    told = [
        f"{label} is excluded by {len(why)} of {len(found)}." for label, why in excluded.items()
    ]
    if left:
        told.insert(0, f"{_or(left)} can give all {len(found)}.")
    listed = [
        f"{column}: {reason} ({label})" for label, why in excluded.items() for column, reason in why
    ]
    return Finding(
        paper=paper,
        kind="accuracy by class",
        cells=_ids(found),
        claim=f"Recall of each expression and overall accuracy on {dataset}, {len(found)} models.",
        test="Weighted by the images of each expression in a part, the recalls leave a range for "
        "the overall accuracy. Is the printed one inside?",
        result=" ".join(told),
        details=tuple(listed),
        confidence="certain" if min(map(len, excluded.values())) > 1 else "likely",
        means=f"The tables were measured on {_or(left)}, not on {_or(list(excluded))}."
        if left
        else "No part of the set can give all of the tables.",
        does_not_mean="That the accuracies are wrong. But they are not like for like with those of "
        "another part, least of all if their own part chose the epoch."
        if left
        else "That the accuracies are wrong: images may have been left out, or labels changed.",
    )


# ---- 4. accuracy, recall and precision ---------------------------------------------------------


@dataclass(frozen=True)
class Trio:
    """Accuracy, recall and, where printed, precision of one model.

    Args:
        label: the row.
        cells: ids.
        accuracy, recall, precision: as printed.
        parts: images of each expression in each part that the three may be on.
    """

    label: str
    cells: tuple[str, ...]
    accuracy: Printed
    recall: Printed
    precision: Printed | None
    parts: dict[str, tuple[int, ...]]

    @property
    def averaged(self) -> tuple[float, float]:
        """Top-1 accuracies that a recall averaged over expressions leaves, on any part."""
        ranges = [accuracy_range(part, self.recall.bounds) for part in self.parts.values()]
        return min(low for low, _ in ranges), max(high for _, high in ranges)

    @property
    def thresholded(self) -> tuple[float, float] | None:
        """The same where recall and precision are those of the outputs above one half."""
        if self.precision is None:
            return None
        return thresholded_accuracy(self.recall.bounds, self.precision.bounds)

    @property
    def elementwise(self) -> tuple[float, float] | None:
        """Element-wise accuracies where recall and precision are of the outputs above one half."""
        if self.precision is None:
            return None
        return elementwise_from(self.recall.bounds, self.precision.bounds, self.num_classes)

    @property
    def top1(self) -> tuple[float, float]:
        """Top-1 accuracy if the printed accuracy is element-wise, of one-hot predictions."""
        return top1_from_elementwise(self.accuracy.bounds, self.num_classes)

    @property
    def num_classes(self) -> int:
        return len(next(iter(self.parts.values())))

    def accuracy_is_top1(self) -> bool:
        """Whether the accuracy can be top-1 under some reading of recall and precision."""
        # Averaged over images instead of expressions, recall and accuracy are the same.
        readings = [self.averaged, self.recall.bounds, self.thresholded]
        return any(_overlap(self.accuracy.bounds, found) for found in readings if found)

    def accuracy_is_elementwise(self) -> bool:
        """Whether it can be element-wise, beside averages over expressions, on some part."""
        if self.precision is None:
            return _overlap(self.top1, self.averaged)
        return any(
            one_matrix(part, self.top1, self.recall.bounds, self.precision.bounds)
            for part in self.parts.values()
        )


def trios(paper: PublishedPaper) -> list[Trio]:
    """The models of a paper with an accuracy and a recall over all expressions."""
    found = []
    for cells in _models(paper).values():
        by_metric = {cell.metric: cell for cell in reversed(cells) if figure(cell)}
        used = [by_metric.get(m) for m in ("accuracy", "balanced_accuracy", "macro_precision")]
        parts = candidate_parts(cells[0].dataset) if cells[0].dataset else {}
        if used[0] is None or used[1] is None or not parts:
            continue
        accuracy, recall, precision = (figure(cell) if cell else None for cell in used)
        found.append(
            Trio(
                label=used[0].row,
                cells=tuple(cell.id for cell in used if cell),
                accuracy=accuracy,
                recall=recall,
                precision=precision,
                parts={label: tuple(counts.values()) for label, counts in parts.items()},
            )
        )
    return found


def accuracy_recall_precision(paper: PublishedPaper) -> Iterator[Outcome]:
    """Whether accuracy, recall and precision can be of the same predictions, and if not, why."""
    found = trios(paper)
    if not found:
        return
    impossible = [trio for trio in found if not trio.accuracy_is_top1()]
    if not impossible:
        cells = tuple(cell for trio in found for cell in trio.cells)
        yield Passed(paper.paper, "accuracy, recall, precision", cells)
        return
    yield _not_top1(paper.paper, found, impossible)
    yield _elementwise(paper.paper, found)


def _not_top1(paper: str, found: list[Trio], impossible: list[Trio]) -> Finding:
    told = []
    for trio in impossible:
        words = (
            f"{trio.label}: accuracy {trio.accuracy} %. Averaged over expressions, a recall of "
            f"{trio.recall} % leaves at most {_percent(trio.averaged[1])} %; averaged over images, "
            "the two would be equal"
        )
        if trio.thresholded:
            words += f"; of outputs above one half, at most {_percent(trio.thresholded[1])} %"
        told.append(words)
    fine = [trio.label for trio in found if trio not in impossible]
    if fine:
        told.append(f"{_and(fine)}: possible")
    return Finding(
        paper=paper,
        kind="accuracy, recall, precision",
        cells=tuple(cell for trio in impossible for cell in trio.cells),
        claim="Accuracy, recall and precision of a model stand in one row.",
        test="Can the accuracy be the share of images that are right (top-1), on an official part, "
        "with the recall and precision beside it in any of their usual meanings?",
        result=f"Not in {len(impossible)} of {len(found)} rows.",
        details=tuple(told),
        confidence="certain" if len(impossible) > 1 else "likely",
        means="In these rows the accuracy is not the top-1 accuracy of the predictions that recall "
        "and precision are of: it is another figure, or of other images.",
        does_not_mean="That it was not computed. Keras, for one, has an accuracy of single outputs "
        "under the same name, figures of one row may be of different epochs or parts, and images "
        "may have been left out.",
    )


def _elementwise(paper: str, found: list[Trio]) -> Finding:
    direct = [trio for trio in found if trio.elementwise]
    agree = [trio for trio in direct if _overlap(trio.accuracy.bounds, trio.elementwise)]
    possible = [trio for trio in found if trio.accuracy_is_elementwise()]
    listed = [
        f"{trio.label}, from recall and precision of outputs above one half: "
        f"{_range(trio.elementwise)} % follows, {trio.accuracy} % is printed"
        for trio in direct
    ] + [
        f"{trio.label}, from averages over expressions: possible, with a top-1 accuracy of "
        f"{_range(trio.top1)} %"
        for trio in possible
    ]
    sure = len(direct) > 1 and len(agree) == len(direct)
    return Finding(
        paper=paper,
        kind="accuracy, recall, precision",
        cells=tuple(cell for trio in found for cell in trio.cells),
        claim=f"Accuracies of {_and([f'{trio.accuracy} %' for trio in found])}.",
        test="Can they be element-wise: each of an image's K outputs right or wrong by itself?",
        result=f"With recall and precision of the outputs above one half, {len(agree)} of "
        f"{len(direct)} rows agree; with averages over expressions, {len(possible)} of "
        f"{len(found)} are possible.",
        details=tuple(listed),
        confidence="likely" if sure else "weak" if possible or agree else "nothing can be said",
        means="Element-wise accuracy is one explanation of an accuracy so far above its recall; "
        "the recall is then nearer to top-1 accuracy."
        if possible or agree
        else "Element-wise accuracy does not explain these rows either.",
        does_not_mean="That it is the explanation: rows that agree can do so by chance, those that "
        "do not need another one, and averages leave much room.",
    )


# ---- 5. confusion matrices ---------------------------------------------------------------------


def confusion(paper: PublishedPaper, matrix: PublishedMatrix) -> Outcome:
    """A printed confusion matrix against the class counts of each part and its accuracy.

    Counts: row c must add up to the images of expression c in one part, and the diagonal to the
    printed accuracy. Percentages: each row must add up to 100 within the rounding of its K numbers,
    and the diagonal, weighted by a part's images, must leave room for the accuracy.
    """
    parts = {
        label: supports
        for label, supports in candidate_parts(matrix.dataset).items()
        if set(supports) == set(matrix.expressions)
    }
    cell = _cell(paper, matrix.accuracy) if matrix.accuracy else None
    wrong = []
    if matrix.unit == "count":
        rows = np.array([[int(number) for number in row] for row in matrix.rows])
        sums = dict(zip(matrix.expressions, rows.sum(axis=1).tolist(), strict=True))
        if parts and sums not in parts.values():
            label, nearest = min(
                parts.items(), key=lambda item: sum(abs(item[1][c] - sums[c]) for c in sums)
            )
            off = [f"{c} {sums[c]} for {nearest[c]}" for c in sums if sums[c] != nearest[c]]
            wrong.append(f"the rows add up to no part; nearest is {label}: {_and(off)}")
        n, right = int(rows.sum()), int(np.trace(rows))
        low_high = [right_counts(figure(cell), n, rule) for rule in RULES] if cell else []
        if cell and not any(low <= right <= high for low, high in low_high):
            wrong.append(f"{right} of {n} are right, {figure(cell)} % is printed")
    else:
        printed = [[read(number, matrix.unit) for number in row] for row in matrix.rows]
        for name, row in zip(matrix.expressions, printed, strict=True):
            low = sum(number.bounds[0] for number in row)
            high = sum(number.bounds[1] for number in row)
            if not low <= 1 <= high:
                told = _percent(sum(number.value for number in row))
                wrong.append(f"the row of {name} adds up to {told} %")
        if cell:
            recalls = {c: printed[k][k] for k, c in enumerate(matrix.expressions)}
            column = Column(cell.column, cell, recalls)
            why = {
                label: [column.excluded_by(supports, rule) for rule in RULES]
                for label, supports in parts.items()
            }
            if why and all(all(reasons) for reasons in why.values()):
                listed = "; ".join(f"{label}: {reasons[0]}" for label, reasons in why.items())
                wrong.append(f"no part gives the accuracy: {listed}")
    if not wrong:
        return Passed(paper.paper, "confusion matrix", (matrix.id,), vacuous=not parts)
    return Finding(
        paper=paper.paper,
        kind="confusion matrix",
        cells=(matrix.id, *([matrix.accuracy] if matrix.accuracy else [])),
        claim="The confusion matrix" + (f", with accuracy {cell.printed}" if cell else ""),
        test="Do its rows add up to the images of a part, and its diagonal to the accuracy?",
        result="Not all of them: see below.",
        details=tuple(wrong),
        confidence="certain" if matrix.unit == "count" else "likely",
        means="The matrix is of other images than an official part, or of another run than the "
        "accuracy, or a number is misprinted.",
        does_not_mean="That the accuracy is wrong: images may be left out, or labels changed.",
    )


# ---- 6. improvements ---------------------------------------------------------------------------


def improvements(paper: PublishedPaper) -> Iterator[Outcome]:
    """Claimed differences: recomputed from the cells, in images, and against chance."""
    claims = [claim for claim in paper.claims if isinstance(claim, Improvement)]
    for claim in claims:
        if claim.points is not None:
            yield _recomputed(paper, claim)
    by_size: dict[int, list[Improvement]] = {}
    for claim in claims:
        if claim.n_test:
            by_size.setdefault(claim.n_test, []).append(claim)
    for n, group in by_size.items():
        yield _against_chance(paper, n, group)


def _recomputed(paper: PublishedPaper, claim: Improvement) -> Outcome:
    better, base = (figure(_cell(paper, name)) for name in (claim.better, claim.base))
    found, points = 100 * (better.value - base.value), _cell(paper, claim.points)
    if abs(found - points.value) <= _half_unit(points.printed) + 1e-9:
        return Passed(paper.paper, "improvement", (claim.id,))
    return Finding(
        paper=paper.paper,
        kind="improvement",
        cells=(claim.id, *claim.cells),
        claim=claim.says,
        test="Is the improvement the difference of the two cells?",
        result=f"{better} - {base} = {found:.2f} points; {points.printed} is printed.",
        confidence="certain",
        means=claim.means
        or "The difference or one of the two accuracies is misprinted, or it is "
        "relative and not in points.",
        does_not_mean="That there is no improvement.",
    )


def _against_chance(paper: PublishedPaper, n: int, claims: list[Improvement]) -> Outcome:
    ids = tuple(claim.id for claim in claims)
    told, images = [], []
    for claim in claims:
        better, base = (figure(_cell(paper, name)) for name in (claim.better, claim.base))
        right = (round(better.value * n), round(base.value * n))
        p = difference_by_chance(right, n)
        if p > LEVEL:
            images.append(right[0] - right[1])
            told.append(
                f"{claim.says}: {better} against {base} %, {_images(images[-1])}, p = {p:.2f}"
            )
    if not told:
        return Passed(paper.paper, "improvement", ids)
    hopeless = sum(least_p_on_same_images(m) > LEVEL for m in images)
    same = "On the same images a difference can be surer than that: the predictions would tell."
    if hopeless:
        same += (
            f" Not for {hopeless} of these: so few images prove nothing even if the better model "
            "is right wherever the other is."
        )
    return Finding(
        paper=paper.paper,
        kind="improvement",
        cells=ids,
        claim=f"{len(claims)} results are called better than others.",
        test=f"How many images is each difference, if both are on {n:,}, and how often would two "
        "equally good models differ as much (Fisher's exact test)?",
        result=f"{len(told)} of {len(claims)} are not told from chance. {same}",
        details=tuple(told),
        confidence="certain" if hopeless == len(told) else "likely",
        means="One run each on so many images does not rank these models.",
        does_not_mean="That the better number is not the better model: only that these runs do not "
        "show it.",
    )


def _images(number: int) -> str:
    return f"{number:,} image{'' if abs(number) == 1 else 's'}"


# ---- 7. the text against the tables ------------------------------------------------------------


def same_result(paper: PublishedPaper) -> Iterator[Outcome]:
    """One result, chosen by the same runs, must be the same wherever it is printed."""
    conflicting = _contradicting(paper)
    for cells in conflicting:
        yield _two_values(paper, cells)
    conflicts = {cell.id for cells in conflicting for cell in cells}
    for cells in _repeated(paper):
        if len(cells) > 1 and cells[0].id not in conflicts:
            yield Passed(paper.paper, "text and tables", tuple(cell.id for cell in cells))


def _two_values(paper: PublishedPaper, cells: list[PublishedCell]) -> Finding:
    places: dict[str, list[str]] = {}
    for cell in cells:
        places.setdefault(cell.printed, []).append(_table(paper, cell))
    told = _and([f"{printed} in {_and(where)}" for printed, where in places.items()]) + "."
    others = [  # what the sizes of the test set say, where the undisputed figures tell them
        cell
        for cell in paper.cells
        if cell.kind == "own"
        and (cell.metric, cell.dataset, cell.part) == ("accuracy", cells[0].dataset, cells[0].part)
        and cell.id not in {c.id for c in cells}
        and figure(cell)
    ]
    if cells[0].metric == "accuracy" and len(others) > 1:
        figures = {figure(cell) for cell in others}
        for n in known_sizes(others):
            number, rule = misfits(list(figures), n)
            if number or n >= min(f.scale for f in figures):
                continue
            fits = {str(figure(c)): bool(is_share(figure(c), n, rule)) for c in cells}
            if len(set(fits.values())) > 1:
                good = _and([value for value, fit in fits.items() if fit])
                bad = _and([value for value, fit in fits.items() if not fit])
                digits = "cut off" if rule == "cut off" else "rounded"
                told += (
                    f" Of {n:,} images, {digits} as the other {len(figures)} accuracies are, "
                    f"{good} can be a count and {bad} cannot."
                )
                break
    return Finding(
        paper=paper.paper,
        kind="text and tables",
        cells=tuple(cell.id for cell in cells),
        claim=f"{cells[0].row}, {cells[0].column}: {cells[0].metric.replace('_', ' ')}.",
        test="Is one result printed with one value?",
        result=told,
        confidence="certain",
        means="At least one of them is a slip.",
        does_not_mean="That the result is in doubt beyond the difference between them.",
    )


def _repeated(paper: PublishedPaper) -> list[list[PublishedCell]]:
    """Own cells of the same quantity of the same model, in printed order."""
    found: dict[tuple, list[PublishedCell]] = {}
    for key, cells in _models(paper).items():
        for cell in cells:
            if cell.value is not None:
                row = "" if cell.metric != "most_frequent_prediction" else cell.row
                found.setdefault((key, cell.metric, cell.expression, row), []).append(cell)
    return list(found.values())


def _contradicting(paper: PublishedPaper) -> list[list[PublishedCell]]:
    """Those of `_repeated` that do not agree."""

    def differ(first: PublishedCell, second: PublishedCell) -> bool:
        a, b = figure(first), figure(second)
        if a is None or b is None:
            return first.value != second.value
        return a != b if a.scale == b.scale else not _overlap(a.bounds, b.bounds)

    return [
        cells for cells in _repeated(paper) if any(differ(cells[0], other) for other in cells[1:])
    ]


def classes_right(paper: PublishedPaper) -> Iterator[Outcome]:
    """How many expressions a model recognises: as a rate, as a count, and word by word.

    Of K expressions k are recognised; the rate must print k/K, the text must say k, and k of the K
    rows must name their own expression as the most frequent prediction.
    """
    for cells in _models(paper).values():
        if not cells[0].dataset:
            continue
        num_classes = len(load_manifest(cells[0].dataset).class_names)
        told: dict[str, set[int]] = {}
        used = []
        words = [c for c in cells if c.metric == "most_frequent_prediction"]
        if len(words) == num_classes:
            told["Words in the table"] = {sum(c.printed == c.row for c in words)}
        for cell in cells:
            if cell.metric == "detection_rate" and figure(cell):
                ks = [right_counts(figure(cell), num_classes, rule) for rule in RULES]
                counts = {int(low) for low, high in ks if low <= high}
                told[f"{cell.printed} ({_table(paper, cell)})"] = counts
                used.append(cell.id)
            elif cell.metric == "expressions_detected" and cell.value is not None:
                told[f'"{cell.printed}" ({_table(paper, cell)})'] = {int(cell.value)}
                used.append(cell.id)
        if len(told) < 2:
            continue
        if set.intersection(*told.values()):
            yield Passed(paper.paper, "text and tables", tuple(used))
            continue
        listed = [
            f"{what}: {_or([str(k) for k in sorted(counts)]) or 'no count'} of {num_classes}"
            for what, counts in told.items()
        ]
        yield Finding(
            paper=paper.paper,
            kind="text and tables",
            cells=tuple(used),
            claim=f"{_table(paper, cells[0])}, {cells[0].column}: expressions recognised.",
            test="Do rate, count in the text and words in the table tell the same number?",
            result="; ".join(listed) + ".",
            confidence="certain",
            means="At least one of them is a slip.",
            does_not_mean="That the accuracies beside it are wrong.",
        )


def same_number(paper: PublishedPaper, claim: SameNumber) -> Outcome:
    """Whether numbers that should be one are one."""
    values = [_share_of(paper, cell) for cell in claim.numbers]
    if max(values) - min(values) < 1e-9:
        return Passed(paper.paper, "text and tables", (claim.id,))
    told = [
        f"{_cell(paper, c).printed} ({_table(paper, _cell(paper, c))}, {_cell(paper, c).row})"
        if isinstance(c, str)
        else f"{c:g}"
        for c in claim.numbers
    ]
    return Finding(
        paper=paper.paper,
        kind="text and tables",
        cells=(claim.id, *claim.cells),
        claim=claim.says,
        test="Is it one number?",
        result=_and(told) + ".",
        confidence=claim.confidence,
        means=claim.means or "At least one of them is a slip, or they are different results.",
        does_not_mean="Which of them is right.",
    )


def highest(paper: PublishedPaper, claim: Highest) -> Outcome:
    """Whether a result is above all others of its kind that the paper names."""
    best = _share_of(paper, claim.best)
    above = [name for name in claim.others if _share_of(paper, name) > best]
    if not above:
        return Passed(paper.paper, "text and tables", (claim.id,))
    listed = [f"{_cell(paper, name).row}: {_cell(paper, name).printed}" for name in above]
    return Finding(
        paper=paper.paper,
        kind="text and tables",
        cells=(claim.id, claim.best, *above),
        claim=claim.says,
        test=f"Is {_cell(paper, claim.best).printed} above the others that the paper names?",
        result=f"Not above {_and(listed)}.",
        confidence="certain",
        means=claim.means or "By the paper's own citations it is not the highest.",
        does_not_mean="That the two were measured alike, or that either is right.",
    )


# ---- all of it ---------------------------------------------------------------------------------

_BY_CLAIM = {
    OfficialCounts: official_counts,
    Total: total,
    AtMost: at_most,
    SameNumber: same_number,
    Highest: highest,
}


def outcomes(paper: PublishedPaper) -> list[Outcome]:
    """Every check of a paper, those that raised nothing included."""
    return [
        *granularity(paper),
        *accuracy_by_class(paper),
        *accuracy_recall_precision(paper),
        *(confusion(paper, matrix) for matrix in paper.matrices),
        *(_BY_CLAIM[type(c)](paper, c) for c in paper.claims if type(c) in _BY_CLAIM),
        *improvements(paper),
        *same_result(paper),
        *classes_right(paper),
    ]


def audit(paper: PublishedPaper) -> list[Finding]:
    """What the printed numbers of a paper show and the paper does not say.

    Args:
        paper: its published tables, see `manifests.load_published`.

    Returns:
        One `Finding` for each check that raised something; none for a paper whose numbers fit.
    """
    return [found for found in outcomes(paper) if isinstance(found, Finding)]


def tally(found: Sequence[Outcome]) -> dict[Kind, dict[str, int]]:
    """How many checks of each kind were consistent, could not tell, or raised a finding."""
    counts: dict[Kind, dict[str, int]] = {}
    for outcome in found:
        row = counts.setdefault(outcome.kind, {"consistent": 0, "cannot tell": 0, "findings": 0})
        if isinstance(outcome, Finding):
            row["findings"] += 1
        else:
            row["cannot tell" if outcome.vacuous else "consistent"] += 1
    return counts


# ---- cells and words ---------------------------------------------------------------------------


def _models(paper: PublishedPaper) -> dict[tuple, list[PublishedCell]]:
    """Own cells by what chooses their runs: equal choices mean one set of predictions."""
    found: dict[tuple, list[PublishedCell]] = {}
    for cell in paper.cells:
        if cell.kind == "own" and cell.select:
            chosen = json.dumps(cell.select, sort_keys=True)
            found.setdefault((cell.dataset, cell.part, chosen), []).append(cell)
    return found


def _cell(paper: PublishedPaper, name: str) -> PublishedCell:
    return next(cell for cell in paper.cells if cell.id == name)


def _number(paper: PublishedPaper, of: str | float) -> float:
    return _cell(paper, of).value if isinstance(of, str) else of


def _share_of(paper: PublishedPaper, of: str | float) -> float:
    """In percent, where the cell is a fraction."""
    if not isinstance(of, str):
        return of
    cell = _cell(paper, of)
    return 100 * cell.value if cell.unit == "fraction" else cell.value


def _table(paper: PublishedPaper, cell: PublishedCell) -> str:
    return next(table.id for table in paper.tables if cell in table.cells)


def _ids(found: Sequence[Column]) -> tuple[str, ...]:
    return tuple(column.cell.id for column in found)


def _overlap(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return first[0] <= second[1] and second[0] <= first[1]


def _grade(probability: float) -> Confidence:
    """How sure something is that chance would bring about so often."""
    grades = ((1e-6, "certain"), (1e-2, "likely"), (0.25, "weak"))
    return next((g for limit, g in grades if probability < limit), "nothing can be said")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def _range(ends: tuple[float, float]) -> str:
    low, high = map(_percent, ends)
    return low if low == high else f"{low} to {high}"


def _odds(probability: float) -> str:
    if probability > 0.1:
        return f"in {100 * probability:.0f} % of cases"
    if probability < 1e-9:
        return "less than once in a billion times"
    return f"once in {float(f'{1 / probability:.2g}'):,.0f} times"


def _and(words: Sequence[str], last: str = "and") -> str:
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _or(words: Sequence[str]) -> str:
    return _and(words, "or")
