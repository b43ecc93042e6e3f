"""A report says of each claim what the records say, and what is open with the command for it."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from fer_utils import comparison, grid, records, report
from fer_utils.manifests import PublishedPaper, load_published, published_papers
from fer_utils.summary import COLUMNS

ROOT = Path(__file__).parents[1]


def cell(name: str, value: float, **changes) -> dict:
    return {
        "id": name,
        "row": name.capitalize(),
        "column": "FER2013",
        "value": value,
        "printed": f"{value:.2f}",
        "unit": "percent",
        "kind": "own",
        "metric": "accuracy",
        "dataset": "fer2013",
        "margin": 2.0,
        "margin_reason": "made",
        "select": {"dataset": "fer2013", "model": name},
    } | changes


CITED = {"kind": "cited", "margin": None, "margin_reason": None, "select": {}}
GAIN = {"id": "gain", "says": "New <b> is better", "kind": "improvement", "better": "new"}
GAIN |= {"base": "old", "n_test": 400}
BEST = {"id": "best", "says": "The best of all", "kind": "highest", "best": "new"}
BEST |= {"others": ["weak", "strong"]}
SUM = {"id": "sum", "says": "4 and 5 are 9", "kind": "total", "parts": ["four", "five"], "total": 9}


def paper(*claims: dict, unit: str = "percent", new: float = 80.0, **changes) -> PublishedPaper:
    """A paper that nobody wrote: a new and an old model of its own, two others cited."""
    scale = 1 if unit == "percent" else 100
    cells = [
        cell("new", new, **changes),
        cell("old", 60.0),
        cell("weak", 50.0, **CITED),
        cell("strong", 70.0, **CITED),
    ]
    for made in cells:
        value = made["value"] / scale
        made |= {"value": value, "printed": f"{value:.4f}", "unit": unit}
        made["margin"] = made["margin"] and made["margin"] / scale
    count = {"unit": "count", "metric": "images", **CITED}
    cells += [cell("four", 4, **count), cell("five", 5, **count)]
    return PublishedPaper.model_validate(
        {
            "paper": "yengikand2023",  # whose records the made ones say they are
            "title": "A paper that nobody wrote",
            "authors": ["Nobody"],
            "year": 2026,
            "venue": "none",
            "framework": "Keras",
            "headline": ["new"],
            "tables": [{"id": "Table 1", "caption": "Results", "cells": cells}],
            "claims": claims,
        }
    )


@pytest.fixture
def judged(monkeypatch, tmp_path, make_record):
    """A function: what is said of the claims of a paper, from records as they are read."""

    def judge(published: PublishedPaper, **right: int | None) -> list[report.Judged]:
        monkeypatch.setattr(comparison, "load_published", lambda name: published)
        for model, correct in right.items():
            for seed in (0, 1):
                made = make_record(
                    f"{model}-{seed}",
                    correct=correct,
                    n=400,
                    seed=seed,
                    stale=model == "old" and correct == 1,
                    dataset="fer2013",
                    model=model,
                )
                records.write(made, None, None, tmp_path)
        return report.judge(published, comparison.compare("yengikand2023", tmp_path))

    return judge


@pytest.mark.parametrize(
    ("right", "verdict", "told"),
    [
        ({"new": 320, "old": 240}, "reproduced", r"\+20.00 points, \+\d.*: above it\."),
        ({"new": 240, "old": 320}, "not reproduced", r"-20.00 points, -\d.* to -\d.*: below it\."),
        ({"new": 280, "old": 276}, "inconclusive", r"\+1.00 points, -.*do not tell which"),
        ({"new": 320}, "not attempted", r"No full run is recorded of Table 1: Old, FER2013\.$"),
        ({}, "not attempted", r"of Table 1: New, FER2013; Table 1: Old, FER2013\.$"),
        ({"new": 320, "old": 1}, "stale", "run it again"),
    ],
)
def test_the_sentence_on_a_claim_follows_its_runs(judged, right, verdict, told):
    (found,) = judged(paper(GAIN), **right)
    assert found.outcome == verdict
    assert re.search(told, found.sentence), found.sentence
    assert [behind.cell.id for behind in found.cells] == ["new", "old"]


def test_fractions_are_told_in_points(judged):
    (found,) = judged(paper(GAIN, unit="fraction"), new=320, old=240)
    assert "+20.00 points" in found.sentence


def test_a_best_result_is_set_against_the_nearest_of_the_others(judged):
    (found,) = judged(paper(BEST), new=240)
    assert found.outcome == "not reproduced"  # 60 %, and Strong prints 70
    assert "Strong, FER2013 (as printed), is -10.00 points" in found.sentence
    (found,) = judged(paper(BEST, not_comparable="Its protocol is not told.", margin=None))
    assert (found.outcome, found.on_runs) == ("not comparable", True)
    assert "Its protocol is not told." in found.sentence


def test_what_the_printed_numbers_leave_to_chance_is_said_beside_the_verdict(judged):
    (found,) = judged(paper(GAIN, new=61.0), new=320, old=240)
    assert found.outcome == "reproduced"
    assert "As printed: 61.0000 against 60.0000 %, 4 images" in found.sentence
    assert "not told from chance" in found.sentence
    (found,) = judged(paper(GAIN), new=320, old=240)
    assert "As printed" not in found.sentence


def test_one_of_several_claims_is_not_blamed_for_another(judged):
    twin = GAIN | {"id": "twin", "says": "New is better than weak", "base": "weak"}
    gain, twin = judged(paper(GAIN, twin, new=61.0), new=320, old=240)
    assert "As printed" in gain.sentence
    assert "As printed" not in twin.sentence


def test_other_claims_are_put_to_arithmetic_and_come_last(judged):
    wrong = SUM | {"id": "wrong", "says": "4 and 5 are 8", "total": 8}
    gain, right, wrong = judged(paper(SUM, wrong, GAIN))
    assert [found.on_runs for found in (gain, right, wrong)] == [True, False, False]
    assert (right.outcome, wrong.outcome) == ("fits", "does not fit")
    assert "9" in wrong.sentence


@pytest.mark.parametrize(("sure", "outcome"), [("likely", "does not fit"), ("weak", "cannot tell")])
def test_a_weak_finding_is_no_contradiction(judged, sure, outcome):
    claim = {"id": "same", "says": "4 is 5", "kind": "same number", "numbers": ["four", "five"]}
    (found,) = judged(paper(claim | {"confidence": sure}))
    assert found.outcome == outcome
    assert found.sentence.endswith(f"How sure: {sure}.")


def test_the_table_of_claims_shows_all_with_the_cells_behind_them(judged):
    found = judged(paper(GAIN, BEST, SUM), new=320, old=240)
    html = report.claims(found).data
    assert re.findall(r'data-claim="(\w+)"', html) == ["gain", "best", "sum"]
    assert "New &lt;b&gt; is better" in html
    assert "80.00 (" in html
    assert "Table 1: Weak, FER2013: 50.0000; Strong, FER2013: 70.0000" in html
    assert html.count("verdict-reproduced") == 2  # the claims
    assert html.count("verdict-inconclusive") == 3  # New twice and Old: 400 images are few
    assert html.count("verdict-fits") == 1


# ---- discussion ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", published_papers())
def test_the_discussion_is_the_published_files(name):
    told = report.discussion(name).data
    written = load_published(name).report
    assert told.split("\n\n") == [
        f"**What was easy.** {written.easy}",
        f"**What was hard.** {written.hard}",
        f"**What we believe.** {written.believe}",
    ]


def test_a_discussion_that_is_not_written_is_no_error(monkeypatch):
    monkeypatch.setattr(report, "load_published", lambda name: paper())
    assert "Not written yet" in report.discussion("anything").data


# ---- what is open -------------------------------------------------------------------------------


def run(name: str, **changes) -> grid.Run:
    made = grid.Run(
        name=name,
        paper="yengikand2023",
        parameters={},
        fields={"dataset": "fer2013", "seed": 0},
        profiles=("full",),
        answers=("Table 1: New, FER2013",),
        cells=("new",),
        rank=0,
        seconds=3600.0,
    )
    return replace(made, **changes)


def words(html) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.data))


def test_what_is_open_comes_with_one_command_and_its_cost():
    recorded = run("a", state="recorded", seconds=1800.0)
    plan = [recorded, run("b", first=("a",)), run("c", state="absent", seconds=None)]
    told = report.finish(paper(), plan).data
    assert "2 of 3 runs are not recorded" in told
    # The recorded run is made again: its weights are in no record.
    assert "1.5 h and 1 run of unknown cost of one core; 1 run among them repeated" in told
    assert told.endswith("```\nmake reproduce PAPER=yengikand2023\n```")
    assert report.finish(paper(), [recorded]).data.startswith("Nothing: every run")


def test_each_open_result_has_its_own_command(judged):
    found = judged(paper())
    assert found == []
    headline = [
        made
        for made in comparison.compare("yengikand2023", Path("nowhere"))
        if made.cell.id in ("new", "old")
    ]
    plan = [
        run("a"),
        run("b", answers=("Table 1: New, FER2013, beside it",), rank=1, seconds=1800.0),
        run("c", answers=("Table 1: Newer, FER2013",), cells=("newer",)),
        run("d", answers=("open: Widths: twice as wide",), cells=(), rank=2, seconds=60.0),
        run("e", answers=("Table 1: Old, FER2013",), cells=("old",), state="recorded"),
    ]
    told = words(report.by_result(paper(), headline, plan))
    assert "New, FER2013 2 1.5 h make reproduce PAPER=yengikand2023 TABLE=new " in told
    assert "leaves open 1 1 min make reproduce PAPER=yengikand2023 TABLE=open " in told
    assert "included 4 2.5 h make reproduce PAPER=yengikand2023 " in told
    assert "TABLE=old" not in told  # nothing of it is open


def test_a_command_makes_the_runs_that_are_counted_beside_it():
    nothing = pd.DataFrame(columns=COLUMNS)
    plan = grid.plan(["yengikand2023"], recorded=nothing, seeds=(0,))
    published = load_published("yengikand2023")
    for headline in published.headline:
        made = next(made for made in published.cells if made.id == headline)
        what = f"Table II: {made.row}, {made.column}"
        asked = {found.name for found in plan if report.answers(found, what)}
        made_by = grid.plan(["yengikand2023"], table=headline, recorded=nothing, seeds=(0,))
        assert asked == {found.name for found in made_by if report.answers(found, what)}
        counted = report.still_open(plan, lambda found, what=what: report.answers(found, what))
        assert len(counted) == len(made_by)  # with those whose weights they start from


def test_runs_that_differ_in_the_seed_stand_in_one_line(make_record):
    fields = {"protocol": "official", "model": "deep"}
    kept = [
        make_record(f"fer2013-official-deep-seed{seed}-0000000{seed}", seed=seed, **fields)
        for seed in (0, 1)
    ]
    wrong = "fer2013-official-deep-1e-05_x-seed0-00000002"
    kept.append(make_record(wrong, contrast="wrong on purpose"))
    told = words(report.runs(kept))
    assert "fer2013 official deep full 2 2 2 0 min" in told
    assert "official deep 1e-05 x contrast 2 1 1 0 min" in told
    assert "all 3 0 min" in told
    assert "No run is recorded" in report.runs([]).data


def test_the_template_takes_no_paper_that_is_not_published(tmp_path):
    words = ["-p", "paper", "nobody2020", "-p", "output_dir", str(tmp_path / "work")]
    command = [sys.executable, "-m", "papermill", "notebooks/report.ipynb", tmp_path / "out.ipynb"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [*command, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "paper = 'nobody2020'" in done.stderr
    assert "Allowed parameters:" in done.stderr
    assert not (tmp_path / "work").exists()
