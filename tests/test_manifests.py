"""Manifests say what they must, and refuse slips of the pen."""

import ast
import pickle
import re
import shutil
from itertools import groupby
from pathlib import Path
from typing import get_args

import nbformat
import pytest
import yaml
from pydantic import ValidationError

from fer_utils import estimates, experiments, manifests
from fer_utils.manifests import (
    DataError,
    PublishedPaper,
    dataset_names,
    load_manifest,
    load_published,
    published_papers,
)

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
BIBLIOGRAPHY = ROOT / "book" / "references.bib"
EXPECTED = {"fer2013", "ferplus", "ck48", "ckplus", "jaffe", "synthetic"}


def test_every_set_of_the_companion_has_a_manifest():
    assert set(dataset_names()) >= EXPECTED


@pytest.mark.parametrize("name", dataset_names())
def test_manifest_tells_a_reader_what_they_need(name):
    manifest = load_manifest(name)
    assert manifest.name == name
    assert manifest.obtain.endswith(".")
    assert len(set(manifest.class_names)) == len(manifest.classes) >= 7
    assert manifest.faces.wording
    assert all(part.count is None or part.count > 0 for part in manifest.splits.values())
    if name != "synthetic":
        assert manifest.citations, "whoever uses the data must know whom to cite"
        known = re.findall(r"^@\w+\{(.+),$", BIBLIOGRAPHY.read_text(encoding="utf8"), flags=re.M)
        assert set(manifest.citations) <= set(known)
        assert manifest.directories
        assert manifest.licence.url


def test_fer2013_has_the_official_counts():
    manifest = load_manifest("fer2013")
    totals = {
        name: sum(part.classes[name] for part in manifest.splits.values())
        for name in manifest.class_names
    }
    # The counts of the whole set in the contest's report (goodfellow2013).
    assert totals == {
        "anger": 4953,
        "disgust": 547,
        "fear": 5121,
        "happiness": 8989,
        "sadness": 6077,
        "surprise": 4002,
        "neutral": 6198,
    }
    assert [part.count for part in manifest.splits.values()] == [28709, 3589, 3589]


def test_only_sets_with_consent_show_faces():
    shown = {name for name in dataset_names() if load_manifest(name).faces.shown}
    assert shown == {"synthetic", "ck48", "ckplus"}
    for name in ("ck48", "ckplus"):
        assert len(load_manifest(name).faces.subjects) == 11
        assert "© Jeffrey Cohn" in load_manifest(name).faces.wording


def test_a_manifest_cannot_be_changed_or_mistyped():
    manifest = load_manifest("fer2013")
    with pytest.raises(ValidationError):
        manifest.title = "another"
    with pytest.raises(ValidationError, match="licens"):
        type(manifest).model_validate(manifest.model_dump() | {"licens": "MIT"})


def test_counts_must_add_up():
    raw = load_manifest("fer2013").model_dump()
    raw["splits"]["test"]["classes"]["anger"] += 1
    with pytest.raises(ValidationError, match="3590 images in classes, count 3589"):
        manifests.DatasetManifest.model_validate(raw)


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        (
            r"pattern: '\(KA",
            "pattern: '((KA",
            r"pattern '\(\(KA.*' is no regular expression: missing \)",
        ),
        ("    pattern:.*\n", "", "tiff files: glob and pattern belong together"),
        (r"'\*\.tiff'", "'/*.tiff'", r"glob '/\*\.tiff' finds nothing: Non-relative"),
        (r"'\*\.tiff'", "'**.tiff'", r"glob '\*\*\.tiff' finds nothing: Invalid pattern"),
        ("  all:\n", "  test:\n", "splits: test, expected all, as images are found by name"),
        ("  subject:", "  person:", "groups.person.*: Input should be 'subject' or 'sequence'"),
        ("groups:.*\n.*\n", "groups:\n", "groups: a mapping belongs here"),
    ],
)
def test_a_manifest_that_finds_no_images_is_one_sentence_with_its_name(
    right, wrong, told, tmp_path, monkeypatch
):
    path = tmp_path / "datasets" / "jaffe.yaml"
    path.parent.mkdir()
    text = (manifests.MANIFESTS / "datasets" / "jaffe.yaml").read_text()
    path.write_text(re.sub(right, lambda _: wrong, text, count=1))
    assert path.read_text() != text
    monkeypatch.setattr(manifests, "MANIFESTS", tmp_path)
    with pytest.raises(DataError, match=told) as caught:
        load_manifest.__wrapped__("jaffe")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nothing", "../published/x", ""])
def test_unknown_manifest_lists_the_known_ones(name):
    with pytest.raises(ValueError, match="fer2013"):
        load_manifest(name)


def test_data_error_is_one_sentence_with_file_and_row():
    error = DataError("a/b.csv", "unknown label", row=3, expected="0 to 6", found="'7'")
    assert str(error) == "a/b.csv, row 3 (line 4): unknown label: expected 0 to 6, found '7'"
    assert (error.row, error.expected, error.found) == (3, "0 to 6", "'7'")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


# ---- published tables -------------------------------------------------------------------------


@pytest.mark.parametrize("paper", published_papers())
def test_published_tables_are_sound(paper):
    published = load_published(paper)
    assert published.cells
    for cell in published.cells:
        assert cell.margin is None or cell.margin_reason, f"{cell.id}: why this margin?"


@pytest.mark.parametrize("paper", published_papers())
def test_every_paper_has_its_discussion_without_headings_or_code(paper):
    report = load_published(paper).report
    if report is None:
        pytest.skip("its discussion is not written yet")
    for told in (report.easy, report.hard, report.believe):
        assert told.endswith(".")
        assert not any(line.startswith(("#", "```")) for line in told.splitlines())


def cell(**changes):
    return {
        "id": "table2-ours-fer2013",
        "row": "Ours",
        "column": "FER2013",
        "value": 65.32,
        "printed": "65.32",
        "unit": "percent",
        "kind": "own",
        "metric": "accuracy",
        "dataset": "fer2013",
        "margin": 2.0,
        "margin_reason": "three standard errors",
        "select": {"dataset": "fer2013"},
    } | changes


def paper(*cells):
    return PublishedPaper.model_validate(
        {
            "paper": "someone2023",
            "title": "A title",
            "authors": ["Someone"],
            "year": 2023,
            "venue": "A journal",
            "framework": "Keras",
            "tables": [{"id": "Table II", "page": 7, "caption": "Results", "cells": list(cells)}],
        }
    )


def test_a_bibliography_entry_has_the_key_of_its_paper():
    read = paper().model_dump()
    entry = "@article{someone2023,\n  title = {A title},\n}\n"
    assert PublishedPaper.model_validate(read | {"bibtex": entry}).bibtex == entry
    with pytest.raises(ValueError, match="begins like @article"):
        PublishedPaper.model_validate(read | {"bibtex": entry.replace("2023", "2032")})


def test_a_published_cell_reads_back():
    (read,) = paper(cell(n_test=[{"n": 3589, "note": "PrivateTest"}])).cells
    assert (read.value, read.margin, read.n_test[0].n) == (65.32, 2.0, 3589)
    (null,) = paper(cell(value=None, printed="null", margin=None)).cells
    assert null.value is None


def test_what_stands_beside_a_cell_is_given_as_what_differs_from_it():
    select = {"dataset": "fer2013", "protocol": "stratified", "rate": 0.1, "weights": "imagenet"}
    also = {"apart": {"protocol": "subject_kfold", "weights": None}, "the same": {}}
    (read,) = paper(cell(select=select, also=also)).cells
    assert read.select == select
    assert read.also == {
        "apart": {**select, "protocol": "subject_kfold", "weights": None},
        "the same": select,
    }
    assert also["the same"] == {}, "an alias in the YAML gives it to other cells, too"
    assert paper(read.model_dump()).cells == (read,)
    (alone,) = paper(cell(margin=None, select={}, also=also)).cells
    assert alone.also == also


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "cited"}, "only an own result"),
        ({"select": {"metric": "elementwise_accuracy"}}, "select chooses runs; metric stands"),
        ({"select": {"part": "val"}}, "select chooses runs; part stands beside it"),
        ({"metric": "recall", "expression": "contempt"}, "ours-fer2013: fer2013 knows no contempt"),
        (
            {"also": {"it": {"metric": "recall", "expression": "contempt"}}},
            "fer2013 knows no contempt",
        ),
        ({"select": None, "also": {"apart": {"fold": 1}}}, r"select\s+Input.* valid dict"),
        ({"select": {"fold": 0}, "also": {"apart": 1}}, r"also.apart\s+Input.* valid dict"),
        ({"select": {"fold": 0}, "also": [1]}, r"also\s+Input.* valid dict"),
        ({"value": None, "printed": "null"}, "only an own result"),
        ({"value": 63.52}, "value 63.52, printed '65.32'"),
        ({"value": 653.2, "printed": "653.2"}, "no percent"),
        ({"value": 65.32, "unit": "fraction"}, "no fraction"),
        ({"dataset": "fer2031"}, "fer2031"),
        ({"id": "Table 2"}, "id"),
        ({"margin": -1}, "margin"),
        ({"margn": 1}, "margn"),
        ({"margin": float("nan")}, "finite"),
        ({"unit": "percnt"}, "accuracy is compared in percent or fraction, not in 'percnt'"),
        ({"unit": "percnt", "margin": None, "also": {"apart": {}}}, "not in 'percnt'"),
        ({"metric": "acuracy"}, "'acuracy' is not compared; one of accuracy, balanced_accuracy"),
        ({"also": {"apart": {"metric": "f1"}}}, "'f1' is not compared; one of accuracy"),
        ({"metric": "multiplications"}, "compared in multiplications, not in 'percent'"),
        (
            {"metric": "multiplications", "unit": "multiplications", "select": {"kernel": [3, 3]}},
            r"convolution\s+Field required",
        ),
        (
            {"metric": "multiplications", "unit": "multiplications", "select": {"filters": 0}},
            r"filters\s+Input should be greater than 0",
        ),
    ],
)
def test_slips_in_a_published_cell_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        paper(cell(**changes))


def test_a_margin_needs_the_data_set_of_the_runs_that_it_judges():
    told = r"ours-fer2013: a margin needs runs, so select has to name their dataset, such as \{d"
    for select in ({}, {"variant": "small"}):
        with pytest.raises(ValidationError, match=told):
            paper(cell(select=select))
        assert paper(cell(select=select, margin=None)).cells[0].select == select
    shape = {"convolution": "normal", "outputs": [8, 8], "kernel": [3, 3]}
    shape |= {"channels": 3, "filters": 8}
    unit = {"unit": "multiplications", "metric": "multiplications"}
    assert paper(cell(**unit, select=shape)).cells[0].margin == 2.0


def test_a_cell_of_the_headline_has_a_verdict():
    raw = paper(cell(), cell(id="bare", margin=None)).model_dump()
    judged = raw | {"headline": ["table2-ours-fer2013"]}
    assert PublishedPaper.model_validate(judged).headline
    with pytest.raises(ValidationError, match="bare: a cell of the headline needs one of margin"):
        PublishedPaper.model_validate(raw | {"headline": ["table2-ours-fer2013", "bare"]})
    raw["tables"][0]["cells"][1]["not_comparable"] = "Its data are not told."
    assert PublishedPaper.model_validate(raw | {"headline": ["bare"]}).headline == ("bare",)


def test_a_paper_is_rebuilt_in_a_framework_that_there_is():
    raw = paper(cell()).model_dump()
    with pytest.raises(ValidationError, match=r"framework\s+.*'Keras', 'PyTorch' or 'NumPy'"):
        PublishedPaper.model_validate(raw | {"framework": "Pytorch"})


def test_what_can_be_compared_is_what_our_runs_tell_and_the_convolutions():
    assert set(manifests.COMPARED) == {*estimates.METRICS, "multiplications"}


DISCUSSION = {"easy": "The data.", "hard": "The rest.", "believe": "Some of it."}


def test_a_discussion_is_whole_or_absent():
    raw = paper(cell()).model_dump()
    assert PublishedPaper.model_validate(raw).report is None
    assert PublishedPaper.model_validate(raw | {"report": DISCUSSION}).report.hard == "The rest."
    for slip in (
        {"easy": "The data.", "hard": "The rest."},
        DISCUSSION | {"believe": ""},
        DISCUSSION | {"believed": "All of it."},
    ):
        with pytest.raises(ValidationError, match="believe"):
            PublishedPaper.model_validate(raw | {"report": slip})


def test_thousands_separators_are_read():
    (read,) = paper(
        cell(value=1228800, printed="1,228,800", unit="count", metric="images", margin=None)
    ).cells
    assert read.value == 1228800


def test_cell_ids_are_unique_in_a_paper():
    with pytest.raises(ValidationError, match="cell id not unique: table2-ours-fer2013"):
        paper(cell(), cell())


# ---- what a paper says of its own numbers -----------------------------------------------------


def claimed(*claims, **fields):
    better = cell(id="better", value=66.0, printed="66.00")
    gain = cell(id="gain-printed", value=0.68, printed="0.68", metric="improvement", margin=None)
    raw = paper(cell(), better, gain).model_dump()
    return PublishedPaper.model_validate(raw | {"claims": list(claims)} | fields)


IMPROVEMENT = {
    "id": "gain",
    "says": "0.68 points better",
    "kind": "improvement",
    "better": "better",
    "base": "table2-ours-fer2013",
    "points": "gain-printed",
}
MATRIX = {
    "id": "figure-5",
    "dataset": "fer2013",
    "unit": "count",
    "expressions": ["anger", "fear"],
    "rows": [["3", "1"], ["0", "4"]],
    "accuracy": "better",
}


def test_a_claim_is_read_as_its_kind_and_names_its_cells():
    (claim,) = claimed(IMPROVEMENT).claims
    assert isinstance(claim, manifests.Improvement)
    assert claim.cells == ("better", "table2-ours-fer2013", "gain-printed")
    total = {"id": "sum", "says": "in all", "kind": "total", "parts": ["better"], "total": 66}
    (claim,) = claimed(total).claims
    assert claim.total == 66  # a number of the text, not a cell
    assert claim.cells == ("better",)
    assert claimed(matrices=[MATRIX]).matrices[0].cells == ("better",)


@pytest.mark.parametrize(
    ("claims", "matrices", "message"),
    [
        ([IMPROVEMENT | {"base": "nowhere"}], [], "gain: no such cells: nowhere"),
        ([IMPROVEMENT | {"kind": "boast"}], [], "boast"),
        ([IMPROVEMENT | {"total": 3}], [], "total"),
        ([IMPROVEMENT, IMPROVEMENT], [], "claim not unique: gain"),
        ([], [MATRIX | {"accuracy": "nowhere"}], "figure-5: no such cells: nowhere"),
        ([], [MATRIX | {"rows": [["3", "1"]]}], "a row and a column for each of 2 expressions"),
        ([], [MATRIX | {"dataset": "fer2031"}], "'fer2031' has no manifest"),
        ([], [MATRIX, MATRIX], "matrix not unique: figure-5"),
    ],
)
def test_slips_in_a_claim_or_matrix_are_refused(claims, matrices, message):
    with pytest.raises(ValidationError, match=message):
        claimed(*claims, matrices=matrices)


def claim(kind, **fields):
    return {"id": "said", "says": "Said of them", "kind": kind, **fields}


COUNTS = {"dataset": "fer2013", "splits": ["test"]}
LATER = {"result": "better", "curve": "loss", "of": "mean", "moves": "up"}
NO_NUMBER, NO_SHARE = "blank prints no number", "layers is in neither percent nor a fraction"
NO_RUNS = "so {} needs dataset and one of margin and not_comparable"


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        (IMPROVEMENT | {"base": "blank"}, NO_NUMBER),
        (IMPROVEMENT | {"points": "blank"}, NO_NUMBER),
        (IMPROVEMENT | {"others": ["blank"]}, NO_NUMBER),
        (IMPROVEMENT | {"base": "layers"}, NO_SHARE),
        (claim("total", parts=["better", "blank"], total=9), NO_NUMBER),
        (claim("total", parts=["better"], total="blank"), NO_NUMBER),
        (claim("at most", smaller="blank", larger=9), NO_NUMBER),
        (claim("same number", numbers=["blank", 9], confidence="weak"), NO_NUMBER),
        (claim("highest", best="better", others=["blank"]), NO_NUMBER),
        (claim("all above", results=["blank"], number=9), NO_NUMBER),
        (claim("official counts", **COUNTS, images="blank"), NO_NUMBER),
        (claim("official counts", **COUNTS), "neither counts nor images"),
        (claim("official counts", **COUNTS, counts={"contempt": 9}), "has no contempt: one of"),
        (claim("official counts", **COUNTS | {"splits": ["tset"]}, images=9), "has no tset: one"),
        (claim("official counts", **COUNTS | {"splits": ["fear"]}, images=9), "has no fear: one"),
        (
            claim("official counts", **COUNTS | {"splits": ["test", "test"]}, images=9),
            "part not unique: test",
        ),
        (
            claim("confused", result="better", taken_for={"fear": ["fear"]}),
            "fear is taken for fear; name others",
        ),
        (
            claim("confused", result="better", taken_for={"fear": []}),
            "fear is taken for nothing; name others",
        ),
        (
            claim("confused", result="better", taken_for={"fear": ["contempt"]}),
            "fer2013 knows no contempt",
        ),
        (
            claim("better recognised", result="better", better=["contempt"], worse=["fear"]),
            "fer2013 knows no contempt",
        ),
        (claim("recognised", number="blank", rate="better"), NO_NUMBER),
        (claim("recognised", number="layers", rate="layers"), NO_RUNS.format("layers")),
        (
            claim("better recognised", result="blank", better=["fear"], worse=["anger"]),
            NO_RUNS.format("blank"),
        ),
        (
            claim("confused", result="layers", taken_for={"fear": ["anger"]}),
            NO_RUNS.format("layers"),
        ),
        (
            claim("later epochs", **LATER | {"result": "blank"}, earlier=[1, 2], later=[3, 4]),
            NO_RUNS.format("blank"),
        ),
        (claim("later epochs", **LATER, earlier=[0, 2], later=[3, 4]), "from 1, in order"),
        (claim("later epochs", **LATER, earlier=[1, 2], later=[4, 3]), "from 1, in order"),
        (claim("balance", result="blank", against="small"), NO_RUNS.format("blank")),
        (
            claim("because", result="better", than="blank", against="small"),
            NO_RUNS.format("blank"),
        ),
        (MATRIX | {"accuracy": "blank"}, NO_NUMBER),
        (MATRIX | {"accuracy": "layers"}, NO_SHARE),
        (MATRIX | {"rows": [["3", "1"], ["0", "4.5"]]}, "'4.5' is no count"),
        (MATRIX | {"rows": [["3", "1"], ["0", "-4"]]}, "'-4' is no count"),
        (MATRIX | {"rows": [["0", "0"], ["0", "0"]]}, "not one image"),
        (MATRIX | {"unit": "percent", "rows": [["9", "1"], ["0", "–"]]}, "'–' is no percent"),
        (MATRIX | {"expressions": ["fear", "fear"]}, "expression not unique: fear"),
    ],
)
def test_a_claim_or_matrix_that_no_check_can_read_is_refused(slip, message):
    unprinted = {"kind": "cited", "margin": None, "margin_reason": None}
    cells = [
        *(cell.model_dump() for cell in claimed().cells),
        cell(id="blank", value=None, printed="NULL", also={"small": {}}, **unprinted),
        cell(id="layers", value=9, printed="9", unit="count", metric="layers", **unprinted),
    ]
    cells[1]["also"] = {"small": {}}
    kind = "matrices" if "rows" in slip else "claims"
    with pytest.raises(ValidationError, match=f"{slip['id']}: .*{message}"):
        PublishedPaper.model_validate(paper(*cells).model_dump() | {kind: [slip]})


# ---- yengikand2023 ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fer2013", "ckplus", "jaffe"])
def test_runs_of_yengikand2023_have_the_epochs_and_batch_sizes_of_its_section_5b(name):
    cells = {cell.id: cell for cell in load_published("yengikand2023").cells}
    printed = [cells[f"section5b-{one}"].value for one in ("epochs", f"batch-{name}")]
    select = cells[f"table2-ours-{name}"].select
    assert [select["epochs"], select["batch_size"]] == printed


def test_what_yengikand2023_has_on_file_of_expressions_is_what_the_manifests_say():
    published = load_published("yengikand2023")
    details = {detail.id: detail for detail in published.open}
    jaffe, ckplus = load_manifest("jaffe"), set(load_manifest("ck48").class_names)
    assert "contempt and no neutral" in details["ckplus-expressions"].detail
    assert ("contempt" in ckplus, "neutral" in ckplus) == (True, False)
    assert "JAFFE has the seven of FER2013" in details["last-layer"].reason
    assert set(jaffe.class_names) == set(load_manifest("fer2013").class_names)
    (each,) = (cell for cell in published.cells if cell.id == "jaffe-each")
    assert "29 images of disgust, and three of each of ten women would be 30" in each.note
    assert (jaffe.splits["all"].classes["disgust"], jaffe.groups["subject"].count) == (29, 10)


# ---- figures ----------------------------------------------------------------------------------

# As the captions count them. The thesis counts by chapter; chapters 1, 2 and 6 have no figure.
NUMBERED = {
    "nouisser2023": [f"Figure {n}" for n in range(1, 10)],
    "rahman2021": [
        *(f"Figure 3.{n}" for n in range(1, 9)),
        *(f"Figure 4.{n}" for n in range(1, 5)),
        *(f"Figure 5.{n}" for n in range(1, 14)),
    ],
    "wang2023": [f"Figure {n}" for n in range(1, 9)],
    "yengikand2023": [f"Figure {n}" for n in range(1, 7)],
}


def counted(listed):
    """As many figures as are listed of each chapter, counted from 1."""
    chapters = groupby(name.removeprefix("Figure ").rpartition(".")[0] for name in listed)
    return [
        f"Figure {chapter}{'.' if chapter else ''}{number}"
        for chapter, of_it in chapters
        for number, _ in enumerate(of_it, start=1)
    ]


@pytest.mark.parametrize("paper", published_papers())
def test_every_figure_that_has_a_number_is_listed_once_and_in_order(paper):
    listed = [figure.id for figure in load_published(paper).figures]
    assert listed == NUMBERED.get(paper, counted(listed)), "a number is missing or out of order"


def test_figures_of_any_paper_are_counted_from_1_in_each_chapter():
    assert all(counted(listed) == listed for listed in (*NUMBERED.values(), []))
    assert counted(["Figure 1", "Figure 3"]) == ["Figure 1", "Figure 2"]
    assert counted(["Figure 3.2", "Figure 4.1"]) == ["Figure 3.1", "Figure 4.1"]


@pytest.mark.parametrize("paper", published_papers())
def test_a_figure_that_is_here_stands_under_a_heading_of_a_chapter_that_lists_it(paper):
    cells = nbformat.read(NOTEBOOKS / f"{paper}.ipynb", as_version=4).cells
    told = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert lost_figures(load_published(paper).figures, told, code) == []


def lost_figures(figures, told, code):
    """What a chapter with this text and code lacks of them, a sentence each."""
    headings = re.findall(r"^#+ (.+)$", told, flags=re.M)
    lost = [
        f"{one.id} stands under {one.here!r}: {headings.count(one.here)} such headings, not one"
        for one in figures
        if one.here and headings.count(one.here) != 1
    ]
    if (lists := len(re.findall(r"display\.figures\(", code))) != 1 and (figures or lists):
        lost.append(f"one call of display.figures(...) lists them: {lists} are there")
    return lost


def test_a_lost_figure_is_told_with_the_heading_that_was_looked_for():
    (figure,) = claimed(figures=[FIGURE]).figures
    assert lost_figures([figure], "# Results", "display.figures(PAPER)") == []
    assert lost_figures([], "# Results", "") == [], "a paper may have no figure with a number"
    assert lost_figures([figure], "# Result\n## Results\n# Results", "") == [
        "Figure 5.1 stands under 'Results': 2 such headings, not one",
        "one call of display.figures(...) lists them: 0 are there",
    ]


def test_no_code_but_a_papers_own_names_a_paper():
    """So that a new one touches its own files and the contents alone; docstrings may cite."""
    shared = [path for place in ("fer_utils", "tools") for path in (ROOT / place).rglob("*.py")]
    shared = [path for path in shared if path.parent.name != "models"]
    named = [
        (path.name, paper)
        for path in shared
        for text in strings(ast.parse(path.read_text(encoding="utf8")))
        for paper in published_papers()
        if paper in text
    ]
    assert len(shared) > 30
    assert named == []


def strings(tree):
    """Those that code uses: an expression that is one alone is documentation."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if id(node) not in documentation
    ]


FIGURE = {"id": "Figure 5.1", "shows": "a matrix", "here": "Results", "cells": ["better"]}


def test_a_figure_reads_back():
    (figure,) = claimed(figures=[FIGURE]).figures
    assert (figure.here, figure.cells, figure.why_not) == ("Results", ("better",), None)


@pytest.mark.parametrize(
    ("figures", "message"),
    [
        ([FIGURE | {"why_not": "real faces"}], "Figure 5.1: a figure has here or why_not, and not"),
        ([{"id": "Figure 1", "shows": "a face"}], "Figure 1: a figure has here or why_not"),
        ([{"id": "Figure 1", "shows": "a face", "why_not": "", "cells": ["better"]}], "why_not"),
        ([FIGURE | {"here": None, "why_not": "none"}], "Figure 5.1: differs and cells are of"),
        ([FIGURE | {"cells": [], "instead": "20 epochs"}], "Figure 5.1: instead of which"),
        ([FIGURE | {"cells": ["nowhere"]}], "Figure 5.1: no such cells: nowhere"),
        ([FIGURE | {"instead": "20 epochs"}], "Figure 5.1: no cell of it has '20 epochs'"),
        ([FIGURE | {"id": "5.1"}], "figures.0.id"),
        ([FIGURE, FIGURE], "figure not unique: Figure 5.1"),
    ],
)
def test_slips_in_a_figure_are_refused(figures, message):
    with pytest.raises(ValidationError, match=message):
        claimed(figures=figures)


# ---- reading ----------------------------------------------------------------------------------


def test_published_tables_are_read_from_any_place(tmp_path):
    path = tmp_path / "someone.yaml"
    path.write_text(yaml.safe_dump(paper(cell()).model_dump(mode="json")))
    assert manifests.read_published(path) == paper(cell())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paper: [", "not YAML"),
        ("paper: someone2023", "title: Field required"),
        ("- 1", "a mapping of fields belongs here"),
        ("paper: 3\ntables: 4\nruns: 5", "paper: Input should be a valid string"),
        ("tables: 4\nruns: 5", "tables: a list belongs here"),
        ("runs: 5", "runs: a mapping of fields belongs here"),
        (b"\xff\xfe\x00paper", "not YAML: this is no text in UTF-8"),
        ("year: 2001-99-99", "not YAML: month must be in 1..12"),
        ("", "the file is empty"),
        (
            "also:\n  20 epochs: 1\n  20 epochs: 1\n",
            "the key '20 epochs' is given twice, lines 2 and 3",
        ),
        ("a: {b: 1, b: 2}", "the key 'b' is given twice, lines 1 and 1"),
    ],
)
def test_a_broken_file_of_published_tables_is_one_sentence_with_its_name(text, message, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as caught:
        manifests.read_published(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_file_of_published_tables(tmp_path):
    with pytest.raises(DataError, match="a file belongs here, this is a folder"):
        manifests.read_published(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "ferplsu"}, "dataset is 'ferplsu', not one of ck48, ckplus"),
        ({"dataset": None}, "dataset is None, not one of ck48"),
        ({"dataset": ["jaffe"]}, "dataset is ['jaffe'], not one of ck48"),
        ({"epochs": 0}, "epochs is 0, no whole number from 1"),
        ({"epochs": "20"}, "epochs is '20', no whole number from 1"),
        ({"fold": -1}, "fold is -1, no whole number from 0"),
        ({"seed": None}, "seed is None, no whole number from 0"),
        ({"batch_size": 0}, "batch_size is 0, no whole number from 1"),
        ({"learning_rate": "1e-3"}, "learning_rate is '1e-3'; write 0.001: YAML reads 1e-3"),
        ({"learning_rate": "1e-5"}, "learning_rate is '1e-5'; write 1.0e-05: YAML reads 1e-3"),
        ({"padding": "4"}, "padding is '4'; write 4: YAML reads 1e-3, and what is in quotation"),
        ({"protocol": "oficial"}, "protocol is 'oficial', not one of official, stratified, su"),
        ({"protocol": ["official"]}, "protocol is ['official'], not one of official, strat"),
    ],
)
def test_runs_that_cannot_be_are_refused_wherever_they_are_asked_for(fields, message):
    choice = {"id": "open", "detail": "Open", "choice": "ours", "reason": "none"}
    start = {"for": {"model": ["big"]}, "run": fields}
    rule = {"for": {key: [value] for key, value in fields.items()}, "run": {}}
    slips = [
        ("table2-ours-fer2013", cell(select=fields), {}),
        ("table2-ours-fer2013", cell(also={"apart": fields}), {}),
        ("open", cell(), {"open": [choice | {"other": {"apart": fields}}]}),
        ("open", cell(), {"open": [choice | {"ours": fields}]}),
        ("runs", cell(), {"runs": {"first": [start]}}),
        ("runs", cell(), {"runs": {"after": [rule]}}),
    ]
    for where, asked, more in slips:
        raw = paper(cell()).model_dump()
        raw["tables"][0]["cells"] = [asked]
        with pytest.raises(ValidationError, match=re.escape(f"{where}: {message}")):
            PublishedPaper.model_validate(raw | more)


def test_words_whole_numbers_and_protocols_that_are_wrong_on_purpose_may_choose_runs():
    wrong = {"protocol": "balanced_before_split", "contrast": "balanced before the split"}
    select = {"dataset": "fer2013", "protocol": None, "batch_size": None}
    select |= {"weights": "nan", "reading": "r8", "rate": "schedule", "model": "infinity"}
    rule = {"for": {"protocol": ["balanced_before_split"]}, "run": {}}
    raw = paper(cell()).model_dump() | {"runs": {"after": [rule]}}
    raw["tables"][0]["cells"] = [cell(select=select, also={"wrong": wrong})]
    (read,) = PublishedPaper.model_validate(raw).cells
    assert read.select == select
    assert read.also["wrong"] == select | wrong


def test_protocols_of_published_runs_are_those_of_experiments():
    assert get_args(experiments.Protocol) == manifests.PROTOCOLS


def test_a_broken_cell_is_called_by_its_id(tmp_path):
    path = tmp_path / "broken.yaml"
    cells = "[{id: a, row: A}, {id: b, row: B, metrik: 1}, {row: C}]"
    path.write_text(f"tables:\n  - {{id: Table 1, cells: {cells}}}\n")
    with pytest.raises(DataError) as caught:
        manifests.read_published(path)
    told = str(caught.value).split("; ")
    assert "tables.Table 1.cells.b.metrik: no such field" in told
    assert "tables.Table 1.cells.a.column: Field required" in told
    assert "tables.Table 1.cells.2.id: Field required" in told


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("claims: [{id: a}]", "claims.a: kind belongs here, one of total, official counts, at"),
        (
            "claims: [{id: a, kind: boast}]",
            "claims.a: kind is 'boast', not one of total, official co",
        ),
        ("claims: [1]", "claims.0: a mapping of fields belongs here"),
        (
            "figures: [{id: Fig. 1}]",
            "figures.Fig. 1.id: 'Fig. 1' is not written as it has to be: Figure and its number, "
            "such as Figure 3 or Figure 3.1",
        ),
        (
            "tables: [{id: Table 1, cells: [{id: Table1_small}]}]",
            "tables.Table 1.cells.Table1_small.id: 'Table1_small' is not written as it has to be: "
            "lower-case letters and digits, with single hyphens between, such as table1-",
        ),
    ],
)
def test_rules_are_told_in_words_with_what_is_allowed(text, message, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        manifests.read_published(path)
    assert not re.search(r"tag|pattern|\^", str(caught.value).removeprefix(f"{path}: "))


def test_a_cell_is_named_once_in_the_sentence_on_it(tmp_path):
    path = tmp_path / "broken.yaml"
    raw = paper(cell()).model_dump(mode="json")
    raw["tables"][0]["cells"][0]["value"] = 65.2
    raw["claims"] = [claim("confused", result="better", taken_for={"fear": ["fear"]})]
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(DataError) as caught:
        manifests.read_published(path)
    assert str(caught.value) == (
        f"{path}: tables.Table II.cells.table2-ours-fer2013: value 65.2, printed '65.32'; "
        "claims.said.confused: fear is taken for fear; name others"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paper: broken\n  bad: [", "not YAML"),
        ("paper: broken\nsurprise: 3", "surprise: no such field"),
        ("", "the file is empty"),
    ],
)
def test_a_broken_file_of_a_paper_by_name_is_one_sentence_too(text, message, tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "MANIFESTS", tmp_path)
    path = tmp_path / "published" / "broken.yaml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        load_published("broken")
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_under_another_name_is_refused_with_its_own(tmp_path, monkeypatch):
    for kind in ("datasets", "published"):
        shutil.copytree(manifests.MANIFESTS / kind, tmp_path / kind)
    path = tmp_path / "published" / "someone.yaml"
    (tmp_path / "published" / "wang2023.yaml").rename(path)
    monkeypatch.setattr(manifests, "MANIFESTS", tmp_path)
    with pytest.raises(DataError) as caught:
        load_published("someone")
    assert str(caught.value) == f"{path}: paper is 'wang2023', the file is called 'someone'"


def test_a_key_given_twice_is_refused_wherever_yaml_is_read(tmp_path, monkeypatch):
    """PyYAML keeps the last value and says nothing: a line that nobody would miss."""
    monkeypatch.setattr(manifests, "MANIFESTS", tmp_path)
    (tmp_path / "datasets").mkdir()
    path = tmp_path / "datasets" / "twice.yaml"
    path.write_text("name: twice\ntitle: one\ntitle: two\n")
    with pytest.raises(DataError) as caught:
        load_manifest("twice")
    assert str(caught.value) == f"{path}: the key 'title' is given twice, lines 2 and 3"


def test_a_merged_mapping_may_give_a_key_anew(tmp_path):
    path = tmp_path / "merged.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n")
    assert manifests._yaml(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}}
