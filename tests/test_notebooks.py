"""The chapters as papermill runs them. Their smoke runs are made by `make book`."""

import ast
import json
import math
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import get_args

import nbformat
import numpy as np
import pytest
import trees

from fer_utils import comparison, grid, parameters, records
from fer_utils.ferplus import vote_targets
from fer_utils.grid import chapters

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OTHERS = ("data", "audit", "gaps", "report", "results")
CHAPTERS = [path for path in NOTEBOOKS if path.stem not in OTHERS]


def papermill(notebook: str, out: Path, **parameters) -> subprocess.CompletedProcess:
    """Execute a notebook in the project's folder, as the README says.

    A kernel whose port another one took while it started is given others, as tools/execute.py does.
    """
    words = [word for key, value in parameters.items() for word in ("-p", key, str(value))]
    for _ in range(3):
        run = subprocess.run(
            [sys.executable, "-m", "papermill", f"notebooks/{notebook}.ipynb", out, *words],
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
        )
        if "Kernel died before replying to kernel_info" not in run.stderr:
            break
    return run


def not_as_committed(cells: list) -> list[str]:
    """A sentence on each thing that a notebook of the project does not have."""
    code = [cell for cell in cells if cell.cell_type == "code"]
    told = []
    if ran := [n for n, cell in enumerate(code, 1) if cell.outputs or cell.execution_count]:
        told.append(
            f"code cells {', '.join(map(str, ran))} carry outputs or a number of their execution; "
            "clear them with `jupyter nbconvert --clear-output --inplace`"
        )
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        told.append(f"{len(tagged)} cells are tagged parameters, and one has to be")
    for statement in (part for cell in tagged for part in ast.parse(cell.source).body):
        try:
            assert isinstance(statement, ast.Assign)
            ast.literal_eval(statement.value)
        except (AssertionError, ValueError):
            source = ast.unparse(statement)
            told.append(f"{source}: a parameter is given a plain value, and computed further down")
    return told


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_carries_no_outputs_and_one_cell_of_literal_parameters(path):
    told = not_as_committed(nbformat.read(path, as_version=4).cells)
    assert not told, f"{path.name}: {'; '.join(told)}"


def made_cells(*sources: str, tag: str = "parameters") -> list:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata.tags = [tag]
    return cells


def test_what_a_notebook_may_not_carry_is_told_in_a_sentence():
    assert not_as_committed(made_cells("seed = 0", "print(seed)")) == []
    ran = made_cells("seed = 0", "print(seed)")
    ran[1].execution_count = 3
    (told,) = not_as_committed(ran)
    assert told.startswith("code cells 2 carry outputs or a number of their execution; clear")
    (told,) = not_as_committed(made_cells("seed = 0\nepochs = 2 * 10"))
    assert told == "epochs = 2 * 10: a parameter is given a plain value, and computed further down"
    (told,) = not_as_committed(made_cells("seed = 0", tag="parameter"))
    assert told == "0 cells are tagged parameters, and one has to be"


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (
            made_cells('ENTRY_POINTS = ("fer_utils.metrics:scroe",)'),
            ", ENTRY_POINTS: fer_utils.metrics:scroe: no such definition in fer_utils.metrics",
        ),
        (made_cells('dataset = "fer2013"', tag="parameter"), ": no cell is tagged parameters"),
    ],
)
def test_a_slip_in_a_chapter_is_a_sentence_that_names_its_notebook(
    cells, told, tmp_path, monkeypatch
):
    (tmp_path / "notebooks").mkdir()
    made = nbformat.v4.new_notebook(cells=cells)
    nbformat.write(made, tmp_path / "notebooks" / "smith2024.ipynb")
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    with pytest.raises(grid.GridError) as caught:
        grid.read_chapter("smith2024")
    assert str(caught.value) == f"notebooks/smith2024.ipynb{told}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_names_its_network_its_loop_and_itself(path):
    """What ENTRY_POINTS leaves out could change, and no record would be stale."""
    found = grid.read_chapter(path.stem).entry_points
    assert found, f"{path.name} sets no ENTRY_POINTS"
    assert f"fer_utils.models.{path.stem}:build" in found
    for name in ("fit", "predict"):
        loops = [one for one in found if re.fullmatch(rf"fer_utils\.training\.\w+:{name}", one)]
        assert loops, f"{path.name}: ENTRY_POINTS has no fer_utils.training.<loop>:{name}"
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert set(re.findall(r'\bpaper="(\w+)"', code)) == {path.stem}


# Of each chapter one value that only it can refuse, the sentence on it, and what it allows.
WRONG = {
    "nouisser2023": (
        {"weights": "imagnet"},
        "weights = 'imagnet': input should be 'none' or 'imagenet' or a file of weights",
        "weights: one of none, imagenet or a file of weights that is there",
    ),
    "rahman2021": (
        {"learning_rate": 0},
        "learning_rate = 0: input should be greater than 0.",
        "learning_rate: number above 0",
    ),
    "wang2023": (
        {"learning_rate": 2},
        "learning_rate = 2: input should be 'schedule' or a number less than or equal to 1.",
        "learning_rate: schedule or number above 0 at most 1",
    ),
    "yengikand2023": (
        {"dropout": 1},
        "dropout = 1: input should be less than 1.",
        "dropout: number at least 0 below 1",
    ),
}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_wrong_parameters_stop_before_training_and_list_what_is_allowed(path, tmp_path):
    own, sentence, allowed = WRONG.get(path.stem, ({}, "", ""))
    wrong = {"epohcs": 3, "epochs": 0, "seed": "first", **own}
    run = papermill(path.stem, tmp_path / "out.ipynb", output_dir=tmp_path / "work", **wrong)
    assert run.returncode != 0
    for told in ("epohcs: no such parameter", "epochs = 0", "seed = 'first'", sentence):
        assert told in run.stderr
    _, listed = run.stderr.split("Allowed parameters:", 1)
    assert "epochs: integer at least 1" in listed
    assert allowed in listed
    assert not (tmp_path / "work").exists()


@cache
def parameters_of(paper: str) -> type[parameters.PageParameters]:
    """The class of a chapter's parameters, from its cell and without running the rest of it."""
    cells = nbformat.read(ROOT / "notebooks" / f"{paper}.ipynb", as_version=4).cells
    (cell,) = [cell for cell in cells if "class Parameters(" in cell.source]
    body = ast.parse(cell.source).body
    end = next(n for n, part in enumerate(body) if isinstance(part, ast.ClassDef)) + 1
    found = {}
    exec(compile(ast.Module(body[:end], []), f"{paper}.ipynb", "exec"), found)
    return found["Parameters"]


@pytest.mark.parametrize(
    ("paper", "given", "sentence"),
    [
        *((paper, given, sentence) for paper, (given, sentence, _) in WRONG.items()),
        ("nouisser2023", {"variant": "skip"}, "variant = 'skip': input should be 'mobilenet', "),
        ("nouisser2023", {"attention_from": 6}, "matters only with variant = attention, not with"),
        ("nouisser2023", {"attention_from": 2, "variant": "attention"}, "or equal to 3."),
        ("nouisser2023", {"images": 2000, "dataset": "fer2013"}, "only with dataset = synthetic"),
        ("rahman2021", {"model": "vgg16"}, "model = 'vgg16': input should be 'resnet18', "),
        ("rahman2021", {"images": 200, "profile": "full"}, "only with dataset = synthetic, not"),
        ("wang2023", {"mode": "crossentropy"}, "mode = 'crossentropy': matters only with dataset"),
        (
            "wang2023",
            {"mode": "probability", "dataset": "ferplus"},
            "'crossentropy' or 'multi_target'",
        ),
        ("wang2023", {"keep": "majority", "dataset": "ck48"}, "only with dataset = ferplus, not"),
        ("wang2023", {"learning_rate": "slow"}, "input should be 'schedule' or a valid number"),
        ("yengikand2023", {"pretraining": "none"}, "only with dataset = ck48 or ckplus or jaffe"),
        ("yengikand2023", {"images": 300, "dataset": "jaffe"}, "or pretraining = synthetic, not"),
    ],
)
def test_a_chapter_s_own_wrong_or_idle_parameters_are_told_one_by_one(paper, given, sentence):
    with pytest.raises(parameters.ParameterError) as caught:
        parameters.read_parameters(parameters_of(paper), given)
    told, _, listed = str(caught.value).partition("\nAllowed parameters:\n")
    assert sentence in told
    assert told.count("\n") == 0
    assert [line.split(":")[0].strip() for line in listed.splitlines()] == list(
        parameters_of(paper).model_fields
    )


def test_every_way_from_votes_to_labels_that_wang2023_offers_is_another():
    modes = get_args(parameters_of("wang2023").model_fields["mode"].annotation)
    three_lead = np.array([[4, 3, 0, 3, 0, 0, 0, 0, 0, 0]])
    assert "crossentropy" in modes
    assert len({vote_targets(three_lead, mode).targets.tobytes() for mode in modes}) == len(modes)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_takes_the_parameters_of_every_run_that_is_planned_of_it(path):
    runs = grid.plan([path.stem], seeds=(0,))
    for run in (*runs, *grid.smoke_runs(runs, (0,))):
        given = {**run.parameters, "profile": run.profiles[0]}
        parameters.read_parameters(parameters_of(path.stem), given)


def test_nouisser2023_imports_its_network_after_the_seeds_are_set():
    """Its module makes an initializer, which draws a seed at import: before, no run repeats."""
    cells = nbformat.read(ROOT / "notebooks" / "nouisser2023.ipynb", as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert code.index("keras_loop.prepare(") < code.index("import nouisser2023")


@pytest.mark.slow
def test_yengikand2023_runs_its_jaffe_protocol_on_a_made_tree(tmp_path):
    """JAFFE is absent, so its page is proved on drawn files of the same names."""
    trees.jaffe(tmp_path / "data")
    work = tmp_path / "work"
    run = papermill(
        "yengikand2023",
        tmp_path / "out.ipynb",
        dataset="jaffe",
        fold=3,
        data_root=tmp_path / "data",
        pretraining="synthetic",
        images=300,
        epochs=1,
        output_dir=work,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    done = json.loads((work / "yengikand2023.done.json").read_text())
    record = records.read(done["record"])
    assert record.profile == "trial"  # neither 20 epochs nor FER2013 first
    assert record.parameters["protocol"] == "leave_one_subject_out"
    assert record.split.name == "without-KR-seed0"
    assert record.split.sizes["test"] == 21
    assert sum(record.split.sizes.values()) == 213
    cells = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells
    assert any("Not attempted: data absent" in cell.source for cell in cells)


# ---- paths through the chapters that `make book` does not take ----------------------------------


def trained(notebook: str, folder: Path, **given) -> tuple[records.RunRecord, np.ndarray]:
    """A chapter executed for one epoch on synthetic faces: its record and test probabilities."""
    page = folder / f"{'-'.join(map(str, given.values()))}.ipynb"
    run = papermill(notebook, page, epochs=1, threads=1, output_dir=folder / "work", **given)
    assert run.returncode == 0, run.stderr[-2000:]
    done = json.loads((folder / "work" / f"{notebook}.done.json").read_text())
    record = records.read(done["record"])
    assert {name: record.parameters.get(name) for name in given} == given
    assert (record.profile, record.parameters["epochs"]) == ("smoke", 1)
    for part, score in record.metrics.items():
        matrix = np.array(score["confusion_matrix"])
        assert matrix.sum() == score["n"], part
        assert matrix.trace() == score["correct"], part
        assert all(map(math.isfinite, numbers(score))), part
    probabilities, labels = records.read_probabilities(record, folder / "work" / "records")
    assert len(labels) == record.metrics["test"]["n"] == record.split.sizes["test"]
    assert np.isfinite(probabilities).all()
    return record, probabilities


def numbers(told) -> list[float]:
    """Every number in what JSON holds."""
    if isinstance(told, dict | list):
        inner = told.values() if isinstance(told, dict) else told
        return [number for part in inner for number in numbers(part)]
    return [told] if isinstance(told, int | float) else []


@pytest.mark.slow
def test_rahman2021_fuses_members_that_it_trains_first_by_a_layer_and_by_a_vote(tmp_path):
    by_layer, _ = trained("rahman2021", tmp_path, model="fusion_layer", images=100)
    vote, together = trained("rahman2021", tmp_path, model="fusion_vote", images=100)
    shutil.rmtree(tmp_path / "work" / "runs")  # half a gigabyte of weights
    assert by_layer.metrics["test"]["n"] == 12
    assert by_layer.parameters["precision"] == "float32"  # which every processor is quick at
    assert by_layer.parameters["members"] == vote.parameters["members"]
    folder = tmp_path / "work" / "records"
    alone = {
        name: records.read(folder / "rahman2021" / f"{name}.json")
        for name in vote.parameters["members"]
    }
    assert [run.parameters["model"] for run in alone.values()] == ["resnet18", "vgg19_bn"]
    mean = np.mean([records.read_probabilities(run, folder)[0] for run in alone.values()], axis=0)
    np.testing.assert_allclose(together, mean, atol=0.01)


@pytest.mark.slow
def test_nouisser2023_attends_to_small_maps_of_faces_balanced_before_the_split(tmp_path):
    record, _ = trained(
        "nouisser2023",
        tmp_path,
        variant="attention",
        attention_from=6,
        faces="haar",
        balancing="before_split",
        images=1000,
    )
    assert record.model.parameters == 11_282_375
    assert record.parameters["contrast"] == "balanced before the split"
    # Table 1 balances 28,709 training images to 18,603; here 784 are drawn, four fifths of the sum.
    assert sum(record.split.sizes.values()) == round(18_603 * 784 / 28_709 / 0.8)
    assert record.metrics["test"]["n"] == 64


@pytest.mark.slow
def test_wang2023_trains_its_plain_network_at_one_rate(tmp_path):
    record, _ = trained("wang2023", tmp_path, variant="plain", learning_rate=0.01, images=100)
    assert record.metrics["test"]["n"] == 12
    assert record.model.parameters == 177_416
    assert record.history["learning_rate"] == pytest.approx([0.01])


@pytest.mark.slow
def test_yengikand2023_with_other_widths_is_not_taken_for_the_one_that_is_judged(tmp_path):
    record, _ = trained("yengikand2023", tmp_path, width_multiplier=0.5, images=100)
    assert record.model.parameters == 64_456  # of 159,944
    judged = comparison.select([record], {"dataset": "synthetic"}, ("smoke",))
    other = comparison.select([record], {"reading": "other widths"}, ("smoke",))
    assert (judged, other) == ([], [record])
