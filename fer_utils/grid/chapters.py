"""What a chapter says of itself without being run."""

from __future__ import annotations

import ast
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from fer_utils import provenance
from fer_utils.grid.runs import ROOT, GridError
from fer_utils.manifests import load_published


@dataclass(frozen=True)
class Chapter:
    """What a notebook says about itself without being run.

    Args:
        parameters: names and literal values of its cell tagged "parameters".
        entry_points: the package's functions that make its numbers; empty where it names none.
        code: hash of the entry points, or of all there is where it names none.
        framework: "Keras" or "PyTorch".
    """

    parameters: dict[str, Any]
    entry_points: tuple[str, ...]
    code: str
    framework: str


def has_chapter(paper: str) -> bool:
    """Whether a paper has a notebook."""
    return (ROOT / "notebooks" / f"{paper}.ipynb").exists()


@cache
def read_chapter(paper: str) -> Chapter:
    """A chapter's parameters and entry points, read and not run.

    Raises:
        OSError: no such notebook.
        GridError: no cell is tagged "parameters", or an entry point does not exist.
    """
    notebook = ROOT / "notebooks" / f"{paper}.ipynb"
    cells = json.loads(notebook.read_text(encoding="utf8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    parameters, entry_points = None, ()
    for cell in code:
        source = "".join(cell["source"])
        assigned = _literals(source)
        if "parameters" in cell["metadata"].get("tags", []):
            parameters = assigned
        entry_points = tuple(assigned.get("ENTRY_POINTS", entry_points))
    told = notebook.relative_to(ROOT)
    if parameters is None:
        raise GridError(f"{told}: no cell is tagged parameters")
    if entry_points:
        try:
            hashed = provenance.code_hash(entry_points)
        except ValueError as error:
            raise GridError(f"{told}, ENTRY_POINTS: {error}") from None
    else:
        files = sorted((ROOT / "fer_utils").rglob("*.py"))
        sources = ["".join(cell["source"]) for cell in code] + [file.read_text() for file in files]
        hashed = hashlib.sha256("\n".join(sources).encode()).hexdigest()
    return Chapter(parameters, entry_points, hashed, load_published(paper).framework)


def _literals(source: str) -> dict[str, Any]:
    """Names that a cell gives plain values to."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # a cell with a line for IPython
        return {}
    found = {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                found[statement.targets[0].id] = ast.literal_eval(statement.value)
            except ValueError:
                continue
    return found
