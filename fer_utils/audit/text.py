"""What the text and several tables say of one result."""

from __future__ import annotations

from collections.abc import Iterator

from fer_utils.arithmetic import (
    RULES,
    is_share,
    misfits,
    right_counts,
)
from fer_utils.audit.cells import (
    contradicting,
    figure,
    find_cell,
    models,
    repeated,
    share_of,
    shown_in,
    table_of,
)
from fer_utils.audit.findings import Finding, Outcome, Passed, either, joined
from fer_utils.audit.sizes import known_sizes
from fer_utils.manifests import (
    AllAbove,
    Highest,
    PublishedCell,
    PublishedPaper,
    SameNumber,
)


def same_result(paper: PublishedPaper) -> Iterator[Outcome]:
    """One result, chosen by the same runs, must be the same wherever it is printed."""
    conflicting = contradicting(paper)
    for cells in conflicting:
        yield _two_values(paper, cells)
    conflicts = {cell.id for cells in conflicting for cell in cells}
    for cells in repeated(paper):
        if len(cells) > 1 and cells[0].id not in conflicts:
            yield Passed(paper.paper, "text and tables", tuple(cell.id for cell in cells))


def _two_values(paper: PublishedPaper, cells: list[PublishedCell]) -> Finding:
    places: dict[str, list[str]] = {}
    for cell in cells:
        places.setdefault(cell.printed, []).append(table_of(paper, cell))
    told = joined([f"{printed} in {joined(where)}" for printed, where in places.items()]) + "."
    others = [  # what the sizes of the test set say, where the undisputed figures tell them
        cell
        for cell in paper.cells
        if cell.kind == "own"
        and (cell.metric, cell.dataset, cell.part) == ("accuracy", cells[0].dataset, cells[0].part)
        and cell.id not in {c.id for c in cells}
        and figure(cell)
    ]
    if cells[0].metric == "accuracy" and len(others) > 1:
        figures = {figure(cell) for cell in others}
        for n in known_sizes(others):
            number, rule = misfits(list(figures), n)
            if number or n >= min(f.scale for f in figures):
                continue
            fits = {str(figure(c)): bool(is_share(figure(c), n, rule)) for c in cells}
            if len(set(fits.values())) > 1:
                good = joined([value for value, fit in fits.items() if fit])
                bad = joined([value for value, fit in fits.items() if not fit])
                digits = "cut off" if rule == "cut off" else "rounded"
                told += (
                    f" Of {n:,} images, {digits} as the other {len(figures)} accuracies are, "
                    f"{good} can be a count and {bad} cannot."
                )
                break
    return Finding(
        paper=paper.paper,
        kind="text and tables",
        cells=tuple(cell.id for cell in cells),
        claim=f"{cells[0].row}, {cells[0].column}: {cells[0].metric.replace('_', ' ')}.",
        test="Is one result printed with one value?",
        result=told,
        confidence="certain",
        means="At least one of them is a slip.",
        does_not_mean="That the result is in doubt beyond the difference between them.",
    )


def classes_right(paper: PublishedPaper) -> Iterator[Outcome]:
    """How many expressions a model recognises: as a rate, as a count, and word by word.

    Of K expressions k are recognised; the rate must print k/K, the text must say k, and k of the K
    rows must name their own expression as the most frequent prediction.
    """
    for cells in models(paper).values():
        if not cells[0].dataset:
            continue
        num_classes = len(shown_in(cells[0].dataset))
        told: dict[str, set[int]] = {}
        used = []
        words = [c for c in cells if c.metric == "most_frequent_prediction"]
        if len(words) == num_classes:
            told["Words in the table"] = {sum(c.printed == c.row for c in words)}
        for cell in cells:
            if cell.metric == "detection_rate" and figure(cell):
                ks = [right_counts(figure(cell), num_classes, rule) for rule in RULES]
                counts = {int(low) for low, high in ks if low <= high}
                told[f"{cell.printed} ({table_of(paper, cell)})"] = counts
                used.append(cell.id)
            elif cell.metric == "expressions_detected" and cell.value is not None:
                told[f'"{cell.printed}" ({table_of(paper, cell)})'] = {int(cell.value)}
                used.append(cell.id)
        if len(told) < 2:
            continue
        if set.intersection(*told.values()):
            yield Passed(paper.paper, "text and tables", tuple(used))
            continue
        listed = [
            f"{what}: {either([str(k) for k in sorted(counts)]) or 'no count'} of {num_classes}"
            for what, counts in told.items()
        ]
        yield Finding(
            paper=paper.paper,
            kind="text and tables",
            cells=tuple(used),
            claim=f"{table_of(paper, cells[0])}, {cells[0].column}: expressions recognised.",
            test="Do rate, count in the text and words in the table tell the same number?",
            result="; ".join(listed) + ".",
            confidence="certain",
            means="At least one of them is a slip.",
            does_not_mean="That the accuracies beside it are wrong.",
        )


def same_number(paper: PublishedPaper, claim: SameNumber) -> Outcome:
    """Whether numbers that should be one are one."""
    values = [share_of(paper, cell) for cell in claim.numbers]
    if max(values) - min(values) < 1e-9:
        return Passed(paper.paper, "text and tables", (claim.id,))
    told = [
        f"{cell.printed} ({table_of(paper, cell)}, {cell.row})" if cell else f"{number:g}"
        for number in claim.numbers
        for cell in [find_cell(paper, number) if isinstance(number, str) else None]
    ]
    return Finding(
        paper=paper.paper,
        kind="text and tables",
        cells=(claim.id, *claim.cells),
        claim=claim.says,
        test="Is it one number?",
        result=joined(told) + ".",
        confidence=claim.confidence,
        means=claim.means or "At least one of them is a slip, or they are different results.",
        does_not_mean="Which of them is right.",
    )


def highest(paper: PublishedPaper, claim: Highest) -> Outcome:
    """Whether no other result of its kind that the paper names is above it; an equal one is not."""
    best = share_of(paper, claim.best)
    above = [name for name in claim.others if share_of(paper, name) > best]
    if not above:
        return Passed(paper.paper, "text and tables", (claim.id,))
    listed = [f"{find_cell(paper, name).row}: {find_cell(paper, name).printed}" for name in above]
    return Finding(
        paper=paper.paper,
        kind="text and tables",
        cells=(claim.id, claim.best, *above),
        claim=claim.says,
        test=f"Is {find_cell(paper, claim.best).printed} above the others that the paper names?",
        result=f"Not above {joined(listed)}.",
        confidence="certain",
        means=claim.means or "By the numbers that the paper prints it is not the highest.",
        does_not_mean="That the two were measured alike, or that either is right.",
    )


def all_above(paper: PublishedPaper, claim: AllAbove) -> Outcome:
    """Whether each of some results is above a number."""
    below = [name for name in claim.results if share_of(paper, name) <= claim.number]
    if not below:
        return Passed(paper.paper, "text and tables", (claim.id,))
    cells = [find_cell(paper, name) for name in below]
    listed = joined([f"{cell.printed} ({cell.row}, {cell.column})" for cell in cells])
    return Finding(
        paper=paper.paper,
        kind="text and tables",
        cells=(claim.id, *below),
        claim=claim.says,
        test=f"Is each of the {len(claim.results)} above {claim.number:g} %?",
        result=f"Not above it: {listed}.",
        confidence="certain",
        means=claim.means or "The text says more than the table, or one of them is misprinted.",
        does_not_mean="That the numbers in the table are wrong.",
    )
