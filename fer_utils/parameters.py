"""Parameters of a chapter: checked before anything is trained."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fer_utils.records import RESULTS, Profile


class ParameterError(ValueError):
    """A parameter that a chapter does not have or that has no such value."""


class PageParameters(BaseModel):
    """What every page that papermill executes can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: Profile | None = Field(
        None,
        description="smoke, trial, reduced or full; left out: what the other parameters amount to",
    )
    output_dir: str | None = Field(
        str(RESULTS.parent / "build" / "smoke"),
        description="for checkpoints and the done-file; left out: build/smoke of the project",
    )

    @field_validator("output_dir")
    @classmethod
    def _in_the_project(cls, given: str | None) -> str:
        """The project's own folder also where the kernel runs elsewhere, as in JupyterLab."""
        return given or cls.model_fields["output_dir"].default


class ChapterParameters(PageParameters):
    """What every chapter can be told; a chapter adds its own."""

    seed: int = Field(0, ge=0, description="of weights, order, augmentation and dropout")
    epochs: int | None = Field(None, ge=1, description="left out: the paper's")
    batch_size: int | None = Field(None, ge=1, description="left out: the paper's")
    data_root: str | None = Field(None, description="left out: FER_DATA, else data/")
    records_dir: str | None = Field(None, description="left out: <output_dir>/records")
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
        ParameterError: an unknown name, a wrong type or a value out of range, with all that is
            allowed.
    """
    plain = (str, int, float, bool, list, dict, type(None))
    given = {
        name: value
        for name, value in namespace.items()
        if isinstance(value, plain) and not name.startswith("_") and name not in ("In", "Out")
    }
    try:
        return model(**given)
    except ValidationError as error:
        wrong = [_sentence(problem) for problem in error.errors()]
        allowed = [f"  {name}: {_allowed(model, name)}" for name in model.model_fields]
        raise ParameterError("\n".join([*wrong, "Allowed parameters:", *allowed])) from None


def _sentence(problem: dict) -> str:
    name = ".".join(map(str, problem["loc"])) or "parameters"
    if problem["type"] == "extra_forbidden":
        return f"{name}: no such parameter."
    return f"{name} = {problem['input']!r}: {problem['msg'].lower()}."


def _allowed(model: type[BaseModel], name: str) -> str:
    schema = model.model_json_schema()["properties"][name]
    choices = [choice for choice in schema.get("anyOf", [schema]) if choice.get("type") != "null"]
    words = []
    for choice in choices:
        if "enum" in choice:
            words.append("one of " + ", ".join(map(str, choice["enum"])))
        else:
            limits = [
                f"{word} {choice[key]}"
                for key, word in (("minimum", "at least"), ("maximum", "at most"))
                if key in choice
            ]
            words.append(" ".join([choice.get("type", "any"), *limits]))
    told = schema.get("description", "")
    return " or ".join(words) + (f" ({told})" if told else "")
