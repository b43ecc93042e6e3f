"""Which runs come before which: those whose weights others start from, and fewer epochs first."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from fer_utils.grid.asked import Request, make_run
from fer_utils.grid.chapters import Chapter, read_chapter
from fer_utils.grid.inputs import data_key, no_data
from fer_utils.grid.needs import fits
from fer_utils.grid.runs import BUILD, NO_RECORD, GridError, Run, done_file, is_to_run
from fer_utils.manifests import load_published

FOR_WEIGHTS = "recorded, but its weights are needed here"
FOR_OTHERS = "weights for "
STARTS_OTHERWISE = "what it starts from has changed"


def add_first(run: Run, runs: dict[str, Run]) -> None:
    """Make a run wait for those it starts from, which join where they are not in the grid."""
    chapter = read_chapter(run.paper)
    complete = {**chapter.parameters, **run.fields}
    waits: dict[str, list[str]] = {"first": [], "after": []}
    for kind, names in waits.items():
        for rule in getattr(load_published(run.paper).runs, kind):
            if not fits(rule.fits, complete):
                continue
            wanted = {**complete, **rule.run}
            other = _like(wanted, run.paper, chapter, runs)
            if other is None and kind == "first":
                # In the order of the run's own words, which the paper's cells share.
                named = {**run.fields, **rule.run}
                fields = {key: value for key, value in named.items() if value is not None}
                fields = {**fields, "fold": wanted.get("fold"), "seed": run.fields["seed"]}
                request = Request(run.paper, fields, run.rank, [f"{FOR_OTHERS}{run.label}"])
                other = make_run(request, chapter, fields)
                runs[other.name] = other
                add_first(other, runs)
            if other is not None:
                names.append(other.name)
    runs[run.name] = replace(run, **{kind: tuple(names) for kind, names in waits.items()})


def _like(wanted: dict, paper: str, chapter: Chapter, runs: dict[str, Run]) -> Run | None:
    """The run with these parameters; None in either stands for the paper's own value.

    Of several, the one that names most of them: another choice may be what None stands for.
    """
    alike = {}
    for run in runs.values():
        own = {**chapter.parameters, **run.fields}
        other = [key for key, value in wanted.items() if own.get(key) != value]
        if run.paper == paper and all(None in (wanted[key], own.get(key)) for key in other):
            alike[run.name] = len(wanted) - len(other)
    return runs[max(alike, key=alike.get)] if alike else None


def with_first(runs: list[Run]) -> list[Run]:
    """What follows for runs from those whose weights they start from, and the other way round.

    A recorded run is made again where what it starts from has changed, and where its own weights
    are needed and not here. A run that is in the grid for its weights alone leaves it where
    nothing is to be made of them.
    """
    by_name: dict[str, Run] = {}
    for run in runs:  # each after those it starts from
        firsts = [by_name[name] for name in run.first if name in by_name]
        changed = any(
            is_to_run(first) and first.why not in (NO_RECORD, FOR_WEIGHTS) for first in firsts
        )
        if changed and run.state in ("recorded", "done"):
            run = replace(run, state="to run", why=STARTS_OTHERWISE)
        by_name[run.name] = run
    for name in [run.name for run in reversed(runs)]:
        run = by_name[name]
        for first in map(by_name.get, run.first):
            if run.state != "to run":
                break
            if first.state == "absent":
                by_name[name] = run = replace(run, state="absent", why=first.why)
            elif first.state == "recorded" and not has_weights(first):
                if data_key(first.dataset) is None:
                    by_name[name] = run = replace(run, state="absent", why=no_data(first.dataset))
                else:
                    by_name[first.name] = replace(first, state="to run", why=FOR_WEIGHTS)
    waiting = [run for run in by_name.values() if run.state in ("to run", "absent")]
    needed = {name for run in waiting for name in run.first}
    # Nobody asked for these but runs that have what they need.
    idle = {run.name for run in waiting if run.name not in needed and _for_others(run)}
    return [
        replace(found, first=tuple(name for name in found.first if name not in idle))
        for run in runs
        if (found := by_name[run.name]).name not in idle
    ]


def _for_others(run: Run) -> bool:
    """Whether it is in the grid for its weights alone."""
    return all(told.startswith(FOR_OTHERS) for told in run.answers)


def has_weights(run: Run) -> bool:
    """Whether the weights of a recorded run are here: all its epochs are, or it was made here."""
    state = BUILD / run.paper / "runs" / run.why / "state.json"
    if done_file(run).exists():
        return True
    try:
        told = json.loads(state.read_text())
        return told["epoch"] >= run.fields["epochs"] and (state.parent / told["best"]).exists()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def ordered(runs: dict[str, Run]) -> list[Run]:
    """By rank and seed, each after the run it starts from.

    Raises:
        GridError: a run starts from itself.
    """
    ordered: dict[str, Run] = {}

    def put(run: Run, later: tuple[str, ...] = ()) -> None:
        if run.name in later:
            raise GridError(f"{run.paper}, runs: by first and after {run.label} starts from itself")
        for name in run.first + run.after:
            if name not in ordered:
                put(runs[name], (*later, run.name))
        ordered.setdefault(run.name, run)

    for run in sorted(runs.values(), key=lambda run: (run.rank, run.fields["seed"])):
        put(run)
    return list(ordered.values())


def to_make(runs: Sequence[Run], hours: float | str | None = None) -> list[Run]:
    """The runs that are to be made, in their order.

    Args:
        runs: of `grid.chosen`, each after those whose weights it starts from.
        hours: leave out what is not known to take as long at most, together with the runs that
            have to be made first for it.

    Raises:
        GridError: `hours` is no number above 0.
    """
    found = [run for run in runs if is_to_run(run)]
    if hours is None:
        return found
    try:
        limit = 3600 * float(hours)
    except ValueError:
        limit = 0.0
    if not limit > 0:  # nor is nan
        raise GridError(f"HOURS={hours}: a number above 0, such as 0.5 or 8")
    by_name = {run.name: run for run in found}

    def fits_in(run: Run) -> bool:
        seconds = [by_name[name].seconds for name in _with_all_first(run, by_name)]
        return None not in seconds and sum(seconds) <= limit

    kept: list[Run] = []
    needed: set[str] = set()
    for run in reversed(found):
        if fits_in(run) and (run.why != FOR_WEIGHTS or run.name in needed):
            kept.append(run)
            needed.update(run.first)
    return kept[::-1]


def _with_all_first(run: Run, by_name: dict[str, Run]) -> set[str]:
    """Names of a run and of all that it starts from, and these start from; of `by_name` alone."""
    names: set[str] = set()
    waiting = [run.name]
    while waiting:
        name = waiting.pop()
        if name in by_name and name not in names:
            names.add(name)
            waiting += by_name[name].first
    return names


def still_open(plan: Sequence[Run], chosen: Callable[[Run], bool] = lambda run: True) -> list[Run]:
    """The runs that are not recorded, and those whose weights they start from.

    Weights are in no record: to go on from them, a recorded run has to be made again.

    Args:
        plan: of `grid.plan`.
        chosen: which of them count.
    """
    by_name = {run.name: run for run in plan}
    open_ones = [run for run in plan if run.state != "recorded" and chosen(run)]
    needed = {name for run in open_ones for name in _with_all_first(run, by_name)}
    return [run for run in plan if run.name in needed]
