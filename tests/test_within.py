"""Training for so many minutes, and the steps of the workflow, each by itself: tools/within.py."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_project
import trees
from tiny_project import PAPER, call, planned

from fer_utils import datasets, ferplus, grid, locks

DONE = "done.json"


def made_up(name: str, **more) -> grid.Run:
    fields = {"dataset": "jaffe", "seed": 0}
    return grid.Run(name, PAPER, {}, fields, ("full",), (), (), 0, **more)


@pytest.mark.parametrize(
    ("at_once", "asked", "threads"),
    [(1, 0, "0"), (2, 0, "4"), (3, 0, "2"), (9, 0, "1"), (2, 3, "3")],
)
def test_trainings_side_by_side_share_the_cores(tool, monkeypatch, at_once, asked, threads):
    within, commands = tool("within"), []
    monkeypatch.setattr(within, "cores", lambda: 8)
    monkeypatch.setattr(within.subprocess, "Popen", lambda words, **_: commands.append(words))
    options = SimpleNamespace(at_once=at_once, threads=asked, smoke=False)
    within.start(made_up("some"), Path("build"), options)
    (words,) = commands
    assert words[words.index("--threads") + 1] == threads


@pytest.fixture
def made(tool, monkeypatch, tmp_path):
    """A function that leaves what a run leaves that is made: done.json, record, checkpoint."""
    monkeypatch.setattr(tool("within"), "ROOT", tmp_path)
    monkeypatch.setattr(grid, "done_file", lambda run: tmp_path / "grid" / PAPER / run.name / DONE)

    def made(run: grid.Run) -> Path:
        """Its record, whose name is another."""
        record = tmp_path / "results" / PAPER / f"record-of-{run.name}.json"
        done = tmp_path / "grid" / PAPER / run.name / DONE
        state = tmp_path / "grid" / PAPER / "runs" / record.stem / "state.json"
        for path in (record, done, state):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"run": record.stem}))
        return record

    return made


def packed(archive: Path) -> set[str]:
    with tarfile.open(archive) as file:
        return {Path(name).name for name in file.getnames()}


def test_a_run_whose_record_is_gone_is_made_again(tool, made, tmp_path, capsys):
    within, (lost, kept) = tool("within"), map(made_up, ("lost", "kept"))
    made(lost).unlink()
    made(kept)
    archive = tmp_path / "home.tar.gz"
    within.pack(archive, tmp_path / "grid", tmp_path / "results", every=[])
    assert "home.tar.gz: 1 runs, " in capsys.readouterr().out
    assert packed(archive) == {"record-of-kept.json", "record-of-lost", "state.json"}
    recorded = replace(kept, state="recorded")
    assert within.runs_to_make([lost, recorded], tmp_path / "grid") == [lost]
    assert grid.done_file(kept).exists()


@pytest.mark.parametrize("kind", ["first", "after"])
@pytest.mark.parametrize("state", ["to run", "absent"])  # its data may be elsewhere
def test_what_an_open_run_starts_from_is_packed(tool, made, tmp_path, kind, state):
    within, needed, other = tool("within"), made_up("needed"), made_up("other")
    names = {made(run).stem for run in (needed, other)}
    more = made_up("more", **{kind: ("needed",)}, state=state)
    archive = tmp_path / "home.tar.gz"

    def folders(*every: grid.Run) -> set[str]:
        within.pack(archive, tmp_path / "grid", tmp_path / "results", every)
        return names & packed(archive)

    assert folders(needed, other, more) == {"record-of-needed"}
    made(more)
    assert folders(needed, other, more) == set()
    assert folders(needed, other, replace(more, name="new", state="recorded")) == set()


def test_what_trainings_leave_takes_its_time_to_pack(tool, made, pretend, monkeypatch, tmp_path):
    """A second run is not begun in the time that the first one's checkpoints take."""
    within, run = tool("within"), made_up("some")
    folder = tmp_path / "grid" / PAPER / "runs" / made(run).stem
    with (folder / "epoch-0001.npy").open("wb") as file:
        file.truncate(int(1000 * within.PACKED_A_SECOND))
    monkeypatch.setattr(grid, "preparations", lambda run: [])
    for checkpoints, names in ((False, ["some", "next"]), (True, ["some"])):
        started = pretend({})
        options = SimpleNamespace(at_once=1, minutes=20, checkpoints=checkpoints)
        runs = [run, made_up("next")]
        within.train(runs, tmp_path / "grid", options, time.monotonic() + 1050)
        assert started == names


@pytest.fixture
def refused(tool, monkeypatch, capsys):
    """A function: what a step says of words that it refuses before anything is done."""

    def refused(*words: str | Path, step: str = "within") -> str:
        monkeypatch.setattr(sys, "argv", [f"{step}.py", *map(str, words)])
        monkeypatch.setattr(grid, "chosen", lambda *_, **__: pytest.fail("it goes on"))
        with pytest.raises(SystemExit) as ended:
            tool(step).main()
        assert ended.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    return refused


def test_an_archive_takes_the_place_of_nothing_but_a_plain_file(refused, tool, tmp_path):
    archive, pipe, link = (tmp_path / name for name in ("home.tar.gz", "pipe", "link"))
    archive.touch()
    os.mkfifo(pipe)
    link.symlink_to(archive)
    for there in (pipe, link):
        told = refused("--minutes", "1", "--pack", there)
        assert told.endswith(f"{there} cannot be written: what is there is no plain file")
    assert tool("within").refusal(archive) is None
    told = refused("--minutes", "1", "--pack", archive / "x")
    assert told.endswith(f"{archive} is no folder that files can be written to")


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        *[((f"--minutes={word}",), "a number above 0") for word in ("0", "-5", "nan", "inf", "x")],
        *[(("--minutes=1", f"--at-once={word}"), "a whole number from 1") for word in ("0", "1.5")],
        *[(("--minutes=1", f"--threads={word}"), "a whole number from 0") for word in ("-1", "")],
    ],
)
def test_a_number_out_of_range_is_told_with_what_is_allowed(refused, words, allowed):
    option, _, word = words[-1].partition("=")
    assert refused(*words).endswith(f"argument {option}: {allowed}, not {word!r}")


def test_checkpoints_without_an_archive_are_refused(refused):
    assert refused("--minutes", "1", "--checkpoints").endswith(
        "--checkpoints: needs --pack, the archive that they go into"
    )


@pytest.mark.parametrize("word", ["x", "[]", "{}", '"name"', "null"])
@pytest.mark.parametrize("step", ["train", "prepare"])
def test_what_is_no_run_of_the_grid_is_refused(refused, tmp_path, step, word):
    words = (word,) if step == "train" else (word, tmp_path / "out.json")
    assert re.search(rf"JSON with name.*, not {re.escape(repr(word))}$", refused(*words, step=step))


def test_a_number_of_gpus_or_a_profile_that_cannot_be_is_refused(refused):
    told = refused("--gpu", "-1", step="reproduce")
    assert told.endswith("argument --gpu: a whole number from 0, not '-1'")
    told = refused("--profile", "workflow/profiles/slrum", step="reproduce")
    assert told.endswith("--profile: workflow/profiles/slrum is no folder")


@pytest.fixture
def plans(tool, monkeypatch, tmp_path):
    """The grid before data were looked at for the first time, and after."""
    told = [[made_up("before")], [made_up("after")]]
    monkeypatch.setattr(grid, "chosen", lambda *_, **__: told.pop(0))
    for name in ("reproduce", "within"):
        monkeypatch.setattr(tool(name), "ROOT", tmp_path)
        monkeypatch.setattr(tool(name), "check_data", lambda runs: runs[0].name == "before")


@pytest.mark.usefixtures("plans")
def test_a_dry_run_looks_at_data_that_no_check_has_seen(tool, monkeypatch, capsys):
    reproduce = tool("reproduce")
    monkeypatch.setattr(reproduce, "listing", lambda runs, options: runs[0].name)
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "--dry-run"])
    reproduce.main()
    assert capsys.readouterr().out == "after\n"


@pytest.mark.usefixtures("plans")
def test_training_for_some_time_looks_at_data_that_no_check_has_seen(tool, monkeypatch):
    within, made = tool("within"), []
    monkeypatch.setattr(within, "slow_here", lambda runs: [])
    monkeypatch.setattr(within, "train", lambda runs, *_: made.extend(runs) or 0)
    monkeypatch.setattr(within, "runs_to_make", lambda runs, build: runs)
    monkeypatch.setattr(sys, "argv", ["within.py", "--minutes", "1"])
    within.main()
    assert [run.name for run in made] == ["after"]


def test_epochs_that_a_longer_run_goes_on_from_cost_once(tool):
    own_seconds = tool("reproduce").own_seconds
    short = made_up("short", seconds=60.0)
    long = made_up("long", seconds=100.0, after=("short",))
    assert [own_seconds(run, [short, long]) for run in (short, long)] == [60, 40]
    assert own_seconds(long, [long]) == 100
    assert own_seconds(replace(long, seconds=None), [short, long]) is None


@pytest.mark.slow
@pytest.mark.usefixtures("plans")
def test_training_says_that_nothing_is_left_to_make(tool, monkeypatch, capsys):
    within = tool("within")
    monkeypatch.setattr(within, "runs_to_make", lambda runs, build: [])
    monkeypatch.setattr(sys, "argv", ["within.py", "--minutes", "1"])
    within.main()
    assert "Nothing is left to make" in capsys.readouterr().out


def test_a_run_goes_on_elsewhere_from_one_that_was_finished(tmp_path):
    """The one that it starts from is executed there, too, for its weights, but not trained."""
    away, home = tiny_project.make(tmp_path / "away"), tmp_path / "home"
    leave = shutil.ignore_patterns("build", "cache", "__pycache__")
    shutil.copytree(away, home, ignore=leave)  # data with their times, which say what they are
    (second,) = (run for run in planned(away) if run["first"])
    (first,) = second["first"]
    archive = tmp_path / "home.tar.gz"
    words = ("--minutes", "9", "--seeds", "0", "--only")
    done = call(away, "within", *words, first, "--pack", archive, "--checkpoints")
    assert done.returncode == 0, done.stdout + done.stderr
    with tarfile.open(archive) as file:
        file.extractall(home, filter="data")
    assert list(away.rglob(locks.NAME))
    assert not list(home.rglob(locks.NAME))
    (state,) = home.glob("build/grid/*/runs/*/state.json")
    epochs = json.loads(state.read_text())["history"]["seconds"]
    rest = call(home, "within", *words, second["name"])
    assert rest.returncode == 0, rest.stdout + rest.stderr
    assert len(list((home / "results" / PAPER).glob("*.json"))) == 2
    assert json.loads(state.read_text())["history"]["seconds"] == epochs


# The one of a grid that is on a cluster, and the one of a book.
SNAKEMAKE = """
import signal, sys, time
if "book" in sys.argv:
    sys.exit("a chapter failed")
try:
    print("SLURM run ID: some-name", file=sys.stderr, flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(1)
"""
BOOK = """
import sys
from pathlib import Path
sys.path.insert(0, {tools!r})
import jobs
folder = Path({folder!r})
jobs.LOG = folder / "snakemake.log"
with jobs.locked(folder / "book.lock", "make book"):
    jobs.snakemake(["book"], running=folder, jobs=1)
"""
SCANCEL = """#!/bin/sh
echo "$@" > "$(dirname "$0")/cancelled"
"""


def test_a_book_that_is_built_beside_a_grid_leaves_it_its_log(tool, monkeypatch, tmp_path):
    """What tells the name under which SLURM knows the jobs."""
    jobs, book = tool("jobs"), []
    scancel = tmp_path / "scancel"
    scancel.write_text(SCANCEL)
    scancel.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "snakemake.py").write_text(SNAKEMAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    script = BOOK.format(tools=str(tiny_project.ROOT / "tools"), folder=str(tmp_path))

    def meanwhile(_):
        """When the grid's Snakemake has told its name, build the book, then interrupt the grid."""
        time.sleep(0.05)
        if any("run ID" in path.read_text() for path in tmp_path.glob("*.log")):
            book.append(
                subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
            )
            raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "LOG", tmp_path / "snakemake.log")
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=time.monotonic, sleep=meanwhile))
    with pytest.raises(KeyboardInterrupt), jobs.locked(tmp_path / "grid.lock", "make reproduce"):
        jobs.snakemake([], running=tmp_path, jobs=1, profile="workflow/profiles/slurm")
    assert (tmp_path / "cancelled").read_text() == "--name=some-name\n"
    (told,) = book
    assert told.returncode == 0, told.stderr
    (log,) = re.findall(r"Snakemake's own account: (.*)", told.stderr)
    assert Path(log).read_text() == "a chapter failed\n"


@pytest.mark.parametrize("step", ["check_data", "prepare", "reproduce", "within"])
def test_a_home_folder_that_is_not_there_is_told_in_a_sentence(tool, monkeypatch, tmp_path, step):
    words = {
        "check_data": ("fer2013", str(tmp_path / "out.json")),
        "prepare": (json.dumps({"name": "some"}), str(tmp_path / "out.json")),
        "reproduce": ("--dry-run", "--paper", "nouisser2023"),
        "within": ("--minutes", "1", "--paper", "nouisser2023"),
    }
    monkeypatch.setenv("FER_DATA", str(trees.fer2013(tmp_path)))
    monkeypatch.setenv("FER_CACHE", "~no.such.person/x")
    monkeypatch.setattr(sys, "argv", [f"{step}.py", *words[step]])
    grid.data_key.cache_clear()
    with pytest.raises(SystemExit) as ended:
        tool(step).main()
    grid.data_key.cache_clear()
    (told,) = str(ended.value.code).splitlines()
    assert "~no.such.person/x: no such home folder; set FER_CACHE to a folder" in told


@pytest.mark.parametrize("step", ["check_data", "prepare"])
@pytest.mark.parametrize("full", ["mkdir", "write"])
def test_a_step_that_finds_no_room_says_so_in_a_sentence(tool, monkeypatch, tmp_path, step, full):
    module, out = tool(step), tmp_path / "grid" / "some.json"
    what = "synthetic" if step == "check_data" else json.dumps({"name": "some"})

    def no_room(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out))

    monkeypatch.setenv("FER_CACHE", str(tmp_path / "cache"))
    if step == "prepare":
        monkeypatch.setattr(module, "prepare", lambda *_: 3)
    if full == "mkdir":
        monkeypatch.setattr(Path, "mkdir", no_room)
    else:
        monkeypatch.setattr(module, "write_atomically", no_room)
    monkeypatch.setattr(sys, "argv", [f"{step}.py", what, str(out)])
    with pytest.raises(SystemExit) as ended:
        module.main()
    (told,) = str(ended.value).splitlines()
    assert told.endswith(f": No space left on device: {out}.")
    assert not out.exists()


def test_folders_of_data_are_named_from_the_root(tool, monkeypatch, tmp_path):
    """What is started works in the project's folder, not in that of the command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FER_DATA", "faces")
    monkeypatch.setenv("FER_CACHE", "~/cache")
    tool("execute").from_anywhere()
    assert os.environ["FER_DATA"] == str(tmp_path / "faces")
    assert os.environ["FER_CACHE"] == str(Path.home() / "cache")
    monkeypatch.delenv("FER_DATA")
    tool("execute").from_anywhere()
    assert "FER_DATA" not in os.environ


def test_a_list_for_programs_tells_what_the_hours_leave_open(tool):
    runs = [made_up(name, seconds=seconds) for name, seconds in (("short", 60), ("long", 9999))]
    for hours, states in ((None, ["to run", "to run"]), ("1", ["to run", "left open"])):
        told = tool("reproduce").for_programs(runs, SimpleNamespace(hours=hours))
        assert [run["state"] for run in json.loads(told)] == states


def test_a_run_made_for_its_weights_would_change_nothing_by_itself(tool):
    run = grid.Run("some", PAPER, {}, {}, ("full",), ("Table II: Ours",), ("cell",), 0)
    purpose, verdicts = tool("reproduce").purpose, {(PAPER, "cell"): "65.32, now stale"}
    assert purpose(run, verdicts) == "Table II: Ours (65.32, now stale)"
    assert purpose(replace(run, why=grid.FOR_WEIGHTS), verdicts) == "nothing by itself"


def test_a_check_knows_the_images_that_each_rule_for_votes_keeps(tool, monkeypatch, tmp_path):
    votes = trees.ferplus(tmp_path) / "fer2013" / "fer2013new.csv"
    first, *rows = votes.read_text().splitlines()
    usage, name, *_ = rows[0].split(",")
    rows[0] = f"{usage},{name},2,2,2,2,2,0,0,0,0,0"  # five lead: no majority
    votes.write_text("\n".join([first, *rows]) + "\n")
    module = tool("check_data")
    load = partial(datasets.load, root=tmp_path, complete=False)
    monkeypatch.setattr(module, "load", load)
    found = module.check("ferplus")["arrays"]
    kept = {rule: load("ferplus", keep=rule) for rule in ferplus.KEEP}
    assert len({len(data) for data in kept.values()}) > 1
    assert set(found) == {datasets.array_hash(data.images, data.labels) for data in kept.values()}


@pytest.fixture
def checked(tool, monkeypatch, tmp_path, capsys):
    """A function: what check_data.py says of a set where the folder of data is mistyped."""

    def checked(dataset: str) -> tuple[object, str]:
        monkeypatch.setenv("FER_DATA", str(tmp_path / "mistyped"))
        monkeypatch.setattr(sys, "argv", ["check_data.py", dataset, str(tmp_path / "out.json")])
        with pytest.raises(SystemExit) as ended:
            tool("check_data").main()
        return ended.value.code, capsys.readouterr().err

    return checked


def test_a_check_of_data_names_the_folder_that_is_not_there(checked, tmp_path):
    told, _ = checked("jaffe")
    assert told.startswith(f"  jaffe: {tmp_path / 'mistyped'}: no such folder of data; FER_DATA")


def test_a_check_of_data_names_the_sets_that_there_are(checked):
    status, told = checked("jafe")
    assert status == 2
    assert "invalid choice: 'jafe' (choose from 'ck48', 'ckplus'" in told
