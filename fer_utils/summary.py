"""All records in one list, for pages and plans that look at thousands of them.

A record is some tens of kilobytes, most of them histories and scores of single expressions. Here a
record is a line: all the rest of it. A line is made once and stays in a cache until the record's
file changes; what it leaves out is read from the file when somebody asks for it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache as once
from functools import cached_property
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

from fer_utils import records
from fer_utils.training.checkpoints import write_atomically

CACHE = records.RESULTS.parent / "build" / "summary.jsonl"
FORMAT = 4  # of a line; another number makes all lines anew
PARTS = ("data", "split", "selection", "code")


@dataclass(frozen=True)
class Recorded:
    """A run as its record tells it, under the names of `records.RunRecord`.

    Args:
        path: of the record.
        data, split, selection, code: the fields of the record's own; not checked again, which would
            take longer than reading them.
        epochs: how many were trained.
        metrics: of each part, without those of single expressions.
    """

    path: Path
    paper: str
    run: str
    profile: records.Profile
    parameters: dict[str, Any]
    seed: int
    data: SimpleNamespace
    split: SimpleNamespace
    selection: SimpleNamespace
    metrics: dict[str, dict]
    persons: dict[str, list[int]] | None
    epochs: int
    timings: dict[str, float]
    device: dict[str, Any]
    versions: dict[str, str]
    code: SimpleNamespace
    created: str
    probabilities: str | None

    @property
    def whole(self) -> records.RunRecord:
        """The record itself, read once in a process."""
        return _whole(self.path)

    @property
    def history(self) -> dict[str, list[float]]:
        """What each epoch gave, from the record itself."""
        return self.whole.history

    @property
    def model(self) -> records.ModelUsed:
        """The size of the network, from the record itself."""
        return self.whole.model


@dataclass(frozen=True)
class _Line:
    """What the cache keeps of a record.

    Args:
        key: format, path, time and size of its file.
        told: the arguments of `Recorded` but for the path, JSON-ready.
    """

    key: list
    told: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether it has the fields of today, all of them and no other."""
        return (
            isinstance(self.told, dict)
            and {
                name: told.keys() if name in PARTS and isinstance(told, dict) else None
                for name, told in self.told.items()
            }
            == FIELDS
        )

    @cached_property
    def recorded(self) -> Recorded:
        parts = {name: SimpleNamespace(**self.told[name]) for name in PARTS}
        parts["data"].classes = tuple(parts["data"].classes)
        parts["code"].entry_points = tuple(parts["code"].entry_points)
        return Recorded(path=Path(self.key[1]), **self.told | parts)


FIELDS = {
    field.name: records.RunRecord.model_fields[field.name].annotation.model_fields.keys()
    if field.name in PARTS
    else None
    for field in fields(Recorded)
    if field.name != "path"
}


def recorded(
    paper: str, folder: str | Path = records.RESULTS, cache: Path | None = CACHE
) -> list[Recorded]:
    """Every run of a paper, in the order of their names, as `records.read_all` has them.

    Args:
        paper: its key.
        folder: holds `<paper>/<run>.json`.
        cache: JSON lines that an earlier call has left; None reads every record anew. The usual
            one is for the usual folder alone. A cache that cannot be written is done without.

    Raises:
        RecordError: a file that is no record.
    """
    folder = Path(folder)
    if cache == CACHE and folder.resolve() != records.RESULTS.resolve():
        cache = None  # records of a test or of a copy do not belong into the project's cache
    known = {} if cache is None else _known(cache)
    lines, changed = [], False
    for path, status in _files(folder / paper):
        key = [FORMAT, path, status.st_mtime_ns, status.st_size]
        line = known.get(path)
        if line is None or line.key != key or not line.complete:
            line = known[path] = _Line(key, _told(records.read(Path(path))))
            changed = True
        lines.append(line)
    if changed and cache is not None:
        _write(cache, known)
    return [line.recorded for line in lines]


def variants(runs: Iterable[Recorded]) -> list[dict[str, Any]]:
    """A row for runs that differ in seed and fold alone, with means over them.

    Args:
        runs: of any papers; of those repeated with other code the last counts.

    Returns:
        Paper, Run (its name without seed, fold and hash, and what else tells it from its
        namesakes), Kind, Epochs (those that were trained), Seeds and Runs (how many), Validation
        and Test (accuracies in percent, over the images of all folds), Hours (of training, all
        runs together).
    """
    groups: dict[str, list[Recorded]] = {}
    for run in records.latest(list(runs)):
        key = json.dumps([run.paper, run.profile, _same(run)], sort_keys=True)
        groups.setdefault(key, []).append(run)
    namesakes: dict[tuple[str, str], list[dict]] = {}
    for group in groups.values():
        namesakes.setdefault((group[0].paper, base_name(group[0])), []).append(_same(group[0]))

    def told(run: Recorded) -> str:
        label, same = base_name(run), _same(run)
        others = namesakes[run.paper, label]
        apart = [
            name
            for name in sorted({name for other in others for name in other} - {"contrast"})
            if any(other.get(name) != same.get(name) for other in others)
        ]
        return ", ".join([label, *(f"{name} {same.get(name)}" for name in apart)])

    def percent(group: list[Recorded], part: str) -> str:
        accuracies = [run.metrics[part]["accuracy"] for run in group]
        images = [run.metrics[part]["n"] for run in group]
        return f"{100 * fmean(accuracies, images):.2f}"

    return [
        {
            "Paper": group[0].paper,
            "Run": told(group[0]),
            "Kind": group[0].parameters.get("contrast", group[0].profile),
            "Epochs": _span([run.epochs for run in group]),
            "Seeds": len({run.seed for run in group}),
            "Runs": len(group),
            "Validation": percent(group, "val"),
            "Test": percent(group, "test"),
            "Hours": f"{sum(run.timings.get('training', 0) for run in group) / 3600:.1f}",
        }
        for group in groups.values()
    ]


def _span(numbers: Sequence[int]) -> int | str:
    low, high = min(numbers), max(numbers)
    return low if low == high else f"{low} to {high}"


def _same(run: Recorded) -> dict[str, Any]:
    """What runs of one variant have in common."""
    told = dict(run.parameters)
    for name in records.VARYING:
        told.pop(name, None)
    return told | {"from scratch": run.parameters.get("pretraining") in (None, "none")}


def base_name(run: Recorded) -> str:
    """A run's name for all its seeds and folds."""
    name = re.sub(r"-seed\d+-[0-9a-f]+$", "", run.run)
    protocol, fold = run.parameters.get("protocol"), run.parameters.get("fold")
    return name if fold is None else name.replace(f"-{protocol}{fold}", f"-{protocol}", 1)


def _files(paper: Path) -> list[tuple[str, os.stat_result]]:
    """The records of a paper in the order of their names, and what tells whether they changed."""
    if not paper.is_dir():
        return []
    with os.scandir(paper.resolve()) as entries:
        found = [entry for entry in entries if entry.name.endswith(".json")]
        return sorted((entry.path, entry.stat()) for entry in found)


def _told(run: records.RunRecord) -> dict[str, Any]:
    told = run.model_dump(mode="json", exclude={"format", "model", "history"})
    told["metrics"] = {
        part: {name: figure for name, figure in scores.items() if name != "per_class"}
        for part, scores in run.metrics.items()
    }
    return {**told, "epochs": len(run.history["loss"])}


@once
def _whole(path: Path) -> records.RunRecord:
    return records.read(path)


@once
def _known(cache: Path) -> dict[str, _Line]:
    """The cached lines by their record's path; none where the cache is absent or damaged.

    Read once in a process, which then keeps its own lines here.
    """
    try:
        with cache.open() as file:
            lines = [_Line(**json.loads(line)) for line in file]
        return {line.key[1]: line for line in lines if line.key[0] == FORMAT}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _write(cache: Path, known: dict[str, _Line]) -> None:
    kept = [
        json.dumps({"key": line.key, "told": line.told})
        for path, line in known.items()
        if Path(path).exists()
    ]
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cache, "".join(f"{line}\n" for line in kept).encode())
    except OSError:
        pass
