"""Parameters of a chapter: checked before anything is trained."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args
from zipfile import BadZipFile, ZipFile

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from fer_utils.records import RESULTS, Profile


class ParameterError(ValueError):
    """A parameter that a chapter does not have, has no such value, or could not matter."""


class With:
    """Marks a parameter that matters only with some values of others.

    A chapter annotates it, `Annotated[int, With(dataset="synthetic")]`; of several marks one has
    to fit. Where none does, only the default is accepted: another value would be ignored.

    Args:
        others: of each other parameter its value, or a tuple of several.
    """

    def __init__(self, **others: str | tuple[str, ...]) -> None:
        self.others = {
            name: (fit,) if isinstance(fit, str) else fit for name, fit in others.items()
        }

    def fits(self, chosen: BaseModel) -> bool:
        """Whether every other parameter has one of its values."""
        return all(_as_run(chosen, name) in fit for name, fit in self.others.items())

    def __str__(self) -> str:
        return " and ".join(f"{name} = {' or '.join(fit)}" for name, fit in self.others.items())


def _as_run(chosen: BaseModel, name: str) -> Any:
    """A value; where no data set is named, that which `experiments.plan` takes."""
    value = getattr(chosen, name)
    if name == "dataset" and value is None:
        return "the paper's" if chosen.profile == "full" else "synthetic"
    return value


Drawn = Annotated[int, With(dataset="synthetic"), Field(description="synthetic faces to draw")]

WEIGHTS = (".h5", ".hdf5", ".keras")  # what Keras reads the weights of
THERE = f"a file of weights that is there ({', '.join(WEIGHTS)})"


def _readable(given: str) -> str:
    if Path(given).suffix not in WEIGHTS or not os.path.isfile(given):
        raise ValueError(f"Input should be {THERE}")
    expected = "Input should be a file of Keras weights, and this file"
    if not os.access(given, os.R_OK):
        raise ValueError(f"{expected} may not be read")
    try:
        holds = _in_a_zip(given) if given.endswith(".keras") else _in_hdf5(given)
    except (OSError, RuntimeError, LookupError, BadZipFile):  # of a file that was cut off, too
        raise ValueError(f"{expected} is none, or is damaged") from None
    if not holds:
        raise ValueError(f"{expected} has none where Keras looks for them by its name")
    return given


def _in_a_zip(given: str) -> bool:
    with ZipFile(given) as file:
        return "model.weights.h5" in file.namelist()


def _in_hdf5(given: str) -> bool:
    """Whether Keras finds layers where it looks for them; the end of the name tells it where."""
    import h5py

    with h5py.File(given) as file:
        if given.endswith(".weights.h5"):
            return not file.keys().isdisjoint(("layers", "_layer_checkpoint_dependencies"))
        saved = file.get("model_weights", file)
        return any(name.startswith("layer_names") for name in saved.attrs)


WeightsFile = Annotated[str, AfterValidator(_readable), Field(description=THERE)]


def _folder(given: str) -> str:
    there = next(path for path in (Path(given), *Path(given).parents) if os.path.exists(path))
    if not there.is_dir():
        raise ValueError(f"Input should be a folder, and {there} is a file")
    return given


Folder = Annotated[str, AfterValidator(_folder)]  # which may still have to be made


class PageParameters(BaseModel):
    """What every page that papermill executes can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    profile: Profile | None = Field(
        None,
        description="left out: what the other parameters amount to",
    )
    output_dir: Folder | None = Field(
        str(RESULTS.parent / "build" / "smoke"),
        description="for checkpoints and the done-file; left out: build/smoke of the project",
    )

    @field_validator("output_dir")
    @classmethod
    def _in_the_project(cls, given: str | None) -> str:
        """The project's own folder also where the kernel runs elsewhere, as in JupyterLab."""
        return given or cls.model_fields["output_dir"].default

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, given: Any, field: ValidationInfo) -> Any:
        kind = cls.model_fields[field.field_name].annotation
        if isinstance(given, bool) and bool not in (kind, *get_args(kind)):
            raise ValueError("Input should not be true or false")
        return given


class ChapterParameters(PageParameters):
    """What every chapter can be told; a chapter adds its own."""

    # NumPy and Keras take no larger seed.
    seed: int = Field(0, ge=0, lt=2**32, description="of weights, order, augmentation and dropout")
    epochs: int | None = Field(None, ge=1, description="left out: the paper's")
    batch_size: int | None = Field(None, ge=1, description="left out: the paper's")
    data_root: str | None = Field(None, description="left out: FER_DATA, else data/")
    records_dir: Folder | None = Field(None, description="left out: <output_dir>/records")
    threads: int = Field(0, ge=0, description="cores to use, 0 for all")


Parameters = TypeVar("Parameters", bound=PageParameters)


def read_parameters(model: type[Parameters], namespace: dict[str, Any]) -> Parameters:
    """Check every plain value that the notebook's first cells have set.

    papermill injects any name it is given and warns at most; this refuses.

    Args:
        model: the chapter's own parameters.
        namespace: the notebook's `globals()`, before it has set anything else.

    Returns:
        The checked parameters.

    Raises:
        ParameterError: an unknown name, a wrong type, a value out of range, or one that could not
            matter beside the others, with all that is allowed.
    """
    plain = (str, int, float, bool, list, dict, type(None))
    given = {
        name: value
        for name, value in namespace.items()
        if name in model.model_fields
        or (isinstance(value, plain) and not name.startswith("_") and name not in ("In", "Out"))
    }
    try:
        chosen = model(**given)
        wrong = _ignored(chosen)
    except ValidationError as error:
        wrong = _sentences(error)
    if wrong:
        allowed = [f"  {name}: {_allowed(model, name)}" for name in model.model_fields]
        raise ParameterError("\n".join([*wrong, "Allowed parameters:", *allowed]))
    return chosen


def _ignored(chosen: BaseModel) -> list[str]:
    """A sentence on each parameter that was given and cannot matter."""
    sentences = []
    for name, field in type(chosen).model_fields.items():
        value, marks = getattr(chosen, name), _marks(field)
        if value != field.default and marks and not any(mark.fits(chosen) for mark in marks):
            others = dict.fromkeys(other for mark in marks for other in mark.others)
            found = " and ".join(f"{other} = {_as_run(chosen, other)}" for other in others)
            told = " or ".join(map(str, marks))
            sentences.append(f"{name} = {value!r}: matters only with {told}, not with {found}.")
    return sentences


def _marks(field: Any) -> list[With]:
    return [mark for mark in field.metadata if isinstance(mark, With)]


def _sentences(error: ValidationError) -> list[str]:
    """One for each parameter, however many types it might have had."""
    by_name: dict[str, list[dict]] = {}
    for problem in error.errors():
        by_name.setdefault(str(next(iter(problem["loc"]), "parameters")), []).append(problem)
    sentences = []
    for name, problems in by_name.items():
        if problems[0]["type"] == "extra_forbidden":
            sentences.append(f"{name}: no such parameter.")
            continue
        first, *rest = [problem["msg"].removeprefix("Value error, ") for problem in problems]
        rest = [other.removeprefix("Input should be ") for other in rest]
        rest = [f"a number {o}" if o.startswith(("less", "greater")) else o for o in rest]
        told = " or ".join([first, *rest])
        sentences.append(f"{name} = {problems[0]['input']!r}: {told[0].lower()}{told[1:]}.")
    return sentences


LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def _allowed(model: type[BaseModel], name: str) -> str:
    schema = model.model_json_schema()["properties"][name]
    told = schema.pop("description", "")
    choices = [choice for choice in schema.get("anyOf", [schema]) if choice.get("type") != "null"]
    words = [" or ".join(map(_choice, choices))]
    if marks := _marks(model.model_fields[name]):
        words.append(f"only with {' or '.join(map(str, marks))}")
    return ", ".join(words) + (f" ({told})" if told else "")


def _choice(schema: dict) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if "description" in schema:
        return schema["description"]
    limits = [f"{word} {schema[key]}" for key, word in LIMITS.items() if key in schema]
    return " ".join([schema.get("type", "any"), *limits])
