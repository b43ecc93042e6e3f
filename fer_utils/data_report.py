"""What the real images hold that an accuracy depends on: copies, label noise, leakage, faces found.

The measurements need the data, the book does not: they are committed as `results/data.json`, with
the hash of what was measured, and written again by `fer-utils data report --write`.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fer_utils import ferplus, records, splits
from fer_utils.datasets import FaceDataset, array_hash, ferplus_votes, load
from fer_utils.folds import SUBJECT_KFOLD
from fer_utils.manifests import load_manifest
from fer_utils.splits import LeakageReport, Split
from fer_utils.training.checkpoints import write_atomically

if TYPE_CHECKING:  # needs dlib, which a page that reads the report can do without
    from fer_utils.detection import Detections

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


class ScoredPart(_Part):
    """FER2013's test part as a run takes it: whole, or without what its data leave out."""

    name: str
    sha256: str = Field(description="of images and labels of the whole set, as the run takes them")
    test: int
    copied: tuple[int, ...] = Field(
        description="positions in the test part of images with a near copy in the training part, "
        "as the run takes that, before it is balanced"
    )
    faceless: tuple[int, ...] = Field(
        description="positions in the test part of images in which dlib's detector finds no face"
    )


class FacesFound(_Part):
    """In how many images of a part of FER2013 which detector finds a face."""

    both: int
    hog_only: int
    haar_only: int
    none: int


class Quantiles(_Part):
    """Of one figure over the images in which both detectors find a face."""

    median: float
    worst: float = Field(description="5 % of the images are at this or beyond it")


class Detectors(_Part):
    """dlib's detector beside OpenCV's Haar cascade on all images of FER2013."""

    versions: dict[str, str]
    found: dict[str, FacesFound] = Field(description="by part")
    boxes: Quantiles = Field(description="overlap of the two boxes, 0-1")
    crops: Quantiles = Field(description="overlap of the two crops around the landmarks, 0-1")
    centres: Quantiles = Field(description="pixels between the centres of the two crops")


class LabelNoise(_Part):
    """FER2013's labels beside what ten taggers said of the same images (FER+)."""

    images: int
    agree: int = Field(description="the label is the taggers' first choice")
    no_expression: int = Field(description='the first choice is "unknown" or "not a face"')
    labels: tuple[str, ...]
    votes: tuple[str, ...]
    matrix: list[list[int]] = Field(description="images: FER2013's label by first choice")


class TiedPart(_Part):
    """A part of FER+: what the votes of its images say, of those with one for an expression."""

    part: str
    images: int
    tied: int = Field(description="several expressions share the most votes")
    neutral: int = Field(description="of the tied ones, labelled neutral")
    no_expression: int = Field(description='"unknown" or "not a face" has more votes than any')


class Ties(_Part):
    """Images of FER+ whose most votes several expressions share; one of them is the label."""

    sha256: str = Field(description="of images and labels of the whole set, as a run takes them")
    parts: tuple[TiedPart, ...]
    test: tuple[int, ...] = Field(description="positions of tied images in the test part")
    leaders: tuple[tuple[int, ...], ...] = Field(description="the expressions that share, of each")


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
    scored: tuple[ScoredPart, ...] = Field(
        description="FER2013 itself, FER+ by the rule for which images stay, faces by detector"
    )
    detectors: Detectors
    noise: LabelNoise
    ties: Ties
    leakage: tuple[Leakage, ...]


def measure(root: str | Path | None = None) -> DataReport:
    """Measure FER2013 with FER+ and its faces, and the 48x48 copy of CK+.

    Half a minute of one core, and some minutes more where the faces were never looked for: see
    `detection.detect`.

    Args:
        root: the data root, see `datasets.load`.

    Raises:
        DataError: one of them is absent or not what it should be.
        DetectionError: the landmark model is missing.
    """
    from fer_utils import detection

    fer2013, ck48, votes = load("fer2013", root), load("ck48", root), ferplus_votes(root)
    official = splits.official(fer2013)
    found = splits.leakage(fer2013, official, THRESHOLD)
    pairs = copied_rows(fer2013.images, official)
    faces, taken_of = {}, {}
    for detector in ("hog", "haar"):
        taken_of[detector], faces[detector] = detection.preprocess(fer2013, detector)
    part = partial(scored_part, split=official, pairs=pairs, faces=faces["hog"].found)
    scored = [part("fer2013", fer2013, np.ones(len(fer2013), bool))]
    for rule in ferplus.KEEP:
        told = ferplus.vote_targets(votes, keep=rule)
        kept = np.flatnonzero(told.kept)
        taken = FaceDataset("ferplus", fer2013.images, told.labels, ()).subset(kept)
        scored.append(part(f"ferplus, keep {rule}", taken, told.kept))
    for detector, found_by in faces.items():
        scored.append(part(f"fer2013, faces {detector}", taken_of[detector], found_by.found))
    return DataReport(
        arrays={data.name: array_hash(data.images, data.labels) for data in (fer2013, ck48)},
        threshold=THRESHOLD,
        copies=tuple(
            _copies(fer2013, official, found, *pair)
            for pair in (("train", "val"), ("train", "test"), ("val", "test"))
        ),
        scored=tuple(scored),
        detectors=compare_detectors(fer2013, faces["hog"], faces["haar"]),
        noise=_noise(fer2013, votes),
        ties=_ties(fer2013, votes),
        leakage=tuple(_leakage(ck48, split) for split in _protocols(ck48)),
    )


def copied_rows(images: np.ndarray, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a training and a test image that are near copies, equal ones included.

    Args:
        images: uint8 (N, H, W, 1) of the set that was split.
        split: its parts.

    Returns:
        int64 (M,) twice: rows of the set in train, and of their copies in test; a pair may stand
        twice.
    """
    train, test = images[split.train], images[split.test]
    # An image of a single grey correlates with nothing, not even with its equal.
    both = splits.near_copies(train, test, THRESHOLD), splits.exact_copies(train, test)
    first, second = (np.concatenate([pairs[side] for pairs in both]) for side in (0, 1))
    return split.train[first], split.test[second]


def scored_part(
    name: str,
    taken: FaceDataset,
    kept: np.ndarray,
    *,
    split: Split,
    pairs: tuple,
    faces: np.ndarray,
) -> ScoredPart:
    """Which test images that a run takes have a near copy among the training images it takes.

    And in which of them no face is found.

    Args:
        name: for people.
        taken: what the run takes, images and labels.
        kept: bool (N,), which rows of FER2013 those are.
        split: of FER2013.
        pairs: of `copied_rows`.
        faces: bool (N,), in which rows of FER2013 a face is found.
    """
    train, test = pairs
    rows = split.test[kept[split.test]]
    copied = np.isin(rows, test[kept[train]])
    return ScoredPart(
        name=name,
        sha256=array_hash(taken.images, taken.labels),
        test=len(rows),
        copied=tuple(np.flatnonzero(copied).tolist()),
        faceless=tuple(np.flatnonzero(~faces[rows]).tolist()),
    )


def compare_detectors(data: FaceDataset, hog: Detections, haar: Detections) -> Detectors:
    """How often two detectors find a face, and how far what both find is apart.

    Args:
        data: whose faces were looked for, with parts.
        hog, haar: what was found, of at least one image by both.
    """
    from fer_utils import detection

    side = data.images.shape[1]
    both = hog.found & haar.found
    boxes = [detection.within(found.boxes[both], side) for found in (hog, haar)]
    crops = [detection.crop_corners(found.landmarks[both], side) for found in (hog, haar)]
    centres = [(found[:, :2] + found[:, 2:]) / 2 for found in crops]
    return Detectors(
        versions=detection.library_versions(),
        found={
            part: _faces_found(hog.found[rows], haar.found[rows])
            for part in splits.PARTS
            if (rows := data.split == part).any()
        },
        boxes=_quantiles(detection.overlap(*boxes), 0.05),
        crops=_quantiles(detection.overlap(*crops), 0.05),
        centres=_quantiles(np.linalg.norm(centres[0] - centres[1], axis=1), 0.95),
    )


def _faces_found(hog: np.ndarray, haar: np.ndarray) -> FacesFound:
    counts = {
        "both": hog & haar,
        "hog_only": hog & ~haar,
        "haar_only": haar & ~hog,
        "none": ~(hog | haar),
    }
    return FacesFound(**{name: int(found.sum()) for name, found in counts.items()})


def _quantiles(figures: np.ndarray, worst: float) -> Quantiles:
    median, beyond = np.quantile(figures, (0.5, worst))
    return Quantiles(median=round(float(median), 4), worst=round(float(beyond), 4))


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


def _ties(data: FaceDataset, votes: np.ndarray) -> Ties:
    told = ferplus.vote_targets(votes, keep="any")
    expressions = votes[:, : ferplus.EXPRESSIONS]
    most = expressions.max(axis=1)
    leads = expressions == most[:, None]
    tied = leads.sum(axis=1) > 1
    neutral = told.labels == load_manifest("ferplus").class_names.index("neutral")
    no_expression = votes[:, ferplus.EXPRESSIONS :].max(axis=1) > most
    parts = []
    for part in splits.PARTS:
        taken = told.kept & (data.split == part)
        figures = {"tied": tied, "neutral": tied & neutral, "no_expression": no_expression}
        counts = {name: int((taken & found).sum()) for name, found in figures.items()}
        parts.append(TiedPart(part=part, images=int(taken.sum()), **counts))
    of_test = told.kept & (data.split == "test")
    return Ties(
        sha256=array_hash(data.images[told.kept], told.labels[told.kept]),
        parts=tuple(parts),
        test=tuple(np.flatnonzero(tied[of_test]).tolist()),
        leaders=tuple(tuple(np.flatnonzero(row).tolist()) for row in leads[of_test & tied]),
    )


def _protocols(data: FaceDataset) -> list[Split]:
    return [splits.stratified(data, seed=0), *splits.subject_kfold(data, SUBJECT_KFOLD, seed=0)[:1]]


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
    text = json.dumps(report.model_dump(mode="json"), indent=1)
    # A list of numbers stands in one line.
    text = re.sub(r"\[[\d,\s]+\]", lambda found: f"[{' '.join(found[0][1:-1].split())}]", text)
    write_atomically(path, f"{text}\n".encode())
    return path


def read(path: Path = REPORT) -> DataReport | None:
    """The committed report, or None where there is none.

    Raises:
        ValueError: it is no such report.
    """
    return DataReport.model_validate_json(path.read_bytes()) if path.exists() else None


def without_copies(
    run: records.RunRecord, report: DataReport, folder: Path = records.RESULTS
) -> tuple[int, int] | None:
    """Right images and images of a run's test part that have no near copy in training.

    Args:
        run: whose test probabilities are kept beside its record.
        report: of the same data.
        folder: where the records are.

    Returns:
        (correct, n); None for a run whose data or split the report does not know.

    Raises:
        RecordError: the probabilities are not beside the record.
    """
    part = _part_of(run, report)
    return _right_without(run, part.copied, folder) if part else None


def with_a_face(
    run: records.RunRecord, report: DataReport, folder: Path = records.RESULTS
) -> tuple[int, int] | None:
    """Right images and images of a run's test part in which dlib's detector finds a face.

    Args:
        run, report, folder: as of `without_copies`.

    Returns:
        (correct, n); None for a run whose data or split the report does not know, and for one
        that takes no other images.

    Raises:
        RecordError: the probabilities are not beside the record.
    """
    part = _part_of(run, report)
    return _right_without(run, part.faceless, folder) if part and part.faceless else None


def without_ties(
    run: records.RunRecord, report: DataReport, folder: Path = records.RESULTS
) -> tuple[int, int] | None:
    """Right images and images of a run's test part with one expression that leads the votes.

    Args:
        run, report, folder: as of `without_copies`.

    Returns:
        (correct, n); None for a run that is not on FER+ with all images, as they are labelled here.

    Raises:
        RecordError: the probabilities are not beside the record.
    """
    return _right_without(run, report.ties.test, folder) if _has_ties(run, report) else None


def with_any_leader(
    run: records.RunRecord, report: DataReport, folder: Path = records.RESULTS
) -> tuple[int, int] | None:
    """As `without_ties`, but of all images: right is any expression that shares the most votes."""
    if not _has_ties(run, report):
        return None
    probabilities, labels = records.read_probabilities(run, folder)
    predicted = probabilities.argmax(axis=1)
    right = predicted == labels
    for position, leaders in zip(report.ties.test, report.ties.leaders, strict=True):
        right[position] = predicted[position] in leaders
    return int(right.sum()), len(right)


def _has_ties(run: records.RunRecord, report: DataReport) -> bool:
    """Whether a run was tested on the part whose ties the report has."""
    return run.data.sha256 == report.ties.sha256 and run.split.name == "official"


def _part_of(run: records.RunRecord, report: DataReport) -> ScoredPart | None:
    """The test part that a run was tested on, where the report knows it."""
    part = next((part for part in report.scored if part.sha256 == run.data.sha256), None)
    known = part and run.split.name == "official" and run.split.sizes["test"] == part.test
    return part if known else None


def _right_without(
    run: records.RunRecord, left_out: tuple[int, ...], folder: Path
) -> tuple[int, int]:
    probabilities, labels = records.read_probabilities(run, folder)
    kept = np.setdiff1d(np.arange(len(labels)), left_out)
    right = probabilities.argmax(axis=1) == labels
    return int(right[kept].sum()), len(kept)
