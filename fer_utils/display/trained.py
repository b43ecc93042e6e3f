"""Tables on recorded runs: what was trained, what it cost, and what came out."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise, takewhile
from pathlib import Path

import numpy as np
from IPython.display import HTML, Markdown
from statsmodels.stats.contingency_tables import mcnemar

from fer_utils import metrics
from fer_utils.display.cells import NO_RUN, interval, note, table
from fer_utils.estimates import Estimate, estimate
from fer_utils.gaps import balanced
from fer_utils.records import RESULTS, RunRecord, read_probabilities


def scores(run: RunRecord) -> HTML:
    """Recall, precision and F1 of each expression, and the whole above, in percent."""
    found = run.metrics["test"]

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.1f}"

    rows = [
        {
            "Expression": name,
            "Images": row["support"],
            "Recall": percent(row["recall"]),
            "Precision": percent(row["precision"]),
            "F1": percent(row["f1"]),
        }
        for name, row in found["per_class"].items()
    ]
    caption = (
        f"{found['n']:,} images: accuracy {percent(found['accuracy'])} %, "
        f"balanced accuracy {percent(found['balanced_accuracy'])} %, "
        f"macro F1 {percent(found['macro_f1'])} %"
    )
    return table(rows, caption)


def runs(found: Sequence[RunRecord], fields: Sequence[str]) -> HTML | Markdown:
    """A line a run: the parameters named, what was chosen, accuracies in percent and the cost.

    Parameters that all of the runs share stand above the table. Lines that would be the same but
    for their figures tell in what else their runs differ.
    """
    if not found:
        return note(NO_RUN)
    fields = [*fields, *_told_apart_by(found, fields)]
    told, shared = _told_and_shared(found, fields)
    return table(
        [
            {
                **{field: run.parameters.get(field) for field in told},
                "Seed": run.seed,
                "Epoch chosen": f"{run.selection.epoch} of {len(run.history['loss'])}",
                "Validation": f"{100 * run.metrics['val']['accuracy']:.2f}",
                "Test": f"{100 * run.metrics['test']['accuracy']:.2f}",
                "Minutes": f"{run.timings['training'] / 60:.1f}",
                "Code": _commit(run),
            }
            for run in found
        ],
        "; ".join(shared),
    )


def _commit(run: RunRecord) -> str:
    """Seven digits, and a plus where files had been changed since."""
    return f"{run.code.commit[:7]}{'+' if run.code.modified else ''}" if run.code.commit else ""


def _told_and_shared(
    found: Sequence[RunRecord], fields: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Fields in which runs differ, and in words those that all of them share."""
    values = {field: [run.parameters.get(field) for run in found] for field in fields}
    told = [field for field in fields if len(set(map(str, values[field]))) > 1]
    return told, [f"{field}: {values[field][0]}" for field in fields if field not in told]


def _told_apart_by(found: Sequence[RunRecord], fields: Sequence[str]) -> list[str]:
    """Parameters in which runs differ that have the same seed and the same in these fields."""
    alike: dict[tuple, list[dict]] = {}
    for run in found:
        key = (run.seed, *(str(run.parameters.get(field)) for field in fields))
        alike.setdefault(key, []).append(run.parameters)
    names = dict.fromkeys(name for group in alike.values() for run in group for name in run)
    return [
        name
        for name in names
        if any(len({str(run.get(name)) for run in group}) > 1 for group in alike.values())
    ]


def epochs_and_parts(runs: Sequence[RunRecord]) -> dict[str, str]:
    """What the choice of epoch, of test part and of accuracy does, in words for `open_details`.

    Args:
        runs: full runs with the chapter's own choices, one a seed; none: nothing is told.
    """
    if not runs:
        return {}

    def mean(part: str, figure: str) -> str:
        return f"{100 * np.mean([run.metrics[part][figure] for run in runs]):.2f}"

    def after(epoch: Callable[[RunRecord], int]) -> str:
        """Validation accuracy as training measured it, which is without crops."""
        return f"{100 * np.mean([run.history['val_accuracy'][epoch(run) - 1] for run in runs]):.2f}"

    last, chosen = after(lambda run: 0), after(lambda run: run.selection.epoch)
    return {
        "epoch": f"validation accuracy of the last epoch {last}, of the chosen one {chosen}",
        "test-part": f"on the validation part, which chose the epoch: {mean('val', 'accuracy')}",
        "accuracy": f"element-wise, same predictions: {mean('test', 'elementwise_accuracy')}",
    }


def validation_by(parameter: str, runs: Sequence[RunRecord]) -> dict[str, str]:
    """What values of a parameter give on the validation part, in words for `open_details`.

    Args:
        parameter: that was searched; the detail has its name.
        runs: one a value, or repeats of it; none: nothing is told.

    Raises:
        ValueError: two runs of one value differ, so something else was changed, too.
    """
    found: dict[float, float] = {}
    for run in runs:
        accuracy = 100 * run.metrics["val"]["accuracy"]
        if found.setdefault(run.parameters[parameter], accuracy) != accuracy:
            value = run.parameters[parameter]
            raise ValueError(f"two runs with {parameter} {value} differ: {run.run}")
    told = ", ".join(f"{value}: {accuracy:.2f}" for value, accuracy in sorted(found.items()))
    return {parameter: f"validation accuracy by {parameter}: {told}"} if told else {}


# What a record's parts are, in the order from the honest number to the easiest one.
PARTS = {
    "test": "test",
    "val": "validation, which chose the epoch",
    "train": "training images",
    "trained_on": "training images as balanced",
}


def parts_and_figures(
    runs: Sequence[RunRecord], fields: Sequence[str], against: float | None = None
) -> HTML | Markdown:
    """What the same networks score on each part and in each figure; percent, mean over seeds.

    Args:
        runs: records; those that agree in `fields` stand in one line a part.
        fields: parameters that the lines name.
        against: a published accuracy in percent; what is missing to it then stands beside both
            accuracies, in the place of recall and precision.

    Returns:
        A table whose caption names what all runs share, and the element-wise accuracy of a network
        that predicts nothing.
    """
    if not runs:
        return note(NO_RUN)
    fields, shared = _told_and_shared(runs, fields)
    groups: dict[tuple, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(tuple(run.parameters.get(field) for field in fields), []).append(run)
    rows = []
    for values, group in groups.items():
        for part, words in PARTS.items():
            scored = [
                run.metrics[part]
                for run in group
                if part in run.metrics and (part != "trained_on" or balanced(run))
            ]
            if not scored:
                continue
            precision = [metrics.macro_precision(np.array(s["confusion_matrix"])) for s in scored]
            top1, element = (
                100 * np.mean([s[figure] for s in scored])
                for figure in ("accuracy", "elementwise_accuracy")
            )
            row = {
                **dict(zip((field.capitalize() for field in fields), values, strict=True)),
                "Scored on": words,
                "Seeds": len(scored),
                "Accuracy": f"{top1:.2f}",
            }
            if against is None:
                row |= {
                    "Recall": f"{100 * np.mean([s['balanced_accuracy'] for s in scored]):.2f}",
                    "Precision": f"{100 * np.mean(precision):.2f}",
                    "Element-wise accuracy": f"{element:.2f}",
                }
            else:
                row |= {
                    f"{against:g} minus it": f"{against - top1:+.2f}",
                    "Element-wise accuracy": f"{element:.2f}",
                    f"{against:g} minus it ": f"{against - element:+.2f}",
                }
            rows.append(row)
    classes = len(runs[0].data.classes)
    nothing = f"{100 * (classes - 1) / classes:.1f}"
    told = f"A network whose outputs are all below one half has {nothing} element-wise"
    return table(rows, "; ".join([*shared, told[0].lower() + told[1:] if shared else told]))


def outputs_above_one_half(
    runs: Sequence[RunRecord], fields: Sequence[str], folder: Path = RESULTS
) -> HTML | Markdown:
    """Recall, precision and accuracy of the test part counted over all K outputs of every image.

    So Keras' metrics of these names count: an output is positive above one half. In percent, means
    over seeds.

    Args:
        runs: records that keep their probabilities; those that agree in `fields` stand in one line.
        fields: parameters that the lines name.
        folder: where the probabilities are.

    Raises:
        RecordError: probabilities are missing.
    """
    groups: dict[tuple, list[np.ndarray]] = {}
    for run in runs:
        if run.probabilities:
            probabilities, labels = read_probabilities(run, folder)
            said, true = probabilities > 0.5, np.eye(probabilities.shape[1], dtype=bool)[labels]
            right = (said & true).sum()
            scores = (right / true.sum(), right / max(said.sum(), 1), (said == true).mean())
            values = tuple(run.parameters.get(field) for field in fields)
            groups.setdefault(values, []).append(100 * np.array(scores))
    if not groups:
        return note(NO_RUN)
    names = ("Recall", "Precision", "Element-wise accuracy")
    rows = [
        dict(zip((field.capitalize() for field in fields), values, strict=True))
        | {"Seeds": len(scores)}
        | {name: f"{mean:.2f}" for name, mean in zip(names, np.mean(scores, axis=0), strict=True)}
        for values, scores in groups.items()
    ]
    return table(rows)


def reached(runs: Sequence[RunRecord], fields: Sequence[str], printed: float) -> Markdown:
    """Which part and which meaning of accuracy come up to a printed number; a sentence.

    Args:
        runs: records.
        fields: parameters that name a run; the first speaks for itself, the others are named.
        printed: in percent.
    """
    figures = {"accuracy": "top-1", "elementwise_accuracy": "element-wise"}
    found = [
        f"{PARTS[part]}, {words}: {100 * run.metrics[part][figure]:.2f} "
        f"({_named(run, [*fields, 'seed'])})"
        for run in runs
        for part in PARTS
        for figure, words in figures.items()
        if part in run.metrics and 100 * run.metrics[part][figure] >= printed
    ]
    if not found:
        return Markdown(f"No run reaches {printed:g}.")
    return Markdown(f"Single runs that reach {printed:g}: {'; '.join(found)}.")


def _named(run: RunRecord, fields: Sequence[str]) -> str:
    """Such as "skips; balancing: train"; what a run has no value of is left out."""
    given = {name: run.parameters.get(name) for name in fields}
    return "; ".join(
        str(value) if name == fields[0] else f"{name.replace('_', ' ')}: {value}"
        for name, value in given.items()
        if value is not None
    )


def by_settings(runs: Sequence[RunRecord], fields: Sequence[str]) -> dict[str, list[RunRecord]]:
    """Runs that agree in these parameters together, by their values in words."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(_named(run, fields), []).append(run)
    return groups


def before_first_fall(runs: Sequence[RunRecord]) -> Markdown | None:
    """In how many runs the epoch that was kept lies before the learning rate first fell.

    Args:
        runs: records whose history has the rate of each epoch.

    Returns:
        A sentence; None where no rate falls.
    """
    falls = set()
    early = 0
    for run in runs:
        rates = run.history["learning_rate"]
        fall = next(
            (epoch + 1 for epoch in range(1, len(rates)) if rates[epoch] < rates[epoch - 1]), None
        )
        falls.add(fall)
        early += fall is None or run.selection.epoch < fall
    if not falls - {None}:
        return None
    first = ", ".join(str(fall) for fall in sorted(falls - {None}))
    return Markdown(
        f"In {early} of {len(runs)} runs of the schedule the epoch that was kept, the first with "
        f"the highest validation accuracy, lies before the rate falls for the first time "
        f"(epoch {first})."
    )


def fusions_with_members(
    recorded: Sequence[RunRecord], members: Collection[str]
) -> list[tuple[RunRecord, RunRecord]]:
    """Each fusion of networks beside each of its members, trained with the same parameters.

    Args:
        recorded: runs whose parameter "model" says what was trained.
        members: the models that fusions are made of.
    """
    pairs = []
    for fusion in recorded:
        same = {**fusion.parameters, "model": None, "members": []}
        pairs += [
            (fusion, member)
            for member in recorded
            if fusion.parameters["model"].startswith("fusion")
            and member.parameters["model"] in members
            and {**member.parameters, "model": None} == same
        ]
    return pairs


def paired(pairs: Sequence[tuple[RunRecord, RunRecord]]) -> HTML | Markdown:
    """Two models on the same test images: what one of them alone gets right, and McNemar's test.

    Args:
        pairs: recorded runs with their probabilities, scored on the same images.

    Raises:
        RecordError: probabilities are missing.
    """
    if not pairs:
        return note("No fusion is recorded together with its members.")
    rows = []
    for first, second in pairs:
        right = []
        for run in (first, second):
            probabilities, labels = read_probabilities(run)
            right.append(probabilities.argmax(axis=1) == labels)
        one, other = right
        counts = np.array([[(a & b).sum() for b in (other, ~other)] for a in (one, ~one)])
        p = mcnemar(counts, exact=True).pvalue
        rows.append(
            {
                "Model": first.parameters["model"],
                "Against": second.parameters["model"],
                "Epochs": first.parameters["epochs"],
                "Seed": first.seed,
                "It alone right": counts[0, 1],
                "The other alone right": counts[1, 0],
                "Points": f"{100 * (one.mean() - other.mean()):+.2f}",
                "p": "under 0.001" if p < 0.001 else f"{p:.3f}",
            }
        )
    return table(rows)


def contradicted(run: RunRecord, found: Sequence[Mapping]) -> HTML:
    """Wrong predictions that a run is surest of, with what people said of the same picture.

    Args:
        run: whose predictions they are.
        found: of `experiments.contradicted`.
    """
    rows = [
        {
            "Row": told["row"],
            "Label of FER2013": told["label"],
            "Predicted": told["predicted"],
            "Probability": f"{told['probability']:.3f}",
            "Votes of FER+": ", ".join(
                f"{answer} {number}"
                for answer, number in sorted(told["votes"].items(), key=lambda vote: -vote[1])
            ),
        }
        for told in found
    ]
    model, epochs = run.parameters["model"], run.parameters["epochs"]
    return table(rows, f"{model}, {epochs} epochs, seed {run.seed}")


# Which test images of FER+ count, from the rule that keeps most to the one that keeps fewest.
RULES = {
    "any": "at least one vote for an expression",
    "plurality": "an expression leads the votes, alone or with others",
    "probability": "the leading expressions hold more than half",
    "multi_target": "answers with 30 % hold more than half, an expression leads",
    "majority": "one expression has more than half",
}
OUTLIERS = (
    "Halves and 30 % are of the votes that are left when an answer's only vote is dropped, as "
    "FER+'s authors do."
)


def by_rule(runs: Sequence[RunRecord]) -> dict[str, Estimate]:
    """Accuracy in percent of the same predictions under each of `RULES`; empty without runs.

    Args:
        runs: on FER+, whose records score the part "test_" + rule for every rule.
    """
    if not runs:
        return {}
    return {rule: estimate(runs, "accuracy", "percent", part=f"test_{rule}") for rule in RULES}


def rules(found: Mapping[str, Estimate]) -> HTML | Markdown:
    """How the rule for which test images count moves an accuracy.

    Args:
        found: of `by_rule`.
    """
    if not found:
        return note(NO_RUN)
    return table(
        [
            {
                "Test images that stay": RULES[rule],
                "Images": f"{ours.n_test:,}",
                "Accuracy, %": interval(ours),
            }
            for rule, ours in found.items()
        ],
        OUTLIERS,
    )


def kind(run: RunRecord) -> str:
    """Full, reduced or a contrast, as the legend of verdicts has these words."""
    return "contrast" if "contrast" in run.parameters else run.profile


def training_seconds(found: Sequence[RunRecord]) -> float:
    """What the training of runs took together; epochs that several of them share count once.

    A run that went on from one with fewer epochs has the seconds of those in its own.
    """
    groups: dict[str, list[RunRecord]] = {}
    for run in found:
        same = {**run.parameters, "epochs": None}
        groups.setdefault(json.dumps([run.paper, same], sort_keys=True), []).append(run)
    total = sum(run.timings.get("training", 0) for run in found)
    for group in groups.values():
        if len(group) == 1:  # to read a history takes time
            continue
        # In this order each one shares the most with the one before it.
        for one, other in pairwise(sorted(run.history.get("seconds", []) for run in group)):
            both = zip(one, other, strict=False)
            total -= sum(first for first, _ in takewhile(lambda pair: pair[0] == pair[1], both))
    return total


def devices(found: Sequence[RunRecord]) -> str:
    """What runs were computed on, each device once, such as "a processor, 1 core"."""
    names = {}
    for device in (call for run in found for call in run.device.get("calls", [run.device])):
        used = device.get("threads") or device.get("cores")
        cores = f", {used} core{'' if used == 1 else 's'}" if device.get("kind") == "cpu" else ""
        name = device.get("gpu") or device.get("model") or device.get("kind", "unknown")
        wide = f" with {device['instructions']}" if cores and "instructions" in device else ""
        names[f"{name}{wide}{cores}"] = None
    return "; ".join(names)
