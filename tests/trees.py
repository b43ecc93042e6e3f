"""Small data sets on disk, in the layouts in which people have them, for tests without the data.

Every function writes below a data root and returns it. The pictures are noise with a bright square
whose place tells the expression, so that a small network can learn them; nobody is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from pathlib import Path

import numpy as np
from PIL import Image

from fer_utils.manifests import Expression, load_manifest

SIDE = 48
USAGES = ("Training",) * 8 + ("PublicTest", "PrivateTest")


def picture(expression: Expression | str, rng: np.random.Generator) -> np.ndarray:
    """One picture, uint8 (48, 48)."""
    order = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt")
    top, left = divmod(order.index(expression), 3)
    image = rng.integers(0, 120, (SIDE, SIDE))
    image[16 * top : 16 * top + 16, 16 * left : 16 * left + 16] += 120
    return image.astype(np.uint8)


def fer2013_table(rows: int = 40, seed: int = 0) -> list[tuple[int, str, str]]:
    """(label, pixels, Usage) of `rows` rows, ordered by Usage as in the original."""
    rng = np.random.default_rng(seed)
    names = load_manifest("fer2013").class_names
    usages = sorted(
        (USAGES[row % 10] for row in range(rows)), key=list(dict.fromkeys(USAGES)).index
    )
    table = []
    for row, usage in enumerate(usages):
        label = row % len(names)
        pixels = " ".join(map(str, picture(names[label], rng).ravel()))
        table.append((label, pixels, usage))
    return table


def fer2013(
    root: Path, rows: int = 40, *, variant: str = "fer2013.csv", folder: str = "fer2013"
) -> Path:
    """FER2013 as "fer2013.csv", "icml_face_data.csv" or "train.csv" with "test.csv".

    A part of the set: load it with `complete=False`.
    """
    table = fer2013_table(rows)
    target = root / folder
    target.mkdir(parents=True, exist_ok=True)
    if variant == "fer2013.csv":
        write_csv(target / variant, "emotion,pixels,Usage", table)
    elif variant == "icml_face_data.csv":
        swapped = [(label, usage, pixels) for label, pixels, usage in table]
        write_csv(target / variant, "emotion, Usage, pixels", swapped)
    elif variant == "train.csv":
        train = [(label, f'"{pixels}"') for label, pixels, usage in table if usage == "Training"]
        test = [(f'"{pixels}"',) for _, pixels, usage in table if usage != "Training"]
        write_csv(target / "train.csv", "emotion,pixels", train)
        write_csv(target / "test.csv", "pixels", test)
    else:
        raise ValueError(variant)
    return root


def ferplus(root: Path, rows: int = 40) -> Path:
    """FER2013 and the votes beside it: six taggers agree with its label, four say neutral.

    The last row is "not a face" and has no image name. Load it with `complete=False`.
    """
    fer2013(root, rows)
    names = load_manifest("ferplus").class_names
    expressions = load_manifest("fer2013").class_names
    lines = []
    for row, (label, _, usage) in enumerate(fer2013_table(rows)):
        votes = np.zeros(10, int)
        votes[names.index(expressions[label])] += 6
        votes[names.index("neutral")] += 4
        lines.append((usage, f"fer{row:07}.png", *votes))
    lines[-1] = (lines[-1][0], "", *[0] * 9, 10)
    header = ",".join(load_manifest("ferplus").variants[0].columns)
    write_csv(root / "fer2013" / "fer2013new.csv", header, lines)
    return root


def ck48(root: Path, sequences: int | None = None) -> Path:
    """CK+48: three frames a sequence; the whole set (981 pictures) unless `sequences` is given."""
    manifest = load_manifest("ck48")
    codes = {entry.name: entry.code for entry in manifest.classes}
    rng = np.random.default_rng(0)
    whole = {name: count // 3 for name, count in manifest.splits["all"].classes.items()}
    for name, subject, number in _sequences(whole, sequences):
        for frame in (10, 11, 12):
            path = root / "CK+48" / codes[name] / f"{subject}_{number}_{frame:08}.png"
            save(path, picture(name, rng))
    return root


def ckplus(root: Path, sequences: int | None = None, *, frames: int = 4) -> Path:
    """CK+ in its official folders; all 327 labelled sequences unless `sequences` is given.

    A sequence goes from neutral to the peak; one more has no label, as 266 have in the original.
    """
    manifest = load_manifest("ckplus")
    codes = {entry.name: entry.code for entry in manifest.classes}
    rng = np.random.default_rng(0)
    images = root / "ckplus" / "cohn-kanade-images"
    labels = root / "ckplus" / "Emotion"
    for name, subject, number in _sequences(manifest.splits["all"].classes, sequences):
        for frame in range(1, frames + 1):
            expression = "neutral" if frame == 1 else name
            wide = np.pad(picture(expression, rng), ((0, 0), (8, 8)))
            save(images / subject / number / f"{subject}_{number}_{frame:08}.png", wide)
        path = labels / subject / number / f"{subject}_{number}_{frames:08}_emotion.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"   {codes[name]:.7e}\n")
    save(images / "S999" / "001" / "S999_001_00000001.png", picture("neutral", rng))
    (labels / "S999" / "001").mkdir(parents=True)
    (images / ".DS_Store").write_bytes(b"left by a file manager")
    return root


def jaffe(root: Path, subjects: Sequence[str] | None = None) -> Path:
    """JAFFE: the whole set (213 pictures, ten women) unless `subjects` are given."""
    manifest = load_manifest("jaffe")
    codes = {entry.name: entry.code for entry in manifest.classes}
    everyone = ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM")
    rng = np.random.default_rng(0)
    serial = 0
    for name, count in manifest.splits["all"].classes.items():
        for index in range(count):
            serial += 1
            subject, take = everyone[index % 10], index // 10 + 1
            if subjects is None or subject in subjects:
                path = root / "jaffe" / f"{subject}.{codes[name]}{take}.{serial}.tiff"
                big = Image.fromarray(picture(name, rng)).resize((256, 256))
                save(path, np.asarray(big))
    (root / "jaffe" / "README_FIRST.txt").write_text("semantic ratings\n")
    return root


def write_csv(path: Path, header: str, rows: Iterable[Sequence[object]]) -> None:
    """Write a table as the originals are written: no quoting, LF line ends."""
    lines = (",".join(map(str, row)) for row in rows)
    path.write_text("\n".join(chain([header], lines)) + "\n", newline="\n")


def save(path: Path, image: np.ndarray) -> None:
    """Write a picture in the format of its name, making its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def _sequences(counts: dict[str, int], wanted: int | None) -> list[tuple[str, str, str]]:
    """(expression, subject, sequence number): all, over 118 people, or the first `wanted`."""
    names = list(chain.from_iterable(repeat(name, count) for name, count in counts.items()))
    if wanted is not None:
        names = [list(counts)[index % len(counts)] for index in range(wanted)]
    people = 118 if wanted is None else max(2, wanted // 2)
    return [
        (name, f"S{index % people + 1:03}", f"{index // people + 1:03}")
        for index, name in enumerate(names)
    ]
