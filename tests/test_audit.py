"""A clean table raises nothing, planted errors of every kind are found; what the papers show."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_utils import arithmetic, audit
from fer_utils.audit import Passed
from fer_utils.manifests import PublishedPaper, load_manifest, load_published, published_papers

FER2013 = load_manifest("fer2013")
NAMES = FER2013.class_names
SUPPORTS = np.array([FER2013.splits["test"].classes[name] for name in NAMES])
EVERY_KIND = {
    "granularity",
    "counts",
    "accuracy by class",
    "accuracy, recall, precision",
    "confusion matrix",
    "improvement",
    "text and tables",
}


def random_matrix(seed, skill=0.6):
    """A confusion matrix of the private test, rows true."""
    rng = np.random.default_rng(seed)
    rows = []
    for k, support in enumerate(SUPPORTS):
        chances = rng.dirichlet(np.ones(len(SUPPORTS)))
        rows.append(rng.multinomial(support, (1 - skill) * chances + skill * np.eye(7)[k]))
    return np.array(rows)


def cell(name, value, printed, metric, **fields):
    return {
        "id": name,
        "row": name,
        "column": "FER2013",
        "value": value,
        "printed": printed,
        "unit": "percent",
        "kind": "own",
        "metric": metric,
        "dataset": "fer2013",
        **fields,
    }


def percent(name, share, metric, **fields):
    printed = f"{100 * share:.2f}"
    return cell(name, float(printed), printed, metric, **fields)


def model_cells(name, matrix):
    """Everything that a table can print of one model."""
    run = {"select": {"model": name}}
    right, supports = np.diag(matrix), matrix.sum(axis=1)
    recalls = right / supports
    precision = np.mean(right / matrix.sum(axis=0))
    frequent = matrix.argmax(axis=1)
    detected = int(sum(frequent == range(7)))
    word = [c.capitalize() for c in NAMES]
    return [
        percent(f"{name}-accuracy", right.sum() / supports.sum(), "accuracy", **run),
        percent(f"{name}-recall", recalls.mean(), "balanced_accuracy", **run),
        percent(f"{name}-precision", precision, "macro_precision", **run),
        percent(f"{name}-rate", detected / 7, "detection_rate", **run),
        cell(f"{name}-detected", detected, f"{detected} of the seven", "expressions_detected")
        | {"unit": "count"}
        | run,
        *(
            percent(f"{name}-{c}", recalls[k], "recall", expression=c, **run)
            for k, c in enumerate(NAMES)
        ),
        *(
            cell(f"{name}-{c}-word", None, word[frequent[k]], "most_frequent_prediction")
            | {"unit": "expression", "row": word[k]}
            | run
            for k, c in enumerate(NAMES)
        ),
    ]


def clean_paper(seed=0):
    """A paper, as it would be in a file, in which every number fits."""
    best, base = random_matrix(seed, 0.7), random_matrix(seed + 1, 0.5)
    accuracies = [float(f"{100 * np.trace(m) / m.sum():.2f}") for m in (best, base)]
    gain = f"{accuracies[0] - accuracies[1]:.2f}"
    counts = [
        cell(f"images-{name}", n, f"{n:,}", "images") | {"unit": "count", "kind": "cited"}
        for name, n in zip([*NAMES, "all"], [*SUPPORTS.tolist(), 3589], strict=True)
    ]
    named = {name: f"images-{name}" for name in NAMES}
    shares = best / best.sum(axis=1, keepdims=True)
    return {
        "paper": "someone2023",
        "title": "A title",
        "authors": ["Someone"],
        "year": 2023,
        "venue": "A journal",
        "framework": "Keras",
        "tables": [
            {"id": "Table 1", "caption": "Images", "cells": counts},
            {
                "id": "Table 2",
                "caption": "Results",
                "cells": [
                    *model_cells("best", best),
                    *model_cells("base", base),
                    cell("gain", float(gain), gain, "improvement"),
                    cell("cited", 20.0, "20.00", "accuracy", kind="cited"),
                ],
            },
            {
                "id": "Section 4",
                "caption": "The same again",
                "cells": [
                    percent("again", np.trace(best) / best.sum(), "accuracy")
                    | {"select": {"model": "best"}}
                ],
            },
        ],
        "matrices": [
            {
                "id": "figure-1",
                "dataset": "fer2013",
                "unit": "count",
                "expressions": list(NAMES),
                "rows": [[str(number) for number in row] for row in best],
                "accuracy": "best-accuracy",
            },
            {
                "id": "figure-2",
                "dataset": "fer2013",
                "unit": "fraction",
                "expressions": list(NAMES),
                "rows": [[f"{number:.2f}" for number in row] for row in shares],
                "accuracy": "best-accuracy",
            },
        ],
        "claims": [
            {
                "id": "official",
                "says": "the private test",
                "kind": "official counts",
                "dataset": "fer2013",
                "splits": ["test"],
                "counts": named,
                "images": "images-all",
            },
            {
                "id": "sum",
                "says": "in all",
                "kind": "total",
                "parts": list(named.values()),
                "total": "images-all",
            },
            {
                "id": "part",
                "says": "some of them",
                "kind": "at most",
                "smaller": "images-fear",
                "larger": "images-all",
            },
            {
                "id": "twice",
                "says": "said twice",
                "kind": "same number",
                "numbers": ["cited", 20.0],
                "confidence": "certain",
            },
            {
                "id": "better",
                "says": "best is better",
                "kind": "improvement",
                "better": "best-accuracy",
                "base": "base-accuracy",
                "points": "gain",
                "n_test": 3589,
            },
            {
                "id": "highest",
                "says": "state of the art",
                "kind": "highest",
                "best": "best-accuracy",
                "others": ["cited", "base-accuracy"],
            },
            {
                "id": "above",
                "says": "both above 5 %",
                "kind": "all above",
                "results": ["best-accuracy", "base-accuracy"],
                "number": 5,
            },
        ],
    }


def read(raw):
    return PublishedPaper.model_validate(raw)


def at(raw, name):
    """The cell of that name in a raw paper."""
    return next(c for table in raw["tables"] for c in table["cells"] if c["id"] == name)


def claim(raw, name):
    return next(c for c in raw["claims"] if c["id"] == name)


def reprint(raw, name, printed):
    at(raw, name).update(printed=printed, value=float(printed.replace(",", "")))


def words(finding):
    """The result with its details."""
    return " ".join([finding.result, *finding.details])


# ---- clean tables ------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 2))
def test_a_clean_table_raises_nothing(seed):
    paper = read(clean_paper(seed))
    assert audit.audit(paper) == []
    tally = audit.tally(audit.outcomes(paper))
    assert set(tally) == EVERY_KIND  # every kind was put to the test
    assert all(counts["consistent"] for counts in tally.values())
    assert not any(counts["cannot tell"] for counts in tally.values())


def test_numbers_that_everything_fits_are_told_from_numbers_that_fit():
    raw = clean_paper()
    raw["tables"] = [{"id": "Table 9", "caption": "", "cells": [at(raw, "best-accuracy")]}]
    raw["claims"], raw["matrices"] = [], []
    reprint(raw, "best-accuracy", "70")  # 36 of 3,589 counts print so
    assert audit.outcomes(read(raw)) == [
        Passed("someone2023", "granularity", ("best-accuracy",), vacuous=True)
    ]
    reprint(raw, "best-accuracy", "70.00")
    at(raw, "best-accuracy")["dataset"] = None  # of how many images, nobody knows
    (outcome,) = audit.outcomes(read(raw))
    assert outcome.vacuous
    assert audit.tally([outcome]) == {
        "granularity": {"consistent": 0, "cannot tell": 1, "findings": 0}
    }


# ---- planted errors ----------------------------------------------------------------------------


def impossible_count(raw):
    for name in ("best-accuracy", "again"):  # 0.005 points from a count of 3,589 on both sides
        k = round(at(raw, name)["value"] * 35.89)
        between = (k + 0.5) / 35.89
        reprint(raw, name, f"{between:.2f}")


def other_accuracy(raw):
    for name in ("best-accuracy", "again"):
        k = round(at(raw, name)["value"] * 35.89) + 60
        reprint(raw, name, f"{k / 35.89:.2f}")


def recall_that_is_no_count(raw):
    reprint(raw, "best-disgust", "59")  # neither 32 nor 33 of 55


def low_recall(raw):
    reprint(raw, "best-recall", "30.00")
    reprint(raw, "best-precision", "30.00")


def wrong_row(raw):
    row = raw["matrices"][0]["rows"][0]
    row[1] = str(int(row[1]) + 1)


def wrong_diagonal(raw):
    rows = raw["matrices"][0]["rows"]
    rows[3][3], rows[3][4] = str(int(rows[3][3]) - 100), str(int(rows[3][4]) + 100)


def row_over_one(raw):
    row = raw["matrices"][1]["rows"][2]
    row[0] = f"{float(row[0]) + 0.2:.2f}"


def diagonal_of_another_run(raw):
    row = raw["matrices"][1]["rows"][3]
    row[3], row[4] = f"{float(row[3]) - 0.3:.2f}", f"{float(row[4]) + 0.3:.2f}"


PLANTED = {
    "an accuracy that is no count": (impossible_count, "granularity", "3,589"),
    "an accuracy that recalls do not allow": (other_accuracy, "accuracy by class", "PrivateTest"),
    "a recall that is no count": (
        recall_that_is_no_count,
        "accuracy by class",
        "59 % of 55 images of disgust is no whole number",
    ),
    "a recall and precision too low for the accuracy": (
        low_recall,
        "accuracy, recall, precision",
        "30.00",
    ),
    "a class count": (lambda raw: reprint(raw, "images-fear", "582"), "counts", "fear"),
    "a total": (lambda raw: reprint(raw, "images-all", "3,600"), "counts", "-11"),
    "a part above its whole": (
        lambda raw: claim(raw, "part").update(smaller=4000),
        "counts",
        "4,000 are said to be some of 3,589",
    ),
    "a matrix row": (wrong_row, "confusion matrix", "anger 492 for 491"),
    "a matrix diagonal": (wrong_diagonal, "confusion matrix", "is printed"),
    "a matrix row over one": (row_over_one, "confusion matrix", "the row of fear adds up to"),
    "a matrix of another run": (diagonal_of_another_run, "confusion matrix", "no part gives"),
    "an improvement": (
        lambda raw: reprint(raw, "gain", f"{at(raw, 'gain')['value'] + 1:.2f}"),
        "improvement",
        "points",
    ),
    "a result with two values": (
        lambda raw: reprint(raw, "again", f"{at(raw, 'again')['value'] - 1:.2f}"),
        "text and tables",
        "in Section 4",
    ),
    "a result that is not above what is said": (
        lambda raw: claim(raw, "above").update(number=at(raw, "base-accuracy")["value"]),
        "text and tables",
        "Not above it: ",
    ),
    "a rate that is not the count": (
        lambda raw: at(raw, "best-detected").update(value=3),
        "text and tables",
        "of 7",
    ),
    "a word that is not the count": (
        lambda raw: at(raw, "best-happiness-word").update(printed="Sadness"),
        "text and tables",
        "Words in the table",
    ),
    "a number cited in two ways": (
        lambda raw: claim(raw, "twice").update(numbers=["cited", 21.0]),
        "text and tables",
        "20.00 (Table 2, cited) and 21",
    ),
    "a highest value that is not": (
        lambda raw: reprint(raw, "cited", "99.00"),
        "text and tables",
        "cited: 99.00",
    ),
}


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_found(name, seed):
    plant, kind, told = PLANTED[name]
    raw = clean_paper(seed)
    plant(raw)
    found = [finding for finding in audit.audit(read(raw)) if finding.kind == kind]
    assert found
    assert any(told in words(finding) for finding in found), [words(f) for f in found]


def test_errors_of_every_kind_are_planted():
    assert {kind for _, kind, _ in PLANTED.values()} == EVERY_KIND


def test_a_difference_of_few_images_is_not_told_from_chance():
    raw = clean_paper()
    k = round(at(raw, "best-accuracy")["value"] * 35.89)
    for fewer, sure in ((3, "certain"), (20, "likely")):
        reprint(raw, "base-accuracy", f"{(k - fewer) / 35.89:.2f}")
        claim(raw, "better")["points"] = None
        (found,) = [f for f in audit.audit(read(raw)) if f.kind == "improvement"]
        assert f"{fewer} images" in words(found)
        assert found.confidence == sure  # 20 may be more than chance on the same images


# ---- single checks -----------------------------------------------------------------------------


def small(*cells, **fields):
    raw = clean_paper()
    raw["tables"] = [{"id": "Table 9", "caption": "", "cells": list(cells)}]
    return read(raw | {"claims": [], "matrices": []} | fields)


def test_the_size_of_an_unknown_split_is_found():
    counts = (97, 95, 96, 90, 88)  # of 98, a tenth of the 981 images of CK+48
    paper = small(
        *(percent(f"m{k}", k / 98, "accuracy") | {"dataset": "ck48"} for k in counts),
    )
    (found,) = audit.audit(paper)
    assert "counts of 98 images (10 % of CK+48 or " in found.result
    assert ": 97, 96, 95, 90, 88 right" in found.result
    assert "No smaller number of images would do" in found.result
    assert found.means == "The accuracies are shares of 98 images."
    assert found.confidence == "certain"


def test_cut_off_digits_are_recognised():
    cut = [f"{int(1e4 * k / 3589) / 100:.2f}" for k in (2000, 2001, 2002, 2003, 2004, 2007)]
    (found,) = audit.audit(
        small(*(cell(f"m{k}", float(p), p, "accuracy") for k, p in enumerate(cut)))
    )
    assert found.result.startswith("Cut off after the printed digits, all 6 are counts of 3,589")
    assert "further digits cut off" in found.means


def test_a_chance_fit_is_not_called_proof():
    (found,) = audit.audit(small(cell("m", 65.32, "65.32", "accuracy")))  # 7,178 fits, 3,589 not
    assert found.confidence == "likely"  # one figure alone may be a slip of the pen
    assert "7,178" in found.result
    assert found.details == ("3,589 images, PublicTest or PrivateTest of FER2013",)
    assert found.means.startswith("On no excluded set")


@pytest.mark.parametrize("right", [1503, 1600, 2388])
def test_one_cut_off_figure_that_a_set_fits_is_no_finding(right):
    """It was called of other images, for certain."""
    printed = f"{int(1e4 * right / 3589) / 100:.2f}"
    (outcome,) = audit.outcomes(small(cell("m", float(printed), printed, "accuracy")))
    assert isinstance(outcome, Passed)


@pytest.mark.parametrize("printed", ["93.123456", "93.1234567", "93.12345678901234"])
def test_numbers_of_many_digits_are_tried_on_sets_of_a_size_that_there_is(printed):
    other = cell("n", 91.876543, "91.876543", "accuracy")
    (found,) = audit.audit(small(cell("m", float(printed), printed, "accuracy"), other))
    assert found.kind == "granularity"


@pytest.mark.parametrize("right", [2388, 2389, 2390])
def test_a_fraction_as_a_program_prints_it_is_a_count(right):
    """With 16 decimals its products passed 64 bits, and no number was a count."""
    value = right / 3589
    (outcome,) = audit.outcomes(
        small(cell("m", value, repr(value), "accuracy") | {"unit": "fraction"})
    )
    assert isinstance(outcome, Passed)


@pytest.mark.parametrize("name", ["ck48", "jaffe"])
def test_a_split_of_a_set_without_official_parts_is_not_held_against_all_of_it(name):
    manifest = load_manifest(name)
    (whole,) = manifest.splits.values()
    names = [c for c in manifest.class_names if whole.classes.get(c)]
    drawn = np.random.default_rng(0).multivariate_hypergeometric(
        [whole.classes[c] for c in names], whole.count // 5
    )
    right = (drawn * np.linspace(0.5, 0.9, len(names))).astype(int)
    fields = {"dataset": name, "select": {"model": "m"}}
    cells = [percent(c, right[k] / drawn[k], "recall", expression=c) for k, c in enumerate(names)]
    cells.append(percent("m", right.sum() / drawn.sum(), "accuracy"))
    matrix = np.diag(right) + np.roll(np.diag(drawn - right), 1, axis=1)
    printed = {"id": "all", "dataset": name, "expressions": names, "unit": "count"}
    printed |= {"rows": matrix.astype(str).tolist(), "accuracy": "m"}
    paper = small(*(c | fields for c in cells), matrices=[printed])
    found = {type(o): o for o in audit.outcomes(paper) if o.kind != "granularity"}
    assert set(found) == {Passed}


def test_expressions_are_counted_as_far_as_a_set_shows_them():
    """CK+ has seven besides neutral, which no labelled image of it shows."""
    fields = {"dataset": "ckplus", "select": {"model": "m"}}
    rate = percent("rate", 5 / 7, "detection_rate") | fields
    said = cell("said", 5, "five", "expressions_detected") | fields | {"unit": "count"}
    assert audit.audit(small(rate, said)) == []
    names = load_manifest("ckplus").class_names
    for shown in (names, [c for c in names if c != "neutral"]):
        recalls = [percent(c, 0.5, "recall", expression=c) | fields for c in shown]
        accuracy = percent("m", 0.5, "accuracy") | fields
        kinds = {outcome.kind for outcome in audit.outcomes(small(*recalls, accuracy))}
        assert "accuracy by class" in kinds


@pytest.mark.parametrize("better", ["69.02", "60.02"])
def test_a_better_result_below_the_other_is_found_however_far(better):
    raw = clean_paper()
    claim(raw, "better")["points"] = None
    reprint(raw, "base-accuracy", "70.02")
    for name in ("best-accuracy", "again"):
        reprint(raw, name, better)
    found = [f for f in audit.audit(read(raw)) if f.kind == "improvement"]
    assert [f.result for f in found] == [f"{better} % is printed for it, 70.02 % for the other."]
    assert found[0].confidence == "certain"


@pytest.mark.parametrize("first", range(3))
def test_one_result_in_several_places_is_compared_with_each(first):
    """65 fits 65.4 and 64.6; these do not fit each other."""
    printed = np.roll(["65", "65.4", "64.6"], first)
    fields = {"select": {"model": "m"}}
    cells = [cell(f"m{k}", float(p), p, "accuracy") | fields for k, p in enumerate(printed)]
    assert "text and tables" in {found.kind for found in audit.audit(small(*cells))}


@pytest.mark.parametrize(("row", "fits"), [("97 2 2 0 0 0 0", True), ("97 3 3 0 0 0 0", False)])
def test_a_share_of_zero_cannot_have_been_less(row, fits):
    rows = [["0"] * 7 for _ in NAMES]
    for k in range(7):
        rows[k][k] = "100"
    rows[0] = row.split()
    printed = {"id": "all", "dataset": "fer2013", "expressions": NAMES}
    printed |= {"unit": "percent", "rows": rows}
    found = audit.audit(small(cell("m", 70.0, "70", "accuracy"), matrices=[printed]))
    assert ("confusion matrix" not in {one.kind for one in found}) == fits


def test_large_numbers_are_told_with_all_their_digits():
    count = {"unit": "count", "kind": "own"}
    cells = [
        cell(name, value, str(value), "images") | count
        for name, value in (("a", 1234567), ("b", 1000000), ("all", 2234568))
    ]
    total = {"id": "sum", "says": "All", "kind": "total", "parts": ["a", "b"], "total": "all"}
    (found,) = audit.audit(small(*cells, claims=[total]))
    assert found.result == "They add up to 2,234,567: a difference of -1."


def test_an_accuracy_that_is_too_low_for_its_recall_is_told_the_least():
    raw = clean_paper()
    for name, printed in (("best-recall", "80.00"), ("best-precision", "80.00")):
        reprint(raw, name, printed)
    for name in ("best-accuracy", "again"):
        reprint(raw, name, "20.00")
    found = [f for f in audit.audit(read(raw)) if f.kind == "accuracy, recall, precision"]
    assert "leaves at least" in words(found[0])


def test_the_named_part_is_what_counts():
    """Measured on PublicTest, a table fits if it says so and is found out if it does not."""
    raw = clean_paper()
    public = np.array([FER2013.splits["val"].classes[name] for name in NAMES])
    right = (public * np.linspace(0.3, 0.9, 7)).astype(int)
    matrix = np.diag(right) + np.roll(np.diag(public - right), 1, axis=1)
    cells = [c for c in model_cells("m", matrix) if c["metric"] in ("accuracy", "recall")]
    raw = raw | {"claims": [], "matrices": []}
    raw["tables"] = [{"id": "Table 9", "caption": "", "cells": cells}]
    said = copy.deepcopy(raw)
    for one in said["tables"][0]["cells"]:
        one["part"] = "val"
    assert audit.audit(read(said)) == []
    (found,) = audit.audit(read(raw))
    assert found.kind == "accuracy by class"
    assert "PublicTest can give all 1 with recalls rounded half up or rounded half" in found.result
    assert found.means.startswith("The tables cannot all have been measured on PrivateTest")
    assert found.does_not_mean.startswith("That they were measured on PublicTest: other images")


def test_a_random_split_is_tried_on_the_whole_set():
    whole = np.sum([[part.classes[c] for c in NAMES] for part in FER2013.splits.values()], axis=0)
    fields = {"dataset": "fer2013", "select": {"model": "m"}}
    right = (whole * np.linspace(0.3, 0.9, 7)).astype(int)
    cells = [percent(c, right[k] / whole[k], "recall", expression=c) for k, c in enumerate(NAMES)]
    cells.append(percent("m", right.sum() / whole.sum(), "accuracy"))
    columns = audit.columns(small(*(c | fields for c in cells)))
    assert audit.share_of_draws(columns, int(whole.sum()), 3) == 1  # every draw is the set itself
    assert audit.share_of_draws(columns, 100, 3) == 0  # too few for recalls with two decimals


def test_recalls_on_images_of_no_data_set_are_passed_over():
    fields = {"dataset": None, "select": {"model": "m"}}
    cells = [percent(c, 0.5, "recall", expression=c) | fields for c in NAMES]
    assert audit.columns(small(*cells, percent("m", 0.5, "accuracy") | fields)) == []


def test_percentages_may_miss_their_total_by_what_rounding_allows():
    thirds = [cell(f"third-{k}", 33.3, "33.3", "share") for k in range(3)]
    claims = [
        {
            "id": "sum",
            "says": "in all",
            "kind": "total",
            "parts": [f"third-{k}" for k in range(3)],
            "total": total,
        }
        for total in (100.0,)
    ]
    assert audit.audit(small(*thirds, claims=claims)) == []
    claims[0]["total"] = 101.0
    (found,) = audit.audit(small(*thirds, claims=claims))
    assert found.kind == "counts"


@pytest.mark.parametrize(
    ("gain", "findings"),
    [("3.59", 0), ("3.60", 0), ("3.6", 0), ("3.61", 1), ("3.57", 1)],  # 99.32 less 95.73 are 3.59
)
def test_a_difference_may_have_been_taken_before_both_results_were_rounded(gain, findings):
    """99.324 less 95.726 are 3.598: each is printed rounded, and nothing is misprinted."""
    cells = [
        cell("new", 99.32, "99.32", "accuracy"),
        cell("old", 95.73, "95.73", "accuracy"),
        cell("gain", float(gain), gain, "improvement"),
    ]
    better = {"id": "better", "says": "better", "kind": "improvement", "better": "new"}
    better |= {"base": "old", "points": "gain"}
    found = audit.audit(small(*cells, claims=[better]))
    assert [one.kind for one in found if one.kind != "granularity"] == ["improvement"] * findings


@pytest.mark.parametrize(
    ("unit", "parts", "total", "findings"),
    [
        ("percent", ("33.33", "33.33"), "67", 0),  # a total of fewer digits than its parts
        ("percent", ("33.33", "33.33"), "68", 1),
        ("percent", ("33.33", "33.33"), 67.0, 1),  # a number that is no cell is exact
        ("fraction", ("0.33", "0.33"), "0.67", 0),
        ("fraction", ("0.33", "0.33"), "0.69", 1),
        ("count", ("33", "33"), "67", 1),
    ],
)
def test_parts_and_their_total_may_all_be_rounded(unit, parts, total, findings):
    metric = "images" if unit == "count" else "share"
    cells = [
        cell(f"part-{k}", float(part), part, metric, unit=unit) for k, part in enumerate(parts)
    ]
    if isinstance(total, str):
        cells.append(cell("whole", float(total), total, metric, unit=unit))
        total = "whole"
    summed = {"id": "sum", "says": "in all", "kind": "total", "parts": ["part-0", "part-1"]}
    found = audit.audit(small(*cells, claims=[summed | {"total": total}]))
    assert [finding.kind for finding in found] == ["counts"] * findings


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (1, "1 result is called better than another."),
        (2, "2 results are called better than others."),
    ],
)
def test_one_result_is_called_better_and_not_one_results(number, told):
    cells = [cell("new", 70.0, "70.00", "accuracy"), cell("old", 69.0, "69.00", "accuracy")]
    better = {"says": "better", "kind": "improvement", "better": "new", "base": "old"}
    claims = [better | {"id": f"better-{k}", "n_test": 100} for k in range(number)]
    found = audit.audit(small(*cells, claims=claims))
    assert [one.claim for one in found if one.kind == "improvement"] == [told]


def test_a_dropped_digit_is_called_a_probable_misprint():
    raw = clean_paper()
    reprint(raw, "images-neutral", "126")  # 626
    found = [f for f in audit.audit(read(raw)) if f.cells[0] == "official"]
    assert found[0].result == ("7 of 8 are. One digit differs: neutral.")
    assert found[0].details == ("neutral: 126 printed, 626 official",)
    assert found[0].means == "Probably a misprint."


def test_counts_of_another_part_are_recognised():
    raw = clean_paper()
    claim(raw, "official")["splits"] = ["val"]
    (found,) = audit.audit(read(raw))
    assert "All 8 are the counts of PrivateTest." in found.result


def test_elementwise_accuracy_is_recognised_beside_its_recall_and_precision():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(7), SUPPORTS)
    cells = []
    for sharpness in (2.0, 3.0):
        logits = sharpness * (rng.normal(size=(3589, 7)) + 1.2 * np.eye(7)[labels])
        above = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) > 0.5
        truth = np.eye(7, dtype=bool)[labels]
        run = {"select": {"model": sharpness}}
        both = (above & truth).sum()
        name = f"m{sharpness:.0f}"
        cells += [
            percent(f"{name}-accuracy", np.mean(above == truth), "accuracy", **run),
            percent(f"{name}-recall", both / 3589, "balanced_accuracy", **run),
            percent(f"{name}-precision", both / above.sum(), "macro_precision", **run),
        ]
    paper = small(*cells)
    impossible, elementwise = [
        f for f in audit.audit(paper) if f.kind == "accuracy, recall, precision"
    ]
    assert impossible.confidence == "certain"
    assert elementwise.confidence == "likely"
    assert "2 of 2 rows agree" in elementwise.result
    for trio in audit.trios(paper):
        low, high = trio.elementwise
        assert low <= trio.accuracy.bounds[1]
        assert high >= trio.accuracy.bounds[0]


# ---- the four papers ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", published_papers())
def test_findings_are_complete_and_name_what_is_on_file(name):
    paper = load_published(name)
    known = {c.id for c in paper.cells} | {c.id for c in (*paper.claims, *paper.matrices)}
    found = audit.audit(paper)
    assert json.loads(json.dumps([finding.as_dict() for finding in found]))
    for finding in found:
        assert finding.paper == name
        assert set(finding.cells) <= known
        told = (finding.claim, finding.test, finding.result, finding.means, finding.does_not_mean)
        assert all(text[0].isupper() or text[0] in "\"'0123456789" for text in told), told
        assert all(text.endswith((".", "?")) for text in told[1:]), told
        assert all(not detail.endswith(".") for detail in finding.details)
    outcomes = audit.outcomes(paper)
    tally = audit.tally(outcomes)
    assert sum(sum(counts.values()) for counts in tally.values()) == len(outcomes)
    assert sum(counts["findings"] for counts in tally.values()) == len(found)


def findings_of(name, kind):
    return [finding for finding in audit.audit(load_published(name)) if finding.kind == kind]


def test_wang2023_is_on_147_images_of_ck48():
    (found,) = [f for f in findings_of("wang2023", "granularity") if "CK+48" in f.result]
    assert "147 images (15 % of CK+48): 146, 145, 144, 143, 140, 134, 133, 132" in found.result
    assert "No smaller number" in found.result
    assert found.confidence == "certain"


def test_wang2023_has_ferplus_figures_that_are_no_counts_of_its_test_images():
    (found,) = [f for f in findings_of("wang2023", "granularity") if "FER+" in words(f)]
    assert "3,589 images, PublicTest or PrivateTest of FER2013: fits 3 of 8" in found.details


def test_wang2023_ablation_on_ckplus_spans_three_images():
    (found,) = [f for f in findings_of("wang2023", "improvement") if "if both are on 147" in f.test]
    assert "99.32 against 97.28 %, 3 images" in words(found)
    recomputed = [
        o for o in audit.outcomes(load_published("wang2023")) if o.cells[0].startswith("gain-")
    ]
    assert sum(isinstance(o, Passed) for o in recomputed) == 10  # all ten differences are right


def test_rahman2021_is_not_on_the_private_test():
    (found,) = [
        f for f in findings_of("rahman2021", "accuracy by class") if f.confidence == "certain"
    ]
    assert found.result == (
        "PublicTest can give all 9 with recalls rounded half to even. "
        "PublicTest + PrivateTest can give all 9 with recalls rounded half up or "
        "rounded half to even. "
        "PrivateTest is excluded by at least 2 of 9 under each rule."
    )
    assert [detail.split(" images")[0].split(": ")[1] for detail in found.details] == [
        "12 % of 55",
        "59 % of 55",
    ]
    assert "A recall printed without a number, in 2 of the models, may be any." in found.test
    assert "PublicTest" not in found.means, "likely at most"
    assert "such as a random split, may fit" in found.does_not_mean


def test_how_rahman2021_is_not_on_the_private_test():
    """What the page says of rules, NULL and random splits, counted again."""
    columns = [c for c in audit.columns(load_published("rahman2021")) if str(c.printed) != "56.48"]
    parts = audit.candidate_parts("fer2013")

    def excluded(label, columns=columns):
        return [
            sum(bool(c.excluded_by(parts[label], rule)) for c in columns)
            for rule in ("half up", "half even", "cut off")
        ]

    assert len(columns) == 9
    assert excluded("PublicTest") == [2, 0, 9]
    assert excluded("PrivateTest") == [2, 2, 5]
    assert excluded("PublicTest + PrivateTest") == [0, 0, 2]
    alone = [c.label for c in columns if excluded("PrivateTest", [c]) == [1, 1, 1]]
    assert alone == ["Table 5.3, 300 Epochs"]  # a rule for each model, and one still does not fit
    as_zero = [
        dataclasses.replace(
            c,
            recalls={
                name: share or arithmetic.Printed(0, 100) for name, share in c.recalls.items()
            },
        )
        for c in columns
    ]
    assert excluded("PrivateTest", as_zero) == [4, 4, 5]
    assert audit.share_of_draws(columns, 3589, 200) < 0.1
    assert audit.share_of_draws(columns, 7178, 200) > 0.5  # "most random splits"


def test_rahman2021_cuts_digits_off_also_in_its_detection_rates():
    (found,) = findings_of("rahman2021", "granularity")
    assert "Cut off after the printed digits, all 8 are counts of 3,589" in found.result
    rates = [c for c in load_published("rahman2021").cells if c.metric == "detection_rate"]
    by_rule = {
        rule: all(bool(arithmetic.is_share(audit.figure(c), 7, rule)) for c in rates)
        for rule in arithmetic.RULES
    }
    assert by_rule == {"half up": False, "half even": False, "cut off": True}


def test_rahman2021_prints_one_accuracy_in_two_ways_and_the_rarer_one_is_impossible():
    found = [f for f in findings_of("rahman2021", "text and tables") if "56.48" in f.result]
    assert len(found) == 1
    assert "57.48 can be a count and 56.48 cannot" in found[0].result
    assert any("56.48" in f.claim for f in findings_of("rahman2021", "accuracy by class"))


def test_rahman2021_has_a_rate_that_its_words_contradict():
    (found,) = [f for f in findings_of("rahman2021", "text and tables") if "85.71" in f.result]
    assert found.result == (
        "Words in the table: 5 of 7; 85.71% (Table 5.1): 6 of 7; "
        '"five of the seven" (Section 5.1): 5 of 7.'
    )


def test_nouisser2023_accuracy_is_not_top1_of_its_recall():
    impossible, elementwise = findings_of("nouisser2023", "accuracy, recall, precision")
    assert impossible.confidence == "certain"
    assert impossible.result == "Not in 2 of 3 rows."
    assert impossible.details[-1] == "MobileNet: possible"
    assert elementwise.confidence == "weak"
    assert "1 of 2 rows agree" in elementwise.result
    assert "3 of 3 are possible" in elementwise.result
    counts, total = findings_of("nouisser2023", "counts")
    assert counts.details == ("neutral: 1,965 printed, 4,965 official",)
    assert counts.result.startswith("6 of 7 are.")
    assert "-3,000" in total.result


def test_yengikand2023_counts_more_labelled_videos_than_there_are():
    labelled, jaffe = findings_of("yengikand2023", "counts")
    assert labelled.result == "1,000 are said to be some of 593."
    assert jaffe.details == ("images: 219 printed, 213 official",)


def test_yengikand2023_accuracies_are_no_counts_of_the_usual_parts():
    fer2013, ckplus, jaffe = findings_of("yengikand2023", "granularity")
    assert "it is a count of 7,178" in fer2013.result
    assert fer2013.details == ("3,589 images, PublicTest or PrivateTest of FER2013",)
    assert "981 images, all of CK+48" in ckplus.details
    assert "213 images, all of JAFFE" in jaffe.details
