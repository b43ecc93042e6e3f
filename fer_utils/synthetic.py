"""Draw labelled cartoon faces from facial action units: the data set that needs no data.

Every face is computed, none is stored. An expression is a set of facial action units (AUs) with
intensities; each AU moves parameters of a drawn geometry (brows, lids, nose, lips, jaw), and a
person, a pose and a light are drawn at random around it. The faces are for trying the code, for
teaching and for continuous integration: no result about people follows from them.

Only additions, multiplications, divisions, square roots and comparisons in float32 touch a pixel.
IEEE 754 fixes the result of each of them, so the bytes do not depend on the processor or on the
number of threads; they do depend on NumPy's random streams, which a NumPy release may change.

Source: Ekman & Friesen (1978), Facial Action Coding System; Friesen & Ekman (1983), EMFACS-7:
    Emotional Facial Action Coding System; the 2002 edition of the manual, with J. C. Hager, for
    the names of the units and the letters A to E of the intensities.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

EXPRESSIONS = (
    "anger",
    "disgust",
    "fear",
    "happiness",
    "sadness",
    "surprise",
    "neutral",
    "contempt",
)

ACTION_UNITS = {
    "1": "inner brow raiser",
    "2": "outer brow raiser",
    "4": "brow lowerer",
    "5": "upper lid raiser",
    "6": "cheek raiser",
    "7": "lid tightener",
    "9": "nose wrinkler",
    "10": "upper lip raiser",
    "12": "lip corner puller",
    "14": "dimpler",
    "15": "lip corner depressor",
    "16": "lower lip depressor",
    "17": "chin raiser",
    "20": "lip stretcher",
    "23": "lip tightener",
    "24": "lip pressor",
    "25": "lips part",
    "26": "jaw drop",
    "27": "mouth stretch",
}

# The five grades of the manual as shares of the largest movement that is drawn.
INTENSITIES = {"A": 0.2, "B": 0.4, "C": 0.6, "D": 0.8, "E": 1.0}

# EMFACS: an R or L before the number is one side of the face, the right or left of the person.
# The units are those of the table; their apex intensities are this project's choice.
PROTOTYPES: dict[str, dict[str, str]] = {
    "anger": {"4": "E", "5": "C", "7": "D", "23": "D"},
    "disgust": {"9": "E", "15": "C", "17": "C"},
    "fear": {"1": "E", "2": "C", "4": "C", "5": "E", "7": "B", "20": "E", "26": "B"},
    "happiness": {"6": "D", "12": "E"},
    "sadness": {"1": "E", "4": "C", "15": "E"},
    "surprise": {"1": "E", "2": "E", "5": "C", "26": "E"},
    "neutral": {},
    "contempt": {"R12": "C", "R14": "E"},
}

# What often comes with the prototype: unit -> share of the sequences that show it.
COMPANIONS: dict[str, dict[str, float]] = {
    "anger": {"10": 0.2, "17": 0.3, "24": 0.4, "25": 0.25, "16": 0.15},
    "disgust": {"10": 0.4, "4": 0.3, "7": 0.4, "25": 0.15},
    "fear": {"25": 0.8, "16": 0.3, "27": 0.1},
    "happiness": {"25": 0.7, "26": 0.25, "7": 0.2},
    "sadness": {"17": 0.5, "7": 0.2, "25": 0.1},
    "surprise": {"25": 0.7, "27": 0.35},
    "neutral": {},
    "contempt": {"24": 0.2, "17": 0.2},
}

# FER2013's counts; it has no contempt, which gets its rarity in FER+, about 0.6 % of the images.
CLASS_WEIGHTS = {
    "anger": 4953,
    "disgust": 547,
    "fear": 5121,
    "happiness": 8989,
    "sadness": 6077,
    "surprise": 4002,
    "neutral": 6198,
    "contempt": 216,
}

SIZE = 48
SUBJECTS_A_CHUNK = 10
SEQUENCES_A_SUBJECT = 4
IMAGES_A_BLOCK = 30  # drawn at a time: as many as a processor's cache holds, half again as fast
# In every ten subjects eight train, one validates and one tests: FER2013's 80/10/10.
PARTS = np.array(["train", "val", "test"] + ["train"] * 7)

# name -> (typical value, largest deviation). Lengths are in half pictures, tones in 0 (black) to
# 1 (white). The resting_* traits move what action units move, by up to about a trace or slight one.
IDENTITY = {
    "face_width": (0.76, 0.09),
    "face_height": (0.93, 0.06),
    "jaw": (0.17, 0.13),
    "squareness": (0.35, 0.35),
    "skin": (0.70, 0.24),
    "eye_distance": (0.34, 0.045),
    "eye_height": (-0.10, 0.035),
    "eye_width": (0.175, 0.03),
    "eye_slant": (0.0, 0.10),
    "iris": (0.088, 0.012),
    "iris_tone": (0.20, 0.17),
    "brow_thickness": (0.040, 0.018),
    "brow_length": (0.42, 0.06),
    "nose_length": (0.25, 0.06),
    "nose_width": (0.12, 0.03),
    "mouth_height": (0.53, 0.045),
    "mouth_width": (0.28, 0.05),
    "lip_thickness": (0.062, 0.026),
    "lip_tone": (0.72, 0.12),
    "hair": (0.22, 0.20),
    "hairline": (-0.68, 0.16),
    "hair_curve": (0.65, 0.55),
    "hair_part": (0.0, 0.35),
    "hair_wave": (0.06, 0.06),
    "hair_length": (0.0, 0.9),
    "clothes": (0.45, 0.4),
    "resting_brow": (0.0, 0.055),
    "resting_brow_slope": (0.0, 0.05),
    "resting_brow_arch": (0.0, 0.03),
    "resting_lid": (0.0, 0.026),
    "resting_corner": (0.0, 0.035),
    "resting_furrow": (0.0, 0.12),
}
# name -> (share of the subjects that have it, value with it); without it the trait is 0.
ACCESSORIES = {"glasses": (0.15, 1.0), "beard": (0.08, 0.45), "bald": (0.06, 1.0)}
POSE = {
    "turn": (0.0, 0.16),  # tan of half the rotation in the picture plane: at most about 18 degrees
    "zoom": (0.97, 0.11),
    "shift_x": (0.0, 0.15),
    "shift_y": (0.0, 0.12),
    "yaw": (0.0, 0.17),
    "pitch": (0.0, 0.08),
    "gaze": (0.0, 0.06),
}
LIGHT = {
    "background": (0.55, 0.45),
    "light_x": (0.0, 0.45),
    "light_y": (-0.05, 0.30),
    "gain": (0.95, 0.30),
    "tone_curve": (0.0, 0.55),
    "blur": (0.12, 0.12),
    "noise": (0.05, 0.05),
}
TRAITS = {name: typical for name, (typical, _) in {**IDENTITY, **POSE, **LIGHT}.items()}
# The typical traits describe one tidy face under even light: what `draw` shows when not told.
TRAITS |= dict.fromkeys(ACCESSORIES, 0.0) | {"blur": 0.0, "noise": 0.0, "zoom": 0.92}
TRAITS |= {"gain": 1.0, "background": 0.9, "hair_part": 0.12, "hairline": -0.78}


class SyntheticFaces(NamedTuple):
    """Drawn faces with everything that is known about them.

    Args:
        images: uint8 (N, 48, 48, 1), 0-255 grey.
        labels: int64 (N,), an index into `class_names`.
        class_names: the expressions.
        subjects: str (N,), the drawn person.
        sequences: str (N,), the burst of frames from onset to apex.
        split: str (N,) of "train", "val", "test"; no subject is in two of them.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    subjects: np.ndarray
    sequences: np.ndarray
    split: np.ndarray


def generate(
    count: int = 35887,
    *,
    seed: int = 0,
    expressions: Sequence[str] = EXPRESSIONS,
    class_weights: Mapping[str, float] | None = None,
    frames: int = 3,
) -> SyntheticFaces:
    """Draw `count` faces, FER2013's number and class imbalance by default.

    The same arguments give the same bytes. Image i does not depend on `count`: a smaller set is
    the beginning of a larger one. It does depend on the other arguments. Every subject shows four
    sequences; the last of all is cut where `count` is no multiple of `frames`.

    Args:
        count: how many images; for all three parts to have some, more than 8 times `frames`.
        seed: integer >= 0.
        expressions: the classes in the order of the labels, of `EXPRESSIONS`.
        class_weights: expression -> relative frequency >= 0; FER2013's counts by default.
        frames: images a sequence, from onset to apex.

    Returns:
        A `SyntheticFaces` of `count` rows, sequence after sequence, subject after subject.

    Raises:
        ValueError: a count or number of frames below 1, a negative seed, an unknown or repeated
            expression, weights that do not fit.
    """
    _check_whole("count", count, 1)
    _check_whole("frames", frames, 1)
    _check_whole("seed", seed, 0)
    shares = _class_shares(expressions, class_weights)
    size = SUBJECTS_A_CHUNK * SEQUENCES_A_SUBJECT * frames
    # Where each of a chunk's subjects begins on the scale of the class shares, see _labels.
    starts = np.random.default_rng([seed]).random(SUBJECTS_A_CHUNK)
    images = np.empty((count, SIZE, SIZE, 1), np.uint8)
    labels = np.empty(count, np.int64)
    for chunk, first in enumerate(range(0, count, size)):
        rows = slice(first, min(first + size, count))
        drawn = _chunk(chunk, seed, starts, shares, tuple(expressions), frames)
        labels[rows] = drawn.labels[: rows.stop - first]
        images[rows, :, :, 0] = drawn.render(rows.stop - first)
    sequence = np.arange(count) // frames
    subject, order = np.divmod(sequence, SEQUENCES_A_SUBJECT)
    subjects = np.char.add("s", np.char.zfill(subject.astype(str), 5))
    return SyntheticFaces(
        images=images,
        labels=labels,
        class_names=tuple(expressions),
        subjects=subjects,
        sequences=np.char.add(np.char.add(subjects, "-"), (order + 1).astype(str)),
        split=PARTS[subject % SUBJECTS_A_CHUNK],
    )


def draw(
    action_units: Mapping[str, float | str],
    *,
    traits: Mapping[str, float] | None = None,
    size: int = SIZE,
) -> np.ndarray:
    """Draw one face that shows the given action units, clean and upright unless told otherwise.

    Args:
        action_units: unit -> intensity, such as {"1": 0.8, "R12": "C"}; a number in 0-1 or a
            letter A-E; R or L before the number moves one side, the person's right or left.
        traits: what differs from the typical face, pose and light: name -> value, see `TRAITS`.
        size: height and width of the picture, pixels.

    Returns:
        uint8 (size, size), 0-255 grey.

    Raises:
        ValueError: an unknown unit or trait, an intensity outside 0-1 or A-E, a size below 8.
    """
    _check_whole("size", size, 8)
    unknown = set(traits or ()) - set(TRAITS)
    if unknown:
        raise ValueError(f"unknown trait {sorted(unknown)[0]!r}; the traits are {list(TRAITS)}")
    units = {au: v[:, None] for au, v in _sided(action_units).items()}
    face = {k: np.array([v], np.float32) for k, v in {**TRAITS, **(traits or {})}.items()}
    return _render(SimpleNamespace(**face), units, size, None)[:, :, 0]


def prototype(
    expression: str,
    *,
    intensity: float = 1.0,
    size: int = SIZE,
) -> np.ndarray:
    """Draw one face with the action units of an expression's EMFACS prototype.

    Args:
        expression: one of `EXPRESSIONS`.
        intensity: factor on the prototype's intensities, 0 (neutral) to 1 (apex).
        size: height and width of the picture, pixels.

    Returns:
        uint8 (size, size), 0-255 grey.

    Raises:
        ValueError: an unknown expression, an intensity outside 0-1, a size below 8.
    """
    _check_expressions((expression,))
    if not 0 <= intensity <= 1:
        raise ValueError(f"intensity must be in 0-1, not {intensity}")
    units = {au: INTENSITIES[grade] * intensity for au, grade in PROTOTYPES[expression].items()}
    return draw(units, size=size)


# -- arguments ------------------------------------------------------------------------------------


def _check_whole(name: str, value: int, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")


def _check_expressions(expressions: Sequence[str]) -> None:
    for expression in expressions:
        if expression not in PROTOTYPES:
            raise ValueError(f"unknown expression {expression!r}; known are {list(EXPRESSIONS)}")


def _class_shares(
    expressions: Sequence[str], class_weights: Mapping[str, float] | None
) -> np.ndarray:
    """Relative frequency of every expression, float64 (K,), summing to 1."""
    if isinstance(expressions, str) or len(expressions) == 0:
        raise ValueError(f"expressions must be a sequence of names, not {expressions!r}")
    _check_expressions(expressions)
    if len(set(expressions)) < len(expressions):
        raise ValueError(f"an expression is named twice in {list(expressions)}")
    weights = CLASS_WEIGHTS if class_weights is None else class_weights
    missing = [e for e in expressions if e not in weights]
    if missing:
        raise ValueError(f"class_weights has no weight for {missing[0]!r}")
    if class_weights is not None and set(weights) - set(expressions):
        extra = sorted(set(weights) - set(expressions))[0]
        raise ValueError(f"class_weights names {extra!r}, which is not among the expressions")
    values = np.array([weights[e] for e in expressions], np.float64)
    if not np.isfinite(values).all() or values.min() < 0 or values.sum() == 0:
        raise ValueError("class_weights must be finite, at least 0, and not all 0")
    return values / values.sum()


def _sided(action_units: Mapping[str, float | str]) -> dict[str, np.ndarray]:
    """Intensities of every known unit as float32 (2,): the person's right and left side."""
    sides = {au: np.zeros(2, np.float32) for au in ACTION_UNITS}
    for name, grade in action_units.items():
        side = {"R": slice(0, 1), "L": slice(1, 2)}.get(str(name)[:1])
        number = str(name)[1:] if side else str(name)
        if number not in sides:
            raise ValueError(f"unknown action unit {name!r}; known are {list(ACTION_UNITS)}")
        value = INTENSITIES.get(grade) if isinstance(grade, str) else grade
        if value is None or not 0 <= value <= 1:
            raise ValueError(f"action unit {name} needs an intensity in 0-1 or A-E, not {grade!r}")
        sides[number][side or slice(None)] = value
    return sides


# -- chance: who shows what, how and in which light -----------------------------------------------


class _Chunk(NamedTuple):
    labels: np.ndarray
    traits: dict[str, np.ndarray]
    units: dict[str, np.ndarray]
    grain: np.ndarray

    def render(self, count: int) -> np.ndarray:
        """The first `count` images, uint8 (count, 48, 48)."""
        images = np.empty((count, SIZE, SIZE), np.uint8)
        for first in range(0, count, IMAGES_A_BLOCK):
            rows = slice(first, min(first + IMAGES_A_BLOCK, count))
            face = SimpleNamespace(**{name: value[rows] for name, value in self.traits.items()})
            units = {au: value[:, rows] for au, value in self.units.items()}
            images[rows] = np.moveaxis(_render(face, units, SIZE, self.grain[:, :, rows]), 2, 0)
        return images


def _chunk(
    chunk: int,
    seed: int,
    starts: np.ndarray,
    shares: np.ndarray,
    expressions: tuple[str, ...],
    frames: int,
) -> _Chunk:
    """Everything random about ten subjects, from a generator of their own."""
    rng = np.random.default_rng([seed, chunk + 1])
    labels = _labels(rng, chunk, starts, shares)  # (10, 4)
    units = _sample_units(rng, labels.ravel(), expressions, frames)
    subjects, images = SUBJECTS_A_CHUNK, labels.size * frames
    identity = {name: _spread(rng, *IDENTITY[name], subjects) for name in IDENTITY}
    for name, (share, value) in ACCESSORIES.items():
        identity[name] = np.where(rng.random(subjects) < share, value, 0).astype(np.float32)
    traits = {name: np.repeat(v, images // subjects) for name, v in identity.items()}
    for name, (typical, spread) in (POSE | LIGHT).items():
        # A sequence keeps its pose and light but for a tenth: it lasts a fraction of a second.
        held = np.repeat(_spread(rng, typical, 0.9 * spread, labels.size), frames)
        traits[name] = held + _spread(rng, 0.0, 0.1 * spread, images)
    grain = rng.random((SIZE, SIZE, images), dtype=np.float32) - np.float32(0.5)
    return _Chunk(np.repeat(labels.ravel(), frames), traits, units, grain)


def _labels(
    rng: np.random.Generator, chunk: int, starts: np.ndarray, shares: np.ndarray
) -> np.ndarray:
    """What each subject of a chunk shows: int64 (10, 4).

    A subject's sequences are spread evenly over the scale of the class shares, and from chunk to
    chunk the golden ratio moves them on: so every part of the split has every class close to its
    share, the rare ones too, without knowing how many images there will be.
    """
    golden = 0.6180339887498949
    offset = (starts + chunk * golden) % 1
    place = (np.arange(SEQUENCES_A_SUBJECT) + offset[:, None]) / SEQUENCES_A_SUBJECT
    last = np.flatnonzero(shares)[-1]
    labels = np.searchsorted(np.cumsum(shares), place, side="right")
    return rng.permuted(np.minimum(labels, last), axis=1).astype(np.int64)


def _spread(rng: np.random.Generator, typical: float, largest: float, count: int) -> np.ndarray:
    """A triangular draw around `typical`: float32 (count,)."""
    return (typical + largest * (rng.random(count) - rng.random(count))).astype(np.float32)


def _sample_units(
    rng: np.random.Generator, labels: np.ndarray, expressions: tuple[str, ...], frames: int
) -> dict[str, np.ndarray]:
    """Action units of every image as float32 (2, images) a unit: prototype, variation, chance."""
    table = np.array([list(_sided(PROTOTYPES[e]).values()) for e in expressions])  # (K, AU, 2)
    often = np.array([[COMPANIONS[e].get(au, 0.0) for au in ACTION_UNITS] for e in expressions])
    n, k = len(labels), len(ACTION_UNITS)
    apex = table[labels].astype(np.float64)  # (n, AU, 2)
    # One sequence in eight blends in another expression, as spontaneous faces do.
    other = table[rng.integers(len(expressions), size=n)]
    blend = np.where(rng.random(n) < 0.125, 0.25 + 0.3 * rng.random(n), 0)[:, None, None]
    apex = (1 - blend) * apex + blend * other
    apex *= (0.55 + 0.5 * rng.random((n, 1, 1))) * (0.7 + 0.5 * rng.random((n, k, 1)))
    apex *= np.where(rng.random((n, k, 1)) < 0.08, 0.15, 1)  # a unit that hardly shows
    company = rng.random((n, k)) < often[labels]
    apex = np.maximum(apex, (company * (0.3 + 0.6 * rng.random((n, k))))[:, :, None])
    stray = rng.random((n, k)) < 0.05
    apex += (stray * (0.1 + 0.35 * rng.random((n, k))))[:, :, None]
    apex *= 1 + 0.24 * (rng.random((n, k, 2)) - 0.5)  # no face is symmetric
    swap = rng.random(n) < 0.5  # the one-sided prototypes occur on either side
    apex[swap] = apex[swap, :, ::-1]
    onset = np.linspace(0.6, 1, frames) if frames > 1 else np.ones(1)
    rising = np.clip(apex[:, None] * onset[:, None, None], 0, 1).reshape(n * frames, k, 2)
    return {au: rising[:, j].T.astype(np.float32) for j, au in enumerate(ACTION_UNITS)}


# -- the drawing ----------------------------------------------------------------------------------
# Pixels come first and images last, (h, w, n), so that a trait of shape (n,) broadcasts by itself.
# A face looks out of the picture: x grows to its left, y down, both in half pictures.


class _Pose:
    """Where a face lies in the picture, and the way from its coordinates to pixels and back."""

    def __init__(self, f: SimpleNamespace, size: int):
        self.f, self.size = f, size
        scale = 1 + f.turn * f.turn
        self.cos, self.sin = (2 - scale) / scale * f.zoom, 2 * f.turn / scale * f.zoom
        self.pixel = np.float32(2 / size) / f.zoom

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates on the head of every pixel, float32 (size, size, n) each."""
        f = self.f
        grid = ((np.arange(self.size) + 0.5) * (2 / self.size) - 1).astype(np.float32)
        across, down = grid[None, :, None] - f.shift_x, grid[:, None, None] - f.shift_y
        shrink = 1 / (f.zoom * f.zoom)
        cos, sin = self.cos * shrink, self.sin * shrink
        return across * cos + down * sin, down * cos - across * sin

    def pixels(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        """Rows and columns that cover a box of face coordinates in every image."""
        f = self.f
        x = np.stack([left + np.minimum(f.yaw, 0), right + np.maximum(f.yaw, 0)])[:, None]
        y = np.stack([top + np.minimum(f.pitch, 0), bottom + np.maximum(f.pitch, 0)])
        across = x * self.cos - y * self.sin + f.shift_x
        down = x * self.sin + y * self.cos + f.shift_y
        return self._range(down), self._range(across)

    def _range(self, place: np.ndarray) -> slice:
        first, last = (float(v) + 1 for v in (place.min(), place.max()))
        half = self.size / 2
        return slice(max(0, int(first * half) - 1), max(0, min(self.size, int(last * half) + 2)))


class _Picture:
    """Grey tones `ink` with the face's own coordinates `x`, `y` of every pixel, (h, w, n) each."""

    def __init__(self, ink: np.ndarray, x: np.ndarray, y: np.ndarray, pose: _Pose):
        self.ink, self.x, self.y, self.pose = ink, x, y, pose
        self.pixel = pose.pixel

    def cover(self, distance: np.ndarray, softness: float = 0.0) -> np.ndarray:
        """How much of each pixel lies inside a shape, given the signed distance to its outline."""
        share = distance * (np.float32(-1) / (self.pixel + np.float32(softness)))
        share += np.float32(0.5)
        return np.clip(share, 0, 1, out=share)

    def stroke(
        self,
        along: np.ndarray,
        away: np.ndarray,
        half: np.ndarray | float,
        softness: float = 0.0,
    ) -> np.ndarray:
        """A line that fades at its ends: `along` runs from -1 to 1, `away` is the distance."""
        share = self.cover(np.abs(away) - half, softness)
        fade = 1.8 - 1.8 * (along * along)
        np.clip(fade, 0, 1, out=fade)
        share *= fade
        return share

    def paint(self, share: np.ndarray, tone: np.ndarray | float) -> None:
        """Lay a tone over the pixels, opaque where `share` is 1."""
        share *= tone - self.ink
        self.ink += share

    def shade(self, share: np.ndarray, amount: np.ndarray | float) -> None:
        """Darken by the fraction `amount` where `share` is 1; lighten where it is negative."""
        share *= amount
        share *= self.ink
        self.ink -= share

    @contextmanager
    def window(self, left: float, top: float, right: float, bottom: float) -> Iterator[_Picture]:
        """A picture of the pixels that hold this box of face coordinates in any of the images."""
        rows, columns = self.pose.pixels(left, top, right, bottom)
        part = _Picture(*(a[rows, columns].copy() for a in (self.ink, self.x, self.y)), self.pose)
        yield part
        self.ink[rows, columns] = part.ink


def _render(
    f: SimpleNamespace, units: dict[str, np.ndarray], size: int, grain: np.ndarray | None
) -> np.ndarray:
    """Draw n faces: traits float32 (n,), units float32 (2, n), grain (size, size, n) or None.

    Returns:
        uint8 (size, size, n).
    """
    right, left = ({au: sides[i] for au, sides in units.items()} for i in (0, 1))
    mean = {au: 0.5 * (sides[0] + sides[1]) for au, sides in units.items()}
    pose = _Pose(f, size)
    x, y = pose.coordinates()
    head = _Picture(np.empty_like(x), x, y, pose)
    reach = _draw_head(head, f, mean)
    # A turned head shows its features moved and its outline where it was.
    turned_x = x - f.yaw * np.maximum(1 - 1.4 * x * x, 0)
    turned_y = y - f.pitch * np.maximum(1 - 1.2 * y * y, 0)
    picture = _Picture(head.ink, turned_x, turned_y, pose)
    _draw_forehead(picture, f, mean)
    _draw_nose(picture, f, mean)
    mouth = _mouth_shape(f, right, left, mean)
    for side, a in ((-1, right), (1, left)):
        _draw_cheek(picture, f, a, side, mouth)
        _draw_eye(picture, f, a, side)
    _draw_mouth(picture, f, mean, mouth)
    _draw_hair(head, f, reach)
    # As in a cartoon, the brows show through the hair: an expression needs them.
    _draw_brow(picture, f, right, -1)
    _draw_brow(picture, f, left, 1)
    _draw_glasses(picture, f)
    return _expose(picture.ink, f, grain)


def _draw_head(picture: _Picture, f: SimpleNamespace, a: dict[str, np.ndarray]) -> np.ndarray:
    """Background, hair behind, neck, clothes, ears and head; returns how far the hair reaches."""
    x, y = picture.x, picture.y
    picture.ink[:] = f.background
    # Hair keeps its width below the ears, where a head narrows.
    reach = _ellipse(
        x, np.where(y > 0, 0.4 * y, y + 0.02), f.face_width + 0.07, f.face_height + 0.07
    )
    length = 0.1 + f.hair_length - 4 * f.bald
    picture.paint(picture.cover(np.maximum(reach, y - length)), 0.8 * f.hair)
    with picture.window(-1.2, 0.5, 1.2, 1.6) as p:
        p.paint(p.cover(np.maximum(np.abs(p.x) - 0.38, 0.5 - p.y)), 0.70 * f.skin)
        p.paint(p.cover(_ellipse(p.x, p.y - 1.45, 1.0, 0.45)), f.clothes)
    for side in (-1, 1):
        with picture.window(*_box(side, 0.6, -0.3, 1.0, 0.3)) as p:
            ear = _ellipse(p.x * side - f.face_width, p.y - 0.02, 0.09, 0.15)
            p.paint(p.cover(ear), 0.86 * f.skin)
    chin = f.face_height + 0.07 * a["26"] + 0.09 * a["27"] - 0.02 * a["17"]
    below = np.maximum(y, 0) * (1 / chin)
    depth = np.where(y < 0, y * (1 / f.face_height), below)
    wide = x / (f.face_width * (1 - f.jaw * below * below))
    # Between an ellipse and a rectangle: cheeks and jaw are fuller than an egg's.
    wide *= wide
    depth *= depth
    radius = np.sqrt(wide + depth - f.squareness * wide * depth)
    # Round off towards the outline and away from the light, as a ball would.
    tone = radius * radius
    tone *= -0.16 * tone
    tone += 1.04 + (0.22 * f.light_x) * x
    tone *= f.skin
    _grow_beard(tone, f, x, y)
    picture.paint(picture.cover((radius - 1) * 0.8), tone)
    return reach


def _grow_beard(tone: np.ndarray, f: SimpleNamespace, x: np.ndarray, y: np.ndarray) -> None:
    """Darken the lower face of those who have a beard."""
    has = np.flatnonzero(f.beard)
    if len(has):
        x, y = x[..., has], y[..., has]
        depth = np.clip((y - 0.64 + 0.85 * x * x) * 8, 0, 1)
        tone[..., has] *= 1 - f.beard[has] * depth


def _draw_forehead(picture: _Picture, f: SimpleNamespace, a: dict[str, np.ndarray]) -> None:
    """Wrinkles across the forehead (AU1 in the middle, AU2 at the sides), frown lines (AU4)."""
    brow = f.eye_height - 0.25 + f.resting_brow
    raised = np.minimum(0.28 * a["1"] + 0.26 * a["2"], 0.42)
    with picture.window(-0.52, -0.80, 0.52, -0.30) as p:
        along = p.x * (1 / (0.30 + 0.22 * a["2"]))
        bend = 0.10 * p.x * p.x * (1 - 2 * a["2"])
        for step in range(3):
            line = p.y - brow + 0.22 + 0.085 * step - bend
            p.shade(p.stroke(along, line, 0.008), raised)
    with picture.window(-0.14, -0.55, 0.14, -0.10) as p:
        along = (p.y - brow - 0.03) * (1 / 0.15)
        bend = np.abs(p.x) - 0.045 - 0.03 * along * along
        p.shade(p.stroke(along, bend, 0.012), 0.62 * a["4"])


def _draw_nose(picture: _Picture, f: SimpleNamespace, a: dict[str, np.ndarray]) -> None:
    """Bridge, wings and nostrils; AU9 pulls them up and wrinkles the bridge."""
    tip = _nose_tip(f) - 0.045 * a["9"] - 0.012 * a["10"]
    width = f.nose_width + 0.025 * a["9"] + 0.015 * a["12"]
    with picture.window(-0.24, -0.30, 0.24, 0.50) as p:
        x, wide = p.x, np.abs(p.x)
        down = p.y - tip
        along = (down + 0.5 * f.nose_length + 0.06) * (1 / (0.5 * f.nose_length + 0.05))
        lit = np.where(f.light_x > 0, -1, 1).astype(np.float32)
        ridge = x * lit - 0.045 - 0.02 * along
        p.shade(p.stroke(along, ridge, 0.02, 0.05), 0.26)
        p.shade(_bump(x, down + 0.03, 0.075, 0.10), -0.13)
        curl = down + 0.015
        p.shade(p.stroke(curl * (1 / 0.075), wide - width + 12 * curl * curl, 0.012), 0.42)
        p.shade(p.stroke(x * (1 / width), down - 0.035 + 2.2 * x * x, 0.006, 0.01), 0.35)
        nostril = _ellipse(wide - 0.52 * width, down - 0.018, 0.036, 0.024)
        p.paint(p.cover(nostril), 0.28 * f.skin)
        for step in range(3):
            fold = p.y - f.eye_height - 0.065 * step - 0.01 - 2.5 * x * x
            p.shade(p.stroke(x * (1 / (0.12 - 0.015 * step)), fold, 0.008), 0.55 * a["9"])


def _nose_tip(f: SimpleNamespace) -> np.ndarray:
    return f.eye_height + 0.12 + f.nose_length


def _draw_cheek(
    picture: _Picture,
    f: SimpleNamespace,
    a: dict[str, np.ndarray],
    side: int,
    mouth: SimpleNamespace,
) -> None:
    """Cheek and the furrow from the nose to the corner of the mouth, on one side."""
    corner_x = mouth.x * side + mouth.width
    corner_y = mouth.y + mouth.corner + side * mouth.skew
    with picture.window(*_box(side, 0.08, -0.15, 0.80, 0.95)) as p:
        x, y = p.x * side, p.y
        ball = _bump(x - f.eye_distance - 0.06, y - 0.20 + 0.05 * a["6"], 0.24, 0.19)
        p.shade(ball, -0.07 * a["6"] - 0.05 * a["12"])
        top = _nose_tip(f) - 0.06 - 0.05 * a["9"]
        v = (y - top) * (1 / (corner_y + 0.02 * a["15"] - top))
        start = f.nose_width + 0.05
        furrow = x - start - (corner_x + 0.09 - start) * v * (1.8 - 0.8 * v)
        depth = 0.10 + f.resting_furrow + 0.40 * a["12"] + 0.42 * a["9"] + 0.35 * a["10"]
        depth = np.minimum(depth + 0.12 * a["15"] + 0.15 * a["20"] + 0.15 * a["6"], 0.62)
        p.shade(p.stroke(2 * v - 1, furrow, 0.012, 0.02), depth)
        # AU14 dents the cheek beside the corner, AU15 drags it down.
        rise = (y - corner_y) * (1 / 0.12)
        dent = x - corner_x - 0.03 - 0.035 * (1 - rise * rise)
        p.shade(p.stroke(rise, dent, 0.012, 0.015), 0.75 * a["14"])
        sag = x - corner_x - 0.01 - 0.3 * (y - corner_y)
        p.shade(p.stroke((y - corner_y - 0.06) * (1 / 0.08), sag, 0.010), 0.4 * a["15"])


def _draw_eye(picture: _Picture, f: SimpleNamespace, a: dict[str, np.ndarray], side: int) -> None:
    """One eye: AU5 raises the upper lid, AU7 and AU6 push the lower one up."""
    upper = 0.108 + f.resting_lid + 0.058 * a["5"] - 0.036 * a["7"] - 0.040 * a["6"]
    upper = np.maximum(upper - 0.040 * a["9"] - 0.012 * a["4"], 0.02)
    lower = 0.062 + 0.3 * f.resting_lid + 0.012 * a["5"] - 0.045 * a["7"] - 0.075 * a["6"]
    lower = np.maximum(lower - 0.040 * a["9"], 0.012 - upper)
    with picture.window(*_box(side, 0.06, -0.45, 0.66, 0.20)) as p:
        x, y = p.x * side - f.eye_distance, p.y
        u = x * (1 / f.eye_width)
        dome = 1 - u * u
        middle = y - f.eye_height + f.eye_slant * x
        over, under = middle + upper * dome, middle - lower * dome
        shut = np.maximum(-over, under)
        p.paint(p.cover(shut), np.minimum(0.45 + 0.65 * f.skin, 0.98))
        gaze, level = x - side * f.gaze, y - f.eye_height + 0.012
        p.paint(p.cover(np.maximum(shut, _ellipse(gaze, level, f.iris, f.iris))), f.iris_tone)
        p.paint(p.cover(np.maximum(shut, _ellipse(gaze, level, 0.042, 0.042))), 0.03)
        glint = _ellipse(gaze + side * 0.035, level + 0.035, 0.026, 0.026)
        p.paint(p.cover(np.maximum(shut, glint)), 0.97)
        lash = 0.9 * u
        p.paint(0.92 * p.stroke(lash, over + 0.012, 0.020), 0.16 * f.skin)
        p.shade(p.stroke(lash, under - 0.004, 0.006), 0.45)
        p.shade(p.stroke(lash, over + 0.062, 0.004, 0.01), 0.30 - 0.15 * a["5"])
        pouch = under - 0.055 + 0.02 * dome
        p.shade(p.stroke(0.8 * u, pouch, 0.010, 0.02), 0.08 + 0.34 * a["6"] + 0.20 * a["7"])
        out = x - f.eye_width
        for slope in (-0.45, 0.05, 0.55):  # crow's feet
            foot = middle - slope * (out + 0.03)
            p.shade(p.stroke((out - 0.075) * (1 / 0.075), foot, 0.008), 0.5 * a["6"])


def _draw_brow(picture: _Picture, f: SimpleNamespace, a: dict[str, np.ndarray], side: int) -> None:
    """One brow: AU1 raises its inner end, AU2 its outer end, AU4 lowers it towards the nose."""
    rest = f.eye_height - 0.235 + f.resting_brow
    inner = rest + f.resting_brow_slope - 0.125 * a["1"] - 0.02 * a["2"]
    inner = inner + 0.125 * a["4"] * (1 - 0.75 * a["1"]) + 0.06 * a["9"]
    outer = rest + 0.045 - f.resting_brow_slope - 0.155 * a["2"] + 0.03 * a["4"] + 0.02 * a["1"]
    arch = 0.052 + f.resting_brow_arch + 0.050 * a["2"] - 0.045 * a["4"]
    start = f.eye_distance - 0.215 - 0.045 * a["4"]
    with picture.window(*_box(side, 0.0, -0.68, 0.70, -0.02)) as p:
        u = (p.x * side - start) * (1 / f.brow_length)
        line = p.y - inner - (outer - inner) * u + (4 * arch) * u * (1 - u)
        thick = f.brow_thickness * (1.15 - 0.6 * u)
        p.paint(p.stroke(2 * u - 1, line, thick), np.minimum(0.75 * f.hair, 0.5 * f.skin))


def _mouth_shape(
    f: SimpleNamespace,
    right: dict[str, np.ndarray],
    left: dict[str, np.ndarray],
    a: dict[str, np.ndarray],
) -> SimpleNamespace:
    """Where the lips are: everything float32 (n,)."""

    def width(s: dict[str, np.ndarray]) -> np.ndarray:
        wider = 0.085 * s["12"] + 0.105 * s["20"] + 0.045 * s["14"] + 0.015 * s["15"]
        narrower = 0.075 * s["23"] + 0.030 * s["24"] + 0.035 * s["17"]
        narrower = narrower + 0.030 * s["26"] + 0.060 * s["27"]
        return np.maximum(f.mouth_width + wider - narrower, 0.13)

    def corner(s: dict[str, np.ndarray]) -> np.ndarray:
        return 0.115 * s["15"] + 0.03 * s["20"] - 0.135 * s["12"] - 0.045 * s["14"]

    parted = np.maximum(np.maximum(a["25"], a["26"]), a["27"])
    pressed = (1 - 0.5 * a["23"]) * (1 - 0.65 * a["24"])
    lip = f.lip_thickness * pressed * (1 - 0.25 * a["12"]) * (1 - 0.2 * a["20"])
    up = 0.015 * a["25"] + 0.055 * a["10"] * (0.25 + 0.75 * parted) + 0.02 * a["12"] * parted
    up = up + 0.025 * a["26"] + 0.045 * a["27"]
    down = 0.045 * a["25"] + 0.05 * a["16"] + 0.03 * a["12"] * parted
    down = (down + 0.17 * a["26"] + 0.27 * a["27"]) * (1 - 0.5 * a["24"])
    square = 0.7 * a["20"] + 0.4 * a["16"] + 0.35 * a["12"] + 0.25 * a["10"]
    square = square + 0.6 * a["26"] + 0.8 * a["27"]
    return SimpleNamespace(
        x=0.5 * (width(left) - width(right)),
        width=0.5 * (width(left) + width(right)),
        y=f.mouth_height + 0.02 * a["12"] - 0.035 * a["17"] - 0.02 * a["9"],
        corner=0.5 * (corner(left) + corner(right)) + f.resting_corner + 0.03 * a["17"],
        skew=0.5 * (corner(left) - corner(right)),
        arch=0.045 * a["17"] + 0.025 * a["10"] + 0.02 * a["9"],
        square=np.minimum(square, 1),
        gap_up=np.minimum(up, 0.10),
        gap_down=np.minimum(down, 0.36),
        lip_up=0.85 * lip,
        lip_down=lip * (1 + 0.35 * a["17"]),
        lip_lift=0.03 * a["10"] + 0.02 * a["9"],
    )


def _draw_mouth(
    picture: _Picture, f: SimpleNamespace, a: dict[str, np.ndarray], mouth: SimpleNamespace
) -> None:
    """Lips, what is seen between them, and the chin."""
    with picture.window(-0.58, 0.20, 0.58, 1.10) as p:
        x = p.x - mouth.x
        y = p.y - mouth.y
        u = x * (1 / mouth.width)
        u2 = np.minimum(u * u, 1.5)
        dome = 1 - u2
        ends = (np.abs(u) - 1.02) * 0.3
        middle = y - (mouth.corner + mouth.skew * u) * u2 + mouth.arch * dome
        shape = dome * (1 + mouth.square * u2)
        above = middle + mouth.gap_up * shape  # positive below the edge of the upper lip
        below = middle - mouth.gap_down * shape
        bow = 1 - 0.35 * np.maximum(1 - 10 * u2, 0)
        top = above + (mouth.lip_up * bow + mouth.lip_lift) * dome
        bottom = below - mouth.lip_down * dome
        cast = bottom - 0.045 + 0.03 * u2
        p.shade(p.stroke(0.8 * u, cast, 0.018, 0.03), 0.20 + 0.2 * a["17"])
        lips = np.maximum(np.maximum(-top, bottom), ends)
        p.paint(p.cover(lips), f.lip_tone * f.skin * (1 - 0.1 * a["24"]))
        inside = np.maximum(np.maximum(-above, below) - 0.008, ends)
        p.paint(p.cover(inside), 0.09)
        # Tongue and lower teeth at the bottom, upper teeth at the top, clipped by the lips.
        depth = 0.45 * (mouth.gap_up + mouth.gap_down) + 0.01
        tongue = _ellipse(x, y - mouth.gap_down, 0.6 * mouth.width, depth)
        p.paint(0.8 * p.cover(np.maximum(inside + 0.02, tongue)), 0.27)
        show = np.minimum(a["12"] + a["20"] + 1.5 * a["10"] + 0.4 * a["16"], 1)
        teeth = np.maximum(inside + 0.016, above - 0.055 - 0.045 * a["12"])
        p.paint(p.cover(teeth) * show, 0.95)
        teeth = np.maximum(inside + 0.020, -below - 0.05)
        p.paint(p.cover(teeth) * np.minimum(0.7 * a["20"] + a["16"], 1), 0.88)
        # A raised chin bunches: an arc over it and dimples on it. Pressed lips bulge around.
        boss = y - 0.20 - 0.75 * mouth.gap_down - 0.9 * x * x
        p.shade(p.stroke(x * (1 / 0.22), boss, 0.014, 0.01), 0.12 + 0.5 * a["17"])
        p.shade(_bump(x, y - 0.30, 0.14, 0.10), 0.22 * a["17"])
        pressed = 0.30 * np.maximum(a["23"], a["24"])
        p.shade(p.stroke(u, top + 0.03, 0.006, 0.02), pressed)
        p.shade(p.stroke(u, bottom - 0.03, 0.006, 0.02), pressed)


def _draw_hair(picture: _Picture, f: SimpleNamespace, reach: np.ndarray) -> None:
    """Hair above the hairline, in locks, with a sheen."""
    x, y = picture.x, picture.y
    across = x - f.hair_part
    locks = 3.2 * across + 0.8 * y
    locks -= np.floor(locks)
    locks = 2 - 8 * (locks - 0.5) * (locks - 0.5)  # arches of height 0 to 2
    line = f.hairline + f.hair_curve * across * across - 3 * f.bald
    line += f.hair_wave * locks
    sheen = _bump(x + 0.3 * f.light_x, y + 0.80, 0.65, 0.20)
    tone = f.hair * (0.85 + 0.5 * sheen + (0.2 * locks))
    picture.paint(picture.cover(np.maximum(reach, y - line)), tone)


def _draw_glasses(picture: _Picture, f: SimpleNamespace) -> None:
    """Frames and a little glare for those who wear glasses."""
    has = np.flatnonzero(f.glasses)
    if not len(has):
        return
    f = SimpleNamespace(**{name: value[has] for name, value in vars(f).items()})
    pose = _Pose(f, picture.pose.size)
    some = _Picture(*(a[..., has] for a in (picture.ink, picture.x, picture.y)), pose)
    with some.window(-0.85, -0.40, 0.85, 0.25) as p:
        y, wide = p.y - f.eye_height - 0.01, np.abs(p.x)
        lens = _ellipse(wide - f.eye_distance - 0.01, y, 0.235, 0.185)
        streak = np.abs(p.x * 0.8 + y - 0.30) - 0.03
        p.shade(p.cover(np.maximum(lens, streak)), -0.12)
        bridge = np.maximum(np.abs(y + 0.05) - 0.014, wide - f.eye_distance + 0.215)
        temple = np.maximum(np.abs(y + 0.06) - 0.014, f.eye_distance + 0.235 - wide)
        temple = np.maximum(temple, wide - f.face_width)
        frame = np.minimum(np.minimum(np.abs(lens) - 0.016, bridge), temple)
        p.paint(p.cover(frame), 0.10)
    picture.ink[..., has] = some.ink


def _expose(ink: np.ndarray, f: SimpleNamespace, grain: np.ndarray | None) -> np.ndarray:
    """Light, tone curve, blur and noise, then 8 bits."""
    size = len(ink)
    grid = ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)
    light = 1 + 0.55 * f.light_x * grid[None, :, None] + 0.55 * f.light_y * grid[:, None, None]
    ink *= light * f.gain
    np.clip(ink, 0, 1, out=ink)
    ink += f.tone_curve * ink * (1 - ink)
    for axis in (0, 1):
        across = np.moveaxis(ink, axis, 0)
        step = f.blur * np.diff(across, axis=0)
        across[:-1] += step
        across[1:] -= step
    if grain is not None:
        ink += f.noise * grain
    np.clip(ink, 0, 1, out=ink)
    ink *= 255
    ink += 0.5
    return ink.astype(np.uint8)


def _box(side: int, near: float, top: float, far: float, bottom: float) -> tuple[float, ...]:
    """A window on one side of the face."""
    return (near, top, far, bottom) if side > 0 else (-far, top, -near, bottom)


def _radius(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y)


def _ellipse(
    x: np.ndarray, y: np.ndarray, half_width: np.ndarray | float, half_height: np.ndarray | float
) -> np.ndarray:
    """Signed distance to an ellipse around 0, exact enough near its outline."""
    away = _radius(x * (1 / half_width), y * (1 / half_height))
    away -= 1
    away *= np.minimum(half_width, half_height).astype(np.float32)
    return away


def _bump(x: np.ndarray, y: np.ndarray, half_width: float, half_height: float) -> np.ndarray:
    """A soft round hill: 1 in the middle, 0 from the ellipse on."""
    x = x * (1 / half_width)
    y = y * (1 / half_height)
    hill = np.maximum(1 - x * x - y * y, 0)
    return hill * hill
