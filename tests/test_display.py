"""Tables and figures of the book, on made results."""

import base64
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from fer_utils import audit, data_report, display, drawings, plots, records
from fer_utils.arithmetic import Printed
from fer_utils.audit import Finding
from fer_utils.comparison import Comparison
from fer_utils.data_report import Detectors, FacesFound, Quantiles, read
from fer_utils.datasets import FaceDataset
from fer_utils.differences import Difference
from fer_utils.display import trained
from fer_utils.estimates import Estimate
from fer_utils.gaps import Repeat, Spread, Step
from fer_utils.grid import Run
from fer_utils.manifests import (
    OpenDetail,
    PublishedCell,
    PublishedFigure,
    dataset_names,
    load_manifest,
    load_published,
    published_papers,
)
from fer_utils.models import nouisser2023, rahman2021, wang2023, yengikand2023

ROOT = Path(__file__).parents[1]
CELL = PublishedCell(
    id="made",
    row="Ours <b>",
    column="FER2013",
    value=65.32,
    printed="65.32",
    unit="percent",
    kind="own",
    metric="accuracy",
    margin=2.0,
    margin_reason="made",
)
OURS = Estimate(60.0, 58.5, 61.5, (59.0, 61.0), 100, ("a", "b"))


def made_faces(counts=(3, 1, 0)) -> FaceDataset:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.zeros((len(labels), 8, 8, 1), np.uint8)
    return FaceDataset("made", images, labels, ("anger", "fear", "neutral"))


def text(html) -> str:
    return re.sub(r"<[^>]+>", " ", html.data).replace("\N{NO-BREAK SPACE}", " ")


def test_verdict_table_shows_number_interval_runs_and_badge():
    found = Comparison("p", "Table II", CELL, OURS, "not reproduced", "below", {"other": OURS})
    html = display.verdicts([found])
    assert "60.00 (58.50 to 61.50)" in text(html)
    assert "65.32 ± 2" in text(html)
    assert 'class="verdict verdict-not-reproduced"' in html.data
    assert text(html).count("60.00") == 2  # ours and the other protocol


def test_what_a_paper_prints_is_shown_as_text_not_run_as_html():
    html = display.verdicts([Comparison("p", "t", CELL, None, "not attempted", "none")])
    assert "Ours &lt;b&gt;" in html.data


def test_cited_rows_appear_only_when_asked_for_and_below_the_papers_own():
    cited = CELL.model_copy(update={"kind": "cited", "margin": None})
    found = [Comparison("p", "t", cited, None, None, "cited")]
    assert "65.32" not in display.verdicts(found).data
    assert "65.32" in display.verdicts(found, cited=True).data
    found.append(Comparison("p", "own", CELL, OURS, "not reproduced", "below"))
    shown = text(display.verdicts(found, cited=True))
    assert shown.index("not reproduced") < shown.rindex("65.32")
    size = cited.model_copy(update={"metric": "images", "unit": "count"})
    of_data = [Comparison("p", "t", size, None, None, "cited")]
    assert "65.32" not in display.verdicts(of_data, cited=True).data


def test_numbers_stand_right_and_words_left():
    html = display.table([{"name": "a", "share": "12.5 %"}, {"name": "b", "share": "–"}]).data
    assert re.findall(r'<th style="text-align: (\w+)">(\w+)', html) == [
        ("left", "name"),
        ("right", "share"),
    ]


@pytest.mark.parametrize("name", dataset_names())
def test_data_card_tells_how_to_get_a_set_and_whether_faces_may_be_shown(name):
    manifest = load_manifest(name)
    card = display.data_card(manifest)
    assert manifest.licence.name in text(card).replace("&#x27;", "'")
    assert ("yes." if manifest.faces.shown else "no.") in text(card)
    assert all(person in text(card) for person in manifest.faces.subjects)


def test_open_details_without_runs_say_not_measured():
    detail = OpenDetail(id="a", detail="Widths", choice="32", reason="small", other={"x": {"w": 1}})
    assert "not measured" in text(display.open_details([detail], [], [], {}))
    assert "12.3" in text(display.open_details([detail], [], [], {"a": "12.3"}))


def test_examples_leave_white_where_an_expression_has_too_few_faces():
    figure = plots.examples(made_faces(), each=2)
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert [bool((image == 255).all()) for image in shown] == [
        False,
        False,
        True,
        False,
        True,
        True,
    ]


def test_confusion_figure_shows_percent_of_each_row_of_all_runs_together(make_record):
    runs = [make_record(matrix=[[2, 0], [0, 0]]), make_record(matrix=[[1, 1], [0, 0]])]
    figure = plots.confusion(runs)
    told = [word.get_text() for word in figure.axes[0].texts]
    assert told == ["75", "25", "0", "0"]


def test_figure_against_the_paper_leaves_out_cells_without_runs_and_what_stands_apart():
    none = Comparison("p", "t", CELL, None, "not attempted", "none")
    beside = {"by subject": {"protocol": "subject_kfold"}, "else": {"reading": "another"}}
    cell = CELL.model_copy(update={"also": beside})
    some = Comparison("p", "t", cell, OURS, "not reproduced", "below", dict.fromkeys(beside, OURS))
    labels = [
        tick.get_text() for tick in plots.against_paper([none, some]).axes[0].get_yticklabels()
    ]
    assert [label.strip() for label in labels] == ["Ours <b>, FER2013", "by subject"]


def test_what_stands_beside_a_cell_is_drawn_against_it_where_no_run_is_its_own():
    cell = CELL.model_copy(update={"also": {"20 epochs": {"epochs": 20}}})
    found = Comparison("p", "t", cell, None, "not attempted", "none", {"20 epochs": OURS})
    (axis,) = plots.against_paper([found]).axes
    labels = [tick.get_text().strip() for tick in axis.get_yticklabels()]
    assert labels == ["Ours <b>, FER2013", "20 epochs"]
    rows = {round(line.get_ydata()[0]) for line in axis.lines if line.get_marker() == "o"}
    assert rows == {1}  # the cell's own row has its printed value alone
    assert {65.32, 60.0} <= {line.get_xdata()[0] for line in axis.lines}


def test_a_cell_that_is_not_comparable_is_drawn_without_a_margin():
    cell = CELL.model_copy(update={"margin": None, "not_comparable": "Another part."})
    found = Comparison("p", "t", cell, None, "not comparable", "Another part.", {"beside": OURS})
    (axis,) = plots.against_paper([found]).axes
    assert 65.32 in {line.get_xdata()[0] for line in axis.lines}
    assert not axis.collections
    none = replace(found, cell=cell.model_copy(update={"value": None}))
    (axis,) = plots.against_paper([none]).axes
    assert 65.32 not in {line.get_xdata()[0] for line in axis.lines}


def test_runs_of_the_same_settings_stand_together(make_record):
    settings = [{"variant": "a", "maps": 6}, {"variant": "a", "maps": 12}, {"variant": "a"}]
    runs = [make_record(f"r{k}", seed=k, **settings[k % 3]) for k in range(4)]
    found = display.by_settings(runs, ["variant", "maps"])
    assert {name: [run.run for run in group] for name, group in found.items()} == {
        "a; maps: 6": ["r0", "r3"],
        "a; maps: 12": ["r1"],
        "a": ["r2"],
    }


def test_figures_are_closed_so_that_a_notebook_shows_them_once():
    import matplotlib.pyplot as plt

    assert isinstance(plots.class_counts({"train": made_faces()}), Figure)
    assert plt.get_fignums() == []


def test_the_overview_is_a_table_and_two_files_of_the_same_cells(monkeypatch):
    told = []
    monkeypatch.setattr("IPython.display.display", told.append)
    cited = PublishedCell(
        **{**CELL.model_dump(), "id": "other", "kind": "cited", "margin": None, "row": "<b>A&B</b>"}
    )
    found = [
        Comparison("yengikand2023", "Table II", CELL, OURS, "reproduced", 'is "inside"'),
        Comparison("yengikand2023", "Table II", cited, None, None, "cited"),
    ]
    html = display.overview(found).data
    assert told  # the table's program comes with the page
    files = dict(re.findall(r'href="data:([a-z/]+);base64,([^"]+)"', html))
    rows = json.loads(base64.b64decode(files["application/json"]))
    lines = list(csv.DictReader(io.StringIO(base64.b64decode(files["text/csv"]).decode())))
    assert [row["id"] for row in rows] == [line["id"] for line in lines] == [CELL.id, "other"]
    assert rows[0]["ours"] == round(OURS.mean, 2)
    assert rows[0]["verdict"] == lines[0]["verdict"] == "reproduced"
    assert (rows[1]["ours"], rows[1]["verdict"], lines[1]["ours"]) == (None, None, "")
    assert "<b>A&B</b>" not in html
    assert "https://" not in re.sub(r"https?://[^ ]*(itables|datatables)[^ ]*", "", html)


def test_a_finding_is_a_card_with_all_its_words_and_how_sure_it_is():
    finding = Finding(
        paper="someone2023",
        kind="counts",
        cells=("made",),
        claim="1000 <b> of 593",
        test="Can it be?",
        result="No.",
        confidence="likely",
        means="A slip.",
        does_not_mean="Anything else.",
        details=("one & two", "three"),
    )
    html = display.findings([finding, finding]).data
    assert html.count('data-confidence="likely"') == 2
    assert "1000 &lt;b&gt; of 593" in html
    assert html.count("<li>one &amp; two</li><li>three</li>") == 2
    for words in ("Can it be?", "No.", "A slip.", "Anything else.", "likely", "counts"):
        assert html.count(words) >= 2


def test_figures_of_the_audit_are_drawn_and_closed():
    import matplotlib.pyplot as plt

    shares = [Printed(9932, 10_000), Printed(9728, 10_000)]
    figure = plots.sizes_that_fit(shares, 300, {98: "a tenth", 147: "15 %"})
    told = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert told == ["147: 15 %"]  # both are counts of 147 images, not of 98
    columns = audit.columns(load_published("rahman2021"))
    figure = plots.room_for_accuracy(columns)
    assert len(figure.axes[0].get_yticklabels()) == len(columns) > 0
    assert plt.get_fignums() == []


def test_a_published_table_stands_beside_ours_column_by_column():
    fields = CELL.model_dump() | {"unit": "fraction", "value": 0.9932, "printed": "0.9932"}
    fields |= {"margin": 0.03}
    ours = Estimate(0.98639, 0.96, 1.0, (0.98639,), 147, ("a",))
    also = {"in steps": {}, "by subject": {}, "waits": {}}  # in the order of the published file
    cells = [
        PublishedCell(**fields | {"row": row, "column": column, "also": also})
        for row in ("full", "plain")
        for column in ("FER+", "CK+")
    ]
    beside = [{}, {"by subject": OURS}, {}, {"in steps": OURS}]
    found = [
        Comparison("p", "Table 3", cell, ours, "inconclusive", "made", also)
        for cell, also in zip(cells, beside, strict=True)
    ]
    cited = PublishedCell(**fields | {"row": "them", "kind": "cited", "margin": None})
    found.append(Comparison("p", "Table 3", cited, None, None, "cited from elsewhere"))
    rows = re.findall(r"<tr>(.*?)</tr>", display.side_by_side(found).data)
    lines = [re.sub(r"<[^>]+>", "|", row).replace("\N{NO-BREAK SPACE}", " ") for row in rows]
    head, full, plain = [[word for word in line.split("|") if word] for line in lines]
    beside = ["CK+, in steps", "CK+, by subject"]
    words = [f"{name}, {what}" for name in ("FER+", "CK+") for what in ("printed", "ours")]
    assert head == ["Setting", *words, *beside]
    assert full[:3] == ["full", "0.9932", "0.9864 (0.9600 to 1.0000)"]  # a third of a percent shows
    assert full[-1].startswith("60.0000")
    assert full[-2] == plain[-1] == "–"


def test_a_diagram_has_every_box_and_arrow():
    boxes = {"input": (0, 0), "1x1\nBN": (2, 1), "5x5": (2, -1), "sum": (4, 0)}
    arrows = [("input", "1x1\nBN"), ("input", "5x5"), ("1x1\nBN", "sum"), ("input", "sum", "skip")]
    (axis,) = drawings.diagram(boxes, arrows).axes
    assert [label.get_text() for label in axis.texts] == list(boxes)
    assert len(axis.patches) == len(boxes) + len(arrows)


def test_fractions_are_drawn_in_percent_beside_percents():
    fields = CELL.model_dump() | {"unit": "fraction", "value": 0.6532, "printed": "0.6532"}
    ours = Estimate(0.6, 0.585, 0.615, (0.59, 0.61), 100, ("a",))
    found = [
        Comparison("p", "Table", CELL, OURS, "not reproduced", "below"),
        Comparison(
            "p",
            "Table",
            PublishedCell(**fields | {"margin": 0.02}),
            ours,
            "not reproduced",
            "below",
        ),
    ]
    (axis,) = plots.against_paper(found).axes
    drawn = [line.get_xdata() for line in axis.lines]
    assert len(drawn) == 8
    for percent, fraction in zip(drawn[:4], drawn[4:], strict=True):
        np.testing.assert_allclose(fraction, percent)


# ---- rahman2021 --------------------------------------------------------------------------------


def recall_cells(expression, row, select=None):
    """A printed recall and the word beside it, about the same runs."""
    fields = {"row": row, "kind": "own", "dataset": "fer2013", "select": select or {"epochs": 20}}
    recall = PublishedCell(
        id="recall",
        column="20 Epochs",
        value=4,
        printed="4%",
        unit="percent",
        metric="recall",
        expression=expression,
        **fields,
    )
    word = PublishedCell(
        id="word",
        column="Final Emotion Classified, 20 Epochs",
        value=None,
        printed="Angry",
        unit="expression",
        metric="most_frequent_prediction",
        **fields,
    )
    found = ("rahman2021", "Table 5.1")
    return [Comparison(*found, cell, None, None, "") for cell in (recall, word)]


def test_recalls_stand_beside_the_most_frequent_prediction(make_record):
    anger, happiness = [30, 10], [7, 1]
    run = make_record(matrix=[anger, happiness], epochs=20)
    html = text(display.expressions(recall_cells("happiness", "Happy"), [run]))
    assert "Table 5.1: Dataset accuracy using ResNet18 model" in html
    assert re.search(r"Happy\s+4%, Angry\s+12%, anger", html)
    absent = recall_cells("happiness", "Happy", {"epochs": 300})
    assert re.search(r"Happy\s+4%, Angry\s+–", text(display.expressions(absent, [run])))


def test_models_are_compared_on_the_images_that_one_alone_gets_right(make_record, monkeypatch):
    labels = np.arange(20) % 2
    hits = {"one": np.arange(20) < 16, "two": np.isin(np.arange(20), [0, 1, 2, 3, 16])}
    hits["none"] = np.zeros(20, bool)

    def probabilities(run):
        predicted = np.where(hits[run.parameters["model"]], labels, 1 - labels)
        return np.eye(2, dtype=np.float32)[predicted], labels

    monkeypatch.setattr(trained, "read_probabilities", probabilities)
    one, two, none = (make_record(model=name, epochs=20) for name in hits)
    html = text(display.paired([(one, two), (one, none)]))
    # 12 against 1: twice the chance of at most one head in 13 throws, 2 * 14 / 2**13.
    assert re.search(r"one\s+two\s+20\s+0\s+12\s+1\s+\+55\.00\s+0\.003", html)
    assert re.search(r"one\s+none\s+20\s+0\s+16\s+0\s+\+80\.00\s+under 0\.001", html)


def test_sizes_of_networks_in_torch_stand_beside_those_published():
    published = {"num_classes": 1000, "side": 224, "channels": 3}
    image = np.zeros((48, 48, 1), np.uint8)
    html = text(display.networks({"ResNet18": rahman2021.build}, image, published))
    assert re.search(r"ResNet18\s+11,689,512\s+11,173,831\s+81,539,584\s+1\.00", html)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_confusion_matrices_stand_beside_each_other_in_percent(count, make_record):
    groups = {f"model {n}": [make_record(matrix=[[3, 1], [0, 5]])] for n in range(count)}
    figure = plots.confusions(groups)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == list(groups)
    for axis in figure.axes:
        assert [told.get_text() for told in axis.texts] == ["75", "25", "0", "100"]


def compared(ours=None, cell=CELL, **also) -> Comparison:
    return Comparison("yengikand2023", "II", cell, ours, "exceeded", "made", also)


def of_runs(*names: str) -> Estimate:
    return Estimate(60.0, 58.5, 61.5, (59.0,), 100, names)


def lines(html) -> list[list[str]]:
    """The cells of every row, as text."""
    rows = re.findall(r"<tr>(.*?)</tr>", html.data)
    return [
        [re.sub(r"<[^>]+>", "", told) for told in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in rows
    ]


def test_costs_have_a_line_for_each_set_of_runs_and_each_run_once_in_the_sum(make_record):
    runs = [make_record(f"{name}-seed{seed}-0", seed=seed) for seed, name in enumerate("abc")]
    runs.append(make_record("d-seed0-0", profile="reduced"))
    runs.append(make_record("dropout0.3-seed4-0", contrast="on purpose"))
    a, b, c, d, _ = (run.run for run in runs)
    other = CELL.model_copy(update={"id": "other", "row": "Theirs", "metric": "balanced_accuracy"})
    found = [
        compared(of_runs(b, a), other),  # the same runs as below, with another figure
        compared(of_runs(a, b), **{"20 epochs": of_runs(d), "20 epochs, on val": of_runs(d)}),
        compared(None, other, **{"on val": of_runs(a), "people apart": of_runs(b, c)}),
    ]
    cpu = "cpu, 2 cores"
    assert lines(display.costs(found, runs)) == [
        ["Paper", "Runs", "Training, s", "Prediction, s", "Device"],
        ["yengikand2023", "5", "6", "0.0", cpu],  # of 1.25 s each
        ["Read from them", "Kind", "Runs", "Training, s", "Prediction, s", "Device"],
        ["II: Ours &lt;b&gt;, FER2013; Theirs, FER2013", "full", "2", "2", "0.0", cpu],
        ["II: Ours &lt;b&gt;, FER2013 (20 epochs)", "reduced", "1", "1", "0.0", cpu],
        ["II: Theirs, FER2013 (on val)", "full", "1", "1", "0.0", cpu],
        ["II: Theirs, FER2013 (people apart)", "full", "2", "2", "0.0", cpu],
        ["No number, or not yet: dropout0.3", "contrast", "1", "1", "0.0", cpu],
    ]


def test_energy_is_told_where_a_machine_counts_it(make_record):
    gpu = {"kind": "cuda", "model": "a GPU", "joules": 2500.0}
    runs = [make_record("a"), make_record("b").model_copy(update={"device": gpu})]
    told = lines(display.costs([compared(of_runs("a")), compared(of_runs("b"))], runs))
    assert [row[-2:] for row in told if row[0].startswith("II")] == [
        ["cpu, 2 cores", "not measured"],
        ["a GPU", "2.5"],
    ]
    assert "Energy" not in text(display.costs([compared(of_runs("a"))], runs[:1]))


def test_a_headline_without_a_run_has_what_one_seed_is_expected_to_take(make_record):
    paper = load_published("yengikand2023")
    cells = {cell.id: cell for cell in paper.cells}
    jaffe, fer2013 = cells["table2-ours-jaffe"], cells["table2-ours-fer2013"]
    beside = CELL.model_copy(update={"id": "beside"})
    found = [compared(of_runs("a"), fer2013), compared(None, jaffe), compared(None, beside)]
    weights = planned("weights", "table2-ours-fer2013", 1000, state="recorded")
    folds = [planned(f"fold{k}", jaffe.id, 17, first=("weights",)) for k in range(10)]
    plan = [weights, *folds, planned("more", "beside", 50)]
    told = lines(display.costs(found, [make_record("a")], plan))
    assert [row for row in told if "Jaffe" in row[0] or row[1] == "expected, one seed"] == [
        ["II: Our model, Jaffe", "expected, one seed", "11", "1,170", "", "one core"]
    ]

    plan[1] = planned("fold0", jaffe.id, None)
    assert "not known" in text(display.costs(found, [make_record("a")], plan))


def planned(name, cell, seconds, **more) -> Run:
    paper, fields = "yengikand2023", {"dataset": "jaffe", "seed": 0}
    return Run(name, paper, {}, fields, ("full",), (), (cell,), 0, seconds=seconds, **more)


# ---- faces that may be shown -------------------------------------------------------------------


def of_set(name, subjects) -> FaceDataset:
    """As many made faces as subjects, said to be of the set `name`; the images count from 0."""
    count = len(subjects)
    images = (
        np.zeros((count, 8, 8, 1), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
    )
    labels = np.arange(count) % 2
    return FaceDataset(name, images, labels, ("anger", "fear"), subjects=np.array(subjects))


def drawn_from(data):
    """What `permitted` draws, and the rows of the set it was given; nothing where it draws none."""
    given = []

    def draw(some):
        given.extend(int(image[0, 0, 0]) for image in some.images)
        return plots.first_faces(some)

    return plots.permitted(data, draw), given


def test_no_face_is_drawn_where_the_manifest_forbids_it():
    shown, given = drawn_from(of_set("fer2013", ["someone"] * 3))
    assert given == []
    assert load_manifest("fer2013").faces.wording in shown.data


def test_only_the_persons_that_a_manifest_names_are_drawn():
    allowed = load_manifest("ckplus").faces.subjects
    assert allowed, "the manifest names nobody any more: choose another set"
    shown, given = drawn_from(of_set("ckplus", ["S999", allowed[0], "S998", allowed[-1]]))
    assert isinstance(shown, Figure)
    assert given == [1, 3]
    shown, given = drawn_from(of_set("ckplus", ["S999", "S998"]))
    assert given == []
    assert load_manifest("ckplus").faces.wording in shown.data


def test_synthetic_faces_are_drawn_under_their_expressions_and_below_what_becomes_of_them():
    faces = of_set("synthetic", ["a", "b", "c"])
    figure = plots.permitted(faces, lambda some: plots.changed_faces(some, lambda x: 255 - x, 2))
    above, below = figure.axes[:2], figure.axes[2:]
    assert [axis.get_title() for axis in above] == ["anger", "fear"]
    for one, other in zip(above, below, strict=True):
        np.testing.assert_array_equal(
            other.images[0].get_array(), 255 - np.asarray(one.images[0].get_array())
        )


def test_front_page_names_each_paper_once_and_folds_what_has_no_run(monkeypatch):
    papers = [load_published(name) for name in ("rahman2021", "yengikand2023")]
    papers[1] = papers[1].model_copy(update={"headline_note": None})
    by_name = {paper.paper: paper for paper in papers}
    monkeypatch.setattr("fer_utils.display.papers.load_published", by_name.get)
    alone = replace(OURS, values=(60.0,), runs=("a",))
    found = [
        Comparison(paper.paper, table.id, cell, ours, verdict, "made", {"by subject": OURS})
        for paper in papers
        for table in paper.tables
        for cell in table.cells
        for ours, verdict in [
            (alone if cell.row.startswith("VGG19") else OURS, "exceeded")
            if "30 Epochs" in cell.column
            else (None, "not attempted")
        ]
    ]
    shown = display.headlines(found, "chapters/report-").data
    rows = re.findall(r"<tr>(.*?)</tr>", shown)
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]
    assert cells[0] == ["Result", "Verdict", "Published", "Ours"]
    thirty = [row for row in cells if "30 Epochs" in row[0]]
    assert len(thirty) == 3
    assert all('data-verdict="exceeded"' in row[1] for row in thirty)
    assert ["from one seed" in row[1] for row in thirty] == [False, True, False]
    first, second = (
        f'<strong><a href="chapters/report-{paper.paper}.html">{paper.paper}</a></strong>'
        for paper in papers
    )
    assert papers[0].headline_note
    assert not papers[1].headline_note
    assert shown.count('<th colspan="4" scope="colgroup"><strong><a') == 2
    assert [row[0] for row in cells if "30 Epochs" not in row[0]][1:] == [
        f"{first}<br><small>{papers[0].headline_note}</small>",
        *["<em>by subject</em>"] * 3,  # what was measured beside a judged number stands below it
        "20 Epochs: Resnet18 53.60%, VGG19 54.22%, Ensemble 57.48%; "
        "300 Epochs: Resnet18 64.61%, VGG19 68.90%, Ensemble 69.54%",
        second,
        "Our model: Fer2013 65.32, CK+ 97.01, Jaffe 79.19",
    ]


def test_what_stands_beside_a_result_says_when_its_code_is_another():
    paper = load_published("nouisser2023")
    (cell,) = (cell for cell in paper.cells if cell.id == "table4-ours")
    beside = {"now": OURS, "before": replace(OURS, stale=True)}
    found = Comparison(paper.paper, "Table 4", cell, None, "not attempted", "made", beside)
    now, before = re.findall(r"<tr>(?:(?!<tr>).)*<em>.*?</tr>", display.verdicts([found]).data)
    assert 'data-verdict="stale"' not in now
    assert 'data-verdict="stale"' in before


def test_what_stands_beside_a_result_reaches_to_its_number():
    """No verdict and no printed number stand on its line: its words have their place."""
    found = Comparison("p", "Table 1", CELL, OURS, "reproduced", "made", {"by subject": OURS})
    html = display.verdicts([found]).data
    head, across, own, beside = re.findall(r"<tr>(.*?)</tr>", html)
    spans = [
        [int(wide or 1) for wide in re.findall(r'<t[dh](?: colspan="(\d)")?[^>]*>', line)]
        for line in (head, across, own, beside)
    ]
    assert spans == [[1] * 5, [5], [1] * 5, [3, 1, 1]]
    assert re.search(r"<th[^>]*>Table 1</th>", across)
    assert re.search(r'<td colspan="3"[^>]*><em>by subject</em></td>', beside)


def test_the_only_result_of_a_paper_without_runs_keeps_what_was_measured_beside_it():
    paper = load_published("nouisser2023")
    cells = {cell.id: (table.id, cell) for table in paper.tables for cell in table.cells}
    table, cell = cells[paper.headline[0]]
    beside = {"from scratch": OURS}
    found = Comparison(paper.paper, table, cell, None, "not attempted", "made", beside)
    shown = display.headlines([found], "").data
    assert shown.index("not attempted") < shown.index("<em>from scratch</em>")
    assert "from one seed" not in shown


def test_results_without_runs_keep_what_tells_their_rows_apart():
    paper = load_published("rahman2021")
    by_id = {cell.id: cell for table in paper.tables for cell in table.cells}
    rows = ("Resnet18, accuracy <b>", "Resnet18, loss", "VGG19, loss")
    found = [
        Comparison(
            paper.paper, "made", cell.model_copy(update={"row": row}), None, "not attempted", ""
        )
        for row, cell in zip(rows, map(by_id.get, paper.headline), strict=False)
    ]
    told = display.headlines(found, "").data
    assert (
        "20 Epochs: Resnet18, accuracy &lt;b&gt; 53.60%; 30 Epochs: Resnet18, loss 55.11%" in told
    )


def test_front_page_says_where_ours_was_split_by_image():
    paper = load_published("yengikand2023")
    by_id = {cell.id: (table.id, cell) for table in paper.tables for cell in table.cells}
    found = [
        Comparison(paper.paper, table, cell, OURS, "reproduced", "made")
        for table, cell in map(by_id.get, ("table2-ours-fer2013", "table2-ours-ckplus"))
    ]
    fer2013, ckplus = re.findall(r"<td[^>]*>(Our model[^<]*)", display.headlines(found, "").data)
    assert "split by image" not in fer2013
    assert "(ours split by image)" in ckplus


def test_a_paper_more_is_on_the_front_page_which_names_none_itself(tmp_path):
    """What it shows of papers is glued to it from the page of results."""
    intro = (ROOT / "book" / "intro.md").read_text(encoding="utf8")
    glued = re.findall(r"```{glue} (\w+)\n:doc: chapters/results.ipynb\n```", intro)
    assert not [paper for paper in published_papers() if paper in intro]

    for name in ("fer_utils", "data_manifests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    published = tmp_path / "data_manifests" / "published"
    paper = (published / "yengikand2023.yaml").read_text(encoding="utf8")
    more = paper.replace("yengikand2023", "smith2024")
    (published / "smith2024.yaml").write_text(more, encoding="utf8")
    cells = json.loads((ROOT / "notebooks" / "results.ipynb").read_text(encoding="utf8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    last = next(k for k, source in enumerate(code) if "import glue" in source)
    told = "import myst_nb\nmyst_nb.glue = lambda name, shown, display: print(name, shown.data)"
    shown = subprocess.run(
        [sys.executable, "-c", "\n".join([told, *code[: last + 1]])],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert [line.partition(" ")[0] for line in shown] == ["headlines", "papers"]
    assert sorted(glued) == ["headlines", "papers"]
    assert all('href="chapters/report-smith2024.html"' in line for line in shown)
    assert 'href="chapters/smith2024.html"' in shown[1]


def test_dropped_images_are_told_as_shares_of_each_expression_and_of_all():
    train = {"anger": {"images": 1000, "dropped": 250}, "fear": {"images": 3000, "dropped": 0}}
    rows = re.findall(r"<tr>(.*?)</tr>", display.dropped({"hog": {"train": train}}).data)
    cells = [
        re.findall(r">([^<>]+)</t[dh]>", row.replace("\N{NO-BREAK SPACE}", " ")) for row in rows
    ]
    assert cells == [
        ["Expression", "train, hog"],
        ["anger", "25.0 % of 1,000"],
        ["fear", "0.0 % of 3,000"],
        ["all", "6.2 % of 4,000"],
    ]


def test_changes_of_a_row_are_paired_and_need_every_fold(make_predictions, tmp_path):
    def cell(row, value, form):
        by_image, by_fold = ({"form": form, "protocol": name} for name in ("image", "apart"))
        also = {"apart": by_fold, "never run": {"form": form, "protocol": "none"}}
        fields = {"row": row, "value": value, "printed": str(value), "unit": "fraction"}
        made = PublishedCell(**CELL.model_dump() | fields | {"select": by_image, "also": also})
        return Comparison("p", "t", made, OURS, "inconclusive", "made")

    def made(form, protocol, scores, **fields):
        name = f"{form}-{protocol}-{fields.get('fold', '')}-{fields.get('seed', 0)}"
        return make_predictions(name, scores, form=form, protocol=protocol, **fields)

    found = [cell("Whole <b>", 0.99, "whole"), cell("without", 0.97, "less"), cell("x", 0.9, "x")]
    all_right, half = np.ones(20), np.r_[np.ones(10), np.zeros(10)]
    recorded = [made("whole", "image", all_right), made("less", "image", half)]
    recorded += [made("whole", "apart", half, fold=fold) for fold in (0, 1)]
    recorded += [made("less", "apart", all_right, fold=fold) for fold in (0, 1)]
    recorded += [made("x", "apart", all_right, fold=0)]  # one of two folds

    html = display.changes(found, found[0], recorded, tmp_path).data
    assert "<caption>Against: Whole &lt;b&gt;</caption>" in html
    rows = re.findall(r"<tr>(.*?)</tr>", html.replace("\N{NO-BREAK SPACE}", " "))
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]
    assert cells[0] == ["Setting", "Printed, points", "Ours", "apart"]
    assert [row[:2] for row in cells[1:]] == [["without", "-2.00"], ["x", "-9.00"]]
    assert [row[2].split(" ")[0] for row in cells[1:]] == ["-50.0", "–"]
    assert [row[3].split(" ")[0] for row in cells[1:]] == ["+50.0", "–"]
    assert "seed" not in html
    recorded.append(made("whole", "image", half, seed=1))
    html = display.changes(found, found[0], recorded, tmp_path).data
    assert re.search(r">-50\.0 \([^)]*\), seed 0</td>", html.replace("\N{NO-BREAK SPACE}", " "))


# ---- nothing recorded --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [
        lambda: display.runs([], ["dropout"]),
        lambda: display.parts_and_figures([], ["dropout"]),
        lambda: display.rules(display.by_rule([])),
        lambda: display.dropped({}),
        lambda: display.paired([]),
        lambda: plots.learning_curves([], "seed {seed}"),
        lambda: plots.confusion([]),
        lambda: plots.confusions({}),
        lambda: plots.against_paper([Comparison("p", "t", CELL, None, "not attempted", "none")]),
    ],
)
def test_where_nothing_is_recorded_a_sentence_says_so(draw):
    assert re.fullmatch(r"\*No .+ is recorded.*\.\*", draw().data)


def test_curves_are_named_by_a_pattern_of_parameters(make_record):
    runs = [make_record("a", seed=3, epochs=20), make_record("b", seed=4, epochs=30)]
    runs = [
        run.model_copy(
            update={"history": {**run.history, "accuracy": [0.1, 0.2], "val_loss": [1, 2]}}
        )
        for run in runs
    ]
    for titles, expected in (
        ("{epochs} epochs, seed {seed}", ["20 epochs, seed 3", "30 epochs, seed 4"]),
        (["one", "two"], ["one", "two"]),
        ("both", ["both"]),
        ("", ["a", "b"]),
    ):
        legend = plots.learning_curves(runs, titles).axes[1].get_legend()
        assert [label.get_text() for label in legend.get_texts()] == expected


# ---- networks ----------------------------------------------------------------------------------


def boxes_of(figure) -> dict[str, str]:
    """The names in a drawing of blocks and the shape under each."""
    words = [label.get_text() for label in figure.axes[0].texts]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_drawings_show_the_widths_that_the_models_have():
    drawn = boxes_of(drawings.blocks(*yengikand2023.layout()))
    for n, width in enumerate(yengikand2023.WIDTHS, start=1):
        assert drawn[f"separable {n}"].endswith(f"x{width}")
    assert drawn["perceptron"] == str(yengikand2023.PERCEPTRON_UNITS)

    drawn = boxes_of(drawings.blocks(*wang2023.layout()))
    assert [drawn[f"module {n}"] for n in (1, 2, 3)] == ["24x24x24", "12x12x48", "6x6x96"]

    figure = drawings.blocks(*nouisser2023.layout())
    drawn = boxes_of(figure)
    assert (drawn["separable 13"], drawn["pooling"]) == ("1x1x1024", "1024")
    arrows = len(figure.axes[0].patches) - len(drawn)
    assert arrows == len(drawn) - 1 + len(nouisser2023.BLOCKS)  # one on, and one over each block

    drawn = boxes_of(drawings.blocks(*rahman2021.layout()))
    assert (drawn["stage 4"], drawn["block 5"], drawn["layer"]) == ("2x2x512", "1x1x512", "7")
    (axis,) = drawings.diagram(*wang2023.module_layout()).axes
    assert len(axis.texts) == 9
    (axis,) = drawings.diagram(*nouisser2023.attention_layout()).axes
    heads, units = nouisser2023.HEADS, nouisser2023.UNITS
    assert {f"value\n{heads} x {units}", f"{heads} heads\njoined"} <= {
        label.get_text() for label in axis.texts
    }


# ---- tables and sentences of chapters ----------------------------------------------------------


def test_another_network_stands_beside_ours_with_the_seeds_of_both():
    two = replace(OURS, mean=57.5, values=(55.0, 60.0))
    one = replace(OURS, values=(60.0,))
    assert display.beside("Wider", one, two, "ours") == (
        "**Wider.** 60.00 (58.50\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}61.50) % (1 seed), "
        "+2.50 points against ours (2 seeds)."
    )
    assert display.beside("Wider", None, two, "ours") == ""


def test_verdicts_can_be_narrowed_to_tables_and_figures():
    recall = CELL.model_copy(update={"metric": "recall", "row": "a recall"})
    found = [
        Comparison("p", "Table 1", CELL, OURS, "not reproduced", "below"),
        Comparison("p", "Table 2", recall, OURS, "not reproduced", "below"),
    ]
    assert "a recall" not in text(display.verdicts(found, tables=["Table 1"]))
    assert "a recall" not in text(display.verdicts(found, figures=["accuracy"]))
    assert "Table 1" not in text(display.verdicts(found, tables=["Table 2"]))
    assert text(display.verdicts(found)).count("65.32") == 2


def test_the_accuracies_above_one_half_follow_from_recall_and_precision():
    cells = [
        CELL.model_copy(
            update={
                "id": metric,
                "metric": metric,
                "value": value,
                "printed": printed,
                "dataset": "fer2013",
            }
        )
        for metric, value, printed in (
            ("accuracy", 0.9, "0.9"),
            ("balanced_accuracy", 0.8, "0.8000"),
            ("macro_precision", None, "05000"),
        )
    ]
    told = text(display.above_one_half(cells, {"macro_precision": 0.5}))
    # 1 - (0.2 + 0.8) / 7 = 0.8571 of seven outputs each; from 0.8 to 1 - 0.8 of images: cannot be.
    assert re.search(r"0\.8000 +05000 +0\.857\d to 0\.857\d +0\.9 +0\.(7999|8000) to 0\.200", told)
    assert "Model" not in text(display.above_one_half(cells[:2], {}))


def test_pairs_are_fusions_and_members_of_the_same_training(make_record):
    def run(model, **more):
        return make_record(model, model=model, **{"epochs": 20, "members": [], **more})

    fusion, member = run("fusion_layer", members=["a", "b"]), run("vgg19")
    others = [run("vgg19", epochs=30), run("vgg19_bn")]
    pairs = display.fusions_with_members([fusion, member, *others], ("resnet18", "vgg19"))
    assert pairs == [(fusion, member)]


def test_a_judged_number_is_one_sentence_with_its_verdict_and_nothing_without_runs():
    found = Comparison("p", "t", CELL, OURS, "not reproduced", "below")
    told = display.judged("FER2013", found).replace("\N{NO-BREAK SPACE}", " ")
    assert told == (
        "**FER2013.** Printed 65.32 %, ours 60.00 (58.50 to 61.50) %: *not reproduced* (below)."
    )
    nothing = Comparison("p", "t", CELL, None, "not attempted", "none")
    assert display.judged("FER2013", nothing) == display.kept_apart(nothing) == ""
    assert display.kept_apart(found) == ""


def test_how_far_a_protocol_moves_a_number_is_told_in_points():
    other = Estimate(48.5, 1, 2, (), 9, standard_error=4.0)
    percent = Comparison(
        "p", "t", CELL, replace(OURS, standard_error=3.0), "r", "", {"subjects kept apart": other}
    )
    half = 5.0 * stats.norm.ppf(0.95)  # independent: the hypotenuse of 3 and 4
    ends = f"{11.5 - half:.1f} to {11.5 + half:.1f}"
    assert display.kept_apart(percent).endswith(f"moves the number by 11.5 ({ends}) points.")
    cell = CELL.model_copy(update={"unit": "fraction"})
    fractions = [Estimate(value, 0, 1, (), 9) for value in (0.9, 0.75)]
    found = Comparison("p", "t", cell, fractions[0], "r", "", {"subjects kept apart": fractions[1]})
    assert display.kept_apart(found).endswith("moves the number by 15.0 (15.0 to 15.0) points.")
    assert " %" not in display.kept_apart(found)


def test_a_verdict_on_another_part_is_told_beside_the_one_on_ours():
    inside = Estimate(65.0, 64.0, 66.0, (65.0,), 100)
    found = Comparison("p", "t", CELL, OURS, "not reproduced", "", {"on PublicTest": inside})
    told = display.on_other_part(found, "on PublicTest").replace("\N{NO-BREAK SPACE}", " ")
    assert told == (
        " On PublicTest, the same runs give 65.00 (64.00 to 66.00) %: against the same margin "
        "*reproduced*."
    )
    assert display.on_other_part(found, "on another") == ""


def rows_of(html) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", html.data)
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows][1:]


def test_a_number_printed_twice_is_one_verdict_and_counting_takes_no_run():
    counted = Estimate(9.0, 9.0, 9.0, (9.0,), 0)
    again = CELL.model_copy(update={"id": "again"})
    other = CELL.model_copy(update={"id": "other", "printed": "66.32", "value": 66.32})
    found = [
        *(Comparison("p", "t", cell, OURS, "reproduced", "") for cell in (CELL, again, other)),
        Comparison("p", "t", other, counted, "reproduced", ""),
        Comparison("p", "t", other.model_copy(update={"margin": None}), None, None, ""),
    ]
    alone = replace(OURS, values=(60.0,), runs=("a",))
    one = Comparison("q", "t", CELL, alone, "reproduced", "")
    rows = rows_of(display.tally({"p": found, "q": [found[0], one]}, "report-"))
    assert [row[1:] for row in rows] == [["2 (3)", "1"], ["1", "0"], ["0", "1"]]
    assert ["without a run" in row[0] for row in rows] == [False, True, False]
    assert ["from one seed" in row[0] for row in rows] == [False, False, True]


def test_how_many_verdicts_depend_on_rounding():
    edge = Estimate(64.0, 63.3235, 66.0, (64.0,), 100, ("a",))  # 1.9965 below 65.32
    found = [
        *(Comparison("p", t, CELL, edge, "reproduced", "") for t in ("t", "again")),
        Comparison("p", "t", CELL.model_copy(update={"printed": "65.3"}), OURS, "x", ""),
        Comparison("p", "t", CELL.model_copy(update={"printed": "65"}), None, "not attempted", ""),
        Comparison("p", "t", CELL, None, None, ""),
    ]
    told = display.rounded(found).data
    assert "1 of 2 verdicts could differ, each between *inconclusive* and one other." in told
    assert "0 of 1 verdicts could differ." in display.rounded(found[2:]).data


def test_values_without_a_margin_stand_beside_what_was_used_or_measured(make_record):
    def printed(name, figure, **more):
        cell = CELL.model_copy(update={"margin": None, "id": name, "metric": figure, **more})
        return Comparison("p", "t", cell, None, None, "no margin")

    asked = {"dataset": "fer2013", "model": "a"}
    run = make_record("one", matrix=[[30, 10], [25, 5]], **asked)  # one of two by its own name
    judged = Comparison("p", "t", CELL, OURS, "reproduced", "")
    rows = rows_of(
        display.settings(
            [
                printed("rate-at-start", "learning_rate"),
                printed("rate-at-end", "learning_rate"),
                printed("heads", "heads"),
                judged,
                printed("five", "expressions_detected", select=asked),
                printed("none", "expressions_detected", select={**asked, "model": "b"}),
            ],
            {"learning_rate": 0.1, "rate-at-end": 0.01},
            [run],
        )
    )
    assert [row[3] for row in rows] == ["0.1", "0.01", "–", "1", "–"]


def test_improvements_are_ours_less_the_cited_rows_in_points():
    paper = load_published("wang2023")
    half = 0.02 / 1.6449  # a normal interval of 2 points to either side, which ends at 1
    ours = {"table4-ours-ckplus": Estimate(0.99, 0.97, 1, (0.99,), 147, standard_error=half)}
    found = [
        Comparison(paper.paper, table.id, cell, ours.get(cell.id), None, "made")
        for table in paper.tables
        for cell in table.cells
    ]
    rows = {row[0]: row for row in rows_of(display.improvements("wang2023", found))}
    (pacnn,) = (row for name, row in rows.items() if name.startswith("PACNN"))
    assert pacnn[1:3] == ["0.9703", "2.29%"]
    assert pacnn[3] == "+1.97 (-0.03 to +2.97)"
    assert {row[3] for name, row in rows.items() if name.endswith("FER+")} == {"–"}


def test_what_comes_up_to_a_printed_number_is_named(make_record):
    run = make_record("one", variant="skips")
    high = {"accuracy": 0.2, "elementwise_accuracy": 0.97}
    run = run.model_copy(update={"metrics": {"test": high, "train": {**high, "accuracy": 0.961}}})
    told = display.reached([run], ["variant", "attention_from", "balancing"], 96.02).data
    assert told.count("(skips)") == 3  # it has no value of the others
    assert "test, element-wise: 97.00" in told
    assert "training images, top-1: 96.10" in told
    assert display.reached([run], ["variant"], 98).data == "No run reaches 98."
    more = {"variant": "attention", "attention_from": 6, "balancing": "train"}
    run = run.model_copy(update={"parameters": more})
    told = display.reached([run], ["variant", "attention_from", "balancing"], 96.02).data
    assert told.count("(attention; attention from: 6; balancing: train)") == 3


def test_epochs_kept_before_the_rate_falls_are_counted(make_record):
    def kept(epoch, rates):
        run = make_record(f"kept{epoch}")
        return run.model_copy(
            update={
                "history": {**run.history, "learning_rate": rates},
                "selection": run.selection.model_copy(update={"epoch": epoch}),
            }
        )

    falling = [0.1, 0.1, 0.01]
    told = display.before_first_fall([kept(2, falling), kept(3, falling)]).data
    assert told.startswith("In 1 of 2 runs")
    assert "(epoch 3)" in told
    assert display.before_first_fall([kept(1, [0.1, 0.1])]) is None


def test_a_search_whose_runs_differ_in_more_than_the_parameter_is_refused(make_record):
    def scored(name, accuracy):
        run = make_record(name, dropout=0.2)
        return run.model_copy(update={"metrics": {**run.metrics, "val": {"accuracy": accuracy}}})

    same = [scored("a", 0.5), scored("b", 0.5)]
    assert display.validation_by("dropout", same)["dropout"].endswith("0.2: 50.00")
    with pytest.raises(ValueError, match=r"two runs with dropout 0\.2 differ: c"):
        display.validation_by("dropout", [*same, scored("c", 0.6)])


def test_a_discussion_leaves_out_what_has_no_runs():
    assert display.discussion("one", "", "two").data == "one\n\ntwo"
    assert display.discussion("", "", otherwise="None yet.").data == "None yet."


def test_compute_counts_runs_and_names_each_device_once(make_record):
    runs = [make_record(name).model_copy(update={"timings": {"training": 5400}}) for name in "ab"]
    assert "2 recorded runs, 3.0 hours of training, on cpu, 2 cores." in display.compute(runs)
    assert "1 recorded run, 1.5 hours" in display.compute(runs[:1])
    assert display.compute([]) == ""


def test_every_device_of_a_run_is_named(make_record):
    calls = [{"kind": "gpu", "gpu": "a GPU"}, {"kind": "cpu", "model": "a core", "threads": 1}]
    mixed = {"kind": "mixed", "model": "a GPU and a core", "calls": calls}
    runs = [make_record().model_copy(update={"device": device}) for device in (mixed, calls[0])]
    assert display.devices(runs) == "a GPU; a core, 1 core"
    wide = calls[1] | {"instructions": "AVX2"}
    runs = [make_record().model_copy(update={"device": wide})]
    assert display.devices(runs) == "a core with AVX2, 1 core"


def test_epochs_that_a_longer_run_went_on_from_are_counted_once(make_record):
    def trained_for(*hours, seed=0, **more):
        run = make_record(f"{hours}{seed}{more}", epochs=len(hours), seed=seed, **more)
        seconds = [3600.0 * hour for hour in hours]
        told = {
            "history": {**run.history, "seconds": seconds},
            "timings": {"training": sum(seconds)},
        }
        return run.model_copy(update=told)

    longest, short, longer = trained_for(4, 2, 8, 16), trained_for(4, 2), trained_for(4, 2, 8)
    runs = [longest, short, longer]
    assert " 30.0 hours of training" in display.compute(runs)
    assert " 30.0 hours of training" in display.compute([longest, longer])
    # Begun anew, from the same first epoch alone, and of other parameters.
    apart = [trained_for(5, 2, 8, seed=0), trained_for(4, 3), trained_for(4, 2, rate=0.1)]
    assert " 54.0 hours of training" in display.compute([*runs, *apart])

    told = lines(display.costs([compared(of_runs(short.run)), compared(of_runs(longer.run))], runs))
    assert [row[3] for row in told if row[0].startswith("II")] == ["21,600", "50,400"]
    assert told[1][:3] == ["yengikand2023", "3", "108,000"]


def test_repeated_columns_are_told_only_when_whole():
    cell = CELL.model_copy(update={"unit": "fraction", "printed": "0.97", "row": "plain"})
    ours = Estimate(0.96, 0.94, 0.98, (), 147)
    found = Comparison("p", "t", cell, ours, "inconclusive", "")
    told = display.repeated("Table 3", [found])
    assert told.startswith("**Table 3.** plain: 0.97, ours 0.9600.")
    assert "up to 4.0 points wide" in told
    missing = Comparison("p", "t", cell, None, "not attempted", "")
    assert display.repeated("Table 3", [found, missing]) == ""


def test_open_details_read_reduced_runs_only_where_they_are_asked_to(make_record):
    detail = OpenDetail(
        id="a", detail="Rate", choice="1", reason="small", other={"half": {"rate": 0.5}}
    )
    reduced = [make_record(profile="reduced", rate=0.5, seed=seed) for seed in (0, 1)]
    ours = [make_record(rate=1, correct=24)]
    assert "not measured" in text(display.open_details([detail], reduced, ours, {}))
    told = text(display.open_details([detail], reduced, ours, {}, ("reduced", "full")))
    assert re.search(r"half: 75\.00 .* ours: 60\.00", told)


def test_a_detail_is_compared_with_the_runs_of_its_own_choice(make_record):
    fields = {"id": "a", "detail": "Fusion", "choice": "a layer", "reason": "trained"}
    detail = OpenDetail(**fields, other={"vote": {"how": "vote"}}, ours={"how": "layer"})
    headline, layer, vote = (
        make_record(how=how, correct=correct)
        for how, correct in (("none", 10), ("layer", 32), ("vote", 28))
    )
    told = text(display.open_details([detail], [headline, layer, vote], [headline], {}))
    assert re.search(r"vote: 70\.00 \(.*?\), ours: 80\.00 \(", told)
    assert "images" not in told


def test_images_are_counted_where_two_choices_were_tested_on_others(make_record):
    detail = OpenDetail(
        id="a", detail="Faces", choice="1", reason="printed", other={"all": {"faces": "none"}}
    )
    some, whole = make_record(faces="hog"), make_record(faces="none", n=80)
    told = text(display.open_details([detail], [some, whole], [some], {}))
    assert re.search(r"all: 37\.50 \(.*?\) of 80 images, ours: 75\.00 \(.*?\) of 40 images", told)


def test_the_epoch_is_judged_by_what_training_measured_and_the_part_by_its_score(make_record):
    history = {"loss": [3, 2, 1], "val_accuracy": [0.5, 0.7, 0.6]}  # in training, without crops
    told = display.epochs_and_parts([make_record().model_copy(update={"history": history})])
    assert told["epoch"] == "validation accuracy of the last epoch 60.00, of the chosen one 70.00"
    assert told["test-part"].endswith(": 75.00")
    assert display.epochs_and_parts([]) == {}


def test_what_all_runs_share_stands_above_them(make_record):
    runs = [make_record(rate=rate, padding=4) for rate in (0.1, 0.01)]
    runs = [
        run.model_copy(update={"history": {"loss": [1, 2]}, "timings": {"training": 60}})
        for run in runs
    ]
    shown = display.runs(runs, ["rate", "padding"]).data
    assert "<caption>padding: 4</caption>" in shown
    assert re.findall(r"<th [^>]*>(\w+)", shown)[:2] == ["rate", "Seed"]


def test_the_commit_of_a_run_says_whether_files_had_changed_since(make_record):
    told = {"history": {"loss": [1]}, "timings": {"training": 60}}
    code = make_record().code
    codes = [code.model_copy(update={"commit": "0123456789", "modified": m}) for m in (False, True)]
    runs = [make_record(seed=n).model_copy(update=told | {"code": c}) for n, c in enumerate(codes)]
    assert re.findall(r">(0123456\+?)<", display.runs(runs, []).data) == ["0123456", "0123456+"]


def test_runs_that_the_named_parameters_do_not_tell_apart_name_what_does(make_record):
    runs = [make_record(rate=0.1, mode="majority", padding=4), make_record(rate=0.2, padding=8)]
    runs += [make_record(rate=0.1, mode="probability", padding=4)]
    figures = {"history": {"loss": [1]}, "timings": {"training": 60}}
    runs = [run.model_copy(update=figures) for run in runs]
    shown = display.runs(runs, ["rate"]).data
    assert re.findall(r"<th [^>]*>(\w+)", shown)[:3] == ["rate", "mode", "Seed"]
    first, _, last = (
        re.findall(r"<td [^>]*>([^<]*)", row)[:2] for row in re.findall(r"<tr>(<td.*?)</tr>", shown)
    )
    assert (first, last) == (["0.1", "majority"], ["0.1", "probability"])
    runs[2].parameters["rate"] = 0.3  # now the rate does
    assert "mode" not in display.runs(runs, ["rate"]).data


def test_figures_of_each_part_are_means_over_seeds_under_what_all_runs_share(make_record):
    runs = [make_record(kind=kind, weights="none") for kind in ("new", "new", "old")]
    for run, accuracy in zip(runs, (0.5, 0.7, 0.4), strict=True):
        figures = {"balanced_accuracy": 0.5, "elementwise_accuracy": 0.8}
        run.metrics["test"] |= {"accuracy": accuracy, **figures}
        del run.metrics["val"]
    shown = display.parts_and_figures(runs, ["kind", "weights"]).data
    (caption,) = re.findall(r"<caption>(.*?)</caption>", shown)
    assert caption.startswith("weights: none; a network whose outputs are all below one half has ")
    rows = [re.findall(r"<td [^>]*>([^<]*)", row) for row in shown.split("</tr>")]
    assert [row[:4] for row in rows if row] == [
        ["new", "test", "2", "60.00"],
        ["old", "test", "1", "40.00"],
    ]


def test_outputs_above_one_half_are_counted_over_all_images_and_expressions(make_record, tmp_path):
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.6, 0.7], [0.4, 0.3]], np.float32)
    labels = np.array([0, 1, 1, 0])
    run = make_record(kind="made")
    records.write(run, probabilities, labels, tmp_path)
    run = records.read(tmp_path / run.paper / f"{run.run}.json")
    shown = display.outputs_above_one_half([run], ["kind"], tmp_path).data
    # Above one half: 4 outputs, 2 of them the true ones of 4; wrong are 2 above and 2 below.
    assert re.findall(r"<td [^>]*>([\w.]+)", shown) == ["made", "1", "50.00", "50.00", "50.00"]


def test_a_card_names_its_paper_where_several_stand_together():
    found = Finding("p", "counts", ("a",), "said", "tested", "came out", (), "likely", "so", "not")
    assert "p: counts" not in text(display.findings([found]))
    assert "p: counts" in text(display.findings([found], named=True))


def step_of(
    paper: str, runs: str, mean: float, what: str = "what", images: int = 10, **more
) -> Step:
    change = Difference(mean, mean - 1, mean + 1, 0.3, np.inf)
    return Step(paper, runs, what, 60.0, 60 + mean, change, seeds=1, images=images, **more)


def lines_of(html) -> list[str]:
    """The text of each row, "|" between cells."""
    rows = re.findall(r"<tr>(.*?)</tr>", html.data.replace("<br>", " "))
    told = ["|".join(re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)) for row in rows]
    return [re.sub(r"<[^>]+>", "", row).replace("\N{NO-BREAK SPACE}", " ") for row in told]


def test_moved_numbers_stand_below_their_paper_and_the_middle_one_above():
    steps = [step_of("one", "a", 1), step_of("one", "b<", 7, among=20), step_of("two", "c", 3)]
    shown = display.moved(steps, "Before", "After")
    assert lines_of(shown) == [
        "Runs|Seeds|Images|Before, %|After, %|Points",
        "one",
        "a|1|10|60.00|61.00|+1.00 (+0.00 to +2.00)",
        "b&lt;|1|10 of 20|60.00|67.00|+7.00 (+6.00 to +8.00)",
        "two",
        "c|1|10|60.00|63.00|+3.00 (+2.00 to +4.00)",
    ]
    assert "3 sets of runs: median +3.00 points, range +1.00 to +7.00" in text(shown)
    assert "median" not in text(display.moved(steps[:2], "Before", "After"))
    assert display.moved([], "Before", "After").data == f"*{display.NO_RUN}*"


def test_several_changes_of_the_same_runs_have_a_column_each():
    """Where all sets of runs have as many images, the head says how many."""
    steps = [
        step_of("one", "a", 1, what="x", images=5),
        step_of("one", "a", 2, what="y"),
        step_of("one", "b", 3, what="x", images=6),
    ]
    assert lines_of(display.moved(steps, "Before")) == [
        "Runs|Seeds|Before, %|x, %|y (10 images), %",
        "one",
        "a|1|60.00|61.00 of 5 +1.00 (+0.00 to +2.00)|62.00 +2.00 (+1.00 to +3.00)",
        "b|1|60.00|63.00 of 6 +3.00 (+2.00 to +4.00)|–",
    ]


def test_seeds_of_a_set_of_runs_stand_beside_their_spread():
    found = [Spread("one", "a", (60.0, 62.0), 1.4142, 0.72, 22.55)]
    assert lines_of(display.spreads(found))[1:] == ["one", "a|2|60.00, 62.00|1.41 (0.72 to 22.55)"]
    equal = Spread("one", "a", (60.0, 60.0), 0.0, 0.0, 0.0)
    assert lines_of(display.spreads([equal]))[2] == "a|2|60.00, 60.00|0.00 (–)"
    assert "No run" in display.spreads([]).data


def test_a_repeated_run_says_whether_it_came_out_the_same():
    found = [Repeat("one", "a", (60.0, 60.0), True), Repeat("one", "b", (60.0, 61.5), False)]
    assert lines_of(display.repeats(found))[1:] == [
        "one",
        "a|60.00, 60.00|the same",
        "b|60.00, 61.50|another number",
    ]
    assert "No run" in display.repeats([]).data


def test_every_set_of_runs_has_a_dot_in_the_row_of_its_change():
    copies = [step_of("one", "a", -2), step_of("two", "a", -3)]
    steps = {"copies": copies, "none": [], "faces": [step_of("two", "a", 4)]}
    (axis,) = plots.moves(steps).axes
    dots = {
        (line.get_xdata()[0], round(line.get_ydata()[0]), line.get_color())
        for line in axis.lines
        if line.get_marker() == "o"
    }
    lines = {tuple(line.get_xdata()) for line in axis.lines if line.get_marker() != "o"}
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["copies", "faces"]
    assert {(x, row) for x, row, _ in dots} == {(-2, 0), (-3, 0), (4, 1)}
    assert lines >= {(-3, -1), (-4, -2), (3, 5)}
    colours = {x: colour for x, _, colour in dots}
    assert colours[-3] == colours[4] != colours[-2]
    assert plots.moves({"none": []}).data == f"*{display.NO_RUN}*"


def test_an_accuracy_without_copies_stands_beside_the_whole_with_the_images_of_each():
    change = Difference(-2.5, -3.0, -2.0, 0.3, np.inf)
    step = Step("p", "a-full", "copies", 60.0, 57.5, change, seeds=1, images=3239, among=3589)
    assert display.without_copies([step, step]).data.splitlines()[0] == (
        "- `a-full`, 1 seed: 60.00 % on the whole test part (3,589 images), 57.50 % without the "
        "350 that have a near copy in training (3,239 images); -2.50 points (-3.00 to -2.00)."
    )
    assert "No run" in display.without_copies([]).data
    assert display.on_faces([step]).data == (
        "- `a-full`, 1 seed: 60.00 % on the whole test part (3,589 images), 57.50 % on the 3,239 "
        "in which dlib's detector finds a face; -2.50 points (-3.00 to -2.00)."
    )
    assert "No run" in display.on_faces([]).data


def test_ties_of_votes_are_counted_and_the_same_predictions_scored_otherwise():
    report = data_report.read()
    (run,) = (
        run for run in records.read_all("wang2023") if run.run.startswith("ferplus-official-plain")
    )
    counts, _, line = display.ties([run], report).data.splitlines()
    train, _, test = report.ties.parts
    assert counts.startswith(f"{test.tied} of {test.images:,} test images (4.5 %)")
    assert f"{test.neutral} and {train.neutral} of them are labelled neutral" in counts
    right, images = data_report.with_any_leader(run, report)
    assert f"{100 * right / images:.2f} % if any of the expressions" in line
    right, images = data_report.without_ties(run, report)
    assert line.endswith(f"{100 * right / images:.2f} % without these images.")
    assert "not counted" in display.ties([run], None).data


def test_two_detectors_are_compared_image_by_image():
    found = {
        "train": FacesFound(both=5, hog_only=3, haar_only=1, none=1),
        "test": FacesFound(both=2, hog_only=4, haar_only=2, none=2),
    }
    quantiles = {"boxes": (0.7, 0.6), "crops": (0.9, 0.8), "centres": (1.5, 6.25)}
    measured = Detectors(
        versions={},
        found=found,
        **{name: Quantiles(median=a, worst=b) for name, (a, b) in quantiles.items()},
    )
    report = read().model_copy(update={"detectors": measured})
    rows = re.findall(r"<tr>(.*?)</tr>", display.detectors(report).data)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows[1:]]
    told = [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in cells]
    assert told == [
        ["train", "10", "5 (50.0 %)", "3 (30.0 %)", "1 (10.0 %)", "1 (10.0 %)"],
        ["test", "10", "2 (20.0 %)", "4 (40.0 %)", "2 (20.0 %)", "2 (20.0 %)"],
        ["all", "20", "7 (35.0 %)", "7 (35.0 %)", "3 (15.0 %)", "3 (15.0 %)"],
    ]
    apart = text(display.where_both_find(report))
    assert "7 images with a face by both" in apart
    assert re.search(
        r"boxes.*0\.70\s+at most 0\.60.*crops.*0\.90.*pixels\s+1\.50\s+at least 6\.25", apart
    )


def test_without_a_report_the_tables_say_what_makes_one():
    for show in (display.detectors, display.where_both_find):
        assert "fer-utils data report --write" in show(None).data


# ---- figures of papers -------------------------------------------------------------------------


def listed(*found, **fields) -> str:
    """A figure of a paper as a chapter shows it."""
    figure = PublishedFigure.model_validate({"id": "Figure 5.1", "shows": "a matrix"} | fields)
    return display.figures([figure], found)


def words(html) -> str:
    """The text of a table with single spaces."""
    return " ".join(text(html).split())


def test_a_figure_leads_to_ours_or_says_why_it_is_not_here():
    html = listed(page=34, here="CK+, by image", differs="the seeds <added> up")
    assert '<a href="#ck-by-image">CK+, by image</a>; the seeds &lt;added&gt; up' in html.data
    assert "5.1, p. 34" in text(html)
    html = listed(why_not="real faces & no number")
    assert "not here: real faces &amp; no number" in html.data
    assert "href" not in html.data


def test_a_figure_drawn_from_runs_tells_how_many_and_waits_where_there_are_none():
    drawn = Comparison("p", "Table 1", CELL, OURS, "reproduced", "inside")
    waiting = Comparison("p", "Table 1", CELL, None, "not attempted", "none")
    shorter = Comparison("p", "Table 1", CELL, None, "not attempted", "none", {"20 epochs": OURS})
    other = CELL.model_copy(update={"id": "other", "column": "CK+"})
    here = {"here": "Results", "cells": ["made"]}
    assert "Results (2 runs)" in words(listed(drawn, **here))
    assert "not yet, for no run is recorded" in words(listed(waiting, **here))
    assert "not yet" in words(listed(shorter, **here))
    told = words(listed(shorter, **here, instead="20 epochs"))
    assert "Results (2 runs, 20 epochs)" in told
    both = here | {"cells": ["made", "other"]}
    told = words(listed(drawn, Comparison("p", "t", other, None, None, "none"), **both))
    assert "Results (FER2013: 2 runs; CK+: none yet)" in told


def test_sizes_stand_under_a_heading_of_one_s_own_for_networks_of_either_framework():
    image = np.zeros((48, 48, 1), np.uint8)
    small = yengikand2023.build(widths=(2, 2, 2))
    resnet = rahman2021.build()
    html = display.sizes({"in Keras": small, "ResNet18": resnet}, image, "Network")
    header, first, last = lines(html)
    assert header[0] == "Network"
    assert first[1] == f"{small.count_params():,}"
    assert last[:4] == ["ResNet18", "11,173,831", "81,539,584", "1.00"]
    assert resnet.training  # as it was given
    assert lines(display.sizes({"depthwise": small}, image))[0][0] == "Convolution"


def test_networks_that_nobody_published_have_no_column_of_a_published_size():
    image = np.zeros((48, 48, 1), np.uint8)
    header, row = lines(display.networks({"ResNet18": rahman2021.build}, image))
    assert header[:2] == ["Network", "Parameters here"]
    assert row[:3] == ["ResNet18", "11,173,831", "81,539,584"]


def test_open_details_need_no_effects_of_the_chapter_s_own():
    detail = OpenDetail(id="a", detail="The split", choice="ours", reason="none")
    assert "not measured" in text(display.open_details([detail], [], []))
