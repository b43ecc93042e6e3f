"""What every table is made of: cells, badges, intervals, and the note where a table would be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from IPython.display import HTML, Markdown

from fer_utils.estimates import Estimate

NO_RUN = "No run is recorded."
JOINED = object()  # in place of a cell that the one left of it reaches across


def table(rows: Sequence[dict | str], caption: str = "", name: str = "") -> HTML:
    """A table; columns of numbers stand right, words left.

    Args:
        rows: with the same keys, the header; values are numbers, text or HTML of this module, or
            `JOINED`. Text in place of a row stands above those that follow, across all columns.
        caption: above the table.
        name: its class in the style sheet, where it has a style of its own.
    """
    cells = [row for row in rows if not isinstance(row, str)]
    names = list(cells[0]) if cells else []
    sides = ["right" if all(_is_number(row[name]) for row in cells) else "left" for name in names]

    def line(kind: str, values: Sequence) -> str:
        cells = []
        for value, side in zip(values, sides, strict=True):
            if value is JOINED:
                cells[-1][-1] += 1
            else:
                cells.append(["" if value is None else value, side, 1])
        told = ""
        for value, side, columns in cells:
            wide = f' colspan="{columns}"' if columns > 1 else ""
            told += f'<{kind}{wide} style="text-align: {side}">{value}</{kind}>'
        return f"<tr>{told}</tr>"

    def across(text: str) -> str:
        return f'<tr><th colspan="{len(names)}" scope="colgroup">{text}</th></tr>'

    body = "".join(
        across(row) if isinstance(row, str) else line("td", [row[name] for name in names])
        for row in rows
    )
    told = f"<caption>{escape(caption)}</caption>" if caption else ""
    head = f"<thead>{line('th', names)}</thead>"
    named = f"dataframe {name}".strip()
    return HTML(f'<table class="{named}">{told}{head}<tbody>{body}</tbody></table>')


def _is_number(value: object) -> bool:
    """Whether a cell is a number, or an interval or a sign that stands for one."""
    told = "" if value is None or value is JOINED else str(value)
    text = re.sub(r"<[^>]*>|\bto\b|[-–+±().,%\s]", "", told)
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
