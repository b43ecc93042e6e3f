"""One record a run: all that a verdict needs; its figures are written once and never changed."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    model_validator,
)

from fer_utils import locks, provenance
from fer_utils.manifests import load_manifest
from fer_utils.training.checkpoints import write_atomically

RESULTS = Path(__file__).parents[1] / "results"

Profile = Literal["smoke", "trial", "reduced", "full"]
KEPT = ("reduced", "full")  # profiles whose records belong into RESULTS

# Runs with these parameters count only where they are asked for: a protocol that is wrong on
# purpose, and another reading of what a paper leaves open or a recipe without one of its parts.
APART = {"contrast": None, "reading": None}
# In what repeated runs of one setting differ; weights and members are named with a seed.
VARYING = ("seed", "fold", "pretraining", "members")


class RecordError(ValueError):
    """A record that cannot be written or read; one sentence naming the file."""


Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataUsed(_Part):
    """The data set of a run, and hashes of its files and of what was taken."""

    name: str = Field(description="the manifest's name")
    images: int
    classes: tuple[str, ...]
    sources: dict[str, str] = Field(description="sha256 of each source file")
    sha256: str = Field(description="of images and labels as the run took them")
    loaded: str | None = Field(None, description="of both as they were loaded; None: the same")


class SplitUsed(_Part):
    """How a run divided its images, and a hash of the rows."""

    name: str
    description: str
    seed: int | None
    sizes: dict[str, int] = Field(description="images in train, val and test")
    trained_on: int | None = Field(None, description="training images after balancing")
    sha256: str = Field(description="of the rows of each part")


class ModelUsed(_Part):
    """The size of the network."""

    parameters: int
    multiply_accumulates: int = Field(description="for one image")


class Selection(_Part):
    """Which epoch counts, and what chose it."""

    rule: str = Field(description="what chose the checkpoint; the test part in a contrast alone")
    epoch: int = Field(description="1-based")


class Code(_Part):
    """The code that made the numbers."""

    entry_points: tuple[str, ...]
    sha256: str
    commit: str | None
    modified: bool | None = Field(description="tracked files differed from the commit")


class RunRecord(_Part):
    """Parameters, data, split, model, choice of checkpoint, metrics and circumstances of a run.

    Metrics are what `metrics.score` returns for each part; fractions, not percent. History is a
    list an epoch. Seconds are wall-clock seconds.
    """

    format: Literal[1] = 1
    paper: str
    run: str = Field(description="the record's name: what was run, and a hash of all that made it")
    profile: Profile
    parameters: dict[str, Any]
    seed: int
    data: DataUsed
    split: SplitUsed
    model: ModelUsed
    selection: Selection
    metrics: dict[str, dict]
    persons: dict[Literal["numbers", "images", "correct"], list[int]] | None = Field(
        None,
        description="who is on the test images, by the place among all persons of the data set, "
        "images of each, and how many were right; None: not known",
    )
    history: dict[str, list[FiniteFloat]]
    timings: dict[str, Seconds]
    device: dict[str, Any]
    versions: dict[str, str]
    code: Code
    created: str = Field(description="UTC, ISO 8601")
    probabilities: str | None = Field(None, description="sha256 of the file beside the record")

    @model_validator(mode="after")
    def _synthetic_is_smoke(self) -> RunRecord:
        if self.data.name == "synthetic" and self.profile != "smoke":
            raise ValueError("a run on synthetic faces is a smoke run")
        return self

    @model_validator(mode="after")
    def _figures_can_be(self) -> RunRecord:
        if missing := [part for part in ("val", "test") if part not in self.metrics]:
            raise ValueError(f"metrics: no {missing[0]} part")
        for part, scores in self.metrics.items():
            if problem := _impossible(scores, len(self.data.classes)):
                raise ValueError(f"metrics.{part}: {problem}")
            in_split = self.split.sizes.get(part)
            if part in ("train", "val", "test") and scores["n"] != in_split:
                raise ValueError(f"metrics.{part}: {scores['n']} images, {in_split} in the split")
        return self

    @model_validator(mode="after")
    def _persons_make_the_test_part(self) -> RunRecord:
        if self.persons is None:
            return self
        test, columns = self.metrics["test"], ("numbers", "images", "correct")
        numbers, images, right = (self.persons.get(name, []) for name in columns)
        if not len(set(numbers)) == len(numbers) == len(images) == len(right):
            raise ValueError("persons: not a number, images and right ones of each")
        if (sum(images), sum(right)) != (test["n"], test["correct"]):
            raise ValueError("persons: other images or right ones than metrics.test")
        if not all(0 <= some <= every for some, every in zip(right, images, strict=True)):
            raise ValueError("persons: more right than there are images")
        if 0 in images:
            raise ValueError("persons: one without images")
        return self

    @model_validator(mode="after")
    def _history_is_of_the_same_epochs(self) -> RunRecord:
        if "loss" not in self.history:
            raise ValueError("history: no loss")
        lengths = {name: len(figures) for name, figures in self.history.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{length} of {name}" for name, length in lengths.items())
            raise ValueError(f"history: not the same epochs in all lists: {told}")
        if min(self.history.get("seconds", ()), default=0) < 0:
            raise ValueError("history.seconds: an epoch of less than no time")
        return self


def _impossible(scores: dict, classes: int) -> str | None:
    """Why no predictions have these scores; None where some may.

    Args:
        scores: of one part of the data.
        classes: how many there are.
    """
    n, matrix = scores.get("n"), scores.get("confusion_matrix")
    if not isinstance(matrix, list) or [_length(row) for row in matrix] != [classes] * classes:
        return f"confusion_matrix: not {classes} rows of {classes} numbers"
    if any(type(number) is not int or number < 0 for row in matrix for number in row):
        return "confusion_matrix: not whole numbers of images"
    if not n or sum(map(sum, matrix)) != n:
        return f"confusion_matrix: {sum(map(sum, matrix))} images, n is {n}"
    right = sum(matrix[k][k] for k in range(classes))
    if scores.get("correct") != right:
        return f"correct is {scores.get('correct')}, confusion_matrix has {right} right"
    accuracy = scores.get("accuracy")
    if not isinstance(accuracy, float) or not abs(accuracy - right / n) <= 1e-6:
        return f"accuracy is {accuracy}, {right} of {n} are right"
    for name, figure in scores.items():
        most = math.inf if name == "log_loss" else 1
        if isinstance(figure, float) and not (0 <= figure <= most and math.isfinite(figure)):
            return f"{name} is {figure}"
    return None


def _length(row: Any) -> int | None:
    return len(row) if isinstance(row, list) else None


def run_name(label: str, parameters: dict, data: str, split: str, code: str) -> str:
    """A name that changes whenever the run's numbers could: label and 8 hexadecimal digits.

    Args:
        label: what a person calls the run, such as "fer2013-depthwise-seed0".
        parameters: JSON-ready.
        data, split, code: the three hashes.
    """
    made_of = json.dumps([parameters, data, split, code], sort_keys=True)
    return f"{label}-{hashlib.sha256(made_of.encode()).hexdigest()[:8]}"


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def takes(folder: str | Path, profile: Profile) -> bool:
    """Whether records of such runs belong into a folder: in `RESULTS` they are full or reduced."""
    return profile in KEPT or not Path(folder).resolve().is_relative_to(RESULTS.resolve())


def write(
    record: RunRecord, probabilities: np.ndarray | None, labels: np.ndarray | None, folder: Path
) -> Path:
    """Write a record as `<folder>/<paper>/<run>.json`, the test probabilities beside it.

    The probabilities come first and the record last, each in one step, so a record that can be
    read is whole. No record is ever overwritten: running the same thing again with the same outcome
    leaves the first one as it is. What a smoke run of an earlier version left, and is none any
    more, makes way.

    Args:
        record: its `probabilities` is filled in here.
        probabilities: float32 (N, K) of the test part in the split's row order; None for none.
        labels: int64 (N,) of the same rows.
        folder: `RESULTS` for records to keep, which takes full and reduced runs alone.

    Returns:
        The record's path.

    Raises:
        RecordError: a smoke or trial run into `RESULTS`, or a record of that name with other
            metrics exists, or what is there is no record.
    """
    folder = Path(folder)
    if not takes(folder, record.profile):
        raise RecordError(f"{record.run}: a {record.profile} run may not be written into results/")
    path = folder / record.paper / f"{record.run}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with locks.alone_in(path.parent):
        if record.profile == "smoke" and not _is_record(path):
            path.unlink(missing_ok=True)
        if path.exists():
            if read(path).metrics == record.metrics:
                return path
            raise RecordError(f"{path} exists with other metrics; a record is never overwritten")
        if probabilities is not None:
            buffer = io.BytesIO()
            np.savez_compressed(
                buffer,
                probabilities=probabilities.astype(np.float32),
                labels=labels.astype(np.uint8),
            )
            packed = buffer.getvalue()
            record = record.model_copy(update={"probabilities": hashlib.sha256(packed).hexdigest()})
            write_atomically(path.with_suffix(".npz"), packed)
        text = json.dumps(record.model_dump(mode="json"), indent=1, ensure_ascii=False)
        _write_once(path, f"{text}\n".encode())
    return path


def _write_once(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike replace, fails where another process was first
    except FileExistsError:
        raise RecordError(f"{path} exists; a record is never overwritten") from None
    finally:
        temporary.unlink(missing_ok=True)


def read(path: Path) -> RunRecord:
    """Read one record.

    Raises:
        RecordError: no such file, not a record, or one of another name or paper: a copy would
            count as a second run.
    """
    path = Path(path)
    try:
        record = RunRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))  # none where figures do not fit one another
        told = ": ".join(filter(None, [place, problem["msg"].removeprefix("Value error, ")]))
        raise RecordError(f"{path}: not a run record ({told})") from None
    there = Path(record.paper) / f"{record.run}.json"
    if path.absolute().parts[-2:] != there.parts:
        raise RecordError(f"{path}: a copy, which would count twice; the record belongs at {there}")
    return record


def _is_record(path: Path) -> bool:
    try:
        return bool(read(path))
    except RecordError:
        return False


def read_all(paper: str, folder: Path = RESULTS) -> list[RunRecord]:
    """Every record of a paper, in the order of their names.

    Raises:
        RecordError: a file that is no record.
    """
    return [read(path) for path in sorted((Path(folder) / paper).glob("*.json"))]


def read_probabilities(record: RunRecord, folder: Path = RESULTS) -> tuple[np.ndarray, np.ndarray]:
    """Test probabilities float32 (N, K) and labels int64 (N,) of a record.

    Raises:
        RecordError: the file is missing or is not the one the record was written with.
    """
    path = Path(folder) / record.paper / f"{record.run}.npz"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != record.probabilities:
        raise RecordError(f"{path}: not the file that the record {record.run} was written with")
    with np.load(io.BytesIO(content)) as arrays:
        return arrays["probabilities"], arrays["labels"].astype(np.int64)


def stale(runs: Sequence[RunRecord], data: bool = True) -> set[str]:
    """Names of the runs whose number might come out otherwise today.

    A run is stale when its data are no longer those of the manifest, or when its code has changed.
    A change of code that moves no number can be shown by repeating one run: where two records
    differ in nothing but their code and give the same metrics to the last digit, the later code
    stands for the earlier; parts that only one of them scored are left out.

    Args:
        runs: all records of one paper, the repeated ones included.
        data: whether the data count, or the code alone.
    """
    current: dict[tuple[str, ...], str | None] = {}
    for run in runs:
        if run.code.entry_points not in current:
            current[run.code.entry_points] = _code_hash(run.code.entry_points)
    same = _proven_same(runs)
    return {
        run.run
        for run in runs
        if current[run.code.entry_points] not in same.get(run.code.sha256, {run.code.sha256})
        or (data and _other_data(run))
    }


def _code_hash(entry_points: tuple[str, ...]) -> str | None:
    try:
        return provenance.code_hash(entry_points)
    except ValueError:  # an entry point is gone
        return None


def _other_data(run: RunRecord) -> bool:
    """Whether the manifest gives the data that were loaded another hash by now."""
    expected = load_manifest(run.data.name).arrays
    return bool(expected) and (run.data.loaded or run.data.sha256) not in expected


def _proven_same(runs: Sequence[RunRecord]) -> dict[str, set[str]]:
    """For every code hash the hashes that repeated runs have shown to give the same numbers."""
    groups: dict[str, set[str]] = {}
    for group in repeated(runs):
        for first, second in pairwise(group):
            if same_numbers(first, second):
                one, two = first.code.sha256, second.code.sha256
                joined = groups.get(one, {one}) | groups.get(two, {two})
                groups.update(dict.fromkeys(joined, joined))
    return groups


def same_numbers(first: RunRecord, second: RunRecord) -> bool:
    """Whether two records agree to the last digit in all figures of the parts that both scored."""
    both = first.metrics.keys() & second.metrics.keys()
    return all(first.metrics[part] == second.metrics[part] for part in both)


def latest(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Each run once: of those repeated with other code, data or split, the one made last.

    Which record of the same name a run started from makes no other run of it: that one was
    repeated, too. A record of the future was made under a wrong clock; every other one counts as
    later.
    """
    today = now()
    asked: dict[str, list[RunRecord]] = {}
    for run in runs:
        parameters = {key: _unhashed(value) for key, value in run.parameters.items()}
        key = [run.paper, run.profile, parameters, run.seed]
        asked.setdefault(json.dumps(key, sort_keys=True), []).append(run)
    kept = {
        max(group, key=lambda run: (run.created <= today, run.created)).run
        for group in asked.values()
    }
    return [run for run in runs if run.run in kept]


def repeated(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Runs of the same parameters, data and split, oldest first: one or several a group."""
    groups: dict[str, list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: run.created):
        key = [run.paper, run.profile, run.parameters, run.seed]
        key += [run.data.sha256, run.split.sha256]
        groups.setdefault(json.dumps(key, sort_keys=True), []).append(run)
    return list(groups.values())


def _unhashed(value: Any) -> Any:
    """A parameter, names of records without the hash at their end."""
    if isinstance(value, list):
        return [_unhashed(one) for one in value]
    return re.sub(r"-[0-9a-f]{8}$", "", value) if isinstance(value, str) else value


def finish(record: RunRecord, path: Path, output_dir: str | Path) -> None:
    """`sign` for a chapter that made `record`, which was written to `path`."""
    sign(record.paper, output_dir, run=record.run, record=str(path))


def sign(page: str, output_dir: str | Path, **told: Any) -> None:
    """Leave `<output_dir>/<page>.done.json`: the sign that a notebook ran to its last cell.

    Args:
        page: the executed notebook's name, without its ending.
        output_dir: is made where it does not exist.
        told: what the sign says, JSON-ready.
    """
    done = Path(output_dir) / f"{page}.done.json"
    done.parent.mkdir(parents=True, exist_ok=True)
    done.write_text(json.dumps(told))
