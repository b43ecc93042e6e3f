"""The accuracies of the expressions against the overall accuracy, for every part it may be on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fer_utils.arithmetic import (
    RULES,
    Printed,
    Rule,
    room,
)
from fer_utils.audit.cells import (
    candidate_parts,
    figure,
    models,
    named_part,
    shown_in,
    table_of,
    together,
)
from fer_utils.audit.findings import Finding, Outcome, Passed, either, joined, span
from fer_utils.manifests import (
    PublishedCell,
    PublishedPaper,
    load_manifest,
)

HOW: dict[Rule, str] = {
    "half up": "rounded half up",
    "half even": "rounded half to even",
    "cut off": "cut off",
}


@dataclass(frozen=True)
class Column:
    """A model of a table: its overall accuracy and the recalls of all expressions.

    Args:
        label: table, row and column of the accuracy.
        cell: the accuracy's cell.
        recalls: by expression; None where no number was printed.
    """

    label: str
    cell: PublishedCell
    recalls: Mapping[str, Printed | None]

    @property
    def printed(self) -> Printed:
        """The accuracy."""
        return figure(self.cell)

    def excluded_by(self, supports: Mapping[str, int], rule: Rule) -> str | None:
        """Why these images cannot give the column; None where they can."""
        found = room(self.recalls, supports, rule)
        if found.impossible:
            name = found.impossible[0]
            told = f"{self.recalls[name]} % of {supports[name]} images of {name} is no whole number"
            more = len(found.impossible) - 1
            return told + (f", nor are {more} more" if more else "")
        low, high = self.printed.bounds
        if high < found.low or low > found.high:
            left = span((found.low, found.high))
            return f"{self.printed} % printed, {left} % left"
        return None


def columns(paper: PublishedPaper) -> list[Column]:
    """Accuracies whose model has a recall printed for every expression; each pair once."""
    found = []
    for cells in models(paper).values():
        recalls = {c.expression: figure(c) for c in cells if c.metric == "recall"}
        if not recalls or not cells[0].dataset:
            continue
        every = (load_manifest(cells[0].dataset).class_names, shown_in(cells[0].dataset))
        if set(recalls) not in map(set, every):
            continue
        accuracies = {figure(c): c for c in reversed(cells) if c.metric == "accuracy" and figure(c)}
        found += [
            Column(f"{table_of(paper, c)}, {c.column}", c, recalls) for c in accuracies.values()
        ]
    return found


def fitting_rules(found: Sequence[Column], supports: Mapping[str, int]) -> list[Rule]:
    """The rules under which images with these supports can give all columns."""
    return [rule for rule in RULES if not any(c.excluded_by(supports, rule) for c in found)]


def share_of_draws(found: Sequence[Column], n: int, draws: int = 1000) -> float:
    """How often n images drawn at random from the whole set can give all columns, under some rule.

    Args:
        found: of one data set.
        n: images in a draw.
        draws: how many.
    """
    dataset = found[0].cell.dataset
    names = load_manifest(dataset).class_names
    whole = together(dataset, tuple(load_manifest(dataset).splits))
    drawn = np.random.default_rng(0).multivariate_hypergeometric(
        [whole[name] for name in names], n, draws
    )
    fitting = [
        bool(fitting_rules(found, dict(zip(names, row, strict=True)))) for row in drawn.tolist()
    ]
    return float(np.mean(fitting))


def accuracy_by_class(paper: PublishedPaper) -> Iterator[Outcome]:
    """Recalls of the expressions against the overall accuracy, for every part it may be on.

    All is well where the part that the cells name can give all of them.
    """
    by_part: dict[tuple[str, str], list[Column]] = {}
    for column in columns(paper):
        by_part.setdefault((column.cell.dataset, column.cell.part), []).append(column)
    for (dataset, _), found in by_part.items():
        parts = candidate_parts(dataset)
        if not parts:
            yield Passed(paper.paper, "accuracy by class", _ids(found), vacuous=True)
            continue
        sound = []
        for column in found:
            if any(fitting_rules([column], supports) for supports in parts.values()):
                sound.append(column)
            else:
                yield _impossible_column(paper.paper, column, parts)
        if sound:
            yield _parts_left(paper.paper, dataset, sound, parts)


def _impossible_column(paper: str, column: Column, parts: dict[str, dict[str, int]]) -> Finding:
    listed = [
        f"{label}, {HOW[rule]}: {column.excluded_by(supports, rule)}"
        for label, supports in parts.items()
        for rule in ("half even", "cut off")
    ]
    return Finding(
        paper=paper,
        kind="accuracy by class",
        cells=(column.cell.id,),
        claim=f"{column.label}: overall accuracy {column.printed} %.",
        test="Can the printed recalls of the expressions give it, on any part of the data?",
        result="No, on none.",
        details=tuple(listed),
        confidence="likely",
        means="The accuracy or one of the recalls is misprinted, or they are of different runs.",
        does_not_mean="Which of them is wrong, where it is printed only once.",
    )


def _parts_left(
    paper: str, dataset: str, found: list[Column], parts: dict[str, dict[str, int]]
) -> Outcome:
    left = {label: rules for label in parts if (rules := fitting_rules(found, parts[label]))}
    excluded = {}  # by part: what excludes it under the rule that suits it best
    for label, supports in parts.items():
        by_rule = [
            [(c.label, rule, why) for c in found if (why := c.excluded_by(supports, rule))]
            for rule in RULES
        ]
        if label not in left:
            excluded[label] = min(by_rule, key=len)
    named = named_part(found[0].cell)
    expected = [named.source or found[0].cell.part] if named else parts
    if not any(label in excluded for label in expected):
        return Passed(paper, "accuracy by class", _ids(found))
    told = [
        f"{label} can give all {len(found)} with recalls {either([HOW[rule] for rule in rules])}."
        for label, rules in left.items()
    ]
    told += [
        f"{label} is excluded by at least {len(why)} of {len(found)} under each rule."
        for label, why in excluded.items()
    ]
    listed = [
        f"{column}: {reason} ({label}, {HOW[rule]})"
        for label, why in excluded.items()
        for column, rule, reason in why
    ]
    test = (
        "Weighted by the images of each expression in a part, the recalls leave a range for the "
        "overall accuracy. Is the printed one, rounded or cut off, inside? The recalls are all "
        "rounded half up, all half to even (12.5 to 12) or all cut off."
    )
    if unknown := sum(None in column.recalls.values() for column in found):
        test += f" A recall printed without a number, in {unknown} of the models, may be any."
    return Finding(
        paper=paper,
        kind="accuracy by class",
        cells=_ids(found),
        claim=f"Recall of each expression and overall accuracy on {dataset}, {len(found)} models.",
        test=test,
        result=" ".join(told),
        details=tuple(listed),
        confidence="certain" if min(map(len, excluded.values())) > 1 else "likely",
        means=f"The tables cannot all have been measured on {either(list(excluded))}."
        if left
        else "No part of the set can give all of the tables.",
        does_not_mean=f"That they were measured on {either(list(left))}: other images, such as a "
        "random split, may fit as well. Nor that the accuracies are wrong. But they are not like "
        f"for like with those of {joined(list(excluded))}, least of all if their own images chose "
        "the epoch."
        if left
        else "That the accuracies are wrong: images may have been left out, or labels changed.",
    )


def _ids(found: Sequence[Column]) -> tuple[str, ...]:
    return tuple(column.cell.id for column in found)
