"""A run of the grid, what it is prepared from, and where the workflow leaves both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_utils import records

ROOT = records.RESULTS.parent
BUILD = ROOT / "build" / "grid"
NO_RECORD = "no record"  # why a run is to be made that was never made


class GridError(ValueError):
    """A grid that was asked for and does not exist; one sentence."""


@dataclass(frozen=True)
class Run:
    """One execution of a chapter.

    Args:
        name: of its folder and of what it leaves; another one as soon as code, parameters, data
            or versions change, so that nothing old is ever taken for its result.
        paper: the chapter.
        parameters: for papermill; what the chapter does not take is left out.
        fields: parameters that its record must have.
        profiles: what its record may amount to, the best first.
        answers: what it is for, such as "Table II: Our model, Fer2013".
        cells: ids of the published cells whose own number it is.
        rank: 0 a published number itself, 1 what stands beside one, 2 an open detail.
        first: names of the runs that must be finished before, whose weights this one starts from.
        after: names of those that shorten it where they are made, too: the same with fewer epochs.
        prepared: names of the preparations that it finds in the cache.
        code: hash of the chapter's entry points.
        seconds: expected, of one core; None where nothing tells.
        state: "recorded", "done" here but not in the records, "to run", or "absent" (its data).
        why: the state in some words.
    """

    name: str
    paper: str
    parameters: dict[str, Any]
    fields: dict[str, Any]
    profiles: tuple[str, ...]
    answers: tuple[str, ...]
    cells: tuple[str, ...]
    rank: int
    first: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    prepared: tuple[str, ...] = ()
    code: str = ""
    seconds: float | None = None
    state: str = "to run"
    why: str = ""

    @property
    def dataset(self) -> str:
        """The manifest's name."""
        return self.fields["dataset"]

    @property
    def label(self) -> str:
        """The name without its hash, for people."""
        return self.name.rpartition("-")[0]


@dataclass(frozen=True)
class Preparation:
    """Arrays that several runs start from, made once and then found in the cache.

    Args:
        name: another one as soon as function, settings, data, versions or cache change.
        dataset: what is prepared.
        call: the function that the chapter prepares with, such as "fer_utils.detection:preprocess".
        settings: its arguments beside the data.
        threads: the argument that takes the number of cores, where it has one.
        seconds: expected, of one core; None where nothing tells.
    """

    name: str
    dataset: str
    call: str
    settings: dict[str, Any]
    threads: str | None = None
    seconds: float | None = None

    @property
    def label(self) -> str:
        """The name without its hash, for people."""
        return self.name.rpartition("-")[0]


def is_to_run(run: Run) -> bool:
    """Whether a run is to be made: it is not recorded, and its data are there."""
    return run.state == "to run"


def done_file(run: Run) -> Path:
    """What the workflow writes last for a run."""
    return BUILD / run.paper / run.name / "done.json"


def prepared_file(name: str) -> Path:
    """What the workflow writes when a preparation is whole."""
    return BUILD / "prepared" / f"{name}.json"
