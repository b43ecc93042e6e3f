"""What a check of printed numbers says, and the words it says it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

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


def grade(probability: float) -> Confidence:
    """How sure something is that chance would bring about so often."""
    grades = ((1e-6, "certain"), (1e-2, "likely"), (0.25, "weak"))
    return next((g for limit, g in grades if probability < limit), "nothing can be said")


def percent(fraction: float) -> str:
    """A fraction as percent, with two decimals."""
    return f"{100 * fraction:.2f}"


def span(ends: tuple[float, float]) -> str:
    """Two fractions as percent; one number where they are printed alike."""
    low, high = map(percent, ends)
    return low if low == high else f"{low} to {high}"


def odds(probability: float) -> str:
    """How often chance would bring something about, in words."""
    if probability > 0.1:
        return f"in {100 * probability:.0f} % of cases"
    if probability < 1e-9:
        return "less than once in a billion times"
    return f"once in {float(f'{1 / probability:.2g}'):,.0f} times"


def joined(words: Sequence[str], last: str = "and") -> str:
    """Words as a list, such as 'a, b and c'."""
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def either(words: Sequence[str]) -> str:
    """Words as a list, such as 'a, b or c'."""
    return joined(words, "or")
