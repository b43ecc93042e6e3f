"""What moves a number, from records of runs: before, after, and how far apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

import numpy as np
from IPython.display import HTML, Markdown

from fer_utils.differences import Difference
from fer_utils.display.cells import NO_RUN, note, table
from fer_utils.gaps import Repeat, Spread, Step


def points(difference: Difference | None) -> str:
    """With its 90 % interval, such as "+1.20 (+0.40 to +2.00)"; "–" for the first of a list."""
    if difference is None:
        return "–"
    ends = f"({difference.low:+.2f} to {difference.high:+.2f})"
    return _spaced(f"{difference.mean:+.2f}", ends)


def _spaced(mean: str, ends: str) -> str:
    """A line may break between a number and its interval, not in the interval."""
    return mean + " " + ends.replace(" ", "\N{NO-BREAK SPACE}")


def moved(steps: Sequence[Step], before: str, after: str = "Then") -> HTML | Markdown:
    """A line a set of runs, below its paper; above the table the points of the middle one.

    Args:
        steps: of one function of `gaps`. Where several changes were made to the same runs, each
            change has its column.
        before, after: what heads the two numbers.
    """
    if not steps:
        return note(NO_RUN)
    changes = list(dict.fromkeys(step.what for step in steps))
    sets: dict[tuple[str, str], dict[str, Step]] = {}
    for step in steps:
        sets.setdefault((step.paper, step.runs), {})[step.what] = step

    many = len(changes) > 1
    numbers = {change: {one.images for one in steps if one.what == change} for change in changes}

    def row(runs: str, found: dict[str, Step]) -> dict:
        first = next(iter(found.values()))
        told = {"Runs": escape(runs), "Seeds": first.seeds}
        if not many:
            among = f" of {first.among:,}" if first.among else ""
            told["Images"] = f"{first.images:,}{among}"
        told[f"{before}, %"] = f"{first.before:.2f}"
        if many:
            return told | {head(change): both(found.get(change)) for change in changes}
        return told | {f"{after}, %": f"{first.after:.2f}", "Points": points(first.difference)}

    def head(change: str) -> str:
        (number, *others) = numbers[change]
        return f"{escape(change)}, %" if others else f"{escape(change)} ({number:,} images), %"

    def both(step: Step | None) -> str:
        if step is None:
            return "–"
        of = f" of {step.images:,}" if len(numbers[step.what]) > 1 else ""
        return f"{step.after:.2f}{of}<br><small>{points(step.difference)}</small>"

    of_paper = [(paper, row(runs, found)) for (paper, runs), found in sets.items()]
    caption = "; ".join(
        _middle(change if many else "", [one for one in steps if one.what == change])
        for change in changes
    )
    return table(list(_by_paper(of_paper)), caption if len(sets) > 2 else "", name="compact")


def _middle(change: str, steps: Sequence[Step]) -> str:
    """How far one change moves the numbers of all sets of runs."""
    moves = [step.difference.mean for step in steps]
    of = f"{change}, " if change else ""
    return (
        f"{of}{len(moves)} sets of runs: median {np.median(moves):+.2f} points, "
        f"range {min(moves):+.2f} to {max(moves):+.2f}"
    )


def spreads(found: Sequence[Spread]) -> HTML | Markdown:
    """How far seeds lie apart, a line a set of runs, below its paper.

    Args:
        found: of `gaps.over_seeds`.
    """
    if not found:
        return note("No run is recorded with several seeds.")

    def row(spread: Spread) -> dict:
        # Seeds that come out equal, as they may on few images, leave no interval to compute.
        ends = f"({spread.low:.2f} to {spread.high:.2f})" if spread.deviation else "(–)"
        return {
            "Runs": escape(spread.runs),
            "Seeds": len(spread.values),
            "Each, %": ", ".join(f"{value:.2f}" for value in spread.values),
            "Standard deviation, points (90 % interval)": _spaced(f"{spread.deviation:.2f}", ends),
        }

    return table(list(_by_paper((one.paper, row(one)) for one in found)), name="compact")


def repeats(found: Sequence[Repeat]) -> HTML | Markdown:
    """Whether a run made again gave the same figures, a line a run, below its paper.

    Args:
        found: of `gaps.repeats`.
    """
    if not found:
        return note("No run is recorded twice.")

    def row(repeat: Repeat) -> dict:
        return {
            "Run": escape(repeat.run),
            "Each time, %": ", ".join(f"{value:.2f}" for value in repeat.values),
            "To the last digit": "the same" if repeat.same else "another number",
        }

    return table(list(_by_paper((one.paper, row(one)) for one in found)), name="compact")


def _by_paper(rows: Iterable[tuple[str, dict]]) -> Iterator[dict | str]:
    """The rows, with the name of a paper above the first of its own."""
    shown = None
    for paper, row in rows:
        if paper != shown:
            yield paper
        shown = paper
        yield row
