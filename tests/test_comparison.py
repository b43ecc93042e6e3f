"""A verdict says where the interval of the difference lies, and two one-sided tests agree."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fer_utils import comparison, records
from fer_utils.comparison import (
    Estimate,
    compare,
    equivalence,
    judge,
    select,
    within_rounding,
)
from fer_utils.manifests import PublishedCell, load_published, published_papers

PAPER = "yengikand2023"


def cell(value=50.0, margin=2.0, unit="percent", metric="accuracy", **fields):
    return PublishedCell(
        id="made",
        row="Our model",
        column="FER2013",
        value=value,
        printed=f"{value:g}",
        unit=unit,
        kind="own",
        metric=metric,
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
    shape = {"convolution": "normal", "channels": 1, "filters": 1}
    shape |= {"outputs": [1, 1], "kernel": [1, 7]}
    count = cell(7.0, 0.0, "multiplications", "multiplications", select=shape)
    assert judge(count, ours(value, value))[0] == verdict


@pytest.mark.parametrize(
    ("value", "margin", "low", "high", "unit"),
    [(0.98, 0.02, 0.97, 1.0, "fraction"), (99.3, 0.7, 99.0, 100.0, "percent")],
)
def test_an_interval_that_ends_on_the_margin_is_inside_whatever_binary_fractions_say(
    value, margin, low, high, unit
):
    assert high - value > margin
    assert judge(cell(value, margin, unit), ours(low, high))[0] == "reproduced"


@pytest.mark.parametrize(
    ("printed", "low", "high", "verdicts"),
    [
        ("40%", 41.0, 42.25, {"inconclusive", "reproduced"}),  # of 40.5, cut off or rounded
        ("40%", 41.0, 42.75, {"inconclusive", "reproduced"}),  # of 41, cut off
        ("40%", 41.0, 43.25, {"inconclusive"}),
        ("40%", 37.75, 41.0, {"inconclusive", "reproduced"}),  # of 39.5, rounded
        ("40%", 37.25, 41.0, {"inconclusive"}),
        ("40.0%", 41.0, 42.25, {"inconclusive"}),  # a tenth as much
        ("40%", 39.0, 40.5, {"reproduced"}),
    ],
)
def test_the_verdicts_on_all_numbers_that_are_printed_alike(printed, low, high, verdicts):
    made = cell(40.0).model_copy(update={"printed": printed})
    assert within_rounding(made, ours(low, high)) == verdicts


def test_the_reason_tells_the_difference_and_the_margin():
    _, reason = judge(cell(), ours(49.0, 51.5))
    assert reason == "the difference is -1.00 to +1.50, the margin 2: inside"
    assert "-1.00 to 0," in judge(cell(), ours(49.0, 50.0))[1]
    fraction = cell(0.5, 0.02, "fraction")
    assert "-0.0100 to +0.0150, the margin 0.02" in judge(fraction, ours(0.49, 0.515))[1]


def test_without_a_run_nothing_was_attempted():
    assert judge(cell(), None) == ("not attempted", "no full run is recorded")


@pytest.mark.parametrize(("low", "high"), [(49.0, 51.0), (90.0, 95.0), (5.0, 10.0)])
def test_a_stale_run_has_no_verdict(low, high):
    assert judge(cell(), ours(low, high, stale=True))[0] == "stale"


# ---- the equivalence test ----------------------------------------------------------------------


def estimated(mean, error, df, unit="percent"):
    """An estimate as `estimates.estimate` makes it."""
    whole, half = (100 if unit == "percent" else 1), stats.t.ppf(0.95, df) * error
    low, high = max(0.0, mean - half), min(whole, mean + half)
    return Estimate(mean, low, high, (mean,), 100, standard_error=error, df=df)


@given(
    value=st.integers(2, 198).map(lambda half: half / 2),
    mean=st.floats(0, 100),
    margin=st.floats(0.1, 10),
    error=st.floats(0.01, 10),
    df=st.sampled_from([1.0, 2.5, 30.0, float("inf")]),
)
def test_reproduced_is_what_two_one_sided_tests_call_equivalent(value, mean, margin, error, df):
    published, found = cell(value, margin), estimated(mean, error, df)
    p_value = equivalence(published, found)
    if abs(p_value - 0.05) > 1e-9:
        assert (judge(published, found)[0] == "reproduced") == (p_value < 0.05)


def test_the_equivalence_test_agrees_with_statsmodels():
    weights = pytest.importorskip("statsmodels.stats.weightstats")
    values = [60.1, 61.9, 60.7]
    sample = weights.DescrStatsW(values)
    expected, _, _ = sample.ttost_mean(58.0, 62.0)
    found = estimated(sample.mean, sample.std_mean, 2)
    assert equivalence(cell(60.0, 2.0), found) == pytest.approx(expected)


def test_an_edge_beyond_what_is_possible_is_not_tested():
    found = estimated(99.0, 1.0, float("inf"))
    assert found.high == 100
    assert judge(cell(99.0, 2.0), found)[0] == "reproduced"
    below = stats.norm.cdf(97.0, 99.0, 1.0)
    assert equivalence(cell(99.0, 2.0), found) == pytest.approx(below)
    assert equivalence(
        cell(0.99, 0.02, "fraction"), estimated(0.99, 0.01, float("inf"), "fraction")
    ) == (pytest.approx(below))


@pytest.mark.parametrize(("unit", "whole"), [("percent", 100), ("fraction", 1)])
def test_an_edge_just_beyond_what_is_possible_is_not_tested(unit, whole):
    """Above, 16 % of the distribution would lie beyond the edge."""
    found = estimated(0.995 * whole, 0.01 * whole, float("inf"), unit)
    published = cell(0.99 * whole, 0.015 * whole, unit)
    assert equivalence(published, found) == pytest.approx(stats.norm.cdf(-2.0))


@pytest.mark.parametrize(("value", "mean"), [(2.0, 1.5), (98.0, 98.5)])
def test_an_edge_at_what_is_just_possible_is_not_tested(value, mean):
    """The margin is 2: only the other edge, 4 points from 0 or 100, can be crossed."""
    found = estimated(mean, 1.0, float("inf"))
    assert equivalence(cell(value, 2.0), found) == pytest.approx(stats.norm.cdf(-2.5))


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
    tried = select(runs, {"dropout": 0.1}, ("full", "trial"))
    assert [run.run for run in tried] == ["wanted", "epochs", "trial"]


def test_a_run_under_a_wrong_protocol_is_found_only_by_its_name(make_record):
    right = make_record("right", epochs=20)
    wrong = make_record("wrong", epochs=20, contrast="epoch chosen on the test part")
    assert [run.run for run in select([right, wrong], {"epochs": 20})] == ["right"]
    named = {"contrast": "epoch chosen on the test part"}
    assert [run.run for run in select([right, wrong], named)] == ["wrong"]


def written(make_record, folder, name, fields, **what):
    records.write(make_record(name, **what, **fields), None, None, folder)


def the_cell(paper, cell_id):
    return next(cell for cell in load_published(paper).cells if cell.id == cell_id)


def test_a_cell_is_judged_by_the_runs_it_selects_and_shows_others_beside(make_record, tmp_path):
    published = the_cell(PAPER, "table2-ours-fer2013")
    label, other_fields = next(iter(published.also.items()))
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
    assert judged.p_value == equivalence(published, judged.ours) < 0.05
    assert judged.ours.mean == pytest.approx((right + 1) / 1000)
    assert (judged.paper, judged.table) == (PAPER, "Table II")
    assert judged.also[label].runs == ("b-0",)
    assert judged.also[label].mean == 25
    assert found["table2-ours-ckplus"].verdict == "not attempted"
    assert found["table2-ours-ckplus"].also == {}
    assert found["table2-ours-ckplus"].p_value is None


@pytest.mark.parametrize("name", load_published(PAPER).headline)
@pytest.mark.parametrize("other", [{"dropout": 0.9}, {"augmentation": "none"}])
def test_a_verdict_takes_no_run_of_another_recipe(make_record, name, other):
    fields = the_cell(PAPER, name).select
    runs = [make_record("right", **fields), make_record("wrong", **(fields | other))]
    assert [run.run for run in select(runs, fields)] == ["right"]


def test_a_cell_whose_runs_are_stale_says_so(make_record, tmp_path):
    fields = the_cell(PAPER, "table2-ours-fer2013").select
    written(make_record, tmp_path, "a-0", fields, stale=True)
    found = {entry.cell.id: entry for entry in compare(PAPER, tmp_path)}
    assert found["table2-ours-fer2013"].verdict == "stale"


def shown(monkeypatch, folder, *cells):
    """Comparisons of cells that no paper printed."""
    tables = (SimpleNamespace(id="Table I", cells=cells),)
    monkeypatch.setattr(comparison, "load_published", lambda paper: SimpleNamespace(tables=tables))
    return compare(PAPER, folder)


def test_a_reduced_run_is_shown_beside_and_never_judged(make_record, tmp_path, monkeypatch):
    written(make_record, tmp_path, "a-0", {"epochs": 5}, profile="reduced")
    published = cell(select={"epochs": 5}, also={"5 epochs": {"epochs": 5}})
    (found,) = shown(monkeypatch, tmp_path, published)
    assert (found.ours, found.verdict) == (None, "not attempted")
    assert found.also["5 epochs"].runs == ("a-0",)


def test_a_part_that_no_run_has_scores_of_is_named_with_its_cell(
    make_record, tmp_path, monkeypatch
):
    written(make_record, tmp_path, "a-0", {"epochs": 5})
    published = cell(select={"epochs": 5}, also={"majority": {"part": "test_majorty"}})
    told = "made asks for the part 'test_majorty'; a-0 has scores of val, test"
    with pytest.raises(records.RecordError, match=told):
        shown(monkeypatch, tmp_path, published)


def test_what_stands_beside_may_be_another_figure_of_another_part(
    make_record, tmp_path, monkeypatch
):
    written(make_record, tmp_path, "a-0", {"epochs": 5}, matrix=[[30, 10], [5, 15]])
    published = cell(
        select={"epochs": 5},
        also={
            "element by element": {"epochs": 5, "metric": "elementwise_accuracy", "part": "val"},
            "of anger": {"metric": "recall", "expression": "anger"},
        },
    )
    (found,) = shown(monkeypatch, tmp_path, published)
    assert found.ours.mean == 75
    assert found.also["element by element"].mean == 87.5
    assert found.also["of anger"].mean == 75.0
    assert found.also["of anger"].n_test == 40


def test_a_cell_that_cannot_be_compared_says_why(make_record, tmp_path, monkeypatch):
    written(make_record, tmp_path, "a-0", {"epochs": 20})
    published = cell(select={"epochs": 20}, not_comparable="it is on a part that is not public")
    (found,) = shown(monkeypatch, tmp_path, published)
    assert (found.ours, found.verdict) == (None, "not comparable")
    assert found.reason == "it is on a part that is not public"


# ---- what the papers printed -------------------------------------------------------------------


@pytest.mark.parametrize("paper", published_papers())
def test_every_own_cell_with_a_margin_gets_a_verdict_and_no_other_does(paper, tmp_path):
    found = compare(paper, tmp_path)
    assert [entry.cell for entry in found] == list(load_published(paper).cells)
    for entry in found:
        published = entry.cell
        tested = published.margin is not None or published.not_comparable is not None
        assert (entry.verdict is not None) == tested
        assert entry.reason
        assert published in next(
            t.cells for t in load_published(paper).tables if t.id == entry.table
        )
        if published.kind == "cited":
            assert entry.reason == "cited from elsewhere"
    assert any(entry.verdict for entry in found)


@pytest.mark.parametrize("paper", published_papers())
def test_every_own_result_chooses_its_runs(paper):
    for published in load_published(paper).cells:
        if published.margin is not None:
            assert published.margin_reason, published.id
            assert published.select, f"{published.id} would take any run of the paper"


def test_an_own_cell_without_a_margin_is_shown_and_not_judged(make_record, tmp_path, monkeypatch):
    written(make_record, tmp_path, "a-0", {"epochs": 20})
    (found,) = shown(monkeypatch, tmp_path, cell(margin=None, select={"epochs": 20}))
    assert (found.ours, found.verdict) == (None, None)
    assert found.reason == "no margin: not a result to test"


def test_the_multiplications_of_section_iii_are_reproduced_without_a_run(tmp_path):
    counted = [entry for entry in compare(PAPER, tmp_path) if entry.table == "Section III"]
    assert {entry.ours.n_test for entry in counted} == {0}  # no image is behind them
    assert {entry.cell.id: (entry.ours.mean, entry.verdict) for entry in counted} == {
        "section3-normal": (1_228_800, "reproduced"),
        "section3-depthwise": (4_800, "reproduced"),
        "section3-pointwise": (49_152, "reproduced"),
        "section3-separable": (53_952, "reproduced"),
    }


def test_comparisons_of_all_papers_are_ready_for_json(make_record, tmp_path):
    fields = the_cell(PAPER, "table2-ours-fer2013").select
    written(make_record, tmp_path, "a-0", fields)
    found = [entry for paper in published_papers() for entry in compare(paper, tmp_path)]
    assert list(dict.fromkeys(entry.paper for entry in found)) == list(published_papers())
    plain = json.loads(json.dumps([entry.as_dict() for entry in found]))
    judged = next(entry for entry in plain if entry["cell"]["id"] == "table2-ours-fer2013")
    assert judged["ours"]["mean"] == 75
    assert judged["verdict"]
