"""What ten taggers said of a face: training targets and the images that stay, from FER+ votes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

EXPRESSIONS = 8  # vote columns 0-7; 8 is "unknown" and 9 "not a face"
MODES = ("majority", "probability", "crossentropy", "multi_target")
KEEP = ("majority", "probability", "multi_target", "plurality", "any")


class VoteTargets(NamedTuple):
    """What the votes say of each image.

    Args:
        labels: int64 (N,), the expression with most votes, the first of equals.
        targets: float32 (N, 8), 0-1, see `vote_targets`.
        kept: bool (N,), whether the image stays.
    """

    labels: np.ndarray
    targets: np.ndarray
    kept: np.ndarray


def vote_targets(votes: np.ndarray, mode: str = "majority", keep: str | None = None) -> VoteTargets:
    """Turn votes into training targets, and choose the images that stay.

    Every mode first drops single votes as outliers. The target is, by `mode`:

    - "majority": one-hot, the expression with most votes;
    - "probability", "crossentropy": the votes of the leading expressions, added until they hold
      75 % of all, normalised. They are the same here: the authors' program takes the second as it
      is and draws one label from the first anew in every epoch, which is left to who trains. The
      loops of `fer_utils.training` take targets as they are;
    - "multi_target": 1 for every expression with at least 30 % of the votes, 0 for the others.

    Which images stay (`keep`) decides what an accuracy is comparable to:

    - "majority": more than half of the votes are for one expression (3,153 test images);
    - "probability": the leading expressions hold more than half and are at most three (3,505);
    - "multi_target": answers with 30 %, "unknown" and "not a face" among them, hold more than half,
      and an expression leads (3,472);
    - "plurality": an expression leads, not "unknown" or "not a face" (3,546);
    - "any": at least one vote is for an expression (3,573).

    Where `keep` admits an image that the mode alone would drop, its target comes from the plain
    votes for the eight expressions.

    Args:
        votes: integers (N, 10), for the eight expressions, unknown, and not a face.
        mode: one of `MODES`.
        keep: one of `KEEP`; None is the mode's own rule.

    Returns:
        A `VoteTargets` over all N images.

    Raises:
        ValueError: an unknown mode or rule.

    Source: barsoum2016, and the authors' program, github.com/microsoft/FERPlus.
    """
    own_rule = "probability" if mode == "crossentropy" else mode
    keep = own_rule if keep is None else keep
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is not one of {', '.join(MODES)}")
    if keep not in KEEP:
        raise ValueError(f"keep {keep!r} is not one of {', '.join(KEEP)}")
    votes = np.asarray(votes, np.int64)
    expressions = votes[:, :EXPRESSIONS]
    labels = expressions.argmax(1)
    one_hot = np.eye(EXPRESSIONS)[labels]
    chosen, own = _RULES[own_rule](votes)
    own = own[:, None]
    if mode == "majority":
        targets = one_hot
    elif mode == "multi_target":
        targets = np.where(own, chosen > 0, one_hot)
    else:
        weights = np.where(own, chosen, expressions)
        targets = weights / np.maximum(weights.sum(1, keepdims=True), 1)
    kept = _RULES[keep](votes)[1]
    return VoteTargets(labels, targets.astype(np.float32), kept)


# Each rule gives the votes (N, 8) of the expressions that it accepts, and whether the image stays.


def _without_outliers(votes: np.ndarray) -> np.ndarray:
    return np.where(votes > 1, votes, 0)


def _majority(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    votes = _without_outliers(votes)
    first = votes == votes.max(1, keepdims=True)
    kept = (votes.max(1) > 0.5 * votes.sum(1)) & (votes.argmax(1) < EXPRESSIONS)
    return (votes * first)[:, :EXPRESSIONS], kept


def _leading(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take the most voted columns, all equals at once, until they hold 75 % of the votes.

    Meeting "unknown" or "not a face" ends it; meeting them first drops the image.
    """
    rest = _without_outliers(votes)
    total = rest.sum(1)
    chosen = np.zeros_like(rest[:, :EXPRESSIONS])
    met_unknown = np.zeros(len(rest), bool)
    for _ in range(3):
        number = (chosen > 0).sum(1)
        going = (chosen.sum(1) < 0.75 * total) & (number < 3) & ~met_unknown
        top = (rest == rest.max(1, keepdims=True)) & (rest > 0) & going[:, None]
        chosen += (rest * top)[:, :EXPRESSIONS]
        met_unknown |= top[:, EXPRESSIONS:].any(1)
        rest = np.where(top, 0, rest)
    return chosen, (chosen.sum(1) > 0.5 * total) & ((chosen > 0).sum(1) <= 3)


def _thirty_percent(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    votes = _without_outliers(votes)
    total = votes.sum(1, keepdims=True)
    accepted = np.where(votes >= 0.3 * total, votes, 0)
    kept = (accepted.sum(1) > 0.5 * total[:, 0]) & (accepted.argmax(1) < EXPRESSIONS)
    return accepted[:, :EXPRESSIONS], kept


def _plurality(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return votes[:, :EXPRESSIONS], votes.argmax(1) < EXPRESSIONS


def _any(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return votes[:, :EXPRESSIONS], votes[:, :EXPRESSIONS].any(1)


_RULES = {
    "majority": _majority,
    "probability": _leading,
    "multi_target": _thirty_percent,
    "plurality": _plurality,
    "any": _any,
}
