"""A report says of each claim what the records say, and what is open with the command for it."""

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from made_papers import BEST, GAIN, SUM, paper

from fer_utils import comparison, display, grid, records, report
from fer_utils.manifests import dataset_names, load_published, published_papers

ROOT = Path(__file__).parents[1]


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
    assert "from one seed" not in html
    (gain, *_) = found
    cells = [
        cell if cell.ours is None else replace(cell, ours=replace(cell.ours, values=(80.0,)))
        for cell in gain.cells
    ]
    told = report.claims([replace(gain, cells=tuple(cells))]).data
    assert told.count("from one seed") == 1


# ---- discussion ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", published_papers())
def test_the_discussion_is_the_published_files(name):
    told = report.discussion(name).data
    written = load_published(name).report
    if written is None:
        pytest.skip("it is not written yet")
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


def test_runs_whose_cost_nobody_knows_are_told_as_that():
    told = words(report.summary(paper(), [], [], [], [run("a", seconds=None)]))
    assert "1 of 1 runs are not recorded, at a cost that is not known yet" in told


def test_the_summary_tells_what_rests_on_one_seed_and_on_few_results(judged):
    found = judged(paper(GAIN, BEST, SUM), new=320, old=240)
    (headline,) = shown("new", folder=Path("nowhere"))
    one = replace(found[0].cells[0], ours=replace(found[0].cells[0].ours, values=(80.0,)))
    assert one.ours.runs
    short = words(report.summary(paper(), [headline, one], found, [], []))
    assert "(1 of them from one seed)" in short
    assert "rest on" not in short
    # It compares two results, and each counts once however often it is asked.
    assert "rest on" not in words(report.summary(paper(), [], [found[0]] * 2, [], []))
    assert "(the 3 reproduced rest on 2 of our results)" in words(
        report.summary(paper(), [], [found[0]] * 3, [], [])
    )


def words(html) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.data))


def test_what_is_open_comes_with_one_command_and_its_cost():
    recorded = run("a", state="recorded", seconds=1800.0)
    plan = [recorded, run("b", first=("a",)), run("c", state="absent", seconds=None)]
    told = report.finish(paper(), plan).data
    assert "2 of 3 runs are not recorded" in told
    # The recorded run is made again: its weights are in no record.
    assert (
        "; 1 recorded run is made again, for weights that others start from: 3 to make, at an "
        "expected 1.5 h and 1 run of unknown cost on one core"
    ) in told
    assert told.endswith("```\nmake reproduce PAPER=yengikand2023\n```")
    assert report.finish(paper(), [recorded]).data.startswith("Nothing: every run")


def test_runs_from_weights_of_others_say_where_those_come_from(judged):
    judged(paper())
    (headline,) = shown("new", folder=Path("nowhere"))
    scratch = run("a", parameters={"weights": "none"})
    waiting = run("b", parameters={"weights": "imagenet"})
    told = report.finish(paper(), [scratch, waiting]).data
    assert "on one core. 1 of them starts from ImageNet weights, which are not part of" in told
    assert "Keras downloads them where there is a network" in told
    assert "`-p weights FILE`" in told
    assert "With the data in place (fer2013) and those weights at hand, one command" in told
    short = words(report.summary(paper(), [headline], [], [], [scratch, waiting]))
    assert (
        "1 not attempted (runs of 1 of them start from ImageNet weights, which are not part"
        in short
    )

    assert "from one seed" not in short

    # Recorded, of another result, or from scratch: nothing waits for them.
    for other in (replace(waiting, state="recorded"), replace(waiting, answers=("else",)), scratch):
        assert "ImageNet" not in words(report.summary(paper(), [headline], [], [], [other]))
    assert "weights" not in report.finish(paper(), [scratch]).data


def test_both_counts_of_what_is_open_say_what_they_count(make_record):
    plan = [run("a", state="recorded"), run("b", first=("a",)), run("c", state="recorded")]
    kept = [
        make_record("one-0", correct=1, n=1),
        make_record("two-0", profile="reduced"),
        make_record("three-0", contrast="wrong on purpose"),
        make_record("four-0", profile="reduced", contrast="wrong on purpose"),
    ]
    short = words(report.summary(paper(), [], [], kept, plan))
    told = (
        "1 of 3 runs are not recorded; 1 recorded run is made again, for weights that others start "
        "from: 2 to make, at an expected 2.0 h on one core"
    )
    assert told in short
    assert told in report.finish(paper(), plan).data
    # A chapter counts its full runs; here each kind has its own number.
    assert "4 runs and their training: 1 full (0 min), 1 reduced (0 min), 2 contrast" in short


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
    plan = grid.plan(["yengikand2023"], recorded=(), seeds=(0,))
    published = load_published("yengikand2023")
    for headline in published.headline:
        made = next(made for made in published.cells if made.id == headline)
        what = f"Table II: {made.row}, {made.column}"
        asked = {found.name for found in plan if report.answers(found, what)}
        made_by = grid.plan(["yengikand2023"], table=headline, recorded=(), seeds=(0,))
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
    shorter = "fer2013-official-deep-no_more-seed0-00000003"
    kept += [
        make_record(shorter, profile="reduced", reading="no_more"),
        make_record(shorter.replace("-no_more", ""), profile="reduced", reading="without it"),
    ]
    told = words(report.runs(kept))
    assert "fer2013 official deep full 2 2 2 0 min" in told
    assert "official deep 1e-05 x, wrong on purpose contrast 2 1 1 0 min" in told
    assert "official deep no more reduced 2 1 1 0 min" in told
    assert "official deep, without it reduced 2 1 1 0 min" in told
    assert "all 5 0 min" in told
    assert "No run is recorded" in report.runs([]).data


def test_a_fusion_of_other_seeds_of_the_same_networks_stands_in_the_same_line(make_record):
    def fused(seed):
        members = [f"fer2013-official-{name}-seed{seed}-0000000{seed}" for name in ("one", "two")]
        name = f"fer2013-official-fusion-seed{seed}-0000000{seed}"
        return make_record(name, seed=seed, protocol="official", members=members)

    told = words(report.runs([fused(0), fused(1)]))
    assert "fer2013 official fusion full 2 2 2 0 min" in told


def test_lines_of_one_name_tell_in_what_they_differ(make_record):
    def made(number, data="fer2013", **more):
        name = f"{data}-official-deep-seed{more.get('seed', 0)}-0000000{number}"
        return make_record(name, data=data, protocol="official", **more)

    settings = [{"learning_rate": 0.1}, {"learning_rate": 0.01}, {"learning_rate": 0.1, "pad": 4}]
    kept = [made(number, **fields, seed=number) for number, fields in enumerate(settings)]
    kept += [made(3, "ck48", learning_rate=0.5), made(4, learning_rate=0.5, contrast="wrong")]
    told = words(report.runs(kept))
    assert "deep, learning rate 0.1, pad None full" in told
    assert "deep, learning rate 0.01, pad None full" in told
    assert "deep, learning rate 0.1, pad 4 full" in told
    assert "ck48 official deep full" in told  # nothing else of that set
    assert "deep, wrong contrast" in told


@pytest.mark.parametrize("name", published_papers())
def test_no_two_lines_of_recorded_runs_read_alike(name):
    recorded = records.read_all(name)
    rows = re.findall(r"<tr>(.*?)</tr>", report.runs(recorded).data)
    told = [tuple(re.findall(r"<td[^>]*>(.*?)</td>", row)[:4]) for row in rows[1:]]
    assert len(set(told)) == len(told) >= bool(recorded)


def test_epochs_that_runs_share_count_once_in_the_sum(make_record):
    def trained_for(*hours):
        made = make_record(f"fer2013-official-epochs{len(hours)}-seed0-00000000", epochs=len(hours))
        seconds = [3600.0 * hour for hour in hours]
        told = {"history": {**made.history, "seconds": seconds}}
        return made.model_copy(update=told | {"timings": {"training": sum(seconds)}})

    kept = [trained_for(4, 2), trained_for(4, 2, 8)]  # the second went on from the first
    told = words(report.runs(kept))
    assert "1 1 6.0 h" in told
    assert "1 1 14.0 h" in told
    assert "all 2 14.0 h" in told
    assert "in the sum they count once" in told
    assert "2 full (14.0 h)" in words(report.summary(paper(), [], [], kept, []))
    assert "count once" not in words(report.runs(kept[:1]))


def compute_of(name: str) -> str:
    """The sentence of a chapter on its runs, without the rest of the chapter."""
    cells = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text(encoding="utf8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    body = [line for source in code for line in ast.parse(source).body]
    (call,) = (
        found
        for line in body
        for found in ast.walk(line)
        if isinstance(found, ast.Call) and ast.unparse(found.func) == "display.compute"
    )
    known = {"records": records, "comparison": comparison, "display": display}

    def value(expression: ast.expr):
        for found in ast.walk(expression):
            if isinstance(found, ast.Name) and found.id not in known:
                (told,) = (
                    line.value
                    for line in body
                    if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == found.id
                )
                known[found.id] = value(told)
        return eval(ast.unparse(expression), known)

    return value(call)


@pytest.mark.parametrize("name", published_papers())
def test_chapter_and_report_tell_the_same_runs_and_hours(name, monkeypatch):
    monkeypatch.setattr(report, "duration", lambda seconds: f"{seconds / 3600:.1f} hours")
    recorded = records.latest(records.read_all(name))
    if not recorded:
        pytest.skip("no run is recorded yet")
    told = re.search(r"all (\d+) ([\d.]+) hours", words(report.runs(recorded)))
    count, hours = told.groups()
    runs = "runs" if len(recorded) > 1 else "run"
    assert f" {count} recorded {runs}, {hours} hours of training" in compute_of(name)


# ---- what was used, and how a result is read ----------------------------------------------------


def test_images_are_those_that_the_recorded_runs_used(make_record):
    votes = "ferplus"
    plan = [
        run("a", fields={"dataset": votes}),
        run("b", fields={"dataset": "ck48"}),
        run("c", fields={"dataset": "jaffe"}),
    ]

    def used(name, data, trained_on=None, **changes):
        sizes = {"train": 28559, "val": 3579, "test": 3573} | changes.pop("sizes", {})
        made = make_record(name, data=data, **changes)
        split = made.split.model_copy(update={"sizes": sizes, "trained_on": trained_on})
        return made.model_copy(update={"split": split})

    kept = [
        used("one-0", votes, 28559, protocol="official"),
    ]
    for fold, (train, test, balanced) in enumerate([(705, 198, 600), (708, 195, 620)]):
        by_subject = {"protocol": "subject_kfold", "sizes": {"train": train, "test": test}}
        kept.append(used(f"two-{fold}", "ck48", balanced, fold=fold, **by_subject))
    told = words(report.data(plan, kept))
    assert "train 25,060, val 3,199, test 3,153" in told  # of the manifest
    assert "official: train 28,559, val 3,579, test 3,573" in told
    assert "train 705 to 708 (balanced: 600 to 620), val 3,579, test 195 to 198" in told
    assert "none yet" in told
    assert "the labels yes, the images no" in told  # FER+ is votes on images of FER2013
    assert told.count(" no ") >= 3


@pytest.mark.parametrize("name", published_papers())
def test_the_page_has_the_images_of_every_record(name):
    plan = [run("a", fields={"dataset": data}) for data in dataset_names()]
    told = words(report.data(plan, records.read_all(name)))
    for kept in records.read_all(name):
        for part, images in kept.split.sizes.items():
            # Folds differ by some images; then the ends of the range stand there.
            assert f"{part} {images:,}" in told or kept.parameters.get("fold") is not None
        if kept.split.trained_on not in (None, kept.split.sizes["train"]):
            assert f"(balanced: {kept.split.trained_on:,})" in told


def shown(*names: str, folder: Path) -> list[comparison.Comparison]:
    """The cells of a paper that `judged` has been shown, beside the records in a folder."""
    found = {made.cell.id: made for made in comparison.compare("yengikand2023", folder)}
    return [found[name] for name in names]


def test_equal_reasons_for_a_margin_stand_once(judged, tmp_path):
    judged(paper())
    new, old, third = shown("new", "old", "third", folder=tmp_path)
    cell = third.cell.model_copy(update={"margin_reason": "another"})
    told = words(report.scope([new, old, replace(third, cell=cell)]))
    assert told.count("made") == 1
    assert re.search(r"New, FER2013: 80.0000 .*Old, FER2013: 60.0000 ± 2 made .*another", told)


def test_beside_an_elementwise_accuracy_stands_what_predicting_nothing_reaches(judged, tmp_path):
    fields = {"dataset": "fer2013", "model": "new"}
    also = {"element-wise": fields | {"metric": "elementwise_accuracy"}, "beside it": fields}
    judged(paper(also=also), new=320)
    told = words(display.verdicts(shown("new", folder=tmp_path)))
    assert "element-wise (a network that predicts nothing: 85.7 %) 90.00" in told
    assert "beside it 80.00" in told


def test_a_verdict_on_a_part_that_the_audit_excludes_is_held_against_another_part():
    published = load_published("rahman2021")
    compared = comparison.compare("rahman2021")
    headline = [found for found in compared if found.cell.id in published.headline]
    told = report.other_part(published, headline).data
    assert "cannot all have been measured on PrivateTest" in told
    assert told.count("\n- ") == sum(found.ours is not None for found in headline)
    for found in headline:
        if found.ours:
            on_public = found.also["on PublicTest, which chose the epoch"]
            verdict, reason = comparison.judge(found.cell, on_public)
            assert f"above *{found.verdict}*. On PublicTest, which chose the epoch" in told
            assert f": *{verdict}*, {reason}." in told
    other = load_published("wang2023")  # its part is not known
    compared = [made for made in comparison.compare("wang2023") if made.cell.id in other.headline]
    assert report.other_part(other, compared) is None


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
