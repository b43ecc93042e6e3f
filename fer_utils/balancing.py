"""Balance the expressions of a training part: NearMiss thins out, SMOTE makes new images.

Both work on images as vectors of pixels and come from imbalanced-learn. What is made of training
images must stay with them, so a balanced set remembers what each image was made of, and sets that
hold other parts are refused. The one function that balances before splitting has the fault it
shows in its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from imblearn.over_sampling import SMOTE
from imblearn.under_sampling import NearMiss
from sklearn.neighbors import NearestNeighbors

from fer_utils import splits
from fer_utils.datasets import FaceDataset


class BalancingError(ValueError):
    """Data that must not be balanced, or cannot be; one sentence."""


@dataclass(frozen=True)
class BalancedFaces(FaceDataset):
    """Images that were kept and images that were made.

    Args:
        made: bool (N,), whether SMOTE made the image.
        parents: int64 (N, 2), rows of the set that was balanced: the two images between which a
            made one lies, an original's own row twice.
    """

    made: np.ndarray | None = None
    parents: np.ndarray | None = None

    def subset(self, rows: np.ndarray) -> BalancedFaces:
        cut = super().subset(rows)
        return replace(cut, made=self.made[rows], parents=self.parents[rows])


def balance(
    data: FaceDataset, targets: dict[str, int], *, seed: int, neighbours: int = 5
) -> BalancedFaces:
    """Bring every expression of a training part to its number of images.

    Expressions with more go through NearMiss version 3: for each image of the rarest expression
    its m nearest are kept, and of those the ones whose three nearest images of the rarest
    expression are farthest away on average. One m serves all expressions, the smallest that keeps
    enough of each; where one of them is to keep nearly all of its images, the first step can leave
    nearly all of the others, too (`near_miss_steps`). Expressions with fewer go through SMOTE.

    Args:
        data: training images alone.
        targets: expression -> images wanted, of every expression in `data`.
        seed: of what SMOTE draws; NearMiss draws nothing.
        neighbours: SMOTE makes an image between one and one of so many nearest.

    Returns:
        Originals that were kept, then images that were made.

    Raises:
        BalancingError: images of another part or of a balanced set are among them, or an
            expression has too few images to make more.
        ValueError: the m that one expression needs is more than the images of another one that is
            thinned out; scikit-learn's own words.

    Source:
        nouisser2023, section 3.2; m and the number of neighbours are not told.
    """
    if data.split is not None and (others := set(data.split) - {"train"}):
        raise BalancingError(
            f"{data.name}: only training images may be balanced, and there are images of "
            f"{' and '.join(sorted(map(str, others)))} among these: split first"
        )
    return _balance(data, targets, seed, neighbours)


def balance_before_split(
    data: FaceDataset, targets: dict[str, int], *, seed: int, neighbours: int = 5
) -> tuple[BalancedFaces, splits.Split]:
    """The wrong protocol: balance everything, then draw the parts from the result at random.

    Images that SMOTE made from one original land in different parts, so validation and test are
    not unseen. Here to measure what that does, for nothing else.

    Args:
        data: all parts together.
        targets, seed, neighbours: see `balance`.

    Returns:
        The balanced set, and 80/10/10 of it by image, stratified by expression.
    """
    balanced = _balance(replace(data, split=None), targets, seed, neighbours)
    drawn = splits.stratified(
        FaceDataset(data.name, balanced.images, balanced.labels, data.class_names), seed=seed
    )
    return balanced, replace(
        drawn,
        name=f"balanced-before-{drawn.name}",
        description=f"WRONG, to show what it does: balanced before the split. {drawn.description}",
    )


def share_with_train(balanced: BalancedFaces, split: splits.Split) -> dict[str, float]:
    """How much of validation and test is made of what training images are made of.

    Returns:
        For "val" and "test" the fraction of images that share a parent with a training image.
    """
    known = np.unique(balanced.parents[split.train])
    return {
        part: float(np.isin(balanced.parents[rows], known).any(axis=1).mean())
        for part, rows in split.parts().items()
        if part != "train" and len(rows)
    }


def counts(before: FaceDataset, after: BalancedFaces) -> dict[str, dict[str, int]]:
    """Images of each expression "before" and "after", and how many of the latter were "made"."""
    found = (before.labels, after.labels, after.labels[after.made])
    numbers = np.stack([np.bincount(labels, minlength=len(before.class_names)) for labels in found])
    return {
        name: dict(zip(("before", "after", "made"), column, strict=True))
        for name, column in zip(before.class_names, numbers.T.tolist(), strict=True)
    }


def near_miss_steps(train: FaceDataset, targets: dict[str, int]) -> dict[str, Any] | None:
    """What each of NearMiss's two steps leaves in `balance`.

    Args:
        train, targets: as `balance` takes them.

    Returns:
        "m", one for all; and under "steps", for every expression with more images than its target,
        its "images", how many of them the "first" and the "second" step leaves, the "own_m" that
        would be enough for it alone, and how many the first step leaves with that, "first_own_m".
        JSON-ready; None where no expression has more.
    """
    images = np.bincount(train.labels, minlength=len(train.class_names))
    pixels = train.images.reshape(len(train), -1).astype(np.float32)
    present = np.flatnonzero(images)
    rarest = pixels[train.labels == min(present, key=lambda k: images[k])]
    above = {
        name: pixels[train.labels == k]
        for k, name in enumerate(train.class_names)
        if k in present and images[k] > targets[name]
    }
    if not above:
        return None
    enough = {name: _enough(rarest, others, targets[name]) for name, others in above.items()}
    m = max(enough.values())

    def first(others: np.ndarray, m: int) -> int:
        nearest = NearestNeighbors(n_neighbors=m).fit(others)
        return len(np.unique(nearest.kneighbors(rarest, return_distance=False)))

    steps = {
        name: {
            "images": len(others),
            "first": first(others, m),
            "second": targets[name],
            "own_m": enough[name],
            "first_own_m": first(others, enough[name]),
        }
        for name, others in above.items()
    }
    return {"m": m, "steps": steps}


def step_rows(prepared: Iterable[Mapping[str, Any]]) -> list[dict[str, Any] | str]:
    """The rows of a table of what NearMiss's steps left.

    Args:
        prepared: each with the "faces" it is about, and of `near_miss_steps` what "near_miss" is.
    """
    rows = []
    for told in prepared:
        if found := told["near_miss"]:
            rows.append(f"{told['faces']}, m = {found['m']}")
            rows += [
                {
                    "Expression": name,
                    "Images": steps["images"],
                    "Kept by step 1": steps["first"],
                    "Kept by step 2": steps["second"],
                    "m if chosen for it alone": steps["own_m"],
                    "Kept by step 1 with that m": steps["first_own_m"],
                }
                for name, steps in found["steps"].items()
            ]
    return rows


def _balance(
    data: FaceDataset, targets: dict[str, int], seed: int, neighbours: int
) -> BalancedFaces:
    if isinstance(data, BalancedFaces):
        raise BalancingError(f"{data.name}: these images are balanced already")
    images = np.bincount(data.labels, minlength=len(data.class_names))
    present = np.flatnonzero(images)
    if missing := {data.class_names[k] for k in present} - set(targets):
        raise BalancingError(f"{data.name}: no number of images is given for {sorted(missing)[0]}")
    wanted = {int(k): targets[data.class_names[k]] for k in present}
    pixels = data.images.reshape(len(data), -1).astype(np.float32)

    rows = np.arange(len(data))
    if above := {k: number for k, number in wanted.items() if images[k] > number}:
        rows = _near_miss(pixels, data.labels, above)
    originals = data.subset(rows)
    made = np.empty((0, pixels.shape[1]), np.uint8)
    labels, parents = np.empty(0, np.int64), np.empty((0, 2), np.int64)
    if below := {k: number for k, number in wanted.items() if images[k] < number}:
        fewest = min(below, key=lambda k: images[k])
        if images[fewest] <= neighbours:
            raise BalancingError(
                f"{data.name}: {images[fewest]} images of {data.class_names[fewest]}; to make more "
                f"between {neighbours} neighbours takes {neighbours + 1}"
            )
        made, labels, parents = _smote(pixels[rows], originals.labels, below, seed, neighbours)
    return BalancedFaces(
        name=data.name,
        images=np.concatenate([originals.images, made.reshape(-1, *data.images.shape[1:])]),
        labels=np.concatenate([originals.labels, labels]),
        class_names=data.class_names,
        split=None if data.split is None else np.full(len(rows) + len(made), "train"),
        hashes=data.hashes,
        made=np.repeat([False, True], [len(rows), len(made)]),
        parents=np.concatenate([np.column_stack([rows, rows]), rows[parents]]),
    )


def _near_miss(pixels: np.ndarray, labels: np.ndarray, targets: dict[int, int]) -> np.ndarray:
    """Rows that NearMiss version 3 keeps, in their order."""
    counts = np.bincount(labels)
    rarest = min(np.flatnonzero(counts), key=lambda k: counts[k])
    m = max(
        _enough(pixels[labels == rarest], pixels[labels == k], number)
        for k, number in targets.items()
    )
    thinned = NearMiss(version=3, sampling_strategy=targets, n_neighbors_ver3=m)
    thinned.fit_resample(pixels, labels)
    return np.sort(thinned.sample_indices_)


def _enough(rarest: np.ndarray, others: np.ndarray, number: int) -> int:
    """The smallest m for which the m nearest `others` of all `rarest` are at least `number`."""
    nearest = NearestNeighbors(n_neighbors=len(others)).fit(others)
    order = nearest.kneighbors(rarest, return_distance=False)  # (rarest, others)
    first = np.full(len(others), len(others))  # the m with which each of the others comes in
    for m in range(len(others) - 1, -1, -1):
        first[order[:, m]] = m + 1
    return int(np.sort(first)[number - 1])


class _TracedSMOTE(SMOTE):
    """SMOTE that remembers between which rows of a class each image was made."""

    def _generate_samples(self, X, nn_data, nn_num, rows, cols, steps, *rest, **options):
        self.pairs = [*getattr(self, "pairs", []), np.column_stack([rows, nn_num[rows, cols]])]
        return super()._generate_samples(X, nn_data, nn_num, rows, cols, steps, *rest, **options)


def _smote(
    pixels: np.ndarray, labels: np.ndarray, targets: dict[int, int], seed: int, neighbours: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """New images uint8 (M, D), their labels (M,) and the rows (M, 2) they were made from."""
    smote = _TracedSMOTE(sampling_strategy=targets, random_state=seed, k_neighbors=neighbours)
    images, classes = smote.fit_resample(pixels, labels)
    images, classes = images[len(pixels) :], classes[len(labels) :].astype(np.int64)
    order = list(dict.fromkeys(classes.tolist()))
    parents = [
        np.flatnonzero(labels == k)[pairs] for k, pairs in zip(order, smote.pairs, strict=True)
    ]
    return np.rint(images).astype(np.uint8), classes, np.concatenate(parents)
