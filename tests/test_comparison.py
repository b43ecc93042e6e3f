"""A verdict says where the interval of the difference lies; estimates are sums done twice."""

import json
from math import sqrt
from types import SimpleNamespace

import pytest
from scipy import stats

from fer_utils import comparison, records
from fer_utils.comparison import (
    Estimate,
    compare,
    compare_all,
    estimate,
    judge,
    select,
)
from fer_utils.manifests import PublishedCell, load_published, published_papers

PAPER = "yengikand2023"


def cell(value=50.0, margin=2.0, unit="percent", **fields):
    return PublishedCell(
        id="made",
        row="Our model",
        column="FER2013",
        value=value,
        printed=f"{value:g}",
        unit=unit,
        kind="own",
        metric="accuracy",
        margin=margin,
        **fields,
    )


def ours(low, high, **fields):
    return Estimate((low + high) / 2, low, high, ((low + high) / 2,), 100, **fields)


# ---- verdicts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        # inside 48 to 52, the edges included
        (49.0, 51.0, "reproduced"),
        (50.0, 50.0, "reproduced"),
        (48.0, 49.0, "reproduced"),
        (51.0, 52.0, "reproduced"),
        (48.0, 52.0, "reproduced"),
        (48.0, 48.0, "reproduced"),
        (52.0, 52.0, "reproduced"),
        # all above, all below
        (52.125, 53.0, "exceeded"),
        (90.0, 95.0, "exceeded"),
        (47.0, 47.875, "not reproduced"),
        (5.0, 10.0, "not reproduced"),
        # across an edge, or touching one from outside
        (51.0, 52.125, "inconclusive"),
        (52.0, 53.0, "inconclusive"),
        (47.875, 49.0, "inconclusive"),
        (47.0, 48.0, "inconclusive"),
        (47.875, 52.125, "inconclusive"),
        (48.0, 52.125, "inconclusive"),
        (47.875, 52.0, "inconclusive"),
        (0.0, 100.0, "inconclusive"),
    ],
)
def test_the_verdict_follows_from_where_the_interval_lies(low, high, verdict):
    assert judge(cell(), ours(low, high))[0] == verdict


@pytest.mark.parametrize(
    ("value", "verdict"), [(7, "reproduced"), (8, "exceeded"), (6, "not reproduced")]
)
def test_a_count_without_a_margin_must_be_equal(value, verdict):
    count = cell(7.0, 0.0, "multiplications")
    assert judge(count, ours(value, value))[0] == verdict


def test_the_reason_tells_the_difference_and_the_margin():
    _, reason = judge(cell(), ours(49.0, 51.5))
    assert reason == "the difference is -1.00 to +1.50, the margin 2: inside"
    assert "-1.00 to 0," in judge(cell(), ours(49.0, 50.0))[1]


def test_without_a_run_nothing_was_attempted():
    assert judge(cell(), None) == ("not attempted", "no full run is recorded")


@pytest.mark.parametrize(("low", "high"), [(49.0, 51.0), (90.0, 95.0), (5.0, 10.0)])
def test_a_stale_run_has_no_verdict(low, high):
    assert judge(cell(), ours(low, high, stale=True))[0] == "stale"


# ---- estimates ---------------------------------------------------------------------------------


def test_one_run_has_the_error_of_its_test_part(make_record):
    found = estimate([make_record("a-1", correct=30, n=40)], "accuracy", "percent")
    half = 100 * 1.6448536 * sqrt(0.75 * 0.25 / 40)
    assert found.mean == 75
    assert (found.low, found.high) == pytest.approx((75 - half, 75 + half))
    assert found.values == (75,)
    assert (found.n_test, found.runs, found.stale) == (40, ("a-1",), False)


def test_seeds_add_their_spread_to_the_error_of_the_test_part(make_record):
    correct = [30, 34, 26]
    runs = [make_record(f"a-{s}", correct=c, seed=s) for s, c in enumerate(correct)]
    found = estimate(runs, "accuracy", "percent")
    spread = sqrt(((0 + 0.1**2 + 0.1**2) / 2) / 3)  # of the mean of .75, .85 and .65
    drawn = sqrt(0.75 * 0.25 / 40)
    half = 100 * sqrt((stats.t(2).ppf(0.95) * spread) ** 2 + (stats.norm.ppf(0.95) * drawn) ** 2)
    assert found.values == pytest.approx((75, 85, 65))
    assert found.mean == pytest.approx(75)
    assert (found.low, found.high) == pytest.approx((75 - half, 75 + half))
    assert found.n_test == 40
    assert found.runs == ("a-0", "a-1", "a-2")


def test_folds_of_one_seed_are_pooled_image_by_image(make_record):
    folds = [(10, 10, 0), (30, 50, 0), (8, 12, 1), (40, 48, 1)]
    runs = [
        make_record(f"a-{k}", correct=correct, n=n, seed=seed)
        for k, (correct, n, seed) in enumerate(folds)
    ]
    found = estimate(runs, "accuracy", "fraction")
    assert found.values == pytest.approx((40 / 60, 48 / 60))  # not the means of the folds
    assert found.mean == pytest.approx(44 / 60)
    assert found.n_test == 60
    drawn = stats.norm.ppf(0.95) * sqrt(44 / 60 * 16 / 60 / 60)
    spread = stats.t(1).ppf(0.95) * (8 / 60) / 2  # half the distance of two values
    assert found.high == pytest.approx(min(1, 44 / 60 + sqrt(drawn**2 + spread**2)))


def test_the_smallest_test_part_counts(make_record):
    runs = [make_record("a-0", n=400, correct=300), make_record("a-1", n=40, correct=30, seed=1)]
    found = estimate(runs, "accuracy", "fraction")
    assert found.n_test == 40
    assert found.high - found.low == pytest.approx(2 * 1.6448536 * sqrt(0.75 * 0.25 / 40))


@pytest.mark.parametrize(("correct", "unit", "limit"), [(4, "percent", 100), (4, "fraction", 1)])
def test_an_interval_stays_within_what_is_possible(make_record, correct, unit, limit):
    runs = [make_record(f"a-{s}", correct=c, n=4, seed=s) for s, c in enumerate((correct, 3))]
    assert estimate(runs, "accuracy", unit).high == limit
    runs = [make_record(f"a-{s}", correct=c, n=4, seed=s) for s, c in enumerate((0, 1))]
    assert estimate(runs, "accuracy", unit).low == 0


def test_percent_is_a_hundred_times_the_fraction(make_record):
    runs = [make_record(f"a-{s}", correct=c, seed=s) for s, c in enumerate((20, 24))]
    percent = estimate(runs, "accuracy", "percent")
    fraction = estimate(runs, "accuracy", "fraction")
    for name in ("mean", "low", "high", "values"):
        scaled = getattr(fraction, name)
        scaled = tuple(100 * v for v in scaled) if name == "values" else 100 * scaled
        assert getattr(percent, name) == pytest.approx(scaled)


def test_one_stale_run_makes_the_estimate_stale(make_record):
    fresh, old = make_record("a-1"), make_record("a-2", seed=1, stale=True)
    assert not estimate([fresh], "accuracy", "percent").stale
    assert estimate([fresh, old], "accuracy", "percent").stale


def test_nothing_is_estimated_without_runs_or_of_another_metric(make_record):
    assert estimate([], "accuracy", "percent") is None
    with pytest.raises(ValueError, match="'macro_f1'"):
        estimate([make_record()], "macro_f1", "percent")


# ---- which runs --------------------------------------------------------------------------------


def test_runs_are_selected_by_all_of_the_parameters_and_only_full_ones(make_record):
    runs = [
        make_record("wanted", dropout=0.1, epochs=20, convolution="depthwise"),
        make_record("dropout", dropout=0.2, epochs=20),
        make_record("epochs", dropout=0.1, epochs=5),
        make_record("neither given"),
        make_record("trial", dropout=0.1, epochs=20, profile="trial"),
        make_record("smoke", dropout=0.1, epochs=20, profile="smoke"),
    ]
    found = select(runs, {"dropout": 0.1, "epochs": 20})
    assert [run.run for run in found] == ["wanted"]
    full = [run.run for run in select(runs, {})]
    assert full == ["wanted", "dropout", "epochs", "neither given"]


def written(make_record, folder, name, fields, **what):
    records.write(make_record(name, **what, **fields), None, None, folder)


def the_cell(paper, cell_id):
    return next(cell for cell in load_published(paper).cells if cell.id == cell_id)


def test_a_cell_is_judged_by_the_runs_it_selects_and_shows_others_beside(make_record, tmp_path):
    published = the_cell(PAPER, "table2-ours-fer2013")
    ((label, other_fields),) = published.also.items()
    right = round(published.value / 100 * 100_000)
    fields = published.select
    for seed in range(3):
        what = {"seed": seed, "correct": right + seed, "n": 100_000}
        written(make_record, tmp_path, f"a-{seed}", fields, **what)
    written(make_record, tmp_path, "b-0", other_fields, correct=1, n=4)
    written(make_record, tmp_path, "c-0", {**fields, "epochs": 1}, correct=0, n=4)
    written(make_record, tmp_path, "d-0", fields, correct=0, n=4, profile="trial")

    found = {entry.cell.id: entry for entry in compare(PAPER, tmp_path)}
    judged = found["table2-ours-fer2013"]
    assert judged.verdict == "reproduced"
    assert judged.ours.runs == ("a-0", "a-1", "a-2")
    assert judged.ours.mean == pytest.approx((right + 1) / 1000)
    assert (judged.paper, judged.table) == (PAPER, "Table II")
    assert judged.also[label].runs == ("b-0",)
    assert judged.also[label].mean == 25
    assert found["table2-ours-ckplus"].verdict == "not attempted"
    assert found["table2-ours-ckplus"].also == {}


def test_a_cell_whose_runs_are_stale_says_so(make_record, tmp_path):
    fields = the_cell(PAPER, "table2-ours-fer2013").select
    written(make_record, tmp_path, "a-0", fields, stale=True)
    found = {entry.cell.id: entry for entry in compare(PAPER, tmp_path)}
    assert found["table2-ours-fer2013"].verdict == "stale"


# ---- what the papers printed -------------------------------------------------------------------


@pytest.mark.parametrize("paper", published_papers())
def test_every_own_cell_with_a_margin_gets_a_verdict_and_no_other_does(paper, tmp_path):
    found = compare(paper, tmp_path)
    assert [entry.cell for entry in found] == list(load_published(paper).cells)
    for entry in found:
        tested = entry.cell.kind == "own" and entry.cell.margin is not None
        assert (entry.verdict is not None) == tested
        assert entry.reason
    assert any(entry.verdict for entry in found)


@pytest.mark.parametrize("paper", published_papers())
def test_every_own_result_chooses_its_runs(paper):
    for published in load_published(paper).cells:
        if published.margin is not None:
            assert published.margin_reason, published.id
            assert published.select, f"{published.id} would take any run of the paper"


def test_an_own_cell_without_a_margin_is_shown_and_not_judged(make_record, tmp_path, monkeypatch):
    bare = cell(margin=None, select={"epochs": 20})
    table = SimpleNamespace(id="Table I", cells=(bare,))
    monkeypatch.setattr(
        comparison, "load_published", lambda paper: SimpleNamespace(tables=(table,))
    )
    written(make_record, tmp_path, "a-0", {"epochs": 20})
    (found,) = compare(PAPER, tmp_path)
    assert (found.ours, found.verdict) == (None, None)
    assert found.reason == "no margin: not a result to test"


def test_the_multiplications_of_section_iii_are_reproduced_without_a_run(tmp_path):
    found = {
        entry.cell.id: (entry.ours.mean, entry.verdict)
        for entry in compare(PAPER, tmp_path)
        if entry.table == "Section III"
    }
    assert found == {
        "section3-normal": (1_228_800, "reproduced"),
        "section3-depthwise": (4_800, "reproduced"),
        "section3-pointwise": (49_152, "reproduced"),
        "section3-separable": (53_952, "reproduced"),
    }


def test_comparisons_of_all_papers_are_ready_for_json(make_record, tmp_path):
    fields = the_cell(PAPER, "table2-ours-fer2013").select
    written(make_record, tmp_path, "a-0", fields)
    found = compare_all(tmp_path)
    assert list(dict.fromkeys(entry.paper for entry in found)) == list(published_papers())
    plain = json.loads(json.dumps([entry.as_dict() for entry in found]))
    judged = next(entry for entry in plain if entry["cell"]["id"] == "table2-ours-fer2013")
    assert judged["ours"]["mean"] == 75
    assert judged["verdict"]
