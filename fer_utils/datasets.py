"""Load every data set of the companion as one `FaceDataset`, and check what is on disk."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image

from fer_utils.ferplus import vote_targets
from fer_utils.manifests import (
    MANIFESTS,
    DataError,
    DataMissing,
    DatasetManifest,
    Part,
    SourceFile,
    Variant,
    dataset_names,
    file_hash,
    load_manifest,
    require_file,
)
from fer_utils.pixel_csv import SIDE, PixelTable, Rules, read_pixel_csv, require_cache_folder

CROPS = ("face", "centre", "whole")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")  # Pillow's; at most 8 bits a value


@dataclass(frozen=True)
class FaceDataset:
    """Images of faces with their expression labels, in the row order of the source.

    Args:
        name: name of the manifest the data came from.
        images: uint8 (N, 48, 48, 1), 0-255 grey; may be read-only.
        labels: int64 (N,), an index into `class_names`; -1 where the source has no label.
        class_names: the expressions in the manifest's order.
        split: str (N,) of "train", "val", "test"; None where the source defines no parts.
        subjects: str (N,), who is shown; None where the source does not say.
        sequences: str (N,), which video or burst a frame is from; None where there is none.
        votes: uint8 (N, V), how many taggers chose each of the V vote columns; None without votes.
        targets: float32 (N, K), what training aims at; None where that is the label.
        hashes: sha256 of every source file by its name, what a record keeps of the data; for a
            folder of images one sha256 over all their paths and contents, by the set's name.
        loaded: sha256 of images and labels before any preprocessing; None where it was not taken.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    split: np.ndarray | None = None
    subjects: np.ndarray | None = None
    sequences: np.ndarray | None = None
    votes: np.ndarray | None = None
    targets: np.ndarray | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    loaded: str | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: np.ndarray) -> FaceDataset:
        """The rows at `rows`: int (M,) positions or bool (N,) mask."""
        columns = ("images", "labels", "split", "subjects", "sequences", "votes", "targets")
        cut = {key: value[rows] for key in columns if (value := getattr(self, key)) is not None}
        return replace(self, **cut)

    def counts(self) -> dict[str, dict[str, int]]:
        """Images by part ("all" without parts) and expression; "unlabelled" where there are any."""
        parts = np.full(len(self), "all") if self.split is None else self.split
        return {str(part): _class_counts(self, parts == part) for part in dict.fromkeys(parts)}


def load(name: str, root: str | Path | None = None, **options: Any) -> FaceDataset:
    """Load a data set by the name of its manifest.

    Every set but "synthetic" takes `complete` (default True): refuse a set whose counts are not
    the manifest's. False admits a part of a set. Further options:

    - "ferplus": `mode` and `keep`, see `fer_utils.ferplus.vote_targets`;
    - "ckplus": `frames` (default 1: the peak), how many frames at the end of each sequence;
      `neutral` (default False), whether its first frame joins as an eighth class; `crop` (default
      "face");
    - "jaffe": `crop` (default "whole");
    - "synthetic": those of `fer_utils.synthetic.generate`, such as `count` and `seed`.

    A `crop` is "face" (the largest that OpenCV's Haar cascade finds, else the centre), "centre"
    (the middle square) or "whole"; it is then resized to 48x48.

    Args:
        name: one of `dataset_names()`.
        root: the data root; None reads the environment variable FER_DATA, else `data`.
        options: see above.

    Returns:
        The set in the row order of its source.

    Raises:
        DataMissing: the set is not below `root`; says how to obtain it.
        DataError: it is damaged or not what the manifest says.
        ValueError: an unknown name or option value.
        TypeError: an option that this set does not take, such as `complete` for "synthetic".
    """
    root = data_root(root)
    try:
        match name:
            case "fer2013":
                return _fer2013(root, **options)
            case "ferplus":
                return _ferplus(root, **options)
            case "ck48":
                return _ck48(root, **options)
            case "ckplus":
                return _ckplus(root, **options)
            case "jaffe":
                return _jaffe(root, **options)
            case "synthetic":
                return _synthetic(**options)
    except PermissionError as error:
        raise DataError(error.filename, "reading it is not permitted") from error
    raise ValueError(f"{name!r} is not one of {', '.join(dataset_names())}")


def is_there(name: str, root: str | Path | None = None) -> bool:
    """Whether anything of a data set is there, whole or damaged; FER+ needs its images, too.

    Args:
        name: one of `dataset_names()`.
        root: the data root, see `load`.
    """
    if name == "synthetic":
        return True
    try:
        _find(load_manifest(name), data_root(root))
    except DataMissing:
        return False
    except DataError:  # which whoever loads it tells
        return True
    return name != "ferplus" or is_there("fer2013", root)


def array_hash(*arrays: np.ndarray) -> str:
    """sha256 over dtype, shape and bytes of each array."""
    digest = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def data_root(root: str | Path | None = None) -> Path:
    """The folder that holds the data sets: `root`, else $FER_DATA, else `data`.

    Raises:
        DataError: it would lie in a home folder that there is not.
    """
    named = Path(root or os.environ.get("FER_DATA") or "data")
    try:
        return named.expanduser()
    except RuntimeError:
        raise DataError(named, "no such home folder, so there is no folder of data") from None


# ---- FER2013 ----------------------------------------------------------------------------------


def _fer2013(root: Path, *, complete: bool = True) -> FaceDataset:
    manifest = load_manifest("fer2013")
    variant, folder = _find(manifest, root)
    rules = Rules(len(manifest.classes), tuple(part.source for part in manifest.splits.values()))
    tables = {}
    for file in variant.files:
        tables[file.path] = table = read_pixel_csv(folder / file.path, rules)
        if complete:
            _check_rows(folder / file.path, file, len(table.labels))
    parts = [_parts(folder / path, table, manifest, variant) for path, table in tables.items()]
    images = [table.images for table in tables.values()]
    dataset = FaceDataset(
        name="fer2013",
        # One table stays the mapped file that it is; two need a copy.
        images=images[0] if len(images) == 1 else np.concatenate(images),
        labels=np.concatenate([table.labels for table in tables.values()]),
        class_names=manifest.class_names,
        split=np.concatenate(parts),
        hashes={path: table.sha256 for path, table in tables.items()},
    )
    if complete:
        _check_counts(folder / variant.files[0].path, dataset, variant.splits or manifest.splits)
    return dataset


def _parts(
    path: Path, table: PixelTable, manifest: DatasetManifest, variant: Variant
) -> np.ndarray:
    """Part of every row: from the column Usage, or from which file it stands in."""
    if variant.splits is None:
        _refuse_missing_column(path, "emotion", table.labels)
        _refuse_missing_column(path, "Usage", table.usage)
        return np.array(list(manifest.splits))[table.usage]
    key, part = next(found for found in variant.splits.items() if found[1].source == path.name)
    if part.classes:
        _refuse_missing_column(path, "emotion", table.labels)
    return np.full(len(table.labels), key)


def _refuse_missing_column(path: Path, name: str, column: np.ndarray) -> None:
    if (column < 0).any():
        raise DataError(path, f"the column {name} is missing in line 1, the header")


# ---- FER+ -------------------------------------------------------------------------------------

# FER+ and FER2013 agree on 63 % of the labels where rows match and on 18 % where they do not.
LEAST_AGREEMENT = 0.4
ROWS_TO_TELL = 1000


def _ferplus(
    root: Path, *, mode: str = "majority", keep: str | None = None, complete: bool = True
) -> FaceDataset:
    manifest = load_manifest("ferplus")
    variant, folder = _find(manifest, root)
    path = folder / variant.files[0].path
    usage, votes = _read_votes(path, variant.columns)
    faces = _fer2013(root, complete=complete)
    _check_join(path, usage, votes, faces, manifest)
    told = vote_targets(votes, mode, keep)
    dataset = FaceDataset(
        name="ferplus",
        images=faces.images,
        labels=told.labels,
        class_names=manifest.class_names,
        split=faces.split,
        votes=votes,
        targets=told.targets,
        hashes={**faces.hashes, path.name: file_hash(path)},
    ).subset(np.flatnonzero(told.kept))
    if complete and keep in (None, "majority") and mode == "majority":
        _check_counts(path, dataset, manifest.splits)
    return dataset


def ferplus_votes(root: str | Path | None = None) -> np.ndarray:
    """What ten taggers said of every image of FER2013, in its row order.

    Args:
        root: the data root, see `load`.

    Returns:
        uint8 (35887, 10): votes for FER+'s eight expressions in its manifest's order, for
        "unknown" and for "not a face".

    Raises:
        DataError: the votes or the images are absent, or do not belong together.
    """
    manifest = load_manifest("ferplus")
    variant, folder = _find(manifest, data_root(root))
    path = folder / variant.files[0].path
    usage, votes = _read_votes(path, variant.columns)
    _check_join(path, usage, votes, _fer2013(data_root(root)), manifest)
    return votes


def _read_votes(path: Path, columns: tuple[str, ...]) -> tuple[list[str], np.ndarray]:
    """The column Usage, and the votes uint8 (N, 10)."""
    require_file(path)
    usage, votes = [], []
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = _csv_rows(path, file)
        header = [cell.strip() for cell in next(rows, [])]
        if header != list(columns):
            found = repr(",".join(header)[:120])
            problem = "line 1 is not the header of the FER+ votes"
            raise DataError(path, problem, expected=repr(",".join(columns)), found=found)
        for row, cells in enumerate(rows, start=1):
            if len(cells) != len(columns):
                found = len(cells)
                raise DataError(
                    path, "wrong number of columns", row=row, expected=len(columns), found=found
                )
            usage.append(cells[0].strip())
            votes.append(_votes_of(path, row, cells[2:]))
    return usage, np.array(votes, np.uint8).reshape(-1, len(columns) - 2)


def _csv_rows(path: Path, file: Iterable[str]) -> Iterator[list[str]]:
    """The cells of every row of a CSV file, those of its header first."""
    read = 0
    try:
        for cells in csv.reader(file):
            yield cells
            read += 1
    except csv.Error as error:
        what = "not CSV" if read else "line 1 is not CSV"
        raise DataError(path, f"{what}: {error}", row=read or None) from None


def _votes_of(path: Path, row: int, cells: list[str]) -> list[int]:
    # Python reads no number of 4,301 digits.
    counts = [int(c) if c.isascii() and c.isdigit() and len(c) < 3 else -1 for c in cells]
    if min(counts) < 0 or sum(counts) > 10:
        raise DataError(
            path, "impossible votes", row=row, expected="10 at most", found=",".join(cells)[:60]
        )
    return counts


def _check_join(
    path: Path, usage: list[str], votes: np.ndarray, faces: FaceDataset, manifest: DatasetManifest
) -> None:
    """Votes and images are joined by row order, so every row must be of the same part."""
    images = ", ".join(faces.hashes)
    if len(votes) != len(faces):
        raise DataError(
            path,
            f"the votes do not match {images}",
            expected=f"{len(faces)} rows",
            found=len(votes),
        )
    if len(faces.hashes) > 1:
        raise DataError(path, f"the votes need FER2013 with its Usage column, not {images}")
    sources = {part.source: key for key, part in manifest.splits.items()}
    voted = np.array([sources.get(source, "") for source in usage])
    if (wrong := np.flatnonzero(voted != faces.split)).size:
        row = int(wrong[0])
        raise DataError(
            path,
            f"the votes do not match {images}",
            row=row + 1,
            expected=manifest.splits[faces.split[row]].source,
            found=repr(usage[row]),
        )
    plurality = np.array(manifest.class_names)[votes[:, : len(manifest.classes)].argmax(1)]
    agreement = (np.array(faces.class_names)[faces.labels] == plurality).mean()
    if len(votes) >= ROWS_TO_TELL and agreement < LEAST_AGREEMENT:
        raise DataError(
            path,
            f"the votes do not match {images}, whose rows are in another order",
            expected="about 63 % of the labels to agree",
            found=f"{agreement:.0%}",
        )


# ---- folders of images ------------------------------------------------------------------------


@dataclass
class _Pictures:
    """Rows of a data set that is collected picture by picture, and the hash of all files read."""

    images: list[np.ndarray] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    sequences: list[str] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)

    def read(self, folder: Path, path: Path) -> bytes:
        require_file(path)
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        self.hashes.append(f"{path.relative_to(folder).as_posix()} {digest}\n")
        return content

    def add(self, image: np.ndarray, label: int, subject: str, sequence: str | None) -> None:
        self.images.append(image)
        self.labels.append(label)
        self.subjects.append(subject)
        if sequence is not None:
            self.sequences.append(sequence)

    def dataset(self, name: str, class_names: tuple[str, ...]) -> FaceDataset:
        digest = hashlib.sha256("".join(sorted(self.hashes)).encode()).hexdigest()
        return FaceDataset(
            name=name,
            images=np.stack(self.images)[..., None],
            labels=np.array(self.labels, np.int64),
            class_names=class_names,
            subjects=np.array(self.subjects),
            sequences=np.array(self.sequences) if self.sequences else None,
            hashes={name: digest},
        )


def _ck48(root: Path, *, complete: bool = True) -> FaceDataset:
    manifest = load_manifest("ck48")
    variant, folder = _find(manifest, root)
    codes = {entry.code: label for label, entry in enumerate(manifest.classes)}
    for path in _visible(folder):
        if path.name not in codes:
            expected = ", ".join(map(str, codes))
            raise DataError(path, "unknown label", expected=expected, found=repr(path.name))
    pictures = _Pictures()
    for code, label in codes.items():
        for path in _visible(folder / code):
            _check_name(path, folder, variant)
            grey = _decode(path, pictures.read(folder, path), "PNG", SIDE)
            pictures.add(grey, label, path.name[:4], path.name[:8])
    dataset = pictures.dataset("ck48", manifest.class_names)
    if complete:
        _check_counts(folder, dataset, manifest.splits)
        _check_groups(folder, dataset, manifest)
    return dataset


def _jaffe(root: Path, *, crop: str = "whole", complete: bool = True) -> FaceDataset:
    manifest = load_manifest("jaffe")
    variant, folder = _find(manifest, root)
    codes = {entry.code: label for label, entry in enumerate(manifest.classes)}
    pictures = _Pictures()
    boxes = []
    for path in _visible(folder):
        if path.suffix.lower() not in (".tif", ".tiff"):
            continue  # the archive also holds a readme
        _check_name(path, folder, variant)
        grey = _decode(path, pictures.read(folder, path), "TIFF", manifest.image.height)
        boxes.append(_box([grey], crop))
        code = path.name[3:5]
        if code not in codes:
            expected = ", ".join(map(str, codes))
            raise DataError(path, "unknown label", expected=expected, found=repr(code))
        pictures.add(_to_square(grey, boxes[-1]), codes[code], path.name[:2], None)
    _warn_no_face(boxes, crop, "pictures")
    dataset = pictures.dataset("jaffe", manifest.class_names)
    if complete:
        _check_counts(folder, dataset, manifest.splits)
        _check_groups(folder, dataset, manifest)
    return dataset


def _ckplus(
    root: Path,
    *,
    frames: int = 1,
    neutral: bool = False,
    crop: str = "face",
    complete: bool = True,
) -> FaceDataset:
    if frames < 1:
        raise ValueError(f"frames is {frames}, it must be 1 or more")
    manifest = load_manifest("ckplus")
    variant, folder = _find(manifest, root)
    codes = {entry.code: label for label, entry in enumerate(manifest.classes)}
    if 0 not in codes:
        raise DataError(_file(manifest), "classes: none has the code 0, which is neutral")
    pictures = _Pictures()
    labels, boxes = [], []
    for path in _emotion_files(folder):
        label = _emotion(path, pictures.read(folder, path), codes)
        labels.append(label)
        paths = _sequence_paths(folder, path, variant, frames, neutral)
        greys = [_decode(frame, pictures.read(folder, frame), "PNG") for frame in paths]
        boxes.append(_box(greys, crop))
        for frame, grey in zip(paths, greys, strict=True):
            first = neutral and frame == paths[0]
            row_label = codes[0] if first else label
            subject, sequence = frame.name[:4], frame.name[:8]
            pictures.add(_to_square(grey, boxes[-1]), row_label, subject, sequence)
    _warn_no_face(boxes, crop, "sequences")
    seven = tuple(name for name in manifest.class_names if name != "neutral")
    names = manifest.class_names if neutral or codes[0] in labels else seven
    dataset = pictures.dataset("ckplus", names)
    if complete:
        _check_sequences(folder, labels, manifest)
        _check_groups(folder, dataset, manifest)
    return dataset


def _emotion_files(folder: Path) -> list[Path]:
    """The label files of the labelled sequences; most sequence folders hold none."""
    for name in ("Emotion", "Emotion_labels/Emotion", "Emotion_labels"):
        if paths := sorted((folder / name).glob("S*/*/[!.]*_emotion.txt")):
            return paths
    raise DataMissing(folder / "Emotion", f"no label files. {load_manifest('ckplus').obtain}")


def _emotion(path: Path, content: bytes, codes: dict[Any, int]) -> int:
    """The class in a label file, which says such as "   3.0000000e+00"."""
    text = content.decode("ascii", "replace").strip()
    try:
        code = float(text)
    except ValueError:
        code = None
    if code not in codes:
        raise DataError(
            path, "unknown label", expected=", ".join(map(str, codes)), found=repr(text[:40])
        )
    return codes[int(code)]


def _sequence_paths(
    folder: Path, label_file: Path, variant: Variant, frames: int, neutral: bool
) -> list[Path]:
    """The `frames` frames up to the labelled one, after the first frame if `neutral`."""
    images = folder / "cohn-kanade-images" / label_file.parent.parent.name / label_file.parent.name
    paths = [path for path in _visible(images) if path.suffix == ".png"] if images.is_dir() else []
    for path in paths:
        _check_name(path, folder, variant)
    peak = images / label_file.name.replace("_emotion.txt", ".png")
    if peak not in paths:
        raise DataError(peak, f"no such file, but {label_file.name} labels it")
    until = paths.index(peak) + 1
    if until < frames + neutral:
        problem = "too few frames up to the peak"
        raise DataError(images, problem, expected=frames + neutral, found=until)
    return paths[:1] * neutral + paths[until - frames : until]


# ---- pictures ---------------------------------------------------------------------------------


def _visible(folder: Path) -> list[Path]:
    """What a folder holds, in order, without the files that file managers leave."""
    litter = {"thumbs.db", "desktop.ini", "__macosx"}
    if not folder.is_dir():
        raise DataError(folder, "a folder belongs here")
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".") and path.name.lower() not in litter
    )


def _check_name(path: Path, folder: Path, variant: Variant) -> None:
    relative = path.relative_to(folder).as_posix()
    if not re.fullmatch(variant.pattern, relative):
        raise DataError(path, "unexpected file name", expected=variant.pattern, found=relative)


def _decode(path: Path, content: bytes, kind: str, side: int | None = None) -> np.ndarray:
    """Grey pixels uint8 (H, W) of a PNG or TIFF; refused unless square of `side`, if given."""
    try:
        with Image.open(io.BytesIO(content), formats=(kind,)) as image:
            mode, grey = image.mode, np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(path, f"this is no readable {kind} image") from error
    if mode not in MODES:  # grey of 16 bits or more would be cut off, not scaled
        problem = "pixels of a kind that is not read"
        raise DataError(path, problem, expected=", ".join(MODES), found=mode)
    if side is not None and grey.shape != (side, side):
        found = f"{grey.shape[1]}x{grey.shape[0]}"
        raise DataError(path, "wrong image size", expected=f"{side}x{side}", found=found)
    return grey


def _box(greys: list[np.ndarray], crop: str) -> tuple[int, int, int, int] | None:
    """Rectangle (left, top, width, height) of one person's frames; None: no face was found."""
    height, width = greys[0].shape
    if crop == "whole":
        return 0, 0, width, height
    if crop == "centre":
        return _centre(width, height)
    if crop != "face":
        raise ValueError(f"crop {crop!r} is not one of {', '.join(CROPS)}")
    for grey in reversed(greys):  # the peak first
        found = _detector().detectMultiScale(grey, 1.1, 5, minSize=(SIDE, SIDE))
        if len(found):
            return tuple(max(found.tolist(), key=lambda box: box[2]))
    return None


@cache
def _detector() -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(
        os.path.join(cv2.data.haarcascades, "haarcascade_frontalface_default.xml")
    )


def _centre(width: int, height: int) -> tuple[int, int, int, int]:
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side


def _to_square(grey: np.ndarray, box: tuple[int, int, int, int] | None) -> np.ndarray:
    """The box, or the centre where there is none, as uint8 (48, 48)."""
    left, top, width, height = box or _centre(grey.shape[1], grey.shape[0])
    cut = grey[top : top + height, left : left + width]
    return cv2.resize(cut, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _warn_no_face(boxes: list, crop: str, what: str) -> None:
    if missing := boxes.count(None):
        warnings.warn(
            f"no face found in {missing} of {len(boxes)} {what}: their centre is taken; "
            f'crop="centre" takes it everywhere',
            stacklevel=4,
        )


# ---- synthetic --------------------------------------------------------------------------------


def _synthetic(**options: Any) -> FaceDataset:
    from fer_utils.synthetic import generate

    faces = generate(**options)
    digest = hashlib.sha256(faces.images)
    digest.update(faces.labels.astype("<i8"))
    return FaceDataset(
        name="synthetic",
        images=faces.images,
        labels=faces.labels,
        class_names=tuple(faces.class_names),
        split=faces.split,
        subjects=faces.subjects,
        sequences=faces.sequences,
        hashes={"synthetic": digest.hexdigest()},
    )


# ---- against the manifest ---------------------------------------------------------------------


def _file(manifest: DatasetManifest) -> Path:
    return MANIFESTS / "datasets" / f"{manifest.name}.yaml"


def _find(manifest: DatasetManifest, root: Path) -> tuple[Variant, Path]:
    """The first variant that is there, and the folder it lies in.

    Raises:
        DataMissing: there is none.
        DataError: a file stands in the place of its folder, or the folder may not be read.
    """
    try:
        return _found(manifest, root)
    except PermissionError as error:
        raise DataError(error.filename, "reading it is not permitted") from error


def _found(manifest: DatasetManifest, root: Path) -> tuple[Variant, Path]:
    # Who has the data elsewhere is told of that first.
    _require_folder(root, f"; FER_DATA or data_root names another. To get them: {manifest.obtain}")
    folders = [root / directory for directory in manifest.directories]
    for folder in folders:
        if folder.exists() and not folder.is_dir():
            raise DataError(folder, "a folder belongs here, this is a file")
    for variant in manifest.variants:
        for folder in folders:
            if _holds(folder, variant):
                return variant, folder
    looked = ", ".join(f"{directory}/" for directory in manifest.directories)
    raise DataMissing(root, f"{manifest.title} is not here (looked in {looked}). {manifest.obtain}")


def _require_folder(root: Path, advice: str = "") -> None:
    if not root.exists():
        raise DataMissing(root, f"no such folder of data{advice}")
    if not root.is_dir():
        raise DataError(root, "a folder of data belongs here, this is a file")


def _holds(folder: Path, variant: Variant) -> bool:
    """A variant is there if any of it is: what lacks then is damage, not absence."""
    if variant.glob:
        return folder.is_dir() and next(folder.glob(variant.glob), None) is not None
    paths = [folder / file.path for file in variant.files]
    return any(path.exists() or path.is_symlink() for path in paths)  # a link to nothing is damage


def _check_rows(path: Path, file: SourceFile, rows: int) -> None:
    if file.rows is not None and rows != file.rows:
        problem = "the file is cut short" if rows < file.rows else "there are rows too many"
        raise DataError(path, problem, expected=f"{file.rows} rows", found=rows)


def _class_counts(dataset: FaceDataset, rows: np.ndarray) -> dict[str, int]:
    labels = dataset.labels[rows]
    counts = np.bincount(labels[labels >= 0], minlength=len(dataset.class_names)).tolist()
    unlabelled = {"unlabelled": int((labels < 0).sum())} if (labels < 0).any() else {}
    return dict(zip(dataset.class_names, counts, strict=True)) | unlabelled


def _check_counts(path: Path, dataset: FaceDataset, splits: dict[str, Part]) -> None:
    """Refuse a set whose parts or classes are not as large as the manifest says."""
    counts = dataset.counts()
    for key, part in splits.items():
        found = counts.get(key, {})
        where = "" if key == "all" else f" of {part.source or key}"
        for name, number in part.classes.items():
            if found.get(name, 0) != number:
                problem = f"wrong number of {name} images{where}"
                raise DataError(path, problem, expected=number, found=found.get(name, 0))
        if part.count is not None and sum(found.values()) != part.count:
            problem = f"wrong number of images{where}"
            raise DataError(path, problem, expected=part.count, found=sum(found.values()))


def _check_sequences(path: Path, labels: Iterable[int], manifest: DatasetManifest) -> None:
    """CK+ is counted by labelled sequence, however many frames of it are taken."""
    found = [manifest.class_names[label] for label in labels]
    for name, number in manifest.splits["all"].classes.items():
        if found.count(name) != number:
            problem = f"wrong number of {name} sequences"
            raise DataError(path, problem, expected=number, found=found.count(name))


def _check_groups(path: Path, dataset: FaceDataset, manifest: DatasetManifest) -> None:
    columns = {"subject": dataset.subjects, "sequence": dataset.sequences}
    for name, group in manifest.groups.items():
        if columns[name] is None:
            raise DataError(_file(manifest), f"groups: no {name} is read of {manifest.title}")
        number = len(set(columns[name]))
        if group.count not in (None, number):
            raise DataError(path, f"wrong number of {name}s", expected=group.count, found=number)


# ---- what is on disk --------------------------------------------------------------------------

State = Literal["absent", "verified", "structure right, hash unknown", "corrupt"]


@dataclass(frozen=True)
class FileStatus:
    """A file of a data set beside what the manifest knows of it.

    Args:
        path: the file, or the folder of a set without tables.
        sha256: hexadecimal; of a folder, over all paths and contents.
        known: whether it equals the manifest's hash; None where the manifest has none.
        expected: the manifest's hash, such as "md5 f8428a1e...".
        found: the file's own, of the same kind.
    """

    path: str
    sha256: str
    known: bool | None
    expected: str | None = None
    found: str | None = None


@dataclass(frozen=True)
class DatasetStatus:
    """What is known of one data set below a data root.

    Args:
        name: the manifest's name.
        title: for people.
        state: "absent", "verified", "structure right, hash unknown" or "corrupt".
        obtain: how to get it.
        variant: which of the forms in circulation is there.
        folder: where it lies.
        files: what was read.
        counts: images by part and expression.
        as_recorded: whether images and labels are those of the recorded runs; None where the
            manifest does not know theirs.
        problem: one sentence on what is wrong, if anything.
        path: the file at fault.
        row: its 1-based data row at fault.
        expected: what should stand there.
        found: what stands there.
    """

    name: str
    title: str
    state: State
    obtain: str
    variant: str | None = None
    folder: str | None = None
    files: tuple[FileStatus, ...] = ()
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    as_recorded: bool | None = None
    problem: str | None = None
    path: str | None = None
    row: int | None = None
    expected: str | None = None
    found: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def check(root: str | Path | None = None) -> list[DatasetStatus]:
    """Check every data set below a data root: read only, nothing is fetched or moved.

    Args:
        root: the data root; None reads the environment variable FER_DATA, else `data`.

    Returns:
        One status for each manifest, in alphabetical order of their names.

    Raises:
        DataError: the data root was named and is no folder, or FER_CACHE is below no home folder.
    """
    require_cache_folder()  # here: no data set is at fault
    folder = data_root(root)
    if root or os.environ.get("FER_DATA"):
        _require_folder(folder)
    return [_status(load_manifest(name), folder) for name in dataset_names()]


def _status(manifest: DatasetManifest, root: Path) -> DatasetStatus:
    status = DatasetStatus(manifest.name, manifest.title, "absent", manifest.obtain)
    if manifest.name == "synthetic":  # drawn by the program, so there is no file to doubt
        return replace(status, state="verified", variant=manifest.variants[0].name)
    try:
        variant, folder = _find(manifest, root)
        status = replace(status, variant=variant.name, folder=str(folder))
        # Finding faces takes a minute and tells nothing of the files.
        options = {"crop": "centre"} if manifest.name == "ckplus" else {}
        dataset = load(manifest.name, root, **options)
    except DataMissing as error:
        return replace(status, problem=str(error))
    except DataError as error:
        return replace(
            status,
            state="corrupt",
            problem=str(error),
            path=str(error.path),
            row=error.row,
            expected=None if error.expected is None else str(error.expected),
            found=None if error.found is None else str(error.found),
        )
    files = _file_statuses(manifest, variant, folder, dataset, root)
    known = all(file.known for file in files)
    arrays = manifest.arrays
    return replace(
        status,
        state="verified" if known else "structure right, hash unknown",
        files=files,
        counts=dataset.counts(),
        as_recorded=array_hash(dataset.images, dataset.labels) in arrays if arrays else None,
    )


def _file_statuses(
    manifest: DatasetManifest, variant: Variant, folder: Path, dataset: FaceDataset, root: Path
) -> tuple[FileStatus, ...]:
    if not variant.files:
        return (FileStatus(str(folder), dataset.hashes[manifest.name], None),)
    own = tuple(_file_status(folder / file.path, file, dataset) for file in variant.files)
    if manifest.name != "ferplus":
        return own
    images = load_manifest("fer2013")
    return own + _file_statuses(images, *_find(images, root), dataset, root)


def _file_status(path: Path, file: SourceFile, dataset: FaceDataset) -> FileStatus:
    sha256 = dataset.hashes[file.path]
    if file.sha256:
        expected, found = f"sha256 {file.sha256}", f"sha256 {sha256}"
    elif file.md5:
        expected, found = f"md5 {file.md5}", f"md5 {file_hash(path, 'md5')}"
    else:
        return FileStatus(str(path), sha256, None)
    return FileStatus(str(path), sha256, expected == found, expected, found)
