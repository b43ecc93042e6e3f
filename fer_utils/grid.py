"""Which runs the published numbers ask for: papers x variants x folds x seeds, and which are there.

A cell's `select`, the `also` beside it and the `other` choices of an open detail each name
parameters of a chapter. Nothing of that is typed twice: the grid is read from
data_manifests/published, and a chapter's parameters and entry points from its notebook.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fer_utils import provenance, records
from fer_utils.datasets import data_root
from fer_utils.manifests import MANIFESTS, PublishedPaper, load_manifest, load_published
from fer_utils.manifests import published_papers as published_papers_on_file
from fer_utils.pixel_csv import cache_folder

ROOT = records.RESULTS.parent
SEEDS = (0, 1, 2)

# How a published entry reads a run, beside the parameters that choose it.
READING = ("metric", "part", "expression")
# Libraries that do not move a chapter's numbers, by its framework.
OTHER_FRAMEWORK = {"Keras": {"torch"}, "PyTorch": {"keras", "tensorflow"}}


class GridError(ValueError):
    """A grid that was asked for and does not exist; one sentence."""


@dataclass(frozen=True)
class Run:
    """One execution of a chapter.

    Args:
        name: of its folder and of what it leaves; another one as soon as code, parameters, data
            or versions change, so that nothing old is ever taken for its result.
        paper: the chapter.
        parameters: for papermill; what the chapter does not take is left out.
        fields: parameters that its record must have.
        profiles: what its record may amount to, the best first.
        answers: what it is for, such as "Table II: Our model, Fer2013".
        cells: ids of the published cells whose own number it is.
        rank: 0 a published number itself, 1 what stands beside one, 2 an open detail.
        first: names of the runs that must be finished before, whose weights this one starts from.
        after: names of those that shorten it where they are made, too: the same with fewer epochs.
        prepared: names of the preparations that it finds in the cache.
        code: hash of the chapter's entry points.
        seconds: expected, of one core; None where nothing tells.
        state: "recorded", "done" here but not in the records, "to run", or "absent" (its data).
        why: the state in some words.
    """

    name: str
    paper: str
    parameters: dict[str, Any]
    fields: dict[str, Any]
    profiles: tuple[str, ...]
    answers: tuple[str, ...]
    cells: tuple[str, ...]
    rank: int
    first: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    prepared: tuple[str, ...] = ()
    code: str = ""
    seconds: float | None = None
    state: str = "to run"
    why: str = ""

    @property
    def dataset(self) -> str:
        return self.fields["dataset"]

    @property
    def label(self) -> str:
        """The name without its hash, for people."""
        return self.name.rpartition("-")[0]


@dataclass(frozen=True)
class Preparation:
    """Arrays that several runs start from, made once and then found in the cache.

    Args:
        name: another one as soon as function, settings, data, versions or cache change.
        dataset: what is prepared.
        call: the function that the chapter prepares with, such as "fer_utils.detection:preprocess".
        settings: its arguments beside the data.
        threads: the argument that takes the number of cores, where it has one.
        seconds: expected, of one core; None where nothing tells.
    """

    name: str
    dataset: str
    call: str
    settings: dict[str, Any]
    threads: str | None = None
    seconds: float | None = None

    @property
    def label(self) -> str:
        """The name without its hash, for people."""
        return self.name.rpartition("-")[0]


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


@dataclass
class _Request:
    paper: str
    fields: dict[str, Any]
    rank: int
    answers: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)


def plan(
    papers: Iterable[str] | None = None,
    *,
    table: str | None = None,
    seeds: Sequence[int] = SEEDS,
    only: Sequence[str] = (),
    root: Path = ROOT,
    results: Path | None = None,
    recorded: Any = None,
) -> list[Run]:
    """Every run that the published numbers ask for, most valuable first.

    Args:
        papers: which; None for all that have a chapter.
        table: of these papers one table alone, by its id or the id of one of its cells, or "open"
            for the open details.
        seeds: one run each.
        only: beginnings of names, see `narrowed`.
        root: the project's folder.
        results: where the records are; None: `results` of the project.
        recorded: the table of `summary.summary`, where it has been read already.

    Returns:
        Published numbers come before what stands beside them, and that before open details; seed
        by seed in each. A run comes after the one it starts from.

    Raises:
        GridError: a paper, a table or the beginning of a name that does not exist.
    """
    names = list(papers or [name for name in published_papers_on_file() if _notebook(name, root)])
    for name in names:
        if name not in published_papers_on_file():
            told = ", ".join(published_papers_on_file())
            raise GridError(f"PAPER={name}: one of {told}")
        if not _notebook(name, root):
            raise GridError(f"PAPER={name}: it has no chapter in notebooks/ yet")
    requests = [request for name in names for request in _requests(load_published(name), table)]
    if table and not requests:
        tables = {found.id for name in names for found in load_published(name).tables}
        raise GridError(f"TABLE={table}: one of {', '.join(sorted(tables))}, a cell's id or open")
    found = _Recorded(root, results or root / "results", recorded)
    runs: dict[str, Run] = {}
    for request in _merged(requests, root):
        chapter = read_chapter(request.paper, root)
        for seed in seeds if "seed" not in request.fields else [request.fields["seed"]]:
            for fold in _folds(request.fields):
                fields = {**request.fields, "fold": fold, "seed": seed}
                run = _run(request, chapter, fields, root)
                runs[run.name] = run
    for run in list(runs.values()):
        _add_first(run, runs, root)
    return _with_first([found.told(run) for run in narrowed(_ordered(runs), only)], root)


def chosen(
    paper: str | None = None,
    table: str | None = None,
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
    try:
        told = SEEDS if seeds is None else tuple(map(int, str(seeds).replace(",", " ").split()))
    except ValueError:
        raise GridError(f"SEEDS={seeds}: whole numbers, such as 0 1 2") from None
    if not told or min(told) < 0:
        raise GridError(f"SEEDS={seeds}: whole numbers from 0, such as 0 1 2")
    beginnings = str(only or "").replace(",", " ").split()
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


def is_to_run(run: Run, hours: float | str | None = None) -> bool:
    """Whether a run is to be made, and is known to take no longer than `hours`."""
    if run.state != "to run":
        return False
    return hours is None or (run.seconds is not None and run.seconds <= 3600 * float(hours))


def smoke_runs(
    runs: Sequence[Run], seeds: Sequence[int] = SEEDS, *, images: int = 200
) -> list[Run]:
    """The same variants as one short epoch each on synthetic faces: the grid without the work.

    Args:
        runs: of `plan`.
        seeds: one run each.
        images: synthetic faces to draw.
    """
    made: dict[str, Run] = {}
    dropped = ("dataset", "protocol", "fold", "seed", "epochs", "batch_size", "pretraining")
    for run in runs:
        chapter = read_chapter(run.paper)
        variant = {
            key: value
            for key, value in run.parameters.items()
            if key not in dropped and value != chapter.parameters[key]
        }
        given = {"epochs": 1, "images": load_published(run.paper).runs.smoke_images or images}
        for seed in seeds:
            fields = {"dataset": "synthetic", **variant, **given, "seed": seed}
            request = _Request(run.paper, fields, 0, ["smoke"])
            new = replace(_run(request, chapter, fields, ROOT), profiles=("smoke",))
            made[new.name] = new
    return sorted(made.values(), key=lambda run: run.name)


# ---- what is asked for ------------------------------------------------------------------------


def _requests(paper: PublishedPaper, table: str | None) -> list[_Request]:
    """What each cell and each open detail asks for, as parameters of the chapter."""
    found = []

    def ask(fields: dict, rank: int, answer: str, cell: str | None = None) -> None:
        chosen = {key: value for key, value in fields.items() if key not in READING}
        if "dataset" in chosen:  # else a count, computed without a run
            cells = [] if cell is None else [cell]
            found.append(_Request(paper.paper, chosen, rank, [answer], cells))

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


def _merged(requests: list[_Request], root: Path) -> list[_Request]:
    """Requests for the same runs as one; one that names fewer parameters is met by one with more.

    A record answers every entry whose parameters it has, so the runs of the longer request answer
    the shorter one too.
    """
    by_fields: dict[tuple[str, str], _Request] = {}
    for request in requests:
        key = (request.paper, json.dumps(request.fields, sort_keys=True))
        kept = by_fields.setdefault(key, _Request(request.paper, request.fields, request.rank))
        kept.rank = min(kept.rank, request.rank)
        kept.answers += [told for told in request.answers if told not in kept.answers]
        kept.cells += request.cells
    merged: list[_Request] = []
    for request in sorted(by_fields.values(), key=lambda found: -len(found.fields)):
        longer = [
            kept
            for kept in merged
            if kept.paper == request.paper
            and _has({**read_chapter(kept.paper, root).parameters, **kept.fields}, request.fields)
        ]
        for kept in longer:
            kept.rank = min(kept.rank, request.rank)
            kept.answers += request.answers
            kept.cells += request.cells
        if not longer:
            merged.append(request)
    return sorted(merged, key=lambda found: found.rank)


def _has(fields: dict, asked: dict) -> bool:
    """Whether parameters have all that is asked for; one that is not there counts as None."""
    return all(fields.get(key) == value for key, value in asked.items())


def _folds(fields: dict) -> list[int | None]:
    """The folds that a protocol has, or the one that is asked for."""
    if "fold" in fields:
        return [fields["fold"]]
    if fields.get("protocol") == "subject_kfold":
        from fer_utils.experiments import FOLDS

        return list(range(FOLDS))
    if fields.get("protocol") == "leave_one_subject_out":
        group = load_manifest(fields["dataset"]).groups.get("subject")
        if group is None or group.count is None:
            raise GridError(f"{fields['dataset']}: its manifest counts no subjects to leave out")
        return list(range(group.count))
    return [None]


def _run(request: _Request, chapter: Chapter, fields: dict, root: Path) -> Run:
    parameters = {
        key: value
        for key, value in fields.items()
        if key in chapter.parameters and value is not None
    }
    made_of = [
        request.paper,
        parameters,
        chapter.code,
        _data_key(fields["dataset"], root),
        _versions(chapter.framework),
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
        prepared=tuple(found.name for found in _preparations(request.paper, chapter, fields, root)),
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


def _ordered(runs: dict[str, Run]) -> list[Run]:
    """By rank and seed, each after the run it starts from."""
    ordered: dict[str, Run] = {}

    def put(run: Run) -> None:
        for name in run.first + run.after:
            if name not in ordered:
                put(runs[name])
        ordered.setdefault(run.name, run)

    for run in sorted(runs.values(), key=lambda run: (run.rank, run.fields["seed"])):
        put(run)
    return list(ordered.values())


# ---- what a chapter needs ---------------------------------------------------------------------


def _fits(condition: dict[str, tuple], fields: dict) -> bool:
    return all(fields.get(key) in values for key, values in condition.items())


def _add_first(run: Run, runs: dict[str, Run], root: Path) -> None:
    """Make a run wait for those it starts from, which join where they are not in the grid."""
    chapter = read_chapter(run.paper, root)
    complete = {**chapter.parameters, **run.fields}
    waits: dict[str, list[str]] = {"first": [], "after": []}
    for kind, names in waits.items():
        for rule in getattr(load_published(run.paper).runs, kind):
            if not _fits(rule.fits, complete):
                continue
            wanted = {**complete, **rule.run}
            other = _like(wanted, run.paper, chapter, runs)
            if other is None and kind == "first":
                fields = {
                    key: value
                    for key, value in wanted.items()
                    if value is not None
                    and (key == "dataset" or chapter.parameters.get(key) != value)
                }
                fields = {**fields, "fold": wanted.get("fold"), "seed": run.fields["seed"]}
                request = _Request(run.paper, fields, run.rank, [f"weights for {run.label}"])
                other = _run(request, chapter, fields, root)
                runs[other.name] = other
                _add_first(other, runs, root)
            if other is not None:
                names.append(other.name)
    runs[run.name] = replace(run, **{kind: tuple(names) for kind, names in waits.items()})


def preparations(run: Run, root: Path = ROOT) -> list[Preparation]:
    """What has to be prepared before a run, in the order of its paper's published file."""
    return _preparations(run.paper, read_chapter(run.paper, root), run.fields, root)


def _preparations(paper: str, chapter: Chapter, fields: dict, root: Path) -> list[Preparation]:
    complete = {**chapter.parameters, **fields}
    found = []
    for rule in load_published(paper).runs.prepare:
        if not _fits(rule.fits, complete):
            continue
        dataset = complete["dataset"]
        settings = {
            key: complete[told] for key, told in rule.arguments.items() if told != "threads"
        }
        made_of = [
            dataset,
            _data_key(dataset, root),
            rule.call,
            _call_hash(rule.call),
            settings,
            _versions("any"),
            str(cache_folder()),
        ]
        digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:8]
        words = [dataset, rule.call.rpartition(":")[2], *map(str, settings.values())]
        label = "-".join(re.sub(r"[^\w.]+", "_", word) for word in words)
        images = sum(part.count or 0 for part in load_manifest(dataset).splits.values())
        rate = rule.images_per_second
        found.append(
            Preparation(
                name=f"{label}-{digest}",
                dataset=dataset,
                call=rule.call,
                settings=settings,
                threads=next(
                    (key for key, told in rule.arguments.items() if told == "threads"), None
                ),
                seconds=images / rate if rate and images else None,
            )
        )
    return found


@cache
def _call_hash(call: str) -> str:
    return provenance.code_hash((call,))


def _like(wanted: dict, paper: str, chapter: Chapter, runs: dict[str, Run]) -> Run | None:
    """The run with these parameters; None in either stands for the paper's own value."""
    for run in runs.values():
        own = {**chapter.parameters, **run.fields}
        if run.paper == paper and all(
            own.get(key) == value or None in (value, own.get(key)) for key, value in wanted.items()
        ):
            return run
    return None


def _with_first(runs: list[Run], root: Path) -> list[Run]:
    """Runs whose weights others start from are made again where their weights are not here."""
    by_name = {run.name: run for run in runs}
    for name in [run.name for run in reversed(runs)]:
        run = by_name[name]
        for first in map(by_name.get, run.first):
            if run.state != "to run":
                break
            if first.state == "absent":
                by_name[name] = replace(run, state="absent", why=first.why)
            elif first.state == "recorded" and not done_file(first, root).exists():
                told = "recorded, but its weights are needed here"
                by_name[first.name] = replace(first, state="to run", why=told)
    return [by_name[run.name] for run in runs]


def done_file(run: Run, root: Path = ROOT) -> Path:
    """What the workflow writes last for a run."""
    return root / "build" / "grid" / run.paper / run.name / "done.json"


def prepared_file(name: str, root: Path = ROOT) -> Path:
    """What the workflow writes when a preparation is whole."""
    return root / "build" / "grid" / "prepared" / f"{name}.json"


def resources(run: Run) -> dict[str, int]:
    """Memory in MB and threads of a run."""
    needs = load_published(run.paper).runs
    return {"mem_mb": needs.mem_mb, "threads": needs.threads}


# ---- what a notebook says ---------------------------------------------------------------------


def _notebook(paper: str, root: Path) -> Path | None:
    path = root / "notebooks" / f"{paper}.ipynb"
    return path if path.exists() else None


@cache
def read_chapter(paper: str, root: Path = ROOT) -> Chapter:
    """A chapter's parameters and entry points, read and not run."""
    cells = json.loads((root / "notebooks" / f"{paper}.ipynb").read_text(encoding="utf8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    parameters, entry_points = {}, ()
    for cell in code:
        source = "".join(cell["source"])
        assigned = _literals(source)
        if "parameters" in cell["metadata"].get("tags", []):
            parameters = assigned
        entry_points = tuple(assigned.get("ENTRY_POINTS", entry_points))
    if entry_points:
        hashed = provenance.code_hash(entry_points)
    else:
        files = sorted((root / "fer_utils").rglob("*.py"))
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


# ---- data and versions ------------------------------------------------------------------------


@cache
def data_key(dataset: str, root: Path | None = None) -> str | None:
    """What tells whether the files of a data set are still the ones of before: names, sizes, times.

    Args:
        dataset: a manifest's name.
        root: the data root; None reads FER_DATA.

    Returns:
        16 hexadecimal digits; None where there is nothing; of synthetic faces the hash of the code
        that draws them.
    """
    if dataset == "synthetic":
        return provenance.code_hash(("fer_utils.synthetic:generate",))[:16]
    manifest = load_manifest(dataset)
    lines = []
    for directory in manifest.directories:
        folder = data_root(root) / directory
        for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
            if path.is_file():
                status = path.stat()
                lines.append(f"{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns}")
    if not lines:
        return None
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _data_key(dataset: str, root: Path) -> list[str | None]:
    manifest = MANIFESTS / "datasets" / f"{dataset}.yaml"
    return [data_key(dataset), hashlib.sha256(manifest.read_bytes()).hexdigest()]


def checked_data(dataset: str, root: Path = ROOT) -> Path:
    """Where the workflow leaves what its check of a data set found, for these very files."""
    return root / "build" / "grid" / "data" / f"{dataset}-{data_key(dataset)}.json"


@cache
def _versions(framework: str) -> dict[str, str]:
    """Public versions of the libraries that can move a chapter's numbers."""
    return _relevant(provenance.versions(), framework)


def _relevant(versions: dict[str, str], framework: str) -> dict[str, str]:
    left_out = OTHER_FRAMEWORK.get(framework, set()) | {"python"}
    return {
        name: version.split("+")[0] for name, version in versions.items() if name not in left_out
    }


# ---- what is there ----------------------------------------------------------------------------


class _Recorded:
    """The records, by what a run is looked up with."""

    def __init__(self, root: Path, results: Path, table: Any) -> None:
        if table is None:
            from fer_utils.summary import summary

            table = summary(results, root / "build" / "summary.jsonl")
        self.root = root
        # pandas has made a number of what is missing, which counts as true.
        self.rows = table.astype(object).where(table.notna(), None).to_dict("records")
        self.stale = _stale(self.rows)
        self.by_key: dict[tuple, list[dict]] = {}
        for row in self.rows:
            self.by_key.setdefault(_key(row["paper"], row["parameters"]), []).append(row)

    def told(self, run: Run) -> Run:
        """A run with its state, why, and what it is expected to cost."""
        run = replace(run, seconds=self._seconds(run))
        matching = [
            row
            for row in self.by_key.get(_key(run.paper, run.fields), [])
            if row["profile"] in run.profiles
            # A protocol that is wrong on purpose answers only who asks for it.
            and _has(row["parameters"], {"contrast": None, **run.fields})
        ]
        reasons = [self._reason(run, row) for row in matching]
        if "" in reasons:
            found = matching[reasons.index("")]["run"]
            return replace(run, state="recorded", why=found)
        if done_file(run, self.root).exists():
            return replace(run, state="done", why="run here; its record is in build/grid")
        if run.dataset != "synthetic" and data_key(run.dataset) is None:
            return replace(run, state="absent", why=f"{run.dataset} is not under FER_DATA")
        return replace(run, state="to run", why=reasons[-1] if reasons else "no record")

    def _reason(self, run: Run, row: dict) -> str:
        """Why a record is not the run's any more; empty where it is."""
        if row["run"] in self.stale:
            return "its code or data have changed"
        checked = checked_data(run.dataset, self.root)
        if checked.exists():
            sources = json.loads(checked.read_text())["sources"]
            if sources and sources != row["sources"]:
                return "its data have changed"
        if row["device"].get("kind") == "cpu":  # a GPU's builds have versions of their own
            framework = read_chapter(run.paper, self.root).framework
            now = _versions(framework)
            for library, version in _relevant(row["versions"], framework).items():
                if now.get(library) not in (None, version):
                    return f"made with {library} {version}, now {now[library]}"
        return ""

    def _seconds(self, run: Run) -> float | None:
        """Seconds of the record that is most alike, scaled by epochs and training images."""
        alike = [
            row
            for row in self.rows
            if row["paper"] == run.paper and row["training"] and row["trained_on"]
        ]
        images = _training_images(run.fields)
        if alike:

            def likeness(row: dict) -> tuple:
                shared = sum(
                    row["parameters"].get(key) == value for key, value in run.fields.items()
                )
                return row["dataset"] == run.dataset, shared

            best = max(alike, key=likeness)
            if best["dataset"] == run.dataset:
                images = best["trained_on"]
            epochs = run.fields.get("epochs") or best["epochs"]
            per_image = best["training"] / best["epochs"] / best["trained_on"]
            return per_image * epochs * (images or best["trained_on"]) + (best["prediction"] or 0)
        complete = {**read_chapter(run.paper, self.root).parameters, **run.fields}
        for rule in load_published(run.paper).runs.speed:
            if _fits(rule.fits, complete) and images and complete.get("epochs"):
                return images * complete["epochs"] / rule.images_per_second
        return None


def _key(paper: str, fields: dict) -> tuple:
    return paper, fields.get("dataset"), fields.get("fold"), fields.get("seed")


def _stale(rows: list[dict]) -> set[str]:
    """`records.stale` over the lines of a summary, which have all that it looks at."""
    by_paper: dict[str, list] = {}
    for row in rows:
        by_paper.setdefault(row["paper"], []).append(
            SimpleNamespace(
                run=row["run"],
                paper=row["paper"],
                profile=row["profile"],
                parameters=row["parameters"],
                seed=row["seed"],
                created=row["created"],
                metrics=row["metrics"],
                data=SimpleNamespace(name=row["dataset"], sha256=row["data"], loaded=row["loaded"]),
                split=SimpleNamespace(sha256=row["split"]),
                code=SimpleNamespace(sha256=row["code"], entry_points=tuple(row["entry_points"])),
            )
        )
    return {name for runs in by_paper.values() for name in records.stale(runs)}


def _training_images(fields: dict) -> int | None:
    """How many images one epoch sees, by the manifest."""
    splits = load_manifest(fields["dataset"]).splits
    if "train" in splits:
        return splits["train"].count
    whole = splits["all"].count if "all" in splits else None
    return whole and int(0.8 * whole)
