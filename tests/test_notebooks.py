"""The chapters as papermill runs them. Their smoke runs are made by `make book`."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import trees

from fer_utils import records

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OTHERS = ("data", "audit", "gaps", "report", "results")
CHAPTERS = [path for path in NOTEBOOKS if path.stem not in OTHERS]


def papermill(notebook: str, out: Path, **parameters) -> subprocess.CompletedProcess:
    """Execute a notebook in the project's folder, as the README says."""
    words = [word for key, value in parameters.items() for word in ("-p", key, str(value))]
    return subprocess.run(
        [sys.executable, "-m", "papermill", f"notebooks/{notebook}.ipynb", out, *words],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_carries_no_outputs_and_one_cell_of_literal_parameters(path):
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for statement in ast.parse(tagged[0].source).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)  # raises where a parameter is computed


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"epohcs": 3}, "epohcs: no such parameter"),
        ({"epochs": 0}, "epochs = 0"),
        ({"seed": "first"}, "seed = 'first'"),
    ],
)
def test_wrong_parameter_stops_before_training_and_lists_what_is_allowed(
    path, wrong, told, tmp_path
):
    run = papermill(path.stem, tmp_path / "out.ipynb", output_dir=tmp_path / "work", **wrong)
    assert run.returncode != 0
    assert told in run.stderr
    assert "Allowed parameters:" in run.stderr
    assert not (tmp_path / "work").exists()


def test_nouisser2023_imports_its_network_after_the_seeds_are_set():
    """Its module makes an initializer, which draws a seed at import: before, no run repeats."""
    cells = nbformat.read(ROOT / "notebooks" / "nouisser2023.ipynb", as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert code.index("keras_loop.prepare(") < code.index("import nouisser2023")


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
