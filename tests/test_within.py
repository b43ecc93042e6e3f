"""Training for so many minutes, and the steps of the workflow, each by itself: tools/within.py."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_project import PAPER

from fer_utils import grid


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
