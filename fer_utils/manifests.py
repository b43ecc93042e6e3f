"""What the data sets are and what the papers printed: the YAML under `data_manifests/`, checked."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

MANIFESTS = Path(__file__).parents[1] / "data_manifests"

Expression = Literal[
    "anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt"
]
SLUG, FIGURE = r"^[a-z0-9]+(-[a-z0-9]+)*$", r"^Figure \d+(\.\d+)?$"
HEX32, HEX64 = r"^[0-9a-f]{32}$", r"^[0-9a-f]{64}$"
Slug = Annotated[str, StringConstraints(pattern=SLUG)]
Hex32 = Annotated[str, StringConstraints(pattern=HEX32)]
Hex64 = Annotated[str, StringConstraints(pattern=HEX64)]


class DataError(ValueError):
    """Data that are not what their manifest says: one sentence naming file and row.

    Args:
        path: the file or folder at fault.
        problem: what is wrong with it.
        row: 1-based data row; the sentence also gives the line, which counts the header.
        expected: what should stand there.
        found: what stands there.
    """

    def __init__(
        self,
        path: Path | str,
        problem: str,
        *,
        row: int | None = None,
        expected: object = None,
        found: object = None,
    ) -> None:
        self.path, self.problem, self.row = Path(path), problem, row
        self.expected, self.found = expected, found
        where = f"{path}" if row is None else f"{path}, row {row} (line {row + 1})"
        compared = "" if expected is None else f": expected {expected}, found {found}"
        super().__init__(f"{where}: {problem}{compared}")

    def __reduce__(self):  # so that it survives the way back from a worker process
        details = {"row": self.row, "expected": self.expected, "found": self.found}
        return partial(type(self), **details), (self.path, self.problem)


class DataMissing(DataError):
    """Data that are not there at all; the sentence ends with how to obtain them."""


def require_file(path: Path) -> None:
    """Refuse whatever is not a regular file with something in it.

    Args:
        path: the file.

    Raises:
        DataError: nothing, a folder, a device or an empty file is there.
    """
    if path.is_dir():
        raise DataError(path, "a file belongs here, this is a folder")
    if not path.exists():
        raise DataError(path, "no such file")
    if not path.is_file():
        raise DataError(path, "a regular file belongs here")
    if path.stat().st_size == 0:
        raise DataError(path, "the file is empty")


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """Hash of a file's bytes.

    Args:
        path: the file.
        algorithm: "sha256" or "md5".

    Returns:
        Hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


class _Model(BaseModel):
    """A typo in a YAML key is an error, and nothing changes after reading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_by_name=True, allow_inf_nan=False
    )


# ---- data sets --------------------------------------------------------------------------------


class Licence(_Model):
    name: str
    url: str | None = None
    redistribution: bool = Field(description="may copies be passed on?")


class SourceFile(_Model):
    path: str = Field(description="below one of the manifest's directories")
    md5: Hex32 | None = None
    sha256: Hex64 | None = None
    size: int | None = Field(None, description="bytes")
    rows: int | None = Field(None, description="data rows, the header not counted")


class Part(_Model):
    """One part of an official split, or "all" where a set has no parts."""

    source: str | None = Field(None, description="the part's name in the source")
    count: int | None = Field(None, description="images; None where the user decides")
    classes: dict[Expression, int] = Field({}, description="images of each expression")

    @model_validator(mode="after")
    def _adds_up(self) -> Part:
        if self.classes and sum(self.classes.values()) != self.count:
            raise ValueError(f"{sum(self.classes.values())} images in classes, count {self.count}")
        return self


class Variant(_Model):
    """One form in which the set circulates; the first one found on disk is used."""

    name: str
    files: tuple[SourceFile, ...] = ()
    glob: str | None = Field(None, description="finds the images of a set without tables")
    pattern: str | None = Field(None, description="regular expression of their paths")
    columns: tuple[str, ...] = Field((), description="header of the table, spaces stripped")
    splits: dict[str, Part] | None = Field(None, description="where they differ from the set's")
    note: str | None = None

    @model_validator(mode="after")
    def _finds_its_images(self) -> Variant:
        if (self.glob is None) != (self.pattern is None):
            raise ValueError(f"{self.name}: glob and pattern belong together")
        if self.pattern is None:
            return self
        try:
            re.compile(self.pattern)
        except re.error as error:
            told = f"{self.pattern!r} is no regular expression: {error}"
            raise ValueError(f"{self.name}: pattern {told}") from None
        try:
            next((MANIFESTS / "nowhere").glob(self.glob), None)
        except (ValueError, NotImplementedError) as error:  # the latter: an absolute path
            told = f"{self.glob!r} finds nothing: {error}"
            raise ValueError(f"{self.name}: glob {told}") from None
        return self


class ExpressionCode(_Model):
    name: Expression
    code: int | str = Field(description="how the source writes it")


class ImageFormat(_Model):
    """Images as the source stores them; `load` returns all of them as 48x48 grey."""

    height: int
    width: int
    mode: Literal["L", "RGB"]
    note: str | None = None


class Group(_Model):
    """What must not straddle a split, such as the person shown."""

    derived: str = Field(description="how it is read from the source")
    count: int | None = None


class Faces(_Model):
    """May faces of the set be shown in a page that anyone can read?"""

    shown: bool
    subjects: tuple[str, ...] = Field((), description="whose; empty: everyone's, if shown at all")
    wording: str = Field(description="why, and the notice that must stand beside them")


class DatasetManifest(_Model):
    """All that the project states about a data set without having it."""

    name: Slug
    title: str
    about: str
    licence: Licence
    citations: tuple[str, ...] = Field(description="keys in the book's bibliography")
    homepage: str | None = None
    obtain: str = Field(description="how to get it, one paragraph")
    directories: tuple[str, ...] = Field(description="looked for below the data root, in order")
    variants: tuple[Variant, ...]
    classes: tuple[ExpressionCode, ...]
    image: ImageFormat
    splits: dict[str, Part]
    arrays: tuple[Hex64, ...] = Field(
        (), description="sha256 of images and labels as loaded, one for each set of options in use"
    )
    groups: dict[Literal["subject", "sequence"], Group] = {}
    faces: Faces
    notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.classes)

    @model_validator(mode="after")
    def _classes_agree(self) -> DatasetManifest:
        _refuse_duplicates("class", self.class_names)
        _refuse_duplicates("class code", [entry.code for entry in self.classes])
        found = any(variant.glob for variant in self.variants)
        if set(self.splits) != ({"all"} if found else {"train", "val", "test"}):
            told = "all, as images are found by name" if found else "train, val and test"
            raise ValueError(f"splits: {', '.join(self.splits) or 'none'}, expected {told}")
        for part in self.splits.values():
            if extra := set(part.classes) - set(self.class_names):
                raise ValueError(f"counts of {sorted(extra)}, which are not among the classes")
        return self


def dataset_names() -> tuple[str, ...]:
    """The data sets that have a manifest, in alphabetical order."""
    return _names("datasets")


@cache
def load_manifest(name: str) -> DatasetManifest:
    """Read and check the manifest of a data set.

    Args:
        name: one of `dataset_names()`.

    Returns:
        The manifest.

    Raises:
        ValueError: no such manifest, or one that breaks a rule above.
    """
    return _read("datasets", name, DatasetManifest, "name")


# ---- published results ------------------------------------------------------------------------


# What our runs can be set against, by metric: the units that a comparison reads it in.
SHARES = ("percent", "fraction")
COMPARED = {
    "accuracy": SHARES,
    "balanced_accuracy": SHARES,
    "macro_precision": SHARES,
    "macro_f1": SHARES,
    "detection_rate": SHARES,
    "recall": SHARES,
    "elementwise_accuracy": SHARES,
    "multiplications": ("multiplications",),
}
# As `experiments.Protocol`, which stands behind libraries that reading a file does not need.
PROTOCOLS = ("official", "stratified", "subject_kfold", "leave_one_subject_out")
MOST_IMAGES = 10_000_000  # of a test part; the audit counts up to it


class TestSize(_Model):
    """A test-set size that a printed number may be on, where the paper does not say."""

    __test__ = False  # not a pytest class

    n: int = Field(gt=0, le=MOST_IMAGES)
    note: str


class _Shape(_Model):
    """The layer that a count of multiplications is of."""

    convolution: Literal["normal", "depthwise", "pointwise", "separable"]
    outputs: tuple[PositiveInt, PositiveInt]
    kernel: tuple[PositiveInt, PositiveInt]
    channels: PositiveInt
    filters: PositiveInt


class PublishedCell(_Model):
    """One number of one table, as printed and as data.

    Each entry of `also` is given as what differs from `select`, and read with the rest of it. A
    field of `select` cannot be left out; null is a value like any other.
    """

    id: Slug
    row: str
    column: str
    value: float | None = Field(description="in `unit`; None where the paper prints none")
    printed: str = Field(description="the exact characters on the page")
    unit: str = Field(description='"percent", "fraction", "count", "multiplications", ...')
    kind: Literal["own", "cited"] = Field(description="the paper's own result, or someone else's")
    metric: str = Field(
        description='what is measured: "accuracy" (top-1), "balanced_accuracy" (macro recall), '
        '"macro_precision", "macro_f1", "elementwise_accuracy", "recall" (of `expression`), '
        '"detection_rate", "multiplications", or what a count counts'
    )
    expression: Expression | None = Field(None, description="whose recall; None: of all")
    part: Literal["val", "test"] = Field("test", description="the part of the data it is read on")
    dataset: str | None = Field(None, description="a manifest's name")
    n_test: tuple[TestSize, ...] = ()
    margin: float | None = Field(None, ge=0, description="in `unit`; None: not compared")
    margin_reason: str | None = None
    select: dict[str, Any] = Field({}, description="parameters that choose the runs")
    also: dict[str, dict[str, Any]] = Field(
        {},
        description="other protocols, models or figures shown beside, by label: in what their "
        "runs differ from `select`, and `metric` or `part` where they differ from the cell's",
    )
    not_comparable: str | None = Field(None, description="why no run of ours can be set against it")
    note: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _also_differs_from_select(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        select, also = raw.get("select"), raw.get("also")
        if not isinstance(select, dict) or not isinstance(also, dict):
            return raw  # whatever is wrong with them, the fields' own types tell
        # A copy: aliases in the YAML give the same mapping to several cells.
        whole = {
            label: {**select, **entry} if isinstance(entry, dict) else entry
            for label, entry in also.items()
        }
        return {**raw, "also": whole}

    @model_validator(mode="after")
    def _consistent(self) -> PublishedCell:
        if self.margin is not None and (self.kind != "own" or self.value is None):
            raise ValueError(f"{self.id}: only an own result with a value can have a margin")
        if (self.metric == "recall") != (self.expression is not None):
            raise ValueError(f"{self.id}: recall is of an expression, other metrics are of all")
        if own := {"metric", "part", "expression"} & self.select.keys():
            told = ", ".join(sorted(own))
            raise ValueError(f"{self.id}: select chooses runs; {told} stands beside it")
        if self.value is not None:
            self._in_range()
            self._as_printed()
        if self.margin is not None or self.also:
            for metric in (self.metric, *(told.get("metric") for told in self.also.values())):
                self._can_be_compared(metric or self.metric)
        return self

    def _can_be_compared(self, metric: Any) -> None:
        """No run of ours has a misspelt figure, or one in a unit that nobody knows."""
        units = COMPARED.get(metric) if isinstance(metric, str) else None
        if units is None:
            raise ValueError(f"{self.id}: {metric!r} is not compared; one of {', '.join(COMPARED)}")
        if self.unit not in units:
            told = " or ".join(units)
            raise ValueError(f"{self.id}: {metric} is compared in {told}, not in {self.unit!r}")
        if metric == "multiplications":
            _Shape.model_validate(self.select)

    def _in_range(self) -> None:
        limit = {"percent": 100, "fraction": 1}.get(self.unit)
        if limit is not None and not 0 <= self.value <= limit:
            raise ValueError(f"{self.id}: {self.value} is no {self.unit}")

    def _as_printed(self) -> None:
        """A plain number must be the one that is printed: catches slips of the pen."""
        if re.fullmatch(r"[\d,]*\.?\d+\s*%?", self.printed):
            printed = float(self.printed.replace(",", "").rstrip("% "))
            if printed != self.value:
                raise ValueError(f"{self.id}: value {self.value}, printed {self.printed!r}")


class PublishedTable(_Model):
    id: str = Field(description='as the paper calls it, such as "Table II"')
    page: int | str | None = None
    caption: str
    cells: tuple[PublishedCell, ...]


class PublishedFigure(_Model):
    """A numbered figure of the paper: where in its chapter ours stands, or why there is none."""

    id: str = Field(pattern=FIGURE, description="as the paper calls it")
    page: int | str | None = None
    shows: str = Field(description="what it shows, in few words")
    here: str | None = Field(
        None, min_length=1, description="the heading in the chapter that ours stands under"
    )
    differs: str | None = Field(None, description="in what ours is another picture, if it is")
    cells: tuple[Slug, ...] = Field(
        (), description="the cells whose runs ours is drawn from; none where it takes no run"
    )
    instead: str | None = Field(
        None,
        description="the label of `also` whose runs are drawn where a cell has none of its own",
    )
    why_not: str | None = Field(
        None, min_length=1, description="why the chapter has no such picture, one clause"
    )

    @model_validator(mode="after")
    def _here_or_not(self) -> PublishedFigure:
        if (self.here is None) == (self.why_not is None):
            raise ValueError(f"{self.id}: a figure has here or why_not, and not both")
        if self.here is None and (self.differs or self.cells):
            raise ValueError(f"{self.id}: differs and cells are of a picture that is here")
        if self.instead and not self.cells:
            raise ValueError(f"{self.id}: instead of which cells' runs?")
        return self


class OpenDetail(_Model):
    """Something the paper does not say, and what was done about it."""

    id: Slug
    detail: str = Field(description="what is open")
    choice: str = Field(description="ours")
    reason: str
    other: dict[str, dict[str, Any]] = Field(
        {}, description="other choices that were run, by label: what chooses their runs"
    )
    ours: dict[str, Any] = Field(
        {}, description="what chooses the runs of our choice; none: those of the chapter's headline"
    )


# ---- what a paper says of its own numbers -----------------------------------------------------

CellOrNumber = Annotated[Slug | float, Field(description="a cell's id, or a number of the text")]


class _Claim(_Model):
    """A statement that arithmetic or our runs can check: `fer_utils.audit`, `fer_utils.claims`.

    `cells` are those that it names.
    """

    id: Slug
    says: str = Field(description="the paper's words, or what its layout says")
    means: str | None = Field(
        None, description="what follows where it fails, if more than the audit itself would say"
    )

    @property
    def valued(self) -> tuple[str, ...]:
        """The cells that have to print a number."""
        return self.cells

    @property
    def as_shares(self) -> tuple[str, ...]:
        """Those of them that have to be in percent or a fraction."""
        return ()

    @property
    def judged(self) -> tuple[str, ...]:
        """The cells that runs have to tell of."""
        return ()


class _OnRuns(_Claim):
    """A statement that our runs alone can check: of cells with a margin."""

    @property
    def valued(self) -> tuple[str, ...]:
        return ()

    @property
    def judged(self) -> tuple[str, ...]:
        return self.cells


def _cells_of(*named: str | float | None) -> tuple[str, ...]:
    """The ids of cells among ids and numbers."""
    return tuple(name for name in named if isinstance(name, str))


class Total(_Claim):
    """Some numbers add up to another."""

    kind: Literal["total"]
    parts: tuple[Slug, ...] = Field(min_length=1)
    total: CellOrNumber

    @property
    def cells(self) -> tuple[str, ...]:
        return _cells_of(*self.parts, self.total)


class OfficialCounts(_Claim):
    """Images of named parts of a data set, taken together: of each expression, in all, or both."""

    kind: Literal["official counts"]
    dataset: str
    splits: tuple[str, ...] = Field(min_length=1, description="parts of the manifest's split")
    counts: dict[Expression, CellOrNumber] = {}
    images: CellOrNumber | None = Field(None, description="of all expressions")

    @property
    def cells(self) -> tuple[str, ...]:
        return _cells_of(*self.counts.values(), self.images)

    @model_validator(mode="after")
    def _are_of_the_data_set(self) -> OfficialCounts:
        if not self.counts and self.images is None:
            raise ValueError(f"{self.id}: neither counts nor images")
        _refuse_duplicates(f"{self.id}: part", self.splits)
        if self.dataset in dataset_names():  # else the paper says that there is none
            manifest = load_manifest(self.dataset)
            for named, known in (
                (self.splits, manifest.splits),
                (self.counts, manifest.class_names),
            ):
                if unknown := sorted(set(named) - set(known)):
                    told = f"{', '.join(unknown)}: one of {', '.join(known)}"
                    raise ValueError(f"{self.id}: {self.dataset} has no {told}")
        return self


class AtMost(_Claim):
    """One number is a share of another and cannot exceed it."""

    kind: Literal["at most"]
    smaller: CellOrNumber
    larger: CellOrNumber

    @property
    def cells(self) -> tuple[str, ...]:
        return _cells_of(self.smaller, self.larger)


class SameNumber(_Claim):
    """Numbers that one would expect to be one, though they are not of the same runs."""

    kind: Literal["same number"]
    numbers: tuple[CellOrNumber, ...] = Field(min_length=2)
    confidence: Literal["certain", "likely", "weak"] = Field(
        description="how sure it is that they should be one"
    )

    @property
    def cells(self) -> tuple[str, ...]:
        return _cells_of(*self.numbers)


class Improvement(_Claim):
    """One result is better than another; both are accuracies."""

    kind: Literal["improvement"]
    better: Slug
    base: Slug
    others: tuple[Slug, ...] = Field(
        (), description="results below `base` in print, which ours is to be above as well"
    )
    points: Slug | None = Field(None, description="the cell that prints it, in percentage points")
    n_test: int | None = Field(
        None, gt=0, le=MOST_IMAGES, description="images that both are on, where known"
    )

    @property
    def cells(self) -> tuple[str, ...]:
        return _cells_of(self.better, self.base, *self.others, self.points)

    @property
    def as_shares(self) -> tuple[str, ...]:
        return (self.better, self.base, *self.others)


class Highest(_Claim):
    """A result is above all others of its kind that the paper names."""

    kind: Literal["highest"]
    best: Slug
    others: tuple[Slug, ...] = Field(min_length=1)

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.best, *self.others)


class AllAbove(_Claim):
    """Each of some results is above a number."""

    kind: Literal["all above"]
    results: tuple[Slug, ...] = Field(min_length=1)
    number: float = Field(description="in percent")

    @property
    def cells(self) -> tuple[str, ...]:
        return self.results


class Recognised(_Claim):
    """So many expressions are recognised; a table prints the same as a rate."""

    kind: Literal["recognised"]
    number: Slug = Field(description="of expressions")
    rate: Slug = Field(description="their share, with a margin and the runs that tell")

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.number, self.rate)

    @property
    def judged(self) -> tuple[str, ...]:
        return (self.rate,)


class BetterRecognised(_OnRuns):
    """Some expressions are recognised better than others; the paper has a picture of it alone."""

    kind: Literal["better recognised"]
    result: Slug = Field(description="the accuracy whose runs tell")
    better: tuple[Expression, ...] = Field(min_length=1)
    worse: tuple[Expression, ...] = Field(min_length=1)

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.result,)


class Confused(_OnRuns):
    """Some expressions are taken for certain others; the paper has a picture of it alone."""

    kind: Literal["confused"]
    result: Slug = Field(description="the accuracy whose runs tell")
    taken_for: dict[Expression, tuple[Expression, ...]] = Field(
        min_length=1, description="true expression -> those that it is taken for"
    )

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.result,)

    @model_validator(mode="after")
    def _are_others(self) -> Confused:
        for expression, others in self.taken_for.items():
            if not others or expression in others:
                told = ", ".join(others) or "nothing"
                raise ValueError(f"{self.id}: {expression} is taken for {told}; name others")
        return self


class LaterEpochs(_OnRuns):
    """What a picture of accuracy or loss shows: later epochs differ from earlier ones."""

    kind: Literal["later epochs"]
    result: Slug = Field(description="the accuracy whose runs tell")
    curve: Literal["accuracy", "loss", "val_accuracy", "val_loss"]
    of: Literal["mean", "spread"] = Field(description="spread: the standard deviation over epochs")
    earlier: tuple[int, int] = Field(description="first and last epoch, counted from 1")
    later: tuple[int, int]
    moves: Literal["up", "down"]

    @model_validator(mode="after")
    def _in_order(self) -> LaterEpochs:
        epochs = (*self.earlier, *self.later)
        if epochs[0] < 1 or sorted(epochs) != list(epochs):
            raise ValueError(f"{self.id}: earlier and later epochs are counted from 1, in order")
        return self

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.result,)


class Balance(_OnRuns):
    """A network computes less than another and is about as accurate, by how much is not told."""

    kind: Literal["balance"]
    result: Slug = Field(description="its accuracy, with a margin")
    against: str = Field(description="the other network: a label in the result's `also`")

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.result,)


class Because(_OnRuns):
    """A result is above another, and a part of the recipe is said to be the reason."""

    kind: Literal["because"]
    result: Slug = Field(description="of the whole recipe")
    than: Slug = Field(description="the other result")
    against: str = Field(
        description="the recipe without the part: a label in the result's `also`; those that begin "
        "with it and a comma are told beside it"
    )

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.result, self.than)


Claim = Annotated[
    Total
    | OfficialCounts
    | AtMost
    | SameNumber
    | Improvement
    | Highest
    | AllAbove
    | Recognised
    | BetterRecognised
    | Confused
    | LaterEpochs
    | Balance
    | Because,
    Field(discriminator="kind"),
]
KINDS = [get_args(one.model_fields["kind"].annotation)[0] for one in get_args(get_args(Claim)[0])]


class PublishedMatrix(_Model):
    """A confusion matrix as printed."""

    id: Slug
    dataset: str
    unit: Literal["count", "percent", "fraction"] = Field(description="percent: of the row")
    expressions: tuple[Expression, ...] = Field(min_length=2)
    rows: tuple[tuple[str, ...], ...] = Field(description="as printed; a row a true expression")
    accuracy: Slug | None = Field(None, description="the cell with the accuracy it belongs to")

    @property
    def cells(self) -> tuple[str, ...]:
        return _cells_of(self.accuracy)

    valued = as_shares = cells

    @model_validator(mode="after")
    def _square(self) -> PublishedMatrix:
        _refuse_duplicates(f"{self.id}: expression", self.expressions)
        size = len(self.expressions)
        if len(self.rows) != size or any(len(row) != size for row in self.rows):
            raise ValueError(f"{self.id}: a row and a column for each of {size} expressions")
        form = r"\d+" if self.unit == "count" else r"(\d+(\.\d*)?|\.\d+)\s*%?"
        for number in (number for row in self.rows for number in row):
            if not re.fullmatch(form, number.strip(), flags=re.ASCII):
                raise ValueError(f"{self.id}: {number!r} is no {self.unit}")
        if self.unit == "count" and not any(int(number) for row in self.rows for number in row):
            raise ValueError(f"{self.id}: not one image")
        return self


MyST = Annotated[
    str, StringConstraints(min_length=1), Field(description="Markdown as the book's pages have it")
]


class Discussion(_Model):
    """What we make of a paper, for its chapter and its report."""

    easy: MyST
    hard: MyST
    believe: MyST


class StartsFrom(_Model):
    """Runs that go on from another one."""

    fits: dict[str, tuple[Any, ...]] = Field(
        alias="for", description="parameters of the runs it is about: the values of each"
    )
    run: dict[str, Any] = Field(
        description="what the other run has instead; null is the paper's own, the rest is the same"
    )


class PreparedBefore(_Model):
    """Arrays that runs find in the cache, made once for all of them."""

    fits: dict[str, tuple[Any, ...]] = Field(alias="for", description="see `StartsFrom`")
    call: str = Field(description="made with the data set, such as fer_utils.detection:preprocess")
    arguments: dict[str, str] = Field(
        {}, alias="with", description="its other arguments: which parameter of the run is each"
    )
    images_per_second: float | None = Field(None, gt=0, description="of one core, where known")


class Speed(_Model):
    """How fast runs train, for an expected cost: alone before the first record, and from then on
    how much slower or faster than a run that is recorded.
    """

    fits: dict[str, tuple[Any, ...]] = Field({}, alias="for", description="see `StartsFrom`")
    images_per_second: float | None = Field(None, gt=0, description="of one core")
    seconds: float | None = Field(None, gt=0, description="of the whole run, if it has no epochs")

    @model_validator(mode="after")
    def _one_of_both(self) -> Speed:
        if (self.images_per_second is None) == (self.seconds is None):
            raise ValueError("a speed has images_per_second or seconds, and not both")
        return self


class SlowWithout(_Model):
    """Instructions that not every processor has."""

    fits: dict[str, tuple[Any, ...]] = Field(alias="for", description="see `StartsFrom`")
    format: Literal["bfloat16"] = Field(description="of the numbers that they multiply")
    times: float = Field(gt=1, description="as long as expected, at least, without them")


class RunNeeds(_Model):
    """What the runs of a chapter need beyond the parameters that cells and open details ask for."""

    mem_mb: int = Field(3000, gt=0, description="of one training")
    threads: int = Field(1, ge=1, description="cores of one; 1 where several run side by side")
    smoke_images: int | None = Field(None, gt=0, description="synthetic faces, where 200 are few")
    first: tuple[StartsFrom, ...] = Field(
        (), description="finished before the runs that start from its weights, and made for them"
    )
    after: tuple[StartsFrom, ...] = Field(
        (), description="the same where it is asked for anyway, such as fewer epochs"
    )
    prepare: tuple[PreparedBefore, ...] = ()
    speed: tuple[Speed, ...] = Field((), description="the first that fits counts")
    slow_without: SlowWithout | None = None

    @property
    def conditions(self) -> tuple[dict[str, tuple[Any, ...]], ...]:
        """What its rules ask of a run that they are about."""
        slow = (self.slow_without,) if self.slow_without else ()
        rules = (*self.first, *self.after, *self.prepare, *self.speed, *slow)
        return tuple(rule.fits for rule in rules)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters of runs that its rules name, those that they set included."""
        told = (*self.conditions, *(rule.run for rule in (*self.first, *self.after)))
        return tuple(dict.fromkeys(name for names in told for name in names))


class PublishedPaper(_Model):
    """What a paper printed, cell by cell, with the margins fixed before our runs."""

    paper: str = Field(description="key in the book's bibliography")
    bibtex: str | None = Field(
        None, description="its entry in the book's bibliography, under that key"
    )
    title: str
    authors: tuple[str, ...]
    year: int
    venue: str
    doi: str | None = None
    framework: Literal["Keras", "PyTorch", "NumPy"] = Field(
        description="of our rebuilding; NumPy: neither of the two"
    )
    headline: tuple[Slug, ...] = Field(
        (), description="the cells that its abstract is about, by id"
    )
    headline_note: str | None = Field(
        None, description="what has to be known beside the verdicts on them, in a sentence or two"
    )
    tables: tuple[PublishedTable, ...]
    figures: tuple[PublishedFigure, ...] = Field(
        (), description="every figure that has a number, in printed order"
    )
    open: tuple[OpenDetail, ...] = Field((), description="what the paper does not say")
    matrices: tuple[PublishedMatrix, ...] = ()
    claims: tuple[Claim, ...] = Field((), description="what it says of its own numbers")
    report: Discussion | None = Field(
        None, description="what was easy, what was hard, what we believe; None: not written yet"
    )
    runs: RunNeeds = Field(RunNeeds(), description="what our runs of it need, if anything")

    @property
    def cells(self) -> tuple[PublishedCell, ...]:
        """Every cell of every table, in printed order."""
        return tuple(cell for table in self.tables for cell in table.cells)

    @model_validator(mode="after")
    def _bibtex_is_of_the_paper(self) -> PublishedPaper:
        if self.bibtex and not re.match(rf"\s*@\w+\{{{re.escape(self.paper)},", self.bibtex):
            raise ValueError(f"bibtex: not an entry that begins like @article{{{self.paper},")
        return self

    @model_validator(mode="after")
    def _claims_have_the_runs_they_are_against(self) -> PublishedPaper:
        labels = {cell.id: cell.also for cell in self.cells}
        for claim in self.claims:
            twins = isinstance(claim, Balance | Because)
            if twins and claim.against not in labels.get(claim.result, {}):
                raise ValueError(f"{claim.id}: {claim.result} has no {claim.against!r} beside it")
        return self

    @model_validator(mode="after")
    def _cells_agree(self) -> PublishedPaper:
        _refuse_duplicates("cell id", [cell.id for cell in self.cells])
        _refuse_duplicates("figure", [figure.id for figure in self.figures])
        _refuse_duplicates("open detail", [detail.id for detail in self.open])
        _refuse_duplicates("claim", [claim.id for claim in self.claims])
        _refuse_duplicates("matrix", [matrix.id for matrix in self.matrices])
        if missing := set(self.headline) - {cell.id for cell in self.cells}:
            raise ValueError(f"headline of cells that are not there: {sorted(missing)}")
        unknown = {cell.dataset for cell in self.cells} - {None, *dataset_names()}
        if unknown:
            raise ValueError(f"data sets without a manifest: {sorted(unknown)}")
        known = {cell.id: cell for cell in self.cells}
        for statement in (*self.claims, *self.matrices, *self.figures):
            if missing := sorted(set(statement.cells) - set(known)):
                raise ValueError(f"{statement.id}: no such cells: {', '.join(missing)}")
            if getattr(statement, "dataset", "fer2013") not in dataset_names():
                raise ValueError(f"{statement.id}: {statement.dataset!r} has no manifest")
        for name, dataset, expressions in self._expressions():
            known_there = load_manifest(dataset).class_names if dataset else expressions
            if missing := [one for one in expressions if one not in known_there]:
                raise ValueError(f"{name}: {dataset} knows no {missing[0]}")
        for figure in self.figures:
            beside = {label for name in figure.cells for label in known[name].also}
            if figure.instead and figure.instead not in beside:
                raise ValueError(f"{figure.id}: no cell of it has {figure.instead!r} beside it")
        return self

    def _expressions(self) -> Iterator[tuple[str, str | None, tuple[str, ...]]]:
        """What is read from runs by expression: where it is asked for, data set and expressions."""
        datasets = {cell.id: cell.dataset for cell in self.cells}
        for cell in self.cells:
            named = [cell.expression, *(fields.get("expression") for fields in cell.also.values())]
            if cell.kind == "own":
                yield cell.id, cell.dataset, tuple(filter(None, named))
        for claim in self.claims:
            if isinstance(claim, BetterRecognised):
                yield claim.id, datasets[claim.result], (*claim.better, *claim.worse)
            elif isinstance(claim, Confused):
                for expression, others in claim.taken_for.items():
                    yield claim.id, datasets[claim.result], (expression, *others)

    @model_validator(mode="after")
    def _runs_can_be(self) -> PublishedPaper:
        for where, fields in self._asked():
            if "dataset" in fields and fields["dataset"] not in dataset_names():
                known = ", ".join(dataset_names())
                raise ValueError(f"{where}: dataset is {fields['dataset']!r}, not one of {known}")
            for name, least in (("epochs", 1), ("batch_size", 1), ("fold", 0), ("seed", 0)):
                told = fields.get(name, least)
                if told is None and name != "seed":  # the paper's own, no fold
                    continue
                if type(told) is not int or told < least:
                    raise ValueError(f"{where}: {name} is {told!r}, no whole number from {least}")
            for name, told in fields.items():
                if (number := _number_in(told)) is not None:
                    text = "YAML reads 1e-3, and what is in quotation marks, as text"
                    raise ValueError(f"{where}: {name} is {told!r}; write {number}: {text}")
        return self

    @model_validator(mode="after")
    def _protocols_are_known(self) -> PublishedPaper:
        """Those that are wrong on purpose are the chapter's own and name their contrast."""
        asked = list(self._asked())
        wrong = [fields.get("protocol") for _, fields in asked if fields.get("contrast")]
        for where, fields in asked:
            protocol = fields.get("protocol")
            if protocol is not None and protocol not in (*PROTOCOLS, *wrong):
                known = f"one of {', '.join(PROTOCOLS)}, or one whose runs name their contrast"
                raise ValueError(f"{where}: protocol is {protocol!r}, not {known}")
        return self

    @model_validator(mode="after")
    def _judged_cells_choose_their_runs(self) -> PublishedPaper:
        """Without a data set nothing is planned, and every run of the paper would be read."""
        for cell in self.cells:
            counted = cell.metric == "multiplications"  # from shapes, without a run
            if cell.margin is not None and not counted and "dataset" not in cell.select:
                told = "a margin needs runs, so select has to name their dataset"
                raise ValueError(f"{cell.id}: {told}, such as {{dataset: fer2013}}")
        return self

    @model_validator(mode="after")
    def _headline_is_judged(self) -> PublishedPaper:
        for cell in self.cells:
            if cell.id in self.headline and cell.margin is None and cell.not_comparable is None:
                told = "a cell of the headline needs one of margin and not_comparable"
                raise ValueError(f"{cell.id}: {told}")
        return self

    def _asked(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Parameters of runs, wherever the file has them, and where that is."""
        for cell in self.cells:
            yield from ((cell.id, fields) for fields in (cell.select, *cell.also.values()))
        for detail in self.open:
            yield from ((detail.id, fields) for fields in (detail.ours, *detail.other.values()))
        for condition in self.runs.conditions:
            for name, values in condition.items():
                yield from (("runs", {name: value}) for value in values)
        yield from (("runs", rule.run) for rule in (*self.runs.first, *self.runs.after))

    @model_validator(mode="after")
    def _checks_can_read_their_cells(self) -> PublishedPaper:
        known = {cell.id: cell for cell in self.cells}
        for statement in (*self.claims, *self.matrices):
            for name in statement.valued:
                if known[name].value is None:
                    raise ValueError(f"{statement.id}: {name} prints no number")
            for name in statement.as_shares:
                if known[name].unit not in SHARES:
                    raise ValueError(f"{statement.id}: {name} is in neither percent nor a fraction")
        for claim in self.claims:
            for cell in map(known.get, claim.judged):
                if cell.dataset is None or (cell.margin is None and cell.not_comparable is None):
                    told = "dataset and one of margin and not_comparable"
                    raise ValueError(f"{claim.id}: runs are to tell, so {cell.id} needs {told}")
        return self


def published_papers() -> tuple[str, ...]:
    """The papers whose printed results are on file, in alphabetical order."""
    return _names("published")


@cache
def load_published(paper: str) -> PublishedPaper:
    """Read and check what a paper printed.

    Args:
        paper: one of `published_papers()`.

    Returns:
        Its tables.

    Raises:
        ValueError: no such file, or one that breaks a rule above.
    """
    return _read("published", paper, PublishedPaper, "paper")


def read_published(path: Path) -> PublishedPaper:
    """Read and check a file of published tables, wherever it lies.

    Args:
        path: YAML of the same form as the files under `data_manifests/published/`.

    Raises:
        DataError: no such file, no YAML, a key given twice, or a rule above is broken.
    """
    return _checked(path, PublishedPaper)


# ---- reading ----------------------------------------------------------------------------------

IN_YAML = {  # rules as whoever writes the file would say them
    "extra_forbidden": "no such field",
    "model_type": "a mapping of fields belongs here",
    "model_attributes_type": "a mapping of fields belongs here",
    "dict_type": "a mapping belongs here",
    "tuple_type": "a list belongs here",
    "union_tag_not_found": f"kind belongs here, one of {', '.join(KINDS)}",
    "union_tag_invalid": f"kind is '{{tag}}', not one of {', '.join(KINDS)}",
}
FORMS = {  # the same for the patterns of text
    SLUG: "lower-case letters and digits, with single hyphens between, such as table1-ours-fer2013",
    FIGURE: "Figure and its number, such as Figure 3 or Figure 3.1",
    HEX32: "32 hexadecimal digits in lower case",
    HEX64: "64 hexadecimal digits in lower case",
}


def _names(kind: str) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in (MANIFESTS / kind).glob("*.yaml")))


def _read(kind: str, name: str, model: type[_Model], key: str) -> Any:
    """The model in `data_manifests/<kind>/<name>.yaml`, whose field `key` must be `name`."""
    if name not in _names(kind):
        raise ValueError(f"{name!r} is not one of {', '.join(_names(kind))}")
    path = MANIFESTS / kind / f"{name}.yaml"
    read = _checked(path, model)
    if getattr(read, key) != name:
        raise DataError(path, f"{key} is {getattr(read, key)!r}, the file is called {name!r}")
    return read


def _checked(path: Path, model: type[_Model]) -> Any:
    """The model in a YAML file; whatever is wrong with it is one sentence with the file's name.

    Raises:
        DataError: no such file, no YAML, a key given twice, or a rule of the model is broken.
    """
    require_file(path)
    read = None
    try:
        read = _yaml(path)
        return model.model_validate(read)
    except DataError:
        raise
    except yaml.YAMLError as error:
        raise DataError(path, f"not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        told = [_sentence(_place(read, one["loc"]), _broken(one)) for one in error.errors()]
        raise DataError(path, "; ".join(told)) from None
    except UnicodeDecodeError:
        raise DataError(path, "not YAML: this is no text in UTF-8") from None
    except ValueError as error:  # a date that there is not
        raise DataError(path, f"not YAML: {error}") from None


def _place(told: Any, steps: Sequence[str | int]) -> str:
    """Where something is in a file; of a list's items, those that have an id are called by it."""
    words = []
    for step in steps:
        try:
            told = told[step]
        except (LookupError, TypeError):
            told = None
        words.append(told.get("id", step) if isinstance(told, dict) else step)
    return ".".join(map(str, words))


def _broken(problem: dict) -> str:
    """The rule that is broken, in words; another field than the model has is most often a slip."""
    context = problem.get("ctx", {})
    if form := FORMS.get(context.get("pattern")):
        return f"{problem['input']!r} is not written as it has to be: {form}"
    if told := IN_YAML.get(problem["type"]):
        return told.format(**context)
    return problem["msg"].removeprefix("Value error, ")


def _sentence(place: str, broken: str) -> str:
    """Place and rule; what both of them name, such as a cell, is named once."""
    name, _, rest = broken.partition(": ")
    if rest and f".{name}." in f".{place}.":
        broken = rest
    # A rule on the whole file has no place in it.
    return ": ".join(filter(None, [place, broken]))


def _number_in(told: Any) -> str | None:
    """A number that stands as text, as YAML would read it; None where there is none."""
    # A digit, as inf and nan may be words.
    if not isinstance(told, str) or not re.search(r"\d", told):
        return None
    try:
        number = int(told) if re.fullmatch(r"\s*[-+]?\d+\s*", told) else float(told)
    except ValueError:
        return None
    return yaml.safe_dump(number).split()[0]


# libyaml's parser where PyYAML has it: seven times as fast.
class _EachKeyOnce(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """A key given twice is an error: YAML forbids it, PyYAML silently keeps the last value."""

    def get_single_node(self) -> yaml.Node | None:
        # Compared as written: merge keys ("<<") bring in those of another mapping only later.
        root = super().get_single_node()
        waiting, seen = [root], set()
        while waiting:
            node = waiting.pop()
            if id(node) in seen:  # aliases lead to the same node
                continue
            seen.add(id(node))
            if isinstance(node, yaml.MappingNode):
                _refuse_repeated_keys([key for key, _ in node.value])
                waiting += [part for pair in node.value for part in pair]
            elif isinstance(node, yaml.SequenceNode):
                waiting += node.value
        return root


def _refuse_repeated_keys(keys: list[yaml.Node]) -> None:
    first: dict[tuple[str, str], yaml.ScalarNode] = {}
    for key in keys:
        if not isinstance(key, yaml.ScalarNode):
            continue
        before = first.setdefault((key.tag, key.value), key)
        if before is not key:
            lines = f"lines {before.start_mark.line + 1} and {key.start_mark.line + 1}"
            raise DataError(key.start_mark.name, f"the key {key.value!r} is given twice, {lines}")


def _yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        DataError: a mapping gives a key twice.
        yaml.YAMLError: no YAML.
    """
    with path.open(encoding="utf-8") as file:
        return yaml.load(file, Loader=_EachKeyOnce)


def _refuse_duplicates(what: str, values: Any) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ValueError(f"{what} not unique: {', '.join(map(str, repeated))}")
