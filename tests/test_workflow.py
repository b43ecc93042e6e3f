"""What is not recorded is run, once, and only that: tools/reproduce.py on a small project."""

import json
import os

import pytest
import tiny_project
from tiny_project import PAPER, call, planned

from fer_utils import records


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return tiny_project.make(tmp_path_factory.mktemp("project"))


def by_epochs(runs):
    return {(run["fields"]["epochs"], run["fields"].get("rate")): run for run in runs}


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
    for run in planned(project):
        folder = project / "build" / "grid" / PAPER / run["name"]
        assert {path.name for path in folder.iterdir()} == {"notebook.ipynb", "done.json"}

    # A clock that was wrong: every file from long ago or from the future, in any order.
    for number, path in enumerate((project / "build").rglob("*")):
        if path.is_file():
            os.utime(path, (number % 2 * 4e9, number % 2 * 4e9))
    again = call(project, "reproduce", *asked)
    assert again.returncode == 0
    assert "Nothing to run.\n3 are recorded already" in again.stdout


def test_a_run_waits_for_the_one_whose_weights_it_starts_from(project):
    runs = by_epochs(planned(project))
    assert runs[6, "other"]["first"] == [runs[6, None]["name"]]
    dry = call(project, "reproduce", "--seeds", "5", "--table", "open", "--dry-run", "--json")
    first, second = json.loads(dry.stdout)
    assert second["first"] == [first["name"]]
    assert first["answers"] == [f"weights for {second['name'].rpartition('-')[0]}"]


def test_code_counts_and_comments_do_not(project):
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
