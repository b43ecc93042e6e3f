"""Divide a data set into train, val and test, and say what leaks from one part into another."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

from fer_utils.datasets import FaceDataset

PARTS = ("train", "val", "test")
Kind = Literal["subject", "sequence", "exact copy", "near copy"]


@dataclass(frozen=True)
class Split:
    """Which rows of a data set train, validate and test.

    Args:
        name: short and unique among the splits of one data set.
        train: int64 (M,), rows of the data set; at least one.
        val: int64 (M,); may be empty where a protocol has no validation part.
        test: int64 (M,); at least one.
        seed: what drew it; None where nothing was drawn.
        description: one sentence on how it was made.
        partial: whether the protocol leaves rows out; else every row is in exactly one part.

    Raises:
        ValueError: parts that overlap, repeat, leave a row out or are empty.
    """

    name: str
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    seed: int | None = None
    description: str = ""
    partial: bool = False

    def __post_init__(self) -> None:
        for part in PARTS:
            rows = np.asarray(getattr(self, part))
            if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
                raise ValueError(f"split {self.name}: {part} is not a list of row numbers")
            object.__setattr__(self, part, rows.astype(np.int64))
        if not len(self.train) or not len(self.test):
            raise ValueError(f"split {self.name}: train and test need at least one image each")
        rows, times = np.unique(np.concatenate(list(self.parts().values())), return_counts=True)
        if rows[0] < 0:
            raise ValueError(f"split {self.name}: row {rows[0]} is negative")
        if times.max() > 1:
            raise ValueError(f"split {self.name}: row {rows[times.argmax()]} is used twice")
        if not self.partial and rows[-1] != len(rows) - 1:
            missing = int(np.argmax(rows != np.arange(len(rows))))
            raise ValueError(f"split {self.name}: row {missing} is in no part")

    def parts(self) -> dict[str, np.ndarray]:
        """The rows by the name of their part."""
        return {part: getattr(self, part) for part in PARTS}

    def sizes(self) -> dict[str, int]:
        """The number of images by the name of their part."""
        return {part: len(rows) for part, rows in self.parts().items()}


# ---- protocols --------------------------------------------------------------------------------


def official(data: FaceDataset) -> Split:
    """The parts that the source of the data defines.

    Raises:
        ValueError: the source defines none, train or test is empty, images have no label, or the
            set is balanced.
    """
    _labels(data)
    if data.split is None:
        raise ValueError(f"{data.name} has no official split")
    rows = {part: np.flatnonzero(data.split == part) for part in PARTS}
    return Split("official", **rows, description="The parts that the source of the data defines.")


def stratified(
    data: FaceDataset, fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0
) -> Split:
    """Images drawn at random, every expression in the same proportion in every part.

    Images of one person, and neighbouring frames, land on both sides: `leakage` says how many.

    Args:
        data: any labelled set.
        fractions: shares of train, val and test; their sum is 1, that of val may be 0.
        seed: what draws the images.

    Raises:
        ValueError: fractions that are none, an expression with too few images, images without a
            label, or a balanced set.
    """
    labels = _labels(data)
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(f"fractions must be three shares whose sum is 1, not {tuple(fractions)}")
    number = [round(fraction * len(data)) for fraction in fractions[1:]]
    train, test = _draw(data, np.arange(len(data)), labels, number[1], seed)
    val = np.array([], np.int64)
    if number[0]:
        train, val = _draw(data, train, labels, number[0], seed)
    percent = "/".join(f"{100 * fraction:g}" for fraction in fractions)
    return Split(
        f"stratified-{percent.replace('/', '-')}-seed{seed}",
        train,
        val,
        test,
        seed,
        f"Images at random, {percent} % train/val/test, stratified by expression.",
    )


def subject_kfold(
    data: FaceDataset, folds: int = 10, seed: int = 0, val_fraction: float = 0.1
) -> list[Split]:
    """Every subject in the test part of one fold, and in one part only of each fold.

    Args:
        data: a labelled set with subjects.
        folds: how many splits.
        seed: what draws the subjects.
        val_fraction: share of the other subjects' images that validate, about; 0 for none, at most
            0.5.

    Returns:
        `folds` splits; expressions are as evenly spread as whole subjects allow.

    Raises:
        ValueError: no subjects in this set, fewer than two folds or more than subjects, an
            expression that too few of them show, a `val_fraction` outside 0-0.5, images without a
            label, or a balanced set.
    """
    labels, subjects = _labels(data), _subjects(data)
    number = len(np.unique(subjects))
    if not 2 <= folds <= number:
        raise ValueError(f"folds must be 2 to {number}, the subjects of {data.name}, not {folds}")
    tests = _group_folds(labels, subjects, folds, seed)
    description = f"whole subjects, stratified by expression, fold {{}} of {folds}."
    return [
        _held_out(
            data,
            np.flatnonzero(tests == fold),
            f"subject-fold{fold + 1}of{folds}-seed{seed}",
            (seed, fold),
            val_fraction,
            description.format(fold + 1),
        )
        for fold in range(folds)
    ]


def leave_one_subject_out(
    data: FaceDataset, seed: int = 0, val_fraction: float = 0.1
) -> list[Split]:
    """Every subject alone in the test part once; others, drawn, validate.

    Args:
        data: a labelled set with subjects.
        seed: what draws the validation subjects.
        val_fraction: share of the other subjects' images that validate, about; 0 for none, at most
            0.5.

    Returns:
        One split a subject, in the order of their names.

    Raises:
        ValueError: no subjects in this set, fewer than two (three with validation), an expression
            that too few of them show, a `val_fraction` outside 0-0.5, images without a label, or a
            balanced set.
    """
    _labels(data)
    subjects = _subjects(data)
    names = np.unique(subjects)
    return [
        _held_out(
            data,
            np.flatnonzero(subjects == name),
            f"without-{name}-seed{seed}",
            (seed, index),
            val_fraction,
            f"leave one subject out: {name}.",
        )
        for index, name in enumerate(names)
    ]


def _labels(data: FaceDataset) -> np.ndarray:
    unlabelled = int(np.sum(data.labels < 0))
    if unlabelled:
        raise ValueError(f"{unlabelled} images of {data.name} have no label; take a subset first")
    if getattr(data, "made", None) is not None:
        raise ValueError(
            f"{data.name} is balanced: images made from one original would stand in several parts; "
            "split first, then balance the training part"
        )
    return data.labels


def _subjects(data: FaceDataset) -> np.ndarray:
    if data.subjects is None:
        raise ValueError(f"{data.name} does not say who is shown, so no split can keep them apart")
    return data.subjects


def _draw(
    data: FaceDataset, rows: np.ndarray, labels: np.ndarray, number: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Part `rows` into those that stay and `number` that go, stratified; both sorted."""
    classes, counts = np.unique(labels[rows], return_counts=True)
    rare = counts.argmin()
    if counts[rare] < 2:
        name = data.class_names[classes[rare]]
        raise ValueError(f"{data.name} has too few images of {name} to put some into every part")
    if min(number, len(rows) - number) < len(classes):
        raise ValueError(
            f"{number} of {len(rows)} images cannot hold all {len(classes)} expressions on both "
            "sides; choose other fractions"
        )
    stay, go = train_test_split(rows, test_size=number, stratify=labels[rows], random_state=seed)
    return np.sort(stay), np.sort(go)


def _group_folds(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of every row, int64 (N,): whole groups, expressions spread as evenly as they go."""
    fold_of = np.empty(len(labels), np.int64)
    with warnings.catch_warnings():
        # An expression with fewer images than folds is missing from some: expected, not wrong.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        for fold, (_, rows) in enumerate(splitter.split(labels, labels, groups)):
            fold_of[rows] = fold
    return fold_of


def _held_out(
    data: FaceDataset,
    test: np.ndarray,
    name: str,
    draw: tuple[int, int],
    val_fraction: float,
    description: str,
) -> Split:
    """A split with a given test part, whose validation subjects are drawn from the others."""
    rest = np.setdiff1d(np.arange(len(data)), test)
    val = rest[:0]
    if val_fraction:
        val = _validation(data, rest, draw, val_fraction)
    train = np.setdiff1d(rest, val)
    _require_all_expressions(data, train, name)
    sentence = "Subject-independent, " + description
    return Split(name, train, val, test, draw[0], sentence)


def _validation(
    data: FaceDataset, rest: np.ndarray, draw: tuple[int, int], fraction: float
) -> np.ndarray:
    """Rows of whole subjects, about `fraction` of `rest`, that leave every expression in train."""
    if not 0 < fraction <= 0.5:
        raise ValueError(f"val_fraction must be 0 to 0.5, not {fraction}")
    labels, subjects = data.labels[rest], data.subjects[rest]
    number = len(np.unique(subjects))
    if number < 2:
        raise ValueError(f"{data.name} has too few subjects for a validation part beside a test")
    folds = min(round(1 / fraction), number)
    seed = int(np.random.SeedSequence(draw).generate_state(1)[0])
    fold_of = _group_folds(labels, subjects, folds, seed)
    needed = len(np.unique(labels))

    def loss(fold: int) -> tuple[bool, int, float]:
        inside = fold_of == fold
        lost = len(np.unique(labels[~inside])) < needed
        return lost, -len(np.unique(labels[inside])), abs(inside.mean() - fraction)

    return rest[fold_of == min(range(folds), key=loss)]


def _require_all_expressions(data: FaceDataset, train: np.ndarray, name: str) -> None:
    missing = np.setdiff1d(data.labels, data.labels[train])
    if len(missing):
        raise ValueError(
            f"too few subjects of {data.name} show {data.class_names[missing[0]]}: "
            f"split {name} has none left to train on"
        )


# ---- leakage ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Overlap:
    """What two parts of a split have in common.

    Args:
        kind: "subject", "sequence", "exact copy" (every pixel equal) or "near copy" (correlation
            at least the report's threshold, mirrored or not; exact copies are among them).
        first: name of a part.
        second: name of another part.
        count: shared subjects or sequences; pairs of copies.
        first_rows: int64 (M,), rows of the data set in the first part that are concerned.
        second_rows: int64 (M,), the same of the second part.
    """

    kind: Kind
    first: str
    second: str
    count: int
    first_rows: np.ndarray
    second_rows: np.ndarray


@dataclass(frozen=True)
class LeakageReport:
    """What leaks between the parts of a split.

    Args:
        split: name of the split.
        threshold: correlation from which two images are near copies.
        sizes: images by part.
        overlaps: one for every pair of parts and every kind that the data set lets one know.
    """

    split: str
    threshold: float
    sizes: dict[str, int]
    overlaps: tuple[Overlap, ...]

    def find(self, kind: Kind, first: str = "train", second: str = "test") -> Overlap:
        """The overlap of one kind between two parts.

        Raises:
            ValueError: the data set has no subjects or sequences, a part is empty, or the two are
                not in the order of `PARTS`.
        """
        for overlap in self.overlaps:
            if (overlap.kind, overlap.first, overlap.second) == (kind, first, second):
                return overlap
        raise ValueError(f"split {self.split}: nothing is known of {kind} in {first} and {second}")


def leakage(data: FaceDataset, split: Split, threshold: float = 0.97) -> LeakageReport:
    """Find the subjects, sequences and copies that two parts of a split share.

    Args:
        data: the set that was split.
        split: its parts.
        threshold: correlation from which two images are near copies, see `near_copies`.

    Raises:
        ValueError: a split of another data set, or a threshold that is not above 0 and at most 1.
    """
    rows = {part: rows for part, rows in split.parts().items() if len(rows)}
    last = max(int(r.max()) for r in rows.values())
    if last >= len(data):
        raise ValueError(f"split {split.name} has row {last}, {data.name} only {len(data)} images")
    overlaps = []
    for first, second in combinations(rows, 2):
        a, b = rows[first], rows[second]
        for kind, groups in (("subject", data.subjects), ("sequence", data.sequences)):
            if groups is not None:
                overlaps.append(_shared_groups(kind, first, second, a, b, groups))
        exact = exact_copies(data.images[a], data.images[b])
        near = near_copies(data.images[a], data.images[b], threshold)
        for kind, pairs in (("exact copy", exact), ("near copy", _union(near, exact))):
            rows_a, rows_b = a[np.unique(pairs.first)], b[np.unique(pairs.second)]
            count = len(pairs.first)
            overlaps.append(Overlap(kind, first, second, count, np.sort(rows_a), np.sort(rows_b)))
    return LeakageReport(split.name, threshold, split.sizes(), tuple(overlaps))


def _shared_groups(
    kind: Kind, first: str, second: str, a: np.ndarray, b: np.ndarray, groups: np.ndarray
) -> Overlap:
    shared = np.intersect1d(groups[a], groups[b])
    rows = (np.sort(part[np.isin(groups[part], shared)]) for part in (a, b))
    return Overlap(kind, first, second, len(shared), *rows)


class Copies(NamedTuple):
    """Pairs of images that are copies of each other, sorted by the first and then the second.

    Args:
        first: int64 (M,), positions in the first array of images.
        second: int64 (M,), positions in the second.
        correlation: float32 (M,), the larger one of straight and mirrored; 1 for exact copies.
    """

    first: np.ndarray
    second: np.ndarray
    correlation: np.ndarray


def exact_copies(first: np.ndarray, second: np.ndarray) -> Copies:
    """All pairs with every pixel equal.

    Args:
        first: uint8 (N, H, W) or (N, H, W, 1).
        second: uint8 (M, H, W) or (M, H, W, 1).
    """
    first, second = _grey(first), _grey(second)
    where: dict[bytes, list[int]] = {}
    for position, image in enumerate(second):
        where.setdefault(image.tobytes(), []).append(position)
    pairs = [(i, j) for i, image in enumerate(first) for j in where.get(image.tobytes(), ())]
    i, j = np.array(pairs, np.int64).reshape(-1, 2).T
    return Copies(i, j, np.ones(len(i), np.float32))


def near_copies(
    first: np.ndarray, second: np.ndarray, threshold: float = 0.97, mirror: bool = True
) -> Copies:
    """All pairs whose grey values correlate, whatever their brightness and contrast.

    No pair is missed. Images are compared at half their size first: with P the part of an image
    that the smaller one keeps and Q the rest, <a, b> = <Pa, Pb> + <Qa, Qb> is at most
    <Pa, Pb> + |Qa| |Qb|, so only pairs for which this bound reaches the threshold need all pixels.
    An image of a single grey correlates with nothing.

    Args:
        first: uint8 (N, H, W) or (N, H, W, 1).
        second: uint8 (M, H, W) or (M, H, W, 1).
        threshold: smallest Pearson correlation over the pixels, above 0 to 1.
        mirror: whether a left-right mirrored copy counts.

    Raises:
        ValueError: a threshold that is not above 0 and at most 1, or images of different sizes.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, not {threshold}")
    first, second = _grey(first), _grey(second)
    if first.shape[1:] != second.shape[1:]:
        raise ValueError(f"images of {first.shape[1:]} and {second.shape[1:]} cannot be compared")
    found = _search(first, second, threshold)
    if mirror:
        found = _union(found, _search(first[:, :, ::-1], second, threshold))
    return found


# Rounding in float32 stays far below this; it only ever adds candidates.
SLACK = 1e-4
BLOCK = 2048


def _grey(images: np.ndarray) -> np.ndarray:
    return images[..., 0] if images.ndim == 4 else images


def _search(first: np.ndarray, second: np.ndarray, threshold: float) -> Copies:
    """Pairs at or above the threshold, block by block to bound the memory."""
    sketches = [_sketch(second[j : j + BLOCK]) for j in range(0, len(second), BLOCK)]
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))]
    for start in range(0, len(first), BLOCK):
        sketch = _sketch(first[start : start + BLOCK])
        for number, other in enumerate(sketches):
            i, j = np.nonzero(sketch @ other.T >= threshold - SLACK)
            i, j = i + start, j + number * BLOCK
            for part in range(0, len(i), BLOCK):
                rows = slice(part, part + BLOCK)
                r = np.einsum("np,np->n", _unit(first[i[rows]]), _unit(second[j[rows]]))
                good = r >= threshold - 1e-6
                found.append((i[rows][good], j[rows][good], np.minimum(r[good], 1)))
    return _sorted(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _unit(images: np.ndarray) -> np.ndarray:
    """Float32 (N, H * W) of mean 0 and length 1; all 0 for an image of a single grey."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.where(length > 0, length, 1)


def _sketch(images: np.ndarray) -> np.ndarray:
    """Float32 (N, H * W / 4 + 1) whose inner products bound the correlations from above."""
    n, height, width = images.shape
    step = 2 if height % 2 == width % 2 == 0 else 1
    flat = _unit(images)
    tiles = flat.reshape(n, height // step, step, width // step, step).sum(axis=(2, 4)) / step
    kept = tiles.reshape(n, -1)
    rest = np.maximum(flat.any(axis=1) - np.einsum("np,np->n", kept, kept), 0)
    return np.hstack([kept, np.sqrt(rest)[:, None]]).astype(np.float32)


def _union(a: Copies, b: Copies) -> Copies:
    """Pairs of either, once each with the larger correlation."""
    return _sorted(*(np.concatenate(columns) for columns in zip(a, b, strict=True)))


def _sorted(first: np.ndarray, second: np.ndarray, correlation: np.ndarray) -> Copies:
    order = np.lexsort((-correlation, second, first))
    first, second, correlation = first[order], second[order], correlation[order]
    new = np.ones(len(first), bool)
    new[1:] = (np.diff(first) != 0) | (np.diff(second) != 0)
    return Copies(first[new], second[new], correlation[new])
