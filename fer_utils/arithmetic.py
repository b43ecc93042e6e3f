"""What a printed number can and cannot be: the arithmetic behind `fer_utils.audit`.

NumPy alone; nothing here knows of papers, tables or data sets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import permutations
from math import prod
from typing import Literal, NamedTuple

import numpy as np

Rule = Literal["half up", "half even", "cut off"]
RULES: tuple[Rule, ...] = ("half up", "half even", "cut off")


# ---- printed shares --------------------------------------------------------------------------


class Printed(NamedTuple):
    """A share as printed, exactly: 65.32 % and 0.6532 are both 6532 of 10000.

    Args:
        digits: the printed digits as a whole number.
        scale: the same for all images, such as 10000.
    """

    digits: int
    scale: int

    @property
    def value(self) -> float:
        """A fraction."""
        return self.digits / self.scale

    @property
    def bounds(self) -> tuple[float, float]:
        """The shares that print so, rounded or cut off."""
        return max(self.digits - 0.5, 0) / self.scale, (self.digits + 1) / self.scale

    def __str__(self) -> str:
        return f"{100 * self.value:.{max(len(str(self.scale)) - 3, 0)}f}"


def read(printed: str, unit: str) -> Printed:
    """A percentage or fraction with the digits that it was printed with.

    Args:
        printed: such as "65.32", "65.32%", "0.6532".
        unit: "percent" or "fraction".

    Raises:
        ValueError: not a plain number.
    """
    match = re.fullmatch(r"(\d*)(?:\.(\d*))?\s*%?", printed.strip())
    if not match or not any(match.groups()):
        raise ValueError(f"{printed!r} is not a plain number")
    whole, decimals = match[1], match[2] or ""
    unit_digits = {"percent": 100, "fraction": 1}[unit]
    return Printed(int(whole + decimals), unit_digits * 10 ** len(decimals))


def right_counts(
    printed: Printed, n: np.ndarray | int, rule: Rule
) -> tuple[np.ndarray, np.ndarray]:
    """Which numbers k of right answers among n images print as a figure.

    With p = `digits` and s = `scale`, k prints as p when the rule brings k s / n to p:
    "half up" where p - 1/2 <= k s / n < p + 1/2, "half even" with both ends for an even p and with
    neither for an odd one, "cut off" where p <= k s / n < p + 1. All in whole numbers.

    Args:
        printed: the figure.
        n: images, one number or many.
        rule: how further digits were dropped.

    Returns:
        The lowest and the highest k, from 0 to n. No k prints so where the lowest is the larger.
    """
    n = np.asarray(n, np.int64)
    p, s = printed
    if rule == "cut off":
        low, high = _ceil(p * n, s), _ceil((p + 1) * n, s) - 1
    else:
        low, high = _ceil((2 * p - 1) * n, 2 * s), _ceil((2 * p + 1) * n, 2 * s) - 1
    if rule == "half even" and p % 2 == 0:
        high = (2 * p + 1) * n // (2 * s)
    elif rule == "half even":
        low = (2 * p - 1) * n // (2 * s) + 1
    return np.maximum(low, 0), np.minimum(high, n)


def _ceil(number: np.ndarray, divisor: int) -> np.ndarray:
    return -(-number // divisor)


def is_share(printed: Printed, n: np.ndarray | int, rule: Rule) -> np.ndarray:
    """Whether some k of n images prints as the figure; arguments as `right_counts`."""
    low, high = right_counts(printed, n, rule)
    return low <= high


# ---- granularity -----------------------------------------------------------------------------


def possible_sizes(figures: Sequence[Printed], largest: int, rule: Rule) -> np.ndarray:
    """The numbers of images n of which every figure is some k/n, all under one rule.

    Args:
        figures: accuracies on the same images.
        largest: the largest n that is tried.
        rule: how further digits were dropped.

    Returns:
        int64, ascending.
    """
    n = np.arange(1, largest + 1)
    return n[np.all([is_share(printed, n, rule) for printed in figures], axis=0)]


def misfits(figures: Sequence[Printed], n: int) -> tuple[int, Rule]:
    """How many of the figures are no k/n under the rule that suits them best, and that rule."""
    counts = [(sum(not is_share(printed, n, rule) for printed in figures), rule) for rule in RULES]
    return min(counts, key=lambda found: found[0])


def chance(figures: Sequence[Printed], n: int) -> float:
    """How probably, at most, unrelated figures all happen to be shares of n images.

    At most n + 1 of the s + 1 numbers that can be printed are some k/n, so one figure fits with
    probability (n + 1) / (s + 1) and different ones independently. Rounded and cut off are two
    tries; as the same figures may fit both, their probabilities only add up to a bound.
    """
    once = prod(min(1.0, (n + 1) / (printed.scale + 1)) for printed in set(figures))
    return min(1.0, 2 * once)


# ---- accuracy by class, recall and precision -------------------------------------------------


class Room(NamedTuple):
    """The overall accuracies that the recalls of the expressions leave.

    Args:
        low, high: fractions.
        impossible: expressions whose printed recall is no count of their images.
    """

    low: float
    high: float
    impossible: tuple[str, ...]


def room(recalls: Mapping[str, Printed | None], supports: Mapping[str, int], rule: Rule) -> Room:
    """Overall accuracies that are possible where every expression's recall is printed.

    If expression c has n_c images, of which k_c are right, the accuracy is sum k_c / sum n_c; the
    printed recall leaves k_c the range of `right_counts`.

    Args:
        recalls: by expression; None was printed without a number and may be any.
        supports: images of the same expressions.
        rule: how further digits were dropped.
    """
    low = high = 0.0
    impossible = []
    for name, printed in recalls.items():
        first, last = 0, supports[name]
        if printed:
            first, last = (int(k) for k in right_counts(printed, supports[name], rule))
        if first > last:  # what it would be if images could be halved
            impossible.append(name)
            start = printed.digits - (0 if rule == "cut off" else 0.5)
            first, last = (max(start + d, 0) * supports[name] / printed.scale for d in (0, 1))
        low, high = low + first, high + last
    n = sum(supports[name] for name in recalls)
    return Room(low / n, high / n, tuple(impossible))


def accuracy_range(supports: Sequence[int], recall: tuple[float, float]) -> tuple[float, float]:
    """Accuracies that go with a mean recall over the expressions, whatever the predictions.

    With recalls r_c and K expressions the mean recall R fixes the sum of 1 - r_c, K (1 - R), while
    expression c costs n_c images for each unit of it. The accuracy is highest when the rarest
    expressions bear it all, lowest when the commonest do.

    Args:
        supports: images of each expression.
        recall: lowest and highest mean recall, fractions.

    Returns:
        Lowest and highest accuracy, fractions.
    """
    ordered = np.sort(np.asarray(supports, float))

    def wrong(loss: float, sizes: np.ndarray) -> float:
        return float(np.sum(np.clip(loss - np.arange(len(sizes)), 0, 1) * sizes))

    low, high = (len(ordered) * (1 - r) for r in reversed(recall))
    n = ordered.sum()
    return 1 - wrong(high, ordered[::-1]) / n, 1 - wrong(low, ordered) / n


def one_matrix(
    supports: Sequence[int],
    accuracy: tuple[float, float],
    recall: tuple[float, float],
    precision: tuple[float, float],
) -> bool | None:
    """Whether one confusion matrix can have this accuracy, mean recall and mean precision.

    Accuracy and recall leave a range that `accuracy_range` gives exactly. For the precision,
    matrices are built: right answers between those of the two ends of the range, errors spread in
    many ways over the columns. Precision changes continuously between any two of them, so that all
    values in between occur as well (with fractions of images).

    Args:
        supports: images of each expression.
        accuracy, recall, precision: lowest and highest value, fractions; recall and precision are
            means over the expressions.

    Returns:
        True: there is one. False: there is none. None: none was found.
    """
    sizes = np.asarray(supports, float)
    lowest, highest = accuracy_range(supports, recall)
    if accuracy[1] < lowest or accuracy[0] > highest:
        return False
    target = float(np.clip(np.mean(accuracy), lowest, highest))
    loss = len(sizes) * (1 - np.mean(recall))
    ends = []
    for order in (
        np.argsort(-sizes),
        np.argsort(sizes),
    ):  # the commonest bear the errors, the rarest
        missed = np.empty(len(sizes))
        missed[order] = np.clip(loss - np.arange(len(sizes)), 0, 1)
        ends.append(sizes * (1 - missed))
    worst, best = (end.sum() / sizes.sum() for end in ends)
    mix = 0.5 if best == worst else np.clip((target - worst) / (best - worst), 0, 1)
    right = (1 - mix) * ends[0] + mix * ends[1]
    found = _mean_precisions(right, sizes - right)
    return True if found.min() <= precision[1] and found.max() >= precision[0] else None


def _mean_precisions(right: np.ndarray, missed: np.ndarray) -> np.ndarray:
    """Mean precisions of some matrices with these right answers and errors of each row.

    False positives f of the columns are possible where f_c + missed_c <= all errors.
    """
    errors = missed.sum()
    spread = [errors * w / w.sum() for w in (right**power for power in (0.0, 0.5, 1.0))]
    for first, second in permutations(range(len(right)), 2):  # nearly all into one column
        wrong = np.zeros(len(right))
        wrong[first], wrong[second] = errors - missed[first], missed[first]
        spread.append(wrong)
    possible = [wrong for wrong in spread if np.all(wrong + missed <= errors + 1e-9)]
    return np.array([np.mean(right / np.maximum(right + wrong, 1e-12)) for wrong in possible])


def thresholded_accuracy(
    recall: tuple[float, float], precision: tuple[float, float]
) -> tuple[float, float]:
    """Top-1 accuracies that go with recall and precision of all outputs above one half.

    Of N images R N have the true expression above 1/2: they are right. R (1 - P) / P x N have a
    wrong one above 1/2: as at most one output of a softmax is above 1/2, they are wrong. So the
    accuracy is at least R and at most 1 - R (1 - P) / P.

    Args:
        recall, precision: lowest and highest value over all N x K outputs, fractions.

    Returns:
        Lowest and highest top-1 accuracy, fractions.
    """
    return recall[0], 1 - recall[0] * (1 - precision[1]) / precision[1]


def elementwise_from(
    recall: tuple[float, float], precision: tuple[float, float], num_classes: int
) -> tuple[float, float]:
    """Element-wise accuracy of N x K outputs from their recall and precision above one half.

    (1 - R) N outputs are false negatives, R (1 - P) / P x N false positives, all others right:
    1 - ((1 - R) + R (1 - P) / P) / K.

    Args:
        recall, precision: lowest and highest value over all outputs, fractions.
        num_classes: K.

    Returns:
        Lowest and highest element-wise accuracy, fractions.
    """
    values = [1 - ((1 - r) + r * (1 - p) / p) / num_classes for r in recall for p in precision]
    return min(values), max(values)


def top1_from_elementwise(
    elementwise: tuple[float, float], num_classes: int
) -> tuple[float, float]:
    """Top-1 accuracy behind an element-wise accuracy, where each image has an output above 1/2.

    A wrong image has two wrong outputs of K, a right one none: 1 - K (1 - E) / 2. An image without
    such an output has one wrong output, whether its highest is right or not; with many of them
    top-1 accuracy can be any other.

    Args:
        elementwise: lowest and highest, fractions.
        num_classes: K.
    """
    low, high = (1 - num_classes * (1 - value) / 2 for value in elementwise)
    return low, high


# ---- differences -----------------------------------------------------------------------------


def difference_by_chance(right: tuple[int, int], n: int) -> float:
    """How often two equally good models differ at least as much, each on n images of its own.

    Fisher's exact test, two-sided: given all right answers, those of the first model follow a
    hypergeometric distribution; the probabilities of all outcomes that are no likelier than the
    present one are added up.

    Args:
        right: right answers of the two models.
        n: images of each.

    Returns:
        The p value, 0-1.
    """
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, 2 * n + 1)))])

    def log_choose(k: np.ndarray) -> np.ndarray:
        return log_factorial[n] - log_factorial[k] - log_factorial[n - k]

    both = sum(right)
    k = np.arange(max(0, both - n), min(n, both) + 1)
    logs = log_choose(k) + log_choose(both - k)
    weights = np.exp(logs - logs.max())
    return float(weights[weights <= weights[right[0] - k[0]] * (1 + 1e-9)].sum() / weights.sum())


def least_p_on_same_images(difference: int) -> float:
    """The smallest p value that a difference in right answers can have on the same images.

    If the better model is right wherever the other is, m images differ, all in its favour; equally
    good models would do that with probability 2 / 2^m (two-sided). Any other overlap proves less.
    """
    return min(1.0, 2.0 ** (1 - abs(difference)))
