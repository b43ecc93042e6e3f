"""Read CSV files that hold one image a row as decimal text, quickly, and keep the result.

FER2013 is 301 MB of "70 80 82 ..." for 83 MB of pixels. Digits become numbers with a dozen NumPy
operations on whole blocks of rows, in two threads (NumPy releases the lock); the result is kept as
memory-mapped arrays under the hash of the file it came from. The file itself is only ever read.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fer_utils.manifests import DataError, file_hash, require_file

SIDE = 48
PIXELS = SIDE * SIDE
BLOCK = 1 << 20  # bytes of CSV a thread parses at once: its temporaries stay in the CPU's cache
FORMAT = 1  # of the cache; a change in what is stored raises it


class PixelTable(NamedTuple):
    """What a pixel CSV says.

    Args:
        images: uint8 (N, 48, 48, 1), 0-255 grey; read-only and mapped where the cache can be
            written.
        labels: int64 (N,), the code in the column "emotion"; -1 without that column.
        usage: int64 (N,), an index into `Rules.usages`; -1 without the column "Usage".
        sha256: of the file.
    """

    images: np.ndarray
    labels: np.ndarray
    usage: np.ndarray
    sha256: str


@dataclass(frozen=True)
class Rules:
    """What may stand in the columns besides pixels.

    Args:
        classes: number of expressions; their codes are 0 to `classes - 1`.
        usages: the names in the column "Usage".
    """

    classes: int
    usages: tuple[str, ...]


def read_pixel_csv(path: Path, rules: Rules) -> PixelTable:
    """Read a FER2013-style CSV, from the cache if this very file has been parsed before.

    Args:
        path: the CSV; columns "pixels" and, in any order, "emotion" and "Usage".
        rules: the labels and names that may occur.

    Returns:
        Its rows in their order.

    Raises:
        DataError: the file or its cache is damaged; the sentence names the first bad row.
    """
    require_file(path)
    sha256 = file_hash(path)
    cached = _Cache.of(path, sha256)
    if not cached.sidecar.exists():
        before = path.stat()
        images, codes = _parse(path, rules)
        after = path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise DataError(path, "the file changed while it was read")
        if not cached.write(path.name, images, codes):
            return _table(images, codes, sha256)
    return _table(*cached.read(), sha256)


def cache_folder() -> Path:
    """Where parsed files are kept: $FER_CACHE, else ~/.cache/fer_utils."""
    return Path(os.environ.get("FER_CACHE") or Path.home() / ".cache" / "fer_utils").expanduser()


def require_cache_folder() -> Path:
    """As `cache_folder`, whose code is behind records and stays as it is.

    Raises:
        DataError: it would lie in a home folder that there is not.
    """
    try:
        return cache_folder()
    except RuntimeError:
        named = os.environ.get("FER_CACHE") or "~"
        problem = "no such home folder; set FER_CACHE to a folder that can be written"
        raise DataError(named, problem) from None


def _table(images: np.ndarray, codes: np.ndarray, sha256: str) -> PixelTable:
    labels, usage = codes.T.astype(np.int64)
    return PixelTable(images.reshape(-1, SIDE, SIDE, 1), labels, usage, sha256)


# ---- parsing ----------------------------------------------------------------------------------


class _BadRow(Exception):
    """A row that breaks the rules, counted from 1 within its block."""

    def __init__(self, row: int, problem: str, expected: object, found: object) -> None:
        self.row, self.problem, self.expected, self.found = row, problem, expected, found


def _parse(path: Path, rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    """All rows: images uint8 (N, 2304) and codes int8 (N, 2) of label and usage."""
    columns, start = _header(path)
    blocks: list[tuple[np.ndarray, np.ndarray]] = []
    rows = 0
    with ThreadPoolExecutor(2) as pool:
        parsed = pool.map(
            lambda span: _parse_block(path, span, columns, rules), _spans(path, start)
        )
        try:
            for block in parsed:
                blocks.append(block)
                rows += len(block[0])
        except _BadRow as bad:
            pool.shutdown(cancel_futures=True)
            raise DataError(
                path, bad.problem, row=rows + bad.row, expected=bad.expected, found=bad.found
            ) from None
    if not blocks:
        raise DataError(path, "there is a header but no row")
    images, codes = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return images, codes


def _header(path: Path) -> tuple[dict[str, int], int]:
    """Column positions by name, and the byte where the first data row starts."""
    with path.open("rb") as file:
        line = file.readline(BLOCK)
    cells = line.removeprefix(b"\xef\xbb\xbf").split(b",")
    names = [_strip(cell).decode("utf-8", "replace") for cell in cells]
    known = {"emotion", "pixels", "Usage"}
    if "pixels" not in names or not set(names) <= known or len(set(names)) != len(names):
        header = repr(",".join(names)[:80])
        problem = "line 1 is not the header of a FER2013 table"
        raise DataError(path, problem, expected="'emotion,pixels,Usage'", found=header)
    return {name: position for position, name in enumerate(names)}, len(line)


def _spans(path: Path, start: int) -> list[tuple[int, int]]:
    """Byte ranges of about BLOCK bytes that begin and end with a row."""
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


def _parse_block(
    path: Path, span: tuple[int, int], columns: dict[str, int], rules: Rules
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of one span: images uint8 (n, 2304), codes int8 (n, 2)."""
    with path.open("rb") as file:
        file.seek(span[0])
        lines = file.read(span[1] - span[0]).split(b"\n")
    if not lines[-1]:
        lines.pop()
    labels = {str(code).encode(): code for code in range(rules.classes)}
    usages = {name.encode(): code for code, name in enumerate(rules.usages)}
    codes = np.full((len(lines), 2), -1, np.int8)
    pixels: list[bytes] = []
    try:
        for row, line in enumerate(lines):
            cells = [_strip(cell) for cell in line.split(b",")]
            if len(cells) != len(columns):
                problem = "too few columns" if len(cells) < len(columns) else "too many columns"
                raise _BadRow(row + 1, problem, len(columns), len(cells))
            if "emotion" in columns:
                codes[row, 0] = _code(cells[columns["emotion"]], labels, row, "unknown label")
            if "Usage" in columns:
                codes[row, 1] = _code(cells[columns["Usage"]], usages, row, "unknown Usage")
            pixels.append(cells[columns["pixels"]])
    except _BadRow:
        _refuse_bad_pixels(pixels)  # a row before may be worse
        raise
    images = _digits(pixels)
    if images is None:
        _refuse_bad_pixels(pixels)
        raise AssertionError("the quick and the careful parser disagree")
    return images, codes


def _strip(cell: bytes) -> bytes:
    return cell.strip(b' "\r\n\t')


def _shown(cell: bytes) -> str:
    return repr(cell[:40].decode("utf-8", "replace"))


def _code(cell: bytes, codes: dict[bytes, int], row: int, problem: str) -> int:
    if cell not in codes:
        raise _BadRow(row + 1, problem, b", ".join(codes).decode(), _shown(cell))
    return codes[cell]


def _digits(rows: list[bytes]) -> np.ndarray | None:
    """Decimal text to numbers, all rows at once.

    A number ends where a digit is followed by a space; its tens and hundreds are the one and two
    bytes before, if those are digits too. Three spaces in front let every shift stay in bounds.

    Args:
        rows: the pixel cells.

    Returns:
        uint8 (n, 2304), or None if any row breaks a rule.
    """
    text = np.frombuffer(b"   " + b" ".join(rows) + b" ", np.uint8)
    digit = text - np.uint8(ord("0"))
    is_digit = digit < 10
    if np.count_nonzero(is_digit) + np.count_nonzero(text == ord(" ")) != text.size:
        return None
    digit *= is_digit
    ends = is_digit[3:-1] & ~is_digit[4:]
    has_tens = is_digit[2:-2]
    has_hundreds = has_tens & is_digit[1:-3]
    if (has_hundreds & is_digit[:-4] & ends).any():
        return None  # four digits
    hundreds = digit[1:-3] * has_tens
    value = digit[2:-2] * np.uint8(10) + digit[3:-1]
    if (((hundreds > 2) | ((hundreds == 2) & (value > 55))) & ends).any():
        return None  # above 255
    value += hundreds * np.uint8(100)
    edges = np.cumsum([0, *(len(row) + 1 for row in rows)])
    if any(np.count_nonzero(ends[a:b]) != PIXELS for a, b in pairwise(edges)):
        return None
    return value[ends].reshape(len(rows), PIXELS)


def _refuse_bad_pixels(rows: list[bytes]) -> None:
    """The careful parser: name the first pixel cell that breaks a rule."""
    for row, cell in enumerate(rows, start=1):
        numbers = cell.split(b" ")
        numbers = [number for number in numbers if number]
        if len(numbers) != PIXELS:
            raise _BadRow(row, "wrong number of pixels", PIXELS, len(numbers))
        for position, number in enumerate(numbers, start=1):
            if not number.isdigit() or len(number) > 3 or int(number) > 255:
                problem = f"pixel {position} is out of range"
                raise _BadRow(row, problem, "0 to 255", _shown(number))


# ---- cache ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cache:
    """The parsed arrays of one file, and a sidecar that says whose they are.

    The sidecar is written last, so a cache without one is unfinished and is written anew; one that
    is there must agree with every byte of the arrays.
    """

    sidecar: Path
    images: Path
    codes: Path
    sha256: str

    @classmethod
    def of(cls, path: Path, sha256: str) -> _Cache:
        stem = require_cache_folder() / f"{path.stem}-{sha256[:16]}-v{FORMAT}"
        return cls(
            Path(f"{stem}.json"), Path(f"{stem}.images.npy"), Path(f"{stem}.codes.npy"), sha256
        )

    def write(self, source: str, images: np.ndarray, codes: np.ndarray) -> bool:
        """Keep the arrays; False, with a warning, where nothing can be written."""
        entry = {"source": source, "sha256": self.sha256, "format": FORMAT, "arrays": {}}
        try:
            self.sidecar.parent.mkdir(parents=True, exist_ok=True)
            for path, array in ((self.images, images), (self.codes, codes)):
                _replace(path, lambda file, array=array: np.save(file, array, allow_pickle=False))
                entry["arrays"][path.name] = {
                    "sha256": file_hash(path),
                    "shape": list(array.shape),
                }
            text = json.dumps(entry, indent=1).encode()
            _replace(self.sidecar, lambda file: file.write(text))
        except OSError as error:
            warnings.warn(
                f"{source} cannot be cached ({error}), so every load will parse it anew; "
                "set FER_CACHE to a folder that can be written",
                stacklevel=4,
            )
            return False
        return True

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """The arrays as the sidecar describes them."""
        try:
            entry = json.loads(self.sidecar.read_bytes())
            owner, arrays = entry["sha256"], entry["arrays"]
            expected = [
                (arrays[path.name]["sha256"], tuple(arrays[path.name]["shape"]))
                for path in (self.images, self.codes)
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(self.sidecar, "the cache is damaged, delete it") from error
        if owner != self.sha256:
            raise DataError(
                self.sidecar,
                "the cache belongs to another file, delete it",
                expected=f"sha256 {self.sha256}",
                found=owner,
            )
        images, codes = map(self._array, (self.images, self.codes), expected)
        return images, codes

    def _array(self, path: Path, expected: tuple[str, tuple[int, ...]]) -> np.ndarray:
        advice = f"the cache is damaged, delete it and {self.sidecar.name}"
        if not path.is_file():
            raise DataError(path, advice, expected="an array", found="nothing")
        sha256, shape = expected
        if (found := file_hash(path)) != sha256:
            raise DataError(path, advice, expected=f"sha256 {sha256}", found=found)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.shape != shape:
            raise DataError(path, advice, expected=shape, found=array.shape)
        return np.asarray(array)


def _replace(path: Path, write) -> None:
    """Write a file that is either whole or absent, whatever happens meanwhile."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
