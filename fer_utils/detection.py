"""Find faces and their 68 landmarks, and cut images down to them.

dlib's detector slides a linear classifier over histograms of oriented gradients; the landmarks
come from an ensemble of regression trees (kazemi2014). OpenCV's Haar cascade is the second
detector. Tens of thousands of images are shared among processes, and what was found is kept in
the cache in pieces, so that work cut off goes on where it was.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import dlib
import numpy as np
from tqdm import tqdm

from fer_utils.datasets import FaceDataset
from fer_utils.pixel_csv import cache_folder

Detector = Literal["hog", "haar"]

LANDMARKS = 68
UPSAMPLE = 1  # doublings before dlib looks: its window has 80 pixels, FER2013's images have 48
PIECE = 512  # images that one process is given at a time, and that one cached file covers
FORMAT = 1  # of the cache; a change in what is stored raises it


class DetectionError(RuntimeError):
    """The landmark model is missing, or a detector is unknown."""


class Detections(NamedTuple):
    """What a detector found in N images; row i belongs to image i.

    Args:
        boxes: int16 (N, 4): left, top, right, bottom of the largest face in pixels, the last two
            exclusive; all -1 where no face was found.
        landmarks: int16 (N, 68, 2): x and y of each point in pixels, possibly outside the image;
            all -1 where no face was found.
    """

    boxes: np.ndarray
    landmarks: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """bool (N,): whether there is a face."""
        return self.boxes[:, 2] > self.boxes[:, 0]


# ---- one image --------------------------------------------------------------------------------


def find_face(image: np.ndarray, detector: Detector = "hog") -> tuple[int, int, int, int] | None:
    """The largest face in an image.

    Args:
        image: uint8 (H, W), grey.
        detector: "hog" for dlib's, the image doubled once; "haar" for OpenCV's cascade of frontal
            faces with its own defaults.

    Returns:
        left, top, right, bottom in pixels, the last two exclusive; None where there is no face.

    Raises:
        DetectionError: `detector` is neither.

    Source:
        nouisser2023, section 3.1.
    """
    image = np.ascontiguousarray(image)
    if detector == "hog":
        found = [
            (box.left(), box.top(), box.right() + 1, box.bottom() + 1)
            for box in _hog()(image, UPSAMPLE)
        ]
    elif detector == "haar":
        found = [
            (left, top, left + width, top + height)
            for left, top, width, height in np.asarray(_haar().detectMultiScale(image)).tolist()
        ]
    else:
        raise DetectionError(f"detector {detector!r}: one of hog, haar")
    return max(found, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]), default=None)


def find_landmarks(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The 68 landmarks of a face: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67.

    Args:
        image: uint8 (H, W), grey.
        box: of `find_face`.

    Returns:
        int16 (68, 2): x and y in pixels.

    Raises:
        DetectionError: the landmark model is not installed.
    """
    left, top, right, bottom = box
    face = dlib.rectangle(left, top, right - 1, bottom - 1)
    points = _predictor()(np.ascontiguousarray(image), face)
    return np.array([(point.x, point.y) for point in points.parts()], np.int16)


def crop_to_landmarks(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """The smallest upright rectangle around the landmarks, as far as the image has it.

    Args:
        image: uint8 (H, W), grey.
        landmarks: int (68, 2) of `find_landmarks`.

    Returns:
        uint8 (h, w), at least one pixel each way.
    """
    height, width = image.shape
    (left, top), (right, bottom) = landmarks.min(axis=0), landmarks.max(axis=0) + 1
    left, right = np.clip([left, right], 0, width)
    top, bottom = np.clip([top, bottom], 0, height)
    left, top = min(left, width - 1), min(top, height - 1)
    return image[top : max(bottom, top + 1), left : max(right, left + 1)]


def resize_with_padding(image: np.ndarray, side: int = 48) -> np.ndarray:
    """Bring an image to a square without stretching: both ways alike, black bars for the rest.

    Args:
        image: uint8 (h, w), grey.
        side: of the square, pixels.

    Returns:
        uint8 (side, side), the image in its middle.

    Source:
        nouisser2023, section 4.1: "padding technique instead of standard resize".
    """
    height, width = image.shape
    scale = side / max(height, width)
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side), np.uint8)
    square[top : top + height, left : left + width] = cv2.resize(image, (width, height))
    return square


def crop_corners(landmarks: np.ndarray, side: int = 48) -> np.ndarray:
    """Where `crop_to_landmarks` cuts each of many square images.

    Args:
        landmarks: int (N, 68, 2) of faces that were found.
        side: of the images, pixels.

    Returns:
        int64 (N, 4): left, top, right, bottom in pixels, the last two exclusive.
    """
    outermost = np.concatenate([landmarks.min(axis=1), landmarks.max(axis=1) + 1], axis=1)
    return within(outermost, side)


def within(boxes: np.ndarray, side: int = 48) -> np.ndarray:
    """The part of each box that is in a square image, at least its nearest pixel.

    Args:
        boxes: int (N, 4): left, top, right, bottom in pixels, the last two exclusive.
        side: of the images, pixels.

    Returns:
        int64 (N, 4), the same corners, 0 to `side`.
    """
    inside = np.clip(np.asarray(boxes, np.int64), 0, side)
    first = np.minimum(inside[:, :2], side - 1)
    return np.concatenate([first, np.maximum(inside[:, 2:], first + 1)], axis=1)


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of each box with its partner.

    Args:
        first, second: int (N, 4): left, top, right, bottom in pixels, the last two exclusive.

    Returns:
        float64 (N,), 0-1.
    """
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    areas = sum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second))
    return shared / (areas - shared)


def library_versions() -> dict[str, str]:
    """Of the libraries that find faces."""
    return {"dlib-bin": metadata.version("dlib-bin"), "opencv-python": cv2.__version__}


@cache
def _hog():
    return dlib.get_frontal_face_detector()


@cache
def _haar() -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(
        os.path.join(cv2.data.haarcascades, "haarcascade_frontalface_default.xml")
    )


@cache
def _predictor():
    """The model that the package face_recognition_models carries.

    Its own import needs a module that setuptools no longer has, so the file is found without it.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None:
        raise DetectionError(
            "The landmark model is missing: pip install face_recognition_models (its training "
            "images, iBUG 300-W, exclude commercial use)"
        )
    folder = Path(spec.submodule_search_locations[0])
    return dlib.shape_predictor(str(folder / "models" / "shape_predictor_68_face_landmarks.dat"))


# ---- many images ------------------------------------------------------------------------------


def detect(
    images: np.ndarray, detector: Detector = "hog", *, workers: int | None = None
) -> Detections:
    """Find the largest face and its landmarks in every image.

    What was found is kept below `pixel_csv.cache_folder()` under a hash of the images, the
    detector and the versions of the libraries; a call that was cut off goes on from there.

    Args:
        images: uint8 (N, H, W, 1), grey.
        detector: see `find_face`.
        workers: processes; None for one a core. One works in this process.

    Returns:
        The detections in the order of `images`.

    Raises:
        DetectionError: an unknown detector, or the landmark model is missing.
    """
    _predictor()  # complains here rather than in another process
    starts = range(0, len(images), PIECE)
    folder = _cache(images, detector)
    pieces = {start: piece for start in starts if (piece := _read(folder, start)) is not None}
    todo = [start for start in starts if start not in pieces]
    workers = min(workers or os.cpu_count() or 1, len(todo))
    with tqdm(
        total=len(images),
        initial=sum(map(len, pieces.values())),
        desc=f"faces, {detector}",
        unit="image",
        mininterval=2,
        disable=not todo,
    ) as bar:
        for start, piece in _work(images, todo, detector, workers):
            _write(folder, start, piece)
            pieces[start] = piece
            bar.update(len(piece))
    points = np.concatenate([np.empty((0, 2 + LANDMARKS, 2), np.int16), *map(pieces.get, starts)])
    return Detections(points[:, :2].reshape(-1, 4), points[:, 2:])


def _work(
    images: np.ndarray, starts: list[int], detector: Detector, workers: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Each piece as it gets done, with its first row."""
    if workers <= 1:
        for start in starts:
            yield start, _detect_piece(images[start : start + PIECE], detector)
        return
    # A process forked from one that runs TensorFlow can hang: start new ones.
    with ProcessPoolExecutor(workers, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        jobs = {
            pool.submit(_detect_piece, np.array(images[start : start + PIECE]), detector): start
            for start in starts
        }
        try:
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _detect_piece(images: np.ndarray, detector: Detector) -> np.ndarray:
    """int16 (n, 70, 2): two corners of the box, then the landmarks; -1 without a face."""
    points = np.full((len(images), 2 + LANDMARKS, 2), -1, np.int16)
    for row, image in zip(points, images[..., 0], strict=True):
        if (box := find_face(image, detector)) is not None:
            row[:2] = np.reshape(box, (2, 2))
            row[2:] = find_landmarks(image, box)
    return points


def _cache(images: np.ndarray, detector: Detector) -> Path:
    """Where the pieces of these images are kept."""
    versions = [metadata.version("dlib-bin"), cv2.__version__]
    settings = [FORMAT, PIECE, UPSAMPLE, detector, *versions, images.shape]
    digest = hashlib.sha256(repr(settings).encode())
    digest.update(np.ascontiguousarray(images).data)
    return cache_folder() / f"faces-{digest.hexdigest()[:16]}"


def _read(folder: Path, start: int) -> np.ndarray | None:
    """A piece found earlier; None where it was not, or cannot be read."""
    try:
        return np.load(folder / f"{start:07d}.npy")
    except (OSError, ValueError, EOFError):
        return None


def _write(folder: Path, start: int, piece: np.ndarray) -> None:
    """Keep a piece, in one step, so that whatever is there is whole."""
    content = io.BytesIO()
    np.save(content, piece)
    temporary = folder / f".{start:07d}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content.getvalue())
        os.replace(temporary, folder / f"{start:07d}.npy")
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        warnings.warn(f"{folder}: not cached ({error.strerror})", stacklevel=2)


# ---- a data set -------------------------------------------------------------------------------


def preprocess(
    data: FaceDataset, detector: Detector = "hog", *, workers: int | None = None
) -> tuple[FaceDataset, Detections]:
    """Cut every image down to its face; drop the images without one.

    Args:
        data: any set of 48x48 images.
        detector: see `find_face`.
        workers: see `detect`.

    Returns:
        The images with a face, cropped to its landmarks and padded to 48x48, in their order; and
        what was found in all images of `data`.

    Raises:
        DetectionError: see `detect`.

    Source:
        nouisser2023, sections 3.1 and 4.1.
    """
    detections = detect(data.images, detector, workers=workers)
    kept = np.flatnonzero(detections.found)
    images = np.empty((len(kept), *data.images.shape[1:]), np.uint8)
    for image, row in zip(images, kept, strict=True):
        face = crop_to_landmarks(data.images[row, ..., 0], detections.landmarks[row])
        image[..., 0] = resize_with_padding(face, len(image))
    return replace(data.subset(kept), images=images), detections


def dropped(data: FaceDataset, detections: Detections) -> dict[str, dict[str, dict[str, int]]]:
    """How many images have no face that was found.

    Returns:
        For each part and expression the number of "images" and how many were "dropped";
        JSON-ready.
    """
    lost = data.subset(~detections.found).counts()
    return {
        part: {
            name: {"images": images, "dropped": lost.get(part, {}).get(name, 0)}
            for name, images in classes.items()
        }
        for part, classes in data.counts().items()
    }
