"""Load every data set of the companion as one `FaceDataset`."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .manifests import DataError


@dataclass(frozen=True)
class FaceDataset:
    """Images of faces with their expression labels, in the row order of the source.

    Args:
        name: name of the manifest the data came from.
        images: uint8 (N, H, W, 1), 0-255 grey.
        labels: int64 (N,), an index into `class_names`; -1 where the source has no label.
        class_names: the expressions in the manifest's order.
        split: str (N,) of "train", "val", "test"; None where the source defines no parts.
        subjects: str (N,), who is shown; None where the source does not say.
        sequences: str (N,), which video or burst a frame is from; None where there is none.
        votes: uint8 (N, V), how many taggers chose each of the V vote columns; None without votes.
        hashes: sha256 of every source file by its name, what a record keeps of the data.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    split: np.ndarray | None = None
    subjects: np.ndarray | None = None
    sequences: np.ndarray | None = None
    votes: np.ndarray | None = None
    hashes: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: np.ndarray) -> FaceDataset:
        """The rows at `rows`: int (M,) positions or bool (N,) mask."""
        cut = {
            key: value[rows]
            for key in ("images", "labels", "split", "subjects", "sequences", "votes")
            if (value := getattr(self, key)) is not None
        }
        return replace(self, **cut)


FER2013_CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
PARTS = {b"Training": "train", b"PublicTest": "val", b"PrivateTest": "test"}
SIDE = 48
PIXELS = SIDE * SIDE
BLOCK = 1 << 20  # bytes of CSV a thread parses at once: its temporaries stay in the CPU's cache


def load(name: str, root: str | Path | None = None) -> FaceDataset:
    """Load a data set by the name of its manifest.

    Args:
        name: name of a manifest, such as "fer2013".
        root: the data root; None reads the environment variable FER_DATA, else `data`.

    Returns:
        The whole set in the row order of its source.

    Raises:
        DataError: the data are missing, damaged or not what the manifest says.
    """
    root = data_root(root)
    if name == "fer2013":
        return _fer2013(root)
    raise ValueError(f"no data set is called {name!r}")


def data_root(root: str | Path | None = None) -> Path:
    """The folder that holds the data sets: `root`, else $FER_DATA, else `data`."""
    return Path(root or os.environ.get("FER_DATA") or "data").expanduser()


def _fer2013(root: Path) -> FaceDataset:
    path = root / "fer2013" / "fer2013.csv"
    if not path.is_file():
        raise DataError(path, "no such file")
    table = _cached_table(path)
    return FaceDataset(
        name="fer2013",
        images=table.images,
        labels=table.labels.astype(np.int64),
        class_names=FER2013_CLASSES,
        split=np.array([*PARTS.values()])[table.parts],
        hashes={path.name: table.sha256},
    )


# ---- pixel tables: CSV files with one image a row -------------------------------------------


class _Table(NamedTuple):
    images: np.ndarray  # uint8 (N, 48, 48, 1)
    labels: np.ndarray  # int8 (N,), -1 without a label
    parts: np.ndarray  # int8 (N,), an index into PARTS, -1 without a Usage column
    sha256: str


def _parse_table(path: Path, sha256: str) -> _Table:
    """Parse a FER2013-style CSV: vectorised digits, two threads, first bad row named."""
    columns, start = _header(path)
    spans = _row_spans(path, start)
    blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    rows = 0
    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(lambda span: _parse_block(path, span, columns), spans):
            if isinstance(result, _BadRow):
                pool.shutdown(cancel_futures=True)
                raise DataError(
                    path,
                    result.problem,
                    row=rows + result.row,
                    expected=result.expected,
                    found=result.found,
                )
            blocks.append(result)
            rows += len(result[1])
    images, labels, parts = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return _Table(images.reshape(-1, SIDE, SIDE, 1), labels, parts, sha256)


class _BadRow(NamedTuple):
    row: int  # 1-based within the block
    problem: str
    expected: object
    found: object


def _header(path: Path) -> tuple[dict[str, int], int]:
    """Column positions by name, and the byte where the first data row starts."""
    with path.open("rb") as file:
        line = file.readline(1 << 16)
    if not line:
        raise DataError(path, "the file is empty")
    names = [
        _strip(cell).decode("utf-8", "replace")
        for cell in line.removeprefix(b"\xef\xbb\xbf").split(b",")
    ]
    if "pixels" not in names or not set(names) <= {"emotion", "pixels", "Usage"}:
        raise DataError(
            path,
            "this is not a FER2013 table",
            expected="the header emotion,pixels,Usage",
            found=repr(",".join(names)[:80]),
        )
    return {name: position for position, name in enumerate(names)}, len(line)


def _strip(cell: bytes) -> bytes:
    return cell.strip(b' "\r\n\t')


def _row_spans(path: Path, start: int) -> list[tuple[int, int]]:
    """Byte ranges of about BLOCK bytes that begin and end at a row."""
    size = path.stat().st_size
    edges = [start]
    with path.open("rb") as file:
        while (edge := edges[-1] + BLOCK) < size:
            file.seek(edge)
            file.readline()
            edges.append(file.tell())
    if edges[-1] < size:
        edges.append(size)
    return list(pairwise(edges))


def _parse_block(path: Path, span: tuple[int, int], columns: dict[str, int]):
    """Rows of one span as (images uint8 (n, 2304), labels int8, parts int8), or the bad row."""
    with path.open("rb") as file:
        file.seek(span[0])
        lines = file.read(span[1] - span[0]).split(b"\n")
    if not lines[-1]:
        lines.pop()
    labels = np.full(len(lines), -1, np.int8)
    parts = np.full(len(lines), -1, np.int8)
    pixels = []
    for row, line in enumerate(lines):
        cells = [_strip(cell) for cell in line.split(b",")]
        if len(cells) != len(columns):
            return _BadRow(row + 1, "wrong number of columns", len(columns), len(cells))
        if "emotion" in columns:
            cell = cells[columns["emotion"]]
            if cell not in LABELS:
                return _BadRow(row + 1, "unknown label", "0 to 6", _shown(cell))
            labels[row] = LABELS[cell]
        if "Usage" in columns:
            cell = cells[columns["Usage"]]
            if cell not in PART_CODES:
                return _BadRow(
                    row + 1, "unknown Usage", ", ".join(p.decode() for p in PARTS), _shown(cell)
                )
            parts[row] = PART_CODES[cell]
        pixels.append(cells[columns["pixels"]])
    images = _digits(pixels)
    if images is None:
        return _first_bad_pixels(pixels)
    return images, labels, parts


LABELS = {str(code).encode(): code for code in range(len(FER2013_CLASSES))}
PART_CODES = {usage: code for code, usage in enumerate(PARTS)}


def _shown(cell: bytes) -> str:
    return repr(cell[:40].decode("utf-8", "replace"))


def _digits(rows: list[bytes]) -> np.ndarray | None:
    """Decimal text to numbers, all rows at once: uint8 (n, 2304), or None if any row is wrong.

    A number ends where a digit is followed by a space; its tens and hundreds are the one and two
    bytes before, if those are digits too. Three bytes of padding let every shift stay in bounds.
    """
    text = np.frombuffer(b"   " + b" ".join(rows) + b" ", np.uint8)
    digit = text - np.uint8(48)
    is_digit = digit < 10
    if np.count_nonzero(is_digit) + np.count_nonzero(text == 32) != text.size:
        return None
    digit *= is_digit
    ends = is_digit[3:-1] & ~is_digit[4:]
    has_tens = is_digit[2:-2]
    has_hundreds = has_tens & is_digit[1:-3]
    if (has_hundreds & is_digit[:-4] & ends).any():
        return None  # four digits
    hundreds = digit[1:-3] * has_tens
    below = digit[2:-2] * np.uint8(10) + digit[3:-1]
    if (((hundreds > 2) | ((hundreds == 2) & (below > 55))) & ends).any():
        return None
    widths = np.array([len(row) for row in rows]) + 1
    starts = np.concatenate([[0], np.cumsum(widths)])
    if any(np.count_nonzero(ends[a:b]) != PIXELS for a, b in pairwise(starts)):
        return None
    below += hundreds * np.uint8(100)
    return below[ends].reshape(len(rows), PIXELS)


def _first_bad_pixels(rows: list[bytes]) -> _BadRow:
    for row, cell in enumerate(rows, start=1):
        numbers = cell.split()
        if len(numbers) != PIXELS:
            return _BadRow(row, "wrong number of pixels", PIXELS, len(numbers))
        for number in numbers:
            if not number.isdigit() or len(number) > 3 or int(number) > 255:
                return _BadRow(
                    row, "bad pixel value", "a whole number from 0 to 255", _shown(number)
                )
    raise AssertionError("the fast and the careful parser disagree")


# ---- cache ------------------------------------------------------------------------------------


def _cached_table(path: Path) -> _Table:
    """The parsed table, memory-mapped from the cache that the file's own hash names."""
    sha256 = _sha256(path)
    return _parse_table(path, sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
