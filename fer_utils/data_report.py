"""What the real images hold that an accuracy depends on: copies, label noise, leakage.

The measurements need the data, the book does not: they are committed as `results/data.json`, with
the hash of what was measured, and written again by `fer-utils data report --write`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fer_utils import records, splits
from fer_utils.datasets import FaceDataset, ferplus_votes, load
from fer_utils.manifests import load_manifest
from fer_utils.splits import LeakageReport, Split
from fer_utils.training.checkpoints import write_atomically

REPORT = records.RESULTS / "data.json"
THRESHOLD = 0.97  # correlation of two near copies


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Copies(_Part):
    """Images of FER2013 that stand in two parts."""

    first: str
    second: str
    exact: int = Field(description="images of the second part with an equal one in the first")
    near: int = Field(description="the same for near copies, mirrored or not, equal ones included")
    other_label: int = Field(description="equal images with another label in the first part")


class LabelNoise(_Part):
    """FER2013's labels beside what ten taggers said of the same images (FER+)."""

    images: int
    agree: int = Field(description="the label is the taggers' first choice")
    no_expression: int = Field(description='most taggers said "unknown" or "not a face"')
    labels: tuple[str, ...]
    votes: tuple[str, ...]
    matrix: list[list[int]] = Field(description="images: FER2013's label by first choice")


class Leakage(_Part):
    """What test images of a protocol share with training images."""

    dataset: str
    protocol: str
    test: int
    same_person: int = Field(description="test images whose person is in training")
    same_video: int = Field(description="test images with another frame of their video in training")
    near: int = Field(description="test images with a near copy in training")


class DataReport(_Part):
    """All measurements, with the data they are of."""

    arrays: dict[str, str] = Field(description="sha256 of images and labels of each set")
    threshold: float
    copies: tuple[Copies, ...]
    copied_test: tuple[int, ...] = Field(
        description="FER2013: positions in the test part of images with a near copy in training"
    )
    noise: LabelNoise
    leakage: tuple[Leakage, ...]


def measure(root: str | Path | None = None) -> DataReport:
    """Measure FER2013 with FER+, and the 48x48 copy of CK+; about a minute.

    Args:
        root: the data root, see `datasets.load`.

    Raises:
        DataError: one of them is absent or not what it should be.
    """
    fer2013, ck48 = load("fer2013", root), load("ck48", root)
    official = splits.official(fer2013)
    found = splits.leakage(fer2013, official, THRESHOLD)
    position = {row: place for place, row in enumerate(official.test.tolist())}
    return DataReport(
        arrays={
            data.name: records.array_hash(data.images, data.labels) for data in (fer2013, ck48)
        },
        threshold=THRESHOLD,
        copies=tuple(
            _copies(fer2013, official, found, *pair)
            for pair in (("train", "val"), ("train", "test"), ("val", "test"))
        ),
        copied_test=tuple(position[row] for row in found.copied_test_rows.tolist()),
        noise=_noise(fer2013, ferplus_votes(root)),
        leakage=tuple(_leakage(ck48, split) for split in _protocols(ck48)),
    )


def _copies(
    data: FaceDataset, split: Split, found: LeakageReport, first: str, second: str
) -> Copies:
    a, b = (data.subset(getattr(split, part)) for part in (first, second))
    pairs = splits.exact_copies(a.images, b.images)
    differ = a.labels[pairs.first] != b.labels[pairs.second]
    return Copies(
        first=first,
        second=second,
        exact=len(np.unique(pairs.second)),
        near=len(found.find("near copy", first, second).second_rows),
        other_label=len(np.unique(pairs.second[differ])),
    )


def _noise(data: FaceDataset, votes: np.ndarray) -> LabelNoise:
    choices = (*load_manifest("ferplus").class_names, "unknown", "not a face")
    first = votes.argmax(axis=1)  # the first of equals, as FER+ does
    named = np.array([choices.index(name) for name in data.class_names])
    matrix = np.zeros((len(data.class_names), len(choices)), int)
    np.add.at(matrix, (data.labels, first), 1)
    return LabelNoise(
        images=len(data),
        agree=int((named[data.labels] == first).sum()),
        no_expression=int((first >= len(choices) - 2).sum()),
        labels=data.class_names,
        votes=choices,
        matrix=matrix.tolist(),
    )


def _protocols(data: FaceDataset) -> list[Split]:
    return [splits.stratified(data, seed=0), *splits.subject_kfold(data, splits.FOLDS, seed=0)[:1]]


def _leakage(data: FaceDataset, split: Split) -> Leakage:
    found = splits.leakage(data, split, THRESHOLD)
    person, video, near = (
        len(found.find(kind).second_rows) for kind in ("subject", "sequence", "near copy")
    )
    return Leakage(
        dataset=data.name,
        protocol=split.description,
        test=len(split.test),
        same_person=person,
        same_video=video,
        near=near,
    )


def write(report: DataReport, path: Path = REPORT) -> Path:
    """Replace the report by a new one."""
    write_atomically(path, f"{json.dumps(report.model_dump(mode='json'), indent=1)}\n".encode())
    return path


def read(path: Path = REPORT) -> DataReport | None:
    """The committed report, or None where there is none."""
    return DataReport.model_validate_json(path.read_bytes()) if path.exists() else None


def without_copies(run: records.RunRecord, report: DataReport) -> tuple[int, int] | None:
    """Right images and images of FER2013's test part that have no near copy in training.

    Args:
        run: whose test probabilities are kept beside its record.
        report: of the same data.

    Returns:
        (correct, n); None for runs on other data.
    """
    loaded = run.data.loaded or run.data.sha256
    if loaded != report.arrays["fer2013"] or run.split.name != "official":
        return None
    probabilities, labels = records.read_probabilities(run)
    if len(labels) != run.split.sizes["test"]:
        return None
    kept = np.setdiff1d(np.arange(len(labels)), report.copied_test)
    right = probabilities.argmax(axis=1) == labels
    return int(right[kept].sum()), len(kept)
