"""What is done to a data set before a chapter trains on it: balanced, as printed or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from fer_utils import balancing, splits
from fer_utils.balancing import BalancedFaces
from fer_utils.datasets import FaceDataset
from fer_utils.manifests import load_manifest
from fer_utils.records import RunRecord
from fer_utils.splits import Split

Order = Literal["train", "none", "before_split"]


@dataclass(frozen=True)
class Prepared:
    """A data set with its parts, and what balancing makes or will make of it.

    Args:
        data, split: what a run takes.
        prepare_train: what the run does to its training part; None for nothing.
        balanced: the training part after it, or everything where that was balanced; None: nothing.
        counts: of `balancing.counts`; None where nothing is balanced.
        share_with_train: of `balancing.share_with_train`, where that is wrong; None elsewhere.
    """

    data: FaceDataset
    split: Split
    prepare_train: Callable[[FaceDataset], FaceDataset] | None = None
    balanced: BalancedFaces | None = None
    counts: dict[str, dict[str, int]] | None = None
    share_with_train: dict[str, float] | None = None


def in_proportion(
    printed: Mapping[str, int], data: FaceDataset, like: str, order: Order
) -> dict[str, int]:
    """Numbers of images that a paper printed for one training part, scaled to another's size.

    Args:
        printed: expression -> images after balancing.
        data: with official parts, before any image was dropped.
        like: the data set that `printed` is about.
        order: see `prepare`.
    """
    share = np.sum(data.split == "train") / load_manifest(like).splits["train"].count
    if order == "before_split":
        share = share / 0.8  # of everything, so that the training part is as large as printed
    return {name: round(share * images) for name, images in printed.items()}


def prepare(data: FaceDataset, targets: dict[str, int], order: Order, *, seed: int) -> Prepared:
    """Balance the training part alone, nothing, or, wrongly, everything before the split.

    Args:
        data: with official parts.
        targets: expression -> images wanted.
        order: what is balanced, and when; "before_split" measures what the wrong order does.
        seed: see `balancing.balance`.

    Returns:
        What a run takes, and what balancing made.

    Raises:
        BalancingError: see `balancing.balance`.
        ValueError: `data` have no official parts.
    """
    if order == "before_split":
        balanced, split = balancing.balance_before_split(data, targets, seed=seed)
        # Else a record could not tell that its data are still those of the manifest.
        balanced = replace(balanced, loaded=data.loaded, hashes=data.hashes)
        return Prepared(
            balanced,
            split,
            balanced=balanced,
            counts=balancing.counts(data, balanced),
            share_with_train=balancing.share_with_train(balanced, split),
        )
    split = splits.official(data)
    if order == "none":
        return Prepared(data, split)
    before = data.subset(split.train)
    prepare_train = partial(balancing.balance, targets=targets, seed=seed)
    balanced = prepare_train(before)
    counts = balancing.counts(before, balanced)
    return Prepared(data, split, prepare_train, balanced, counts)


def told(record: RunRecord, ready: Prepared, dropped: dict | None) -> dict[str, Any]:
    """What a run's preparation came to, JSON-ready, to be kept beside its record.

    Args:
        record: of the run; its parameters name the detector and the order.
        ready: what the run took.
        dropped: of `detection.dropped`; None where every image stays.
    """
    return {
        **{key: record.parameters[key] for key in ("dataset", "faces", "balancing")},
        "dropped": dropped,
        "balanced": ready.counts,
        "share_with_train": ready.share_with_train,
        "versions": record.versions,
    }
