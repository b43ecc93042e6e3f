"""Whether accuracy, recall and precision in one row can be of the same predictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fer_utils.arithmetic import (
    Printed,
    accuracy_range,
    elementwise_from,
    one_matrix,
    thresholded_accuracy,
    top1_from_elementwise,
)
from fer_utils.audit.cells import candidate_parts, figure, models, overlap
from fer_utils.audit.findings import Finding, Outcome, Passed, joined, percent, span
from fer_utils.manifests import (
    PublishedPaper,
)


@dataclass(frozen=True)
class Trio:
    """Accuracy, recall and, where printed, precision of one model.

    Args:
        label: the row.
        cells: ids.
        accuracy, recall, precision: as printed.
        parts: images of each expression in each part that the three may be on.
    """

    label: str
    cells: tuple[str, ...]
    accuracy: Printed
    recall: Printed
    precision: Printed | None
    parts: dict[str, tuple[int, ...]]

    @property
    def averaged(self) -> tuple[float, float]:
        """Top-1 accuracies that a recall averaged over expressions leaves, on any part."""
        ranges = [accuracy_range(part, self.recall.bounds) for part in self.parts.values()]
        return min(low for low, _ in ranges), max(high for _, high in ranges)

    @property
    def thresholded(self) -> tuple[float, float] | None:
        """The same where recall and precision are those of the outputs above one half."""
        if self.precision is None:
            return None
        return thresholded_accuracy(self.recall.bounds, self.precision.bounds)

    @property
    def elementwise(self) -> tuple[float, float] | None:
        """Element-wise accuracies where recall and precision are of the outputs above one half."""
        if self.precision is None:
            return None
        return elementwise_from(self.recall.bounds, self.precision.bounds, self.num_classes)

    @property
    def top1(self) -> tuple[float, float]:
        """Top-1 accuracy if the printed one is element-wise and all have an output above 1/2."""
        return top1_from_elementwise(self.accuracy.bounds, self.num_classes)

    @property
    def num_classes(self) -> int:
        """Expressions of the data set."""
        return len(next(iter(self.parts.values())))

    def accuracy_is_top1(self) -> bool:
        """Whether the accuracy can be top-1 under some reading of recall and precision."""
        # Averaged over images instead of expressions, recall and accuracy are the same.
        readings = [self.averaged, self.recall.bounds, self.thresholded]
        return any(overlap(self.accuracy.bounds, found) for found in readings if found)

    def accuracy_is_elementwise(self) -> bool:
        """Whether it can be element-wise, beside averages over expressions, on some part.

        Each image has one output above one half; with others, more would be possible.
        """
        if self.precision is None:
            return overlap(self.top1, self.averaged)
        return any(
            one_matrix(part, self.top1, self.recall.bounds, self.precision.bounds)
            for part in self.parts.values()
        )


def trios(paper: PublishedPaper) -> list[Trio]:
    """The models of a paper with an accuracy and a recall over all expressions."""
    found = []
    for cells in models(paper).values():
        by_metric = {cell.metric: cell for cell in reversed(cells) if figure(cell)}
        used = [by_metric.get(m) for m in ("accuracy", "balanced_accuracy", "macro_precision")]
        parts = candidate_parts(cells[0].dataset) if cells[0].dataset else {}
        if used[0] is None or used[1] is None or not parts:
            continue
        accuracy, recall, precision = (figure(cell) if cell else None for cell in used)
        found.append(
            Trio(
                label=used[0].row,
                cells=tuple(cell.id for cell in used if cell),
                accuracy=accuracy,
                recall=recall,
                precision=precision,
                parts={label: tuple(counts.values()) for label, counts in parts.items()},
            )
        )
    return found


def accuracy_recall_precision(paper: PublishedPaper) -> Iterator[Outcome]:
    """Whether accuracy, recall and precision can be of the same predictions, and if not, why."""
    found = trios(paper)
    if not found:
        return
    impossible = [trio for trio in found if not trio.accuracy_is_top1()]
    if not impossible:
        cells = tuple(cell for trio in found for cell in trio.cells)
        yield Passed(paper.paper, "accuracy, recall, precision", cells)
        return
    yield _not_top1(paper.paper, found, impossible)
    yield _elementwise(paper.paper, found)


def _not_top1(paper: str, found: list[Trio], impossible: list[Trio]) -> Finding:
    told = []
    for trio in impossible:
        words = (
            f"{trio.label}: accuracy {trio.accuracy} %. Averaged over expressions, a recall of "
            f"{trio.recall} % leaves {_bound(trio.accuracy, trio.averaged)}; averaged over images, "
            "the two would be equal"
        )
        if trio.thresholded:
            bound = _bound(trio.accuracy, trio.thresholded)
            words += f"; of outputs above one half, {bound}"
        told.append(words)
    fine = [trio.label for trio in found if trio not in impossible]
    if fine:
        told.append(f"{joined(fine)}: possible")
    return Finding(
        paper=paper,
        kind="accuracy, recall, precision",
        cells=tuple(cell for trio in impossible for cell in trio.cells),
        claim="Accuracy, recall and precision of a model stand in one row.",
        test="Can the accuracy be the share of images that are right (top-1), on an official part, "
        "with the recall and precision beside it in any of their usual meanings?",
        result=f"Not in {len(impossible)} of {len(found)} rows.",
        details=tuple(told),
        confidence="certain" if len(impossible) > 1 else "likely",
        means="In these rows the accuracy is not the top-1 accuracy of the predictions that recall "
        "and precision are of: it is another figure, or of other images.",
        does_not_mean="That it was not computed. Keras, for one, has an accuracy of single outputs "
        "and printed it under the same name in older versions, figures of one row may be of "
        "different epochs or parts, and images may have been left out.",
    )


def _bound(accuracy: Printed, room: tuple[float, float]) -> str:
    """The end of what is possible beyond which an accuracy lies."""
    low, high = room
    above = accuracy.bounds[1] >= low
    return f"at most {percent(high)} %" if above else f"at least {percent(low)} %"


def _elementwise(paper: str, found: list[Trio]) -> Finding:
    direct = [trio for trio in found if trio.elementwise]
    agree = [trio for trio in direct if overlap(trio.accuracy.bounds, trio.elementwise)]
    possible = [trio for trio in found if trio.accuracy_is_elementwise()]
    listed = [
        f"{trio.label}, from recall and precision of outputs above one half: "
        f"{span(trio.elementwise)} % follows, {trio.accuracy} % is printed"
        for trio in direct
    ] + [
        f"{trio.label}, from averages over expressions: possible; the top-1 accuracy is then "
        f"{span(trio.top1)} %"
        for trio in possible
    ]
    sure = len(direct) > 1 and len(agree) == len(direct)
    return Finding(
        paper=paper,
        kind="accuracy, recall, precision",
        cells=tuple(cell for trio in found for cell in trio.cells),
        claim=f"Accuracies of {joined([f'{trio.accuracy} %' for trio in found])}.",
        test="Can they be element-wise: each of an image's K outputs right or wrong by itself?",
        result=f"With recall and precision of the outputs above one half, {len(agree)} of "
        f"{len(direct)} rows agree; with averages over expressions, where each image has an output "
        f"above one half, {len(possible)} of {len(found)} are possible.",
        details=tuple(listed),
        confidence="likely" if sure else "weak" if possible or agree else "nothing can be said",
        means="Element-wise accuracy is one explanation of an accuracy so far above its recall; "
        "top-1 accuracy is then another number."
        if possible or agree
        else "Element-wise accuracy does not explain these rows either.",
        does_not_mean="That it is the explanation: rows that agree can do so by chance, those that "
        "do not need another one, and averages leave much room.",
    )
