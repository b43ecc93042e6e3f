"""Printed confusion matrices against the class counts of each part and their accuracy."""

from __future__ import annotations

import numpy as np

from fer_utils.arithmetic import (
    RULES,
    read,
    right_counts,
)
from fer_utils.audit.by_class import Column
from fer_utils.audit.cells import candidate_parts, figure, find_cell
from fer_utils.audit.findings import Finding, Outcome, Passed, joined, percent
from fer_utils.manifests import (
    PublishedMatrix,
    PublishedPaper,
)


def confusion(paper: PublishedPaper, matrix: PublishedMatrix) -> Outcome:
    """A printed confusion matrix against the class counts of each part and its accuracy.

    Counts: row c must add up to the images of expression c in one part, and the diagonal to the
    printed accuracy. Percentages: each row must add up to 100 within the rounding of its K numbers,
    and the diagonal, weighted by a part's images, must leave room for the accuracy.

    Raises:
        ValueError: an entry is no plain number; a count is digits alone.
    """
    parts = {
        label: supports
        for label, supports in candidate_parts(matrix.dataset).items()
        if set(supports) == set(matrix.expressions)
    }
    cell = find_cell(paper, matrix.accuracy) if matrix.accuracy else None
    wrong = []
    if matrix.unit == "count":
        rows = np.array([[int(number) for number in row] for row in matrix.rows])
        sums = dict(zip(matrix.expressions, rows.sum(axis=1).tolist(), strict=True))
        if parts and sums not in parts.values():
            label, nearest = min(
                parts.items(), key=lambda item: sum(abs(item[1][c] - sums[c]) for c in sums)
            )
            off = [f"{c} {sums[c]} for {nearest[c]}" for c in sums if sums[c] != nearest[c]]
            wrong.append(f"the rows add up to no part; nearest is {label}: {joined(off)}")
        n, right = int(rows.sum()), int(np.trace(rows))
        low_high = [right_counts(figure(cell), n, rule) for rule in RULES] if cell else []
        if cell and not any(low <= right <= high for low, high in low_high):
            wrong.append(f"{right} of {n} are right, {figure(cell)} % is printed")
    else:
        printed = [[read(number, matrix.unit) for number in row] for row in matrix.rows]
        for name, row in zip(matrix.expressions, printed, strict=True):
            low = sum(number.bounds[0] for number in row)
            high = sum(number.bounds[1] for number in row)
            if not low <= 1 <= high:
                told = percent(sum(number.value for number in row))
                wrong.append(f"the row of {name} adds up to {told} %")
        if cell:
            recalls = {c: printed[k][k] for k, c in enumerate(matrix.expressions)}
            column = Column(cell.column, cell, recalls)
            why = {
                label: [column.excluded_by(supports, rule) for rule in RULES]
                for label, supports in parts.items()
            }
            if why and all(all(reasons) for reasons in why.values()):
                listed = "; ".join(f"{label}: {reasons[0]}" for label, reasons in why.items())
                wrong.append(f"no part gives the accuracy: {listed}")
    if not wrong:
        return Passed(paper.paper, "confusion matrix", (matrix.id,), vacuous=not parts)
    return Finding(
        paper=paper.paper,
        kind="confusion matrix",
        cells=(matrix.id, *([matrix.accuracy] if matrix.accuracy else [])),
        claim="The confusion matrix" + (f", with accuracy {cell.printed}" if cell else ""),
        test="Do its rows add up to the images of a part, and its diagonal to the accuracy?",
        result="Not all of them: see below.",
        details=tuple(wrong),
        confidence="certain" if matrix.unit == "count" else "likely",
        means="The matrix is of other images than an official part, or of another run than the "
        "accuracy, or a number is misprinted.",
        does_not_mean="That the accuracy is wrong: images may be left out, or labels changed.",
    )
