"""The cells that a check is about: their figures, their models, the parts they may be on."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import combinations

from fer_utils.arithmetic import (
    Printed,
    read,
)
from fer_utils.manifests import (
    Part,
    PublishedCell,
    PublishedPaper,
    load_manifest,
)

# As fine as products with the images of a set stay within 64 bits.
FINEST = 10**10
DECIMALS = {"percent": 8, "fraction": 10}


def figure(cell: PublishedCell) -> Printed | None:
    """The share that a cell prints; None where it prints none."""
    if cell.value is None or cell.unit not in ("percent", "fraction"):
        return None
    try:
        printed = read(cell.printed, cell.unit)
    except ValueError:  # words around it
        printed = read(f"{cell.value:.10f}".rstrip("0"), cell.unit)
    if printed.scale > FINEST:
        printed = read(f"{cell.value:.{DECIMALS[cell.unit]}f}", cell.unit)
    return printed


def half_unit(printed: str) -> float:
    """Half a unit of the last printed digit."""
    decimals = re.search(r"\.(\d+)", printed)
    return 0.5 * 10.0 ** -(len(decimals[1]) if decimals else 0)


def find_cell(paper: PublishedPaper, name: str) -> PublishedCell:
    """The cell with an id."""
    return next(cell for cell in paper.cells if cell.id == name)


def number_of(paper: PublishedPaper, of: str | float) -> float:
    """A number, or the value of the cell with that id."""
    return find_cell(paper, of).value if isinstance(of, str) else of


def share_of(paper: PublishedPaper, of: str | float) -> float:
    """In percent, where the cell is a fraction."""
    if not isinstance(of, str):
        return of
    cell = find_cell(paper, of)
    return 100 * cell.value if cell.unit == "fraction" else cell.value


def table_of(paper: PublishedPaper, cell: PublishedCell) -> str:
    """The id of the table that a cell stands in."""
    return next(table.id for table in paper.tables if cell in table.cells)


def models(paper: PublishedPaper) -> dict[tuple, list[PublishedCell]]:
    """Own cells by what chooses their runs: equal choices mean one set of predictions."""
    found: dict[tuple, list[PublishedCell]] = {}
    for cell in paper.cells:
        if cell.kind == "own" and cell.select:
            chosen = json.dumps(cell.select, sort_keys=True)
            found.setdefault((cell.dataset, cell.part, chosen), []).append(cell)
    return found


def repeated(paper: PublishedPaper) -> list[list[PublishedCell]]:
    """Own cells of the same quantity of the same model, in printed order."""
    found: dict[tuple, list[PublishedCell]] = {}
    for key, cells in models(paper).items():
        for cell in cells:
            if cell.value is not None:
                row = "" if cell.metric != "most_frequent_prediction" else cell.row
                found.setdefault((key, cell.metric, cell.expression, row), []).append(cell)
    return list(found.values())


def contradicting(paper: PublishedPaper) -> list[list[PublishedCell]]:
    """Those of `repeated` that do not agree."""

    def differ(first: PublishedCell, second: PublishedCell) -> bool:
        a, b = figure(first), figure(second)
        if a is None or b is None:
            return first.value != second.value
        return a != b if a.scale == b.scale else not overlap(a.bounds, b.bounds)

    return [
        cells for cells in repeated(paper) if any(differ(*pair) for pair in combinations(cells, 2))
    ]


def named_part(cell: PublishedCell) -> Part | None:
    """The official part that a cell says it is on; None where a set has no such part."""
    return load_manifest(cell.dataset).splits.get(cell.part) if cell.dataset else None


def candidate_parts(dataset: str) -> dict[str, dict[str, int]]:
    """Images of each expression in each part that a table may be on, both test parts included.

    None where a set has no official parts: a table is hardly ever on all of it.
    """
    every = load_manifest(dataset).splits
    splits = {name: part for name, part in every.items() if name not in ("train", "all")}
    parts = {
        part.source or name: dict(part.classes) for name, part in splits.items() if part.classes
    }
    if {"val", "test"} <= set(splits) and len(parts) > 1:
        both = together(dataset, ("val", "test"))
        parts[" + ".join(parts)] = {name: both[name] for name in load_manifest(dataset).class_names}
    return parts


def shown_in(dataset: str) -> tuple[str, ...]:
    """The expressions that the parts of a set have images of; its manifest may know more."""
    manifest = load_manifest(dataset)
    shown = {name for part in manifest.splits.values() for name in part.classes}
    return tuple(name for name in manifest.class_names if name in shown) or manifest.class_names


def together(dataset: str, splits: Sequence[str]) -> dict[str, int]:
    """Images of each expression, and of all, in some parts together."""
    manifest = load_manifest(dataset)
    parts = [manifest.splits[split] for split in splits]
    counts = {
        name: sum(part.classes.get(name, 0) for part in parts) for name in manifest.class_names
    }
    return {**counts, "images": sum(part.count or 0 for part in parts)}


def overlap(first: tuple[float, float], second: tuple[float, float]) -> bool:
    """Whether two closed intervals have a number in common."""
    return first[0] <= second[1] and second[0] <= first[1]
