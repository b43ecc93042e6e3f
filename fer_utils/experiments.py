"""One run from loaded data to a record: train, choose on validation, score the test part once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from fer_utils import locks, metrics, provenance, records, splits
from fer_utils.datasets import FaceDataset, array_hash, load
from fer_utils.folds import SUBJECT_KFOLD
from fer_utils.manifests import load_manifest, published_papers
from fer_utils.parameters import ChapterParameters, ParameterError
from fer_utils.splits import Split
from fer_utils.training import checkpoints

Protocol = Literal["official", "stratified", "subject_kfold", "leave_one_subject_out"]

# Parameters of chapters that a run keeps elsewhere: `run` refuses an epoch chosen on the test part
# without "contrast", and `Plan.settings` adds the number of faces where they are drawn.
KEPT_OTHERWISE = ("choose_on", "images")


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
    return replace(data, loaded=array_hash(data.images, data.labels))


def load_parts(
    dataset: str,
    protocol: Protocol,
    *,
    seed: int,
    fold: int | None = None,
    root: str | Path | None = None,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    **options: Any,
) -> tuple[FaceDataset, Split]:
    """A data set and its rows in training, validation and test.

    Args:
        dataset: a manifest's name.
        protocol: "official" parts, "stratified" by image, "subject_kfold" (5 folds) or
            "leave_one_subject_out".
        seed: what draws the split; the data themselves do not depend on it.
        fold: 0-based, where a protocol has several; None where it has one.
        root: the data root, see `datasets.load`.
        fractions: shares of training, validation and test, where images are drawn.
        options: for `datasets.load`.

    Raises:
        ParameterError: a fold that the protocol does not have, or official parts that are none.
        DataError: the data are absent or not what they should be.
        ValueError: the set has no subjects, or too few images or people of an expression; see
            `splits`.
    """
    data = load_data(dataset, root, **options)
    if protocol == "official" and data.split is None:
        raise ParameterError(
            f"protocol = 'official': {dataset} has no official parts; take another protocol."
        )
    if protocol == "official":
        found = [splits.official(data)]
    elif protocol == "stratified":
        found = [splits.stratified(data, fractions, seed)]
    elif protocol == "subject_kfold":
        found = splits.subject_kfold(data, SUBJECT_KFOLD, seed=seed)
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

    Raises:
        CheckpointError: below `work` lies a run of this name with other settings.
        ValueError: there is no such paper, the epoch is chosen on the test part and `parameters` do
            not say so, `named` has what is no parameter, an entry point does not exist, images
            have no label, or the model predicts what are no numbers.
    """
    if paper not in published_papers():
        raise ValueError(f"paper = {paper!r}: one of {', '.join(published_papers())}")
    if choose_on == "test" and not parameters.get("contrast"):
        raise ValueError("a run whose epoch is chosen on the test part must say so as contrast")
    parts = {name: data.subset(getattr(split, name)) for name in ("train", "val", "test")}
    code = provenance.code_hash(entry_points)
    data_hash = array_hash(data.images, data.labels)
    split_hash = array_hash(split.train, split.val, split.test)

    def name_of(parameters: dict[str, Any]) -> str:
        words = label(parameters, named)
        return records.run_name(words, parameters, data_hash, split_hash, code)

    name = name_of(parameters)
    folder = Path(work) / name
    folder.mkdir(parents=True, exist_ok=True)
    versions = provenance.versions()

    seed = parameters["seed"]
    loop.prepare(seed, threads)
    model = build()
    train = parts["train"] if prepare_train is None else prepare_train(parts["train"])
    with locks.alone_in(folder, f"Waiting for another process that trains {name}."):
        for epochs in sorted(shorter, reverse=True):
            if epochs < parameters["epochs"]:
                begun = Path(work) / name_of({**parameters, "epochs": epochs})
                checkpoints.extend(begun, folder, parameters["epochs"])
        if said := checkpoints.keep_to_versions(folder, versions, loop.FRAMEWORK):
            print(said, flush=True)
        device = _device(folder, {**provenance.device(), "threads": threads})
        started = time.perf_counter()
        fit = loop.fit(
            model,
            train,
            parts[choose_on],
            epochs=parameters["epochs"],
            batch_size=parameters["batch_size"],
            seed=seed,
            folder=folder,
            augment=augment,
            select=parameters["select"],
            learning_rate=learning_rate,
        )
        trained = time.perf_counter()
    predict = predict or loop.predict
    val, test = (predict(model, parts[part].images) for part in ("val", "test"))
    predicted = time.perf_counter()
    if not all(np.isfinite(found).all() for found in (val, test, *fit.history.values())):
        what = (
            "its losses are no numbers" if np.isfinite(test).all() else "predicts no probabilities"
        )
        raise ValueError(f"{name}: {what}; its training has diverged")

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
        persons=_persons(data.subjects, parts["test"], test),
        history=fit.history,
        timings={
            "training": sum(seconds),
            "this_call": trained - started,
            "epoch": float(np.median(seconds)),
            "prediction": predicted - trained,
        },
        device=device,
        versions=versions,
        code=records.Code(entry_points=entry_points, sha256=code, **provenance.commit()),
        created=records.now(),
    )
    return Run(record, test, parts["test"].labels, model)


def _device(folder: Path, here: dict[str, Any]) -> dict[str, Any]:
    """What computes a run: this call's device, or all of those whose epochs the run consists of.

    Each call's is kept in `devices.json` beside the checkpoints, with how many epochs were finished
    before it; epochs of before the first one there count as that one's.

    Args:
        folder: of the run; no other process trains in it.
        here: this call's.

    Returns:
        `here`; or, where they differ, kind "mixed" or what kind they all are, their names as model,
        and each of them in "calls".
    """

    def told(name: str, otherwise: Any) -> Any:
        try:
            return json.loads((folder / name).read_text())
        except (OSError, ValueError):  # of a damaged state `fit` says what to do
            return otherwise

    begun = told("state.json", {}).get("epoch", 0)
    # A call that finished no epoch, or whose epochs were dropped, took no part.
    calls = [call for call in told("devices.json", []) if call["after"] < begun]
    calls.append({**here, "after": begun})
    checkpoints.write_atomically(folder / "devices.json", json.dumps(calls, indent=1).encode())
    devices: list[dict[str, Any]] = []
    for call in calls:
        device = {key: value for key, value in call.items() if key != "after"}
        if device not in devices:
            devices.append(device)
    if len(devices) == 1:
        return here
    kinds = {device["kind"] for device in devices}
    names = dict.fromkeys(device.get("gpu") or device["model"] for device in devices)
    kind = kinds.pop() if len(kinds) == 1 else "mixed"
    return {"kind": kind, "model": " and ".join(names), "calls": devices}


def _persons(
    everybody: np.ndarray | None, test: FaceDataset, probabilities: np.ndarray
) -> dict[str, list[int]] | None:
    """Who is on the test images, how many each, and how many are right; None where not known."""
    if everybody is None:
        return None
    person = np.searchsorted(np.unique(everybody), test.subjects)
    right = probabilities.argmax(axis=1) == test.labels
    images = np.bincount(person)
    seen = np.flatnonzero(images)
    return {
        "numbers": seen.tolist(),
        "images": images[seen].tolist(),
        "correct": np.bincount(person, weights=right)[seen].astype(int).tolist(),
    }


def label(parameters: dict[str, Any], named: tuple[str, ...] = ()) -> str:
    """What a person calls a run, such as "fer2013-official-depthwise-dropout0.2-seed0".

    Args:
        parameters: of the run.
        named: which of them the name shows; a word stands alone, a number after its name.

    Raises:
        ValueError: one of `named` is no parameter of the run.
    """
    for key in named:
        if key not in parameters:
            raise ValueError(f"named = {key!r}: one of {', '.join(parameters)}")
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
        ways = "leave profile out" + (", or ask for reduced" if found == "trial" else "")
        told = f"profile = {asked!r}: with these parameters it is a {found} run; {ways}."
        raise ParameterError(told)
    return found


def scored_again(run: Run, kept: Mapping[str, np.ndarray]) -> Run:
    """A run whose record also tells what the same predictions score on some of the test images.

    Args:
        run: as it was made.
        kept: bool (N,) of the test images, by the part's name.
    """
    names = run.record.data.classes
    return _with_scores(
        run,
        {
            part: metrics.score(run.labels[rows], run.probabilities[rows], names)
            for part, rows in kept.items()
        },
    )


def scored_besides(run: Run, part: str, probabilities: np.ndarray) -> Run:
    """A run whose record also tells what other predictions of the test part score.

    Args:
        run: as it was made; its own predictions stay its own.
        part: a name that begins with "test_".
        probabilities: float32 (N, K) of the test part.
    """
    names = run.record.data.classes
    return _with_scores(run, {part: metrics.score(run.labels, probabilities, names)})


def _with_scores(run: Run, more: Mapping[str, dict]) -> Run:
    scores = {**run.record.metrics, **more}
    return replace(run, record=run.record.model_copy(update={"metrics": scores}))


@dataclass(frozen=True)
class Plan:
    """What a chapter is asked to run, with the paper's own values where it was told none.

    Args:
        chosen: the chapter's checked parameters.
        dataset: a manifest's name.
        protocol, fold: see `load_parts`.
        epochs, batch_size: of the training.
        profile: see `profile_of`.
    """

    chosen: ChapterParameters
    dataset: str
    protocol: Protocol
    fold: int | None
    epochs: int
    batch_size: int
    profile: records.Profile

    @property
    def folder(self) -> Path:
        """Where the records go."""
        return Path(self.chosen.records_dir or f"{self.chosen.output_dir}/records")

    def load_data(self, like: str = "fer2013", **options: Any) -> FaceDataset:
        """The data set as a whole.

        Args:
            like: where faces are drawn, the set whose expressions they show.
            options: for `datasets.load`.
        """
        return load_data(self.dataset, self.chosen.data_root, **self._drawn(like), **options)

    def load_parts(
        self,
        like: str = "fer2013",
        fractions: Sequence[float] = (0.8, 0.1, 0.1),
        **options: Any,
    ) -> tuple[FaceDataset, Split]:
        """The data set and its rows in training, validation and test.

        Args:
            like, options: see `load_data`.
            fractions: see `load_parts` of this module.
        """
        return load_parts(
            self.dataset,
            self.protocol,
            seed=self.chosen.seed,
            fold=self.fold,
            root=self.chosen.data_root,
            fractions=fractions,
            **self._drawn(like),
            **options,
        )

    def _drawn(self, like: str) -> dict[str, Any]:
        if self.dataset != "synthetic":
            return {}
        return {"count": self.chosen.images, "expressions": load_manifest(like).class_names}

    def settings(self, **own: Any) -> dict[str, Any]:
        """Every choice that makes the run, for `run` and the record.

        Args:
            own: what the paper's own network and training take.
        """
        settings = {
            "dataset": self.dataset,
            "protocol": self.protocol,
            "fold": self.fold,
            **own,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "select": "val_accuracy",
            "seed": self.chosen.seed,
        }
        if self.dataset == "synthetic":
            settings["images"] = self.chosen.images
        return settings

    def run(self, data: FaceDataset, split: Split, **how: Any) -> Run:
        """Train and score; the plan knows the profile, the cores and where checkpoints are kept.

        Args:
            data, split: see `run` of this module.
            how: its other arguments.

        Raises:
            ValueError: see `run` of this module; or the chapter was told a parameter that
                `parameters` lack: a run with another value would be taken for this one.
        """
        named = {*ChapterParameters.model_fields, *KEPT_OTHERWISE, *how["parameters"]}
        for name, field in type(self.chosen).model_fields.items():
            value = getattr(self.chosen, name)
            if name not in named and value != field.default:
                raise ValueError(
                    f"{name} = {value!r}: the parameters of the run do not name it, so this run "
                    "would be taken for one with another value; give it to plan.settings"
                )
        return run(
            data=data,
            split=split,
            profile=self.profile,
            work=f"{self.chosen.output_dir}/runs",
            threads=self.chosen.threads,
            **how,
        )

    def write(self, run: Run) -> Path:
        """Write a run's record and probabilities; see `records.write`."""
        return records.write(run.record, run.probabilities, run.labels, self.folder)

    def write_beside(self, run: Run, kind: str, told: Any, name: str = "") -> Path:
        """Write what else a run has found, where `found_beside` reads it.

        Args:
            run: whose record is written already.
            kind: the folder beside the records.
            told: JSON-ready.
            name: of the file; empty for the run's own.

        Returns:
            `<folder>/<paper>/<kind>/<name>.json`.
        """
        path = self.folder / run.record.paper / kind / f"{name or run.record.run}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(told, indent=1) + "\n")
        return path


def plan(
    chosen: ChapterParameters,
    paper: Mapping[str, tuple[int, int]],
    smoke: tuple[int, int],
    *,
    protocols: Mapping[str, Protocol] | None = None,
    lengths: Sequence[int] = (),
    as_published: bool = True,
) -> Plan:
    """Complete a chapter's parameters with the paper's own values.

    Args:
        chosen: what the chapter was told.
        paper: data set -> epochs and batch size of the paper; a full run that names no data set
            takes the first.
        smoke: epochs and batch size on synthetic faces.
        protocols: of the data sets without official parts; on others, another protocol than the
            official one is not the paper's.
        lengths: numbers of epochs that the paper has besides.
        as_published: whether all else that was chosen is as in the paper.

    Raises:
        ParameterError: see `profile_of`; or a record that would not be kept in `records_dir`.
    """
    dataset = chosen.dataset or (next(iter(paper)) if chosen.profile == "full" else "synthetic")
    protocol = getattr(chosen, "protocol", None) or (protocols or {}).get(dataset, "official")
    fold = getattr(chosen, "fold", None)
    if fold is None and protocol in ("subject_kfold", "leave_one_subject_out"):
        fold = 0
    usual = paper.get(dataset, smoke)
    epochs, batch_size = chosen.epochs or usual[0], chosen.batch_size or usual[1]
    same_length = epochs in (usual[0], *lengths) and batch_size == usual[1]
    by_protocol = protocol == "official" or dataset in (protocols or {})
    published = as_published and by_protocol and dataset in paper and same_length
    profile = profile_of(dataset, published, chosen.profile)
    if chosen.records_dir and not records.takes(chosen.records_dir, profile):
        raise ParameterError(
            f"records_dir = {chosen.records_dir!r}: takes full and reduced runs, and this is a "
            f"{profile} run; leave records_dir out."
        )
    return Plan(chosen, dataset, protocol, fold, epochs, batch_size, profile)


def found_beside(paper: str, kind: str, folder: Path = records.RESULTS) -> dict[str, Any]:
    """What `Plan.write_beside` has kept of a paper's runs, by name."""
    paths = sorted((Path(folder) / paper / kind).glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf8")) for path in paths}


def contradicted(
    run: Run, rows: np.ndarray, votes: np.ndarray, answers: Sequence[str], count: int = 12
) -> list[dict[str, Any]]:
    """The wrong predictions that a run is surest of, with what people said of the same picture.

    Args:
        run: on FER2013.
        rows: int (N,), rows of its test images in the whole set.
        votes: int (M, V), how many taggers gave each answer to each row of the whole set.
        answers: the V answers.
        count: how many predictions at most.

    Returns:
        JSON-ready, the surest first: row, label, predicted, probability, votes by answer.
    """
    names = run.record.data.classes
    predicted = run.probabilities.argmax(axis=1)
    sure = run.probabilities.max(axis=1) * (predicted != run.labels)
    return [
        {
            "row": int(rows[n]),
            "label": names[run.labels[n]],
            "predicted": names[predicted[n]],
            "probability": round(float(sure[n]), 4),
            "votes": {
                answer: int(number)
                for answer, number in zip(answers, votes[rows[n]], strict=True)
                if number
            },
        }
        for n in np.argsort(-sure, kind="stable")[:count]
        if sure[n]  # 0 where the prediction is right
    ]
