"""What published numbers and open details ask for, as runs of a chapter."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fer_utils import records
from fer_utils.folds import number_of_folds
from fer_utils.grid.chapters import Chapter, read_chapter
from fer_utils.grid.inputs import data_state, versions
from fer_utils.grid.needs import prepared_for
from fer_utils.grid.runs import GridError, Run
from fer_utils.manifests import PublishedPaper

# How a published entry reads a run, beside the parameters that choose it.
READING = ("metric", "part", "expression")


@dataclass
class Request:
    """Parameters that some number asks for; `rank`, `answers` and `cells` as of a `Run`."""

    paper: str
    fields: dict[str, Any]
    rank: int
    answers: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)


def requests_of(paper: PublishedPaper, table: str | None) -> list[Request]:
    """What each cell and each open detail asks for, as parameters of the chapter."""
    found = []

    def ask(fields: dict, rank: int, answer: str, cell: str | None = None) -> None:
        chosen = {key: value for key, value in fields.items() if key not in READING}
        if "dataset" in chosen:  # else a count, computed without a run
            cells = [] if cell is None else [cell]
            found.append(Request(paper.paper, chosen, rank, [answer], cells))

    for shown in paper.tables:
        for cell in shown.cells:
            if table is None or table.casefold() in (shown.id.casefold(), cell.id):
                told = f"{shown.id}: {cell.row}, {cell.column}"
                if cell.not_comparable is None:
                    ask(cell.select, 0, told, cell.id)
                for label, fields in cell.also.items():
                    ask(fields, 1, f"{told}, {label}")
    for detail in paper.open:
        if table is None or table.casefold() in ("open", detail.id):
            for label, fields in detail.other.items():
                ask(fields, 2, f"open: {detail.detail}: {label}")
    return found


def refuse_unknown(names: Iterable[str], where: str, chapter: Chapter) -> None:
    """No run could ever have a parameter that its chapter does not have.

    Args:
        names: of parameters.
        where: the paper, and what of its published file names them.
        chapter: the paper's.

    Raises:
        GridError: which parameter, and where it is named.
    """
    known = {"protocol", *chapter.parameters, *records.APART}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise GridError(f"{where}: its chapter has no parameter {name!r}{meant}")


def refuse_mixed(requests: Sequence[Request]) -> None:
    """No run of another choice may count for a published number.

    A verdict reads every run that has what its cell names, so what is varied beside it has to be
    named in the cell, too.

    Args:
        requests: of `requests_of`.

    Raises:
        GridError: the cell, and the parameter that it does not name.
    """
    judged: dict[tuple[str, str], Request] = {}
    for request in requests:
        if request.rank == 0:
            key = (request.paper, json.dumps(request.fields, sort_keys=True))
            judged.setdefault(key, request)
    for cell in judged.values():
        own = read_chapter(cell.paper).parameters
        for other in requests:
            if other.rank == 0 or other.paper != cell.paper:
                continue
            if not has(other.fields, records.APART | cell.fields):
                continue
            for key, value in other.fields.items():
                if key not in cell.fields and value != own.get(key, value):
                    raise GridError(
                        f"{cell.paper}, {other.answers[0]}: its {key} is {value!r}, and "
                        f"{cell.answers[0]} names none, so its runs would count there, too"
                    )


def merged(requests: list[Request]) -> list[Request]:
    """Requests for the same runs as one; one that names fewer parameters is met by one with more.

    A record answers every entry whose parameters it has, so the runs of the longer request answer
    the shorter one too; but what stands apart answers only those who name it, as in
    `comparison.select`.
    """
    by_fields: dict[tuple[str, str], Request] = {}
    for request in requests:
        key = (request.paper, json.dumps(request.fields, sort_keys=True))
        kept = by_fields.setdefault(key, Request(request.paper, request.fields, request.rank))
        kept.rank = min(kept.rank, request.rank)
        kept.answers += [told for told in request.answers if told not in kept.answers]
        kept.cells += request.cells
    merged: list[Request] = []
    for request in sorted(by_fields.values(), key=lambda found: -len(found.fields)):
        longer = [
            kept
            for kept in merged
            if kept.paper == request.paper
            and has(
                {**read_chapter(kept.paper).parameters, **kept.fields},
                records.APART | request.fields,
            )
        ]
        for kept in longer:
            kept.rank = min(kept.rank, request.rank)
            kept.answers += request.answers
            kept.cells += request.cells
        if not longer:
            merged.append(request)
    return sorted(merged, key=lambda found: found.rank)


def has(fields: dict, asked: dict) -> bool:
    """Whether parameters have all that is asked for; one that is not there counts as None."""
    return all(fields.get(key) == value for key, value in asked.items())


def folds(fields: dict) -> list[int | None]:
    """The folds that a protocol has, or the one that is asked for; None where it has none.

    Raises:
        GridError: the protocol leaves out subjects that the manifest does not count.
    """
    if "fold" in fields:
        return [fields["fold"]]
    try:
        number = number_of_folds(fields.get("protocol"), fields["dataset"])
    except ValueError as error:
        raise GridError(str(error)) from None
    return list(range(number)) if number > 1 else [None]


def make_run(request: Request, chapter: Chapter, fields: dict) -> Run:
    """The run that answers a request with one seed and fold, both in `fields`."""
    parameters = {
        key: value
        for key, value in fields.items()
        if key in chapter.parameters and value is not None
    }
    made_of = [
        request.paper,
        parameters,
        chapter.code,
        data_state(fields["dataset"]),
        versions(chapter.framework),
    ]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:8]
    return Run(
        name=f"{_label(fields)}-{digest}",
        paper=request.paper,
        parameters=parameters,
        fields=fields,
        profiles=("full",) if request.rank == 0 else records.KEPT[::-1],
        answers=tuple(request.answers),
        cells=tuple(request.cells),
        rank=request.rank,
        prepared=tuple(found.name for found in prepared_for(request.paper, chapter, fields)),
        code=chapter.code,
    )


def _label(fields: dict) -> str:
    """Such as "fer2013-official-normal-epochs20-seed0": what a person tells runs apart by."""
    fold = "" if fields.get("fold") is None else fields["fold"]
    words = [fields["dataset"], f"{fields.get('protocol') or ''}{fold}"]
    for key, value in fields.items():
        if key not in ("dataset", "protocol", "fold", "seed") and value is not None:
            words.append(value if isinstance(value, str) else f"{key.replace('_', '')}{value}")
    return "-".join(
        re.sub(r"[^\w.]+", "_", word) for word in [*words, f"seed{fields['seed']}"] if word
    )
