"""The accuracies of the expressions against the overall accuracy, for every part it may be on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fer_utils.arithmetic import (
    RULES,
    Printed,
    Rule,
    room,
)
from fer_utils.audit.cells import candidate_parts, figure, models, named_part, table_of
from fer_utils.audit.findings import Finding, Outcome, Passed, either, span
from fer_utils.manifests import (
    PublishedCell,
    PublishedPaper,
    load_manifest,
)


@dataclass(frozen=True)
class Column:
    """A model of a table: its overall accuracy and the recalls of all expressions.

    Args:
        label: table, row and column of the accuracy.
        cell: the accuracy's cell.
        recalls: by expression; None where nothing was printed.
    """

    label: str
    cell: PublishedCell
    recalls: Mapping[str, Printed | None]

    @property
    def printed(self) -> Printed:
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
        if not recalls or set(recalls) != set(load_manifest(cells[0].dataset).class_names):
            continue
        accuracies = {figure(c): c for c in reversed(cells) if c.metric == "accuracy" and figure(c)}
        found += [
            Column(f"{table_of(paper, c)}, {c.column}", c, recalls) for c in accuracies.values()
        ]
    return found


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
            if any(not column.excluded_by(p, rule) for p in parts.values() for rule in RULES):
                sound.append(column)
            else:
                yield _impossible_column(paper.paper, column, parts)
        if sound:
            yield _parts_left(paper.paper, dataset, sound, parts)


def _impossible_column(paper: str, column: Column, parts: dict[str, dict[str, int]]) -> Finding:
    listed = [
        f"{label}, {digits}: {column.excluded_by(supports, rule)}"
        for label, supports in parts.items()
        for digits, rule in (("rounded", "half even"), ("cut off", "cut off"))
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
    reasons = {}  # by part: what excludes it under the rule that suits it best
    for label, supports in parts.items():
        by_rule = [
            [(c.label, why) for c in found if (why := c.excluded_by(supports, rule))]
            for rule in RULES
        ]
        reasons[label] = min(by_rule, key=len)
    excluded = {label: why for label, why in reasons.items() if why}
    named = named_part(found[0].cell)
    expected = [named.source or found[0].cell.part] if named else parts
    if not any(label in excluded for label in expected):
        return Passed(paper, "accuracy by class", _ids(found))
    left = [label for label in parts if label not in excluded]
    told = [
        f"{label} is excluded by {len(why)} of {len(found)}." for label, why in excluded.items()
    ]
    if left:
        told.insert(0, f"{either(left)} can give all {len(found)}.")
    listed = [
        f"{column}: {reason} ({label})" for label, why in excluded.items() for column, reason in why
    ]
    return Finding(
        paper=paper,
        kind="accuracy by class",
        cells=_ids(found),
        claim=f"Recall of each expression and overall accuracy on {dataset}, {len(found)} models.",
        test="Weighted by the images of each expression in a part, the recalls leave a range for "
        "the overall accuracy. Is the printed one inside?",
        result=" ".join(told),
        details=tuple(listed),
        confidence="certain" if min(map(len, excluded.values())) > 1 else "likely",
        means=f"The tables were measured on {either(left)}, not on {either(list(excluded))}."
        if left
        else "No part of the set can give all of the tables.",
        does_not_mean="That the accuracies are wrong. But they are not like for like with those of "
        "another part, least of all if their own part chose the epoch."
        if left
        else "That the accuracies are wrong: images may have been left out, or labels changed.",
    )


def _ids(found: Sequence[Column]) -> tuple[str, ...]:
    return tuple(column.cell.id for column in found)
