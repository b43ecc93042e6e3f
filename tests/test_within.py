"""Training for so many minutes, and the steps of the workflow, each by itself: tools/within.py."""

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_project import PAPER

from fer_utils import grid

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
    within.pack(archive, tmp_path / "grid", tmp_path / "results", checkpoints=True)
    assert "home.tar.gz: 1 runs, " in capsys.readouterr().out
    assert packed(archive) == {"record-of-kept.json", "record-of-lost", "state.json"}
    recorded = replace(kept, state="recorded")
    assert within.runs_to_make([lost, recorded], tmp_path / "grid") == [lost]
    assert grid.done_file(kept).exists()
