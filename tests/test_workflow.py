"""What is not recorded is run, once, and only that: tools/reproduce.py on a small project."""

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import tiny_project
from nbformat.v4 import new_code_cell
from tiny_project import PAPER, call, call_on_a_terminal, cores, environment, planned, start

from fer_utils import grid, locks, metrics, records


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return tiny_project.make(tmp_path_factory.mktemp("project"))


def by_epochs(runs):
    return {(run["fields"]["epochs"], run["fields"].get("rate")): run for run in runs}


@pytest.mark.slow
def test_the_runs_of_the_published_file_are_made_once(project):
    asked = ("--seeds", "0", "--no-book")
    dry = call(project, "reproduce", *asked, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "3 to run" in dry.stdout
    assert "Table 1: Ours, JAFFE (50.0, now not attempted)" in dry.stdout
    assert "open: The rate: another" in dry.stdout
    assert not list((project / "results").rglob("*.json")), "a dry run ran something"

    made = call(project, "reproduce", *asked)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "3 of 3 runs made." in made.stdout
    kept = records.read_all(PAPER, project / "results")
    assert {(run.parameters["epochs"], run.profile) for run in kept} == {
        (6, "full"),
        (2, "reduced"),
    }
    seen = project / "results" / PAPER / "seen"
    assert {path.stem for path in seen.iterdir()} == {run.run for run in kept}
    for run in planned(project):
        folder = project / "build" / "grid" / PAPER / run["name"]
        assert contents(folder).keys() == {"notebook.ipynb", "done.json"}

    # A clock that was wrong: every file from long ago or from the future, in any order.
    for number, path in enumerate((project / "build").rglob("*")):
        if path.is_file():
            os.utime(path, (number % 2 * 4e9, number % 2 * 4e9))
    again = call(project, "reproduce", *asked)
    assert again.returncode == 0
    assert "Nothing to run.\n3 are recorded already" in again.stdout


@pytest.mark.slow
def test_files_of_the_future_are_started_from(project):
    """The check of the data and the run that comes first, made while the clock was wrong."""
    asked = ("--seeds", "9", "--table", "open", "--no-book")
    planned_runs = call(project, "reproduce", *asked, "--dry-run", "--json").stdout
    first, second = (
        project / "build" / "grid" / PAPER / run["name"] / "done.json"
        for run in json.loads(planned_runs)
    )
    made = call(project, "reproduce", *asked)
    assert made.returncode == 0, made.stdout + made.stderr

    (project / "results" / PAPER / f"{json.loads(second.read_text())['run']}.json").unlink()
    second.unlink()
    checks = list((project / "build" / "grid" / "data").iterdir())
    assert len(checks) == 1
    for path in (*checks, first):
        os.utime(path, (4e9, 4e9))
    made = call(project, "reproduce", *asked)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "1 of 1 runs made." in made.stdout
    assert second.exists()


def test_a_run_waits_for_the_one_whose_weights_it_starts_from(project):
    runs = by_epochs(planned(project))
    assert runs[6, "other"]["first"] == [runs[6, None]["name"]]
    dry = call(project, "reproduce", "--seeds", "5", "--table", "open", "--dry-run", "--json")
    first, second = json.loads(dry.stdout)
    assert second["first"] == [first["name"]]
    assert first["answers"] == [f"weights for {second['name'].rpartition('-')[0]}"]


@pytest.mark.slow
def test_code_counts_and_comments_do_not(project):
    made = call(project, "reproduce", "--seeds", "0", "--no-book")
    assert made.returncode == 0, made.stdout + made.stderr
    loop = project / "fer_utils" / "training" / "numpy_loop.py"
    before, source = {run["name"] for run in planned(project)}, loop.read_text()
    loop.write_text(f"# A comment.\n{source}\n\ndef beside():\n    return 1\n")
    assert {run["state"] for run in planned(project)} == {"recorded"}
    loop.write_text(source.replace("RATE = 0.05", "RATE = 0.06"))
    changed = planned(project)
    loop.write_text(source)
    assert {run["state"] for run in changed} == {"to run"}
    assert {run["why"] for run in changed} == {"its code or data have changed"}
    assert before.isdisjoint(run["name"] for run in changed)


@pytest.mark.slow
def test_only_narrows_to_beginnings_of_names_and_what_they_start_from(project):
    runs = by_epochs(planned(project))
    short, other = runs[2, None], runs[6, "other"]
    asked = planned(project, "--only", f"{short['name'][:-9]} {other['name'][:-9]}")
    assert {run["name"] for run in asked} == {run["name"] for run in runs.values()}
    assert [run["name"] for run in planned(project, "--only", short["name"])] == [short["name"]]

    wrong = call(project, "reproduce", "--only", "ck48-stratified", "--dry-run")
    assert wrong.returncode != 0
    assert wrong.stderr.startswith("ONLY=ck48-stratified: a run's name begins like jaffe-strat")

    asked = ("--seeds", "4", "--only", short["name"].partition("-seed")[0], "--no-book")
    made = call(project, "reproduce", *asked)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "1 of 1 runs made." in made.stdout
    kept = [run for run in records.read_all(PAPER, project / "results") if run.seed == 4]
    assert [run.parameters["epochs"] for run in kept] == [2]


ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}


@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_runs_at_work_side_by_side_have_one_thread_each(project, tmp_path):
    """Two that each took both cores would fight over them, and take many times as long."""
    short = by_epochs(planned(project))[2, None]["name"].partition("-seed")[0]
    words = ("--seeds", "7 8", "--only", short, "--no-book")
    made = call(project, "reproduce", *words, MEETING=str(tmp_path), OMP_NUM_THREADS="16")
    assert made.returncode == 0, made.stdout + made.stderr
    assert len(list(tmp_path.iterdir())) == 2, "they did not run side by side"
    found = [run.run for run in records.read_all(PAPER, project / "results") if run.seed in (7, 8)]
    assert len(found) == 2
    for name in found:
        given = json.loads((project / "results" / PAPER / "threads" / f"{name}.json").read_text())
        assert given["told"] == 1
        assert {key: given.get(key) for key in ONE_THREAD} == ONE_THREAD


ON_THE_GPU = """
import fcntl, os
taken = open(os.environ["GPU"], "a")
try:
    fcntl.flock(taken, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("by two at once", file=taken, flush=True)
    raise
"""


@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_runs_that_take_the_gpu_take_it_one_after_another(tmp_path):
    project, taken = tiny_project.make(tmp_path / "project"), tmp_path / "gpu"
    chapter = project / "notebooks" / f"{PAPER}.ipynb"
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells.insert(1, new_code_cell(ON_THE_GPU))  # held until its kernel ends
    nbformat.write(notebook, chapter)
    short = by_epochs(planned(project))[2, None]["name"].partition("-seed")[0]
    words = ("--seeds", "0 1", "--only", short, "--gpu", "1", "--no-book")
    made = call(project, "reproduce", *words, GPU=str(taken))
    assert taken.read_text() == ""
    assert "2 of 2 runs made." in made.stdout, made.stdout + made.stderr


@pytest.mark.slow
def test_a_line_of_progress_tells_how_many_of_all_runs_are_done(project):
    """The second run starts from the first one's weights, so that one is done for a time."""
    words = ("--seeds", "6", "--table", "open", "--no-book")
    status, out, shown = call_on_a_terminal(project, "reproduce", *words)
    assert status == 0, out + shown
    told = re.findall(r"(\d) of (\d) done", shown)
    assert list(dict.fromkeys(told))[:2] == [("0", "2"), ("1", "2")]
    assert re.search(r"0 of 2 done  jaffe-\S+ \(cell \d/\d", shown), "nor how far each is"
    assert "2 of 2 runs made." in out


def test_a_run_that_ends_while_its_folder_is_read_is_passed_over(tool, monkeypatch, tmp_path):
    for name in ("ends", "goes on"):
        (tmp_path / name / "work").mkdir(parents=True)
        for suffix in (".yaml", ".log"):
            (tmp_path / name / f"running{suffix}").touch()
    scandir = os.scandir

    def scan(path):
        if str(path) == str(tmp_path / "ends"):
            shutil.rmtree(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert tool("jobs").logs(tmp_path) == [tmp_path / "goes on" / "running.log"]


SNAKEMAKE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit("SIGTERM"))
try:
    print("SLURM run ID: some-name", file=sys.stderr, flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit("SIGINT")
"""
SCANCEL = """#!/bin/sh
echo "$@" > "$(dirname "$0")/cancelled"
"""


@pytest.mark.parametrize(
    ("profile", "how"), [(None, "SIGTERM"), ("workflow/profiles/slurm", "SIGINT")]
)
def test_an_interrupt_reaches_snakemake_as_it_cancels_jobs(
    tool, monkeypatch, tmp_path, profile, how
):
    """At SIGTERM it waits for what it has sent to a cluster; at SIGINT it cancels what it knows."""
    jobs, log = tool("jobs"), tmp_path / "snakemake.log"
    scancel = tmp_path / "scancel"
    scancel.write_text(SCANCEL)
    scancel.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def interrupt(_):
        time.sleep(0.05)
        if log.read_text():
            raise KeyboardInterrupt

    (tmp_path / "snakemake.py").write_text(SNAKEMAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(jobs, "LOG", log)
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=time.monotonic, sleep=interrupt))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a script's background
    try:
        with pytest.raises(KeyboardInterrupt):
            jobs.snakemake([], running=tmp_path, jobs=1, profile=profile)
    finally:
        signal.signal(signal.SIGINT, before)
    assert log.read_text().split()[-1] == how
    cancelled = tmp_path / "cancelled"
    assert cancelled.exists() == bool(profile)
    assert not profile or cancelled.read_text() == "--name=some-name\n"


@pytest.fixture
def blurred(tmp_path):
    """A project some of whose runs start from prepared pictures."""
    return tiny_project.make(tmp_path / "project", tiny_project.BLURRED)


def calls(project) -> list[str]:
    """Pieces that were computed, each with the step that did it."""
    path = project / "cache" / "calls.txt"
    return path.read_text().splitlines() if path.exists() else []


def prepared(project) -> list[str]:
    return [path.name for path in (project / "build" / "grid" / "prepared").glob("*")]


ONCE = ["0 prepare", "1 prepare"]
BLURRED = ("--table", "blurred", "--seeds", "0 1", "--no-book")


@pytest.mark.slow
def test_what_runs_start_from_is_prepared_once_before_them(blurred):
    dry = call(blurred, "reproduce", *BLURRED, "--dry-run")
    assert "Prepared once before 2 of them: jaffe-blur-1, cost 2 min of one core" in dry.stdout
    assert calls(blurred) == []

    made = call(blurred, "reproduce", *BLURRED)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "2 of 2 runs made." in made.stdout
    assert calls(blurred) == ONCE
    (name,) = prepared(blurred)
    assert (blurred / "cache" / "cores.txt").read_text() == str(min(8, cores()))
    assert made.stdout.index(f"{name[:-5]}  prepared") < made.stdout.index("accuracy")

    words = (*BLURRED[:2], "--seeds", "2", "--dry-run")
    for cache, cost in ((blurred / "cache", False), (blurred / "new", True)):
        more = call(blurred, "reproduce", *words, FER_CACHE=str(cache))
        assert "1 to run" in more.stdout
        assert ("Prepared once before 1 of them" in more.stdout) == cost


@pytest.mark.slow
def test_a_cluster_prepares_on_four_cores(blurred):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    words = ("--profile", "workflow/profiles/slurm", "--cores", "8", "--dry-run", "runs")
    told = subprocess.run(
        [sys.executable, "-m", "snakemake", *words, "--config", "table=blurred", "seeds=0"],
        cwd=blurred,
        env=environment(blurred),
        capture_output=True,
        text=True,
    )
    step = (told.stdout + told.stderr).partition("rule prepare:")[2].partition("rule ")[0]
    assert "threads: 4" in step, told.stdout + told.stderr


@pytest.mark.slow
def test_within_minutes_it_is_prepared_once_before_them_too(blurred):
    words = ("--minutes", "9", "--table", "blurred", "--seeds", "0 1", "--at-once", "2")
    made = call(blurred, "within", *words, BLUR_SECONDS="1")
    assert made.returncode == 0, made.stdout + made.stderr
    assert "left" not in made.stdout
    assert calls(blurred) == ONCE
    assert len(records.read_all(PAPER, blurred / "results")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["reproduce", "within"])
def test_runs_whose_preparation_fails_are_not_made_and_it_says_why(blurred, tool):
    words = BLURRED if tool == "reproduce" else ("--minutes", "9", *BLURRED[:-1])
    made = call(blurred, tool, *words, BLUR_FAILS="the pictures are upside down")
    assert "not prepared: ValueError: the pictures are upside down.\n" in made.stdout
    assert {line.split()[1] for line in calls(blurred)} == {"prepare"}
    assert prepared(blurred) == []
    assert records.read_all(PAPER, blurred / "results") == []
    if tool == "within":
        assert "2 left; the same command goes on." in made.stdout
    else:
        assert made.returncode != 0
        assert "0 of 2 runs made." in made.stdout


@pytest.mark.slow
def test_a_preparation_that_is_killed_counts_as_nothing_and_goes_on(blurred):
    name, process = prepare_slowly(blurred, 600)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert f"{name}.json" not in prepared(blurred)
    dry = call(blurred, "reproduce", *BLURRED, "--dry-run")
    assert "Prepared once before 2 of them" in dry.stdout

    made = call(blurred, "reproduce", *BLURRED)
    assert made.returncode == 0, made.stdout + made.stderr
    assert calls(blurred) == ["0 prepare", *ONCE]
    assert prepared(blurred) == [f"{name}.json"]


@pytest.mark.slow
def test_who_prepares_the_same_at_the_same_time_waits(blurred):
    name, first = prepare_slowly(blurred, 3)
    made = json.dumps(preparation(blurred))
    second = call(blurred, "prepare", made, blurred / "build" / "second.json")
    assert second.returncode == 0, second.stderr
    assert first.poll() is not None or first.wait(60) == 0
    assert calls(blurred) == ONCE
    assert prepared(blurred) == [f"{name}.json"]


def prepare_slowly(project, seconds: float):
    """Start the preparation of the blurred pictures; name and process, its first piece begun."""
    made = preparation(project)
    out = project / "build" / "grid" / "prepared" / f"{made['name']}.json"
    process = start(project, "prepare", json.dumps(made), out, BLUR_SECONDS=str(seconds))
    deadline = time.monotonic() + 300
    while not calls(project):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return made["name"], process


def preparation(project) -> dict:
    (name,) = next(run["prepared"] for run in planned(project, "--table", "blurred"))
    told = {"call": "fer_utils.blurring:blur", "settings": {"side": 1}, "threads": "cores"}
    return {"name": name, "dataset": "jaffe", **told}


def made_up(name: str, *first: str) -> grid.Run:
    fields = {"dataset": "jaffe", "seed": 0}
    return grid.Run(name, PAPER, {}, fields, ("full",), (), (), 0, first=first)


@pytest.mark.parametrize("status", [1, None])
def test_what_needs_the_weights_of_a_run_that_was_not_made_is_left(
    tool, pretend, monkeypatch, capsys, status
):
    started = pretend({"pretraining": status})
    monkeypatch.setattr(grid, "preparations", lambda run: [])
    runs = [made_up("pretraining"), made_up("tuned", "pretraining"), made_up("more", "tuned")]
    options = SimpleNamespace(at_once=2, minutes=100)
    runs.append(made_up("other"))
    left = tool("within").train(runs, Path(os.devnull), options, time.monotonic() + 6000)
    assert left == 3
    assert started == ["pretraining", "other"]
    assert "tuned  not started: pretraining, whose weights it needs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ({}, ["3 runs of tiny2026 multiply in bfloat16, for which this processor has no"]),
        ({"gpu": 1}, []),
        ({"profile": "slurm"}, []),
    ],
)
def test_a_plan_says_what_this_processor_is_slow_at(tool, monkeypatch, where, told):
    """Of a cluster's processors and of a GPU's it knows nothing."""
    runs = [made_up(f"run{k}") for k in range(3)]
    monkeypatch.setattr(grid, "slow_here", lambda asked: {"tiny2026": (len(asked), "bfloat16", 20)})
    reproduce = tool("reproduce")
    monkeypatch.setattr(reproduce, "verdicts_of", lambda papers: {})
    monkeypatch.setattr(reproduce, "purpose", lambda run, verdicts: "")
    monkeypatch.setattr(reproduce, "preparing", lambda runs: [])
    options = SimpleNamespace(**{"hours": None, "gpu": 0, "profile": None} | where)
    lines = reproduce.listing(runs, options).splitlines()
    assert [line[:72] for line in lines if "multiply" in line] == [line[:72] for line in told]


@pytest.fixture
def kept(tool, tmp_path):
    """What becomes of a record that is there and of one made of the same run, changed."""
    train = tool("train")
    path = min((tiny_project.ROOT / "results" / "yengikand2023").glob("*.json"))
    record = records.read(path)
    probabilities, labels = records.read_probabilities(record)
    timings = {"training": 10.0, "this_call": 11.0, "prediction": 1.0, "epoch": 1.0}
    told = {"timings": timings, "device": {"kind": "cpu"}, "persons": None}
    record = record.model_copy(update=told)

    def keep(first: dict, **second):
        for folder, changes in (("results", first), ("work", second)):
            changed = record.model_copy(update=changes)
            records.write(changed, probabilities, labels, tmp_path / folder)
        name = f"{record.run}.json"
        made = records.read(tmp_path / "work" / record.paper / name)
        note = train.keep(made, tmp_path / "work", tmp_path / "results")
        there = records.read(tmp_path / "results" / record.paper / name)
        records.read_probabilities(there, tmp_path / "results")
        return note, there

    turned = metrics.score(labels, np.roll(probabilities, 1, axis=1), record.data.classes)
    keep.others = {**record.metrics, "test": turned}
    keep.record, keep.train = record, train
    return keep


def test_a_repeat_with_other_versions_takes_the_place_of_the_record(kept):
    old = {"versions": {**kept.record.versions, "keras": "0.1"}}
    note, there = kept(old, metrics=kept.others)
    assert there.versions == kept.record.versions
    assert there.metrics == kept.others
    accuracy = kept.others["test"]["accuracy"]
    assert note.startswith(f"repeated with accuracy {accuracy:.4f}; the record that was there, ")
    assert f"made with keras 0.1, now {there.versions['keras']}, is replaced" in note


def test_a_repeat_with_the_same_numbers_brings_its_versions(kept):
    _, there = kept({"versions": {**kept.record.versions, "keras": "0.1"}})
    assert there.versions == kept.record.versions


def test_the_first_record_stays_where_versions_are_no_reason(kept):
    old = {"versions": {**kept.record.versions, "torch": "0.1"}}  # moves no number of this chapter
    note, there = kept(old, metrics=kept.others)
    assert there.versions["torch"] == "0.1"
    assert there.metrics == kept.record.metrics
    assert "stays" in note


def test_a_run_on_members_that_came_out_otherwise_than_their_record_says_so(kept, tmp_path):
    """Other threads or another processor: what is new does not stand on the network on record."""
    starts, record = kept.train.started_otherwise, kept.record
    members = {**record.parameters, "members": [record.run]}
    new = record.model_copy(update={"run": "new", "parameters": members})
    folders = (tmp_path / "work", tmp_path / "results")
    kept({})
    assert starts(new, *folders) == ""
    shutil.rmtree(tmp_path / "work")
    kept({}, metrics=kept.others)
    there, here = (run["test"]["accuracy"] for run in (record.metrics, kept.others))
    told = f"it starts from {record.run}, accuracy {here:.4f} here, {there:.4f} on record"
    assert starts(new, *folders) == told


def test_a_record_that_cannot_be_kept_fails_in_a_sentence(kept, monkeypatch, tmp_path):
    train, record = kept.train, kept.record
    run = {"name": "some", "paper": record.paper, "parameters": {}, "profiles": ["full"]}
    monkeypatch.setattr(train, "execute", lambda *_, **__: {"record": "some.json"})
    monkeypatch.setattr(train, "read_record", lambda *_: record)
    with pytest.raises(train.Failed, match="No such file"):  # its probabilities are not there
        train.train(run, tmp_path / "grid", tmp_path / "results", tmp_path / "runs", 1)


FULL = OSError(errno.ENOSPC, "No space left on device")  # as a write says it: without a file


def disk_is_full(*_, **__):
    raise FULL


@pytest.fixture
def training(kept, monkeypatch, tmp_path):
    """Train what takes no time; its record and a file beside it are those of a committed run."""
    train, record = kept.train, kept.record
    probabilities, labels = records.read_probabilities(record)

    def execute(notebook, running, parameters, *_, **__):
        running.touch()
        path = records.write(record, probabilities, labels, Path(parameters["records_dir"]))
        beside = path.parent / "seen" / path.name
        beside.parent.mkdir()
        beside.write_text("{}")
        return {"record": str(path)}

    monkeypatch.setattr(train, "execute", execute)
    run = {"name": "some", "paper": record.paper, "parameters": {}, "fields": {}, "code": ""}
    run["profiles"] = [record.profile]
    folders = [tmp_path / name for name in ("grid", "results", "runs")]
    return SimpleNamespace(
        tool=train, train=lambda: train.train(run, *folders, 1), folders=folders, record=record
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, except locks."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != locks.NAME)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_record_that_finds_no_room_leaves_nothing_behind(training, monkeypatch):
    results, link = training.folders[1], os.link

    def no_room(source, target):
        disk_is_full() if results in Path(target).parents else link(source, target)

    monkeypatch.setattr(os, "link", no_room)
    with pytest.raises(training.tool.Failed, match=r"^No space left on device$"):
        training.train()
    assert not contents(results)
    monkeypatch.setattr(os, "link", link)
    training.train()
    assert len(contents(results)) == 3


@pytest.mark.parametrize("what", [".npz.", ".json.", "/seen/"])
def test_a_record_stays_where_what_replaces_it_finds_no_room(training, monkeypatch, what):
    results, record, sync = training.folders[1], training.record, os.fsync
    old = record.model_copy(update={"versions": {**record.versions, "keras": "0.1"}})
    there = records.write(old, *records.read_probabilities(record), results)
    before = contents(results)

    def no_room(handle):
        path = os.readlink(f"/proc/self/fd/{handle}")
        disk_is_full() if path.startswith(f"{results}/") and what in path else sync(handle)

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(training.tool.Failed, match=r"^No space left on device$"):
        training.train()
    assert contents(results) == before
    monkeypatch.setattr(os, "fsync", sync)
    training.train()
    assert records.read(there).versions == record.versions
    assert len(contents(results)) == 3
    assert {path.name for path in results.rglob(".*")} == {locks.NAME}


def test_what_a_kill_has_left_goes_when_the_run_is_made(training):
    _, results, runs = training.folders
    record = results / training.record.paper / f"{training.record.run}.json"
    checkpoints = runs / training.record.run
    left = [
        checkpoints / "epoch-0007.keras",  # what the last epoch replaced
        checkpoints / ".state.json.17.part",
        record.with_name(f".{record.name}.17.part"),
        record.with_name(f".{record.stem}.abc.part") / record.parent.name / record.name,
        record.parent / "seen" / f".{record.name}.17.part",
    ]
    names = {"last": "epoch-0009.keras", "best": "epoch-0008.keras"}
    kept = [checkpoints / name for name in ("state.json", *names.values())]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    kept[0].write_text(json.dumps(names))
    training.train()
    assert set(checkpoints.rglob("*")) == {*kept, checkpoints / locks.NAME}
    beside = {f"{record.parent.name}/seen/{record.name}"}
    pair = {f"{record.parent.name}/{record.stem}{end}" for end in (".json", ".npz")}
    assert contents(results).keys() == beside | pair
    assert {path.name for path in results.rglob(".*")} == {locks.NAME}


def test_a_build_folder_that_cannot_be_written_is_told_in_a_sentence(training, monkeypatch):
    build, write = training.folders[0], training.tool.write_atomically

    def no_room(path, content):
        disk_is_full() if path.name == "done.json" else write(path, content)

    build.touch()
    with pytest.raises(training.tool.Failed, match=f"^Not a directory: {build}"):
        training.train()
    build.unlink()
    monkeypatch.setattr(training.tool, "write_atomically", no_room)
    with pytest.raises(training.tool.Failed, match=r"^No space left on device$"):
        training.train()


@pytest.fixture
def main(tool, monkeypatch, tmp_path):
    """A tool's whole command in an empty project, with these runs of the grid; why it ended."""

    def main(name: str, *words: str, runs: list[grid.Run] = ()) -> str | int | None:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        monkeypatch.setattr(tool(name), "ROOT", tmp_path)
        monkeypatch.setattr(grid, "chosen", lambda *_, **__: list(runs))
        monkeypatch.setattr(grid, "preparations", lambda run: [])
        try:
            tool(name).main()
        except SystemExit as ended:
            return ended.code
        return None

    return main


@pytest.mark.parametrize("tool_name", ["reproduce", "within"])
def test_a_record_that_cannot_be_read_is_told_in_a_sentence(project, tool_name):
    empty = project / "results" / PAPER / "empty.json"
    empty.parent.mkdir(exist_ok=True)
    empty.touch()
    words = ("--dry-run",) if tool_name == "reproduce" else ("--minutes", "1")
    try:
        done = call(project, tool_name, *words)
    finally:
        empty.unlink()
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"{empty}: not a run record (")


@pytest.mark.parametrize("tool_name", ["reproduce", "within"])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"- 1\n", "a mapping of fields belongs here"),
        (b"\xff\x00", "not YAML: "),
        (b"", "the file is empty"),
    ],
)
def test_a_published_file_that_is_wrong_is_told_in_a_sentence(project, tool_name, text, told):
    published = project / "data_manifests" / "published" / f"{PAPER}.yaml"
    right = published.read_bytes()
    published.write_bytes(text)
    words = ("--dry-run",) if tool_name == "reproduce" else ("--minutes", "1")
    try:
        done = call(project, tool_name, *words)
    finally:
        published.write_bytes(right)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"{published}: {told}")


@pytest.mark.parametrize("tool_name", ["reproduce", "within"])
def test_a_full_disk_is_told_in_a_sentence(tool, main, monkeypatch, tool_name):
    monkeypatch.setattr(tool(tool_name), "locked", disk_is_full)
    words = ("--minutes", "1") if tool_name == "within" else ()
    assert main(tool_name, *words) == "No space left on device"


def test_a_book_that_is_being_built_hides_no_failed_run(tool, main, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tool("reproduce"), "make", lambda *_: 1)
    with tool("jobs").locked(tmp_path / "build" / "book.lock", "make book"):
        assert main("reproduce").startswith("Another make book is at work in this folder")
    assert "Some runs were not made; see above." in capsys.readouterr().err


def test_a_list_for_programs_trains_nothing(tool, main, monkeypatch, capsys):
    monkeypatch.setattr(tool("reproduce"), "make", lambda *_: pytest.fail("it trains"))
    assert main("reproduce", "--json") == 2
    assert "--json is for --dry-run" in capsys.readouterr().err
    assert main("reproduce", "--json", "--dry-run") is None
    assert capsys.readouterr().out == "[]\n"


def test_hours_that_are_no_limit_are_refused_before_runs_are_listed(main):
    told = "HOURS=nan: a number above 0, such as 0.5 or 8"
    assert main("reproduce", "--hours", "nan", "--dry-run", "--json") == told


@pytest.mark.parametrize("where", ["nowhere/home.tar.gz", "."])
def test_an_archive_that_cannot_be_written_is_told_before_the_minutes(
    tool, main, monkeypatch, tmp_path, capsys, where
):
    monkeypatch.setattr(tool("within"), "train", lambda *_: pytest.fail("it trains"))
    assert main("within", "--minutes", "1", "--pack", tmp_path / where) == 2
    assert "cannot be written" in capsys.readouterr().err.splitlines()[-1]


def unfinished(build: Path, size: int) -> None:
    """A checkpoint of so many bytes."""
    folder = build / PAPER / "runs" / "some"
    folder.mkdir(parents=True)
    (folder / "state.json").touch()
    with (folder / "epoch-0001.npy").open("wb") as file:
        file.truncate(size)


def test_a_full_disk_leaves_no_half_of_an_archive(main, monkeypatch, tmp_path):
    unfinished(tmp_path / "build" / "grid", 10)
    archive = tmp_path / "home" / "home.tar.gz"
    archive.parent.mkdir()
    monkeypatch.setattr("tarfile.TarFile.addfile", disk_is_full)
    told = main("within", "--minutes", "1", "--pack", archive, "--checkpoints")
    assert told == f"{archive} was not packed: No space left on device."
    assert not list(archive.parent.iterdir())


@pytest.mark.parametrize("words", [(), ("--checkpoints",)])
def test_packing_has_the_time_that_its_size_takes(tool, main, monkeypatch, tmp_path, words):
    unfinished(tmp_path / "build" / "grid", 35 * 10**8)
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    ends = []
    monkeypatch.setattr(tool("within"), "train", lambda *given: ends.append(given[3]) or 0)
    monkeypatch.setattr(tool("within"), "pack", lambda *_: None)
    assert main("within", "--minutes", "10", "--pack", tmp_path / "home.tar.gz", *words) is None
    assert ends == [pytest.approx(600 - 10 - (100 if words else 0), abs=1)]


@pytest.mark.parametrize(("status", "ended"), [(1, "Something failed; see above."), (None, None)])
def test_a_run_that_failed_is_a_failure_and_time_that_is_over_is_not(
    tool, main, pretend, monkeypatch, capsys, status, ended
):
    pretend({"first": status})
    monkeypatch.setattr(tool("within"), "runs_to_make", lambda runs, build: runs)
    told = main("within", "--minutes", "100", runs=[made_up("first")])
    assert told == (ended and f"{ended} The same command tries it again.")
    assert "1 left; the same command goes on." in capsys.readouterr().out


def test_a_folder_of_checkpoints_may_have_an_apostrophe(project, tmp_path):
    runs = str(tmp_path / "nobody's runs")
    words = ("--cores", "1", "--dry-run", "--printshellcmds", "runs", "--config", "seeds=3")
    told = subprocess.run(
        [sys.executable, "-m", "snakemake", *words, f"runs={runs}"],
        cwd=project,
        env=environment(project),
        capture_output=True,
        text=True,
    )
    lines = [line for line in told.stdout.splitlines() if "tools/train.py" in line]
    assert lines, told.stdout + told.stderr
    for line in lines:
        words = shlex.split(line)
        assert words[words.index("--runs") + 1] == runs
