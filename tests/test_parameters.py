"""A chapter's parameters are checked, and a wrong one is told with all that is allowed."""

import types
from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from fer_utils.parameters import ChapterParameters, PageParameters, ParameterError, read_parameters


class Chapter(ChapterParameters):
    dataset: str = "synthetic"
    dropout: float = Field(0.2, ge=0, le=1, description="rate of both layers")
    subject_split: bool = True


def test_nothing_given_is_the_defaults():
    assert read_parameters(Chapter, {}) == Chapter()


def test_plain_values_are_read():
    read = read_parameters(Chapter, {"epochs": 20, "seed": 3, "dropout": 0.1, "profile": "full"})
    assert (read.epochs, read.seed, read.dropout, read.profile) == (20, 3, 0.1, "full")
    assert read.dataset == "synthetic"


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"subject_split": "false"}, "subject_split", False),
        ({"subject_split": "True"}, "subject_split", True),
        ({"epochs": "3"}, "epochs", 3),
        ({"dropout": "0.3"}, "dropout", 0.3),
        ({"epochs": None}, "epochs", None),
    ],
)
def test_the_strings_that_papermill_makes_are_converted(given, name, value):
    read = getattr(read_parameters(Chapter, given), name)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"epoch": 3}, "epoch: no such parameter."),
        ({"epochs": "many"}, "epochs = 'many': input should be a valid integer"),
        ({"epochs": 2.5}, "epochs = 2.5: input should be a valid integer"),
        ({"epochs": 0}, "epochs = 0: input should be greater than or equal to 1."),
        ({"seed": -1}, "seed = -1: input should be greater than or equal to 0."),
        ({"dropout": 1.5}, "dropout = 1.5: input should be less than or equal to 1."),
        ({"dataset": 3}, "dataset = 3: input should be a valid string."),
        (
            {"profile": "fast"},
            "profile = 'fast': input should be 'smoke', 'trial', 'reduced' or 'full'.",
        ),
        ({"subject_split": "perhaps"}, "subject_split = 'perhaps': input should be a valid"),
        ({"dataset": ["fer2013"]}, "dataset = ['fer2013']: input should be a valid string."),
    ],
)
def test_a_wrong_parameter_is_named_with_all_that_is_allowed(given, sentence):
    with pytest.raises(ParameterError) as caught:
        read_parameters(Chapter, given)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(sentence)
    assert lines[1] == "Allowed parameters:"
    allowed = dict(line.strip().split(": ", 1) for line in lines[2:])
    assert list(allowed) == list(Chapter.model_fields)
    assert allowed["epochs"] == "integer at least 1 (left out: the paper's)"
    assert allowed["dropout"] == "number at least 0 at most 1 (rate of both layers)"
    assert allowed["profile"].startswith("one of smoke, trial, reduced, full (")
    assert allowed["dataset"] == "string"
    assert allowed["subject_split"] == "boolean"


def test_every_wrong_parameter_is_told_at_once():
    with pytest.raises(ParameterError) as caught:
        read_parameters(Chapter, {"epoch": 3, "seed": -1})
    before, _ = str(caught.value).split("Allowed parameters:")
    assert "epoch: no such parameter." in before
    assert "seed = -1" in before


def test_what_a_notebook_holds_besides_is_ignored():
    namespace = {
        "__name__": "__main__",
        "_": 3,
        "_i1": "import os",
        "In": ["", "import os"],
        "Out": {},
        "pytest": pytest,
        "module": types,
        "Chapter": Chapter,
        "BaseModel": BaseModel,
        "get_ipython": lambda: None,
        "seed": 5,
    }
    assert read_parameters(Chapter, namespace) == Chapter(seed=5)


def test_read_parameters_cannot_be_changed_afterwards():
    with pytest.raises(ValueError, match="frozen"):
        read_parameters(Chapter, {}).seed = 1


def test_work_goes_to_the_projects_own_folder_wherever_the_kernel_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # JupyterLab starts a kernel in the notebook's folder
    found = read_parameters(PageParameters, {"output_dir": None}).output_dir
    assert Path(found) == Path(__file__).parents[1] / "build" / "smoke"
    assert read_parameters(PageParameters, {"output_dir": "mine"}).output_dir == "mine"
