"""One run from loaded data to a record: train, choose on validation, score the test part once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from fer_utils import metrics, provenance, records, splits
from fer_utils.datasets import FaceDataset, load
from fer_utils.parameters import ParameterError
from fer_utils.splits import Split
from fer_utils.training import checkpoints

Protocol = Literal["official", "stratified", "subject_kfold", "leave_one_subject_out"]
FOLDS = 5  # of subject_kfold


@dataclass(frozen=True)
class Run:
    """What a run leaves behind.

    Args:
        record: of what was done and what came out.
        probabilities: float32 (N, K) of the test part.
        labels: int64 (N,) of the test part.
        model: with the chosen epoch's weights.
    """

    record: records.RunRecord
    probabilities: np.ndarray
    labels: np.ndarray
    model: Any


def load_data(dataset: str, root: str | Path | None = None, **options: Any) -> FaceDataset:
    """A data set that remembers what was loaded, whatever preprocessing makes of it.

    Args:
        dataset, root, options: see `datasets.load`.
    """
    data = load(dataset, root, **options)
    return replace(data, loaded=records.array_hash(data.images, data.labels))


def load_parts(
    dataset: str,
    protocol: Protocol,
    *,
    seed: int,
    fold: int | None = None,
    root: str | Path | None = None,
    **options: Any,
) -> tuple[FaceDataset, Split]:
    """A data set and its rows in training, validation and test.

    Args:
        dataset: a manifest's name.
        protocol: "official" parts, "stratified" by image (80/10/10), "subject_kfold" (5 folds) or
            "leave_one_subject_out".
        seed: what draws the split; the data themselves do not depend on it.
        fold: 0-based, where a protocol has several; None where it has one.
        root: the data root, see `datasets.load`.
        options: for `datasets.load`.

    Raises:
        ParameterError: a fold that the protocol does not have.
        DataError: the data are absent or not what they should be.
    """
    data = load_data(dataset, root, **options)
    if protocol == "official":
        found = [splits.official(data)]
    elif protocol == "stratified":
        found = [splits.stratified(data, seed=seed)]
    elif protocol == "subject_kfold":
        found = splits.subject_kfold(data, FOLDS, seed=seed)
    else:
        found = splits.leave_one_subject_out(data, seed=seed)
    if (fold or 0) >= len(found) or (fold is None) != (len(found) == 1):
        raise ParameterError(
            f"fold = {fold}: with {protocol}, {dataset} has "
            + (f"folds 0 to {len(found) - 1}" if len(found) > 1 else "no folds")
        )
    return data, found[fold or 0]


def run(
    *,
    loop: ModuleType,
    paper: str,
    parameters: dict[str, Any],
    profile: records.Profile,
    data: FaceDataset,
    split: Split,
    build: Callable[[], Any],
    entry_points: tuple[str, ...],
    work: str | Path,
    named: tuple[str, ...] = (),
    prepare_train: Callable[[FaceDataset], FaceDataset] | None = None,
    augment: Callable | None = None,
    learning_rate: Callable[[dict[str, list[float]]], float | None] | None = None,
    predict: Callable[[Any, np.ndarray], np.ndarray] | None = None,
    shorter: tuple[int, ...] = (),
    score_also: tuple[Literal["train", "trained_on"], ...] = (),
    choose_on: Literal["val", "test"] = "val",
    threads: int = 0,
) -> Run:
    """Train a model on one split and score it.

    Args:
        loop: `training.keras_loop` or `training.torch_loop`: prepare, fit, predict and size.
        paper: bibkey of the paper.
        parameters: every choice that makes this run, JSON-ready: dataset, protocol, fold, epochs,
            batch_size, seed, select (see `fit` of the loop) and what the paper's own network takes.
            The record keeps it, `published` tables select by it, and a checkpoint made with other
            parameters is not picked up.
        profile: smoke, trial, reduced or full; see `profile_of`.
        data: all images.
        split: rows of its three parts.
        build: returns a compiled model; called after seeding.
        entry_points: the package's functions that make the numbers, for the record's code hash.
        work: below it the run keeps its checkpoints, by name.
        named: parameters that the record's name shows.
        prepare_train: applied to the training part alone, such as balancing; None for nothing.
        augment, learning_rate: see `fit` of the loop.
        predict: from (model, images) to probabilities float32 (N, K); None for the loop's own.
        shorter: numbers of epochs; where the same run with one of them is finished below `work`,
            this one goes on from there. Only for schedules that do not depend on the total.
        score_also: further parts to score, which no verdict reads: "train", the training part, and
            "trained_on", what `prepare_train` made of it.
        choose_on: the part whose accuracy chooses the epoch. "test" is wrong and there to show how
            much it adds; `parameters` must then say so as "contrast", which keeps the record from
            every cell that does not ask for it.
        threads: cores to use, 0 for all.

    Returns:
        The record, not yet written, the test probabilities and the model.
    """
    if choose_on == "test" and not parameters.get("contrast"):
        raise ValueError("a run whose epoch is chosen on the test part must say so as contrast")
    parts = {name: data.subset(getattr(split, name)) for name in ("train", "val", "test")}
    code = provenance.code_hash(entry_points)
    data_hash = records.array_hash(data.images, data.labels)
    split_hash = records.array_hash(split.train, split.val, split.test)

    def name_of(parameters: dict[str, Any]) -> str:
        words = label(parameters, named)
        return records.run_name(words, parameters, data_hash, split_hash, code)

    name = name_of(parameters)
    for epochs in sorted(shorter, reverse=True):
        if epochs < parameters["epochs"]:
            begun = Path(work) / name_of({**parameters, "epochs": epochs})
            checkpoints.extend(begun, Path(work) / name, parameters["epochs"])

    seed = parameters["seed"]
    loop.prepare(seed, threads)
    model = build()
    train = parts["train"] if prepare_train is None else prepare_train(parts["train"])
    started = time.perf_counter()
    fit = loop.fit(
        model,
        train,
        parts[choose_on],
        epochs=parameters["epochs"],
        batch_size=parameters["batch_size"],
        seed=seed,
        folder=Path(work) / name,
        augment=augment,
        select=parameters["select"],
        learning_rate=learning_rate,
    )
    trained = time.perf_counter()
    predict = predict or loop.predict
    val, test = (predict(model, parts[part].images) for part in ("val", "test"))
    predicted = time.perf_counter()

    scores = {
        "val": metrics.score(parts["val"].labels, val, data.class_names),
        "test": metrics.score(parts["test"].labels, test, data.class_names),
    }
    learnt = {"train": parts["train"], "trained_on": train}
    for part in score_also:
        seen = learnt[part]
        scores[part] = metrics.score(seen.labels, predict(model, seen.images), data.class_names)
    seconds = fit.history["seconds"]
    weights, products = loop.size(model, parts["test"].images)
    record = records.RunRecord(
        paper=paper,
        run=name,
        profile=profile,
        parameters=parameters,
        seed=seed,
        data=records.DataUsed(
            name=data.name,
            images=len(data),
            classes=data.class_names,
            sources=data.hashes,
            sha256=data_hash,
            loaded=data.loaded,
        ),
        split=records.SplitUsed(
            name=split.name,
            description=split.description,
            seed=split.seed,
            sizes={part: len(rows) for part, rows in parts.items()},
            trained_on=len(train),
            sha256=split_hash,
        ),
        model=records.ModelUsed(parameters=weights, multiply_accumulates=products),
        selection=records.Selection(
            rule=fit.selection.replace(
                "validation", "validation" if choose_on == "val" else "test"
            ),
            epoch=fit.best_epoch,
        ),
        metrics=scores,
        persons=_persons(parts["test"], test),
        history=fit.history,
        timings={
            "training": sum(seconds),
            "this_call": trained - started,
            "epoch": float(np.median(seconds)),
            "prediction": predicted - trained,
        },
        device={**provenance.device(), "threads": threads},
        versions=provenance.versions(),
        code=records.Code(entry_points=entry_points, sha256=code, **provenance.commit()),
        created=records.now(),
    )
    return Run(record, test, parts["test"].labels, model)


def _persons(data: FaceDataset, probabilities: np.ndarray) -> dict[str, list[int]] | None:
    """Images of each person and how many of them are right; None where persons are not known."""
    if data.subjects is None:
        return None
    _, person = np.unique(data.subjects, return_inverse=True)
    right = probabilities.argmax(axis=1) == data.labels
    return {
        "images": np.bincount(person).tolist(),
        "correct": np.bincount(person, weights=right).astype(int).tolist(),
    }


def label(parameters: dict[str, Any], named: tuple[str, ...] = ()) -> str:
    """What a person calls a run, such as "fer2013-official-depthwise-dropout0.2-seed0".

    Args:
        parameters: of the run.
        named: which of them the name shows; a word stands alone, a number after its name.
    """
    fold = "" if parameters["fold"] is None else parameters["fold"]
    words = [parameters["dataset"], f"{parameters['protocol']}{fold}"]
    for key in named:
        value = parameters[key]
        words.append(value if isinstance(value, str) else f"{key}{value}")
    return "-".join([*words, f"seed{parameters['seed']}"])


def profile_of(
    dataset: str, as_published: bool, asked: records.Profile | None = None
) -> records.Profile:
    """What a run amounts to.

    Smoke on synthetic faces; full on real data with the paper's own settings; trial with others.
    A trial may be asked for as "reduced": the paper's settings but for a number of epochs or the
    like that this machine can finish. Its record is kept, and no verdict reads it.

    Raises:
        ParameterError: another profile was asked for than the other parameters amount to.
    """
    found = "smoke" if dataset == "synthetic" else "full" if as_published else "trial"
    if found == "trial" and asked == "reduced":
        found = "reduced"
    if asked not in (None, found):
        raise ParameterError(f"profile = {asked!r}: with these parameters it is a {found} run.")
    return found
