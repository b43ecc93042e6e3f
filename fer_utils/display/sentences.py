"""What a chapter says of its own numbers, in words that follow from the records."""

from __future__ import annotations

from collections.abc import Sequence

from IPython.display import Markdown

from fer_utils.comparison import Comparison, judge
from fer_utils.differences import of_estimates
from fer_utils.display.cells import interval
from fer_utils.display.trained import devices, training_seconds
from fer_utils.estimates import Estimate
from fer_utils.records import RunRecord


def discussion(*told: str, otherwise: str = "No full run is recorded yet.") -> Markdown:
    """Paragraphs; those without words are left out.

    Args:
        told: a paragraph each, in Markdown.
        otherwise: where nothing is left.
    """
    return Markdown("\n\n".join(paragraph for paragraph in told if paragraph) or otherwise)


def judged(subject: str, found: Comparison) -> str:
    """A published number, ours, and the verdict with its reason; empty without runs.

    Args:
        subject: what the number is about, set in bold.
        found: a cell with a margin.
    """
    if found.ours is None:
        return ""
    sign = _sign(found)
    printed = found.cell.printed.removesuffix("%").strip()
    ours = interval(found.ours, found.cell.unit)
    return (
        f"**{subject}.** Printed {printed}{sign}, ours {ours}{sign}: *{found.verdict}* "
        f"({found.reason})."
    )


def kept_apart(found: Comparison) -> str:
    """How much the people of the test part help when they are in training too; empty without runs.

    Args:
        found: with ours split by image.
    """
    other = found.also.get("subjects kept apart")
    if found.ours is None or other is None:
        return ""
    scale = 100 if found.cell.unit == "fraction" else 1
    apart = of_estimates(other, found.ours)
    mean, low, high = (scale * end for end in (apart.mean, apart.low, apart.high))
    return (
        f" With the people of the test part kept out of training the same recipe gives "
        f"{interval(other, found.cell.unit)}{_sign(found)}: the protocol, with other images "
        f"to train on, moves the number by {mean:.1f} ({low:.1f} to {high:.1f}) points."
    )


def on_other_part(found: Comparison, label: str) -> str:
    """What the verdict would be if another part had been scored; empty without runs.

    Args:
        found: a cell with a margin.
        label: of the same runs on that part, in `found.also`; a sentence starts with it.
    """
    other = found.also.get(label)
    if found.ours is None or other is None:
        return ""
    verdict, _ = judge(found.cell, other)
    return (
        f" {label[0].upper()}{label[1:]}, the same runs give "
        f"{interval(other, found.cell.unit)}{_sign(found)}: against the same margin *{verdict}*."
    )


def beside(subject: str, other: Estimate | None, ours: Estimate | None, than: str) -> str:
    """What another network reaches and how far that is from ours; empty where one is missing.

    Means of as many seeds as each has, which the sentence tells.

    Args:
        subject: the other, set in bold.
        other, ours: accuracies in percent.
        than: what ours is.
    """
    if other is None or ours is None:
        return ""
    points = other.mean - ours.mean
    seeds = [f"{len(one.values)} seed{'s' * (len(one.values) > 1)}" for one in (other, ours)]
    return (
        f"**{subject}.** {interval(other)} % ({seeds[0]}), {points:+.2f} points against {than} "
        f"({seeds[1]})."
    )


def repeated(subject: str, found: Sequence[Comparison]) -> str:
    """A published column and ours, and how wide our intervals are; empty where one is missing.

    Args:
        subject: what the column is, set in bold.
        found: its cells, as fractions.
    """
    if not all(one.ours for one in found):
        return ""
    pairs = [f"{one.cell.row}: {one.cell.printed}, ours {one.ours.mean:.4f}" for one in found]
    widest = max(one.ours.high - one.ours.low for one in found)
    return (
        f"**{subject}.** {'; '.join(pairs)}. The intervals of ours are up to {100 * widest:.1f} "
        f"points wide."
    )


def compute(recorded: Sequence[RunRecord]) -> str:
    """How many runs there are, and what their training took; empty without runs."""
    if not recorded:
        return ""
    hours = training_seconds(recorded) / 3600
    runs = f"{len(recorded)} recorded run{'' if len(recorded) == 1 else 's'}"
    return f"**Compute.** {runs}, {hours:.1f} hours of training, on {devices(recorded)}."


def _sign(found: Comparison) -> str:
    return " %" if found.cell.unit == "percent" else ""
