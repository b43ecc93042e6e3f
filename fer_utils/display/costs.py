"""What runs cost, and what those that are missing are expected to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from IPython.display import HTML

from fer_utils.comparison import Comparison, select
from fer_utils.display.cells import table
from fer_utils.display.trained import devices, kind, training_seconds
from fer_utils.grid import READING, Run, still_open
from fer_utils.manifests import load_published
from fer_utils.records import KEPT, RunRecord
from fer_utils.summary import base_name

NAMED = 2  # cells of a table that are named before the others are counted


def costs(
    comparisons: Sequence[Comparison], recorded: Sequence[RunRecord], plan: Sequence[Run] = ()
) -> HTML:
    """Seconds, devices and energy behind every number: a line a set of runs, folded by paper.

    A run that several lines are read from is counted in each, and once in the sums; so are epochs
    that a run with more of them went on from. A headline result without a full run has a line with
    what one seed is expected to take.

    Args:
        comparisons: of one paper or of several.
        recorded: the runs, of the same papers.
        plan: one seed of all runs that the papers ask for, as `grid.plan` gives them.
    """
    energy = any("joules" in run.device for run in recorded)
    sums, folds = [], []
    for paper in dict.fromkeys(found.paper for found in comparisons):
        own = [run for run in recorded if run.paper == paper]
        compared = [found for found in comparisons if found.paper == paper]
        asked = [run for run in plan if run.paper == paper]
        rows = [*_made(paper, compared, own, energy), *_expected(compared, asked, energy)]
        if own:
            sums.append({"Paper": paper} | _cost(own, energy))
        if rows:
            told = f"{paper}: {_counted(len(own), 'run')}, {_counted(len(rows), 'line')}"
            folds.append(f"<details><summary>{told}</summary>{table(rows).data}</details>")
    if len(sums) > 1:
        sums.append({"Paper": "all"} | _cost(recorded, energy))
    return HTML("".join([table(sums).data if sums else "", *folds]))


def _made(
    paper: str, compared: Sequence[Comparison], recorded: Sequence[RunRecord], energy: bool
) -> list[dict[str, object]]:
    """A row for each set of runs that something of a paper is read from, and for what is left."""
    published = load_published(paper)
    answers: dict[tuple[str, ...], dict[tuple[str, str], list[str]]] = {}

    def read(runs: Iterable[str], place: str, name: str, label: str = "") -> None:
        if key := tuple(sorted(runs)):
            answers.setdefault(key, {}).setdefault((place, name), []).append(label)

    def first_of_all(found: Comparison) -> tuple[bool, bool]:
        return found.cell.id not in published.headline, found.cell.metric != "accuracy"

    for found in sorted(compared, key=first_of_all):
        name = f"{found.cell.row}, {found.cell.column}"
        read(found.ours.runs if found.ours else (), found.table, name)
        for label, other in found.also.items():
            read(other.runs, found.table, name, label)
    for detail in published.open:
        for label, fields in detail.other.items():
            chosen = {key: value for key, value in fields.items() if key not in READING}
            read([run.run for run in select(recorded, chosen, KEPT)], "Open", detail.detail, label)
    by_name = {run.run: run for run in recorded}
    sets = [(_named(named), [by_name[name] for name in names]) for names, named in answers.items()]
    left = by_name.keys() - {name for names in answers for name in names}
    for its in sorted({kind(by_name[name]) for name in left}):
        rest = [run for name, run in by_name.items() if name in left and kind(run) == its]
        labels = dict.fromkeys(base_name(run) for run in rest)
        sets.append((_shortened("No number, or not yet", list(labels)), rest))
    return [
        {"Read from them": told, "Kind": ", ".join(sorted({*map(kind, runs)}))}
        | _cost(runs, energy)
        for told, runs in sets
    ]


def _named(cells: Mapping[tuple[str, str], Sequence[str]]) -> str:
    """What runs answer, table by table, as HTML.

    Args:
        cells: table and cell -> what it calls them beside its own number, "" for that itself.
    """
    places: dict[tuple[str, str], list[str]] = {}
    for (place, name), labels in cells.items():
        # The same runs read in several ways, such as on another part, are told once.
        words = [label.split(", ") for label in labels]
        shared = [word for word in words[0] if all(word in others for others in words)]
        label = ", ".join(shared) or ("" if "" in labels else labels[0])
        places.setdefault((place, label), []).append(name)
    return "<br>".join(
        _shortened(place, names) + (f" <em>({escape(label)})</em>" if label else "")
        for (place, label), names in places.items()
    )


def _shortened(place: str, names: Sequence[str]) -> str:
    """A table and its first cells, as HTML; the others appear where the pointer rests on it."""
    if len(names) <= NAMED + 1:
        return escape(f"{place}: {'; '.join(names)}")
    told = f"{place}: {'; '.join(names[:NAMED])}; and {len(names) - NAMED} more"
    return f'<span title="{escape("; ".join(names))}">{escape(told)}</span>'


def _expected(
    compared: Sequence[Comparison], plan: Sequence[Run], energy: bool
) -> list[dict[str, object]]:
    """A row for each headline result without a full run: what one seed of it would take."""
    rows = []
    for found in compared:
        cell = found.cell
        if found.ours or cell.id not in load_published(found.paper).headline:
            continue
        runs = still_open(plan, lambda run, cell=cell: cell.id in run.cells)
        if not runs:
            continue
        seconds = [run.seconds for run in runs]
        known = None not in seconds
        row = {
            "Read from them": escape(f"{found.table}: {cell.row}, {cell.column}"),
            "Kind": "expected, one seed",
            "Runs": len(runs),
            "Training, s": f"{sum(seconds):,.0f}" if known else "not known",
            "Prediction, s": "",
            "Device": "one core",
        }
        rows.append(row | ({"Energy, kJ": ""} if energy else {}))
    return rows


def _cost(found: Sequence[RunRecord], energy: bool) -> dict[str, object]:
    """Seconds, devices and energy of some runs, as cells of a table."""
    cost = {
        "Runs": len(found),
        "Training, s": f"{training_seconds(found):,.0f}",
        "Prediction, s": f"{sum(run.timings.get('prediction', 0) for run in found):,.1f}",
        "Device": escape(devices(found)),
    }
    if energy:
        joules = [run.device.get("joules") for run in found]
        known = None not in joules
        cost["Energy, kJ"] = f"{sum(joules) / 1000:,.1f}" if known else "not measured"
    return cost


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
