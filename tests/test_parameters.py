"""A chapter's parameters are checked, and a wrong one is told with all that is allowed."""

import types
from pathlib import Path
from typing import Annotated, Literal
from zipfile import ZipFile

import h5py
import numpy as np
import pytest
from pydantic import BaseModel, Field

from fer_utils.parameters import (
    ChapterParameters,
    Drawn,
    PageParameters,
    ParameterError,
    WeightsFile,
    With,
    read_parameters,
)


class Chapter(ChapterParameters):
    dataset: str = "synthetic"
    dropout: float = Field(0.2, ge=0, le=1, description="rate of both layers")
    subject_split: bool = True


class Choosy(ChapterParameters):
    """Types of several kinds, and parameters that matter only beside others."""

    dataset: Literal["synthetic", "fer2013", "ferplus"] | None = None
    rate: Literal["schedule"] | Annotated[float, Field(gt=0, le=1)] = "schedule"
    dropout: float = Field(0.2, ge=0, lt=1)
    weights: Literal["none", "imagenet"] | WeightsFile = "none"
    first: Annotated[Literal["none", "LeNet"], With(dataset=("fer2013", "ferplus"))] = "none"
    keep: Annotated[int | None, With(dataset="ferplus", first="LeNet")] = Field(None, ge=3)
    either: Annotated[int, With(dataset="synthetic"), With(first="LeNet")] = 5
    images: Drawn = Field(100, ge=10)


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


def told(given: dict) -> tuple[list[str], dict[str, str]]:
    """The sentences on what is wrong, and what is allowed by name."""
    with pytest.raises(ParameterError) as caught:
        read_parameters(Choosy, given)
    lines = str(caught.value).splitlines()
    here = lines.index("Allowed parameters:")
    allowed = dict(line.strip().split(": ", 1) for line in lines[here + 1 :])
    assert list(allowed) == list(Choosy.model_fields)
    return lines[:here], allowed


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"rate": 2}, "rate = 2: input should be 'schedule' or a number less than or equal to 1."),
        ({"rate": 0}, "rate = 0: input should be 'schedule' or a number greater than 0."),
        (
            {"rate": "fast"},
            "rate = 'fast': input should be 'schedule' or a valid number, unable to parse string "
            "as a number.",
        ),
        ({"rate": True}, "rate = True: input should not be true or false."),
        ({"dropout": float("nan")}, "dropout = nan: input should be a finite number."),
        ({"dropout": 1}, "dropout = 1: input should be less than 1."),
        ({"seed": True}, "seed = True: input should not be true or false."),
        ({"seed": 2**32}, "seed = 4294967296: input should be less than 4294967296."),
        ({"epochs": np.ones(2)}, "epochs = array([1., 1.]): input should be a valid integer."),
        (
            {"weights": "imagnet"},
            "weights = 'imagnet': input should be 'none' or 'imagenet' or a file of weights that "
            "is there (.h5, .hdf5, .keras).",
        ),
        ({"first": "lenet"}, "first = 'lenet': input should be 'none' or 'LeNet'."),
    ],
)
def test_a_wrong_value_is_told_in_one_sentence_however_many_types_there_are(given, sentence):
    assert told(given)[0] == [sentence]


def test_what_is_allowed_is_told_with_every_limit_choice_and_condition():
    _, allowed = told({"rate": 2})
    assert allowed["rate"] == "schedule or number above 0 at most 1"
    assert allowed["dropout"] == "number at least 0 below 1"
    assert allowed["weights"] == (
        "one of none, imagenet or a file of weights that is there (.h5, .hdf5, .keras)"
    )
    assert allowed["first"] == "one of none, LeNet, only with dataset = fer2013 or ferplus"
    assert allowed["keep"] == ("integer at least 3, only with dataset = ferplus and first = LeNet")
    assert allowed["either"] == "integer, only with dataset = synthetic or first = LeNet"
    assert allowed["images"] == (
        "integer at least 10, only with dataset = synthetic (synthetic faces to draw)"
    )


@pytest.mark.parametrize("name", ["mobilenet.h5", "mobilenet.weights.h5", "old.hdf5", "new.keras"])
def test_a_file_of_weights_has_to_be_there_and_of_a_kind_that_keras_reads(name, tmp_path):
    path = tmp_path / name
    assert told({"weights": str(path)})[0]
    path.mkdir()
    assert told({"weights": str(path)})[0]
    path.rmdir()
    write_weights(path)
    assert read_parameters(Choosy, {"weights": str(path)}).weights == str(path)
    other = path.replace(path.with_suffix(".npz"))
    assert told({"weights": str(other)})[0]


def write_weights(path: Path) -> None:
    """What says of a file that it holds Keras weights, without any."""
    if path.suffix == ".keras":
        with ZipFile(path, "w") as file:
            file.writestr("model.weights.h5", "")
        return
    with h5py.File(path, "w") as file:
        if path.name.endswith(".weights.h5"):
            file.create_group("layers")
        else:
            file.attrs["layer_names"] = ["conv1"]


@pytest.mark.parametrize("name", ["mobilenet.h5", "mobilenet.weights.h5", "old.hdf5", "new.keras"])
def test_a_file_that_holds_no_keras_weights_is_refused_before_anything_is_trained(name, tmp_path):
    path = tmp_path / name
    write_weights(path)
    whole = path.read_bytes()
    for content in (b"", b"<html>Sign in</html>", whole[: len(whole) // 2]):
        path.write_bytes(content)
        (sentence,) = told({"weights": str(path)})[0]
        assert sentence == (
            f"weights = '{path}': input should be 'none' or 'imagenet' or a file of Keras weights, "
            "and this file is none, or is damaged."
        )


@pytest.mark.parametrize(
    ("saved", "renamed"),
    [("a.h5", "b.weights.h5"), ("a.weights.h5", "b.h5"), ("a.weights.h5", "b.hdf5")],
)
def test_weights_under_the_name_of_another_kind_of_file_are_refused(saved, renamed, tmp_path):
    write_weights(tmp_path / saved)
    (sentence,) = told({"weights": str((tmp_path / saved).rename(tmp_path / renamed))})[0]
    assert sentence.endswith("this file has none where Keras looks for them by its name.")


@pytest.mark.parametrize("name", ["output_dir", "records_dir"])
def test_a_file_where_a_folder_is_written_to_is_refused_before_anything_is_trained(name, tmp_path):
    (tmp_path / "file").touch()
    for given in (str(tmp_path / "file"), str(tmp_path / "file" / "below")):
        sentence = (
            f"{name} = {given!r}: input should be a folder, and {tmp_path / 'file'} is a file."
        )
        assert told({name: given})[0] == [sentence]
    for given in (str(tmp_path), str(tmp_path / "new" / "below")):
        assert getattr(read_parameters(Choosy, {name: given}), name) == given


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"first": "LeNet"},
            "first = 'LeNet': matters only with dataset = fer2013 or ferplus, not with dataset = "
            "synthetic.",
        ),
        (
            {"dataset": "ferplus", "keep": 4},
            "keep = 4: matters only with dataset = ferplus and first = LeNet, not with dataset = "
            "ferplus and first = none.",
        ),
        (
            {"dataset": "fer2013", "images": 20},
            "images = 20: matters only with dataset = synthetic, not with dataset = fer2013.",
        ),
        (
            {"dataset": "fer2013", "either": 6},
            "either = 6: matters only with dataset = synthetic or first = LeNet, not with dataset "
            "= fer2013 and first = none.",
        ),
        (  # a full run that names no data set takes the paper's own
            {"profile": "full", "images": 20},
            "images = 20: matters only with dataset = synthetic, not with dataset = the paper's.",
        ),
    ],
)
def test_a_parameter_that_would_be_ignored_is_refused(given, sentence):
    assert told(given)[0] == [sentence]


@pytest.mark.parametrize(
    "given",
    [
        {"images": 20},
        {"dataset": "synthetic", "either": 6, "images": 20},
        {"dataset": "fer2013", "first": "LeNet", "either": 6},
        {"dataset": "ferplus", "first": "LeNet", "keep": 4},
        {"dataset": "fer2013", "first": "none", "keep": None, "either": 5, "images": 100},
    ],
)
def test_a_parameter_that_matters_or_is_the_default_is_taken(given):
    read = read_parameters(Choosy, given)
    assert {name: getattr(read, name) for name in given} == given


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
