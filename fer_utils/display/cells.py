"""What every table is made of: cells, badges, intervals, and the note where a table would be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from IPython.display import HTML, Markdown

from fer_utils.estimates import Estimate

NO_RUN = "No run is recorded."


def table(rows: Sequence[dict | str], caption: str = "") -> HTML:
    """A table; columns of numbers stand right, words left.

    Args:
        rows: with the same keys, the header; values are numbers, text or HTML of this module. Text
            in place of a row stands above those that follow, across all columns.
        caption: above the table.
    """
    cells = [row for row in rows if not isinstance(row, str)]
    names = list(cells[0]) if cells else []
    sides = ["right" if all(_is_number(row[name]) for row in cells) else "left" for name in names]

    def line(kind: str, values: Sequence) -> str:
        cells = "".join(
            f'<{kind} style="text-align: {side}">{"" if value is None else value}</{kind}>'
            for value, side in zip(values, sides, strict=True)
        )
        return f"<tr>{cells}</tr>"

    def across(text: str) -> str:
        return f'<tr><th colspan="{len(names)}" scope="colgroup">{text}</th></tr>'

    body = "".join(
        across(row) if isinstance(row, str) else line("td", [row[name] for name in names])
        for row in rows
    )
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = f"<thead>{line('th', names)}</thead>"
    return HTML(f'<table class="dataframe">{told}{head}<tbody>{body}</tbody></table>')


def _is_number(value: object) -> bool:
    """Whether a cell is a number, or an interval or a sign that stands for one."""
    text = re.sub(r"<[^>]*>|\bto\b|[-–+±().,%\s]", "", "" if value is None else str(value))
    return not text or text.isdigit()


def note(text: str) -> Markdown:
    """A sentence where a table or a figure would stand."""
    return Markdown(f"*{text}*")


def badge(verdict: str | None) -> str:
    """A verdict as the book shows it."""
    if verdict is None:
        return ""
    name = "verdict-" + verdict.replace(" ", "-")
    return f'<span class="verdict {name}" data-verdict="{verdict}">{verdict}</span>'


def interval(ours: Estimate | None, unit: str = "percent") -> str:
    """Mean and 90 % interval, such as "61.2 (60.1 to 62.3)"; a computed count alone."""
    if ours is None:
        return "–"
    if unit not in ("percent", "fraction"):
        return f"{ours.mean:,.0f}"
    digits = 4 if unit == "fraction" else 2
    ends = f"({ours.low:.{digits}f} to {ours.high:.{digits}f})".replace(" ", "\N{NO-BREAK SPACE}")
    return f"{ours.mean:.{digits}f} {ends}"
