"""Which runs the published numbers ask for: papers x variants x folds x seeds, and which are there.

A cell's `select`, the `also` beside it and the `other` choices of an open detail each name
parameters of a chapter. Nothing of that is typed twice: the grid is read from
data_manifests/published, and a chapter's parameters and entry points from its notebook.

runs       a run, and where the workflow leaves it
chapters   what a notebook says of itself
inputs     the files of data sets and the versions that make a run another one
needs      what the published file says that runs need
asked      from published cells and open details to runs
order      which run comes before which
recorded   which of them are there, and what the others cost
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fer_utils.grid.asked import (
    READING,
    Request,
    folds,
    make_run,
    merged,
    refuse_mixed,
    refuse_unknown,
    requests_of,
)
from fer_utils.grid.chapters import has_chapter, read_chapter
from fer_utils.grid.inputs import checked_data, data_key
from fer_utils.grid.needs import preparations, resources, slow_here
from fer_utils.grid.order import (
    FOR_WEIGHTS,
    add_first,
    ordered,
    still_open,
    to_make,
    with_first,
)
from fer_utils.grid.recorded import Records
from fer_utils.grid.runs import (
    NO_RECORD,
    ROOT,
    GridError,
    Preparation,
    Run,
    done_file,
    is_to_run,
    prepared_file,
)
from fer_utils.manifests import PublishedPaper, load_published, published_papers
from fer_utils.summary import Recorded
from fer_utils.summary import recorded as recorded_runs

SEEDS = (0, 1, 2)


def plan(
    papers: Iterable[str] | None = None,
    *,
    table: str | None = None,
    seeds: Sequence[int] = SEEDS,
    only: Sequence[str] = (),
    recorded: Sequence[Recorded] | None = None,
) -> list[Run]:
    """Every run that the published numbers ask for, most valuable first.

    Args:
        papers: which; None for all that have a chapter.
        table: of these papers one table alone, by its id or the id of one of its cells, or "open"
            for the open details.
        seeds: one run each.
        only: beginnings of names, see `narrowed`.
        recorded: runs that are recorded; None: those of the project.

    Returns:
        Published numbers come before what stands beside them, and that before open details; seed
        by seed in each. A run comes after the one it starts from.

    Raises:
        GridError: a paper, a table or the beginning of a name that does not exist, a published
            entry that names a parameter which its chapter does not have, or one whose runs would
            count for a number that they are beside.
    """
    names = list(papers or [name for name in published_papers() if has_chapter(name)])
    for name in names:
        if name not in published_papers():
            told = ", ".join(published_papers())
            raise GridError(f"PAPER={name}: one of {told}")
        if not has_chapter(name):
            raise GridError(f"PAPER={name}: it has no chapter in notebooks/ yet")
    requests = [request for name in names for request in requests_of(load_published(name), table)]
    if table and not requests:
        raise _no_runs(table, [load_published(name) for name in names])
    for request in requests:
        where = f"{request.paper}, {request.answers[0]}"
        refuse_unknown(request.fields, where, read_chapter(request.paper))
    refuse_mixed(requests)
    for name in names:
        refuse_unknown(load_published(name).runs.parameters, f"{name}, runs", read_chapter(name))
    if recorded is None:
        recorded = [run for name in names for run in recorded_runs(name)]
    there = Records(recorded)
    runs: dict[str, Run] = {}
    for request in merged(requests):
        chapter = read_chapter(request.paper)
        for seed in seeds if "seed" not in request.fields else [request.fields["seed"]]:
            for fold in folds(request.fields):
                fields = {**request.fields, "fold": fold, "seed": seed}
                run = make_run(request, chapter, fields)
                runs[run.name] = run
    for run in list(runs.values()):
        add_first(run, runs)
    return with_first([there.told(run) for run in narrowed(ordered(runs), only)])


def _no_runs(table: str, papers: Sequence[PublishedPaper]) -> GridError:
    """What to say where no run is for a table: it is unknown, or its numbers need none."""
    every = [(paper, found) for paper in papers for found in paper.tables]
    known = any(
        table.casefold() in (found.id.casefold(), *(cell.id for cell in found.cells))
        for _, found in every
    )
    with_runs = sorted({found.id for paper, found in every if requests_of(paper, found.id)})
    return GridError(
        f"TABLE={table}: {'no run is for it; ' if known else ''}one of {', '.join(with_runs)}, "
        "a cell's id or open"
    )


def chosen(
    paper: str | None = None,
    table: str | float | None = None,
    seeds: str | int | None = None,
    smoke: bool = False,
    only: str | None = None,
) -> list[Run]:
    """The grid as the words of a command line narrow it.

    Args:
        paper: one or several, with spaces or commas between.
        table: see `plan`.
        seeds: such as "0 1 2", "0,1" or 0.
        smoke: the same variants as short runs on synthetic faces.
        only: beginnings of runs' names, such as "ck48-stratified ck48-subject_kfold0".

    Raises:
        GridError: something that does not exist.
    """
    papers = None if paper is None else str(paper).replace(",", " ").split()
    if papers == []:
        raise GridError(f"PAPER={paper}: one or several of {', '.join(published_papers())}")
    table = None if table is None else str(table)  # Snakemake has made a number of "5"
    if table is not None and not table.strip():
        raise GridError(f'TABLE={table}: a table such as "Table II", a cell\'s id or open')
    try:
        told = SEEDS if seeds is None else tuple(map(int, str(seeds).replace(",", " ").split()))
    except ValueError:
        raise GridError(f"SEEDS={seeds}: whole numbers, such as 0 1 2") from None
    if not told or not all(0 <= seed < 2**32 for seed in told):  # as `parameters` takes them
        raise GridError(f"SEEDS={seeds}: whole numbers from 0 to {2**32 - 1}, such as 0 1 2")
    beginnings = None if only is None else str(only).replace(",", " ").split()
    if beginnings == []:
        raise GridError(f"ONLY={only}: beginnings of runs' names, such as ck48-stratified")
    beginnings = beginnings or []
    if smoke:
        return narrowed(smoke_runs(plan(papers, table=table, seeds=told), told), beginnings)
    return plan(papers, table=table, seeds=told, only=beginnings)


def narrowed(runs: Sequence[Run], only: Sequence[str]) -> list[Run]:
    """The runs whose names begin with one of these words, and those whose weights they start from.

    Args:
        runs: of the grid, in their order.
        only: beginnings of names; none leaves the runs as they are.

    Raises:
        GridError: a word that no name begins with.
    """
    if not only:
        return list(runs)
    by_name = {run.name: run for run in runs}
    for word in only:
        if not any(name.startswith(word) for name in by_name):
            labels = list(dict.fromkeys(run.label for run in runs))
            alike = difflib.get_close_matches(word, labels, 3, 0.0)
            told = f"a run's name begins like {', '.join(alike)}" if alike else "there is no run"
            raise GridError(f"ONLY={word}: {told}")
    kept: set[str] = set()
    waiting = [name for name in by_name if name.startswith(tuple(only))]
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept.add(name)
            waiting += by_name[name].first
    return [
        replace(run, after=tuple(name for name in run.after if name in kept))
        for run in runs
        if run.name in kept
    ]


def smoke_runs(runs: Sequence[Run], seeds: Sequence[int] = SEEDS) -> list[Run]:
    """The same variants as one short epoch each on synthetic faces: the grid without the work.

    Args:
        runs: of `plan`.
        seeds: one run each.
    """
    made: dict[str, Run] = {}
    dropped = ("dataset", "protocol", "fold", "seed", "epochs", "batch_size")
    # These matter only with data of their own.
    dropped += ("pretraining", "mode", "keep")
    dropped += ("precision",)  # left to the chapter: some processors have one format alone
    for run in runs:
        chapter = read_chapter(run.paper)
        variant = {
            key: value
            for key, value in run.parameters.items()
            if key not in dropped and value != chapter.parameters[key]
        }
        given = {"epochs": 1, "images": load_published(run.paper).runs.smoke_images or 200}
        for seed in seeds:
            fields = {"dataset": "synthetic", **variant, **given, "seed": seed}
            request = Request(run.paper, fields, 0, ["smoke"])
            new = replace(make_run(request, chapter, fields), profiles=("smoke",))
            made[new.name] = new
    return sorted(made.values(), key=lambda run: run.name)
