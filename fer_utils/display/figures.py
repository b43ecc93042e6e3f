"""The numbered figures of a paper: where the chapter has its own, and why not the others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from IPython.display import HTML

from fer_utils.comparison import Comparison
from fer_utils.display.cells import table
from fer_utils.manifests import PublishedFigure


def figures(printed: Sequence[PublishedFigure], comparisons: Iterable[Comparison]) -> HTML:
    """Every numbered figure of a paper: what it shows, and where ours stands or why there is none.

    A picture that is drawn from runs says from how many, and that it waits where there are none.

    Args:
        printed: of the published file.
        comparisons: of that paper; the runs behind its numbers are read from them.
    """
    found = {one.cell.id: one for one in comparisons}
    return table(
        [
            {
                "Figure": _numbered(figure),
                "It shows": escape(figure.shows),
                "Here": _here(figure, found),
            }
            for figure in printed
        ]
    )


def _numbered(figure: PublishedFigure) -> str:
    """Its number as printed, and the page where that is known."""
    page = "" if figure.page is None else f", p. {figure.page}"
    return escape(figure.id.removeprefix("Figure ") + page).replace(" ", "\N{NO-BREAK SPACE}")


def _here(figure: PublishedFigure, found: Mapping[str, Comparison]) -> str:
    """Where ours stands and in what it differs, or why it does not."""
    if figure.why_not:
        return f"not here: {escape(figure.why_not)}"
    # As Sphinx names a section.
    address = re.sub(r"[^a-z0-9]+", "-", figure.here.lower()).strip("-")
    told = f'<a href="#{address}">{escape(figure.here)}</a>'
    runs = {name: _runs(found[name], figure.instead) for name in figure.cells}
    if runs and not any(runs.values()):
        return f"not yet, for no run is recorded; its place is {told}"
    if runs:
        each = [f"{found[name].cell.column}: {some or 'none yet'}" for name, some in runs.items()]
        told += f" ({escape('; '.join(each) if len(runs) > 1 else ''.join(runs.values()))})"
    return f"{told}; {escape(figure.differs)}" if figure.differs else told


def _runs(found: Comparison, instead: str | None) -> str:
    """How many runs are behind a number, or behind what is drawn in place of it; "" for none."""
    of, label = found.ours, ""
    if of is None and instead in found.also:
        of, label = found.also[instead], f", {instead}"
    if of is None or not of.runs:
        return ""
    return f"{len(of.runs)} run{'s' if len(of.runs) > 1 else ''}{label}"
